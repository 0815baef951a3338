"""What the SDK does when the network or the service misbehaves, and how it reads the event stream."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from nas.client import Client
from nas.client._events import Feed
from nas.resources import Job
from searchspaces import Conflict, InvalidState, NotFound, ServiceError, SpecError
from tests.api.conftest import SPEC

JOB = Job.model_validate(
    {
        "job_id": "job_1",
        "name": "small",
        "state": "QUEUED",
        "progress": {},
        "spec": {},
        "spec_digest": "0",
        "budget": {},
        "spent": {},
        "objectives": [],
        "version": 1,
        "created_at": "2026-01-01T00:00:00Z",
    }
).model_dump_json()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_URL", raising=False)
    monkeypatch.delenv("NAS_TOKEN", raising=False)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_no_service_is_said_with_the_way_out() -> None:
    started = time.monotonic()
    with Client("http://127.0.0.1:9") as client, pytest.raises(ServiceError, match=r"nas up.*NAS_URL"):
        client.jobs()
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("url", ["ftp://host", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ServiceError, match="no address"):
        Client(url)


def answering(*outcomes: object) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """A transport that gives these outcomes in turn, and the requests it saw."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        outcome = outcomes[min(len(seen), len(outcomes)) - 1]
        if isinstance(outcome, Exception):
            raise outcome
        assert isinstance(outcome, httpx.Response)
        return outcome

    return httpx.MockTransport(handle), seen


EMPTY = {"items": []}


@pytest.mark.parametrize(
    "broken", [httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.Response(503), httpx.Response(502)]
)
def test_a_get_is_sent_again_when_the_connection_or_the_service_fails(broken: object) -> None:
    transport, seen = answering(broken, httpx.Response(200, json=EMPTY))
    with Client("http://service", transport=transport) as client:
        assert client.workers() == []
    assert len(seen) == 2


def test_a_post_is_sent_again_with_the_same_key() -> None:
    job = {**json.loads(JOB), "state": "QUEUED"}
    transport, seen = answering(httpx.ReadError("reset"), httpx.Response(201, json=job))
    with Client("http://service", transport=transport) as client:
        client.submit(SPEC)
        client.submit(SPEC)
    keys = [request.headers["Idempotency-Key"] for request in seen]
    assert keys[0] == keys[1]
    assert keys[1] != keys[2]


def test_a_delete_is_sent_once() -> None:
    transport, seen = answering(httpx.ReadError("reset"))
    with Client("http://service", transport=transport) as client, pytest.raises(ServiceError):
        client.remove_dataset("numbers")
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("status", "problem", "kind"),
    [
        (422, {"code": "INVALID_CONFIG", "violations": [{"field": "a", "value": "1", "allowed": "2"}]}, SpecError),
        (404, {"code": "NOT_FOUND", "detail": "gone"}, NotFound),
        (409, {"code": "INVALID_STATE", "detail": "not now"}, InvalidState),
        (409, {"code": "CONFLICT", "detail": "changed"}, Conflict),
        (412, {"code": "PRECONDITION_FAILED", "detail": "changed"}, Conflict),
        (422, {"code": "INVALID_DATA", "detail": "broken file"}, ServiceError),
        (500, None, ServiceError),
    ],
)
def test_a_problem_becomes_the_error_it_means(status: int, problem: object, kind: type[Exception]) -> None:
    answer = httpx.Response(status, json=problem) if problem else httpx.Response(status, text="<html>")
    transport, _ = answering(answer)
    with Client("http://service", transport=transport) as client, pytest.raises(kind) as caught:
        client.workers()
    detail = problem.get("detail", "a") if isinstance(problem, dict) else "answered 500"
    assert detail in str(caught.value)


def test_an_answer_that_is_no_resource_is_said() -> None:
    transport, _ = answering(httpx.Response(200, json={"hello": 1}))
    with Client("http://service", transport=transport) as client, pytest.raises(ServiceError, match="is a nas service"):
        client.job("x")


def test_a_token_is_sent_and_a_missing_one_is_explained() -> None:
    transport, seen = answering(httpx.Response(401, json={"code": "UNAUTHENTICATED", "detail": "no token."}))
    with (
        Client("http://service", "secret", transport=transport) as client,
        pytest.raises(ServiceError, match="NAS_TOKEN"),
    ):
        client.workers()
    assert seen[0].headers["Authorization"] == "Bearer secret"


def test_the_address_and_token_of_the_environment_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_URL", "host:8421/")
    monkeypatch.setenv("NAS_TOKEN", "secret")
    transport, seen = answering(httpx.Response(200, json=EMPTY))
    with Client(transport=transport) as client:
        client.workers()
        assert client.url == "http://host:8421"
    assert seen[0].headers["Authorization"] == "Bearer secret"


# --- the stream's format ----------------------------------------------------------------------------------------------


def test_a_feed_reads_lines_pings_and_numbers() -> None:
    feed = Feed(3)
    text = ': ping\n\nid: 4\nevent: log\ndata: {"a":\ndata: 1}\n\nevent: progress\ndata: {}\n\nevent: end\n\n'
    messages = [m for m in map(feed.message, text.split("\n")[:-1]) if m]
    assert [(m.type, m.sequence, m.data) for m in messages] == [
        ("log", 4, {"a": 1}),
        ("progress", None, {}),
        ("end", None, {}),
    ]
    assert feed.after == 4


def test_a_feed_forgets_a_message_that_was_cut() -> None:
    feed = Feed()
    feed.message("event: log")
    feed.message('data: {"cut": ')
    assert feed.pause(None) > 0
    assert [feed.message(line) for line in ("event: end", "data: {}")] == [None, None]
    message = feed.message("")
    assert message is not None
    assert message.type == "end"


def test_a_feed_gives_up_on_what_will_not_pass() -> None:
    with pytest.raises(NotFound):
        Feed().pause(NotFound("gone"))
    with pytest.raises(ServiceError):
        Feed().pause(ServiceError("no", status=403))
    assert Feed().pause(ServiceError("away")) < 1
