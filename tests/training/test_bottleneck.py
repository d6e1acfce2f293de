"""Which part of training keeps the others waiting."""

from collections.abc import Iterator

from zoo.training.bottleneck import Bottleneck


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_part_that_takes_longest_is_the_bottleneck() -> None:
    clock = Clock()
    bottleneck = Bottleneck(clock)

    def batches() -> Iterator[int]:
        for number in range(3):
            clock.now += 6
            yield number

    for _ in bottleneck.timed(batches()):
        with bottleneck.measuring("copy"):
            clock.now += 1
        with bottleneck.measuring("compute"):
            clock.now += 3
        clock.now += 50  # what is none of the three
    assert bottleneck.words() == "bottleneck: decode (60%)"


def test_time_within_another_part_counts_once() -> None:
    clock = Clock()
    bottleneck = Bottleneck(clock)
    with bottleneck.measuring("compute"):
        clock.now += 4
        with bottleneck.measuring("copy"):
            clock.now += 2
        clock.now += 4
    assert bottleneck.words() == "bottleneck: compute (80%)"


def test_a_short_epoch_has_no_bottleneck_worth_naming() -> None:
    clock = Clock()
    bottleneck = Bottleneck(clock)
    with bottleneck.measuring("compute"):
        clock.now += 0.9
    assert bottleneck.words() == ""
