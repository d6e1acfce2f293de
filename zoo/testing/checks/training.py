"""Checks of training: gradients, auxiliary heads, and that what is frozen rests."""

from __future__ import annotations

import torch

from zoo.testing.check import NotApplicable, check, fail_unless
from zoo.testing.steps import as_list, total_loss, train
from zoo.testing.subject import CLASSES, Subject

_MOST_CUTS = 12
_STEPS = 5
_IMAGES = 4


@check(
    needs=("tensors_owned_once", "builds_for_class_counts"),
    why="A parameter without a gradient never learns, and stops distributed training.",
    advice="Remove detach(), no_grad() and .data from forward, and parameters that nothing uses.",
)
def loss_and_gradients(subject: Subject) -> None:
    """The loss is finite, and gradients reach every parameter that trains, auxiliary heads included."""
    model = subject.build()
    chain = subject.chain(model)
    chain.freeze(chain.cut("all"))
    part = chain.part()
    loss = total_loss(part, as_list(part(subject.images(_IMAGES))))
    fail_unless(loss.isfinite(), "the loss is not finite")
    fail_unless(loss.requires_grad, "the loss does not depend on any parameter")
    torch.autograd.backward(loss)
    unreached = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    fail_unless(not unreached, f"no gradient reaches {len(unreached)} parameters: {', '.join(unreached[:3])}")
    infinite = [name for name, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    fail_unless(not infinite, f"the gradient is not finite for {', '.join(infinite[:3])}")


@check(
    needs=("loss_and_gradients",),
    why="Training that cannot fit eight images will not fit eight thousand.",
    advice="Look for a wrong activation before the head, a scale far from 1, or values that training cannot reach.",
)
def training_learns(subject: Subject) -> None:
    """Some steps on one batch make its loss smaller."""
    model = subject.build()
    chain = subject.chain(model)
    cut = chain.cut("all")
    images = subject.images(_IMAGES)
    losses = [float(train(chain, cut, [images])) for _ in range(_STEPS)]
    fail_unless(
        min(losses[1:]) < losses[0],
        f"over {_STEPS} steps on one batch the loss went from {losses[0]:.3f} to "
        f"{losses[-1]:.3f} and was never below its start",
    )


@check(
    needs=("loss_and_gradients",),
    why="Freezing is zoo's promise: computed once, proven by a hash, the same file as the parent's.",
    advice="Let forward change no buffer but BatchNorm's, leave .train() alone, and use no layer in two stages.",
)
def frozen_prefix_rests(subject: Subject) -> None:
    """Whatever first stages are frozen, training leaves them bit-equal, and changes the rest."""
    model = subject.trained()
    chain = subject.chain(model)
    cuts = _cuts(chain.names, bool(subject.architecture.head_parameters))
    for name in cuts:
        cut = chain.cut(name)
        before = chain.digests(cut)
        parameters = {n: p.detach().clone() for n, p in model.named_parameters() if n in cut.trained}
        train(chain, cut, [subject.images(_IMAGES, seed=seed) for seed in range(2)])
        after = chain.digests(cut)
        changed = [n for n in before if before[n] != after[n]]
        fail_unless(not changed, f"with train = {name!r}, training changed the frozen {', '.join(changed[:3])}")
        moved = any(not torch.equal(parameters[n], p) for n, p in model.named_parameters() if n in parameters)
        fail_unless(moved, f"with train = {name!r}, training changed nothing at all")


@check(
    needs=("tensors_owned_once", "builds_for_class_counts"),
    why="An auxiliary head's loss is added with its weight while its stage trains, and left out when that is frozen.",
    advice="Give the stage auxiliary=MODULE, a function of the stage's own output, and an auxiliary_weight above 0.",
)
def auxiliary_heads(subject: Subject) -> None:
    """Auxiliary heads give logits of their own while their stage trains, and rest otherwise."""
    chain = subject.chain(subject.build())
    positions = [i for i, stage in enumerate(chain) if stage.auxiliary is not None]
    for stage in chain:
        weighs = stage.auxiliary_weight > 0
        if stage.auxiliary is None:
            fail_unless(not weighs, f"stage {stage.name!r} has an auxiliary_weight and no auxiliary head")
        else:
            fail_unless(weighs, f"the auxiliary head of stage {stage.name!r} has weight {stage.auxiliary_weight}")
    if not positions:
        raise NotApplicable("it has no auxiliary heads")
    fail_unless(positions[-1] < len(chain) - 1, "the head has an auxiliary head")
    chain.freeze(chain.cut("all"))
    outputs = as_list(chain.part()(subject.images(_IMAGES)))
    for i, output in zip(positions, outputs[1:], strict=True):
        fail_unless(
            tuple(output.shape) == (_IMAGES, CLASSES),
            f"the auxiliary head of stage {chain[i].name!r} gave {tuple(output.shape)} where "
            f"({_IMAGES}, {CLASSES}) belongs",
        )


def _cuts(names: tuple[str, ...], partial: bool) -> list[str]:
    if partial:
        return ["head"]
    later = list(names[1:])
    if len(later) <= _MOST_CUTS:
        return later
    step = len(later) / _MOST_CUTS
    return [*(later[int(i * step)] for i in range(_MOST_CUTS - 1)), later[-1]]
