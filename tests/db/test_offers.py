"""Evaluations in the hands of devices: offered, claimed, lost, answered once, on both databases."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations

from db import Lease, Store
from db._models import jobs
from nas.claims import Answer, Claim, Offer
from nas.resources import Evaluation, EvaluationState, Fidelity, JobState
from searchspaces import Conflict, InvalidState, LeaseLost, NotFound, SpecError
from tests.db.conftest import FakePlanner, claimed, finished, new_job, proposal, searching, settled_points

LEASE = 0.3


def offers_of(evaluations: list[Evaluation], **terms: object) -> list[Offer]:
    common = {
        "target": "phone",
        "space": {"name": "chain", "config": {"width": 2}},
        "options": {"last": "b", "first": "a"},
        "metrics": {"accuracy": "full", "latency": "cost"},
        "seed": 7,
        "lease_seconds": 60.0,
        "attempts": 3,
    }
    return [Offer.model_validate({**common, "evaluation_id": e.evaluation_id, **terms}) for e in evaluations]


def offering(store: Store, worker_id: str, number: int = 2, **terms: object) -> tuple[Lease, list[str]]:
    """A search unit that has offered so many evaluations, and their ids."""
    lease = searching(store, worker_id)
    evaluations = lease.journal.propose([proposal(i) for i in range(number)])
    lease.exchange.offer(offers_of(evaluations, **terms))
    return lease, [e.evaluation_id for e in evaluations]


def take(store: Store, count: int = 1, worker: str = "pixel-1") -> list[Claim]:
    return store.claim_evaluations(target="phone", worker=worker, count=count)


def measured(claim: Claim, accuracy: float = 0.9, **fields: object) -> Answer:
    values = {"measurements": {"accuracy": accuracy, "latency": 3.5}, **fields}
    return Answer.model_validate({"evaluation_id": claim.evaluation_id, "attempt": claim.attempt, **values})


def expire() -> None:
    time.sleep(LEASE * 1.5)


def test_a_claim_tells_everything_that_measuring_needs(store: Store, worker_id: str) -> None:
    lease, (first, _) = offering(store, worker_id)
    (claim,) = take(store)
    assert (claim.evaluation_id, claim.job_id) == (first, lease.job_id)
    assert (claim.text, claim.digest, claim.replicate, claim.seed) == ("network 0", f"{0:08x}", 0, 7)
    assert (claim.fidelity.level, claim.fidelity.resources) == ("supernet", {"epochs": 2.0})
    assert list(claim.options.items()) == [("last", "b"), ("first", "a")]
    assert claim.space == {"name": "chain", "config": {"width": 2}}
    assert claim.metrics == {"accuracy": "full", "latency": "cost"}
    assert (claim.target, claim.worker, claim.attempt, claim.lease_seconds) == ("phone", "pixel-1", 1, 60.0)


def test_a_claim_of_a_partial_measurement_says_what_it_may_spend(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    rung = Fidelity(level="partial", resources={"epochs": 1.5})
    asked = [proposal(0, level="partial").model_copy(update={"fidelity": rung}), proposal(0)]
    lease.exchange.offer(offers_of(lease.journal.propose(asked)))
    assert [claim.fidelity for claim in take(store, 2)] == [proposal.fidelity for proposal in asked]


def test_claims_go_round_in_order_and_none_twice(store: Store, worker_id: str) -> None:
    _, ids = offering(store, worker_id, 5)
    assert [c.evaluation_id for c in take(store, 2)] == ids[:2]
    assert [c.evaluation_id for c in take(store, 9, "pixel-2")] == ids[2:]
    assert take(store) == []


def test_many_devices_that_claim_at_once_share_the_evaluations(store: Store, worker_id: str) -> None:
    _, ids = offering(store, worker_id, 12)
    with ThreadPoolExecutor(6) as pool:
        found = [claim for claims in pool.map(lambda i: take(store, 2, f"d{i}"), range(6)) for claim in claims]
    assert sorted(claim.evaluation_id for claim in found) == sorted(ids)


def test_a_claim_is_of_a_target_or_of_a_job(store: Store, worker_id: str) -> None:
    lease, ids = offering(store, worker_id)
    assert store.claim_evaluations(target="laptop", worker="w") == []
    assert store.claim_evaluations(target="laptop", job_id=lease.job_id, worker="w") == []
    assert [c.evaluation_id for c in store.claim_evaluations(job_id=lease.job_id, worker="w")] == ids[:1]
    with pytest.raises(NotFound, match="no job 'job_none'"):
        store.claim_evaluations(job_id="job_none", worker="w")


def test_the_evaluations_of_two_jobs_are_claimed_oldest_first(store: Store, worker_id: str) -> None:
    ids = [*offering(store, worker_id)[1], *offering(store, worker_id)[1]]
    assert [c.evaluation_id for c in take(store, 3)] == ids[:3]


def test_an_answer_is_collected_until_it_is_settled_and_comes_as_it_was_given(store: Store, worker_id: str) -> None:
    lease, ids = offering(store, worker_id)
    (claim,) = take(store)
    assert lease.exchange.collect(ids) == []
    given = measured(claim, std={"latency": 0.1}, context={"device": "pixel", "batch": 1}, seconds=12.5)
    assert store.answer_evaluation(given) == given
    assert lease.exchange.collect(ids) == lease.exchange.collect(ids) == [given]
    lease.journal.settle([finished(claim.evaluation_id, 0.9, 1.0)])
    assert store.answer_evaluation(given) == given


def test_the_time_since_the_claim_stands_for_seconds_that_are_not_told(store: Store, worker_id: str) -> None:
    lease, ids = offering(store, worker_id)
    (claim,) = take(store)
    time.sleep(0.05)
    kept = store.answer_evaluation(measured(claim))
    assert kept.seconds is not None
    assert 0.05 <= kept.seconds < 30
    assert lease.exchange.collect(ids) == [kept]
    assert store.answer_evaluation(measured(claim)) == kept


def test_an_equal_answer_changes_nothing_and_another_is_refused(store: Store, worker_id: str) -> None:
    lease, ids = offering(store, worker_id)
    (claim,) = take(store)
    first = store.answer_evaluation(measured(claim))
    assert store.answer_evaluation(measured(claim)) == first
    with pytest.raises(Conflict, match="other values"):
        store.answer_evaluation(measured(claim, 0.5))
    assert lease.exchange.collect(ids) == [first]


def test_a_failure_is_an_answer_with_its_reason(store: Store, worker_id: str) -> None:
    lease, ids = offering(store, worker_id)
    (claim,) = take(store)
    store.answer_evaluation(measured(claim, measurements={}, error="too large for the phone"))
    (answer,) = lease.exchange.collect(ids)
    assert (answer.error, answer.measurements) == ("too large for the phone", {})


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"measurements": {"accuracy": 0.9}}, ["measurements.latency"]),
        ({"measurements": {}}, ["measurements.accuracy", "measurements.latency"]),
        ({"measurements": {"accuracy": 0.9, "latency": 1, "power": 3}}, ["measurements.power"]),
        ({"std": {"power": 3}}, ["std.power"]),
        ({"error": "broken"}, ["error"]),
    ],
)
def test_measurements_that_are_not_those_asked_for_are_refused_with_their_names(
    store: Store, worker_id: str, fields: dict[str, object], wrong: list[str]
) -> None:
    lease, ids = offering(store, worker_id)
    (claim,) = take(store)
    with pytest.raises(SpecError) as refused:
        store.answer_evaluation(measured(claim, **fields))
    assert [violation.field for violation in refused.value.violations] == wrong
    assert lease.exchange.collect(ids) == []


def test_a_claim_that_ran_out_goes_to_the_next_and_its_answer_is_refused(store: Store, worker_id: str) -> None:
    lease, ids = offering(store, worker_id, 1, lease_seconds=LEASE)
    (first,) = take(store)
    expire()
    (second,) = take(store, worker="pixel-2")
    assert (second.evaluation_id, second.attempt) == (first.evaluation_id, 2)
    for late in (lambda: store.answer_evaluation(measured(first)), lambda: store.renew_evaluation(ids[0], 1)):
        with pytest.raises(LeaseLost, match="LEASE_LOST"):
            late()
    store.answer_evaluation(measured(second))
    assert [answer.attempt for answer in lease.exchange.collect(ids)] == [2]
    (told,) = store.events(lease.job_id, types=["lease"]).items
    assert (told.data["evaluation"], told.data["worker"], told.data["attempt"]) == (ids[0], "pixel-1", 1)


def test_a_late_answer_is_refused_even_when_nobody_else_has_claimed(store: Store, worker_id: str) -> None:
    offering(store, worker_id, 1, lease_seconds=LEASE)
    (claim,) = take(store)
    expire()
    with pytest.raises(LeaseLost):
        store.answer_evaluation(measured(claim))


def test_a_claim_that_is_renewed_does_not_run_out(store: Store, worker_id: str) -> None:
    offering(store, worker_id, 1, lease_seconds=LEASE)
    (claim,) = take(store)
    for _ in range(3):
        time.sleep(LEASE / 2)
        renewed = store.renew_evaluation(claim.evaluation_id, claim.attempt)
    assert renewed.expires_at > claim.expires_at
    assert take(store) == []
    store.answer_evaluation(measured(claim))


def test_what_is_given_back_goes_to_the_next_at_once_and_counts_as_no_loss(store: Store, worker_id: str) -> None:
    offering(store, worker_id, 1, attempts=1)
    (first,) = take(store)
    store.release_evaluation(first.evaluation_id, first.attempt)
    with pytest.raises(LeaseLost):
        store.answer_evaluation(measured(first))
    (second,) = take(store)
    store.answer_evaluation(measured(second))


def test_what_devices_lose_again_and_again_fails_with_the_reason(store: Store, worker_id: str) -> None:
    lease, ids = offering(store, worker_id, 1, lease_seconds=LEASE, attempts=2)
    for _ in range(2):
        (claim,) = take(store)
        expire()
    assert take(store) == []
    (answer,) = lease.exchange.collect(ids)
    assert answer.error is not None
    assert "2 devices claimed it and went silent, the last being pixel-1" in answer.error
    with pytest.raises(LeaseLost):
        store.answer_evaluation(measured(claim))


def test_what_nobody_answers_in_time_fails_with_the_reason(store: Store, worker_id: str) -> None:
    lease, ids = offering(store, worker_id, 2, timeout_seconds=LEASE)
    (claim,) = take(store)
    store.answer_evaluation(measured(claim))
    expire()
    answered = {answer.evaluation_id: answer.error for answer in lease.exchange.collect(ids)}
    assert answered == {ids[0]: None, ids[1]: f"no device of 'phone' answered within {LEASE:g} s"}
    assert take(store) == []


def test_a_pause_costs_the_devices_no_time(store: Store, open_store: Callable[[], Store], worker_id: str) -> None:
    terms = {"timeout_seconds": LEASE, "lease_seconds": LEASE}
    lease, ids = offering(store, worker_id, 3, **terms)
    done, _ = take(store, 2)
    store.answer_evaluation(measured(done))
    lease.release()
    expire()
    assert [claim.evaluation_id for claim in store.claim_evaluations(target="laptop", worker="w")] == []
    other = claimed(open_store(), worker_id)
    other.exchange.offer(offers_of(other.journal.pending("supernet"), **terms))
    assert [answer.evaluation_id for answer in other.exchange.collect(ids)] == [done.evaluation_id]
    assert [claim.evaluation_id for claim in take(store, 9)] == ids[1:]
    expire()
    errors = {answer.evaluation_id: answer.error for answer in other.exchange.collect(ids)}
    assert errors == {ids[0]: None} | dict.fromkeys(ids[1:], f"no device of 'phone' answered within {LEASE:g} s")


def test_another_owner_of_the_search_finds_the_offers_and_answers_as_they_stood(
    store: Store, open_store: Callable[[], Store], worker_id: str
) -> None:
    lease, ids = offering(store, worker_id, 3)
    done, held = take(store, 2)
    store.answer_evaluation(measured(done))
    lease.release()
    other = claimed(open_store(), worker_id)
    pending = other.journal.pending("supernet")
    other.exchange.offer(offers_of(pending))
    assert [answer.evaluation_id for answer in other.exchange.collect(ids)] == [done.evaluation_id]
    store.answer_evaluation(measured(held))
    assert len(other.exchange.collect(ids)) == 2
    assert [claim.evaluation_id for claim in take(store, 9)] == ids[2:]
    with pytest.raises(LeaseLost):
        lease.exchange.collect(ids)
    with pytest.raises(LeaseLost):
        lease.exchange.offer(offers_of(pending))


def test_a_paused_job_hands_nothing_out_and_takes_what_was_claimed(store: Store, worker_id: str) -> None:
    lease, ids = offering(store, worker_id)
    (claim,) = take(store)
    store.act(lease.job_id, "pause")
    assert take(store) == []
    store.renew_evaluation(claim.evaluation_id, claim.attempt)
    store.answer_evaluation(measured(claim))
    lease.release()
    assert store.job(lease.job_id).state is JobState.PAUSED
    assert take(store) == []
    store.act(lease.job_id, "resume")
    assert [c.evaluation_id for c in take(store)] == ids[1:]


def test_a_job_that_ends_takes_no_more_answers(store: Store, worker_id: str) -> None:
    lease, ids = offering(store, worker_id)
    (claim,) = take(store)
    store.act(lease.job_id, "cancel")
    assert take(store) == []
    with pytest.raises(LeaseLost):
        store.renew_evaluation(claim.evaluation_id, claim.attempt)
    lease.release()
    with pytest.raises(InvalidState, match="is CANCELLED: nothing of it is left to measure"):
        store.claim_evaluations(job_id=lease.job_id, worker="w")
    store.delete_job(lease.job_id)
    with pytest.raises(NotFound):
        store.answer_evaluation(measured(claim))
    assert ids


def test_what_a_search_left_behind_when_it_ended_is_handed_out_no_more(store: Store, worker_id: str) -> None:
    lease, _ = offering(store, worker_id)
    (claim,) = take(store)
    lease.complete({})
    assert take(store) == []
    with pytest.raises(LeaseLost):
        store.answer_evaluation(measured(claim))


def test_an_id_of_no_offered_evaluation_is_not_found(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    (evaluation,) = lease.journal.propose([proposal(1)])
    for unknown in (evaluation.evaluation_id, "eval_x_0", "eval_x_99999999999999", "nonsense", "eval_x_one"):
        with pytest.raises(NotFound, match=unknown):
            store.renew_evaluation(unknown, 1)


def columns_at_first(table: str) -> set[str]:
    """What the first revision makes of a table."""
    with sa.create_engine("sqlite://").begin() as connection:
        with Operations.context(MigrationContext.configure(connection)):
            import_module("db.migrations.versions.v0001_first").upgrade()
        return {column["name"] for column in sa.inspect(connection).get_columns(table)}


def test_a_store_of_the_first_version_is_migrated_with_what_it_holds(
    store: Store, open_store: Callable[[], Store], worker_id: str
) -> None:
    lease = searching(store, worker_id)
    settled_points(lease, [(0.9, 10), (0.8, 5)])
    job = store.job(lease.job_id).model_copy(update={"plan": None})  # which a job of that version has not
    held = job, store.candidates(lease.job_id), store.front(lease.job_id)
    with store._database.write() as connection:
        connection.execute(sa.text("DROP TABLE offers"))
        for column in {*jobs.c.keys()} - columns_at_first("jobs"):
            connection.execute(sa.text(f"ALTER TABLE jobs DROP COLUMN {column}"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))
    migrated = open_store()
    assert (migrated.job(lease.job_id), migrated.candidates(lease.job_id), migrated.front(lease.job_id)) == held
    new_job(migrated)
    second = claimed(migrated, worker_id, FakePlanner())
    evaluations = second.journal.propose([proposal(5)])
    assert evaluations[0].state is EvaluationState.PENDING
    second.exchange.offer(offers_of(evaluations))
    assert len(take(migrated)) == 1
