"""What must not hold a server up, and what must not bring a worker down."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from db import Store
from nas.client import Client
from nas.resources import Job, JobState, Phase, UnitState
from searchspaces import NASError
from tests.journeys.breakers import installed
from tests.journeys.processes import Server, children_of, is_running, server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SPEC = {
    "evaluator": "table",
    "searcher": "random",
    "objectives": {"accuracy": "max", "params": "min"},
    "budget": {"evaluations": 20},
}


@pytest.fixture
def broken(tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Processes of the test find the plug-ins of `breakers`; the file that says they are at it."""
    for name, value in installed(tmp_path).items():
        monkeypatch.setenv(name, value)
    return tmp_path / "sign"


@pytest.fixture
def service(tmp_path: Path, broken: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NAS_PREFLIGHT_MEMORY", str(2**31))
    monkeypatch.setenv("NAS_PREFLIGHT_SECONDS", "20")
    with server(tmp_path / "store") as found:
        yield found


def ended(client: Client, **changes: object) -> Job:
    return client.submit({**SPEC, **changes}).wait(progress=False)


def descendants(process_id: int) -> list[int]:
    children = children_of(process_id)
    return [*children, *(below for child in children for below in descendants(child))]


def test_what_breaks_preflight_fails_the_job_with_the_reason_and_the_worker_lives_on(service: Server) -> None:
    with Client(service.url) as client:
        assert ended(client).state is JobState.SUCCEEDED
        workers = {worker.process_id for worker in client.workers()}
        for how, why in (
            ("crash", "was ended by SIGABRT"),
            ("grow", "than the 2.1 GB that it may have"),
            ("raise", "'layers'"),
            ("hang", "took longer than 20 s"),
        ):
            job = ended(client, costs={"broken": {"name": "breaking", "config": {"how": how}}})
            assert (job.state, job.progress.phase) == (JobState.FAILED, Phase.PREFLIGHT)
            assert why in (job.reason or "")
        with pytest.raises(NASError, match="SIGABRT"):
            client.dry_run({**SPEC, "costs": {"broken": {"name": "breaking"}}})
        assert {worker.process_id for worker in client.workers()} == workers
        assert ended(client).state is JobState.SUCCEEDED


def test_sigterm_ends_the_server_within_ten_seconds_whatever_goes_on(
    service: Server, broken: Path, tmp_path: Path
) -> None:
    with Client(service.url) as client:
        job_id = client.submit({**SPEC, "searcher": "stuck"}).job_id
        wait_for(broken.exists, seconds=120, what="a searcher at work")
        broken.unlink()
        threads = [threading.Thread(target=listen, args=(service.url, job_id)) for _ in range(2)]
        threads.append(threading.Thread(target=submit, args=(service.url,)))
        for thread in threads:
            thread.start()
        wait_for(broken.exists, seconds=60, what="a submission in flight")
        time.sleep(0.5)
    below = descendants(service.process.pid)
    assert below
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(30)
    assert time.monotonic() - began < 10
    assert not [number for number in below if is_running(number)]
    for thread in threads:
        thread.join(10)
    store = Store.open(f"sqlite:///{tmp_path / 'store' / 'nas.db'}", tmp_path / "store")
    try:
        counts = store.counts()
        assert counts.units.get(UnitState.LEASED, 0) == 0, "given back, not left to run out"
        assert counts.units[UnitState.READY] == 1
        assert len(store.jobs().items) == 1
    finally:
        store.close()


def listen(url: str, job_id: str) -> None:
    headers = {"Accept": "text/event-stream"}
    with (
        suppress(httpx.HTTPError),
        httpx.stream("GET", f"{url}/v1/jobs/{job_id}/events", headers=headers, timeout=60) as answer,
    ):
        for _ in answer.iter_lines():
            pass


def submit(url: str) -> None:
    with suppress(httpx.HTTPError):
        httpx.post(f"{url}/v1/jobs", json={**SPEC, "searcher": "slow"}, timeout=60)


def test_a_preflight_goes_with_its_worker(service: Server) -> None:
    with Client(service.url) as client:
        client.submit({**SPEC, "costs": {"broken": {"name": "breaking", "config": {"how": "hang"}}}})
        wait_for(lambda: len(descendants(service.process.pid)) >= 3, seconds=60, what="a process that measures")
        below = descendants(service.process.pid)
        service.kill()
        wait_for(lambda: not any(map(is_running, below)), seconds=20, what="the end of all")
