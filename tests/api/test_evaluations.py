"""Evaluations over REST: claimed, renewed, given back, answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from db import Lease
from nas.claims import Offer
from nas.resources import Fidelity, Proposal
from tests.api.conftest import TEXTS, Running, digest_of
from tests.api.test_jobs import problem
from tests.api.test_security import READER, SUBMITTER, TOKENS, WORKER, bearer

Start = Callable[..., Running]


def offering(service: Running, number: int = 2) -> Lease:
    """A search that offers so many evaluations to phones."""
    service.submit()
    lease = service.lease()
    proposals = [Proposal(text=t, digest=digest_of(t), fidelity=Fidelity(level="full")) for t in TEXTS[:number]]
    lease.exchange.offer(
        [
            Offer(
                evaluation_id=evaluation.evaluation_id,
                target="phone",
                space={"name": "nasbench201", "config": {}},
                options={"0->1": "nor_conv_3x3"},
                metrics={"accuracy": "full", "phone_latency": "cost"},
                seed=1,
                lease_seconds=60,
                attempts=3,
            )
            for evaluation in lease.journal.propose(proposals)
        ]
    )
    return lease


def claim(service: Running, **body: Any) -> list[dict[str, Any]]:
    answer = service.http.post("/v1/evaluations/claim", json={"target": "phone", "worker": "pixel", **body})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def post(service: Running, claimed: dict[str, Any], what: str = "measurements", **body: Any) -> httpx.Response:
    path = f"/v1/evaluations/{claimed['evaluation_id']}/{what}"
    return service.http.post(path, json={"attempt": claimed["attempt"], **body})


GOOD = {"accuracy": 0.93, "phone_latency": 12.5}


def test_an_evaluation_is_claimed_renewed_and_answered_once(service: Running) -> None:
    lease = offering(service)
    (first,) = claim(service)
    assert (first["text"], first["attempt"], first["worker"]) == (TEXTS[0], 1, "pixel")
    assert first["metrics"] == {"accuracy": "full", "phone_latency": "cost"}
    renewed = post(service, first, "renew")
    assert renewed.status_code == 200
    assert renewed.json()["expires_at"] > first["expires_at"]
    answered = [post(service, first, measurements=GOOD, context={"os": "14"}, seconds=3.5) for _ in range(2)]
    assert [answer.status_code for answer in answered] == [200, 200]
    assert answered[0].json() == answered[1].json()
    (kept,) = lease.exchange.collect([first["evaluation_id"]])
    assert (kept.measurements, kept.context, kept.seconds) == (GOOD, {"os": "14"}, 3.5)
    assert [item["text"] for item in claim(service, count=9)] == [TEXTS[1]]
    assert claim(service) == []


def test_other_values_after_the_first_are_a_conflict(service: Running) -> None:
    offering(service)
    (claimed,) = claim(service)
    assert post(service, claimed, measurements=GOOD).status_code == 200
    problem(post(service, claimed, measurements={**GOOD, "accuracy": 0.5}), 409, "CONFLICT")


def test_what_was_given_back_is_another_s_and_the_first_is_told_so(service: Running) -> None:
    offering(service, 1)
    (first,) = claim(service)
    assert post(service, first, "release").status_code == 204
    (second,) = claim(service, worker="other")
    assert second["attempt"] == 2
    problem(post(service, first, measurements=GOOD), 409, "LEASE_LOST")
    problem(post(service, first, "renew"), 409, "LEASE_LOST")
    problem(post(service, first, "release"), 409, "LEASE_LOST")
    assert post(service, second, error="the phone ran hot").status_code == 200


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"measurements": {"accuracy": 0.9}}, "INVALID_MEASUREMENTS", "measurements.phone_latency"),
        ({"measurements": {**GOOD, "power": 3.0}}, "INVALID_MEASUREMENTS", "measurements.power"),
        ({"measurements": GOOD, "error": "broken"}, "INVALID_MEASUREMENTS", "error"),
        ({"measurements": {"accuracy": "high"}}, "INVALID_REQUEST", "measurements.accuracy"),
        ({"measurements": GOOD, "seconds": -1}, "INVALID_REQUEST", "seconds"),
        ({"error": ""}, "INVALID_REQUEST", "error"),
        ({"values": GOOD}, "INVALID_REQUEST", "values"),
    ],
)
def test_bad_measurements_are_refused_with_field_value_and_way_out(
    service: Running, body: dict[str, Any], code: str, field: str
) -> None:
    lease = offering(service)
    (claimed,) = claim(service)
    found = problem(post(service, claimed, **body), 422, code)
    assert [violation["field"] for violation in found["violations"]] == [field]
    assert all(violation["allowed"] for violation in found["violations"])
    assert lease.exchange.collect([claimed["evaluation_id"]]) == []


def test_a_number_that_is_none_is_refused(service: Running) -> None:
    offering(service)
    (claimed,) = claim(service)
    path = f"/v1/evaluations/{claimed['evaluation_id']}/measurements"
    for word in ("NaN", "Infinity"):
        content = f'{{"attempt": 1, "measurements": {{"accuracy": {word}, "phone_latency": 1}}}}'
        answer = service.http.post(path, content=content, headers={"Content-Type": "application/json"})
        assert problem(answer, 422, "INVALID_REQUEST")["violations"][0]["field"] == "measurements.accuracy"


def test_a_claim_says_of_what(service: Running) -> None:
    found = problem(service.http.post("/v1/evaluations/claim", json={"worker": "w"}), 422, "INVALID_REQUEST")
    assert "target or job_id" in found["detail"]
    missing = service.http.post("/v1/evaluations/claim", json={"worker": "w", "job_id": "job_none"})
    problem(missing, 404, "NOT_FOUND")


def test_a_job_that_is_over_says_so_to_who_claims_of_it(service: Running) -> None:
    lease = offering(service)
    lease.complete({})
    service.store.act(lease.job_id, "cancel")
    over = service.http.post("/v1/evaluations/claim", json={"worker": "w", "job_id": lease.job_id})
    assert "nothing of it is left" in problem(over, 409, "INVALID_STATE")["detail"]


def test_an_evaluation_that_nobody_offered_is_not_found(service: Running) -> None:
    problem(post(service, {"evaluation_id": "eval_none_1", "attempt": 1}, measurements=GOOD), 404, "NOT_FOUND")


def test_a_claim_sent_twice_with_one_key_is_one_claim(service: Running) -> None:
    offering(service)
    body, headers = {"target": "phone", "worker": "pixel"}, {"Idempotency-Key": "once"}
    first, second = (service.http.post("/v1/evaluations/claim", json=body, headers=headers).json() for _ in range(2))
    assert first == second
    assert len(claim(service, count=9)) == 1


def test_devices_need_the_scope_worker_and_no_other(start: Start) -> None:
    service = start(tokens=TOKENS)
    body = {"target": "phone", "worker": "pixel"}
    status = {
        token: service.http.post("/v1/evaluations/claim", json=body, headers=bearer(token)).status_code
        for token in (WORKER, READER, SUBMITTER)
    }
    assert status == {WORKER: 200, READER: 403, SUBMITTER: 403}
