"""A POST that is sent twice is done once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from api import idempotency
from api.idempotency import Handler
from nas.client import Client
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


def slow(service: Running) -> Callable[[], int]:
    """Let admission take two thirds of a second; gives how often it was asked."""
    asked = 0
    admit = service.app.state.service.admit

    def slowly(mapping: Mapping[str, object]) -> object:
        nonlocal asked
        asked += 1
        time.sleep(0.7)
        return admit(mapping)

    service.app.state.service = replace(service.app.state.service, admit=slowly)
    return lambda: asked


def test_a_client_that_goes_away_finds_the_answer_when_it_asks_again(service: Running) -> None:
    num_asked, headers = slow(service), {"Idempotency-Key": "impatient"}
    for _ in range(3):
        with pytest.raises(httpx.ReadTimeout):
            service.http.post("/v1/jobs", json=SPEC, headers=headers, timeout=0.1)
    answer = service.http.post("/v1/jobs", json=SPEC, headers=headers)
    assert (answer.status_code, num_asked()) == (201, 1)
    (only,) = service.store.jobs().items
    assert answer.json()["job_id"] == only.job_id


def test_the_answer_is_kept_when_the_request_is_cancelled(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(handle: Handler, request: Request, key: str) -> Response:
        first = asyncio.ensure_future(once(handle, request, key))
        await asyncio.sleep(0.2)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await once(handle, request, key)

    num_asked, once = slow(service), idempotency._once
    monkeypatch.setattr(idempotency, "_once", ask)
    answer = service.http.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "cancelled"})
    assert (answer.status_code, answer.headers["idempotent-replayed"], num_asked()) == (201, "true", 1)
    assert len(service.store.jobs().items) == 1


def test_a_claim_is_held_for_as_long_as_it_is_answered(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(service)
    monkeypatch.setattr("db._registers._ANSWER_WITHIN", timedelta(seconds=0.2))
    monkeypatch.setattr(idempotency, "_HOLD_SECONDS", 0.05)
    headers = {"Idempotency-Key": "long"}
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(service.http.post, "/v1/jobs", json=SPEC, headers=headers)
        time.sleep(0.4)
        second = pool.submit(service.http.post, "/v1/jobs", json=SPEC, headers=headers)
        assert first.result().json()["job_id"] == second.result().json()["job_id"]
    assert len(service.store.jobs().items) == 1


def test_the_client_waits_for_an_answer_that_is_being_made(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    num_asked = slow(service)
    monkeypatch.setattr(idempotency, "_PATIENCE_SECONDS", 0.0)  # the service says 409 at once
    monkeypatch.setattr("nas.client._transport._TIMEOUT", httpx.Timeout(0.2))
    with Client(service.url) as client:
        job = client.submit(SPEC)
    assert [found.job_id for found in service.store.jobs().items] == [job.job_id]
    assert num_asked() == 1


@pytest.mark.parametrize("key", ["", "with space", "x" * 201])
def test_an_unusable_key_is_refused(service: Running, key: str) -> None:
    answer = service.http.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": key})
    assert problem(answer, 422, "INVALID_REQUEST")["violations"]
