"""Tensors from a file and into one: safetensors, and published ``.pth`` files under restrictions."""

import hashlib
import json
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
    DTYPE_SIZES,
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
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class StateFile:
    """What a file of weights holds.

    Attributes:
        state: Tensors by name, on the CPU, each with memory of its own.
        metadata: The texts beside them; empty for a ``.pth``.
        sha256: Of the file, as 64 hex digits.
    """

    state: dict[str, Tensor]
    metadata: Mapping[str, str]
    sha256: str


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
    if not is_pickled(path):
        return read_safetensors(path)
    if not allow_pth:
        raise WeightsError(
            f"{path} is a pickled file: opening such a file can run code that is hidden in it. Convert it to "
            f"safetensors, or pass --allow-pth (allow_pth=True) to read it with torch's restricted reader if you trust "
            f"where it comes from."
        )
    digest = sha256_of(path)
    return StateFile(read_pickled(path), {}, digest)


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
    # Wide types first, as the library does it, so that every tensor is aligned to its type.
    names = sorted(state, key=lambda name: (-DTYPE_SIZES[_DTYPE_NAMES[state[name].dtype]], name))
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
    header += b" " * (-len(header) % 8)
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
            # An open file: given a path, torch.load goes by its suffix.
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
        if not isinstance(name, str):
            raise WeightsError(f"{path} has {_kind(name)} for a name, so it does not hold tensors by name.")
        if flaw := name_flaw(name) or _tensor_flaw(name, value):
            raise WeightsError(f"{path} cannot be used: {flaw}.")
        state[name] = value.detach()
    return _without_prefixes(state)


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
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
