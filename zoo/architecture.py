"""Facts about architectures, as data: nothing here imports torch or runs a plugin's code.

An :class:`Architecture` says what a design is called, how its input is prepared, which options it takes and which
weights are published for it. Plugins list them in ``zoo_architectures``; the registry, the command line and the
artifact read them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor
from typing import Literal

from zoo.errors import OptionError, did_you_mean

Interpolation = Literal["nearest", "bilinear", "bicubic"]
OptionValue = bool | int | float | str | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes the input of a model.

    The image is decoded to ``input_size[0]`` channels, its shorter edge is resized to :attr:`resize` pixels, the
    centre is cropped to ``input_size[1:]``, values are scaled to 0–1 and normalised with ``mean`` and ``std``.

    Attributes:
        input_size: ``(C, H, W)`` in pixels.
        mean: One value a channel, on the 0–1 scale.
        std: One value a channel, on the 0–1 scale, above 0.
        interpolation: The filter of the resize; all of them antialias when shrinking.
        crop_pct: Share of the resized shorter edge that the crop keeps, above 0 and at most 1. timm's name and meaning.
        crop_mode: ``"center"`` keeps the aspect ratio; ``"squash"`` resizes both edges freely.
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"
    crop_pct: float = 1.0
    crop_mode: Literal["center", "squash"] = "center"

    @property
    def resize(self) -> int:
        """Length in pixels of the shorter edge before the crop."""
        return floor(min(self.input_size[1:]) / self.crop_pct + 1e-6)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One published set of weights.

    Attributes:
        tag: Its name below the architecture, for example ``"imagenet1k_v2"``.
        url: Where it is published; None when only local files exist.
        sha256_prefix: Leading hex digits of the file's SHA-256, as published; empty when none was published.
        num_classes: Outputs of its head; 0 when it was published without one.
        in_channels: Channels of its input.
        class_names: Name of a list known to :func:`zoo.weights.class_names.class_names`, for example ``"imagenet1k"``;
            empty when unknown.
        preprocessing: What these weights were evaluated with; None means the architecture's.
        licence: SPDX identifier or the publisher's words; empty when not stated.
        metrics: Published results, for example ``{"imagenet1k/top1": 80.858}``, in percent.
        source: Who published it.
    """

    tag: str
    url: str | None = None
    sha256_prefix: str = ""
    num_classes: int = 1000
    in_channels: int = 3
    class_names: str = ""
    preprocessing: Preprocessing | None = None
    licence: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One knob of an architecture, typed by its default.

    Attributes:
        name: As written in ``--option name=value`` and in presets.
        default: Its value when nothing is said; its type is the option's type.
        minimum: Smallest value allowed, for numbers and for each number of a tuple.
        maximum: Largest value allowed, likewise.
        choices: The values allowed, when they are few.
        help: One line that says what it changes.
    """

    name: str
    default: OptionValue
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[OptionValue, ...] = ()
    help: str = ""

    def parse(self, value: object) -> OptionValue:
        """Check a value given as text, or as TOML or JSON data, and convert it to the option's type.

        Raises:
            OptionError: The value has another type or lies outside the range.
        """
        converted = self._convert(value)
        if self.choices and converted not in self.choices:
            raise OptionError(f"option {self.name}={value} is not one of {_listed(self.choices)}.")
        for number in converted if isinstance(converted, tuple) else (converted,):
            if isinstance(number, bool | str):
                continue
            too_small = self.minimum is not None and number < self.minimum
            too_large = self.maximum is not None and number > self.maximum
            if too_small or too_large or number != number:
                raise OptionError(f"option {self.name}={option_text(converted)} is outside {self.range}.")
        return converted

    @property
    def range(self) -> str:
        """The allowed values in words, for messages and ``zoo info``."""
        if self.choices:
            return _listed(self.choices)
        low = "-∞" if self.minimum is None else f"{self.minimum:g}"
        high = "∞" if self.maximum is None else f"{self.maximum:g}"
        return "true, false" if isinstance(self.default, bool) else f"[{low}, {high}]"

    def _convert(self, value: object) -> OptionValue:
        kind = type(self.default)
        try:
            if isinstance(self.default, bool):
                return _to_bool(value)
            if isinstance(self.default, tuple):
                parts = value.split(",") if isinstance(value, str) else value
                if not isinstance(parts, list | tuple) or not parts:
                    raise ValueError
                return tuple(_to_int(part) for part in parts)
            if isinstance(self.default, int):
                return _to_int(value)
            if isinstance(self.default, float):
                if isinstance(value, bool) or not isinstance(value, int | float | str):
                    raise ValueError
                return float(value)
            if not isinstance(value, str):
                raise ValueError
            return value
        except ValueError:
            wanted = "comma-separated whole numbers" if kind is tuple else f"a value of type {kind.__name__}"
            raise OptionError(
                f"option {self.name}={value!s} is not {wanted}; its default is {option_text(self.default)}."
            ) from None


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A named design that a plugin provides, described without building it.

    Attributes:
        name: The field's own name, for example ``"resnet50"``: letters, digits, ``_``, ``-`` and ``.``.
        family: What it is listed under, for example ``"resnet"``.
        preprocessing: Default preparation of the input.
        options: Knobs of :func:`zoo_build_model`, in the order they are shown.
        weights: Published weights.
        default_weights: Tag that ``--weights default`` means; None trains from random values.
        smallest_input: Smallest height and width in pixels that can be evaluated.
        smallest_training_input: Smallest height and width in pixels that can be trained.
        source: The paper or page that describes it.
        default_recipe: Recipe used when none is asked for; empty means zoo's choice, ``"frozen"`` or from random values
            ``"full"``.
        scratch_recipe: The same for training from random values alone.
        head_parameters: Names of the head's parameters for a design that is no chain of stages; empty otherwise.
        note: One sentence for ``zoo info``, for example why it is no chain.
        plugin: Name of the plugin that provides it; filled in by zoo.
    """

    name: str
    family: str
    preprocessing: Preprocessing = Preprocessing()
    options: tuple[Option, ...] = ()
    weights: tuple[Weights, ...] = ()
    default_weights: str | None = None
    smallest_input: int = 1
    smallest_training_input: int = 1
    source: str = ""
    default_recipe: str = ""
    scratch_recipe: str = ""
    head_parameters: tuple[str, ...] = ()
    note: str = ""
    plugin: str = ""

    @property
    def full_name(self) -> str:
        """``plugin/name``, which names the owner without importing anything."""
        return f"{self.plugin}/{self.name}"

    def option(self, name: str) -> Option:
        """The option of that name.

        Raises:
            OptionError: There is none; the message lists those there are.
        """
        for option in self.options:
            if option.name == name:
                return option
        known = [option.name for option in self.options]
        listed = f"it has {', '.join(known)}" if known else "it has no options"
        raise OptionError(f"{self.name} has no option {name!r}; {listed}.{did_you_mean(name, known)}")

    def parse_options(self, given: Mapping[str, object]) -> dict[str, OptionValue]:
        """All options with their values: those given, checked, and the defaults of the others.

        Raises:
            OptionError: An option is unknown or its value is not allowed.
        """
        checked = {name: self.option(name).parse(value) for name, value in given.items()}
        return {option.name: checked.get(option.name, option.default) for option in self.options}


def _to_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "yes", "on", "1"}:
        return True
    if isinstance(value, str) and value.lower() in {"false", "no", "off", "0"}:
        return False
    raise ValueError


def _to_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return int(value)


def option_text(value: OptionValue) -> str:
    """A value as ``--option NAME=VALUE`` takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _listed(values: tuple[OptionValue, ...]) -> str:
    return ", ".join(option_text(value) for value in values)
