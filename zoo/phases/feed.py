"""What a phase trains on, and a model is measured on: images, or features of them that were computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from zoo.chain import Chain, Cut
from zoo.data import ImageBatches
from zoo.features.frozen import FeatureCache, FrozenFeatures, View, suffix_engine
from zoo.progress import Progress, Silent
from zoo.recipes import Phase, Recipe
from zoo.training.batches import Batches
from zoo.training.engine import Engine
from zoo.training.extraction import choose_pass_numerics
from zoo.training.inference import Front, inputs_of, predict_logits


@dataclass(frozen=True)
class Feed:
    """Batches, and what happens to one before the module.

    Attributes:
        train: Training batches.
        val: Validation batches, or None.
        front: Maps a batch to what the module is fed.
        engine: Where the module runs, in which numerics.
        features: What gives the batches' features, where they are features.
    """

    train: Batches
    val: Batches | None
    front: Front
    engine: Engine
    features: FrozenFeatures | None = None


class Splits(Protocol):
    """Where batches of images come from."""

    def batches(self, split: str, *, batch_size: int) -> Batches:
        """Batches of a split in the data's order."""


def with_features(
    feed: Feed,
    chain: Chain,
    cut: Cut,
    phase: Phase,
    *,
    cache: FeatureCache | None,
    digest: str,
    seed: int,
    measured: bool = False,
    progress: Progress = Silent(),
) -> Feed:
    """The feed with features in place of images, where the frozen part gives the same in every epoch and it pays.

    Args:
        feed: Images, with a front that runs the frozen part.
        chain: The model's stages, frozen as the phase needs it.
        cut: Where the phase cuts.
        phase: Whose augmentation and views count.
        cache: What the features depend on; None keeps none.
        digest: SHA-256 of the frozen tensors.
        seed: Decides the views.
        measured: Whether the model will be measured on these features, so that those of all splits are needed.
        progress: Where to say what is computed.
    """
    train, val = feed.train, feed.val
    if cache is None or not cut.frozen_stages or cut.partial or not isinstance(train, ImageBatches):
        return feed
    if phase.augment != "none" and not phase.views:
        progress.note(
            f"the frozen part runs in every epoch, since augment = {phase.augment!r} changes the images each time; "
            "--augment none or --views K would run it once"
        )
        return feed
    views = views_of(phase, seed)
    part = chain.part(0, cut.frozen_stages)
    features = cache.features(part, digest=digest, engine=feed.engine, progress=progress)
    validated = len(val.targets) if isinstance(val, ImageBatches) else 0
    reason = features.reason_against(len(views) * len(train.targets) + validated, uses=-(-phase.epochs // len(views)))
    if reason:
        instead = "; every epoch sees new versions instead of views" if phase.views else ""
        progress.note(f"features are not kept, and the frozen part runs in every epoch: {reason}{instead}")
        return feed
    if measured:
        # In one go, so that there is one incomplete batch and not one a split.
        trained = set() if phase.augment == "none" else {train.reader.paths[i] for i in train.positions.tolist()}
        paths = [path for path in train.reader.paths if path in cache.digests and path not in trained]
        features.rows(train.reader, paths)
    engine = suffix_engine(feed.engine, chain.part(cut.frozen_stages))
    float32 = engine.numerics.precision == "float32"
    return Feed(
        features.batches(train, views, float32=float32),
        features.batches(val, float32=float32) if isinstance(val, ImageBatches) else None,
        inputs_of,
        engine,
        features,
    )


def pass_choices(
    chain: Chain, recipe: Recipe, *, engine: Engine, cache: FeatureCache | None
) -> dict[str, object] | None:
    """How the features of the largest frozen part are computed, each choice with its reason, for ``config.toml``.

    Args:
        chain: The model's stages.
        recipe: Whose phases freeze some.
        engine: Where to compute.
        cache: What the features depend on.

    Returns:
        Plain values; None where no features are kept.
    """
    stages = max(chain.cut(phase.train).frozen_stages for phase in recipe.phases)
    if cache is None or not stages:
        return None
    chosen = choose_pass_numerics(
        chain.part(0, stages), engine, precision=cache.precision, input_size=cache.preprocessing.input_size
    )
    return {
        "precision": chosen.numerics.precision,
        "channels_last": chosen.numerics.channels_last,
        "batch_size": chosen.numerics.batch_size,
        "folding": chosen.folding,
        "fusing": chosen.fusing,
        "compiling": False,
        **{f"{choice}_reason": reason for choice, reason in chosen.reasons.items()},
    }


def views_of(phase: Phase, seed: int) -> Sequence[View]:
    """The versions of each training image that a phase keeps."""
    if phase.augment == "none":
        return (View(),)
    return tuple(View(phase.augment, seed, number) for number in range(phase.views))


def split_logits(
    chain: Chain,
    images: Splits,
    split: str,
    *,
    engine: Engine,
    front: Front,
    feature_stages: int = 0,
    cache: FeatureCache | None = None,
    progress: Progress = Silent(),
) -> tuple[Tensor, Tensor]:
    """A model's logits and the targets of a split, as :func:`zoo.training.inference.predict_logits` gives them.

    Args:
        chain: The model's stages.
        images: Where the split's batches come from.
        split: Which.
        engine: Device and numerics.
        front: What happens to a batch of images before the model.
        feature_stages: Leading stages whose features are found or kept in the cache; 0 runs the whole model.
        cache: What the features depend on; None runs the whole model.
        progress: Where to say what is computed.
    """
    batches = images.batches(split, batch_size=engine.numerics.batch_size)
    label = f"measuring {split}"
    if cache is None or not feature_stages or not isinstance(batches, ImageBatches):
        return predict_logits(chain.model, batches, engine=engine, front=front, label=label, progress=progress)
    engine.place(chain.model)
    chain.model.eval()
    cut = chain.cut(f"last {len(chain) - feature_stages}")
    part = chain.part(0, feature_stages)
    features = cache.features(part, digest=chain.digest(cut), engine=engine, progress=progress)
    suffix = chain.part(feature_stages)
    chosen = suffix_engine(engine, suffix)
    rows = features.batches(batches, float32=chosen.numerics.precision == "float32")
    return predict_logits(suffix, rows, engine=chosen, label=label, progress=progress)
