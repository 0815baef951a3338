"""The clock of a job: from its first lease to its end, without pauses, however many work for it."""

from __future__ import annotations

import time

from db import Store
from db._view import StoreView
from nas.resources import JobState, Phase
from tests.db.conftest import FakePlanner, claimed, new_job

WAIT = 0.15
TWO = {Phase.SEARCH: ["search"], Phase.AUDIT: ["a", "b"]}


def clock(store: Store, job_id: str) -> float:
    return StoreView(store._database, job_id).elapsed()


def test_waiting_for_a_worker_is_told_apart(store: Store, worker_id: str) -> None:
    job_id = new_job(store).job_id
    time.sleep(WAIT)
    assert clock(store, job_id) == 0
    assert store.job(job_id).spent.queued_seconds is None
    lease = claimed(store, worker_id)
    time.sleep(WAIT)
    assert clock(store, job_id) >= WAIT
    lease.journal.spend(seconds=0.1)
    found = store.job(job_id).spent
    assert found.queued_seconds is not None
    assert found.queued_seconds >= WAIT
    assert WAIT <= found.wall_seconds <= lease.journal.elapsed()


def test_the_clock_stands_once_the_job_is_over(store: Store, worker_id: str) -> None:
    job_id = new_job(store).job_id
    claimed(store, worker_id).complete({})
    time.sleep(WAIT)
    assert store.claim(worker_id, lease_seconds=60, planner=FakePlanner()) is None
    job = store.job(job_id)
    assert job.state is JobState.SUCCEEDED
    assert job.started_at is not None
    assert job.finished_at is not None
    assert abs(job.spent.wall_seconds - (job.finished_at - job.started_at).total_seconds()) < 0.02
    assert job.spent.wall_seconds >= WAIT  # between two stages it runs on
    time.sleep(WAIT)
    assert clock(store, job_id) == job.spent.wall_seconds


def test_pauses_are_left_out(store: Store, worker_id: str) -> None:
    job_id = new_job(store).job_id
    lease = claimed(store, worker_id)
    store.act(job_id, "pause")
    lease.release()
    before = clock(store, job_id)
    time.sleep(WAIT)
    assert store.job(job_id).state is JobState.PAUSED
    store.act(job_id, "resume")
    time.sleep(WAIT)  # nobody has taken it up again
    assert clock(store, job_id) == before
    claimed(store, worker_id)
    time.sleep(WAIT)
    assert before + WAIT <= clock(store, job_id) < before + 3 * WAIT


def test_workers_that_work_together_spend_no_more_time(store: Store, worker_id: str) -> None:
    job_id = new_job(store).job_id
    planner = FakePlanner(TWO)
    claimed(store, worker_id, planner).complete({})
    first, second = claimed(store, worker_id, planner), claimed(store, worker_id, planner)
    time.sleep(WAIT)
    first.release()  # its worker shuts down; the other goes on
    time.sleep(WAIT)
    second.release()
    found = clock(store, job_id)
    assert 2 * WAIT <= found < 5 * WAIT
    time.sleep(WAIT)
    assert clock(store, job_id) == found


def test_a_worker_that_went_silent_costs_its_lease_at_most(store: Store, worker_id: str) -> None:
    job_id = new_job(store).job_id
    claimed(store, worker_id, lease_seconds=0.1)
    time.sleep(4 * WAIT)
    claimed(store, worker_id)
    assert clock(store, job_id) < 3 * WAIT
