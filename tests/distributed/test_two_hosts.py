"""Two machines made of network namespaces: one loses a process, or is lost itself."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(900)]

# How long the others may take to notice that the machine where they meet is gone.
NOTICED_WITHIN_S = 120.0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Hosts:
    """Two namespaces with a cable between them."""

    def __init__(self) -> None:
        self.names = [f"zoo{os.getpid()}{letter}" for letter in "ab"]
        self.cables = [f"z{os.getpid() % 10**8}{letter}" for letter in "ab"]
        self.addresses = ["10.77.0.1", "10.77.0.2"]

    def up(self) -> None:
        for name in self.names:
            ip("netns", "add", name)
        ip("link", "add", self.cables[0], "type", "veth", "peer", "name", self.cables[1])
        for name, cable, address in zip(self.names, self.cables, self.addresses, strict=True):
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")

    def kill(self, host: int) -> None:
        """End every process of a host at once, as a power cut does."""
        pids = subprocess.run(["ip", "netns", "pids", self.names[host]], capture_output=True, text=True).stdout
        for pid in pids.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def down(self) -> None:
        for host in (0, 1):
            self.kill(host)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def torchrun(self, host: int, launcher: Any, *words: object, fault: str = "", restarts: int = 3) -> Any:
        """Start torchrun with one process on a host."""
        command = ["ip", "netns", "exec", self.names[host], sys.executable, "-m", "torch.distributed.run"]
        command += ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", str(restarts), "--rdzv-id", "zoo"]
        command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{self.addresses[0]}:29400"]
        # Both have the same host name, so neither can tell by it where the meeting place is.
        command += ["--rdzv-conf", f"is_host={1 - host}", "--local-addr", self.addresses[host], "-m", "zoo"]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "ZOO_CACHE": str(launcher.folder / f"cache{host}"),
            "GLOO_SOCKET_IFNAME": self.cables[host],
            **({"ZOO_FAULT": fault} if fault else {}),
        }
        return subprocess.Popen(
            [*command, *map(str, words)],
            cwd=launcher.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    made = Hosts()
    try:
        made.up()
    except (OSError, subprocess.CalledProcessError):
        made.down()
        pytest.skip("needs root and network namespaces")
    yield made
    made.down()


def test_a_process_lost_on_one_host_is_started_again_and_the_run_ends(launcher: Any, hosts: Hosts) -> None:
    words = launcher.words("run")
    processes = [hosts.torchrun(host, launcher, *words, fault="step@1:15:kill") for host in (0, 1)]
    said = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    assert "resuming run in phase 2" in "".join(said)
    lines = (launcher.folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2, 3, 4]
    assert launcher.artifact("run").is_file()


def test_when_the_meeting_place_is_lost_the_others_end_and_a_resume_goes_on(launcher: Any, hosts: Hosts) -> None:
    words = launcher.words("run")
    # The other host's process waits at its 25th step, so that there is a run to lose.
    processes = [hosts.torchrun(host, launcher, *words, fault="step@1:25:hang", restarts=0) for host in (0, 1)]
    launcher.wait_for_epochs(3, *processes)
    hosts.kill(0)
    processes[0].communicate()
    started = time.monotonic()
    said, _ = processes[1].communicate(timeout=NOTICED_WITHIN_S + 60)
    assert processes[1].returncode != 0, said
    assert time.monotonic() - started < NOTICED_WITHIN_S
    resumed = launcher.run("finetune", "--resume", "run")
    assert resumed.code == 0, resumed.said
    assert "resuming run" in resumed.said
