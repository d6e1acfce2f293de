"""Parquet files that list images, or hold them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo.data.discovery import IMAGE_SUFFIXES
from zoo.data.images import SPLIT_NAMES
from zoo.errors import DataError, MissingExtraError
from zoo.sources.naming import labels_in, splits_of, stamps
from zoo.sources.writing import Sample

PARQUET_SUFFIX = ".parquet"
_IMAGE_COLUMNS = ("image", "bytes", "path", "img")
_ROWS_A_BATCH = 64


@dataclass(frozen=True)
class ParquetFiles:
    """Files with the columns ``path`` or ``bytes`` (or ``image``), ``label`` or ``labels``, and perhaps ``split``.

    A path is relative to its file and its image stays where it is; bytes are those of an image file. ``image`` is the
    form of Hugging Face: a record of ``bytes`` and ``path``. A label is a name or a number, for which the file's
    metadata may hold Hugging Face's class names; ``labels`` are lists of them. Without the column, ``train``, ``val``
    or ``test`` in the names of the files are the splits. Other columns of text or whole numbers serve ``--group-by``.

    Args:
        root: What was asked for.
        files: At least one.
    """

    root: Path
    files: Sequence[Path]

    @property
    def name(self) -> str:
        """The folder's name, or that of the first file."""
        return (self.root if self.root.is_dir() else self.files[0].with_suffix("")).resolve().name

    @property
    def facts(self) -> Sequence[object]:
        """Paths, sizes and times of the files."""
        return stamps(self.files)

    @property
    def multi_label(self) -> bool:
        """Whether there is a column ``labels``, or ``label`` holds lists."""
        kind = self._schema.field(self._label).type
        import pyarrow

        return self._label == "labels" or pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind)

    @cached_property
    def columns(self) -> Sequence[str]:
        """Columns of text or whole numbers that mean nothing to zoo."""
        known = {self._image, self._label, "split"}
        import pyarrow

        kinds = pyarrow.types
        return [
            field.name
            for field in self._schema
            if field.name not in known
            and (kinds.is_string(field.type) or kinds.is_large_string(field.type) or kinds.is_integer(field.type))
        ]

    @cached_property
    def _schema(self) -> Any:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise MissingExtraError(
                f"reading {self.files[0]} needs pyarrow, which is not installed: pip install torch-zoo[parquet]."
            ) from error
        try:
            schemas = [pyarrow.parquet.read_schema(file) for file in self.files]
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(f"{self.root} cannot be read as Parquet: {error}.") from error
        for file, schema in zip(self.files, schemas, strict=True):
            if schema.names != schemas[0].names:
                raise DataError(
                    f"{file} has the columns {', '.join(schema.names)}, and {self.files[0]} "
                    f"{', '.join(schemas[0].names)}."
                )
        return schemas[0]

    @cached_property
    def _image(self) -> str:
        return self._one_of(_IMAGE_COLUMNS)

    @cached_property
    def _label(self) -> str:
        return self._one_of(("labels", "label"))

    def _one_of(self, names: Sequence[str]) -> str:
        found = [name for name in names if name in self._schema.names]
        if not found:
            raise DataError(
                f"{self.files[0]} has no column {' or '.join(map(repr, names))}; its columns are "
                f"{', '.join(self._schema.names)}."
            )
        return found[0]

    @cached_property
    def _classes(self) -> Sequence[str]:
        """The names that Hugging Face's writers put into the file's metadata."""
        try:
            feature = json.loads((self._schema.metadata or {})[b"huggingface"])["info"]["features"][self._label]
            feature = feature.get("feature", feature)
            return [str(name) for name in feature["names"]]
        except (KeyError, TypeError, ValueError, AttributeError):
            return ()

    def samples(self) -> Iterator[Sample]:
        """The images of every file, in the order of the files.

        Raises:
            DataError: A file is damaged, or a row has no image or no label.
        """
        self._schema  # noqa: B018  # says what is missing
        import pyarrow.parquet

        wanted = [self._image, self._label, *self.columns, *(["split"] if "split" in self._schema.names else [])]
        splits = [""] * len(self.files) if "split" in wanted else splits_of(self.files, self.root)
        for file, split in zip(self.files, splits, strict=True):
            try:
                with pyarrow.parquet.ParquetFile(file) as content:
                    number = 0
                    for batch in content.iter_batches(batch_size=_ROWS_A_BATCH, columns=wanted):
                        for row in batch.to_pylist():
                            number += 1
                            yield self._sample(file, number, row, split)
            except (OSError, pyarrow.ArrowException) as error:
                raise DataError(f"{file} cannot be read as Parquet: {error}.") from error

    def _sample(self, file: Path, number: int, row: Mapping[str, Any], split: str) -> Sample:
        where = f"{file}, row {number}"
        value = row[self._label]
        if value is None and self.multi_label:
            value = []
        if isinstance(value, str) and self.multi_label:
            value = [name for name in value.split("|") if name.strip()]
        if "split" in row:
            split = SPLIT_NAMES.get(str(row["split"] or "").lower(), "")
            if row["split"] and not split:
                raise DataError(f"{where}: unknown split {row['split']!r}; the splits are train, val and test.")
        content, name = image_content(row[self._image], file.parent, where)
        return Sample(
            content,
            labels_in(value, self._classes, where),
            split=split,
            name=Path(name).stem or f"{file.stem}-{number}",
            suffix=image_suffix(name),
            extra=tuple("" if row[column] is None else str(row[column]) for column in self.columns),
        )


def image_suffix(name: str) -> str:
    """The ending of an image's name where it is that of one; the content decides what it is."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else ".img"


def image_content(value: object, folder: Path, where: str) -> tuple[bytes | Path, str]:
    """An image's bytes or file, and its name, from bytes, a path, or Hugging Face's record of both.

    Args:
        value: As the file holds it.
        folder: What paths are relative to.
        where: For messages.

    Raises:
        DataError: It is no image, or a file that does not exist.
    """
    if isinstance(value, Mapping):
        name = str(value.get("path") or "")
        if value.get("bytes") is not None:
            return bytes(value["bytes"]), Path(name).name
        value = name
    if isinstance(value, bytes):
        return value, ""
    if isinstance(value, str) and value:
        path = folder / value
        if not path.is_file():
            raise DataError(f"{where}: there is no file {path} (paths are relative to the Parquet file).")
        return path, path.name
    raise DataError(f"{where}: there is no image: neither bytes nor a path.")
