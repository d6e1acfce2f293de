"""Tar shards as webdataset lays them out: members of one image share a name up to its first dot."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path, PurePosixPath

from zoo.data.decode import FILE_LIMIT_BYTES
from zoo.data.discovery import IMAGE_SUFFIXES
from zoo.errors import DataError
from zoo.sources.naming import labels_in, splits_of, stamps
from zoo.sources.writing import Sample

TAR_SUFFIX = ".tar"
_CLASSES = "classes.txt"
_LABEL_KEYS = ("labels", "label", "cls", "class")
_LABEL_LIMIT_BYTES = 1 << 20
_END = bytes(512)


@dataclass(frozen=True)
class TarShards:
    """Shards with ``KEY.jpg`` (or another image) and ``KEY.cls`` or ``KEY.json`` for each image.

    ``.cls`` holds the class as text: a name, or its number. ``.json`` is an object with one of the keys ``label``,
    ``cls`` and ``class``, a name or number, or ``labels``, a list of these, which makes the data multi-label. Where
    a file ``classes.txt`` lies beside the shards, its lines are the names by number. ``train``, ``val`` or ``test`` in
    the names of the shards, or of the folders that they lie in, are the splits.

    Args:
        root: What was asked for.
        files: The shards, at least one.
    """

    root: Path
    files: Sequence[Path]

    @property
    def name(self) -> str:
        """The folder's name, or that of the first shard."""
        return (self.root if self.root.is_dir() else self.files[0].with_suffix("")).resolve().name

    @property
    def facts(self) -> Sequence[object]:
        """Paths, sizes and times of the shards, and the class names."""
        return [*stamps(self.files), *self._classes]

    @property
    def columns(self) -> Sequence[str]:
        """None."""
        return ()

    @cached_property
    def multi_label(self) -> bool:
        """Whether the first image has a list of labels."""
        members = next(self._groups(self.files[0]), None)
        return members is not None and isinstance(self._value(self.files[0], *members), list)

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        for folder in (self.files[0].parent, self.files[0].parent.parent):
            file = folder / _CLASSES
            if file.is_file():
                try:
                    return tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines())
                except (OSError, UnicodeDecodeError) as error:
                    raise DataError(f"cannot read {file}: {error}.") from error
        return ()

    def samples(self) -> Iterator[Sample]:
        """The images of every shard, in the order of the shards.

        Raises:
            DataError: A shard is damaged, or an image has no label.
        """
        for file, split in zip(self.files, splits_of(self.files, self.root), strict=True):
            for key, members in self._groups(file):
                where = f"{file}, {key}"
                value = self._value(file, key, members)
                images = [suffix for suffix in members if _ending(suffix) in IMAGE_SUFFIXES]
                if isinstance(value, list) != self.multi_label:
                    raise DataError(f"{where}: some images have a list of labels and some have one; give all a list.")
                if len(images) != 1:
                    raise DataError(f"{where}: there are {len(images)} images of that name; there has to be one.")
                yield Sample(
                    members[images[0]],
                    labels_in(value, self._classes, where),
                    split=split,
                    name=f"{file.stem}-{PurePosixPath(key).name}",
                    suffix=_ending(images[0]),
                )

    def _value(self, file: Path, key: str, members: dict[str, bytes]) -> object:
        """The label of an image as it is written."""
        where = f"{file}, {key}"
        try:
            if "cls" in members:
                return members["cls"].decode().strip()
            if "json" in members:
                content = json.loads(members["json"])
                for name in _LABEL_KEYS if isinstance(content, dict) else ():
                    if name in content:
                        return content[name]
                raise DataError(f"{where}.json is not an object with one of the keys {', '.join(_LABEL_KEYS)}.")
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: the label cannot be read ({error}).") from error
        raise DataError(f"{where} has no label: there is no {key}.cls and no {key}.json.")

    def _groups(self, file: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Key and members by the rest of their names, of each image."""
        for key, members in groupby(self._members(file), key=lambda member: member[0]):
            content = {suffix: data for _, suffix, data in members}
            if any(_ending(suffix) in IMAGE_SUFFIXES for suffix in content):
                yield key, content

    def _members(self, file: Path) -> Iterator[tuple[str, str, bytes]]:
        try:
            _check_end(file)
            with tarfile.open(file, "r:") as archive:
                for member in archive:
                    path = PurePosixPath(member.name)
                    stem, _, suffix = path.name.partition(".")
                    suffix = suffix.lower()
                    is_image = _ending(suffix) in IMAGE_SUFFIXES
                    if not member.isreg() or not stem or not (is_image or suffix in ("cls", "json")):
                        continue
                    if member.size > (FILE_LIMIT_BYTES if is_image else _LABEL_LIMIT_BYTES):
                        raise DataError(f"{file}, {member.name} has {member.size:,} bytes, more than zoo reads.")
                    content = archive.extractfile(member)
                    assert content is not None
                    yield str(path.with_name(stem)), suffix, content.read()
        except (OSError, tarfile.TarError) as error:
            raise DataError(f"cannot read the shard {file}: {error}.") from error


def _check_end(file: Path) -> None:
    # tarfile takes the end of a file that was cut between two members for the end of the archive.
    with file.open("rb") as content:
        size = content.seek(0, 2)
        content.seek(max(0, size - len(_END)))
        if content.read() != _END:
            raise tarfile.ReadError("it does not end as a tar file does: it was cut short, or is none")


def _ending(suffix: str) -> str:
    return "." + suffix.rpartition(".")[2]
