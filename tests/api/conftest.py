"""A real service for tests: the app over a SQLite store, answered by uvicorn on a free port of loopback."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.settings import Settings
from db import Lease, Store
from nas.job import admit
from nas.ports import JobView
from nas.resources import (
    CostRange,
    Delivery,
    EvaluationState,
    Fidelity,
    Job,
    Measurement,
    Phase,
    PreflightReport,
    Proposal,
    Settlement,
    UnitPlan,
)
from nas.spec import JobSpec

SPEC = {"name": "small", "dataset": "digits", "labels": {"team": "vision"}}
TEXTS = tuple(
    f"|nor_conv_3x3~0|+|{second}~0|skip_connect~1|+|skip_connect~0|none~1|{last}~2|"
    for second in ("nor_conv_1x1", "nor_conv_3x3", "skip_connect")
    for last in ("nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3", "none")
)


@dataclass
class Running:
    """A service, its store, and a client that speaks to it."""

    store: Store
    app: FastAPI
    url: str
    http: httpx.Client
    folder: Path

    def submit(self, **changes: object) -> Job:
        """Queue a job."""
        answer = self.http.post("/v1/jobs", json={**SPEC, **changes})
        assert answer.status_code == 201, answer.text
        return Job.model_validate(answer.json())

    def lease(self) -> Lease:
        """What a worker gets of the oldest job."""
        worker = self.store.register_worker("tests", 1, "cpu")
        found = self.store.claim(worker.worker_id, lease_seconds=60, planner=SearchOnly())
        assert found is not None
        return found

    def searched(self, *, num_candidates: int = len(TEXTS), is_complete: bool = True) -> Job:
        """A job whose candidates were evaluated: accuracy and parameters grow together, so all are on the front."""
        job = self.submit()
        lease = self.lease()
        fill(lease, num_candidates)
        if is_complete:
            lease.complete({})
            worker = self.store.register_worker("tests", 1, "cpu")
            assert self.store.claim(worker.worker_id, lease_seconds=60, planner=SearchOnly()) is None
        return self.store.job(job.job_id)


class SearchOnly:
    """A planner of jobs with one stage of one unit."""

    def stages(self, job: Job) -> tuple[Phase, ...]:
        return (Phase.SEARCH,)

    def plan(self, phase: Phase, view: JobView) -> list[UnitPlan]:
        return [UnitPlan(key="0")]


def fill(lease: Lease, num_candidates: int) -> None:
    """Do what a search does: propose, settle, tell."""
    proposals = [
        Proposal(text=text, digest=digest_of(text), fidelity=Fidelity(level="supernet"))
        for text in TEXTS[:num_candidates]
    ]
    for number, evaluation in enumerate(lease.journal.propose(proposals)):
        measured = (
            measurement("accuracy", 0.5 + number / 100, "supernet"),
            measurement("params", 1000.0 + number, "cost"),
        )
        settlement = Settlement(
            evaluation_id=evaluation.evaluation_id, state=EvaluationState.FINISHED, measurements=measured
        )
        lease.journal.settle([settlement])
        done = {"done": number + 1, "total": num_candidates, "hypervolume": 0.1 * number, "front_size": number + 1}
        lease.journal.event("evaluations", done)
    for epoch in range(3):
        told = {"epoch": epoch, "epochs": 3, "loss": 2.0 - epoch, "seconds": 1.0, "images_per_second": 900.0}
        lease.journal.event("epoch", told | {"distribution": {"0->1": {"none": 0.4, "skip_connect": 0.6}}})


def measurement(metric: str, value: float, level: str) -> Measurement:
    return Measurement(metric=metric, value=value, fidelity=Fidelity.model_validate({"level": level}))


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def report(spec: JobSpec) -> PreflightReport:
    """A preflight that needs no torch; the real one is met in the slow tests."""
    cost = CostRange(metric="params", unit="parameters", minimum=1, median=2, maximum=3)
    return PreflightReport(space_size=15_625, costs=(cost,), satisfiable=True, train_steps=spec.budget.epochs * 17)


class PreflightOnly(SearchOnly):
    """A planner of jobs that are all preflight."""

    def stages(self, job: Job) -> tuple[Phase, ...]:
        return (Phase.PREFLIGHT,)


@contextmanager
def examining(store: Store) -> Iterator[None]:
    """Do dry runs as a worker does, from a thread, without torch."""
    ended = threading.Event()
    worker = store.register_worker("tests", 1, "cpu")

    def work() -> None:
        while not ended.wait(0.02):
            store.beat(worker.worker_id, None)
            lease = store.claim(worker.worker_id, lease_seconds=60, planner=PreflightOnly())
            if lease is not None:
                lease.journal.report(report(JobSpec.from_mapping(lease.journal.job().spec)))
                lease.complete({})

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Answer requests to `app` from a thread; yields the address."""
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=3, proxy_headers=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        app.state.service.streams.end()
        server.should_exit = True
        thread.join(10)
        bound.close()


@contextmanager
def service_with(folder: Path, **settings: object) -> Iterator[Running]:
    """A service with these settings over a store in `folder`."""
    store = Store.open(f"sqlite:///{folder / 'nas.db'}", folder)
    made = Settings.load(folder=folder, poll_seconds=0.05, **settings)

    def check(mapping: Mapping[str, object]) -> object:
        return admit(mapping, datasets={info.name: info for info in store.datasets()}, embedded=made.embedded)

    app = create_app(store, made, admit=check)  # type: ignore[arg-type]
    try:
        with serving(app) as url, httpx.Client(base_url=url, timeout=20) as http:
            yield Running(store, app, url, http, folder)
    finally:
        store.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    """An open service on loopback."""
    with service_with(tmp_path) as running:
        yield running


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts services with other settings; they end with the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(service_with(tmp_path, **settings))


@pytest.fixture
def delivered(service: Running) -> tuple[Running, Job]:
    """A finished job with one delivered network and one artifact."""
    job = service.submit()
    lease = service.lease()
    fill(lease, 4)
    file = service.folder / "model.onnx"
    file.write_bytes(bytes(range(256)) * 40)
    info = lease.artifacts.put(file, kind="onnx", name="model.onnx")
    front = lease.journal.front()
    best = front.points[0]
    lease.journal.report(
        Delivery(digest=best.digest, text=best.text, weights="trained", artifacts={"onnx": info.artifact_id})
    )
    lease.complete({})
    service.store.claim(
        service.store.register_worker("tests", 1, "cpu").worker_id, lease_seconds=60, planner=SearchOnly()
    )
    return service, service.store.job(job.job_id)
