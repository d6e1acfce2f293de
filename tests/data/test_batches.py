from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.architecture import Preprocessing
from zoo.data import ImageBatches, ImageReader, evaluation_steps, training_steps
from zoo.training.batches import Batches

SMALL = Preprocessing(input_size=(3, 8, 8))


@pytest.fixture
def reader(folder_of: Callable[..., Path]) -> ImageReader:
    folder = folder_of(*[f"{number:02}.png" for number in range(11)])
    return ImageReader(sorted(folder.iterdir()), SMALL, workers=2)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (64, 32, [32, 32]),
        (65, 32, [22, 22, 21]),
        (33, 32, [17, 16]),
        (5, 32, [5]),
        (1, 32, [1]),
        (3, 2, [3]),
        (5, 2, [3, 2]),
        (4, 2, [2, 2]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_an_epoch_is_cut_into_nearly_equal_steps(count: int, batch_size: int, sizes: list[int]) -> None:
    steps = training_steps(count, batch_size, seed=0)(0)
    assert [len(step) for step in steps] == sizes
    assert sorted(np.concatenate(steps)) == list(range(count))


def test_no_step_has_a_single_image() -> None:
    for batch_size in range(2, 20):
        for count in range(2, 120):
            sizes = [len(step) for step in training_steps(count, batch_size, seed=0)(0)]
            assert min(sizes) >= 2
            assert max(sizes) <= max(batch_size, 3)
            assert max(sizes) - min(sizes) <= 1


def test_the_order_is_of_seed_and_epoch_alone() -> None:
    steps = training_steps(50, 8, seed=3)
    torch.manual_seed(0)
    first = np.concatenate(steps(0)).tolist()
    torch.manual_seed(1)
    assert np.concatenate(steps(0)).tolist() == first
    assert np.concatenate(training_steps(50, 16, seed=3)(0)).tolist() == first
    assert np.concatenate(steps(1)).tolist() != first


def test_evaluation_keeps_the_order() -> None:
    assert [step.tolist() for step in evaluation_steps(5, 2)(3)] == [[0, 1], [2, 3], [4]]


def test_batches_hold_images_targets_and_indices(reader: ImageReader) -> None:
    targets = list(range(100, 105))
    positions = [10, 2, 7, 0, 5]
    batches = ImageBatches(reader, positions, targets, steps=training_steps(5, 2, seed=0))
    as_protocol: Batches = batches
    assert len(as_protocol) == 2
    expected = reader.read(positions)
    seen = []
    for batch in batches.epoch(0):
        assert isinstance(batch.inputs, torch.Tensor)
        assert batch.inputs.dtype == torch.uint8
        assert torch.equal(batch.inputs, expected[batch.indices])
        assert batch.targets.tolist() == [targets[index] for index in batch.indices]
        assert batch.count == len(batch.indices)
        seen += batch.indices.tolist()
    assert sorted(seen) == list(range(5))


def test_an_epoch_can_start_at_any_step(reader: ImageReader) -> None:
    batches = ImageBatches(reader, range(11), [0] * 11, steps=training_steps(11, 3, seed=0), augment="standard")
    whole = list(batches.epoch(2))
    for start in range(len(batches) + 1):
        rest = list(batches.epoch(2, start=start))
        assert len(rest) == len(whole) - start
        for one, other in zip(rest, whole[start:], strict=True):
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.indices, other.indices)


def test_short_batches_are_padded_with_the_last_image(reader: ImageReader) -> None:
    batches = ImageBatches(reader, range(11), range(11), steps=evaluation_steps(11, 4), pad_to=4)
    *_, last = batches.epoch(0)
    assert last.count == 3
    assert last.indices.tolist() == [8, 9, 10, 10]
    assert last.targets.tolist() == [8, 9, 10, 10]
    assert torch.equal(last.inputs, reader.read([8, 9, 10, 10]))


def test_targets_may_be_one_value_a_class(reader: ImageReader) -> None:
    targets = torch.rand(11, 4)
    batches = ImageBatches(reader, range(11), targets, steps=evaluation_steps(11, 4), pad_to=4)
    assert torch.equal(torch.cat([batch.targets[: batch.count] for batch in batches.epoch(0)]), targets)


def test_standard_boxes_do_not_depend_on_the_batch_and_differ_by_epoch(reader: ImageReader) -> None:
    def read(batch_size: int, epoch: int) -> dict[int, bytes]:
        steps = training_steps(11, batch_size, seed=0)
        batches = ImageBatches(reader, range(11), [0] * 11, steps=steps, augment="standard", seed=5)
        return {
            int(index): image.numpy().tobytes()
            for batch in batches.epoch(epoch)
            for index, image in zip(batch.indices, batch.inputs, strict=True)
        }

    assert read(2, 0) == read(5, 0)
    assert read(2, 0) != read(2, 1)


def test_targets_and_positions_agree_in_number(reader: ImageReader) -> None:
    with pytest.raises(ValueError, match="3 positions and 2 targets"):
        ImageBatches(reader, [0, 1, 2], [0, 1], steps=evaluation_steps(3, 2))
