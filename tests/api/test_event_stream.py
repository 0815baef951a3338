"""Events as they happen: order, resumption, ends, and many listeners."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest

import api.event_stream
from nas.resources import Event
from tests.api.conftest import Running, fill

STREAM = {"Accept": "text/event-stream"}


class Message(NamedTuple):
    event: str
    data: Any
    id: str | None


def messages(answer: httpx.Response) -> Iterator[Message]:
    """What a stream sends, without the pings."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            if "data" in fields:
                yield Message(fields["event"], json.loads(fields["data"]), fields.get("id"))
            fields = {}


def heard(service: Running, job_id: str, headers: dict[str, str] | None = None, query: str = "") -> list[Message]:
    """Everything until the stream ends."""
    with service.http.stream("GET", f"/v1/jobs/{job_id}/events{query}", headers=STREAM | (headers or {})) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(messages(answer))


def test_a_finished_job_tells_everything_then_ends(service: Running) -> None:
    job = service.searched()
    found = heard(service, job.job_id)
    stored = [m for m in found if m.id is not None]
    assert [m.id for m in stored] == [str(n) for n in range(1, len(stored) + 1)]
    assert Event.model_validate(stored[0].data).data == {"state": "QUEUED", "reason": None}
    assert all(m.event == m.data["type"] for m in stored)
    assert found[-1] == Message("end", {"state": "SUCCEEDED", "reason": None}, None)
    progress = [m.data for m in found if m.event == "progress"]
    assert progress[-1]["state"] == "SUCCEEDED"
    assert "spec" not in progress[-1]


def test_a_listener_that_comes_back_misses_nothing_and_hears_nothing_twice(service: Running) -> None:
    job = service.searched()
    every = [m.id for m in heard(service, job.job_id) if m.id]
    again = [m.id for m in heard(service, job.job_id, {"Last-Event-ID": "7"}) if m.id]
    assert again == every[7:]
    assert [m.id for m in heard(service, job.job_id, query="?after=7") if m.id] == every[7:]
    both = heard(service, job.job_id, {"Last-Event-ID": "9"}, "?after=7")
    assert [m.id for m in both if m.id] == every[9:]


def test_a_listener_ahead_of_the_job_hears_only_the_end(service: Running) -> None:
    job = service.searched(num_candidates=1)
    assert [m.event for m in heard(service, job.job_id, query="?after=100000")] == ["progress", "end"]


def test_a_live_job_is_heard_while_it_works(service: Running) -> None:
    job = service.submit()
    with service.http.stream("GET", f"/v1/jobs/{job.job_id}/events", headers=STREAM) as answer:
        stream = messages(answer)
        assert next(stream).event == "job.state"
        assert next(stream).event == "progress"
        lease = service.lease()
        fill(lease, 2)
        lease.complete({})
        service.store.act(job.job_id, "cancel")
        events = [message.event for message in stream]
    assert events.count("evaluations") == 2
    assert events.count("epoch") == 3
    assert "progress" in events
    assert events[-1] == "end"


def test_more_events_than_a_batch_are_all_told_in_order(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.event_stream, "_BATCH", 20)
    job = service.submit()
    lease = service.lease()
    for number in range(70):
        lease.journal.event("log", {"level": "info", "message": str(number)})
    service.store.act(job.job_id, "cancel")
    lease.release()
    found = [m for m in heard(service, job.job_id) if m.event == "log"]
    assert [m.data["data"]["message"] for m in found] == [str(number) for number in range(70)]


def test_a_listener_that_does_not_read_holds_nobody_up(service: Running) -> None:
    job = service.submit()
    lease = service.lease()
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = f"GET /v1/jobs/{job.job_id}/events HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n"
        deaf.sendall(request.encode())
        for _ in range(60):
            lease.journal.event("log", {"level": "info", "message": "x" * 50_000})
        started = time.monotonic()
        service.store.act(job.job_id, "cancel")
        lease.release()
        assert heard(service, job.job_id)[-1].event == "end"
        assert service.http.get("/healthz").status_code == 200
        assert time.monotonic() - started < 10


def test_many_listeners_of_one_job_share_the_looks_at_the_store(service: Running) -> None:
    job = service.submit()
    streams = service.app.state.service.streams
    with httpx.Client(base_url=service.url, limits=httpx.Limits(max_connections=20)) as http:

        def listen() -> None:
            with http.stream("GET", f"/v1/jobs/{job.job_id}/events", headers=STREAM) as answer:
                ends.extend(m for m in messages(answer) if m.event == "end")

        ends: list[Message] = []
        threads = [threading.Thread(target=listen) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_for(lambda: sum(watch.num_listeners for watch in streams._watches.values()) == 8)
        assert len(streams._watches) == 1
        service.store.act(job.job_id, "cancel")
        for thread in threads:
            thread.join(10)
    assert len(ends) == 8
    wait_for(lambda: not streams._watches)


def test_a_listener_that_left_is_forgotten(service: Running) -> None:
    job = service.submit()
    streams = service.app.state.service.streams
    with service.http.stream("GET", f"/v1/jobs/{job.job_id}/events", headers=STREAM) as answer:
        stream = messages(answer)
        assert next(stream).event == "job.state"
        assert streams._watches
    wait_for(lambda: not streams._watches)


def test_a_deleted_job_ends_its_streams(service: Running) -> None:
    job = service.submit()
    with service.http.stream("GET", f"/v1/jobs/{job.job_id}/events", headers=STREAM) as answer:
        stream = messages(answer)
        next(stream)
        service.store.act(job.job_id, "cancel")
        service.store.delete_job(job.job_id)
        last = list(stream)[-1]
    assert last.event == "end"


def test_a_server_that_shuts_down_ends_its_streams_without_an_end(service: Running) -> None:
    job = service.submit()
    with service.http.stream("GET", f"/v1/jobs/{job.job_id}/events", headers=STREAM) as answer:
        stream = messages(answer)
        next(stream)
        service.app.state.service.streams.end()
        assert "end" not in [message.event for message in stream]


def test_a_stream_of_an_unknown_job_is_an_error_and_no_stream(service: Running) -> None:
    answer = service.http.get("/v1/jobs/job_none/events", headers=STREAM)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def wait_for(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
