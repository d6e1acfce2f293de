"""Tensors from a file and into one: safetensors, and published ``.pth`` files under restrictions."""

import argparse
import hashlib
import json
import math
import mmap
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.errors import ArtifactError, WeightsError
from zoo.files import atomic_writer
from zoo.safetensors_check import (
    HEADER_LIMIT_BYTES,
    name_flaw,
    open_regular,
    other_content,
    read_checked_header,
    sha256_of,
)

PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl")
_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2, "U16": torch.uint16, "I16": torch.int16, "F16": torch.float16,
    "BF16": torch.bfloat16, "U32": torch.uint32, "I32": torch.int32, "F32": torch.float32, "U64": torch.uint64,
    "I64": torch.int64, "F64": torch.float64, "C64": torch.complex64,
}  # fmt: skip
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# Tables that training scripts put around the tensors, in the order of preference; averaged weights come first, as
# they are what such scripts evaluate.
_WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")
# The count of torch.optim.swa_utils.AveragedModel, which torchvision's training script keeps beside averaged weights.
_AVERAGE_COUNT = "n_averaged"
# Every tensor begins at a multiple of this many bytes as far as sizes allow: what torch's own memory does, and what
# MKL needs to add up in the same order every time.
_ALIGNMENT = 64


@dataclass(frozen=True)
class StateFile:
    """What a file of weights holds.

    Attributes:
        state: Tensors by name, on the CPU, each with memory of its own.
        metadata: The texts beside them; empty for a ``.pth``.
        sha256: Of the file, as 64 hex digits.
        finite: Whether all values are known to be finite; False when nobody looked.
    """

    state: dict[str, Tensor]
    metadata: Mapping[str, str]
    sha256: str
    finite: bool = False


def read_state(path: Path, *, allow_pth: bool = False) -> dict[str, Tensor]:
    """Read the tensors of a ``.safetensors`` file, or of a ``.pth`` where that is allowed.

    Args:
        path: The file. What it is, is decided by its content.
        allow_pth: Read pickled files too, with torch's restricted reader, which builds tensors and plain
            containers only.

    Returns:
        Tensors by name, copied into memory: later changes of the file do not reach them.

    Raises:
        ArtifactError: A safetensors file that is damaged.
        WeightsError: A pickled file that is not allowed, or that holds anything but tensors.
    """
    return read_state_file(path, allow_pth=allow_pth).state


def read_state_file(path: Path, *, allow_pth: bool = False) -> StateFile:
    """As :func:`read_state`, with the file's metadata and hash.

    Raises:
        WeightsError: As for :func:`read_state`.
    """
    if not is_allowed_pickle(path, allow_pth=allow_pth):
        return read_safetensors(path)
    digest = sha256_of(path)
    return StateFile(read_pickled(path), {}, digest)


def is_allowed_pickle(path: Path, *, allow_pth: bool) -> bool:
    """Whether a file is a pickled one.

    Raises:
        WeightsError: It is one, and that is not allowed.
    """
    if not is_pickled(path):
        return False
    if not allow_pth:
        raise WeightsError(
            f"{path} is a pickled file: opening such a file can run code that is hidden in it. Convert it to "
            f"safetensors, or pass --allow-pth (allow_pth=True) to read it with torch's restricted reader if you trust "
            f"where it comes from."
        )
    return True


def is_pickled(path: Path) -> bool:
    """Whether a file is one that ``torch.save`` wrote, or claims to be by its suffix.

    Raises:
        ArtifactError: The file cannot be read.
    """
    with open_regular(path) as file:
        start = file.read(512)
    if other_content(start) or start[8:9] == b"{":
        return False
    is_pickle = len(start) > 2 and start[0] == 0x80 and start[1] <= pickle.HIGHEST_PROTOCOL
    return start.startswith(b"PK\x03\x04") or is_pickle or path.suffix.lower() in PICKLE_SUFFIXES


def read_safetensors(path: Path) -> StateFile:
    """Read a whole safetensors file into memory, checking and hashing the very bytes that become the tensors.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    digest = hashlib.sha256()
    state: dict[str, Tensor] = {}
    with open_regular(path) as file:
        header = read_checked_header(file, path)
        file.seek(0)
        digest.update(file.read(header.data_start))
        for entry in header.tensors:
            raw = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
            view = raw.numpy().data
            if file.readinto(view) != len(view):  # type: ignore[attr-defined]  # IO[bytes] lacks readinto
                raise ArtifactError(f"{path} became shorter while it was read.")
            digest.update(view)
            dtype = _DTYPES[entry.dtype]
            tensor = raw.ne(0) if dtype is torch.bool else raw.view(dtype)
            state[entry.name] = tensor.reshape(entry.shape)
    return StateFile(state, dict(header.metadata), digest.hexdigest())


def map_safetensors(path: Path, *, sha256: str, finite: bool) -> StateFile:
    """Map a safetensors file into memory instead of reading it: pages come when they are first looked at.

    Only for files of zoo's own cache, which are replaced and never written to. The tensors may be changed: a page that
    is written to becomes a copy that the file does not see. Tensors that do not begin at a multiple of 64 bytes are
    copied, so that arithmetic on them is the same as on any other.

    Args:
        path: The file.
        sha256: What it is known to hash to, or what the file that it was made from does.
        finite: Whether all of its values are known to be finite.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    with open_regular(path) as file:
        header = read_checked_header(file, path)
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    state: dict[str, Tensor] = {}
    for entry in header.tensors:
        dtype = _DTYPES[entry.dtype]
        begin, size = header.data_start + entry.begin, entry.end - entry.begin
        # One storage for each, so that saving one tensor does not save them all.
        raw = torch.frombuffer(memory, dtype=torch.uint8, count=size, offset=begin) if size else torch.empty(0).byte()
        if begin % _ALIGNMENT:
            raw = raw.clone()
        state[entry.name] = (raw.ne(0) if dtype is torch.bool else raw.view(dtype)).reshape(entry.shape)
    return StateFile(state, dict(header.metadata), sha256, finite)


def all_finite(state: Mapping[str, Tensor]) -> bool:
    """Whether no tensor has a NaN or an infinite value."""
    return not any(nonfinite_kind(tensor) for tensor in state.values())


def nonfinite_kind(tensor: Tensor) -> str:
    """``"NaN"`` or ``"infinite"`` for a tensor with such values, else an empty string."""
    if not tensor.is_floating_point() or not tensor.numel():
        return ""
    if tensor.element_size() == 1:
        tensor = tensor.float()  # torch has no such reduction for 8 bits
    low, high = (float(bound) for bound in torch.aminmax(tensor))
    if math.isfinite(low) and math.isfinite(high):
        return ""
    return "NaN" if math.isnan(low) or math.isnan(high) else "infinite"


def write_safetensors(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Write tensors so that equal content gives equal bytes, whatever the order of ``state``.

    Tensors that share memory are written once each. The file appears whole or not at all.

    Returns:
        SHA-256 of the file, as 64 hex digits.

    Raises:
        ArtifactError: A tensor or the metadata cannot be stored.
        StorageError: The file cannot be written.
    """
    for name, tensor in state.items():
        if (flaw := name_flaw(name)) or (flaw := _tensor_flaw(name, tensor)):
            raise ArtifactError(f"cannot write {path}: {flaw}.")
    # Sizes with many factors of two first: then every tensor is aligned as far as its own size allows, and at least
    # to its type.
    names = sorted(state, key=lambda name: (-_alignment(state[name].numel() * state[name].element_size()), name))
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name in names:
        tensor = state[name]
        end = position + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-(8 + len(header)) % _ALIGNMENT)
    if len(header) > HEADER_LIMIT_BYTES:
        raise ArtifactError(
            f"cannot write {path}: its header would have {len(header):,} bytes; the limit is {HEADER_LIMIT_BYTES:,}."
        )
    digest = hashlib.sha256()
    with atomic_writer(path) as file:
        for content in _contents(header, [state[name] for name in names]):
            digest.update(content)
            file.write(content)
    return digest.hexdigest()


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Read a file of ``torch.save`` with the restricted reader.

    Returns:
        Its tensors by name, out of the tables and without the prefixes that training scripts put around them.

    Raises:
        WeightsError: It holds anything but tensors by name.
    """
    with open_regular(path) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice about files that are refused below
        try:
            # An open file: given a path, torch.load goes by its suffix. A Namespace is what training scripts keep
            # their arguments in; making one runs nothing.
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(file, map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # torch.load raises most kinds of exception on damaged files
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise WeightsError(
                f"{path} is damaged, or holds more than tensors, which zoo does not read because it could run code: "
                f"{reason!a}."
            ) from error
    return _tensors_of(content, path)


def _tensors_of(content: object, path: Path) -> dict[str, Tensor]:
    for _ in _WRAPPERS:
        inner = next((content[key] for key in _WRAPPERS if key in content), None) if isinstance(content, dict) else None
        if not isinstance(inner, dict):
            break
        content = inner
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path} holds {_kind(content)}, not tensors by name.")
    state: dict[str, Tensor] = {}
    for name, value in content.items():
        if name == _AVERAGE_COUNT:
            continue
        if not isinstance(name, str):
            raise WeightsError(f"{path} has {_kind(name)} for a name, so it does not hold tensors by name.")
        if flaw := name_flaw(name) or _tensor_flaw(name, value):
            raise WeightsError(f"{path} cannot be used: {flaw}.")
        state[name] = value.detach()
    return without_prefixes(state)


def without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off the prefixes that DataParallel and ``torch.compile`` put before every name."""
    for prefix in _PREFIXES * 2:
        if state and all(name.startswith(prefix) and name != prefix for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _tensor_flaw(name: str, value: object) -> str:
    if type(value) not in (Tensor, nn.Parameter):
        return f"{name!r} is {_kind(value)}, not a tensor"
    assert isinstance(value, Tensor)
    if value.layout is not torch.strided or value.is_meta or value.is_quantized or value.dtype not in _DTYPE_NAMES:
        return f"{name!r} is a tensor without plain values ({value.layout}, {value.dtype}, {value.device})"
    return ""


def _alignment(size_bytes: int) -> int:
    return min(size_bytes & -size_bytes, _ALIGNMENT) or _ALIGNMENT


def _kind(value: object) -> str:
    return "nothing" if value is None or value == {} else f"a value of type {type(value).__name__}"


def _contents(header: bytes, tensors: Sequence[Tensor]) -> Iterator[bytes | memoryview]:
    yield len(header).to_bytes(8, "little")
    yield header
    for tensor in tensors:
        if tensor.numel():
            yield _bytes_of(tensor)


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data
