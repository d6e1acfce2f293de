"""What a frozen part gives for images, computed once: found in the store, or computed and put there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import PIL
import torch
from torch import Tensor

from zoo.architecture import Preprocessing
from zoo.chain import Features, StageSequence
from zoo.data import ImageBatches, ImageReader, Request, augment_batch, normalise, uniforms
from zoo.data.augment import CROP_DRAWS, CROPPING
from zoo.faults import fault
from zoo.features import (
    FeatureBatches,
    FeatureStore,
    Layout,
    RowWriter,
    StoredRows,
    make_room,
    row_key,
    size_limit,
)
from zoo.progress import Progress, Silent
from zoo.recipes import Augment
from zoo.training.allocator import kept_memory
from zoo.training.engine import Engine, Precision
from zoo.training.extraction import FrozenPass, choose_pass_numerics, multiply_adds

# Counts up when decoding, augmentation or the pass change what they give.
_VERSION = 2
# Vectors of any network are smaller; maps of features are mostly larger.
_SMALL_ROW_BYTES = 64 << 10
# What reading a row is taken to cost against computing it, by rule so that equal runs choose equally: a disk's bytes
# and a processor's or a GPU's multiply-adds a second.
_READ_BYTES_S = 500e6
_MULTIPLY_ADDS_S = {"cpu": 150e9, "cuda": 50e12}
_ATTEMPTS = 3
# Most parameters of a suffix without convolutions that trains on one thread.
_ONE_THREAD = 1 << 18


@dataclass(frozen=True)
class View:
    """One version of every image.

    Attributes:
        augment: What was changed about it.
        seed: Decides the changes, with the image's content.
        number: Which of several versions.
    """

    augment: Augment = "none"
    seed: int = 0
    number: int = 0

    @property
    def name(self) -> str:
        """What its rows are kept under; empty for the image as it is."""
        return "" if self.augment == "none" else f"{self.augment} {self.seed} {self.number}"


@dataclass(frozen=True)
class FeatureCache:
    """What the features of a model's frozen parts depend on besides the part and the numerics.

    Attributes:
        identity: Architecture, options and plugin, as plain values.
        preprocessing: How an image becomes the input.
        digests: SHA-256 of each image's content.
        precision: What the frozen part computes in, from :func:`zoo.training.extraction.choose_pass_precision`.
        folder: Where the stores are; None takes the user's cache.
    """

    identity: Mapping[str, object]
    preprocessing: Preprocessing
    digests: Mapping[Path, str]
    precision: Precision = "float32"
    folder: Path | None = None
    _latest: list[FrozenFeatures] = field(default_factory=list, init=False, repr=False, compare=False)

    def features(
        self, part: StageSequence, *, digest: str, engine: Engine, progress: Progress = Silent()
    ) -> FrozenFeatures:
        """The features of a frozen part: the latest ones again where they are of the same part, with their fast copy.

        Args:
            part: The leading stages, frozen and in eval mode, at least one.
            digest: SHA-256 of their parameters and buffers.
            engine: Where to compute; decides the numerics by rule.
            progress: Where to say what is computed.
        """
        features = FrozenFeatures(part, digest=digest, cache=self, engine=engine, progress=progress)
        if self._latest and self._latest[0].store.key == features.store.key:
            return self._latest[0]
        self._latest[:] = [features]
        return features


class FrozenFeatures:
    """The features of one frozen part.

    Args:
        part: The leading stages, frozen and in eval mode, at least one.
        digest: SHA-256 of their parameters and buffers.
        cache: What else the features depend on.
        engine: Where to compute; decides the numerics by rule.
        progress: Where to say what is computed.
    """

    def __init__(
        self, part: StageSequence, *, digest: str, cache: FeatureCache, engine: Engine, progress: Progress = Silent()
    ) -> None:
        self._part = part
        self._cache = cache
        self._engine = engine
        self._progress = progress
        self._pass: FrozenPass | None = None
        self._warned = False
        self.chosen = choose_pass_numerics(
            part, engine, precision=cache.precision, input_size=cache.preprocessing.input_size
        )
        facts = {
            "version": _VERSION,
            "frozen": digest,
            "stages": len(part.stages),
            "model": dict(cache.identity),
            "preprocessing": asdict(cache.preprocessing),
            "numerics": self.chosen.facts(),
            "pillow": PIL.__version__,
        }
        self.store = FeatureStore(facts, folder=cache.folder)

    def reason_against(self, images: int, *, uses: int) -> str:
        """Why keeping the features would not pay, by rule; empty where it does.

        Args:
            images: How many images there are, times their views.
            uses: How often each would be read.
        """
        row_bytes = self._layout().row_bytes
        needed, limit = images * row_bytes, size_limit()
        if needed > limit:
            return f"{images:,} rows of {row_bytes / 1000:,.0f} kB are more than the limit of {limit / 1e9:g} GB"
        if row_bytes <= _SMALL_ROW_BYTES:
            return ""
        computing = float(str(self.store.notes["multiply_adds"])) / _MULTIPLY_ADDS_S.get(self._engine.device.type, 1e12)
        reading = row_bytes / _READ_BYTES_S
        if computing + (uses + 1) * reading >= uses * computing:
            return f"{row_bytes / 1000:,.0f} kB an image take longer to keep and read than to compute"
        return ""

    def batches(
        self, images: ImageBatches, views: Sequence[View] = (View(),), *, float32: bool = False
    ) -> FeatureBatches:
        """The same batches with features in place of images; what is missing is computed first.

        Args:
            images: Which images, in which order.
            views: Versions of the images; epochs take turns.
            float32: Whether bfloat16 features are given as float32.
        """
        paths = [images.reader.paths[position] for position in images.positions.tolist()]
        rows = [replace(self.rows(images.reader, paths, view), float32=float32) for view in views]
        return FeatureBatches(rows, images.targets, steps=images.steps, pad_to=images.pad_to)

    def rows(self, reader: ImageReader, paths: Sequence[Path], view: View = View()) -> StoredRows:
        """The features of some images, computed where they are missing.

        Args:
            reader: Reads them.
            paths: The images; the rows are in this order.
            view: Which version of them.
        """
        keys = [row_key(self._cache.digests[path], view.name) for path in paths]
        places = self.store.find(keys)
        if self.store.damaged:
            self._progress.warn(f"{self.store.damaged} stored features were damaged and are computed again.")
            self.store.damaged = 0
        for attempt in range(_ATTEMPTS):
            missing = {keys[i]: paths[i] for i in np.flatnonzero(places < 0).tolist()}
            if not missing:
                break
            self._compute(reader, missing, view, to_disk=attempt < _ATTEMPTS - 1)
            places = self.store.find(keys)
        assert (places >= 0).all()
        return StoredRows(self.store, places)

    def images_per_s(self, *, batches: int) -> float:
        """Images a second that the pass gives features of, reading left out.

        Args:
            batches: How many to time, after one that is not.
        """
        passed, size = self._prepare(), self._engine_batch
        images = torch.zeros(size, *self._cache.preprocessing.input_size, device=self._engine.device)
        with kept_memory():
            _wait_for(passed(images))
            started = perf_counter()
            for _ in range(batches):
                features = passed(images)
            _wait_for(features)
        return batches * size / (perf_counter() - started)

    def _layout(self) -> Layout:
        if self.store.layout is None:
            self._prepare()
        assert self.store.layout is not None
        return self.store.layout

    def _prepare(self) -> FrozenPass:
        """Make the fast copy, and note in the store what its rows look like."""
        if self._pass is None:
            # Drawn on the CPU, so that every device sees the same.
            noise = np.random.Generator(np.random.Philox(0)).standard_normal(
                (1, *self._cache.preprocessing.input_size), dtype=np.float32
            )
            example = torch.from_numpy(noise)
            self._pass = FrozenPass(self._part, engine=self._engine, chosen=self.chosen, example=example)
            placed = example.to(self._engine.device)
            layout = Layout.of(self._pass(placed))
            notes: dict[str, object] = dict(self._pass.notes)
            if layout.row_bytes > _SMALL_ROW_BYTES:
                notes["multiply_adds"] = multiply_adds(self._part, self._engine.lay_out(placed))
            if self.store.layout != layout:
                self.store.describe(layout, notes)
            numerics, folded, fused = self.chosen.numerics, self._pass.folded, self._pass.fused
            self._progress.note(
                f"the frozen part runs once: {numerics.precision}, batches of {numerics.batch_size}, "
                + (f"{folded} BatchNorm layers folded, " if folded else f"{self._pass.notes['folding']}, ")
                + (f"{fused} activations and sums fused" if fused else self._pass.notes["fusing"])
            )
        return self._pass

    def _compute(self, reader: ImageReader, missing: Mapping[bytes, Path], view: View, *, to_disk: bool) -> None:
        self._prepare()
        started, computed = perf_counter(), 0
        waited = 0.0
        writer = self._open_writer() if to_disk else None
        with kept_memory(), self._progress.task("computing features", len(missing), unit="images") as advance:
            try:
                work = _Work(missing, self.store, self._engine_batch, first=writer.number if writer else 0)
                images = reader.ahead(self._requests(reader, missing, work, view))
                while True:
                    asked = perf_counter()
                    batch = next(images, None)
                    waited += perf_counter() - asked
                    if batch is None:
                        break
                    keys = work.under_way.pop(0)
                    features = self._features(batch, [missing[key] for key in keys], view)
                    writer = self._put(writer, keys, features)
                    fault("features")
                    computed += len(keys)
                    advance(len(keys) + work.found_elsewhere())
            finally:
                if writer is not None:
                    writer.close()
        self.store.refresh()
        if computed:
            self._report(computed, perf_counter() - started, waited)
        if to_disk:
            folder = self.store.folder
            for name in make_room(folder.parent, size_limit(), keep=folder) if folder.parent.is_dir() else ():
                self._progress.note(f"removed the stored features {name} to stay within the size limit")

    @property
    def _engine_batch(self) -> int:
        return self.chosen.numerics.batch_size

    def _requests(
        self, reader: ImageReader, missing: Mapping[bytes, Path], work: _Work, view: View
    ) -> Iterator[Request]:
        for keys in work:
            paths = [missing[key] for key in keys]
            crops = None
            if view.augment in CROPPING:
                crops = uniforms(view.seed, 0, self._numbers(paths), view.number, CROP_DRAWS)
            yield Request(reader.positions(paths), crops)

    def _numbers(self, paths: Sequence[Path]) -> list[int]:
        """What the changes of an image are drawn from: its content, so that they do not depend on the others."""
        return [int(self._cache.digests[path][:13], 16) for path in paths]

    def _features(self, images: Tensor, paths: Sequence[Path], view: View) -> Features:
        """Features of a batch of uint8 images; short batches are padded, so that all meet the same arithmetic."""
        count = len(images)
        rows = torch.arange(self._engine_batch).clamp_max(count - 1)
        pixels = images.to(self._engine.device, non_blocking=True)
        if count < self._engine_batch:
            pixels = pixels[rows.to(pixels.device)]
        numbers = np.array(self._numbers(paths), dtype=np.int64)[rows.numpy()]
        with torch.inference_mode():
            changed = augment_batch(
                pixels, augment=view.augment, seed=view.seed, epoch=0, indices=numbers, view=view.number
            )
            features = self._prepare()(normalise(changed, self._cache.preprocessing))
        return tuple(x[:count] for x in features) if isinstance(features, tuple) else features[:count]

    def _open_writer(self) -> RowWriter | None:
        try:
            return self.store.writer()
        except OSError as error:
            self._warn_unkept(error)
            return None

    def _put(self, writer: RowWriter | None, keys: Sequence[bytes], features: Features) -> RowWriter | None:
        if writer is not None:
            try:
                writer.append(keys, features)
                return writer
            except OSError as error:
                self._warn_unkept(error)
                writer.close()
        self.store.keep_in_memory(keys, features)
        return None

    def _warn_unkept(self, error: OSError) -> None:
        if self._warned:
            return
        self._warned = True
        self._progress.warn(
            f"features cannot be kept in {self.store.folder} ({error.strerror or error}); they stay in memory for this "
            "run. Make room there, or name another folder with ZOO_CACHE."
        )

    def _report(self, computed: int, seconds: float, waited: float) -> None:
        share = waited / seconds
        bottleneck = "decoding images" if share > 0.5 else "the frozen part itself"
        self._progress.note(
            f"features of {computed:,} images in {seconds:.1f} s ({computed / seconds:.1f} images/s, "
            f"{self._layout().row_bytes / 1000:,.1f} kB an image); {share:.0%} of it waiting for images: the "
            f"bottleneck is {bottleneck}"
        )


def suffix_engine(engine: Engine, suffix: torch.nn.Module) -> Engine:
    """The engine for what trains on features.

    Without convolutions bfloat16 saves nothing, so it is float32; and where a step is so little work that threads
    would wait for each other longer than they compute, and far longer beside another busy process, it is one thread.

    Args:
        engine: The run's.
        suffix: The stages after the frozen part.
    """
    if any(isinstance(m, torch.nn.Conv2d) for m in suffix.modules()):
        return engine
    numerics = engine.numerics
    if numerics.precision != "float32":
        reasons = {**numerics.reasons, "precision": "without convolutions bfloat16 saves nothing"}
        numerics = replace(numerics, precision="float32", reasons=reasons)
    if sum(parameter.numel() for parameter in suffix.parameters()) <= _ONE_THREAD:
        numerics = replace(numerics, threads=1)
    return engine.with_numerics(numerics)


def _wait_for(features: Features) -> None:
    first = features[0] if isinstance(features, tuple) else features
    float(first.flatten()[0])


class _Work:
    """Chunks of what is missing, less what other processes have done by the time that it is asked for.

    Args:
        missing: Keys, and anything.
        store: Where others put theirs.
        size: Keys a chunk.
        first: How many others were at work before; where to begin, so that two do not do the same.
    """

    def __init__(self, missing: Mapping[bytes, object], store: FeatureStore, size: int, *, first: int) -> None:
        keys = list(missing)
        chunks = [keys[i : i + size] for i in range(0, len(keys), size)]
        # The golden section spreads any number of processes evenly over the chunks.
        start = int(first * 0.618034 % 1 * len(chunks))
        self._chunks = chunks[start:] + chunks[:start]
        self._store = store
        self._elsewhere = 0
        self.under_way: list[list[bytes]] = []

    def __iter__(self) -> Iterator[list[bytes]]:
        for chunk in self._chunks:
            self._store.refresh()
            left = [key for key in chunk if key not in self._store]
            self._elsewhere += len(chunk) - len(left)
            if left:
                self.under_way.append(left)
                yield left

    def found_elsewhere(self) -> int:
        """How many others have done since this was last asked."""
        count, self._elsewhere = self._elsewhere, 0
        return count
