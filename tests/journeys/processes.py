"""The service as real processes, for the journeys."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Found = TypeVar("Found")

SMALL = {
    "name": "small",
    "space": {"name": "nasbench201", "config": {"channels": 4, "cells_per_stage": 1}},
    "dataset": "digits",
    "objectives": {"accuracy": "max", "params": "min"},
    "supernet": {"recipe": "pada", "batch_size": 128},
    "budget": {"evaluations": 24, "epochs": 3},
    "audit": {"networks": 4, "training": {"epochs": 1}},
    "deliver": {"networks": 1, "training": {"epochs": 2}, "formats": ["pytorch"]},
}


def environment() -> dict[str, str]:
    """This process's environment, with one thread a process: the tests share two cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@dataclass
class Server:
    """`nas up` as a process of its own."""

    process: subprocess.Popen[str]
    url: str
    folder: Path

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def server(
    folder: Path, *, workers: int = 1, lease_seconds: float = 30.0, store_url: str | None = None
) -> Iterator[Server]:
    """Start `nas up` on a free port and wait until it answers; end it with SIGTERM."""
    environ = {**environment(), "NAS_STORE": store_url} if store_url else environment()
    command = [sys.executable, "-P", "-m", "api", "up", "--port", "0", "--announce", "--folder", str(folder)]
    command += ["--workers", str(workers), "--lease-seconds", str(lease_seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if line.startswith("NAS_URL=")), None)
        assert line, f"the server did not start: {process.stderr.read() if process.stderr else ''}"
        yield Server(process, line.strip().removeprefix("NAS_URL="), folder)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(20)
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


@contextmanager
def worker(store_url: str, folder: Path, *, lease_seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    """Start `nas worker`; kill it at the end if it still runs."""
    command = [sys.executable, "-P", "-m", "api", "worker", "--store", store_url, "--folder", str(folder)]
    command += ["--lease-seconds", str(lease_seconds), "--threads", "1"]
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment())
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_for(find: Callable[[], Found | None], *, seconds: float = 60.0, what: str = "it") -> Found:
    """What `find` gives once it gives something; fails the test when it does not in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = find()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds:g} s")


def children_of(process_id: int) -> list[int]:
    """Process ids of the direct children."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process_id)], capture_output=True, text=True, check=False
    )
    return [int(number) for number in listed.stdout.split()]


def is_running(process_id: int) -> bool:
    """Whether a process of that id runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
