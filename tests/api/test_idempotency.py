"""A POST that is sent twice is done once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.conftest import SPEC, Running, fill
from tests.api.test_jobs import problem


def test_the_same_request_is_answered_the_same_and_done_once(service: Running) -> None:
    headers = {"Idempotency-Key": "once"}
    first = service.http.post("/v1/jobs", json=SPEC, headers=headers)
    again = service.http.post("/v1/jobs", json=SPEC, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["idempotent-replayed"] == "true"
    assert len(service.http.get("/v1/jobs").json()["items"]) == 1


def test_another_body_or_address_under_the_same_key_is_refused(service: Running) -> None:
    headers = {"Idempotency-Key": "once"}
    job = service.http.post("/v1/jobs", json=SPEC, headers=headers).json()
    problem(service.http.post("/v1/jobs", json=SPEC | {"seed": 1}, headers=headers), 422, "IDEMPOTENCY_KEY_REUSED")
    problem(service.http.post(f"/v1/jobs/{job['job_id']}/pause", headers=headers), 422, "IDEMPOTENCY_KEY_REUSED")
    assert service.store.job(job["job_id"]).state == "QUEUED"


def test_a_verb_repeated_under_its_key_is_answered_as_the_first_time(service: Running) -> None:
    job = service.submit()
    headers = {"Idempotency-Key": "cancel-it"}
    for _ in range(2):
        answer = service.http.post(f"/v1/jobs/{job.job_id}/cancel", headers=headers)
        assert (answer.status_code, answer.json()["state"]) == (200, "CANCELLED")


def test_an_export_repeated_under_its_key_is_one_export(service: Running) -> None:
    job = service.submit()
    fill(service.lease(), 1)
    path, headers = f"/v1/jobs/{job.job_id}/exports", {"Idempotency-Key": "export"}
    ids = {service.http.post(path, json={}, headers=headers).json()["export_id"] for _ in range(3)}
    assert len(ids) == len(service.http.get(path).json()["items"]) == 1


def test_a_refused_request_leaves_its_key_free(service: Running) -> None:
    headers = {"Idempotency-Key": "second-try"}
    problem(service.http.post("/v1/jobs", json={"dataset": "nothing"}, headers=headers), 422, "INVALID_SPEC")
    assert service.http.post("/v1/jobs", json=SPEC, headers=headers).status_code == 201


def test_a_request_that_is_being_answered_is_not_done_beside_itself(service: Running) -> None:
    headers = {"Idempotency-Key": "at-once"}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: service.http.post("/v1/jobs", json=SPEC, headers=headers), range(6)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["job_id"] for answer in answers if answer.status_code == 201}) == 1
    assert len(service.http.get("/v1/jobs").json()["items"]) == 1


@pytest.mark.parametrize("key", ["", "with space", "x" * 201])
def test_an_unusable_key_is_refused(service: Running, key: str) -> None:
    answer = service.http.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": key})
    assert problem(answer, 422, "INVALID_REQUEST")["violations"]
