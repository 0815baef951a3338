"""Who does which unit: planning, leases, attempts, races."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from db import Lease, Store
from nas.ports import Control, JobView
from nas.resources import ExportState, Job, JobState, Phase, UnitPlan, UnitState
from searchspaces import InfeasibleSpace, LeaseLost, StoreError
from tests.db.conftest import FakePlanner, claimed, new_job, proposal, searching, settled_points

SHORT = 0.15


def expire() -> None:
    time.sleep(SHORT * 1.5)


def test_nothing_to_do_is_no_lease(store: Store, worker_id: str) -> None:
    assert store.claim(worker_id, lease_seconds=60, planner=FakePlanner()) is None


def test_a_job_goes_through_the_stages_that_have_units_in_order(store: Store, worker_id: str) -> None:
    planner = FakePlanner({Phase.PREFLIGHT: ["p"], Phase.SEARCH: ["s"], Phase.DELIVER: ["d-0", "d-1"]})
    job_id = new_job(store).job_id
    done = []
    while lease := store.claim(worker_id, lease_seconds=60, planner=planner):
        assert lease.unit.payload == {"key": lease.unit.key}
        assert (lease.unit.attempt, lease.unit.kind, lease.attempt) == (1, "stage", 1)
        done.append((lease.unit.stage, lease.unit.key))
        lease.complete({"done": lease.unit.key})
    assert done == [("PREFLIGHT", "p"), ("SEARCH", "s"), ("DELIVER", "d-0"), ("DELIVER", "d-1")]
    assert planner.seen == list(Phase)
    job = store.job(job_id)
    assert (job.state, job.reason, job.progress.phase) == (JobState.SUCCEEDED, None, Phase.DELIVER)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.created_at <= job.started_at <= job.finished_at
    phases = [event.data["phase"] for event in store.events(job_id, types=["phase"]).items]
    assert phases == ["PREFLIGHT", "SEARCH", "DELIVER"]


def test_a_stage_waits_for_every_unit_of_the_one_before(store: Store, worker_id: str) -> None:
    planner = FakePlanner({Phase.AUDIT: ["a", "b"], Phase.DELIVER: ["d"]})
    new_job(store)
    first, second = claimed(store, worker_id, planner), claimed(store, worker_id, planner)
    first.complete({"from": "a"})
    assert store.claim(worker_id, lease_seconds=60, planner=planner) is None
    second.complete({"from": "b"})
    lease = claimed(store, worker_id, planner)
    assert lease.unit.stage is Phase.DELIVER
    assert lease.view.results(Phase.AUDIT) == [{"from": "a"}, {"from": "b"}]


def test_the_oldest_job_is_served_first(store: Store, worker_id: str) -> None:
    ids = [new_job(store).job_id]
    time.sleep(0.003)
    ids.append(new_job(store).job_id)
    assert [claimed(store, worker_id).job_id for _ in ids] == ids


def test_a_planner_that_finds_the_job_impossible_fails_it_with_the_reason(store: Store, worker_id: str) -> None:
    class Hopeless(FakePlanner):
        def plan(self, phase: Phase, view: JobView) -> list[UnitPlan]:
            raise InfeasibleSpace("nothing fits")

    job_id, planner = new_job(store).job_id, Hopeless()
    assert store.claim(worker_id, lease_seconds=60, planner=planner) is None
    job = store.job(job_id)
    assert (job.state, job.reason) == (JobState.FAILED, "nothing fits")


def test_a_planner_that_cannot_read_the_store_fails_no_job(store: Store, worker_id: str) -> None:
    class CutOff(FakePlanner):
        def plan(self, phase: Phase, view: JobView) -> list[UnitPlan]:
            raise StoreError("the database does not answer")

    job_id = new_job(store).job_id
    with pytest.raises(StoreError, match="does not answer"):
        store.claim(worker_id, lease_seconds=60, planner=CutOff())
    assert store.job(job_id).state is JobState.QUEUED


def test_an_expired_unit_goes_to_another_and_every_write_of_the_first_is_refused(
    store: Store, worker_id: str, tmp_path: Path
) -> None:
    new_job(store)
    old = claimed(store, worker_id, lease_seconds=SHORT)
    kept = old.journal.propose([proposal(0)])
    expire()
    other = store.register_worker("there", 2, "cpu").worker_id
    new = claimed(store, other)
    assert (new.unit.unit_id, new.attempt) == (old.unit.unit_id, 2)
    file = tmp_path / "file"
    file.write_text("content")
    for write in _writes(old, file):
        with pytest.raises(LeaseLost, match="LEASE_LOST"):
            write()
    assert new.journal.pending("supernet") == kept
    (told,) = store.events(new.job_id, types=["lease"]).items
    assert (told.data["attempt"], told.data["worker"], told.data["unit"]) == (1, worker_id, new.unit.unit_id)
    assert store.artifacts(new.job_id) == ()


def _writes(lease: Lease, file: Path) -> Sequence[Callable[[], object]]:
    return (
        lease.renew,
        lease.journal.job,
        lease.journal.control,
        lease.journal.front,
        lambda: lease.journal.propose([proposal(1)]),
        lambda: lease.journal.settle([]),
        lambda: lease.journal.pending("supernet"),
        lambda: lease.journal.settled("supernet"),
        lambda: lease.journal.progress(message="late"),
        lambda: lease.journal.spend(epochs=1),
        lambda: lease.journal.event("log", {}),
        lambda: lease.artifacts.put(file, kind="model", name="late"),
        lambda: lease.checkpoints.save("late", {}, {}),
        lambda: lease.checkpoints.load("late"),
        lambda: lease.complete({}),
        lambda: lease.fail("late", retryable=True),
        lease.release,
    )


def test_an_expired_lease_that_nobody_took_may_write_and_is_renewed_by_it(store: Store, worker_id: str) -> None:
    new_job(store)
    lease = claimed(store, worker_id, lease_seconds=0.6)
    time.sleep(0.7)
    lease.journal.event("log", {"message": "late but mine"})
    assert store.claim(worker_id, lease_seconds=60, planner=FakePlanner()) is None
    lease.complete({})


def test_a_renewed_lease_is_not_given_away(store: Store, worker_id: str) -> None:
    new_job(store)
    lease = claimed(store, worker_id, lease_seconds=SHORT * 2)
    for _ in range(4):
        time.sleep(SHORT)
        lease.renew()
    assert store.claim(worker_id, lease_seconds=60, planner=FakePlanner()) is None


def test_asking_what_the_user_wants_renews_the_lease(store: Store, worker_id: str) -> None:
    new_job(store)
    lease = claimed(store, worker_id, lease_seconds=0.6)
    for _ in range(4):
        time.sleep(0.25)
        assert lease.journal.control() is Control.GO
    assert store.claim(worker_id, lease_seconds=60, planner=FakePlanner()) is None


@pytest.mark.parametrize(
    ("verb", "wanted"), [("pause", Control.PAUSE), ("stop", Control.STOP), ("cancel", Control.CANCEL)]
)
def test_a_unit_reads_what_the_user_wants_within_a_moment(
    store: Store, worker_id: str, verb: str, wanted: Control
) -> None:
    lease = searching(store, worker_id)
    assert lease.journal.control() is Control.GO
    store.act(lease.job_id, verb)
    time.sleep(0.25)
    assert lease.journal.control() is wanted


def test_control_asks_the_store_at_most_five_times_a_second(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    lease.journal.control()
    store.act(lease.job_id, "cancel")
    assert lease.journal.control() is Control.GO


def test_a_unit_lost_by_five_workers_fails_its_job(store: Store, worker_id: str) -> None:
    job_id = new_job(store).job_id
    for attempt in range(1, 6):
        assert claimed(store, worker_id, lease_seconds=0.02).attempt == attempt
        time.sleep(0.05)
    assert store.claim(worker_id, lease_seconds=60, planner=FakePlanner()) is None
    job = store.job(job_id)
    assert job.state is JobState.FAILED
    assert job.reason is not None
    assert "lost by 5 workers" in job.reason


def test_released_units_count_as_no_loss_and_no_failure(store: Store, worker_id: str) -> None:
    new_job(store)
    for attempt in range(1, 9):
        lease = claimed(store, worker_id)
        assert lease.attempt == attempt
        lease.release()


def test_a_retryable_failure_is_tried_three_times(store: Store, worker_id: str) -> None:
    job_id = new_job(store).job_id
    for _ in range(2):
        claimed(store, worker_id).fail("out of luck", retryable=True)
        assert store.job(job_id).state is JobState.RUNNING
    claimed(store, worker_id).fail("out of luck", retryable=True)
    job = store.job(job_id)
    assert (job.state, job.reason) == (JobState.FAILED, "out of luck")


def test_a_failed_unit_drops_those_that_wait_and_tells_those_that_run_to_end(store: Store, worker_id: str) -> None:
    planner = FakePlanner({Phase.AUDIT: ["a", "b", "c"]})
    job_id = new_job(store).job_id
    failing, running = claimed(store, worker_id, planner), claimed(store, worker_id, planner)
    failing.fail("broken", retryable=False)
    assert store.job(job_id).state is JobState.FAILED
    assert running.journal.control() is Control.CANCEL
    running.release()
    assert store.counts().units == {UnitState.FAILED: 1, UnitState.DROPPED: 2}
    assert store.claim(worker_id, lease_seconds=60, planner=planner) is None


def test_a_dead_worker_does_not_hold_up_pausing(store: Store, worker_id: str) -> None:
    new_job(store)
    lease = claimed(store, worker_id, lease_seconds=SHORT)
    store.act(lease.job_id, "pause")
    expire()
    store.claim(worker_id, lease_seconds=60, planner=FakePlanner())
    assert store.job(lease.job_id).state is JobState.PAUSED


def test_an_export_is_done_whatever_the_state_of_its_job_and_fails_alone(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    (digest,) = settled_points(lease, [(0.5, 1.0)])
    store.act(lease.job_id, "pause")
    lease.release()
    export = store.create_export(lease.job_id, digest, ["onnx"], "inherited")
    assert export.state is ExportState.QUEUED
    work = claimed(store, worker_id)
    assert work.unit.kind == "export"
    assert work.unit.payload == {
        "digest": digest,
        "text": "network 0",
        "formats": ["onnx"],
        "weights": "inherited",
    }
    assert store.export(export.export_id).state is ExportState.RUNNING
    assert work.journal.control() is Control.GO
    work.fail("no such operator", retryable=False)
    failed = store.export(export.export_id)
    assert (failed.state, failed.error) == (ExportState.FAILED, "no such operator")
    assert store.job(lease.job_id).state is JobState.PAUSED
    assert store.exports(lease.job_id) == (failed,)


def test_a_finished_export_holds_its_delivery_and_stays_out_of_the_stages(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    (digest,) = settled_points(lease, [(0.5, 1.0)])
    export = store.create_export(lease.job_id, digest, ["onnx", "pytorch"], "inherited")
    work = claimed(store, worker_id)
    delivery = {"digest": digest, "text": "network 0", "weights": "inherited", "artifacts": {"onnx": "art_1"}}
    work.complete({"delivery": delivery})
    done = store.export(export.export_id)
    assert done.state is ExportState.SUCCEEDED
    assert done.delivery is not None
    assert done.delivery.artifacts == {"onnx": "art_1"}
    lease.complete({})
    assert lease.view.results(Phase.DELIVER) == []
    assert store.claim(worker_id, lease_seconds=60, planner=FakePlanner()) is None
    assert store.job(lease.job_id).state is JobState.SUCCEEDED


def test_outputs_are_found_in_other_jobs_by_key_or_job(store: Store, worker_id: str) -> None:
    planner = FakePlanner({Phase.SUPERNET: ["n"]})
    first = new_job(store).job_id
    claimed(store, worker_id, planner).complete({"output_key": "abc", "file": 1})
    new_job(store)
    lease = claimed(store, worker_id, planner)
    assert lease.view.find_output(Phase.SUPERNET, output_key="abc") == {"output_key": "abc", "file": 1}
    assert lease.view.find_output(Phase.SUPERNET, job_id=first) == {"output_key": "abc", "file": 1}
    assert lease.view.find_output(Phase.SUPERNET, output_key="abd") is None
    assert lease.view.find_output(Phase.SEARCH, output_key="abc") is None
    assert lease.view.find_output(Phase.SUPERNET, job_id=lease.job_id) is None


def test_of_many_threads_each_unit_is_leased_once_and_each_stage_planned_once(
    open_store: Callable[[], Store],
) -> None:
    stores = [open_store(), open_store()]
    planner = FakePlanner({Phase.PREFLIGHT: ["p"], Phase.AUDIT: [f"a{i}" for i in range(12)], Phase.DELIVER: ["d"]})
    job_ids = [new_job(stores[0]).job_id for _ in range(2)]
    together, taken = threading.Barrier(6), []

    def work(number: int) -> None:
        store = stores[number % 2]
        worker_id = store.register_worker("here", number, "cpu").worker_id
        together.wait()
        while any(not store.job(job_id).state.is_terminal for job_id in job_ids):
            lease = store.claim(worker_id, lease_seconds=60, planner=planner)
            if lease is not None:
                taken.append((lease.unit.job_id, lease.unit.stage, lease.unit.key, lease.attempt))
                lease.complete({})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert len(taken) == len(set(taken)) == 2 * 14
    assert {attempt for *_, attempt in taken} == {1}
    assert stores[0].counts().units == {UnitState.DONE: 28}


def test_two_that_plan_the_same_stage_at_once_write_it_once(store: Store, worker_id: str) -> None:
    class Slow(FakePlanner):
        def stages(self, job: Job) -> Sequence[Phase]:
            return (Phase.SEARCH,)

        def plan(self, phase: Phase, view: JobView) -> list[UnitPlan]:
            both.wait()
            return super().plan(phase, view)

    both, planner = threading.Barrier(2), Slow({Phase.SEARCH: ["a", "b"]})
    new_job(store)
    with ThreadPoolExecutor(2) as pool:
        leases = list(pool.map(lambda _: store.claim(worker_id, lease_seconds=60, planner=planner), range(2)))
    assert planner.seen == [Phase.SEARCH, Phase.SEARCH]
    assert {lease.unit.key for lease in leases if lease} == {"a", "b"}
    assert store.counts().units == {UnitState.LEASED: 2}


def _claim_all(url: str, folder: Path, number: int, results: multiprocessing.Queue[tuple[int, str]]) -> None:
    store = Store.open(url, folder)
    worker_id = store.register_worker("here", number, "cpu").worker_id
    while lease := store.claim(worker_id, lease_seconds=60, planner=FakePlanner()):
        results.put((number, lease.unit.unit_id))
    results.put((number, ""))
    store.close()


@pytest.mark.slow
def test_of_many_processes_each_unit_is_leased_once(store_url: str, tmp_path: Path) -> None:
    store = Store.open(store_url, tmp_path / "files")
    for _ in range(20):
        new_job(store)
    store.close()
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[tuple[int, str]] = context.Queue()
    processes = [context.Process(target=_claim_all, args=(store_url, tmp_path / "files", i, results)) for i in range(3)]
    for process in processes:
        process.start()
    found, num_ended = [], 0
    while num_ended < len(processes):
        _, unit_id = results.get(timeout=100)
        found += [unit_id] if unit_id else []
        num_ended += not unit_id
    for process in processes:
        process.join()
    assert len(found) == len(set(found)) == 20
