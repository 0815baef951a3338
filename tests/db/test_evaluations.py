"""Evaluations, candidates and the front."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db import Store
from db._front import grow
from nas.reports import TrustReport
from nas.resources import (
    Candidate,
    CostRange,
    Delivery,
    EvaluationState,
    Fidelity,
    Measurement,
    Page,
    Phase,
    PreflightReport,
    Settlement,
)
from searchspaces import MeasurementError, NotFound, SpecError, UnwritableValue
from tests.db.conftest import (
    FakePlanner,
    claimed,
    finished,
    measured,
    new_job,
    proposal,
    searching,
    settled_points,
)


def infeasible(evaluation_id: str, params: float) -> Settlement:
    return Settlement(
        evaluation_id=evaluation_id,
        state=EvaluationState.INFEASIBLE,
        measurements=measured(None, params),
        violation=0.5,
    )


def failed(evaluation_id: str) -> Settlement:
    return Settlement(evaluation_id=evaluation_id, state=EvaluationState.FAILED, error="out of memory")


def test_a_view_counts_what_is_settled_and_finds_candidates_by_what_they_have(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    assert lease.view.tally("supernet") == (0, 0, 0.0)
    digests = settled_points(lease, [(0.5, 10.0), (0.6, 20.0)])
    third, fourth, fifth = lease.journal.propose([proposal(2), proposal(3), proposal(4, level="short")])
    lease.journal.settle([failed(third.evaluation_id), infeasible(fourth.evaluation_id, 30.0)])
    assert lease.view.tally("supernet") == (4, 2, 0.5)
    assert lease.view.tally("short", "partial") == (0, 0, 0.0)
    assert [c.digest for c in lease.view.candidates(having="accuracy@supernet")] == digests
    assert len(lease.view.candidates()) == 4
    found = lease.view.candidate(digests[1])
    assert found is not None
    assert (found.values["accuracy@supernet"], len(found.evaluations)) == (0.6, 1)
    assert lease.view.candidate(fifth.proposal.digest) is None


def test_a_proposal_is_written_once_for_each_architecture_level_and_replicate(store: Store, worker_id: str) -> None:
    journal = searching(store, worker_id).journal
    asked = [proposal(1), proposal(2), proposal(1), proposal(1, replicate=1), proposal(1, level="short")]
    first = journal.propose(asked)
    assert [evaluation.number for evaluation in first] == [0, 1, 2, 3]
    assert [evaluation.proposal for evaluation in first] == [asked[0], asked[1], asked[3], asked[4]]
    again = journal.propose([proposal(2), proposal(3)])
    assert [(e.number, e.proposal.digest) for e in again] == [(4, proposal(3).digest)]
    assert journal.pending("supernet") == [*first[:3], *again]
    assert journal.pending("short") == first[3:]
    assert journal.propose([]) == []


def test_a_settled_evaluation_comes_back_as_it_was_written_in_commit_order(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    a, b, c = lease.journal.propose([proposal(i) for i in range(3)])
    lease.journal.settle([finished(c.evaluation_id, 0.7, 10.0), failed(a.evaluation_id)])
    lease.journal.settle([infeasible(b.evaluation_id, 90.0)])
    found = lease.journal.settled("supernet")
    assert [(e.number, e.commit, e.state) for e in found] == [
        (2, 1, EvaluationState.FINISHED),
        (0, 2, EvaluationState.FAILED),
        (1, 3, EvaluationState.INFEASIBLE),
    ]
    assert found[0].measurements == measured(0.7, 10.0)
    assert (found[0].seconds, found[0].attempt, found[0].proposal) == (0.5, 1, c.proposal)
    assert (found[1].error, found[2].violation) == ("out of memory", 0.5)
    assert lease.journal.settled("supernet", after=2) == found[2:]
    assert lease.view.settled("supernet") == found
    assert lease.journal.settled("short") == []
    assert lease.journal.pending("supernet") == []


def test_an_evaluation_is_settled_once(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    (evaluation,) = lease.journal.propose([proposal(0)])
    twice = [finished(evaluation.evaluation_id, 0.7, 10.0), finished(evaluation.evaluation_id, 0.1, 1.0)]
    lease.journal.settle(twice)
    before = lease.journal.settled("supernet"), lease.journal.front(), lease.journal.job().spent
    lease.journal.settle([finished(evaluation.evaluation_id, 0.9, 1.0)])
    assert (lease.journal.settled("supernet"), lease.journal.front(), lease.journal.job().spent) == before
    assert before[0][0].measurements == measured(0.7, 10.0)


def test_pending_evaluations_outlive_their_worker_and_none_is_done_twice(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    evaluations = lease.journal.propose([proposal(i) for i in range(4)])
    lease.journal.settle([finished(e.evaluation_id, 0.5, 1.0) for e in evaluations[:2]])
    lease.release()
    again = claimed(store, worker_id)
    assert [e.number for e in again.journal.pending("supernet")] == [2, 3]
    again.journal.settle([finished(e.evaluation_id, 0.6, 1.0) for e in evaluations])
    assert [(e.number, e.attempt) for e in again.journal.settled("supernet")] == [(0, 1), (1, 1), (2, 2), (3, 2)]
    assert again.journal.job().spent.evaluations == 4


def test_what_prices_alone_rule_out_and_other_levels_spend_no_evaluation(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    a, b, c = lease.journal.propose([proposal(0), proposal(1), proposal(2, level="short")])
    lease.journal.settle(
        [infeasible(a.evaluation_id, 9.0), failed(b.evaluation_id), finished(c.evaluation_id, 0.5, 1.0)]
    )
    assert store.job(lease.job_id).spent.evaluations == 1


def test_an_unknown_evaluation_or_one_of_another_job_is_not_found(store: Store, worker_id: str) -> None:
    other, lease = searching(store, worker_id), searching(store, worker_id)
    (foreign,) = other.journal.propose([proposal(0)])
    (mine,) = lease.journal.propose([proposal(0)])
    for unknown in (foreign.evaluation_id, mine.evaluation_id + "7", "eval", ""):
        with pytest.raises(NotFound):
            lease.journal.settle([finished(mine.evaluation_id, 0.5, 1.0), failed(unknown)])
    assert lease.journal.pending("supernet") == [mine]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_number_is_no_measurement(store: Store, worker_id: str, value: float) -> None:
    lease = searching(store, worker_id)
    (evaluation,) = lease.journal.propose([proposal(0)])
    with pytest.raises(MeasurementError, match="FAILED"):
        lease.journal.settle([finished(evaluation.evaluation_id, value, 1.0)])
    assert lease.journal.pending("supernet") == [evaluation]


@pytest.mark.parametrize("value", [math.nan, -math.inf, pytest.param(10**5000, id="huge"), "a\0b", "\ud800", {1, 2}])
def test_what_cannot_be_kept_is_told_with_its_place_and_leaves_nothing(
    store: Store, worker_id: str, value: object
) -> None:
    journal = searching(store, worker_id).journal
    with pytest.raises(UnwritableValue, match=r"data\.0 is"):
        journal.event("log", {"data": [value]})
    with pytest.raises(UnwritableValue, match=r"trial\.state is"):
        journal.propose([proposal(0).model_copy(update={"memo": {"trial": {"state": value}}})])
    assert store.events(journal.job().job_id, types=["log"]).items == ()
    assert journal.propose([proposal(0)])


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_text_that_cannot_be_kept_is_no_lost_store(store: Store, worker_id: str, text: str) -> None:
    journal = searching(store, worker_id).journal
    (evaluation,) = journal.propose([proposal(0)])
    with contextlib.suppress(UnwritableValue):  # SQLite keeps NUL
        journal.settle([failed(evaluation.evaluation_id).model_copy(update={"error": text})])
    for look in (store.job, store.dataset, store.artifact, store.events):
        with pytest.raises(NotFound):
            look(text)


def test_a_crash_in_the_middle_of_settling_leaves_nothing_half_written(
    store: Store, worker_id: str, store_url: str
) -> None:
    lease = searching(store, worker_id)
    evaluations = lease.journal.propose([proposal(i) for i in range(3)])
    before = store.job(lease.job_id)

    def crash(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "INSERT INTO front_members" in statement:
            raise KeyboardInterrupt

    engine = store._database.engine
    sa.event.listen(engine, "before_cursor_execute", crash)
    with pytest.raises(KeyboardInterrupt):
        lease.journal.settle([finished(e.evaluation_id, 0.5, 1.0) for e in evaluations])
    sa.event.remove(engine, "before_cursor_execute", crash)
    assert lease.journal.pending("supernet") == evaluations
    assert (lease.journal.candidates(), lease.journal.front().points, lease.journal.front_size()) == ([], (), 0)
    assert store.job(lease.job_id) == before
    lease.journal.settle([finished(e.evaluation_id, 0.5, 1.0) for e in evaluations])
    assert [e.commit for e in lease.journal.settled("supernet")] == [1, 2, 3]


def test_a_candidate_holds_its_latest_values_its_first_number_and_its_evaluations(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    a, b = lease.journal.propose([proposal(7), proposal(7, replicate=1)])
    lease.journal.settle([finished(b.evaluation_id, 0.4, 10.0)])
    lease.journal.settle([finished(a.evaluation_id, 0.6, 10.0)])
    short = Measurement(metric="accuracy", value=0.9, fidelity=Fidelity(level="short"))
    (audit,) = lease.journal.propose([proposal(7, level="short")])
    lease.journal.settle(
        [Settlement(evaluation_id=audit.evaluation_id, state=EvaluationState.FINISHED, measurements=(short,))]
    )
    digest = proposal(7).digest
    candidate = store.candidate(lease.job_id, digest)
    assert candidate.values == {"accuracy@supernet": 0.6, "params@cost": 10.0, "accuracy@short": 0.9}
    assert (candidate.number, candidate.text, candidate.on_front, candidate.feasible) == (0, "network 7", True, True)
    assert [e.number for e in candidate.evaluations] == [0, 1, 2]
    assert lease.journal.candidates() == [candidate.model_copy(update={"evaluations": ()})]
    with pytest.raises(NotFound):
        store.candidate(lease.job_id, "none")


def test_the_front_holds_feasible_finished_candidates_that_none_is_better_than(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    digests = settled_points(lease, [(0.5, 5.0), (0.9, 9.0), (0.4, 6.0), (0.7, 7.0), (0.7, 7.0)])
    x, y = lease.journal.propose([proposal(100), proposal(101)])
    lease.journal.settle([infeasible(x.evaluation_id, 0.1), failed(y.evaluation_id)])
    front = lease.journal.front()
    assert [point.digest for point in front.points] == [digests[1], digests[3], digests[4], digests[0]]
    assert front.points[0].values == {"accuracy@supernet": 0.9, "params@cost": 9.0}
    assert [objective.key for objective in front.objectives] == ["accuracy@supernet", "params@cost"]
    assert store.front(lease.job_id) == lease.view.front() == front
    assert lease.journal.front_size() == len(front.points)
    settled_points(lease, [(0.95, 1.0)], first=50)
    assert [point.number for point in lease.journal.front().points] == [7]


def test_a_member_measured_worse_gives_its_place_to_those_it_had_beaten(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    digests = settled_points(lease, [(0.9, 1.0), (0.8, 2.0), (0.7, 3.0)])
    assert [point.digest for point in lease.journal.front().points] == [digests[0]]
    (again,) = lease.journal.propose([proposal(0, replicate=1)])
    lease.journal.settle([finished(again.evaluation_id, 0.75, 1.0)])
    assert [point.digest for point in lease.journal.front().points] == [digests[1], digests[0]]


def test_a_member_found_infeasible_leaves_the_front_for_good(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    digests = settled_points(lease, [(0.9, 1.0), (0.8, 2.0)])
    again, third = lease.journal.propose([proposal(0, replicate=1), proposal(0, replicate=2)])
    lease.journal.settle([infeasible(again.evaluation_id, 1.0)])
    assert [point.digest for point in lease.journal.front().points] == [digests[1]]
    lease.journal.settle([finished(third.evaluation_id, 0.99, 1.0)])
    assert [point.digest for point in lease.journal.front().points] == [digests[1]]
    assert [c.digest for c in store.candidates(lease.job_id, feasible=False).items] == [digests[0]]


def timed(evaluation_id: str, accuracy: float, params: float, **context: str | int) -> Settlement:
    """A settlement whose price was measured in a context."""
    price, quality = measured(accuracy, params)
    price = price.model_copy(update={"context": {"device": "cpu", "threads": 1, **context}})
    return Settlement(
        evaluation_id=evaluation_id, state=EvaluationState.FINISHED, measurements=(price, quality), seconds=0.5
    )


def test_a_front_holds_values_of_one_context_and_says_how_many_others_there_are(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    first, second, third, fourth = lease.journal.propose([proposal(i) for i in range(4)])
    lease.journal.settle([timed(first.evaluation_id, 0.5, 5.0), timed(second.evaluation_id, 0.9, 1.0, device="cuda")])
    lease.journal.settle(
        [timed(third.evaluation_id, 0.8, 9.0, code="2"), timed(fourth.evaluation_id, 0.9, 1, threads=2)]
    )
    front = lease.journal.front()
    assert [point.digest for point in front.points] == [third.proposal.digest, first.proposal.digest]
    assert front.contexts["params@cost"] == {"device": "cpu", "threads": 1}
    assert front.left_out == {"params@cost": 2}
    other = store.candidate(lease.job_id, second.proposal.digest)
    assert (other.on_front, other.values) == (False, {"accuracy@supernet": 0.9})
    assert [m.context.get("device") for m in other.evaluations[0].measurements] == ["cuda", None]
    said = [event.data["message"] for event in store.events(lease.job_id, types=["log"]).items]
    assert [message for message in said if "otherwise" in message] == [
        "params@cost was measured otherwise than before (device cpu, here cuda): such values are kept with their "
        "evaluations, but on no front, since they cannot be compared"
    ]


def test_a_member_measured_again_in_another_context_keeps_its_value(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    (first,) = lease.journal.propose([proposal(0)])
    lease.journal.settle([timed(first.evaluation_id, 0.5, 5.0)])
    (again,) = lease.journal.propose([proposal(0, replicate=1)])
    lease.journal.settle([timed(again.evaluation_id, 0.6, 1.0, device="cuda")])
    (point,) = lease.journal.front().points
    assert point.values == {"accuracy@supernet": 0.6, "params@cost": 5.0}


def test_a_job_from_before_contexts_were_kept_has_those_of_its_first_values(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    first, second = lease.journal.propose([proposal(0), proposal(1)])
    lease.journal.settle([timed(first.evaluation_id, 0.5, 5.0)])
    with store._database.write() as connection:
        connection.execute(sa.text("UPDATE jobs SET contexts = NULL"))
    assert lease.journal.front().contexts["params@cost"] == {"device": "cpu", "threads": 1}
    lease.journal.settle([timed(second.evaluation_id, 0.9, 1.0, device="cuda")])
    assert [point.digest for point in lease.journal.front().points] == [first.proposal.digest]
    assert lease.journal.front().left_out == {"params@cost": 1}


@given(
    st.lists(st.tuples(*[st.integers(0, 6).map(float)] * 3), max_size=40),
    st.integers(1, 10),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_front_grown_in_batches_is_the_front_of_all(points: list[tuple[float, ...]], batch: int) -> None:
    known = {f"{i}": point for i, point in enumerate(points)}
    front: dict[str, tuple[float, ...]] = {}
    for start in range(0, len(points), batch):
        front = grow(front, dict(list(known.items())[start : start + batch]))
    losses = np.array(points).reshape(len(points), 3)
    best = {
        key
        for key, point in known.items()
        if not any((other <= np.array(point)).all() and (other < np.array(point)).any() for other in losses)
    }
    assert set(front) == best


def pages(store: Store, job_id: str, **options: object) -> list[Candidate]:
    """All pages of three, one after the other."""
    found: list[Candidate] = []
    token: str | None = None
    while True:
        page: Page[Candidate] = store.candidates(job_id, page_size=3, page_token=token, **options)  # type: ignore[arg-type]
        found += page.items
        token = page.next_page_token
        if token is None:
            return found


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("key", [None, "number", "accuracy@supernet", "params@cost", "none@cost"])
@pytest.mark.parametrize("feasible", [None, True, False])
@pytest.mark.parametrize("on_front", [None, True, False])
def test_pages_hold_every_candidate_that_fits_once_and_in_order(
    store_of_twenty: tuple[Store, str], key: str | None, descending: bool, feasible: bool | None, on_front: bool | None
) -> None:
    store, job_id = store_of_twenty
    found = pages(store, job_id, order_by=key, descending=descending, feasible=feasible, on_front=on_front)
    fits = [
        candidate
        for candidate in store.candidates(job_id, page_size=100).items
        if feasible in (None, candidate.feasible) and on_front in (None, candidate.on_front)
    ]
    order = key or "number"
    valued = sorted(
        (c for c in fits if order in c.values), key=lambda c: (c.values[order], c.digest), reverse=descending
    )
    others = [c for c in fits if order not in c.values]
    others.sort(key=lambda c: c.number, reverse=descending and order == "number")
    assert found == valued + others


@pytest.fixture(scope="module")
def store_of_twenty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """A job with twenty candidates: ties, failures, infeasible ones. Read only, and on SQLite."""
    folder = tmp_path_factory.mktemp("twenty")
    return filled(f"sqlite:///{folder / 'nas.db'}", folder)


def filled(url: str, folder: Path) -> tuple[Store, str]:
    store = Store.open(url, folder)
    lease = searching(store, store.register_worker("here", 1, "cpu").worker_id)
    settled_points(lease, [(0.5 + i % 4 / 10, float(i % 5)) for i in range(12)])
    more = lease.journal.propose([proposal(50 + i) for i in range(8)])
    lease.journal.settle([infeasible(e.evaluation_id, 3.0) for e in more[:5]])
    lease.journal.settle([failed(e.evaluation_id) for e in more[5:]])
    return store, lease.job_id


def test_pages_and_samples_are_the_same_on_postgres(
    postgres_url: str, tmp_path: Path, store_of_twenty: tuple[Store, str]
) -> None:
    store, job_id = filled(postgres_url, tmp_path)
    for key in ("number", "accuracy@supernet", "none@cost"):
        for options in ({}, {"feasible": True}, {"on_front": True}, {"on_front": False}, {"descending": True}):
            here, there = (
                [c.digest for c in pages(*place, order_by=key, **options)]
                for place in (store_of_twenty, (store, job_id))
            )
            assert here == there
    assert [c.digest for c in store.sample_candidates(job_id, 5)] == [
        c.digest for c in store_of_twenty[0].sample_candidates(store_of_twenty[1], 5)
    ]
    store.close()


def test_pages_neither_miss_nor_repeat_while_candidates_are_added(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    digests = settled_points(lease, [(i / 100, 1.0) for i in range(10)])
    seen: list[str] = []
    token, number = None, 100
    while True:
        page = store.candidates(lease.job_id, order_by="accuracy@supernet", page_size=3, page_token=token)
        seen += [candidate.digest for candidate in page.items]
        if number < 110:
            settled_points(lease, [(0.035, 1.0), (0.9, 1.0)], first=number)
            number += 2
        token = page.next_page_token
        if token is None:
            break
    assert [digest for digest in seen if digest in digests] == digests
    assert len(seen) == len(set(seen))


def test_a_wrong_order_or_a_token_of_another_order_is_refused(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    settled_points(lease, [(0.1, 1.0), (0.2, 1.0)])
    with pytest.raises(SpecError, match="order_by"):
        store.candidates(lease.job_id, order_by="accuracy")
    token = store.candidates(lease.job_id, order_by="accuracy@supernet", page_size=1).next_page_token
    for other in ("number", "params@cost"):
        with pytest.raises(SpecError, match="page_token"):
            store.candidates(lease.job_id, order_by=other, page_token=token)


def test_a_sample_is_spread_evenly_and_leaves_out_what_has_no_values(store_of_twenty: tuple[Store, str]) -> None:
    store, job_id = store_of_twenty
    assert [c.number for c in store.sample_candidates(job_id, 100)] == list(range(17))
    assert [c.number for c in store.sample_candidates(job_id, 5)] == [0, 4, 8, 12, 16]
    assert [c.number for c in store.sample_candidates(job_id, 7)] == [0, 3, 6, 9, 12, 15]


def test_progress_is_merged_and_written_with_the_next_write(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    lease.journal.progress(phase=Phase.SEARCH, evaluations_done=1)
    lease.journal.progress(fraction=0.5, message="half")
    lease.journal.event("log", {})
    progress = store.job(lease.job_id).progress
    assert (progress.fraction, progress.message, progress.evaluations_done) == (0.5, "half", 1)
    with pytest.raises(TypeError, match="speed"):
        lease.journal.progress(speed=1)


def test_what_is_spent_adds_up_over_threads(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    together = threading.Barrier(4)

    def spend(_: int) -> None:
        together.wait()
        for _ in range(5):
            lease.journal.spend(epochs=1, seconds=0.5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(spend, range(4)))
    spent = store.job(lease.job_id).spent
    assert (spent.evaluations, spent.epochs, spent.worker_seconds) == (0, 20, 10.0)


def test_reports_are_kept_with_the_job_and_told(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    costs = (CostRange(metric="params", unit="1", minimum=1, median=2, maximum=3),)
    preflight = PreflightReport(space_size=10, costs=costs, satisfiable=True)
    trust = TrustReport(audited=3, verdict="too few", truth="short training", rankers=())
    first = [Delivery(digest=d, text=d, weights="trained", metrics={"accuracy": 0.5}) for d in "ab"]
    second = Delivery(digest="a", text="a", weights="trained", metrics={"accuracy": 0.9})
    for report in (preflight, trust, *first, second):
        lease.journal.report(report)
    job = store.job(lease.job_id)
    assert (job.preflight, job.trust, job.deliveries) == (preflight, trust, (second, first[1]))
    told = [event.type for event in store.events(lease.job_id).items][-5:]
    assert told == ["preflight", "trust", "delivery", "delivery", "delivery"]


@pytest.mark.slow
def test_a_hundred_thousand_candidates_are_read_along_indexes(tmp_path: Path) -> None:
    """Counted in steps of SQLite's machine, not in seconds: a page must not walk over the job."""
    store = Store.open(f"sqlite:///{tmp_path / 'nas.db'}", tmp_path)
    lease = searching(store, store.register_worker("here", 1, "cpu").worker_id)
    draws = np.random.default_rng(0).random((100_000, 2))
    for start in range(0, len(draws), 10_000):
        settled_points(lease, [(a, b) for a, b in draws[start : start + 10_000].tolist()], first=start)
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    def watch(connection: sqlite3.Connection, *_: object) -> None:
        connection.set_progress_handler(count, 1000)

    sa.event.listen(store._database.engine, "checkout", watch)
    for options in ({}, {"order_by": "accuracy@supernet"}, {"order_by": "accuracy@supernet", "on_front": True}):
        steps = 0
        page = store.candidates(lease.job_id, page_size=100, **options)  # type: ignore[arg-type]
        assert steps < 100, options
        if page.next_page_token:
            store.candidates(lease.job_id, page_size=100, page_token=page.next_page_token, **options)  # type: ignore[arg-type]
            assert steps < 200, options
    steps = 0
    assert len(store.sample_candidates(lease.job_id, 2000)) == 2000
    assert steps < 10_000
    steps = 0
    more = lease.journal.propose([proposal(200_000)])
    lease.journal.settle([finished(more[0].evaluation_id, 0.5, 0.5)])
    assert steps < 100
    store.close()


def test_the_planner_of_a_later_stage_sees_what_came_before(store: Store, worker_id: str) -> None:
    planner = FakePlanner({Phase.SEARCH: ["s"], Phase.AUDIT: ["a"]})
    new_job(store)
    lease = claimed(store, worker_id, planner)
    digests = settled_points(lease, [(0.5, 1.0)])
    lease.complete({"found": 1})
    view = claimed(store, worker_id, planner).view
    assert view.results(Phase.SEARCH) == [{"found": 1}]
    assert [c.digest for c in view.candidates()] == digests
    assert view.job().job_id == lease.job_id
