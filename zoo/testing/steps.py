"""The steps of training that checks take, as zoo's trainer takes them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from zoo.chain import Chain, Cut, StageSequence
from zoo.testing.check import fail_unless
from zoo.testing.subject import CLASSES, Subject

_LR = 0.05


def training_outputs(subject: Subject, model: nn.Module, images: Tensor) -> list[Tensor]:
    """The logits of the head and then of the auxiliary heads, by way of the stages, in the mode the model is in."""
    return as_list(StageSequence(subject.stages(model))(images))


def as_list(output: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    """Logits alone, or followed by auxiliary ones, as a list."""
    return list(output) if isinstance(output, tuple) else [output]


def total_loss(part: StageSequence, outputs: list[Tensor]) -> Tensor:
    """Cross-entropy of the logits, and of the auxiliary ones by their weights."""
    targets = torch.arange(len(outputs[0])) % CLASSES
    loss = cross_entropy(outputs[0], targets)
    for weight, auxiliary in zip(part.auxiliary_weights, outputs[1:], strict=True):
        loss = loss + weight * cross_entropy(auxiliary, targets)
    return loss


def train(chain: Chain, cut: Cut, batches: list[Tensor]) -> Tensor:
    """Train what a cut leaves, one step a batch: the frozen stages without gradients, the rest with them.

    Returns:
        The last loss.
    """
    front, rest = chain.part(0, cut.frozen_stages), chain.part(cut.frozen_stages)
    groups = chain.parameter_groups(cut, lr=_LR, weight_decay=0.01)
    optimizer = torch.optim.SGD([{"params": group["params"]} for group in groups], lr=_LR, momentum=0.9)
    for images in batches:
        chain.freeze(cut)
        with torch.no_grad():
            features = front(images) if cut.frozen_stages else images
        loss = total_loss(rest, as_list(rest(features)))
        fail_unless(loss.isfinite(), f"the loss of training {sorted(cut.trained)[0]} and on is not finite")
        torch.autograd.backward(loss)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return loss.detach()
