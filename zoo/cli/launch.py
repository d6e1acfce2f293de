"""``zoo launch``."""

import click

from zoo.errors import UsageError

_SIGNAL_EXIT = 128


@click.command(
    "launch",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "--processes",
    "-n",
    default="auto",
    show_default=True,
    metavar="N",
    help="Processes on this machine; auto is one a GPU, or one without GPUs.",
)
@click.option("--restarts", type=click.IntRange(min=0), default=0, show_default=True, help="How often to start anew.")
@click.option("--nodes", default="1", show_default=True, metavar="N|MIN:MAX", help="Machines.")
@click.option("--rendezvous", metavar="HOST[:PORT]", help="Where the machines meet: one of them.")
@click.option("--job", default="zoo", show_default=True, help="Name of the job where the machines meet.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def launch_command(
    processes: str, restarts: int, nodes: str, rendezvous: str | None, job: str, command: tuple[str, ...]
) -> None:
    r"""Run a zoo command in several processes that train one model together.

    \b
    zoo launch -n 4 finetune PHOTOS --model resnet50
    zoo launch --nodes 2 --rendezvous node0:29400 -n 8 finetune PHOTOS --model resnet50   (on both machines)

    It is the short form of: torchrun --nproc-per-node N -m zoo COMMAND. A step's images are shared out among the
    processes, so --batch-size means the same whatever their number.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    if command[0] != "finetune":
        raise UsageError(
            f"zoo launch runs finetune in several processes; {command[0]} runs in one: leave 'launch' out."
        )
    if nodes != "1" and rendezvous is None:
        raise UsageError("several machines need a place to meet: --rendezvous HOST:PORT, the same on each.")
    meeting = ["--standalone"] if rendezvous is None else ["--rdzv-backend", "c10d", "--rdzv-endpoint", rendezvous]
    torchrun = ["--nproc-per-node", _number(processes), "--max-restarts", str(restarts), *meeting]
    torchrun += ["--nnodes", nodes, "--rdzv-id", job, "-m", "zoo", *command]
    try:
        run(parse_args(torchrun))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        # One that a signal ended, which has its number with a minus, is why the others ended.
        first = min(error.failures.values(), key=lambda failure: (failure.exitcode >= 0, failure.timestamp))
        raise click.exceptions.Exit(first.exitcode if first.exitcode >= 0 else _SIGNAL_EXIT - first.exitcode) from None
    except SignalException as error:
        raise click.exceptions.Exit(_SIGNAL_EXIT + int(error.sigval)) from None


def _number(processes: str) -> str:
    if processes == "auto":
        import torch

        return str(max(1, torch.cuda.device_count()))
    if not processes.isdigit() or int(processes) < 1:
        raise UsageError(f"--processes {processes} is not a number of processes, 1 or more, or auto.")
    return processes
