"""Features of frozen parts: computed once, found again, and the same as without the store."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import zoo.features.frozen
from zoo.architecture import Preprocessing
from zoo.chain import Chain, Stage
from zoo.data import ImageBatches, ImageReader, evaluation_steps, training_steps
from zoo.features.frozen import FeatureCache, FrozenFeatures, View
from zoo.features.segments import record_type
from zoo.phases import Front
from zoo.phases.feed import Feed, with_features
from zoo.progress import Advance
from zoo.recipes import Phase
from zoo.training.engine import Engine, Numerics
from zoo.training.inference import inputs_of

PREPROCESSING = Preprocessing(input_size=(3, 12, 12))
ENGINE = Engine(torch.device("cpu"), Numerics("float32", True, 4, torch.get_num_threads(), {}))
PLAIN = View()
BF16 = Engine(torch.device("cpu"), Numerics("bfloat16", True, 4, torch.get_num_threads(), {}))


class Told:
    """Progress that keeps what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.computed = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    @contextmanager
    def task(self, label: str, total: int | None = None, *, unit: str = "") -> Iterator[Advance]:
        def advance(count: int) -> None:
            self.computed += count * (label == "computing features")

        yield advance


def make_chain() -> Chain:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    body = nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    head = nn.Linear(16, 3)
    model = nn.Sequential(stem, body, head)
    for norm in (stem[1], body[1]):
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 2)
    return Chain(model.eval(), [Stage("stem", stem), Stage("body", body), Stage("head", head)])


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    (tmp_path / "photos").mkdir()
    return [write_photo(tmp_path / "photos" / f"{i}.png", i) for i in range(13)]


def write_photo(path: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def cache_of(paths: Sequence[Path], folder: Path, engine: Engine = ENGINE) -> FeatureCache:
    digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    precision = engine.numerics.precision
    return FeatureCache({"architecture": "test/test"}, PREPROCESSING, digests, precision, folder / "features")


def frozen(
    paths: Sequence[Path], folder: Path, *, stages: int = 2, engine: Engine = ENGINE, told: Told | None = None
) -> FrozenFeatures:
    chain = make_chain()
    digest = chain.digest(chain.cut(chain.names[stages]))
    return FrozenFeatures(
        chain.part(0, stages),
        digest=digest,
        cache=cache_of(paths, folder, engine),
        engine=engine,
        progress=told or Told(),
    )


def uncached(paths: Sequence[Path], *, stages: int = 2, engine: Engine = ENGINE) -> Tensor:
    chain = make_chain()
    pixels = ImageReader(paths, PREPROCESSING).read(range(len(paths)))
    with torch.inference_mode(), engine.autocast():
        features = chain.part(0, stages)(engine.lay_out(zoo.features.frozen.normalise(pixels, PREPROCESSING)))
    assert isinstance(features, Tensor)
    return features


def values(features: FrozenFeatures, paths: Sequence[Path], view: View = PLAIN) -> Tensor:
    found = features.rows(ImageReader(paths, PREPROCESSING), paths, view).take(np.arange(len(paths)))
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("stages", [1, 2])
def test_features_equal_those_of_the_frozen_part_in_float32(paths: list[Path], tmp_path: Path, stages: int) -> None:
    found = values(frozen(paths, tmp_path, stages=stages), paths)
    expected = uncached(paths, stages=stages)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_features_in_bfloat16_are_as_near_as_bfloat16_is(paths: list[Path], tmp_path: Path) -> None:
    found = values(frozen(paths, tmp_path, engine=BF16), paths)
    expected = uncached(paths)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() <= 0.02 * expected.norm()


def test_a_second_look_computes_nothing_and_gives_the_same_bits(paths: list[Path], tmp_path: Path) -> None:
    first = values(frozen(paths, tmp_path), paths)
    told = Told()
    again = values(frozen(paths, tmp_path, told=told), list(reversed(paths)))
    assert torch.equal(again.flip(0), first)
    assert told.computed == 0


def test_one_new_photo_is_one_row(paths: list[Path], tmp_path: Path) -> None:
    values(frozen(paths, tmp_path), paths)
    more = [*paths, write_photo(tmp_path / "photos" / "new.png", 99)]
    told = Told()
    found = values(frozen(more, tmp_path, told=told), more)
    assert told.computed == 1
    expected = uncached(more)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_same_photo_under_another_name_is_no_new_row(paths: list[Path], tmp_path: Path) -> None:
    values(frozen(paths, tmp_path), paths)
    copy = tmp_path / "copy.png"
    copy.write_bytes(paths[3].read_bytes())
    told = Told()
    values(frozen([copy], tmp_path, told=told), [copy])
    assert told.computed == 0


def test_a_row_does_not_depend_on_the_images_beside_it(paths: list[Path], tmp_path: Path) -> None:
    together = values(frozen(paths, tmp_path), paths)
    for i in (0, 7, 12):
        alone = values(frozen(paths, tmp_path / f"other {i}"), [paths[i]])
        assert torch.equal(alone[0], together[i])


def test_damaged_rows_are_computed_again(paths: list[Path], tmp_path: Path) -> None:
    features = frozen(paths, tmp_path)
    first = values(features, paths)
    path = features.store.folder / "rows-0.bin"
    content = bytearray(path.read_bytes())
    size = record_type(64).itemsize
    content[2 * size + 70] ^= 255
    content[9 * size + 70] ^= 255
    path.write_bytes(content)

    told = Told()
    again = values(frozen(paths, tmp_path, told=told), paths)
    assert torch.equal(again, first)
    assert told.computed == 2
    assert told.warnings == ["2 stored features were damaged and are computed again."]


def test_a_store_that_is_garbage_is_filled_again(paths: list[Path], tmp_path: Path) -> None:
    features = frozen(paths, tmp_path)
    first = values(features, paths)
    for path in features.store.folder.iterdir():
        path.write_bytes(b"garbage" * 1000)
    told = Told()
    assert torch.equal(values(frozen(paths, tmp_path, told=told), paths), first)
    assert told.computed == len(paths)


def test_features_stay_in_memory_where_they_cannot_be_written(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file where the folder should be")
    told = Told()
    found = values(frozen(paths, tmp_path, told=told), paths)
    expected = uncached(paths)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert "they stay in memory for this run" in told.warnings[0]
    assert len(told.warnings) == 1


def test_a_disk_that_fills_up_costs_only_what_it_did_not_take(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, room = os.write, [3]

    def full(descriptor: int, content: Any) -> int:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(28, "No space left on device")
        return write(descriptor, content)

    chosen = frozen(paths, tmp_path)
    values(frozen(paths, tmp_path / "warm"), paths)
    monkeypatch.setattr("zoo.features.segments.os.write", full)
    monkeypatch.setattr("zoo.training.extraction._LARGEST_BATCH", 3)
    monkeypatch.setattr("zoo.training.extraction._SMALLEST_BATCH", 3)
    features = frozen(paths, tmp_path)
    found = values(features, paths)
    monkeypatch.undo()
    expected = uncached(paths)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert chosen.store.key != features.store.key
    assert len(zoo.features.frozen.FeatureStore(features.store.facts, folder=tmp_path / "features")) == 9


def test_views_are_versions_that_stay(paths: list[Path], tmp_path: Path) -> None:
    features = frozen(paths, tmp_path)
    plain = values(features, paths)
    views = [values(features, paths, View("standard", 5, number)) for number in (0, 1)]
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(views[0], plain)
    told = Told()
    again = frozen(paths, tmp_path, told=told)
    assert torch.equal(values(again, paths[4:], View("standard", 5, 1)), views[1][4:])
    assert told.computed == 0


def test_a_view_is_drawn_from_the_photo_and_not_from_its_place(paths: list[Path], tmp_path: Path) -> None:
    first = values(frozen(paths, tmp_path / "a"), paths, View("light", 5, 0))
    second = values(frozen(paths[6:], tmp_path / "b"), paths[6:], View("light", 5, 0))
    assert (second - first[6:]).abs().max() <= 1e-5 * first.abs().max()


def labelled(paths: list[Path], *, train: bool = True, augment: Any = "none") -> ImageBatches:
    steps = training_steps(len(paths), 5, seed=3) if train else evaluation_steps(len(paths), 5)
    return ImageBatches(
        ImageReader(paths, PREPROCESSING),
        range(len(paths)),
        [i % 3 for i in range(len(paths))],
        steps=steps,
        pad_to=None if train else 5,
        augment=augment,
    )


@pytest.mark.parametrize("train", [True, False])
def test_batches_of_features_are_those_of_the_images(paths: list[Path], tmp_path: Path, train: bool) -> None:
    images = labelled(paths, train=train)
    features = frozen(paths, tmp_path).batches(images)
    assert len(features) == len(images)
    expected = uncached(paths)
    for epoch in (0, 1):
        for a, b in zip(features.epoch(epoch, start=1), images.epoch(epoch, start=1), strict=True):
            assert torch.equal(a.indices, b.indices)
            assert torch.equal(a.targets, b.targets)
            assert a.count == b.count
            assert isinstance(a.inputs, Tensor)
            assert (a.inputs - expected[a.indices]).abs().max() <= 1e-5 * expected.abs().max()


def fed(paths: list[Path], tmp_path: Path, phase: Phase, *, engine: Engine = ENGINE, told: Told | None = None) -> Feed:
    chain = make_chain()
    cut = chain.cut(phase.train)
    chain.freeze(cut)
    train = labelled(paths, augment=phase.augment)
    front = Front(PREPROCESSING, engine=engine, frozen=chain.part(0, cut.frozen_stages), augment=phase.augment)
    return with_features(
        Feed(train, labelled(paths, train=False), front, engine),
        chain,
        cut,
        phase,
        cache=cache_of(paths, tmp_path, engine),
        digest=chain.digest(cut),
        seed=0,
        progress=told or Told(),
    )


def test_a_frozen_phase_trains_on_features(paths: list[Path], tmp_path: Path) -> None:
    feed = fed(paths, tmp_path, Phase(epochs=2, train="head"), engine=BF16)
    assert feed.features is not None
    assert feed.front is inputs_of
    assert feed.engine.numerics.precision == "float32"
    batch = next(iter(feed.train.epoch(0)))
    assert isinstance(batch.inputs, Tensor)
    assert batch.inputs.dtype == torch.float32
    assert batch.inputs.shape == (5, 16) or batch.inputs.shape == (4, 16)


@pytest.mark.parametrize(
    "phase",
    [
        Phase(epochs=2, train="all"),
        Phase(epochs=2, train="head", augment="light"),
    ],
    ids=["nothing frozen", "other images each time"],
)
def test_a_phase_whose_frozen_part_gives_nothing_twice_trains_on_images(
    paths: list[Path], tmp_path: Path, phase: Phase
) -> None:
    assert fed(paths, tmp_path, phase).features is None


def test_epochs_take_turns_with_the_views(paths: list[Path], tmp_path: Path) -> None:
    told = Told()
    feed = fed(paths, tmp_path, Phase(epochs=4, train="head", augment="light", views=2), told=told)
    assert told.computed == 3 * len(paths), "two views to train on and the images as they are to validate on"
    inputs = [
        {int(i): batch.inputs[row] for batch in feed.train.epoch(e) for row, i in enumerate(batch.indices)}
        for e in range(3)
    ]
    assert all(torch.equal(inputs[0][i], inputs[2][i]) for i in inputs[0])
    assert not any(torch.equal(inputs[0][i], inputs[1][i]) for i in inputs[0])


def test_rows_that_are_slower_to_read_than_to_compute_are_not_kept(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo.features.frozen, "_SMALL_ROW_BYTES", 1000)
    told = Told()
    phase = Phase(epochs=50, train="body")
    assert fed(paths, tmp_path, phase, told=told).features is None
    assert "longer to keep and read than to compute" in told.notes[-1]
    monkeypatch.setattr(zoo.features.frozen, "_READ_BYTES_S", 1e15)
    assert fed(paths, tmp_path, phase).features is not None
    assert fed(paths, tmp_path, Phase(epochs=1, train="body")).features is None, "one use does not pay"


def test_features_beyond_the_size_limit_are_not_kept(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE_LIMIT", "500")
    told = Told()
    assert fed(paths, tmp_path, Phase(epochs=2, train="head"), told=told).features is None
    assert "more than the limit" in told.notes[-1]


# A process that computes features of the photos in argv[1] into argv[2], slowly: it writes a line a batch and waits
# for one on stdin.
_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_frozen as t
import zoo.training.extraction
zoo.training.extraction._LARGEST_BATCH = 8
folder, target = Path(sys.argv[1]), Path(sys.argv[2])
paths = sorted(folder.iterdir())
features = t.frozen(paths, target)
original = features._features
def slow(*arguments):
    found = original(*arguments)
    print("batch", flush=True)
    sys.stdin.readline()
    return found
features._features = slow
t.values(features, paths)
print("done", len(features.store), flush=True)
"""


def start(photos: Path, target: Path) -> "subprocess.Popen[str]":
    code = _CHILD.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(photos), str(target)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def go_on(process: "subprocess.Popen[str]") -> str:
    """The next line that a child says, having let it do one more batch."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline()


@pytest.fixture
def many(tmp_path: Path) -> list[Path]:
    (tmp_path / "many").mkdir()
    return [write_photo(tmp_path / "many" / f"{i:03}.png", i) for i in range(80)]


def test_a_killed_extraction_continues_where_it_stopped(
    many: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(many[0].parent, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "batch\n"
        for _ in range(4):
            assert go_on(process) == "batch\n"
        process.send_signal(signal.SIGKILL)
    monkeypatch.setattr("zoo.training.extraction._LARGEST_BATCH", 8)
    told = Told()
    found = values(frozen(many, tmp_path, told=told), many)
    assert told.computed == 80 - 4 * 8
    expected = uncached(many)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_two_processes_at_once_share_the_work(
    many: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start(many[0].parent, tmp_path) as first, start(many[0].parent, tmp_path) as second:
        lines = [p.stdout.readline() for p in (first, second) if p.stdout is not None]
        assert lines == ["batch\n", "batch\n"]
        running, steps = [first, second], 0
        while running:
            for process in list(running):
                steps += 1
                line = go_on(process)
                if line.startswith("done"):
                    assert line == "done 80\n"
                    running.remove(process)
    assert steps <= 10 + 4, "each batch is computed once, but for those that both had under way"
    monkeypatch.setattr("zoo.training.extraction._LARGEST_BATCH", 8)
    told = Told()
    found = values(frozen(many, tmp_path, told=told), many)
    assert told.computed == 0
    expected = uncached(many)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
