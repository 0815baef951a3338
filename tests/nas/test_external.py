"""The evaluator whose numbers devices of the user's give, alone and in a job."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from api.worker import WorkerLoop
from db import Store
from nas.admission import admit
from nas.claims import Answer, Claim
from nas.evaluators import REGISTRY, EvaluationContext, Outcome, Request
from nas.resources import EvaluationState, Fidelity, Job, JobState
from nas.spec import JobSpec, Level
from nas.testing._evaluators import Devices
from nas.workbench import Workbench
from searchspaces import LeaseLost, MeasurementError, SpecError
from tests.journeys.processes import wait_for

SETTINGS = {
    "target": "phone",
    "metrics": {"accuracy": "full", "phone_latency": "cost"},
    "units": {"phone_latency": "ms"},
    "lease": 60,
}
SPEC = {
    "space": {"name": "nasbench201", "config": {"channels": 2, "cells_per_stage": 1}},
    "evaluator": {"name": "external", "config": SETTINGS},
    "objectives": {"accuracy": "max", "phone_latency": "min"},
    "searcher": "random",
    "batch": 3,
    "budget": {"evaluations": 6},
}


# --- alone ------------------------------------------------------------------------------------------------------------


class Answering(Devices):
    """Devices that say what a test says, to the first `at_most` offers."""

    def __init__(self, at_most: int = 99, **said: object) -> None:
        super().__init__()
        self.at_most, self.said = at_most, said

    def collect(self, evaluation_ids: Sequence[str]) -> list[Answer]:
        return [a.model_copy(update=self.said) for a in super().collect(evaluation_ids)[: self.at_most]]


def measured(devices: Devices, number: int = 2, *, level: Level = "full", **context: object) -> list[Outcome]:
    bench = Workbench(JobSpec.from_mapping(SPEC))
    architectures = [architecture for architecture, _ in zip(bench.space.iterate(), range(number), strict=False)]
    fidelity = Fidelity(level=level, resources={"epochs": 3})
    requests = [Request(f"eval_x_{i}", architecture, fidelity, i) for i, architecture in enumerate(architectures)]
    made = EvaluationContext(seed=0, exchange=devices, **context)  # type: ignore[arg-type]
    return list(REGISTRY["external"](SETTINGS, bench).evaluate(requests, made))


def test_an_answer_becomes_measurements_with_levels_units_and_context() -> None:
    said = {"std": {"phone_latency": 0.2}, "context": {"os": "14"}, "seconds": 7.0}
    (outcome, _) = measured(Answering(**said))
    accuracy, latency = outcome.measurements
    assert (accuracy.metric, accuracy.fidelity.level, accuracy.fidelity.resources) == (
        "accuracy",
        "full",
        {"epochs": 3},
    )
    assert (latency.metric, latency.fidelity.level, latency.fidelity.resources) == ("phone_latency", "cost", {})
    assert (latency.unit, latency.std, latency.context) == ("ms", 0.2, {"device": "phone", "os": "14"})
    assert outcome.seconds == 7.0


def test_a_partial_request_is_offered_and_answered_as_partial_and_its_costs_as_costs() -> None:
    devices = Answering()
    outcomes = measured(devices, level="partial")
    assert [offer.metrics for offer in devices.offered.values()] == 2 * [
        {"accuracy": "partial", "phone_latency": "cost"}
    ]
    assert [[m.fidelity.level for m in outcome.measurements] for outcome in outcomes] == 2 * [["partial", "cost"]]


def test_an_error_of_a_device_is_a_failure_with_its_reason() -> None:
    (outcome, _) = measured(Answering(error="too hot", measurements={}))
    assert (outcome.error, outcome.measurements) == ("too hot", ())


def test_an_offer_says_how_to_build_the_network_and_each_replicate_has_its_seed() -> None:
    devices = Answering()
    measured(devices)
    first, second = devices.offered.values()
    assert first.seed != second.seed
    assert first.space["config"]["channels"] == 2
    assert list(first.options) == ["0->1", "0->2", "1->2", "0->3", "1->3", "2->3"]
    assert (first.lease_seconds, first.timeout_seconds, first.attempts) == (60.0, None, 3)


def test_waiting_ends_when_it_is_asked_to() -> None:
    began, polls = time.monotonic(), iter([False, False, False])
    outcomes = measured(Answering(at_most=0), should_stop=lambda: next(polls, True))
    assert outcomes == []
    assert time.monotonic() - began < 5


def test_without_a_service_it_says_so() -> None:
    with pytest.raises(MeasurementError, match="running service"):
        measured(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"objectives": {"power": "min"}}, "objectives.power"),
        (
            {"evaluator": {"name": "external", "config": {"metrics": {"latency_ms": "full"}}}},
            "evaluator.config.metrics",
        ),
        ({"evaluator": {"name": "external", "config": {"metrics": {"power": "cost"}}}}, "evaluator.config.metrics"),
    ],
)
def test_a_spec_whose_metrics_do_not_fit_is_refused(changes: dict[str, object], field: str) -> None:
    with pytest.raises(SpecError) as refused:
        admit({**SPEC, **changes}, datasets={})
    assert field in [violation.field for violation in refused.value.violations]


def test_metrics_of_devices_are_read_at_their_levels() -> None:
    _, objectives = admit(SPEC, datasets={})
    assert [objective.key for objective in objectives] == ["accuracy@full", "phone_latency@cost"]


# --- in a job ---------------------------------------------------------------------------------------------------------


class Service:
    """A store with one worker, which a test plays the devices of."""

    def __init__(self, store: Store, folder: Path, **changes: object) -> None:
        self.store = store
        spec, objectives = admit({**SPEC, **changes}, datasets={})
        self.job_id = store.create_job(spec, objectives).job_id
        self.loop = WorkerLoop(store, folder, lease_seconds=6)

    @property
    def job(self) -> Job:
        return self.store.job(self.job_id)

    def claim(self, count: int, target: str = "phone") -> list[Claim]:
        found: list[Claim] = []

        def more() -> bool:
            found.extend(self.store.claim_evaluations(target=target, worker="w", count=count - len(found)))
            return len(found) == count

        wait_for(more, seconds=60, what=f"{count} offers")
        return found

    def answer(self, claims: Sequence[Claim], *, seconds: float | None = None) -> None:
        for number, claim in enumerate(claims):
            values = dict.fromkeys(claim.metrics, 0.5 + number / 10)
            self.store.answer_evaluation(
                Answer(evaluation_id=claim.evaluation_id, attempt=claim.attempt, measurements=values, seconds=seconds)
            )

    def reaches(self, state: JobState) -> Job:
        wait_for(lambda: self.job.state is state, seconds=60, what=str(state))
        return self.job


@pytest.fixture
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    store = Store.open(f"sqlite:///{tmp_path / 'nas.db'}", tmp_path)
    found = Service(store, tmp_path, **getattr(request, "param", {}))
    thread = threading.Thread(target=found.loop.run)
    thread.start()
    yield found
    found.loop.stop.set()
    thread.join(30)
    store.close()


def test_a_job_is_measured_by_devices_batch_after_batch(service: Service) -> None:
    for _ in range(2):
        claims = service.claim(3)
        assert service.store.claim_evaluations(target="phone", worker="w") == []
        service.answer(claims)
    ended = service.reaches(JobState.SUCCEEDED)
    assert (ended.spent.evaluations, ended.progress.evaluations_done) == (6, 6)
    assert ended.preflight is not None
    assert ended.preflight.expected_seconds is None
    assert service.store.front(service.job_id).points


def test_a_paused_search_lets_go_at_once_and_finds_its_offers_again(service: Service) -> None:
    first, *others = service.claim(3)
    service.store.act(service.job_id, "pause")
    service.reaches(JobState.PAUSED)
    service.answer([first])
    service.store.act(service.job_id, "resume")
    service.answer(others)
    service.answer(service.claim(3))
    ended = service.reaches(JobState.SUCCEEDED)
    assert ended.spent.evaluations == 6
    digests = [candidate.digest for candidate in service.store.candidates(service.job_id).items]
    states = {e.state for digest in digests for e in service.store.candidate(service.job_id, digest).evaluations}
    assert states == {EvaluationState.FINISHED}


def test_a_stopped_search_waits_no_longer_for_who_has_not_answered(service: Service) -> None:
    service.answer(service.claim(3))
    late, *_ = service.claim(3)
    service.store.act(service.job_id, "stop")
    ended = service.reaches(JobState.SUCCEEDED)
    assert ended.spent.evaluations == 3
    assert service.store.claim_evaluations(target="phone", worker="w") == []
    with pytest.raises(LeaseLost):
        service.answer([late])


def test_a_search_that_no_device_answers_ends_when_it_is_stopped(service: Service) -> None:
    service.claim(3)
    service.store.act(service.job_id, "stop")
    assert "stopped by user" in str(service.reaches(JobState.FAILED).reason)


@pytest.mark.parametrize("service", [{"budget": {"evaluations": 6, "wall_time": 0.5}}], indirect=True)
def test_a_search_that_no_device_answers_ends_with_its_wall_time(service: Service) -> None:
    assert "budget.wall_time (0.5 s) spent" in str(service.reaches(JobState.FAILED).reason)


LADDER = {
    "searcher": {"name": "ladder", "config": {"searcher": "random", "rungs": [1, 5], "keep": 2}},
    "budget": {"evaluations": 6},
    "batch": 2,
}


@pytest.mark.parametrize("service", [LADDER], indirect=True)
def test_devices_measure_a_little_first_and_only_what_is_measured_in_full_is_on_the_front(service: Service) -> None:
    asked: list[Claim] = []
    for _ in range(3):
        claims = service.claim(2)
        service.answer(claims)
        asked += claims
    service.reaches(JobState.SUCCEEDED)
    spent = {(claim.digest, claim.fidelity.level): claim.fidelity.resources["epochs"] for claim in asked}
    full = {digest for digest, level in spent if level == "full"}
    assert {spent[digest, "full"] for digest in full} == {5}
    assert {epochs for (_, level), epochs in spent.items() if level == "partial"} == {1}
    assert full
    assert {point.digest for point in service.store.front(service.job_id).points} <= full


CLUSTER = {"name": "external", "config": {"target": "cluster", "metrics": {"accuracy": "full"}}}
QUICK = {"name": "external", "config": {"target": "phone", "metrics": {"accuracy": "short"}}}
AUDITED = {
    "evaluator": QUICK,
    "audit": {"networks": 4, "evaluator": CLUSTER},
    "objectives": {"accuracy": "max"},
    "budget": {"evaluations": 3},
}


@pytest.mark.parametrize("service", [AUDITED], indirect=True)
def test_an_audit_may_be_measured_by_other_devices(service: Service) -> None:
    service.answer(service.claim(3))
    asked = service.claim(3, "cluster")  # all at once
    service.answer(asked[::-1], seconds=7.5)
    ended = service.reaches(JobState.SUCCEEDED)
    assert ended.trust is not None
    assert ended.trust.audited == 3
    candidates = [service.store.candidate(service.job_id, claim.digest) for claim in asked]
    values = [candidate.values["accuracy@full"] for candidate in candidates]
    assert values == pytest.approx([0.7, 0.6, 0.5])
    assert {e.seconds for c in candidates for e in c.evaluations if e.proposal.fidelity.level == "full"} == {7.5}


@pytest.mark.parametrize("service", [AUDITED], indirect=True)
def test_an_audit_that_devices_answer_in_part_ends_when_it_is_stopped(service: Service) -> None:
    service.answer(service.claim(3))
    first, *_ = service.claim(3, "cluster")
    service.answer([first])
    wait_for(lambda: service.job.progress.audited, seconds=60, what="an audited network")
    service.store.act(service.job_id, "stop")
    ended = service.reaches(JobState.SUCCEEDED)
    assert ended.trust is not None
    assert ended.trust.audited == 1
