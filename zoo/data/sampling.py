"""Which images a step takes: balanced over the classes, or shared out among processes."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from zoo.data.augment import permutation
from zoo.data.batches import Steps, training_steps
from zoo.errors import OptionError
from zoo.training.engine import mix


def balanced_steps(labels: Sequence[int], batch_size: int, *, seed: int) -> Steps:
    """As :func:`~zoo.data.batches.training_steps`, with every class equally often.

    An epoch has as many images as there are. Those of a class come in a new order each time all of them were shown, so
    that none comes twice before each of its class came once.

    Args:
        labels: Class index of each image, at least one.
        batch_size: Most images a step.
        seed: Seed of the run.
    """
    classes = {label: np.flatnonzero(np.asarray(labels) == label) for label in sorted(set(labels))}
    in_order = training_steps(len(labels), batch_size, seed=seed)

    def steps(epoch: int) -> Sequence[NDArray[np.int64]]:
        drawn = _balanced(classes, len(labels), epoch, seed)
        return [drawn[positions] for positions in in_order(epoch)]

    return steps


def shared_steps(steps: Steps, rank: int, world_size: int) -> Steps:
    """One process's part of every training step: neighbouring images, in pairs where there are enough.

    Args:
        steps: Of all processes together.
        rank: The process.
        world_size: Number of processes.

    Raises:
        OptionError: A step has fewer images than there are processes.
    """
    if world_size == 1:
        return steps
    smallest = min(len(positions) for positions in steps(0))
    if smallest < world_size:
        raise OptionError(
            f"a step of {smallest} image(s) cannot be shared by {world_size} processes: raise --batch-size, or start "
            "fewer of them."
        )

    def part(epoch: int) -> Sequence[NDArray[np.int64]]:
        return [_part(positions, rank, world_size) for positions in steps(epoch)]

    return part


def every_nth_step(steps: Steps, rank: int, world_size: int) -> Steps:
    """The whole steps that one process takes of an evaluation; the last processes may have one less, or none."""
    return lambda epoch: steps(epoch)[rank::world_size]


def _part(positions: NDArray[np.int64], rank: int, world_size: int) -> NDArray[np.int64]:
    pairs = ceil(len(positions) / 2)
    if pairs < world_size:
        return np.array_split(positions, world_size)[rank]
    bounds = [len(part) for part in np.array_split(np.arange(pairs), world_size)]
    start = 2 * sum(bounds[:rank])
    return positions[start : start + 2 * bounds[rank]]


def _balanced(classes: dict[int, NDArray[np.int64]], count: int, epoch: int, seed: int) -> NDArray[np.int64]:
    each, more = divmod(count, len(classes))
    lucky = set(permutation(mix(seed, len(classes)), epoch, len(classes))[:more].tolist())
    drawn = []
    for number, members in enumerate(classes.values()):
        wanted = each + (number in lucky)
        rounds = range(ceil(wanted / len(members)))
        orders = [members[permutation(mix(seed, number, r), epoch, len(members))] for r in rounds]
        drawn.append(np.concatenate([*orders, members[:0]])[:wanted])
    return np.concatenate(drawn)
