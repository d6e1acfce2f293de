"""Mixup and CutMix: every sample is mixed with its neighbour in the step.

The order of an epoch is random, so neighbours are random pairs; and since pairs stay together when a step is shared out
among processes or cut into parts, the same pairs are mixed whatever their number.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.recipes import Phase
from zoo.training.engine import Features, mix

_STREAM = 0x6D6978  # keeps these numbers apart from those of dropout


@dataclass(frozen=True)
class Mixture:
    """How one step mixes.

    Attributes:
        share: Of each sample itself; the rest is its neighbour's.
        box: For CutMix, top, bottom, left and right of what the neighbour gives, as shares of height and width; None
            for mixup.
    """

    share: float
    box: tuple[float, float, float, float] | None = None

    def features(self, x: Features, count: int) -> Features:
        """The first ``count`` samples mixed, the padding after them left as it is."""
        if isinstance(x, tuple):
            return tuple(self._mixed(part, count) for part in x)
        return self._mixed(x, count)

    def loss_share(self, x: Features) -> float:
        """Of a sample's own target in the loss: with CutMix the exact share of pixels that it keeps."""
        if self.box is None:
            return self.share
        assert isinstance(x, Tensor)
        top, bottom, left, right = self._pixels(x)
        return 1 - (bottom - top) * (right - left) / (x.shape[-2] * x.shape[-1])

    def _mixed(self, x: Tensor, count: int) -> Tensor:
        other = x[neighbours(count, x.device)]
        if self.box is None:
            mixed = torch.lerp(other, x[:count], self.share)
        else:
            top, bottom, left, right = self._pixels(x)
            mixed = x[:count].clone()
            mixed[..., top:bottom, left:right] = other[..., top:bottom, left:right]
        return mixed if count == len(x) else torch.cat([mixed, x[count:]])

    def _pixels(self, x: Tensor) -> tuple[int, int, int, int]:
        assert self.box is not None
        top, bottom, left, right = self.box
        height, width = x.shape[-2:]
        return round(top * height), round(bottom * height), round(left * width), round(right * width)


def draw_mixture(phase: Phase, *, seed: int, step: int) -> Mixture | None:
    """The mixture of one step, which depends on nothing but seed and step; None where the phase does not mix."""
    if not phase.mixup and not phase.cutmix:
        return None
    generator = np.random.Generator(np.random.Philox(mix(seed, _STREAM, step)))
    cut = generator.random() < 0.5 if phase.mixup and phase.cutmix else bool(phase.cutmix)
    alpha = phase.cutmix if cut else phase.mixup
    share = float(generator.beta(alpha, alpha))
    if not cut:
        return Mixture(share)
    side = (1 - share) ** 0.5
    y, x = float(generator.random()), float(generator.random())
    top, left = max(0.0, y - side / 2), max(0.0, x - side / 2)
    return Mixture(share, (top, min(1.0, y + side / 2), left, min(1.0, x + side / 2)))


def neighbours(count: int, device: torch.device) -> Tensor:
    """The other of each pair, int64 ``(count,)``: 1, 0, 3, 2, …; a last one without a pair is its own."""
    positions = torch.arange(count, device=device)
    return (positions ^ 1).clamp_max_(count - 1)
