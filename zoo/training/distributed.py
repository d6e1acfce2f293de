"""Several processes that train one model together, as torchrun starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from zoo.errors import TrainingError, UsageError
from zoo.training.meeting import PATIENCE, agreed_start, end_with_parent


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this is.

    Attributes:
        rank: Its number; 0 writes and prints.
        world_size: How many there are.
        local_rank: Its number on this machine.
        restarts: How often torchrun has started them anew, on whichever machine it counted most.
        launched: Whether torchrun started them, even if it is one alone.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    restarts: int = 0
    launched: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device of this process where ``name`` leaves it open: one GPU each.

        Raises:
            UsageError: There are more processes on this machine than GPUs.
        """
        if self.world_size == 1 or name not in ("auto", "cuda") or not torch.cuda.is_available():
            return name
        if self.local_rank >= torch.cuda.device_count():
            raise UsageError(
                f"process {self.local_rank} of this machine has no GPU of its own: there are "
                f"{torch.cuda.device_count()}. Start as many processes, or give --device cpu."
            )
        return f"cuda:{self.local_rank}"

    def told_by_first(self, text: str) -> str:
        """What the first process passes, on every one."""
        if self.world_size == 1:
            return text
        content = torch.tensor(list(text.encode()), dtype=torch.uint8)
        size = torch.tensor(len(content))
        dist.broadcast(size, 0)
        if not self.is_first:
            content = torch.empty(int(size), dtype=torch.uint8)
        dist.broadcast(content, 0)
        return bytes(content.tolist()).decode()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other processes while the block runs; alone where torchrun did not start this one.

    A process group that the caller has made already is used as it is.

    Raises:
        TrainingError: The others could not be reached.
    """
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if dist.is_available() and dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size(), local_rank, restarts, launched=True)
    elif "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        end_with_parent()
        ranks = _join(local_rank, restarts)
        try:
            yield ranks
        finally:
            if ranks.world_size > 1:
                dist.destroy_process_group()
    else:
        yield Ranks(restarts=restarts)


def _join(local_rank: int, restarts: int) -> Ranks:
    # Decisions are taken on the CPU, where they make no process wait for its GPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, rank, world_size = next(rendezvous("env://", timeout=PATIENCE))
        store.set_timeout(PATIENCE)
        start = agreed_start(store, rank, world_size)
        counts = torch.tensor([restarts, start.number])
        if world_size > 1:
            dist.init_process_group(backend, store=start.store, rank=rank, world_size=world_size, timeout=PATIENCE)
            dist.all_reduce(counts, dist.ReduceOp.MAX)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(f"the other processes of this run could not be reached: {error}") from error
    return Ranks(rank, world_size, local_rank, restarts=int(counts.max()), launched=True)
