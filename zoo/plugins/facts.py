"""Facts about architectures as a plugin gives them: checked, and kept on disk so that listing imports no plugin.

What is kept belongs to one distribution in one version, to the versions of what it requires, and to the times of its
files; when any of these differ, when the kept file is damaged or cannot be written, the plugin is asked again.
"""

import dataclasses
import hashlib
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from zoo.architecture import Architecture, Option, Preprocessing, Weights
from zoo.decoding import shown
from zoo.errors import OptionError, StorageError
from zoo.files import cache_folder, write_atomically
from zoo.names import canonical, is_name
from zoo.plugins.entry_points import EntryPoint

_FORMAT = 4
_MOST_FILES = 2000
_MOST_ARCHITECTURES = 10_000
_LONGEST_NAME = 100
_LONGEST_TEXT = 2000
_LARGEST_EDGE = 16_384
_LARGEST_NUMBER = 1e15
# What --weights takes for something else, and what --option would mean twice.
_TAKEN_TAGS = ("default", "none")
_TAKEN_OPTIONS = ("architecture", "in_channels", "model", "num_classes")


class ListedInput(msgspec.Struct, frozen=True):
    """The part of :class:`~zoo.architecture.Preprocessing` that listings show."""

    input_size: tuple[int, int, int]


class ListedWeights(msgspec.Struct, frozen=True):
    """The part of :class:`~zoo.architecture.Weights` that listings show."""

    tag: str
    url: str | None


class Listed(msgspec.Struct, frozen=True):
    """The part of :class:`~zoo.architecture.Architecture` that listings show."""

    name: str
    family: str
    plugin: str
    preprocessing: ListedInput
    weights: tuple[ListedWeights, ...]
    default_weights: str | None

    @property
    def full_name(self) -> str:
        """``plugin/name``."""
        return f"{self.plugin}/{self.name}"


A = TypeVar("A", bound=Architecture | Listed)


class FactsError(Exception):
    """Facts that break a rule; the message says which, without naming the plugin."""


class Facts(msgspec.Struct, Generic[A], frozen=True, forbid_unknown_fields=True):
    """What a plugin answers when it is asked for its facts, and what is kept of that.

    Attributes:
        architectures: As the plugin listed them, :attr:`Architecture.plugin` filled in; read in full, or as
            :class:`Listed`.
        callbacks: Whether it can follow runs.
        notes: What was noticed when the plugin was imported.
        error: Why there are none: a sentence that names the plugin; empty when all is well.
        incompatible: Whether the error is that it was written for another hook API.
        trace: Python's traceback of the error, where there is one.
        key: What it was true for.
        installed: A hash of all that was installed: a failure counts only as long as that stays.
    """

    architectures: tuple[A, ...] = ()
    callbacks: bool = False
    notes: tuple[str, ...] = ()
    error: str = ""
    incompatible: bool = False
    trace: str = ""
    key: dict[str, str] = {}
    installed: str = ""


def check_architectures(returned: object, *, plugin: str) -> tuple[Architecture, ...]:
    """Check what ``zoo_architectures`` returned and fill in the plugin's name.

    Raises:
        FactsError: It is no sequence of architectures, a name is there twice, or a fact is not possible.
    """
    if not isinstance(returned, Sequence) or isinstance(returned, str | bytes):
        raise FactsError(f"it returned {_kind(returned)} instead of a list of Architecture")
    if len(returned) > _MOST_ARCHITECTURES:
        raise FactsError(f"it lists {len(returned):,} architectures, and {_MOST_ARCHITECTURES:,} are the most")
    checked: dict[str, Architecture] = {}
    for item in returned:
        if not isinstance(item, Architecture):
            raise FactsError(f"it listed {_kind(item)} where an Architecture belongs")
        try:
            plain = _builtins(item)
            _check_values(plain)
            architecture = _typed(plain)
            _check(architecture)
        except FactsError as error:
            raise FactsError(f"architecture {shown(item.name)}: {error}") from error
        before = checked.get(architecture.name.lower())
        if before is not None and before.name == architecture.name:
            raise FactsError(f"it lists {architecture.name!r} twice")
        if before is not None:
            raise FactsError(f"it lists {before.name!r} and {architecture.name!r}, which differ only in case")
        checked[architecture.name.lower()] = dataclasses.replace(architecture, plugin=plugin)
    return tuple(checked.values())


def facts_key(point: EntryPoint, versions: Mapping[str, str]) -> dict[str, str] | None:
    """What the kept facts of a plugin must have been true for.

    Args:
        point: Where the plugin comes from.
        versions: Versions of all distributions by canonical name.

    Returns:
        None when the plugin's files cannot be found without importing it, or are too many to look at.
    """
    files = _file_times(point.value)
    if files is None:
        return None
    required = {canonical(match[0]) for line in point.requires if (match := re.match(r"[A-Za-z0-9._-]+", line))}
    installed = sorted(f"{name}=={versions[name]}" for name in required if name in versions)
    return {
        "format": str(_FORMAT),
        "python": ".".join(map(str, sys.version_info[:2])),
        "zoo": f"{versions.get('torch-zoo', '')} {_time(Path(__file__).parents[1] / 'architecture.py')}",
        "distribution": f"{point.distribution} {point.version} {point.value} {point.origin}",
        "requires": hashlib.sha256("\n".join(installed).encode()).hexdigest(),
        "files": files,
    }


def read_facts(
    point: EntryPoint, key: Mapping[str, str], versions: Mapping[str, str], kind: type[A]
) -> Facts[A] | None:
    """The facts kept for this key; None when there are none, or they are damaged.

    A failure is kept too, but only until anything is installed or removed: what was missing may be there then.

    Args:
        point: Where the plugin comes from.
        key: What they must have been true for.
        versions: Versions of all distributions by canonical name.
        kind: How much of each architecture to read: :class:`~zoo.architecture.Architecture`, or :class:`Listed`.
    """
    try:
        with _path(point).open("rb") as file:
            content = file.readline() if kind is Listed else file.read().partition(b"\n")[2]
        kept: Facts[A] = msgspec.json.decode(content, type=Facts[kind])  # type: ignore[valid-type]
    except (OSError, RuntimeError, ValueError):  # msgspec's errors are ValueErrors
        return None
    if kept.key != key or any(architecture.plugin != point.name for architecture in kept.architectures):
        return None
    return None if kept.error and kept.installed != _installed(versions) else kept


def listed(architectures: tuple[Architecture, ...]) -> tuple[Listed, ...]:
    """What listings show of architectures."""
    return msgspec.convert(architectures, tuple[Listed, ...], from_attributes=True)


def write_facts(
    point: EntryPoint, key: dict[str, str], versions: Mapping[str, str], facts: Facts[Architecture]
) -> None:
    """Keep facts on disk: on the first line what listings show, on the second everything.

    Nothing is kept where the disk does not let us, or where JSON would change the facts.
    """
    with suppress(OSError, RuntimeError, StorageError, ValueError, TypeError):
        facts = msgspec.structs.replace(facts, key=key, installed=_installed(versions))
        content = msgspec.json.encode(facts)
        if repr(msgspec.json.decode(content, type=Facts[Architecture])) == repr(facts):
            first = msgspec.structs.replace(facts, architectures=listed(facts.architectures))
            write_atomically(_path(point), msgspec.json.encode(first) + b"\n" + content)


def _installed(versions: Mapping[str, str]) -> str:
    return hashlib.sha256(repr(sorted(versions.items())).encode()).hexdigest()


def _path(point: EntryPoint) -> Path:
    source = hashlib.sha256(f"{point.distribution}\n{point.value}\n{point.origin}".encode()).hexdigest()
    return cache_folder() / "facts" / f"{point.name}-{source[:16]}.json"


def _file_times(value: str) -> str | None:
    """A hash over the names, sizes and times of the files of a plugin's top package."""
    try:
        spec = find_spec(value.partition(":")[0].partition(".")[0])  # of a top package, which imports nothing
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        roots = [Path(folder) for folder in spec.submodule_search_locations]
    elif spec.origin is not None:
        roots = [Path(spec.origin)]
    else:
        return None
    total = hashlib.sha256()
    for count, path in enumerate(_files(roots)):
        if count == _MOST_FILES:
            return None
        total.update(f"{path}\0{_time(path)}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _files(roots: Sequence[Path]) -> Iterator[Path]:
    for root in roots:
        if not root.is_dir():
            yield root
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            yield from (Path(folder, name) for name in sorted(names))


def _time(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "gone"
    return f"{status.st_mtime_ns}:{status.st_size}"


def _check(architecture: Architecture) -> None:
    if not is_name(architecture.name):
        raise FactsError("a name is made of letters, digits, '_', '-' and '.', and starts with one of the first two")
    _check_text("family", architecture.family, _LONGEST_NAME)
    if not architecture.family.strip():
        raise FactsError("family is empty")
    _check_preprocessing(architecture.preprocessing)
    _check_smallest(architecture)
    _no_repeats("option", [option.name for option in architecture.options])
    for option in architecture.options:
        _check_option(option)
    tags = [weights.tag for weights in architecture.weights]
    _no_repeats("weight tag", tags)
    for weights in architecture.weights:
        _check_weights(weights)
    if architecture.default_weights is not None and architecture.default_weights not in tags:
        raise FactsError(
            f"default_weights {shown(architecture.default_weights)} is none of its tags: {', '.join(tags)}"
        )


def _check_values(value: object) -> None:
    """Refuse text and numbers that could not be printed, kept or computed with, wherever they are."""
    if isinstance(value, str):
        _check_text("a text", value, _LONGEST_TEXT)
    elif isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
        raise FactsError(f"a whole number is beyond ±{_LARGEST_NUMBER:g}")
    elif isinstance(value, dict):
        _check_values([*value, *value.values()])
    elif isinstance(value, list):
        for item in value:
            _check_values(item)


def _check_text(what: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise FactsError(f"{what} of {len(text):,} characters is longer than {longest:,}: {shown(text)}")
    if not text.isprintable():
        raise FactsError(f"{what} has a control character, a line break or half a character: {shown(text)}")


def _check_smallest(architecture: Architecture) -> None:
    largest = min(architecture.preprocessing.input_size[1:])
    for name in ("smallest_input", "smallest_training_input"):
        smallest = getattr(architecture, name)
        if smallest < 1:
            raise FactsError(f"{name} is at least 1 pixel")
        if smallest > _LARGEST_EDGE or (name == "smallest_input" and smallest > largest):
            raise FactsError(f"{name} {smallest} is beyond the input_size of {largest} pixels")


def _typed(plain: object) -> Architecture:
    """The same facts with every field of its declared type: whole numbers where floats belong become floats."""
    try:
        return msgspec.convert(plain, Architecture, strict=True)
    except msgspec.ValidationError as error:
        raise FactsError(str(error).replace("`$.", "`")) from error


def _builtins(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _builtins(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _builtins(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_builtins(item) for item in value]
    # Of numpy's floats and of enumerations, the value that they are.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return int.__int__(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _check_preprocessing(preprocessing: Preprocessing) -> None:
    channels = preprocessing.input_size[0]
    if min(preprocessing.input_size) < 1:
        raise FactsError(f"input_size {preprocessing.input_size} has an edge below 1")
    if channels > 4 or channels == 2 or max(preprocessing.input_size) > _LARGEST_EDGE:
        raise FactsError(
            f"input_size {preprocessing.input_size} is not 1, 3 or 4 channels of at most {_LARGEST_EDGE} pixels an edge"
        )
    if len(preprocessing.mean) != channels or len(preprocessing.std) != channels:
        raise FactsError(f"mean and std need one value for each of the {channels} channels of input_size")
    if not all(map(math.isfinite, (*preprocessing.mean, *preprocessing.std))) or min(preprocessing.std) <= 0:
        raise FactsError("mean and std are finite, and std is above 0")
    if max(map(abs, preprocessing.mean)) > 1e3 or not 1e-4 <= min(preprocessing.std) <= max(preprocessing.std) <= 1e3:
        raise FactsError("mean lies within ±1000, and std between 0.0001 and 1000, on the 0-1 scale")
    if not 0 < preprocessing.crop_pct <= 1:
        raise FactsError(f"crop_pct {preprocessing.crop_pct} is not above 0 and at most 1")
    if preprocessing.resize > 2 * _LARGEST_EDGE:
        raise FactsError(f"crop_pct {preprocessing.crop_pct} makes an image of {preprocessing.resize:,} pixels an edge")


def _check_option(option: Option) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", option.name):
        raise FactsError(f"option {shown(option.name)} is not a name of lower-case letters, digits and '_'")
    if option.name in _TAKEN_OPTIONS:
        raise FactsError(f"option {option.name} is what zoo itself passes; choose another name")
    if isinstance(option.default, bool | str) and (option.minimum is not None or option.maximum is not None):
        raise FactsError(f"option {option.name}: only numbers have a minimum and a maximum")
    for limit in (option.minimum, option.maximum):
        if limit is not None and not math.isfinite(limit):
            raise FactsError(f"option {option.name}: a limit is a finite number, or None for none")
    try:
        for value in (option.default, *option.choices):
            if type(option.parse(value)) is not type(value):
                raise FactsError(f"option {option.name}: {shown(value)} has another type than the default")
    except OptionError as error:
        raise FactsError(f"its own default or choice is not allowed: {error}".rstrip(".")) from error


def _check_weights(weights: Weights) -> None:
    if not is_name(weights.tag):
        raise FactsError(f"weight tag {shown(weights.tag)} is not a name of letters, digits, '_', '-' and '.'")
    if weights.tag.lower() in _TAKEN_TAGS:
        raise FactsError(f"weight tag {shown(weights.tag)} means something else to --weights; choose another")
    if weights.num_classes < 0 or weights.in_channels not in (1, 3, 4):
        raise FactsError(f"weights {weights.tag}: num_classes is at least 0 and in_channels 1, 3 or 4")
    if weights.url is not None and not re.fullmatch(r"https://[^\s/@?#]+/[^\s]*", weights.url):
        raise FactsError(f"weights {weights.tag}: url {shown(weights.url)} is not https://HOST/FILE without a password")
    if weights.class_names and not is_name(weights.class_names):
        raise FactsError(f"weights {weights.tag}: class_names {shown(weights.class_names)} is not the name of a list")
    if not re.fullmatch(r"([0-9a-f]{8,64})?", weights.sha256_prefix):
        raise FactsError(f"weights {weights.tag}: sha256_prefix is 8 to 64 lower-case hex digits, or empty")
    if not all(0 <= value <= 1000 for value in weights.metrics.values()):
        raise FactsError(f"weights {weights.tag}: metrics are finite numbers from 0 on, in percent")
    if weights.preprocessing is not None:
        _check_preprocessing(weights.preprocessing)


def _no_repeats(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise FactsError(f"{what} {shown(name)} is there twice")


def _kind(value: object) -> str:
    return (
        "nothing" if value is None else f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    )
