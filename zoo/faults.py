"""Faults on purpose: named places where a test can make this process die, fail or run short of something.

Nothing happens unless the environment variable ``ZOO_FAULT`` is set, and only the fault suite sets it. Its value is a
list of ``place:times:action`` with commas between, for example ``checkpoint.rename:2:kill`` (killed when it gets there
for the second time) or ``loss:5-9:value`` (from the fifth to the ninth time). ``place@1`` means process 1 alone. What
torchrun starts anew after a fault goes on without.
"""

import errno
import os
import signal
import time
from dataclasses import dataclass, field
from functools import cache

VARIABLE = "ZOO_FAULT"


@dataclass
class _Fault:
    place: str
    first: int
    last: int
    action: str
    seen: int = field(default=0)


def fault(place: str) -> bool:
    """Do what the test asked for at this place.

    Returns:
        Whether the caller should put in a wrong value; False wherever no test runs.
    """
    asked = os.environ.get(VARIABLE)
    if not asked or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0":
        return False
    return _strike(place, asked)


def _strike(place: str, asked: str) -> bool:
    wrong_value = False
    for planned in _plan(asked):
        if planned.place in (place, f"{place}@{os.environ.get('RANK', '0')}"):
            planned.seen += 1
            if planned.first <= planned.seen <= planned.last:
                wrong_value |= _act(planned.action, place)
    return wrong_value


def _act(action: str, place: str) -> bool:
    match action:
        case "value":
            return True
        case "kill" | "term" | "int":
            number = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}[action]
            os.kill(os.getpid(), number)
        case "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case "denied":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        case "oom":
            import torch

            raise torch.OutOfMemoryError(f"a test asked for this at {place}")
        case "crash":
            raise RuntimeError(f"a test asked for this at {place}")
        case "hang":
            time.sleep(3600)
        case _:
            raise ValueError(f"{VARIABLE}: no action is called {action!r}")
    return False


@cache
def _plan(asked: str) -> tuple[_Fault, ...]:
    planned = []
    for text in asked.split(","):
        place, times, action = text.split(":")
        first, _, last = times.partition("-")
        planned.append(_Fault(place, int(first), int(last or first), action))
    return tuple(planned)
