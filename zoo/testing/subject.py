"""What the checks look at: one plugin, or one of its architectures, with the things that checks do to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from zoo.architecture import Architecture, OptionValue
from zoo.chain import Chain, Stage
from zoo.plugins import Plugins
from zoo.plugins.hooks import PluginHooks
from zoo.testing.check import fail_unless
from zoo.testing.probe import Findings, Task, probe

CLASSES = 5
# Larger images only make convolutions slower.
_LARGE_ENOUGH = 64


class PluginUnderTest:
    """A plugin, asked once for what several checks look at.

    Args:
        plugins: Where it is.
        name: Its name.

    Attributes:
        checked: Names of the architectures that are checked.
    """

    def __init__(self, plugins: Plugins, name: str) -> None:
        self.plugins = plugins
        self.name = name
        self.checked: tuple[str, ...] = ()

    @property
    def hooks(self) -> PluginHooks:
        """Its hooks; loads it."""
        return self.plugins.hooks(self.name)

    @cached_property
    def architectures(self) -> tuple[Architecture, ...]:
        """Its facts."""
        return self.hooks.architectures()

    @cached_property
    def findings(self) -> Findings:
        """What it did in a process of its own, where it built the architectures that are checked."""
        chosen = [architecture for architecture in self.architectures if architecture.name in self.checked]
        sizes = [Subject(self, architecture).size() for architecture in chosen]
        return probe(
            Task(
                module=self.hooks.record.module,
                architectures=[architecture.name for architecture in chosen],
                sizes=sizes,
                num_classes=CLASSES,
                threads=torch.get_num_threads(),
            )
        )


@dataclass(frozen=True)
class Subject:
    """What one check looks at.

    Attributes:
        plugin: The plugin.
        selected: The architecture, for checks of one.
    """

    plugin: PluginUnderTest
    selected: Architecture | None = None

    @property
    def architecture(self) -> Architecture:
        """The architecture."""
        assert self.selected is not None
        return self.selected

    @property
    def hooks(self) -> PluginHooks:
        """The plugin's hooks."""
        return self.plugin.hooks

    def has_option(self, name: str) -> bool:
        """Whether the architecture has an option of that name."""
        return any(option.name == name for option in self.architecture.options)

    def options(self, changes: Mapping[str, object] | None = None) -> dict[str, OptionValue]:
        """All options with their values: the defaults, but for those given."""
        return self.architecture.parse_options(changes or {})

    def at_size(self, edge: int) -> dict[str, OptionValue]:
        """Options for images of that many pixels, or the nearest that the option ``image_size`` allows."""
        if not self.has_option("image_size"):
            return self.options()
        option = self.architecture.option("image_size")
        edge = max(edge, int(option.minimum or 1))
        return self.options({"image_size": min(edge, int(option.maximum or edge))})

    def size(self, options: Mapping[str, OptionValue] | None = None) -> tuple[int, int]:
        """Height and width for a check: small, but not smaller than the facts allow for training."""
        if self.has_option("image_size"):
            edge = int(str((options or self.options())["image_size"]))
            return edge, edge
        facts = self.architecture
        enough = max(_LARGE_ENOUGH, facts.smallest_input, facts.smallest_training_input)
        height, width = facts.preprocessing.input_size[1:]
        return min(height, enough), min(width, enough)

    def images(
        self, count: int = 3, *, in_channels: int = 3, size: tuple[int, int] | None = None, seed: int = 0
    ) -> Tensor:
        """Normalised images ``(count, in_channels, H, W)`` of noise."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, in_channels, *(size or self.size()), generator=generator)

    def build(
        self,
        *,
        num_classes: int = CLASSES,
        in_channels: int = 3,
        options: Mapping[str, OptionValue] | None = None,
        seed: int = 0,
    ) -> nn.Module:
        """A model with random values, in eval mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.hooks.build_model(
                self.architecture,
                num_classes=num_classes,
                in_channels=in_channels,
                options=dict(options if options is not None else self.options()),
            ).eval()

    def trained(self, *, options: Mapping[str, OptionValue] | None = None, seed: int = 0) -> nn.Module:
        """A model whose tensors are all moved off their initial values, which often hide what a layer does."""
        model = self.build(options=options, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(noise * 0.1 * max(float(parameter.abs().mean()), 0.05))
            for name, buffer in model.named_buffers():
                if name.endswith("running_mean"):
                    buffer.add_(0.1 * torch.randn(buffer.shape, generator=generator))
                elif name.endswith("running_var"):
                    buffer.mul_(0.8 + 0.4 * torch.rand(buffer.shape, generator=generator))
        return model

    def stages(self, model: nn.Module) -> Sequence[Stage]:
        """The plugin's stages of a model."""
        return self.hooks.stages(self.architecture, model)

    def chain(self, model: nn.Module) -> Chain:
        """The stages as zoo uses them."""
        return self.hooks.chain(self.architecture, model)


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """What a model gives for images, as prediction computes it.

    Raises:
        CheckFailedError: It is no tensor.
    """
    with torch.inference_mode():
        output = model(images)
    fail_unless(
        isinstance(output, torch.Tensor),
        f"in eval mode the model returned a value of type {type(output).__name__} instead of a tensor of logits",
    )
    found: Tensor = output
    return found


def distance(found: Tensor, expected: Tensor) -> float:
    """How far two tensors are apart, relative to the largest value expected."""
    return float((found.float() - expected.float()).abs().max() / expected.float().abs().max().clamp_min(1e-6))
