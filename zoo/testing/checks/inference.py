"""Checks of the model in eval mode."""

from __future__ import annotations

import copy

import torch

from zoo.testing.check import CheckFailedError, NotApplicable, check, fail_unless
from zoo.testing.steps import training_outputs
from zoo.testing.subject import CLASSES, Subject, distance, logits

# Kernels for one image and for several, and for another memory layout, sum in another order.
_SUMMED_OTHERWISE = 1e-3
# bfloat16 keeps 8 bits of a number; over the layers of a network the errors of the figures add up to some percent.
_ROUNDED = 0.15
# More than the 16 from which some kernels, and some networks, do something else.
_LARGE_BATCH = 17


@check(
    why="Whatever uses a model counts on logits (images, classes).",
    advice="Return the logits alone in eval mode: float32, two dimensions, no tuple, no auxiliary output.",
)
def output_shape(subject: Subject) -> None:
    """In eval mode the model gives finite float32 logits, one row an image."""
    found = logits(subject.build(), subject.images(3))
    fail_unless(
        found.ndim == 2 and len(found) == 3,
        f"three images gave an output of shape {tuple(found.shape)} where (3, {CLASSES}) belongs",
    )
    fail_unless(found.dtype == torch.float32, f"the logits have dtype {found.dtype}")
    fail_unless(found.isfinite().all(), "the logits are not finite")


@check(
    needs=("builds_for_class_counts",),
    why="The loss applies softmax itself: over probabilities it trains slowly, and badly.",
    advice="Remove the softmax, sigmoid or log-softmax at the end of the network.",
)
def logits_not_probabilities(subject: Subject) -> None:
    """The model gives logits, not probabilities or their logarithms."""
    found = logits(subject.trained(), subject.images(3))
    for name, values in (("probabilities", found), ("logarithms of probabilities", found.exp())):
        sums = torch.allclose(values.sum(1), torch.ones(3), atol=1e-4) and bool((values >= 0).all())
        fail_unless(not sums, f"the outputs are {name}: those of each image add up to 1")
    bounded = bool(((found > 0) & (found < 1)).all()) and bool(
        ((large := logits(subject.trained(), 100 * subject.images(3))) >= 0).all() and (large <= 1).all()
    )
    fail_unless(not bounded, "the outputs stay between 0 and 1, as after a sigmoid")


@check(
    needs=("eval_deterministic",),
    why="A prediction for one photo must not depend on the photos beside it.",
    advice="Remove whatever mixes images in eval mode, a squeeze() that also drops the batch, and BatchNorm without "
    "running statistics.",
)
def batch_of_one(subject: Subject) -> None:
    """One image alone gives the logits that it gives in a batch of 17."""
    model, images = subject.trained(), subject.images(_LARGE_BATCH)
    together = logits(model, images)
    for i in (0, _LARGE_BATCH - 1):
        alone = logits(model, images[i : i + 1])
        fail_unless(
            alone.shape == (1, CLASSES),
            f"one image gave an output of shape {tuple(alone.shape)} where (1, {CLASSES}) belongs",
        )
        far = distance(alone, together[i : i + 1])
        fail_unless(far <= _SUMMED_OTHERWISE, f"alone and in a batch, the logits differ by {far:.1e} of the largest")


@check(
    needs=("builds_for_class_counts",),
    why="Evaluation, verification and cached features count on equal inputs giving equal outputs.",
    advice="Use nn.Dropout and nn.BatchNorm2d, which rest in eval mode; a functional dropout needs self.training.",
)
def eval_deterministic(subject: Subject) -> None:
    """In eval mode, the same 17 images give the same logits again, and no tensor of the model changes."""
    model, images = subject.trained(), subject.images(_LARGE_BATCH)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first, second = logits(model, images), logits(model, images)
    fail_unless(torch.equal(first, second), f"the second time, the logits differ by {distance(second, first):.1e}")
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    fail_unless(not changed, f"running it in eval mode changed {', '.join(changed[:3])}")


@check(
    needs=("builds_for_class_counts",),
    why="An image size that the facts allow is refused late, with an error of torch that names no image.",
    advice="Raise smallest_input or smallest_training_input in the facts, or pool adaptively.",
)
def smallest_sizes_honest(subject: Subject) -> None:
    """Images of smallest_input pixels can be evaluated, of smallest_training_input pixels trained."""
    facts = subject.architecture
    options = subject.at_size(facts.smallest_input)
    edge = subject.size(options)[0] if subject.has_option("image_size") else facts.smallest_input
    images = subject.images(2, size=(edge, edge))
    try:
        found = logits(subject.trained(options=options), images)
    except (RuntimeError, ValueError, IndexError) as error:
        raise CheckFailedError(f"images of {edge} pixels cannot be evaluated: {error}") from error
    fail_unless(
        found.shape == (2, CLASSES) and found.isfinite().all(),
        f"two images of {edge} pixels gave logits of shape {tuple(found.shape)}"
        + ("" if found.isfinite().all() else " that are not finite"),
    )
    options = subject.at_size(facts.smallest_training_input)
    edge = subject.size(options)[0] if subject.has_option("image_size") else facts.smallest_training_input
    model = subject.build(options=options)
    try:
        outputs = training_outputs(subject, model.train(), subject.images(2, size=(edge, edge)))
    except (RuntimeError, ValueError, IndexError) as error:
        raise CheckFailedError(f"images of {edge} pixels cannot be trained: {error}") from error
    fail_unless(
        all(output.isfinite().all() for output in outputs), f"training on images of {edge} pixels is not finite"
    )


@check(
    needs=("builds_for_class_counts",),
    why="--image-size asks for any size from smallest_input on, unless an option image_size states which there are.",
    advice="Pool adaptively, or give the architecture an option image_size with a minimum and a maximum.",
)
def sizes_above_smallest(subject: Subject) -> None:
    """Without an option image_size, larger images work too."""
    if subject.has_option("image_size"):
        raise NotApplicable("the option image_size states its sizes")
    model = subject.build()
    height, width = subject.size()
    for size in ((height + 32, width + 32), (height, width + 32), (height + 33, width + 65)):
        try:
            found = logits(model, subject.images(2, size=size))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise CheckFailedError(f"an image of {size[0]} × {size[1]} pixels does not run: {error}") from error
        fail_unless(found.shape == (2, CLASSES), f"size {size} gave an output of shape {tuple(found.shape)}")


@check(
    needs=("builds_for_class_counts",),
    why="Batches are kept and used again; one that a model changed gives other results the next time.",
    advice="No operation in place on what comes in: an activation with inplace=True belongs behind a layer of its own "
    "stage.",
)
def inputs_unchanged(subject: Subject) -> None:
    """Neither the model nor any stage changes its input in place."""
    model, images = subject.trained(), subject.images(2)
    kept = images.clone()
    with torch.no_grad():
        model(images)
        fail_unless(torch.equal(images, kept), "the model changed the images that it was given")
        features: object = kept.clone()
        for stage in subject.stages(model):
            given = features if isinstance(features, tuple) else (features,)
            before = [tensor.clone() for tensor in given]
            features = stage.module(features)
            same = all(torch.equal(one, other) for one, other in zip(given, before, strict=True))
            fail_unless(same, f"stage {stage.name!r} changed its input")


@check(
    needs=("eval_deterministic",),
    why="Training and evaluation run in bfloat16 where the hardware is faster in it.",
    advice="Keep values near 1 between layers, cast nothing by hand, and let autocast choose.",
)
def bfloat16_close(subject: Subject) -> None:
    """Under bfloat16 autocast the logits stay close to those of float32."""
    model, images = subject.trained(), subject.images(4)
    expected = logits(model, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = logits(model, images).float()
    far = float((found - expected).norm() / expected.norm().clamp_min(1e-6))
    fail_unless(far <= _ROUNDED, f"the logits are off by {far:.0%} (norm of the difference), more than {_ROUNDED:.0%}")


@check(
    needs=("eval_deterministic",),
    why="zoo lays images out with channels last where convolutions are faster so.",
    advice="Use flatten or reshape where view is, and no strides by hand.",
)
def channels_last_close(subject: Subject) -> None:
    """With channels last in memory the logits are the same, up to rounding."""
    model, images = subject.trained(), subject.images(2)
    expected = logits(model, images)
    try:
        found = logits(
            model.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)
        )
    except RuntimeError as error:
        raise CheckFailedError(f"it does not run: {error}") from error
    far = distance(found, expected)
    fail_unless(far <= _SUMMED_OTHERWISE, f"the logits differ by {far:.1e} of the largest")


@check(
    needs=("builds_for_class_counts",),
    why="On a GPU a tensor that forward makes on the CPU stops the run, hours after it passed on a laptop.",
    advice="Make constants buffers (register_buffer), new tensors with device=x.device, and branch on no value.",
)
def device_independent(subject: Subject) -> None:
    """Everything that forward uses moves with the model, tried on the device without values."""
    model = copy.deepcopy(subject.build()).to("meta")
    try:
        found = logits(model, subject.images(2).to("meta"))
    except (RuntimeError, NotImplementedError) as error:
        raise CheckFailedError(f"on another device: {error}") from error
    fail_unless(found.device.type == "meta", f"the logits are on {found.device}, not where the model is")
