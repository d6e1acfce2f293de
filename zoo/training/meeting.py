"""How processes that were started together find each other and nobody else, and end with what started them."""

import ctypes
import os
import signal
import sys
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, Store

# How long a process waits for the others. One that dies is noticed at once; this is for one that hangs or does not
# come, and for what one does alone while the others wait, such as writing a checkpoint to a slow disk.
PATIENCE = timedelta(minutes=10)
# How long the first process waits for an answer before it looks whether the asker has been replaced.
_ANSWER_S = 1.0
_POLL_S = 0.01
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Start:
    """One of the times that torchrun starts the processes of a job.

    Attributes:
        number: How many starts came before it, as far as this store knows.
        store: A part of the store that no other start uses.
    """

    number: int
    store: Store


def agreed_start(store: Store, rank: int, world_size: int) -> Start:
    """Agree with the other processes on a part of a store for this start alone.

    torchrun gives the processes that it starts anew the store of those before them (so does torch 2.14, whose comment
    says otherwise), where gloo finds the addresses of processes that are gone. The number of restarts is no name for a
    start either, since each machine counts its own. So the first process makes up a name, and hands it to each of the
    others under a word that only a process of this start can be waiting with.

    Args:
        store: Of all processes.
        rank: This process's number.
        world_size: How many there are.

    Raises:
        RuntimeError: The others did not come in time.
    """
    meeting = PrefixStore("zoo", store)
    if rank:
        word = uuid.uuid4().hex
        meeting.set(f"word-{rank}", word)
        name = meeting.get(f"name-for-{word}").decode()
        meeting.set(f"heard-{name}-{word}", "")
    else:
        name = f"{meeting.add('starts', 1) - 1}-{uuid.uuid4().hex}"
        deadline = time.monotonic() + PATIENCE.total_seconds()
        for other in range(1, world_size):
            while not _heard(meeting, other, name):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"process {other} did not come within {PATIENCE.total_seconds():.0f} s.")
    return Start(int(name.partition("-")[0]), PrefixStore(f"zoo-{name}", store))


def _heard(meeting: Store, rank: int, name: str) -> bool:
    """Tell the process whose word lies in the store, and whether it heard: one of an earlier start never does."""
    word = meeting.get(f"word-{rank}").decode()
    meeting.set(f"name-for-{word}", name)
    until = time.monotonic() + _ANSWER_S
    while time.monotonic() < until:
        if meeting.check([f"heard-{name}-{word}"]):
            return True
        time.sleep(_POLL_S)
    return False


def end_with_parent() -> None:
    """Have the system send this process SIGTERM when torchrun's process ends, however that comes about; on Linux."""
    if sys.platform == "linux" and "TORCHELASTIC_RUN_ID" in os.environ:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
