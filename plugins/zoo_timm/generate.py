"""Make a catalogue from the installed timm: ``python -m zoo_timm.generate FILE``.

Imports all of timm, so it is run as a process of its own. What can be read off timm's registry is; what has to be
measured is taken over from the catalogue that ships, and measured for the architectures that it does not know. A file
that ends in ``.py`` becomes the module that ships.
"""

import argparse
import functools
import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import timm
from timm.models import _builder, _registry

from zoo.architecture import Preprocessing
from zoo_timm.catalogue import FORMAT, ArchitectureRow, Catalogue, Layout, WeightsRow, shipped
from zoo_timm.measure import Measured, measure

# As torch.hub reads the leading digits of a hash off a published file's name.
_HASH = re.compile(r"-([0-9a-f]{8,64})\.[a-z.]+$")
_MODULE = b'''"""timm's facts, as JSON: written by ``python -m zoo_timm.generate``, not by hand."""
# ruff: noqa: E501

CATALOGUE = rb"""%b"""
'''
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
T = TypeVar("T")


class _BuilderCalledError(Exception):
    """Carries what a model function of timm would build; raised in place of building it."""

    def __init__(self, kind: Callable[..., object], arguments: Mapping[str, object]) -> None:
        self.kind = kind
        self.arguments = arguments


class _Table(Generic[T]):
    """Different values in the order of their first use."""

    def __init__(self) -> None:
        self._values: dict[bytes, tuple[int, T]] = {}

    def index(self, value: T) -> int:
        return self._values.setdefault(msgspec.json.encode(value), (len(self._values), value))[0]

    def values(self) -> tuple[T, ...]:
        return tuple(value for _, value in self._values.values())


class _Tables:
    """What architectures share."""

    def __init__(self) -> None:
        self.preparations: _Table[Preprocessing] = _Table()
        self.licences: _Table[str] = _Table()
        self.layouts: _Table[Layout] = _Table()


def catalogue(measured: Mapping[str, Measured]) -> Catalogue:
    """The catalogue of the installed timm, with what was measured of its architectures."""
    tables = _Tables()
    names = [name for name in timm.list_models() if not measured[name].no_logits]
    rows = tuple(_row(name, measured[name], tables) for name in names)
    return Catalogue(
        format=FORMAT,
        timm=timm.__version__,
        preprocessing=tables.preparations.values(),
        licences=tables.licences.values(),
        layouts=tables.layouts.values(),
        architectures=rows,
        left_out={name: measured[name].no_logits for name in timm.list_models() if measured[name].no_logits},
    )


def known(old: Catalogue) -> dict[str, Measured]:
    """What an older catalogue says of the architectures that the installed timm has too."""
    found = {
        row.name: Measured(
            smallest_input=row.smallest_input,
            takes_image_size=row.image_size is not None,
            no_chain=row.no_chain,
            head_parameters=row.head_parameters,
        )
        for row in old.architectures
    }
    found |= {name: Measured(no_logits=reason) for name, reason in old.left_out.items()}
    return {name: found[name] for name in timm.list_models() if name in found}


def measure_all(names: Sequence[str], workers: int) -> dict[str, Measured]:
    """Measure architectures, several at once; one that timm cannot build is no classifier."""
    if not names:
        return {}
    with get_context("spawn").Pool(workers, maxtasksperchild=100) as pool:
        return dict(zip(names, pool.imap(_measured, names, chunksize=4), strict=True))


def written(content: Catalogue) -> bytes:
    """A catalogue as a file: one line an architecture, so that changes can be read."""
    head = msgspec.json.encode(msgspec.structs.replace(content, architectures=()))
    rows = b",\n".join(msgspec.json.encode(row) for row in content.architectures)
    return head.replace(b'"architectures":[]', b'"architectures":[\n' + rows + b"\n]") + b"\n"


def _measured(name: str) -> Measured:
    warnings.simplefilter("ignore")
    try:
        return measure(name)
    except Exception as error:  # whatever timm raises
        return Measured(no_logits=f"{type(error).__name__}: {' '.join(str(error).split())[:150]}")


def _row(name: str, measured: Measured, tables: _Tables) -> ArchitectureRow:
    default: Any = _registry._model_default_cfgs[name]
    configs: dict[str, Any] = {tag: _registry.get_pretrained_cfg(f"{name}.{tag}") for tag in default.tags if tag}
    published = [(tag, config) for tag, config in configs.items() if config.has_weights]
    weights = tuple(_weights_row(name, tag, config, tables) for tag, config in published)
    main = published[0][1] if published else default.default
    call = _builder_call(name)
    layout = _layout(call)
    return ArchitectureRow(
        name=name,
        family=_registry._model_to_module[name],
        preprocessing=tables.preparations.index(_preprocessing(main)),
        smallest_input=measured.smallest_input,
        image_size=default.default.input_size[1] if measured.takes_image_size else None,
        dropout=_default(call, "drop_rate"),
        stochastic_depth=_default(call, "drop_path_rate"),
        layout=-1 if layout is None else tables.layouts.index(layout),
        weights=weights,
        no_chain=measured.no_chain,
        head_parameters=measured.head_parameters,
        note=_note(main),
    )


def _weights_row(name: str, tag: str, config: Any, tables: _Tables) -> WeightsRow:
    url = config.url or ""
    digits = match[1] if (match := _HASH.search(url)) else ""
    # A file whose hash is published goes before a safetensors file without one, and that before any other file.
    repository = config.hf_hub_id or ""
    if url.startswith("https://") and (digits or not repository):
        place = url
    else:
        digits, place = "", "" if repository == f"timm/{name}.{tag}" else repository
    return WeightsRow(
        tag=tag,
        place=place,
        sha256_prefix=digits,
        num_classes=config.num_classes,
        preprocessing=tables.preparations.index(_preprocessing(config)),
        licence=tables.licences.index("" if config.license in (None, "unknown") else config.license),
    )


def _preprocessing(config: Any) -> Preprocessing:
    channels, height, width = config.input_size
    return Preprocessing(
        input_size=(channels, height, width),
        mean=tuple(map(float, config.mean)),
        std=tuple(map(float, config.std)),
        interpolation=config.interpolation if config.interpolation in _INTERPOLATIONS else "bicubic",
        crop_pct=min(1.0, float(config.crop_pct)),
        # "border" pads to a square; the nearest of zoo's is the one that keeps the whole image too.
        crop_mode="center" if config.crop_mode == "center" else "squash",
    )


def _note(config: Any) -> str:
    if config.crop_pct > 1:
        return f"Published with a border around the image (crop_pct {config.crop_pct}), which zoo leaves out."
    if config.crop_mode not in ("center", "squash"):
        return f"Published with crop_mode {config.crop_mode!r}; zoo resizes both edges freely instead."
    return ""


def _builder_call(name: str) -> _BuilderCalledError:
    """What a model function passes to timm's builder."""
    try:
        timm.create_model(name, pretrained=False)
    except _BuilderCalledError as call:
        return call
    raise RuntimeError(f"timm builds {name} in a way of its own")


def _layout(call: _BuilderCalledError) -> Layout | None:
    function: Any = call.arguments.get("pretrained_filter_fn")
    strict = bool(call.arguments.get("pretrained_strict", True))
    if function is None:
        return None if strict else Layout("", {}, strict)
    arguments = {}
    if isinstance(function, functools.partial):
        function, arguments = function.func, function.keywords
    return Layout(f"{function.__module__}:{function.__qualname__}", arguments, strict)


def _default(call: _BuilderCalledError, argument: str) -> float | None:
    """The value that a number has when a model is built without saying it; None when the model does not take it."""
    if argument in call.arguments:
        return float(str(call.arguments[argument]))
    kinds: Iterable[Any] = call.kind.__mro__ if isinstance(call.kind, type) else [call.kind]
    for kind in kinds:
        parameters = inspect.signature(kind).parameters
        if argument in parameters:
            default = parameters[argument].default
            return float(default) if isinstance(default, int | float) else None
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return None
    return None


def _replace_builder() -> None:
    """Let timm's model functions say what they would build, in this process."""

    def called(model_cls: Callable[..., object], variant: str, pretrained: bool, **arguments: object) -> object:
        raise _BuilderCalledError(model_cls, arguments)

    builder = _builder.build_model_with_cfg
    for module in list(sys.modules.values()):
        if getattr(module, "build_model_with_cfg", None) is builder:
            module.build_model_with_cfg = called  # type: ignore[attr-defined]


def main() -> int:
    """Write a catalogue."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="the catalogue to write")
    parser.add_argument("--all", action="store_true", help="measure every architecture, which takes half an hour")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    measured = {} if options.all else known(shipped())
    measured |= measure_all([name for name in timm.list_models() if name not in measured], options.workers)
    _replace_builder()
    content = catalogue(measured)
    options.file.parent.mkdir(parents=True, exist_ok=True)
    private = options.file.with_name(f".{options.file.name}.{os.getpid()}.tmp")
    private.write_bytes(_MODULE % written(content) if options.file.suffix == ".py" else written(content))
    private.replace(options.file)
    print(f"timm {content.timm}: {len(content.architectures)} architectures, {len(content.left_out)} left out")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
