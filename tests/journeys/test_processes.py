"""Processes of the embedded service: nothing is left behind, whatever ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nas.client import Client
from nas.resources import JobState
from tests.journeys.processes import SMALL, children_of, environment, is_running, server, wait_for


@pytest.mark.slow
def test_a_killed_server_leaves_no_worker_behind(tmp_path: Path) -> None:
    with server(tmp_path) as service:
        workers = wait_for(lambda: children_of(service.process.pid), what="a worker")
        service.kill()
        wait_for(lambda: not any(is_running(number) for number in workers), seconds=10, what="the end of the worker")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_asked_server_ends_with_its_workers(tmp_path: Path, number: signal.Signals) -> None:
    with server(tmp_path) as service:
        workers = wait_for(lambda: children_of(service.process.pid), what="a worker")
        service.process.send_signal(number)
        assert service.process.wait(20) is not None
        assert not any(is_running(worker) for worker in workers)


@pytest.mark.slow
def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    with server(tmp_path) as service:
        (first,) = wait_for(lambda: children_of(service.process.pid), what="a worker")
        subprocess.run(["kill", "-9", str(first)], check=True)
        found = wait_for(
            lambda: [n for n in children_of(service.process.pid) if n != first and is_running(n)], what="a new worker"
        )
        assert len(found) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_server_started_again_on_the_same_folder_finishes_the_job(tmp_path: Path) -> None:
    with server(tmp_path, lease_seconds=2) as service, Client(service.url) as client:
        job_id = client.submit(SMALL).job_id
        wait_for(lambda: client.job(job_id).refresh().state is JobState.RUNNING, what="the job's start")
        service.kill()
    with server(tmp_path, lease_seconds=2) as service, Client(service.url) as client:
        job = client.job(job_id).wait(progress=False)
        assert job.state is JobState.SUCCEEDED, job.reason


def test_a_port_in_use_is_said_with_the_way_out(tmp_path: Path) -> None:
    from api.serving import bind

    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-P", "-m", "api", "up", "--port", str(port), "--folder", str(tmp_path)]
        ended = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=60, check=False)
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr
