"""Zoo's own check of a safetensors file, made before anything else touches its content.

The format is a length ``N`` (8 bytes, little-endian), ``N`` bytes of JSON and the tensors' bytes, which the JSON
describes without overlap or holes: https://github.com/huggingface/safetensors#format. The library accepts duplicate
keys and names such as ``../a`` (measured with 0.8.0); this check does not. Nothing here imports torch.
"""

import hashlib
import json
import math
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from zoo.errors import ArtifactError

# Headers of image models are below 1 MB. The library allows 100 MB, which as JSON can take gigabytes to parse.
HEADER_LIMIT_BYTES = 16 << 20
_NAME_LIMIT = 512
_DIMENSIONS_LIMIT = 64
DTYPE_SIZES: Mapping[str, int] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies in the file.

    Attributes:
        name: Its name.
        dtype: A key of :data:`DTYPE_SIZES`.
        shape: Its shape.
        begin: First byte, counted from the end of the header.
        end: One past its last byte.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """A header that passed the check.

    Attributes:
        metadata: The free text of ``__metadata__``.
        tensors: In the order of their bytes, without gaps up to the end of the file.
        data_start: Position in the file of the first tensor's first byte.
    """

    metadata: Mapping[str, str]
    tensors: tuple[TensorEntry, ...]
    data_start: int


class _Flaw(Exception):  # noqa: N818  # never leaves this module
    """What is wrong with a header, as a short fact."""


def check_safetensors(path: Path) -> SafetensorsHeader:
    """Check a safetensors file's header against the format and against the file's size.

    Raises:
        ArtifactError: The file is missing, or is not a whole and well-formed safetensors file; the message says what
            it is instead where that shows.
    """
    with open_regular(path) as file:
        return read_checked_header(file, path)


def read_checked_header(file: IO[bytes], path: Path) -> SafetensorsHeader:
    """As :func:`check_safetensors`, from an open file; leaves it at the first tensor's first byte.

    Raises:
        ArtifactError: As for :func:`check_safetensors`.
    """
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(512)
    if other := other_content(start):
        raise ArtifactError(f"{path} is not a safetensors file: it {other}.")
    length = int.from_bytes(start[:8], "little")
    if size < 10 or start[8:9] != b"{":
        raise ArtifactError(f"{path} is not a safetensors file.")
    if length > HEADER_LIMIT_BYTES:
        raise ArtifactError(f"{path} claims a header of {length:,} bytes; the limit is {HEADER_LIMIT_BYTES:,}.")
    if 8 + length > size:
        raise ArtifactError(f"{path} is cut short: its header has {length:,} bytes and the file {size:,}.")
    file.seek(8)
    try:
        return _parse(file.read(length), size - 8 - length)
    except _Flaw as flaw:
        raise ArtifactError(f"{path} is damaged or not a safetensors file: {flaw}.") from None


def name_flaw(name: str) -> str:
    """Why a tensor's name is refused, or an empty string.

    Names end up in messages, reports and file names, so control characters, lone surrogates and path traversal are
    not allowed.
    """
    if not name:
        return "a tensor has an empty name"
    if len(name) > _NAME_LIMIT:
        return f"a tensor's name has {len(name):,} characters"
    if not (name.isascii() and name.isprintable()) and any(
        unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for character in name
    ):
        return f"the tensor name {name!a} has control characters"
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
        return f"the tensor name {name!a} is a path"
    return ""


def other_content(start: bytes) -> str:
    """What a file that begins so is, when it is no kind of weights, as the rest of "it …"; else an empty string."""
    if not start:
        return "is empty"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer that stands for the real file ('git lfs pull' fetches that)"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml")):
        return "is a web page, for example a login or error page, not the file itself"
    if not start.strip(b"\0"):
        return "holds nothing but zero bytes"
    return ""


@contextmanager
def open_regular(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, never a folder or a pipe.

    Raises:
        ArtifactError: There is no such file, or it cannot be read; also for failures while reading it.
    """
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ArtifactError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'no ordinary file'}, not a file.")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise ArtifactError(f"there is no file {path}.") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ArtifactError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}.") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits.

    Raises:
        ArtifactError: The file cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # IO[bytes] is wide enough


def _parse(raw: bytes, data_size: int) -> SafetensorsHeader:
    try:
        header = json.loads(raw.decode(), object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _Flaw(f"its header is not valid JSON ({error})") from None
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _Flaw("its __metadata__ is not a table of texts")
    entries = [_entry(name, fields) for name, fields in header.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    position = 0
    for entry in entries:
        if entry.begin != position:
            what = "overlaps another" if entry.begin < position else "leaves a hole before it"
            raise _Flaw(f"the tensor {entry.name!r} {what}")
        position = entry.end
    if position > data_size:
        raise _Flaw(f"it is cut short: its tensors need {position:,} bytes and it has {data_size:,}")
    if position < data_size:
        raise _Flaw(f"{data_size - position:,} bytes follow its last tensor")
    return SafetensorsHeader(metadata, tuple(entries), 8 + len(raw))


def _entry(name: str, fields: object) -> TensorEntry:
    if flaw := name_flaw(name):
        raise _Flaw(flaw)
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise _Flaw(f"the tensor {name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_SIZES:
        raise _Flaw(f"the tensor {name!r} has the unknown type {str(dtype)[:40]!a}")
    if not _are_sizes(shape) or len(shape) > _DIMENSIONS_LIMIT:
        raise _Flaw(f"the tensor {name!r} has an impossible shape")
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _Flaw(f"the tensor {name!r} has impossible data_offsets")
    # Zeros are left out of the product: torch computes strides of empty tensors too, in 64 bits.
    if math.prod(n or 1 for n in shape) * DTYPE_SIZES[dtype] >= 1 << 63:
        raise _Flaw(f"the tensor {name!r} has an impossible shape")
    if math.prod(shape) * DTYPE_SIZES[dtype] != offsets[1] - offsets[0]:
        raise _Flaw(f"the tensor {name!r} of shape {tuple(shape)} does not have {offsets[1] - offsets[0]:,} bytes")
    return TensorEntry(name, dtype, tuple(shape), offsets[0], offsets[1])


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) != len(pairs):
        seen: set[str] = set()
        again = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Flaw(f"its header has the key {again[:80]!a} twice")
    return content


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")
