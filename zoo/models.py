"""From a name or a file to a model that is ready to train or predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import nn

from zoo.architecture import Architecture, OptionValue, Preprocessing
from zoo.artifact import Header, read_artifact
from zoo.chain import Chain
from zoo.decoding import ascii_safe
from zoo.errors import OptionError, UsageError, WeightsError
from zoo.features.frozen import FeatureCache
from zoo.plugins import Plugins, Resolved
from zoo.plugins.catalogue import open_plugins
from zoo.plugins.hooks import PluginHooks
from zoo.progress import Progress, Silent
from zoo.registry.lockfile import is_locked, lock_path, read_lock
from zoo.tasks import Task, task_of
from zoo.training.extraction import choose_pass_precision
from zoo.weights import LoadReport, Source, build, count_classes, resolve_weights

if TYPE_CHECKING:
    from zoo.jobs.prediction import Photo, Prediction


@dataclass(frozen=True)
class Model:
    """A built architecture with what is needed to use it: its input's preparation and the names of its classes.

    Attributes:
        architecture: The facts it was built from.
        hooks: The plugin that built it.
        module: The plain ``nn.Module``, float32, in eval mode. Input ``(N, C, H, W)`` normalised, logits
            ``(N, num_classes)``.
        options: Every option of the architecture with its value.
        in_channels: Channels of the input.
        preprocessing: How an image becomes its input.
        classes: Names of the outputs, in order; empty when unknown.
        source: Where its values come from.
        loaded: What loading did to them.
        header: The header of the artifact it was loaded from, if it was.
    """

    architecture: Architecture
    hooks: PluginHooks
    module: nn.Module
    options: Mapping[str, OptionValue]
    in_channels: int
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    source: Source
    loaded: LoadReport
    header: Header | None = field(default=None, repr=False)

    @property
    def identity(self) -> dict[str, object]:
        """What, besides its values, decides what the model computes: plain values for a key."""
        record = self.hooks.record
        options = {name: list(v) if isinstance(v, tuple) else v for name, v in sorted(self.options.items())}
        return {
            "architecture": self.architecture.full_name,
            "options": options,
            "plugin": [record.distribution, record.version],
        }

    @property
    def task(self) -> Task:
        """One class an image, or any number of labels by its artifact's thresholds."""
        return task_of(self.header.task, self.header.thresholds) if self.header is not None else task_of("single-label")

    def feature_cache(
        self,
        digests: Mapping[Path, str],
        *,
        device: torch.device,
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
    ) -> FeatureCache:
        """What features of this model's frozen parts are kept under.

        Args:
            digests: SHA-256 of each image's content.
            device: Where they are computed.
            precision: What in; ``"auto"`` chooses by rule.
        """
        chosen, _ = choose_pass_precision(self.module, device, asked=precision)
        return FeatureCache(self.identity, self.preprocessing, digests, chosen)

    def chain(self) -> Chain:
        """The model's stages, made anew: a view that is valid until the module is copied or loaded."""
        return self.hooks.chain(self.architecture, self.module)

    @overload
    def predict(self, images: Photo, *, top_k: int = 5) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, images: Sequence[Photo], *, top_k: int = 5) -> list[Prediction]: ...

    def predict(self, images: Photo | Sequence[Photo], *, top_k: int = 5) -> Prediction | list[Prediction]:
        """Classify one image or several.

        Args:
            images: A path, the bytes of an image file or a Pillow image, or a list of such.
            top_k: How many classes each prediction lists, at least 1.

        Returns:
            One :class:`zoo.jobs.prediction.Prediction`, or a list of them in the same order.

        Raises:
            ImageError: An image cannot be read.
        """
        from zoo.jobs.prediction import predict_images

        if isinstance(images, list | tuple):
            return predict_images(self, images, top_k=top_k)
        return predict_images(self, [images], top_k=top_k)[0]  # type: ignore[list-item]  # str and bytes are sequences


@dataclass(frozen=True)
class Request:
    """What was asked of a model, before anything is built: checked against facts alone.

    Attributes:
        resolved: The architecture, and the preset that led to it.
        options: Every option with its value.
        weights: A tag, a path, ``"default"``, or None for random values.
        in_channels: Channels of the input.
        image_size: Height and width in pixels, where one was asked for.
    """

    resolved: Resolved
    options: Mapping[str, OptionValue]
    weights: str | None
    in_channels: int
    image_size: int | None

    @property
    def architecture(self) -> Architecture:
        """The architecture asked for."""
        return self.resolved.architecture


def request_model(
    plugins: Plugins,
    name: str,
    *,
    weights: str | Path | None = "default",
    options: Mapping[str, object] | None = None,
    in_channels: int = 3,
    image_size: int | None = None,
) -> Request:
    """Check a request for a model against the architecture's facts.

    Raises:
        UnknownNameError: No plugin or preset has that name.
        OptionError: An option is unknown or out of range, or two of them contradict each other.
    """
    resolved = plugins.resolve(name)
    architecture, preset = resolved.architecture, resolved.preset
    given = {**(preset.options if preset else {}), **(options or {})}
    has_size_option = any(option.name == "image_size" for option in architecture.options)
    if has_size_option and image_size is not None:
        if (
            options
            and "image_size" in options
            and architecture.option("image_size").parse(options["image_size"]) != image_size
        ):
            raise OptionError(
                f"--image-size {image_size} and --option image_size={options['image_size']} contradict each other; "
                f"give one of them."
            )
        given["image_size"] = image_size
    if in_channels not in (1, 3, 4):
        raise OptionError(f"in_channels = {in_channels} is not one of 1 (grey), 3 (colour), 4 (colour with alpha).")
    parsed = architecture.parse_options(given)
    if has_size_option:
        image_size = int(str(parsed["image_size"]))
    if image_size is not None and image_size < architecture.smallest_input:
        raise OptionError(
            f"image size {image_size} is too small for {architecture.name}: it needs at least "
            f"{architecture.smallest_input} pixels."
        )
    spec = None if weights is None or str(weights) == "none" else str(weights)
    if preset and preset.weights and spec == "default":
        spec = preset.weights
    return Request(resolved, parsed, spec, in_channels, image_size)


def build_model(
    plugins: Plugins,
    request: Request,
    *,
    classes: Sequence[str] | None = None,
    num_classes: int | None = None,
    fallback: Sequence[str] = (),
    seed: int = 0,
    offline: bool = False,
    allow_pth: bool = False,
    locked: bool = False,
    progress: Progress = Silent(),
) -> Model:
    """Build the model that was asked for and load its weights.

    Args:
        plugins: Where its plugin is.
        request: From :func:`request_model`.
        classes: Names of the outputs. Weights of classes with the same names are kept.
        num_classes: Number of outputs where there are no names; the default is that of the weights, as published or
            as their head has it.
        fallback: Names to count the outputs by where neither the caller nor the weights say how many there are; they
            do not become the model's.
        seed: For values that no weights give.
        offline: Never download.
        allow_pth: Read local ``.pth`` files, with pickle's unsafe part switched off.
        locked: Refuse weights whose full hash ``registry.lock`` does not have; ``ZOO_LOCKED=1`` does so everywhere.
        progress: Where a download is shown.

    Raises:
        WeightsError: The weights cannot be had, do not fit or are not locked.
        PluginError: The plugin failed.
    """
    architecture = request.architecture
    hooks = plugins.hooks(architecture.plugin)
    preset = request.resolved.preset
    source, state = resolve_weights(
        architecture,
        request.weights,
        offline=offline,
        allow_pth=allow_pth,
        sha256=preset.sha256 if preset and request.weights == preset.weights else "",
        lock=read_lock(lock_path(plugins.registry)) if request.weights and is_locked(locked) else None,
        progress=progress,
    )
    known = source.classes
    if classes is None and num_classes in (None, len(known)):
        classes = known
    names = tuple(classes or ())
    count = num_classes or len(names) or (source.weights.num_classes if source.weights else 0)
    if not count and state is not None:
        count = count_classes(
            hooks, architecture, in_channels=request.in_channels, options=request.options, state=state
        )
    count = count or len(fallback)
    if not count:
        raise UsageError(f"how many classes? {source.spec or 'random values'} does not say; give num_classes.")
    module, report = build(
        hooks,
        architecture,
        num_classes=count,
        in_channels=request.in_channels,
        options=request.options,
        state=state,
        seed=seed,
        classes=names,
        state_classes=known,
        check_values=not source.finite,
    )
    return Model(
        architecture=architecture,
        hooks=hooks,
        module=module,
        options=request.options,
        in_channels=request.in_channels,
        preprocessing=effective_preprocessing(request, source),
        classes=names,
        source=source,
        loaded=report,
        header=source.header,
    )


def effective_preprocessing(request: Request, source: Source | None = None) -> Preprocessing:
    """How images are prepared for a request: the weights' way where they state one, at the size asked for.

    Args:
        request: From :func:`request_model`.
        source: Where the weights come from; None uses the architecture's facts alone.
    """
    architecture = request.architecture
    chosen = architecture.preprocessing
    if source is not None and source.header is not None:
        chosen = source.header.preprocessing
    elif source is not None and source.weights is not None and source.weights.preprocessing is not None:
        chosen = source.weights.preprocessing
    height, width = chosen.input_size[1:]
    if request.image_size is not None:
        height = width = request.image_size
    return replace(
        chosen,
        input_size=(request.in_channels, height, width),
        mean=_for_channels(chosen.mean, request.in_channels),
        std=_for_channels(chosen.std, request.in_channels),
    )


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    weights: str | None = "default",
    in_channels: int = 3,
    options: Mapping[str, object] | None = None,
    seed: int = 0,
    offline: bool = False,
    allow_pth: bool = False,
    locked: bool = False,
    registry: str | Path | None = None,
) -> nn.Module:
    """Build an architecture with a head of its own size.

    Args:
        name: Architecture, preset or alias, for example ``"resnet50"``.
        num_classes: Number of outputs of the head, at least 1; None keeps the weights' own.
        weights: A tag of the architecture, a path to a ``.safetensors`` file, or None for random values.
        in_channels: Channels of the input: 1, 3 or 4; pretrained first convolutions are adapted.
        options: Options of the architecture by name.
        seed: For values that no weights give.
        offline: Never download.
        allow_pth: Read local ``.pth`` files too.
        locked: Refuse weights whose full hash ``registry.lock`` does not have.
        registry: A registry.toml that goes before all others.

    Returns:
        A float32 model on the CPU in eval mode, input ``(N, C, H, W)`` normalised with the architecture's mean and
        std, logits ``(N, num_classes)``.

    Raises:
        UnknownNameError: No plugin provides ``name``; close matches are listed.
        BrokenPluginError: The plugin that provides it failed to load; its error is the cause.
        WeightsError: The file is missing, its hash differs, or its shapes do not fit.
    """
    if num_classes is not None and num_classes < 1:
        raise OptionError(f"num_classes = {num_classes} is less than 1.")
    plugins = open_plugins(registry)
    request = request_model(plugins, name, weights=weights, options=options, in_channels=in_channels)
    preset = request.resolved.preset
    if num_classes is None and preset is not None:
        num_classes = preset.num_classes
    model = build_model(
        plugins, request, num_classes=num_classes, seed=seed, offline=offline, allow_pth=allow_pth, locked=locked
    )
    return model.module


def load(path: str | Path, *, registry: str | Path | None = None) -> Model:
    """Load an artifact that ``finetune`` or ``export`` wrote.

    Args:
        path: The ``.safetensors`` file.
        registry: A registry.toml that goes before all others.

    Returns:
        The model in eval mode, with its classes and preprocessing.

    Raises:
        ArtifactError: The file is missing, damaged or not an artifact.
        UnknownNameError: The plugin that provides its architecture is not installed; the message names it.
    """
    return load_artifact(open_plugins(registry), Path(path))


def load_artifact(plugins: Plugins, path: Path) -> Model:
    """As :func:`load`, with plugins that are open already."""
    header, state = read_artifact(path)
    return model_of(plugins, header, state, source=Source.artifact(path, header))


def model_of(plugins: Plugins, header: Header, state: Mapping[str, object], *, source: Source) -> Model:
    """Build a fresh model from an artifact's content.

    Raises:
        WeightsError: The tensors do not fill the architecture exactly.
    """
    plugin, _, _ = header.architecture.partition("/")
    if plugin not in {record.name for record in plugins.records()}:
        distribution, version = ascii_safe(header.plugin.distribution), ascii_safe(header.plugin.version)
        raise WeightsError(
            f"this artifact's architecture {ascii_safe(header.architecture)} needs the plugin {ascii_safe(plugin)!r}, "
            f"which is not installed. It says that it was written with the distribution {distribution} {version}; if "
            f"you trust that: pip install {distribution}."
        )
    resolved = plugins.resolve(header.architecture)
    architecture = resolved.architecture
    hooks = plugins.hooks(plugin)
    options = architecture.parse_options(header.options)
    module, report = build(
        hooks,
        architecture,
        num_classes=len(header.classes),
        in_channels=header.in_channels,
        options=options,
        state=state,  # type: ignore[arg-type]
        seed=0,
    )
    if report.initialised or report.dropped or report.adapted:
        raise WeightsError(
            f"{source.spec} does not fill {header.architecture} as version {hooks.record.version} of "
            f"{hooks.record.distribution} builds it (written with {header.plugin.version}); without a value: "
            f"{', '.join([*report.initialised, *report.dropped, *report.adapted][:5])}."
        )
    return Model(
        architecture=architecture,
        hooks=hooks,
        module=module,
        options=options,
        in_channels=header.in_channels,
        preprocessing=header.preprocessing,
        classes=tuple(header.classes),
        source=source,
        loaded=report,
        header=header,
    )


def _for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(values) == channels:
        return values
    average = sum(values[:3]) / len(values[:3])
    return (*values[:3], average) if channels == 4 and len(values) == 3 else (average,) * channels
