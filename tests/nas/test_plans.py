"""A job's plan in the store: made again before each stage, told where something is left out, done again by others."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from api.serving import _plan_of
from api.worker import WorkerLoop
from db import Lease, Store
from db._models import jobs, workers
from nas.client._calls import spec_mapping
from nas.job import JobPlanner, admit
from nas.reports import Plan, Speeds
from nas.resources import Candidate, Fidelity, Job, JobState, Phase, PreflightReport
from nas.spec import Budget, JobSpec
from nas.stages import UnitContext, ahead
from nas.stages._pacing import ContestPace, Pace, _affordable
from nas.stages._planned import in_words, plan_at_preflight
from nas.stages._schedule import AIM
from nas.stages._search import Search
from searchspaces import Architecture, SpecError
from tests.journeys.processes import wait_for

SECONDS = 600.0
ORDER = list(Phase)
TIMED: dict[str, Any] = {
    "space": {"name": "nasbench201", "config": {"channels": 4, "cells_per_stage": 1}},
    "dataset": "digits",
    "objectives": {"accuracy": "max", "params": "min"},
    "budget": {"wall_time": SECONDS},
}
SPEEDS = Speeds(
    supernet_epoch=1.0, evaluation=0.1, audit_epoch=0.4, audit_network=0.2, delivery_epoch=1.5, delivery=8.0
)
TABLE: dict[str, Any] = {
    "evaluator": "table",
    "searcher": "regularized_evolution",
    "objectives": {"accuracy": "max", "latency_pixel3": "min"},
    "constraints": ["latency_pixel3 <= 6"],
    "budget": {"evaluations": 60},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store.open(f"sqlite:///{tmp_path / 'nas.db'}", tmp_path)
    yield found
    found.close()


# --- planned again ----------------------------------------------------------------------------------------------------


class Planned:
    """A job with a time that has come past its preflight; stages are ended at once, and its clock is set."""

    def __init__(self, store: Store) -> None:
        self.store, self.worker_id = store, store.register_worker("here", 1, "cpu").worker_id
        self.job_id = store.create_job(*admit(TIMED, datasets={})).job_id
        lease, spec = self.claim(Phase.PREFLIGHT), JobSpec.from_mapping(self.job.spec)
        plan, _ = plan_at_preflight(spec, Plan(promises="time"), SPEEDS, space_size=15_625, elapsed=0.0)
        lease.journal.report(PreflightReport(space_size=15_625, costs=(), satisfiable=None, speeds=SPEEDS, plan=plan))
        lease.journal.plan(**plan.model_dump(mode="json"))
        lease.complete({"epochs": plan.epochs})
        self.before = plan

    @property
    def job(self) -> Job:
        return self.store.job(self.job_id)

    @property
    def plan(self) -> Plan:
        assert self.job.plan is not None
        return self.job.plan

    def claim(self, phase: Phase) -> Lease:
        lease = self.store.claim(self.worker_id, lease_seconds=60, planner=JobPlanner())
        assert lease is not None
        assert lease.unit.stage is phase
        return lease

    def late_before(self, phase: Phase, seconds: float) -> None:
        """End the stages before this one in time; then the clock is so many seconds later than was planned."""
        stages = (Phase.SUPERNET, Phase.SEARCH, Phase.AUDIT, Phase.DELIVER)
        for each in stages[: stages.index(phase)]:
            self.set_clock(each, late=-1)
            self.claim(each).complete({"epochs": self.plan.epochs} if each is Phase.SUPERNET else {})
        self.set_clock(phase, late=seconds)
        self.before = self.plan

    def set_clock(self, phase: Phase, *, late: float) -> None:
        left = sum(seconds for each, seconds in self.plan.seconds.items() if ORDER.index(each) >= ORDER.index(phase))
        values = {"clock_seconds": AIM * SECONDS - left + late, "clock_since": None}
        with self.store._database.write() as connection:
            connection.execute(sa.update(jobs).where(jobs.c.job_id == self.job_id).values(**values))

    def warnings(self) -> list[str]:
        logged = [event.data for event in self.store.events(self.job_id).items if event.type == "log"]
        return [str(data["message"]) for data in logged if data["level"] == "warning"]


def numbers(plan: Plan, *without: str) -> dict[str, object]:
    amounts = {"epochs", "evaluations", "audit_networks", "audit_epochs", "delivery_epochs"}
    return plan.model_dump(include=amounts.difference(without))


@pytest.fixture
def job(store: Store) -> Planned:
    return Planned(store)


@pytest.mark.parametrize("phase", [Phase.SUPERNET, Phase.SEARCH, Phase.AUDIT])
def test_what_is_late_costs_networks_of_the_audit_first_and_says_so(job: Planned, phase: Phase) -> None:
    job.late_before(phase, job.plan.seconds[Phase.AUDIT] / 2)
    job.claim(phase)
    assert numbers(job.plan, "audit_networks") == numbers(job.before, "audit_networks")
    was, now = job.before.audit_networks, job.plan.audit_networks
    assert was is not None
    assert now is not None
    assert 0.3 * was < now < 0.7 * was
    (note,) = job.plan.notes
    told = f"late before {phase.value}, so budget.wall_time leaves less: networks of the audit from {was} to {now}"
    assert note == told
    assert job.warnings() == [told]


def test_later_still_the_whole_audit_is_dropped_and_then_the_final_training_shortened(job: Planned) -> None:
    job.late_before(Phase.SEARCH, job.plan.seconds[Phase.AUDIT] + 60)
    job.claim(Phase.SEARCH)
    found, first = job.plan, job.before
    assert found.audit_networks == 0
    assert found.epochs == first.epochs  # trained already
    assert found.delivery_epochs is not None
    assert first.delivery_epochs is not None
    assert 0 < found.delivery_epochs < first.delivery_epochs
    (told,) = job.warnings()
    assert f"networks of the audit from {first.audit_networks} to 0" in told
    assert f"epochs of the final training from {first.delivery_epochs} to {found.delivery_epochs}" in told


def test_before_the_delivery_only_the_final_training_can_be_shortened(job: Planned) -> None:
    job.late_before(Phase.DELIVER, 60)
    found, first = ahead(Phase.DELIVER, job.store.view(job.job_id)), job.before
    assert found is not None
    assert numbers(found, "delivery_epochs") == numbers(first, "delivery_epochs")
    assert found.delivery_epochs is not None
    assert first.delivery_epochs is not None
    assert first.delivery_epochs - 60 / SPEEDS.delivery_epoch - 1 <= found.delivery_epochs < first.delivery_epochs
    shorter, left_out = found.notes
    assert f"from {first.delivery_epochs} to {found.delivery_epochs}" in shorter
    number = first.audit_networks
    assert left_out == f"late, so the audit left out {number} of {number} networks"  # none was settled


def test_a_job_in_time_does_what_was_planned_and_warns_of_nothing(job: Planned) -> None:
    job.late_before(Phase.AUDIT, -1)
    job.claim(Phase.AUDIT)
    assert job.warnings() == []
    assert job.plan.delivery_epochs is not None
    assert job.before.delivery_epochs is not None
    assert job.plan.delivery_epochs >= job.before.delivery_epochs


def test_given_numbers_are_the_most_and_are_not_raised_by_time_to_spare() -> None:
    budget = {"wall_time": SECONDS, "epochs": 7, "evaluations": 40}
    spec = JobSpec.from_mapping({**TIMED, "budget": budget, "deliver": {"training": {"epochs": 20}}})
    first = Plan(promises="time", given=spec.given_numbers())
    assert set(first.given) == {"epochs", "evaluations", "delivery_epochs"}
    found, notes = plan_at_preflight(spec, first, SPEEDS, space_size=15_625, elapsed=0.0)
    assert (found.epochs, found.evaluations, found.delivery_epochs) == (7, 40, 20)
    assert found.audit_networks is not None
    assert found.audit_networks > spec.audit.networks  # not given, so the time goes to it
    hurried, _ = plan_at_preflight(spec, first, SPEEDS, space_size=15_625, elapsed=SECONDS - 100)
    assert hurried.epochs is not None
    assert hurried.epochs <= 7
    assert hurried.delivery_epochs is not None
    assert hurried.delivery_epochs < 20
    assert notes == [f"in 600 s fit {in_words(found, spec)}: about {sum(found.seconds.values()):.0f} s"]


def test_a_job_that_its_numbers_end_long_before_its_time_is_told_which_ones() -> None:
    mapping = {**TIMED, "budget": {"wall_time": SECONDS, "epochs": 7}, "audit": {"networks": 0}}
    spec = JobSpec.from_mapping({**mapping, "deliver": {"training": {"epochs": 20}}})
    given = Plan(promises="time", given=spec.given_numbers())
    quick = SPEEDS.model_copy(update={"evaluation": 0.001})
    _, (_, note) = plan_at_preflight(spec, given, quick, space_size=15_625, elapsed=0.0)
    held = "budget.epochs, audit.networks, deliver.training.epochs"
    assert note == f"the job ends long before its 600 s: {held} leaves no more to do"


# --- given ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["digits", {"name": "image_folder", "config": {"path": "images"}}])
def test_what_a_client_sends_gives_no_number_that_its_user_did_not_give(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: object
) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    spec = {**TIMED, "dataset": dataset, "budget": {"wall_time": SECONDS, "epochs": 30}, "deliver": {"networks": 2}}
    sent = spec_mapping(spec)
    job = store.job(store.create_job(*admit(sent, datasets={})).job_id)
    assert job.plan is not None
    assert job.plan.given == ("epochs",)


def test_an_evaluation_budget_that_is_changed_meanwhile_is_given_from_then_on_and_planned_by(job: Planned) -> None:
    assert job.plan.given == ()
    planned = job.plan.evaluations
    assert planned is not None
    job.late_before(Phase.SEARCH, -1)
    changed = job.store.change_job(job.job_id, version=None, budget=Budget(evaluations=planned - 50))
    assert changed.plan is not None
    assert changed.plan.given == ("evaluations",)
    search = object.__new__(Search)  # `most` reads nothing but the job
    assert search.most(changed) == planned - 50
    raised = job.store.change_job(job.job_id, version=None, budget=Budget(evaluations=planned + 500))
    assert search.most(raised) == planned + 500  # as far as the time allows
    lease = job.claim(Phase.SEARCH)
    assert job.plan.given == ("evaluations",)
    with pytest.raises(SpecError) as caught:
        job.store.change_job(job.job_id, version=None, budget=Budget(epochs=999))
    (violation,) = caught.value.violations
    assert violation.field == "budget.epochs"
    lease.release()


def test_more_time_that_is_given_meanwhile_is_planned_for_before_the_next_stage(job: Planned) -> None:
    job.late_before(Phase.SEARCH, -1)
    job.store.change_job(job.job_id, version=None, budget=Budget(wall_time=2 * SECONDS))
    job.claim(Phase.SEARCH)
    assert sum(job.plan.seconds.values()) > sum(job.before.seconds.values())
    assert job.plan.delivery_epochs is not None
    assert job.before.delivery_epochs is not None
    assert job.plan.delivery_epochs > job.before.delivery_epochs


def test_an_audit_is_planned_for_the_workers_that_live_and_planned_again_when_they_go(job: Planned) -> None:
    job.late_before(Phase.SEARCH, -1)
    for number in range(3):
        job.store.register_worker("there", number, "cpu")
    job.claim(Phase.SEARCH).complete({})
    shared = job.plan
    assert shared.audit_networks is not None
    assert job.before.audit_networks is not None
    assert shared.audit_networks > 1.5 * job.before.audit_networks
    with job.store._database.write() as connection:
        gone = workers.c.worker_id != job.worker_id
        connection.execute(sa.update(workers).where(gone).values(seen_at=sa.func.datetime("now", "-1 hour")))
    job.set_clock(Phase.AUDIT, late=0)
    job.claim(Phase.AUDIT)
    assert job.plan.audit_networks is not None
    assert job.plan.audit_networks < 0.5 * shared.audit_networks
    assert job.plan.delivery_epochs == shared.delivery_epochs
    assert f"networks of the audit from {shared.audit_networks} to {job.plan.audit_networks}" in job.plan.notes[-1]


# --- the pace of a training -------------------------------------------------------------------------------------------


class Training:
    """The supernet's training of a job with a time, on its own clock: ten steps an epoch, planned for 0.1 s each."""

    def __init__(self, job: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.told = 0.0, dict[str, Any]()
        monkeypatch.setattr("nas.stages._pacing.time", SimpleNamespace(monotonic=lambda: self.now))
        journal = SimpleNamespace(job=lambda: job.job, elapsed=lambda: self.now, plan=self.told.update)
        context = SimpleNamespace(must_end=lambda: False, job=job.job, journal=journal)
        self.pace = Pace(cast("UnitContext", context), 10, is_open=True)

    def stops(self, steps: int, *, each: float) -> bool:
        for _ in range(steps):
            if self.pace():
                return True
            self.now += each
        return False


def test_a_training_that_becomes_slow_after_its_first_part_is_begun_again_shorter(
    job: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(job, monkeypatch)
    assert not training.stops(320, each=0.1)
    assert training.stops(400, each=0.2)
    assert training.pace.epochs is not None
    assert job.plan.epochs is not None
    assert training.pace.epochs < 0.6 * job.plan.epochs
    assert "training takes 1.9 times what preflight measured" in training.told["notes"][-1]


def test_a_training_that_becomes_slow_later_still_makes_what_follows_shorter(
    job: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(job, monkeypatch)
    assert not training.stops(1000, each=0.1)
    assert not training.stops(500, each=0.3)
    training.pace.end()
    assert training.told["pace"] > 2
    assert "what preflight measured; the rest is planned by it" in training.told["notes"][-1]


# --- the contest ------------------------------------------------------------------------------------------------------


class Contested:
    """A delivery that has so many seconds left of its job's time; each of its epochs took as long as `trained` says."""

    def __init__(self, *, left: float, trained: Sequence[float] = ()) -> None:
        plan = Plan(promises="time", delivery_epochs=40, audit_epochs=3)
        preflight = SimpleNamespace(speeds=SPEEDS, space_size=15_625)
        job = SimpleNamespace(
            plan=plan, preflight=preflight, budget=Budget(wall_time=SECONDS), deliveries=(), spec=dict(TIMED)
        )
        done = [
            SimpleNamespace(
                seconds=4 * each,
                proposal=SimpleNamespace(digest="other", fidelity=Fidelity(level="contender", resources={"epochs": 4})),
            )
            for each in trained
        ]
        self.spec = JobSpec.from_mapping({**TIMED, "deliver": {"training": {"epochs": 40}, "contenders": 4}})
        self.journal = SimpleNamespace(
            job=lambda: job,
            elapsed=lambda: AIM * SECONDS - left,
            settled=lambda level: done if level == "contender" else [],
        )
        self.checkpoints = SimpleNamespace(load=lambda name: None)
        self.bench = SimpleNamespace(dataset=SimpleNamespace(train=range(800), valid=range(200)))
        self.unit = SimpleNamespace(key="deliver-0000")

    def allows(self, num_networks: int, epochs: int) -> bool:
        return ContestPace(cast("UnitContext", self)).allows(num_networks, epochs)


def test_a_rung_that_leaves_less_than_half_of_the_final_training_is_not_begun() -> None:
    # an epoch over train takes 1.5 s / 2.25 = 0.667 s, over all 0.833 s: half of 40 take 16.7 s, the export 8 s
    needed = 8 * 0.6667 + 16.667 + SPEEDS.delivery
    assert Contested(left=needed + 1).allows(2, 4)
    assert not Contested(left=needed - 1).allows(2, 4)


def test_what_the_last_trainings_took_is_the_speed_that_counts() -> None:
    planned = 8 * 0.6667 + 16.667 + SPEEDS.delivery
    assert not Contested(left=planned + 1, trained=[0.667, 2.0, 2.0, 2.0]).allows(2, 4)
    assert Contested(left=8 * 2.0 + 20 * 2.5 + SPEEDS.delivery + 1, trained=[9.0, 2.0, 2.0, 2.0]).allows(2, 4)


def test_where_the_contest_is_left_out_its_time_goes_to_the_final_training() -> None:
    context = Contested(left=25 * 0.8334 + SPEEDS.delivery)
    winner = cast("Architecture", SimpleNamespace(digest="none that contended"))
    assert _affordable(cast("UnitContext", context), winner) == 25
    slow = Contested(left=10 * 2.5 + SPEEDS.delivery + 0.1, trained=[2.0, 2.0])
    assert _affordable(cast("UnitContext", slow), winner) == 10


# --- done again -------------------------------------------------------------------------------------------------------


def ended(store: Store, folder: Path, spec: dict[str, Any]) -> Job:
    """A job over a table after its end."""
    return finished(store, folder, submitted(store, spec))


def finished(store: Store, folder: Path, job_id: str) -> Job:
    """A job when a worker has brought it to its end."""
    loop = WorkerLoop(store, folder, lease_seconds=20)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        wait_for(lambda: store.job(job_id).state.is_terminal, seconds=60, what="the end of the job")
    finally:
        loop.stop.set()
        thread.join(30)
    job = store.job(job_id)
    assert job.state is JobState.SUCCEEDED, job.reason
    return job


def submitted(store: Store, spec: dict[str, Any]) -> str:
    """As the service admits a job; its id."""
    return store.create_job(*admit(spec, datasets={}, plan_of=partial(_plan_of, store))).job_id


def found_by(store: Store, job: Job) -> list[tuple[str, dict[str, float]]]:
    found: list[Candidate] = list(store.candidates(job.job_id, page_size=1000).items)
    return [(candidate.text, dict(candidate.values)) for candidate in found]


def test_a_plan_of_a_job_that_nobody_knows_or_that_has_not_succeeded_is_refused_with_the_way_out(store: Store) -> None:
    unfinished = submitted(store, TIMED)
    for origin in ("job_unknown", unfinished):
        with pytest.raises(SpecError) as caught:
            submitted(store, {**TIMED, "budget": {}, "plan": {"from": origin}})
        (violation,) = caught.value.violations
        assert (violation.field, violation.value) == ("plan.from", repr(origin))
        assert violation.allowed == "the id of a job that has succeeded"


def test_a_plan_that_is_done_again_gives_the_same_numbers(store: Store, tmp_path: Path, data_folder: Path) -> None:
    first = ended(store, tmp_path, TABLE)
    assert first.plan is not None
    assert (first.plan.evaluations, first.plan.fixed) == (60, False)
    assert first.plan.proposals is not None
    assert first.plan.proposals >= 60
    unbudgeted = {**TABLE, "budget": {}, "plan": {"from": first.job_id}}
    again = ended(store, tmp_path, unbudgeted)
    assert again.plan is not None
    assert again.plan.fixed is True
    assert again.spent.evaluations == first.spent.evaluations == 60
    assert again.plan.proposals == first.plan.proposals
    assert found_by(store, again) == found_by(store, first)
    for budget, field in (({"wall_time": "5m"}, "budget.wall_time"), ({"evaluations": 61}, "budget.evaluations")):
        with pytest.raises(SpecError) as caught:
            submitted(store, {**unbudgeted, "budget": budget})
        assert [violation.field for violation in caught.value.violations] == [field]


def test_a_job_whose_search_went_on_after_its_end_is_not_done_again(
    store: Store, tmp_path: Path, data_folder: Path
) -> None:
    first = ended(store, tmp_path, TABLE)
    assert first.plan is not None
    assert first.plan.extended is False
    raised = store.change_job(first.job_id, version=None, budget=Budget(evaluations=70))
    assert raised.plan is not None
    assert raised.plan.extended is True
    finished(store, tmp_path, first.job_id)
    with pytest.raises(SpecError) as caught:
        submitted(store, {**TABLE, "budget": {}, "plan": {"from": first.job_id}})
    (violation,) = caught.value.violations
    assert violation.field == "plan.from"
    assert "submit its spec with the raised budget" in str(violation.allowed)


def test_a_job_that_was_stopped_early_is_done_again_as_far_as_it_came(
    store: Store, tmp_path: Path, data_folder: Path
) -> None:
    """One that its time ended, of which nobody knows how far it comes."""
    first = ended(store, tmp_path, {**TABLE, "constraints": [], "budget": {"evaluations": 15_000, "wall_time": 0.4}})
    done = first.spent.evaluations
    assert 0 < done < 15_000
    again = ended(store, tmp_path, {**TABLE, "constraints": [], "budget": {}, "plan": {"from": first.job_id}})
    assert again.spent.evaluations == done
    assert found_by(store, again) == found_by(store, first)
