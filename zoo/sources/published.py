"""Data sets by name: torchvision's, and those of the Hugging Face hub."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from zoo.data.images import SPLIT_NAMES
from zoo.errors import DataError, MissingExtraError, OptionError, did_you_mean
from zoo.files import cache_folder
from zoo.sources.naming import labels_in, stamps
from zoo.sources.parquet import image_content, image_suffix
from zoo.sources.writing import Sample


@dataclass(frozen=True)
class TorchvisionData:
    """A classification data set of ``torchvision.datasets``: items (Pillow image, class number).

    Args:
        dataset: Name of the class, for example ``"EuroSAT"``.
        root: Where its files are, or are downloaded to; None takes zoo's cache.
        offline: Never download.
    """

    dataset: str
    root: Path | None = None
    offline: bool = False

    columns: Sequence[str] = ()
    multi_label: bool = False

    @classmethod
    def parse(cls, text: str, *, offline: bool = False) -> TorchvisionData:
        """From ``torchvision:NAME[:ROOT]``.

        Raises:
            OptionError: Torchvision has no data set of that name.
        """
        import torchvision

        asked, _, root = text.removeprefix("torchvision:").partition(":")
        known = {name.lower(): name for name in torchvision.datasets.__all__}
        if asked.lower() not in known:
            raise OptionError(
                f"torchvision has no data set {asked!r}.{did_you_mean(asked, known.values())} "
                "Write torchvision:NAME or torchvision:NAME:FOLDER, for example torchvision:EuroSAT."
            )
        return cls(known[asked.lower()], Path(root).expanduser() if root else None, offline)

    @property
    def name(self) -> str:
        """The data set's, in lower case."""
        return self.dataset.lower()

    @property
    def facts(self) -> Sequence[object]:
        """Where its files are, and torchvision's version. The files themselves are not looked at."""
        return [str(self._root.resolve()), version("torchvision")]

    @property
    def _root(self) -> Path:
        return self.root or cache_folder() / "torchvision"

    def samples(self) -> Iterator[Sample]:
        """The images of every split. Where they are files in class folders, those files.

        Raises:
            DataError: The files are not there and cannot be downloaded, or it is no classification data set.
        """
        for split, dataset in self._splits():
            where = f"torchvision's {self.dataset}"
            names = [str(name) for name in getattr(dataset, "classes", None) or ()]
            files = getattr(dataset, "samples", None) if hasattr(dataset, "class_to_idx") else None
            for number in range(len(dataset)):
                if files:
                    path, label = files[number]
                    content: Path | Image.Image = Path(path)
                else:
                    content, label = self._item(dataset, number)
                if hasattr(label, "item"):
                    label = label.item()
                yield Sample(content, labels_in(label, names, f"{where}, image {number + 1}"), split=split)

    def _item(self, dataset: Any, number: int) -> tuple[Image.Image, Any]:
        item = dataset[number]
        if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], Image.Image)):
            raise DataError(f"torchvision's {self.dataset} is not a classification data set: (image, class number).")
        return item

    def _splits(self) -> Iterator[tuple[str, Any]]:
        import torchvision

        make: Callable[..., Any] = getattr(torchvision.datasets, self.dataset)
        parameters = inspect.signature(make).parameters
        settings: dict[str, Any] = {"root": str(self._root)} if "root" in parameters else {}
        if "download" in parameters:
            settings["download"] = not self.offline
        if "train" in parameters:
            yield "train", self._made(make, **settings, train=True)
            yield "test", self._made(make, **settings, train=False)
        elif "split" in parameters:
            found = False
            for names in (("train", "trainval"), ("val", "valid"), ("test",)):
                dataset = next(filter(None, (self._made(make, **settings, split=name) for name in names)), None)
                if dataset is not None:
                    found = True
                    yield SPLIT_NAMES[names[0]], dataset
            if not found:
                raise DataError(f"torchvision's {self.dataset} has no splits train, val or test.")
        else:
            yield "", self._made(make, **settings)

    def _made(self, make: Callable[..., Any], **settings: Any) -> Any:
        """The data set, or None where it has no such split."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            return make(**settings)
        except ValueError as error:
            if "split" in settings and "split" in str(error):
                return None
            raise DataError(f"torchvision's {self.dataset} cannot be opened: {error}.") from error
        except (RuntimeError, OSError, TypeError, ImportError) as error:
            advice = "" if not self.offline else " Without --offline it is downloaded, where torchvision can."
            raise DataError(
                f"torchvision's {self.dataset} cannot be opened in {self._root}: {str(error).rstrip('.')}.{advice}"
            ) from error


@dataclass(frozen=True)
class HubData:
    """A data set of the Hugging Face hub, or a folder that ``save_to_disk`` wrote, read with ``datasets``.

    The first column of type Image holds the images. The label is the column ``labels`` or ``label`` or else the only
    one of type ClassLabel; a list of labels makes the data multi-label. No code of the data set is ever run.

    Args:
        path: Name on the hub, or a folder.
        config: Which of several configurations; empty for the only one.
        offline: Never download.
    """

    path: str
    config: str = ""
    offline: bool = False

    columns: Sequence[str] = ()

    @classmethod
    def parse(cls, text: str, *, offline: bool = False) -> HubData:
        """From ``hf:NAME[:CONFIG]``."""
        path, _, config = text.removeprefix("hf:").partition(":")
        if not path:
            raise OptionError("hf: needs a name: hf:OWNER/NAME, hf:OWNER/NAME:CONFIG, or hf:FOLDER.")
        return cls(path, config, offline)

    @property
    def name(self) -> str:
        """The last part of the data set's name."""
        return Path(self.path).name

    @property
    def facts(self) -> Sequence[object]:
        """Paths, sizes and times of the files that its splits lie in on this machine."""
        # Not the library's own fingerprint: where it cannot pickle a part of a data set, that is drawn at random.
        files = [Path(file["filename"]) for part in self._splits.values() for file in part.cache_files]
        return [self.path, self.config, *self._splits, *stamps(files)]

    @property
    def multi_label(self) -> bool:
        """Whether the label is a list."""
        return self._is_list(self._features[self._label])

    def samples(self) -> Iterator[Sample]:
        """The images of every split that is called train, val(idation) or test.

        Raises:
            DataError: There is no image or label column, or an image has no label.
        """
        import datasets

        feature = self._features[self._label]
        names = getattr(getattr(feature, "feature", feature), "names", None) or ()
        for split, part in self._splits.items():
            content = part.select_columns([self._image, self._label])
            content = content.cast_column(self._image, datasets.Image(decode=False))
            for number, row in enumerate(content, start=1):
                where = f"{self.path}, {split or 'all'}, row {number}"
                image, name = image_content(row[self._image], Path(), where)
                value = [] if row[self._label] is None and self.multi_label else row[self._label]
                yield Sample(
                    image.absolute() if isinstance(image, Path) else image,
                    labels_in(value, names, where),
                    split=split,
                    name=Path(name).stem,
                    suffix=image_suffix(name),
                )

    @cached_property
    def _splits(self) -> Mapping[str, Any]:
        try:
            import datasets
        except ImportError as error:
            raise MissingExtraError(
                f"hf:{self.path} needs the package datasets, which is not installed: pip install torch-zoo[hf]."
            ) from error
        folder = Path(self.path).expanduser()
        try:
            if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
                found = datasets.load_from_disk(str(folder))
            else:
                download = datasets.DownloadConfig(local_files_only=self.offline)
                found = datasets.load_dataset(self.path, self.config or None, download_config=download)
        except Exception as error:  # the library raises its own, the hub's and its readers' errors
            reason = " ".join(str(error).split())[:300].rstrip(".")
            raise DataError(f"hf:{self.path} cannot be read: {reason}.") from error
        if not isinstance(found, Mapping):
            return {"": found}
        splits = {SPLIT_NAMES[name.lower()]: part for name, part in found.items() if name.lower() in SPLIT_NAMES}
        if not splits:
            raise DataError(f"hf:{self.path} has the splits {', '.join(found)}, and none is called train, val or test.")
        return {"": splits["train"]} if set(splits) == {"train"} else splits

    @property
    def _features(self) -> Mapping[str, Any]:
        features: Mapping[str, Any] = next(iter(self._splits.values())).features
        return features

    @property
    def _image(self) -> str:
        import datasets

        found = [name for name, feature in self._features.items() if isinstance(feature, datasets.Image)]
        if not found:
            raise DataError(f"hf:{self.path} has no column of images; its columns are {', '.join(self._features)}.")
        return found[0]

    @property
    def _label(self) -> str:
        import datasets

        labels = [name for name, feature in self._features.items() if isinstance(feature, datasets.ClassLabel)]
        named = [name for name in ("labels", "label") if name in self._features]
        if not named and len(labels) != 1:
            raise DataError(
                f"hf:{self.path} has no column 'label' or 'labels', and {len(labels)} of type ClassLabel; its columns "
                f"are {', '.join(self._features)}."
            )
        return (named or labels)[0]

    @staticmethod
    def _is_list(feature: Any) -> bool:
        return isinstance(feature, list) or hasattr(feature, "feature")
