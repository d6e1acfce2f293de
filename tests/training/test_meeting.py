"""Processes that were started together find each other, whatever those before them left in the store."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from zoo.training import meeting
from zoo.training.meeting import Start, agreed_start

_PROCESSES = 3


def started(store: dist.Store) -> list[Start]:
    """What each process of one start agreed on."""
    with ThreadPoolExecutor(_PROCESSES) as pool:
        return list(pool.map(lambda rank: agreed_start(store, rank, _PROCESSES), range(_PROCESSES)))


def test_all_processes_of_a_start_share_a_part_of_the_store() -> None:
    starts = started(dist.HashStore())
    starts[1].store.set("address", "here")
    assert [start.store.get("address") for start in starts] == [b"here"] * _PROCESSES


def test_a_later_start_finds_nothing_of_an_earlier_one_in_its_part() -> None:
    store = dist.HashStore()
    first, second = started(store), started(store)
    assert [{start.number for start in starts} for starts in (first, second)] == [{0}, {1}]
    first[1].store.set("address", "gone")
    assert not second[0].store.check(["address"])


def test_what_a_lost_process_left_is_not_taken_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "_ANSWER_S", 0.05)
    store = dist.HashStore()
    dist.PrefixStore("zoo", store).set("word-1", "of a process that is gone")
    with ThreadPoolExecutor(_PROCESSES) as pool:
        others = [pool.submit(agreed_start, store, rank, _PROCESSES) for rank in (0, 2)]
        assert not others[0].done()
        late = pool.submit(agreed_start, store, 1, _PROCESSES)
        late.result().store.set("address", "here")
        assert [start.result().store.get("address") for start in others] == [b"here", b"here"]


def test_a_process_that_never_comes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    monkeypatch.setattr(meeting, "_ANSWER_S", 0.01)
    monkeypatch.setattr(meeting, "PATIENCE", timedelta(seconds=0))
    store = dist.HashStore()
    dist.PrefixStore("zoo", store).set("word-1", "of a process that is gone")
    with pytest.raises(RuntimeError, match="process 1 did not come"):
        agreed_start(store, 0, 2)
