"""Stores on both databases, a planner that plans what a test says, and values to write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from db import Lease, Store
from nas.ports import JobView
from nas.resources import (
    EvaluationState,
    Fidelity,
    Job,
    Measurement,
    Objective,
    Phase,
    Proposal,
    Settlement,
    UnitPlan,
)
from nas.spec import JobSpec, Level

OBJECTIVES = (
    Objective(metric="accuracy", level="supernet", direction="max"),
    Objective(metric="params", level="cost", direction="min"),
)


@dataclass
class FakePlanner:
    """Plans the named units in each stage; stages that are not named have nothing to do."""

    units: dict[Phase, Sequence[str]] = field(default_factory=lambda: {Phase.SEARCH: ["search"]})
    seen: list[Phase] = field(default_factory=list)

    def stages(self, job: Job) -> Sequence[Phase]:
        return tuple(Phase)

    def plan(self, phase: Phase, view: JobView) -> list[UnitPlan]:
        self.seen.append(phase)
        return [UnitPlan(key=key, payload={"key": key}) for key in self.units.get(phase, ())]


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store, on each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'nas.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def open_store(store_url: str, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens the same store, as another process would."""
    opened: list[Store] = []

    def open_once() -> Store:
        opened.append(Store.open(store_url, tmp_path / "files"))
        return opened[-1]

    yield open_once
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    """An empty store."""
    return open_store()


@pytest.fixture
def worker_id(store: Store) -> str:
    """A registered worker."""
    return store.register_worker("here", 1, "cpu").worker_id


def spec(**fields: object) -> JobSpec:
    """A small spec."""
    return JobSpec.from_mapping({"dataset": "digits", **fields})


def new_job(store: Store, **fields: object) -> Job:
    """A queued job with two objectives."""
    return store.create_job(spec(**fields), OBJECTIVES)


def claimed(store: Store, worker_id: str, planner: FakePlanner | None = None, *, lease_seconds: float = 60.0) -> Lease:
    """The next unit, which must be there."""
    lease = store.claim(worker_id, lease_seconds=lease_seconds, planner=planner or FakePlanner())
    assert lease is not None
    return lease


def searching(store: Store, worker_id: str) -> Lease:
    """The search unit of a new job."""
    new_job(store)
    return claimed(store, worker_id)


def proposal(number: int, *, level: Level = "supernet", replicate: int = 0) -> Proposal:
    """A proposal of architecture `number`."""
    return Proposal(
        text=f"network {number}",
        digest=f"{number:08x}",
        fidelity=Fidelity(level=level, resources={"epochs": 2.0}),
        replicate=replicate,
        group="g",
        reason="because",
        memo={"parents": [number]},
    )


def measured(accuracy: float | None, params: float) -> tuple[Measurement, ...]:
    """What a settled evaluation holds; without an accuracy only its price."""
    price = Measurement(metric="params", value=params, unit="1", fidelity=Fidelity(level="cost"))
    if accuracy is None:
        return (price,)
    context = {"bn": "batch", "eval_batch": 256}
    quality = Measurement(
        metric="accuracy", value=accuracy, std=0.01, fidelity=Fidelity(level="supernet"), context=context
    )
    return (price, quality)


def finished(evaluation_id: str, accuracy: float, params: float) -> Settlement:
    """A settlement with both objectives."""
    return Settlement(
        evaluation_id=evaluation_id,
        state=EvaluationState.FINISHED,
        measurements=measured(accuracy, params),
        seconds=0.5,
    )


def settled_points(lease: Lease, points: Sequence[tuple[float, float]], *, first: int = 0) -> list[str]:
    """Propose and finish one architecture for each (accuracy, params); their digests."""
    evaluations = lease.journal.propose([proposal(first + i) for i in range(len(points))])
    lease.journal.settle([finished(e.evaluation_id, *point) for e, point in zip(evaluations, points, strict=True)])
    return [evaluation.proposal.digest for evaluation in evaluations]
