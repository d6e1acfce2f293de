"""Proof that an artifact is what it claims to be: its check logits, and the hash of what was frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.artifact import Check, FreezeProof, Header, Parent, Plugin
from zoo.artifact import Numerics as UsedNumerics
from zoo.chain import combined_digest, tensor_digest
from zoo.errors import VerifyError
from zoo.models import Model, build_model, load_artifact, request_model
from zoo.phases.saving import FrozenPart
from zoo.plugins.catalogue import open_plugins
from zoo.training.engine import Numerics, Precision

_CHECK_IMAGES = 2
# Float32 sums in another order, on another machine or with another number of threads, differ by about this much.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verification:
    """What ``verify`` found; making one means that nothing was wrong.

    Attributes:
        artifact: The file.
        largest_difference: Between the recorded check logits and those of a freshly built model, relative to the
            largest recorded one.
        frozen_stages: Leading stages that no phase trained.
        parent: The weights that the frozen part was compared with; empty when none were given.
    """

    artifact: Path
    largest_difference: float
    frozen_stages: int
    parent: str


def verify(
    path: str | Path,
    *,
    parent: str | Path | None = None,
    allow_pth: bool = False,
    offline: bool = False,
    locked: bool = False,
    registry: str | Path | None = None,
) -> Verification:
    """Check an artifact against what its header says.

    The file is read, a model is built afresh and filled, and its logits of the recorded check input are compared.
    The frozen part is hashed again and compared with the proof. With ``parent``, the parent's weights are loaded as
    training loaded them, and their hash must be the one that training began with.

    Args:
        path: The artifact.
        parent: The weights it was trained from: a path, or a tag of the architecture.
        allow_pth: Read a local ``.pth`` parent, with pickle's code execution switched off.
        offline: Never download.
        locked: Refuse weights whose full hash ``registry.lock`` does not have.
        registry: A registry.toml that goes before all others.

    Raises:
        ArtifactError: The file is missing, damaged or not an artifact.
        VerifyError: Logits or hashes differ.
    """
    plugins = open_plugins(registry)
    path = Path(path)
    model = load_artifact(plugins, path)
    header = model.header
    assert header is not None
    difference = check_claims(model, header, path)
    proof = untouched_by(header.freeze)
    if parent is not None:
        if proof is None:
            raise VerifyError(
                f"{path} has no part that every phase froze, so there is nothing to compare with {parent}."
            )
        request = request_model(
            plugins,
            header.architecture,
            weights=str(parent),
            options=header.options,
            in_channels=header.in_channels,
        )
        original = build_model(
            plugins,
            request,
            classes=header.classes,
            seed=header.seed,
            offline=offline,
            allow_pth=allow_pth,
            locked=locked,
        )
        if frozen_digest(original, proof.train) != proof.before:
            raise VerifyError(
                f"the frozen part of {path} is not that of {parent}: another file was its parent, or it was changed."
            )
    return Verification(path, difference, proof.frozen_stages if proof else 0, str(parent or ""))


def check_claims(model: Model, header: Header, path: Path) -> float:
    """Compare a model that was read from an artifact with what the header says of tensors, stages and logits.

    Returns:
        How far its check logits are from the recorded ones, relative to the largest of those.

    Raises:
        VerifyError: Something differs.
    """
    if header.state_sha256 and header.state_sha256 != state_digest(model):
        raise VerifyError(
            f"the tensors in {path} are not those that training wrote: their hash differs from the header's."
        )
    trained = [phase["train"] for phase in header.recipe.phases if "train" in phase]
    if trained != [proof.train for proof in header.freeze]:
        raise VerifyError(
            f"{path} tells of {len(trained)} phase(s), {', '.join(trained) or 'none'}, and has proofs of freezing for "
            f"{len(header.freeze)}: {', '.join(proof.train for proof in header.freeze) or 'none'}."
        )
    chain = model.chain()
    for proof in header.freeze:
        frozen = chain.cut(proof.train).frozen_stages
        if frozen != proof.frozen_stages:
            raise VerifyError(
                f"{path} says that train = {proof.train!r} froze {proof.frozen_stages} stages of "
                f"{model.architecture.full_name}; it freezes {frozen}."
            )
    if (rests := untouched_by(header.freeze)) and frozen_digest(model, rests.train) != rests.after:
        raise VerifyError(f"the frozen part of {path} is not what training left: its hash differs from the header's.")
    return largest_difference(model, header)


def untouched_by(frozen: Sequence[FreezeProof]) -> FreezeProof | None:
    """The proof for the stages that no phase trained; None where every stage was trained."""
    least = min(frozen, key=lambda proof: proof.frozen_stages, default=None)
    return least if least is not None and least.frozen_stages else None


def frozen_digest(model: Model, train: str) -> str:
    """SHA-256 over the tensors of a model that a phase with this ``train`` freezes."""
    chain = model.chain()
    return chain.digest(chain.cut(train))


def check_logits(model: Model, seed: int) -> Check:
    """The logits of an input that anyone can draw again, float32 on the CPU."""
    logits = _logits(model, seed)
    return Check(seed=seed, logits=[[float(value) for value in row] for row in logits.tolist()])


def state_digest(model: Model) -> str:
    """SHA-256 over the tensors of a model as its artifact holds them."""
    state = model.hooks.export_state(model.architecture, model.module)
    return combined_digest({name: tensor_digest(tensor) for name, tensor in state.items()})


def largest_difference(model: Model, header: Header) -> float:
    """How far a model's check logits are from the recorded ones, relative to the largest of those.

    Raises:
        VerifyError: Farther than float32 arithmetic explains.
    """
    recorded = torch.tensor(header.check.logits)
    found = _logits(model, header.check.seed)
    if recorded.shape != found.shape:
        raise VerifyError(
            f"the artifact records check logits of shape {tuple(recorded.shape)}, not {tuple(found.shape)}."
        )
    difference = float((recorded - found).abs().max() / recorded.abs().max().clamp_min(1e-6))
    if not difference <= _TOLERANCE:
        raise VerifyError(
            f"the model read back from the artifact gives other logits than the one that was trained: they differ by "
            f"{difference:.2e} relative to the largest, more than {_TOLERANCE:g}."
        )
    return difference


def freeze_proofs(frozen: Sequence[FrozenPart]) -> list[FreezeProof]:
    """The header's form of what each phase froze."""
    return [
        FreezeProof(
            phase=part.phase,
            train=part.train,
            frozen_stages=part.frozen_stages,
            before=part.before,
            after=part.after,
        )
        for part in frozen
    ]


def plugin_facts(model: Model) -> Plugin:
    """The header's form of the plugin that built a model."""
    record = model.hooks.record
    return Plugin(name=record.name, distribution=record.distribution, version=record.version)


def parent_of(model: Model) -> Parent:
    """The header's form of where a model's values came from."""
    source = model.source
    return Parent(kind=source.kind, spec=source.spec, sha256=source.sha256, licence=source.licence)


def header_numerics(
    numerics: Numerics, *, feature_stages: int = 0, feature_precision: Precision = "float32"
) -> UsedNumerics:
    """The header's form of the numerics that the figures were taken in."""
    return UsedNumerics(
        precision=numerics.precision,
        channels_last=numerics.channels_last,
        batch_size=numerics.batch_size,
        threads=numerics.threads,
        feature_stages=feature_stages,
        feature_precision=feature_precision if feature_stages else "",
    )


def _logits(model: Model, seed: int) -> Tensor:
    # NumPy's Philox stream is stable over versions and platforms, which torch's is not promised to be.
    generator = np.random.Generator(np.random.Philox(seed))
    shape = (_CHECK_IMAGES, *model.preprocessing.input_size)
    images = torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
    with torch.inference_mode():
        logits: Tensor = model.module.eval()(images)
    return logits.float()
