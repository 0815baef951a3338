"""Jobs: made, listed, changed, moved, deleted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from db import Store
from db._states import TRANSITIONS, VERBS, allowed_verbs, target_of
from nas.resources import JobState, Phase, UnitState
from nas.spec import Budget
from searchspaces import Conflict, InvalidState, NotFound, SpecError
from tests.db.conftest import OBJECTIVES, FakePlanner, claimed, new_job, searching, settled_points, spec

LEGAL = {
    (JobState.QUEUED, "pause"): JobState.PAUSING,
    (JobState.QUEUED, "stop"): JobState.STOPPING,
    (JobState.QUEUED, "cancel"): JobState.CANCELLING,
    (JobState.RUNNING, "pause"): JobState.PAUSING,
    (JobState.RUNNING, "stop"): JobState.STOPPING,
    (JobState.RUNNING, "cancel"): JobState.CANCELLING,
    (JobState.PAUSING, "resume"): JobState.RUNNING,
    (JobState.PAUSING, "stop"): JobState.STOPPING,
    (JobState.PAUSING, "cancel"): JobState.CANCELLING,
    (JobState.PAUSED, "resume"): JobState.RUNNING,
    (JobState.PAUSED, "stop"): JobState.STOPPING,
    (JobState.PAUSED, "cancel"): JobState.CANCELLING,
    (JobState.STOPPING, "cancel"): JobState.CANCELLING,
}


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_leads_where_the_table_says_or_is_refused_with_what_is_allowed(state: JobState, verb: str) -> None:
    if (state, verb) in LEGAL:
        assert target_of(verb, state) is LEGAL[state, verb]
        return
    with pytest.raises(InvalidState) as refused:
        target_of(verb, state)
    assert all(word in str(refused.value) for word in (verb, state, *allowed_verbs(state)))


def test_no_transition_leaves_a_terminal_state_but_reopening_a_success() -> None:
    leaving = {name for name, move in TRANSITIONS.items() if any(source.is_terminal for source in move.sources)}
    assert leaving == {"reopen"}


def test_every_state_can_be_reached_and_every_live_state_left() -> None:
    assert {move.target for move in TRANSITIONS.values()} == set(JobState)
    left = {source for move in TRANSITIONS.values() for source in move.sources}
    assert left >= {state for state in JobState if not state.is_terminal}


def test_a_new_job_is_queued_and_holds_what_was_asked(store: Store) -> None:
    asked = spec(name="mine", labels={"team": "vision"}, budget={"evaluations": 7})
    job = store.create_job(asked, OBJECTIVES)
    assert job == store.job(job.job_id)
    assert (job.state, job.name, job.labels, job.version) == (JobState.QUEUED, "mine", {"team": "vision"}, 1)
    assert (job.spec, job.spec_digest, job.budget) == (asked.to_mapping(), asked.digest(), asked.budget)
    assert job.objectives == OBJECTIVES
    assert abs((datetime.now(UTC) - job.created_at).total_seconds()) < 60
    assert [event.data["state"] for event in store.events(job.job_id).items] == ["QUEUED"]


def test_an_unknown_job_is_not_found(store: Store) -> None:
    for unknown in ("job_none", "", "job_\0", "job_\ud800"):
        with pytest.raises(NotFound):
            store.job(unknown)


def test_text_that_no_database_holds_is_refused(store: Store) -> None:
    with pytest.raises(SpecError, match="name"):
        new_job(store, name="a\0b")
    with pytest.raises(SpecError, match="labels"):
        new_job(store, labels={"a": "\ud800"})


def test_jobs_are_listed_newest_first_by_state_and_label(store: Store) -> None:
    ids = [new_job(store, labels={"kind": f"k{i % 2}"}).job_id for i in range(5)]
    store.act(ids[0], "cancel")
    newest = sorted(ids, reverse=True)
    assert [job.job_id for job in store.jobs().items] == newest
    assert [job.job_id for job in store.jobs(state=JobState.CANCELLED).items] == [ids[0]]
    assert {job.job_id for job in store.jobs(label="kind:k1").items} == {ids[1], ids[3]}
    assert len(store.jobs(label="kind").items) == 5
    assert store.jobs(label="kind:none").items == ()


def test_pages_of_jobs_neither_miss_nor_repeat_while_jobs_are_added(store: Store) -> None:
    ids = {new_job(store).job_id for _ in range(5)}
    seen, token = [], None
    while True:
        page = store.jobs(page_size=2, page_token=token)
        seen += [job.job_id for job in page.items]
        new_job(store)
        token = page.next_page_token
        if token is None:
            break
    assert set(seen) == ids
    assert len(seen) == len(ids)


@pytest.mark.parametrize("token", ["", "!", "bm9uZQ", "WzFd", "W10"])
def test_a_token_that_is_not_ours_is_refused(store: Store, token: str) -> None:
    with pytest.raises(SpecError, match="page_token"):
        store.jobs(page_token=token)


def test_a_change_of_another_version_is_a_conflict(store: Store) -> None:
    job = new_job(store)
    changed = store.change_job(job.job_id, version=1, name="other", labels={"a": "b"})
    assert (changed.name, changed.labels, changed.version) == ("other", {"a": "b"}, 2)
    with pytest.raises(Conflict, match="version 2"):
        store.change_job(job.job_id, version=1, name="third")
    assert store.change_job(job.job_id, version=None, labels={}).labels == {}
    assert store.job(job.job_id).name == "other"


def test_only_the_budget_fields_that_are_set_change(store: Store) -> None:
    job = new_job(store, budget={"evaluations": 10, "epochs": 5, "wall_time": 60})
    changed = store.change_job(job.job_id, version=None, budget=Budget(evaluations=20))
    assert changed.budget == Budget(evaluations=20, epochs=5, wall_time=60)


def test_a_budget_below_what_is_spent_is_refused(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    settled_points(lease, [(0.5, 1.0), (0.6, 2.0)])
    lease.journal.spend(seconds=100.0, epochs=3)
    with pytest.raises(SpecError) as refused:
        store.change_job(lease.job_id, version=None, budget=Budget(evaluations=1, wall_time=1e-6, epochs=31))
    assert [violation.field for violation in refused.value.violations] == [
        "budget.evaluations",
        "budget.wall_time",
        "budget.epochs",
    ]
    assert store.change_job(lease.job_id, version=None, budget=Budget(evaluations=2)).budget.evaluations == 2


def test_pausing_waits_for_the_leased_unit_and_resuming_gives_it_out_again(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    assert store.act(lease.job_id, "pause").state is JobState.PAUSING
    assert store.claim(worker_id, lease_seconds=60, planner=FakePlanner()) is None
    lease.release()
    assert store.job(lease.job_id).state is JobState.PAUSED
    assert store.claim(worker_id, lease_seconds=60, planner=FakePlanner()) is None
    assert store.act(lease.job_id, "resume").state is JobState.RUNNING
    assert claimed(store, worker_id).unit.unit_id == lease.unit.unit_id


@pytest.mark.parametrize("verb", [None, "stop", "pause", "cancel"])
def test_a_unit_that_waits_for_somebody_pauses_its_job_with_the_reason(
    verb: str | None, store: Store, worker_id: str
) -> None:
    lease = searching(store, worker_id)
    if verb is not None:
        store.act(lease.job_id, verb)
    lease.pause("the data are gone")
    job = store.job(lease.job_id)
    if verb == "cancel":
        assert (job.state, job.reason) == (JobState.CANCELLED, None)
        return
    assert (job.state, job.reason) == (JobState.PAUSED, None if verb == "pause" else "the data are gone")
    resumed = store.act(lease.job_id, "resume")
    assert (resumed.state, resumed.reason) == (JobState.RUNNING, None)
    again = claimed(store, worker_id, FakePlanner())
    assert (again.unit.unit_id, again.attempt) == (lease.unit.unit_id, lease.attempt + 1)


def test_a_job_that_never_ran_is_paused_at_once_and_queued_again(store: Store) -> None:
    job_id = new_job(store).job_id
    assert store.act(job_id, "pause").state is JobState.PAUSED
    assert store.act(job_id, "resume").state is JobState.QUEUED


def test_a_stopped_job_goes_on_through_its_stages_and_succeeds_with_the_reason(store: Store, worker_id: str) -> None:
    planner = FakePlanner({Phase.SEARCH: ["s"], Phase.DELIVER: ["d"]})
    job_id = new_job(store).job_id
    lease = claimed(store, worker_id, planner)
    store.act(job_id, "stop")
    lease.complete({})
    claimed(store, worker_id, planner).complete({})
    assert store.claim(worker_id, lease_seconds=60, planner=planner) is None
    job = store.job(job_id)
    assert (job.state, job.reason) == (JobState.SUCCEEDED, "STOPPED_BY_USER")


def test_cancelling_waits_for_the_leased_unit_and_drops_the_rest(store: Store, worker_id: str) -> None:
    planner = FakePlanner({Phase.AUDIT: ["a", "b"]})
    job_id = new_job(store).job_id
    lease = claimed(store, worker_id, planner)
    assert store.act(job_id, "cancel").state is JobState.CANCELLING
    assert store.claim(worker_id, lease_seconds=60, planner=planner) is None
    lease.release()
    job = store.job(job_id)
    assert job.state is JobState.CANCELLED
    assert job.finished_at is not None
    assert store.counts().units == {UnitState.DROPPED: 2}


def test_a_raised_budget_reopens_a_finished_job_at_the_search(store: Store, worker_id: str) -> None:
    planner = FakePlanner({Phase.SUPERNET: ["n"], Phase.SEARCH: ["s"], Phase.DELIVER: ["d"]})
    job = new_job(store, budget={"evaluations": 10})
    for phase in (Phase.SUPERNET, Phase.SEARCH, Phase.DELIVER):
        claimed(store, worker_id, planner).complete({"phase": phase})
    assert store.claim(worker_id, lease_seconds=60, planner=planner) is None
    assert store.job(job.job_id).state is JobState.SUCCEEDED
    assert store.change_job(job.job_id, version=None, budget=Budget(evaluations=10)).state is JobState.SUCCEEDED
    reopened = store.change_job(job.job_id, version=None, budget=Budget(evaluations=20))
    assert (reopened.state, reopened.finished_at, reopened.reason) == (JobState.RUNNING, None, None)
    lease = claimed(store, worker_id, planner)
    assert lease.unit.stage is Phase.SEARCH
    assert lease.view.results(Phase.SUPERNET) == [{"phase": "SUPERNET"}]
    lease.complete({"phase": "again"})
    lease = claimed(store, worker_id, planner)
    assert lease.view.results(Phase.SEARCH) == [{"phase": "again"}]
    lease.complete({})
    assert store.claim(worker_id, lease_seconds=60, planner=planner) is None
    assert store.job(job.job_id).state is JobState.SUCCEEDED


def test_a_budget_raised_while_delivering_extends_the_search_afterwards(store: Store, worker_id: str) -> None:
    planner = FakePlanner({Phase.SEARCH: ["s"], Phase.DELIVER: ["d"]})
    job = new_job(store, budget={"evaluations": 10})
    claimed(store, worker_id, planner).complete({})
    delivering = claimed(store, worker_id, planner)
    store.change_job(job.job_id, version=None, budget=Budget(evaluations=20))
    delivering.complete({})
    assert claimed(store, worker_id, planner).unit.stage is Phase.SEARCH
    assert store.job(job.job_id).state is JobState.RUNNING


def test_a_cancelled_job_takes_a_name_but_no_budget(store: Store) -> None:
    job_id = new_job(store).job_id
    store.act(job_id, "cancel")
    assert store.change_job(job_id, version=None, name="old").name == "old"
    with pytest.raises(InvalidState, match="CANCELLED"):
        store.change_job(job_id, version=None, budget=Budget(evaluations=500))


def test_only_a_job_that_is_over_is_deleted_and_then_nothing_of_it_is_left(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    settled_points(lease, [(0.5, 1.0)])
    with pytest.raises(InvalidState, match="cancel"):
        store.delete_job(lease.job_id)
    lease.complete({})
    assert store.claim(worker_id, lease_seconds=60, planner=FakePlanner()) is None
    store.delete_job(lease.job_id)
    for read in (store.job, store.front, store.events, store.artifacts, store.exports, store.candidates):
        with pytest.raises(NotFound):
            read(lease.job_id)  # type: ignore[operator]
    counts = store.counts()
    assert (counts.jobs, counts.units, counts.evaluations) == ({}, {}, {})


def test_every_change_of_state_is_told_in_order(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    store.act(lease.job_id, "pause")
    lease.release()
    store.act(lease.job_id, "resume")
    claimed(store, worker_id).fail("no way", retryable=False)
    events = store.events(lease.job_id, types=["job.state"]).items
    states = ["QUEUED", "RUNNING", "PAUSING", "PAUSED", "RUNNING", "FAILED"]
    assert [event.data["state"] for event in events] == states
    assert events[-1].data["reason"] == "no way"


def test_events_are_paged_by_their_sequence(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    for i in range(5):
        lease.journal.event("log", {"i": i})
    page = store.events(lease.job_id, types=["log"], limit=3)
    assert [event.data["i"] for event in page.items] == [0, 1, 2]
    assert page.next_page_token is not None
    rest = store.events(lease.job_id, types=["log"], after=int(page.next_page_token), limit=3)
    assert ([event.data["i"] for event in rest.items], rest.next_page_token) == ([3, 4], None)
    every = store.events(lease.job_id).items
    assert [event.sequence for event in every] == list(range(1, len(every) + 1))


def test_labels_with_colons_are_found_by_key_and_by_key_and_value(store: Store) -> None:
    job = new_job(store, labels={"a:b": "c:d", "plain": "x"})
    new_job(store, labels={"a": "z"})
    for label in ("a:b", "a:b:c:d", "plain", "plain:x"):
        assert [found.job_id for found in store.jobs(label=label).items] == [job.job_id], label
    for label in ("a:b:c", "a:c:d", "b", "plain:", ":x", ":"):
        assert store.jobs(label=label).items == (), label
