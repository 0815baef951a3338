"""Who may ask: hosts, origins, content types, sizes, tokens, scopes, headers."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.api.conftest import SPEC, Running
from tests.api.test_jobs import problem

READER, SUBMITTER, ADMIN, WORKER = ("reader" * 3, "submitter" * 2, "admin" * 4, "worker" * 3)
TOKENS = {READER: ["read"], SUBMITTER: ["read", "submit"], ADMIN: ["admin"], WORKER: ["worker"]}

Start = Callable[..., Running]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:99", "[::1]:8421", "LOCALHOST", "127.0.0.1."])
def test_loopback_names_are_this_service(service: Running, host: str) -> None:
    assert service.http.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8421", "127.0.0.1.evil.example", "localhost@evil.example", "localhost:x", ""]
)
@pytest.mark.parametrize("path", ["/", "/v1/jobs", "/healthz", "/nowhere"])
def test_a_rebound_name_reaches_nothing(service: Running, host: str, path: str) -> None:
    problem(service.http.get(path, headers={"Host": host}), 421, "HOST_NOT_ALLOWED")


def test_two_host_headers_are_refused(service: Running) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert raw.recv(100).split()[1] in (b"400", b"421")


def test_configured_hosts_are_allowed(start: Start) -> None:
    service = start(allowed_hosts="nas.example, Other.Example")
    for host in ("nas.example", "other.example:80", "localhost"):
        assert service.http.get("/healthz", headers={"Host": host}).status_code == 200
    problem(service.http.get("/healthz", headers={"Host": "third.example"}), 421, "HOST_NOT_ALLOWED")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example", "file://", ""])
def test_another_sites_page_may_not_change_anything(service: Running, origin: str) -> None:
    job = service.submit()
    for answer in (
        service.http.post("/v1/jobs", json=SPEC, headers={"Origin": origin}),
        service.http.post(f"/v1/jobs/{job.job_id}/cancel", headers={"Origin": origin}),
        service.http.delete(f"/v1/jobs/{job.job_id}", headers={"Origin": origin}),
    ):
        problem(answer, 403, "FOREIGN_ORIGIN")
    assert service.store.job(job.job_id).state == "QUEUED"


def test_another_port_of_this_host_is_another_site(service: Running) -> None:
    answer = service.http.post("/v1/jobs", json=SPEC, headers={"Origin": "http://127.0.0.1:1"})
    problem(answer, 403, "FOREIGN_ORIGIN")


def test_a_cross_site_fetch_without_origin_is_refused(service: Running) -> None:
    answer = service.http.post("/v1/jobs", json=SPEC, headers={"Sec-Fetch-Site": "cross-site"})
    problem(answer, 403, "FOREIGN_ORIGIN")


def test_the_services_own_page_may_submit(service: Running) -> None:
    headers = {"Origin": service.url, "Sec-Fetch-Site": "same-origin"}
    assert service.http.post("/v1/jobs", json=SPEC, headers=headers).status_code == 201


def test_no_other_site_may_read_an_answer(service: Running) -> None:
    answer = service.http.get("/v1/jobs", headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = service.http.options("/v1/jobs", headers=asked)
    assert preflight.status_code == 405
    assert not [name for name in preflight.headers if name.startswith("access-control")]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_a_body_that_is_not_json_is_refused(service: Running, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    problem(service.http.post("/v1/jobs", content=b"{}", headers=headers), 415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_form_without_fields_may_not_act(service: Running) -> None:
    job = service.submit()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = service.http.post(f"/v1/jobs/{job.job_id}/cancel", headers=headers)
    problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_body_above_the_limit_is_refused_however_it_is_sent(start: Start) -> None:
    service = start(body_bytes_max=2000)
    large = b'{"name": "' + b"x" * 3000 + b'"}'
    headers = {"Content-Type": "application/json"}
    problem(service.http.post("/v1/jobs", content=large, headers=headers), 413, "BODY_TOO_LARGE")
    in_pieces = (large[at : at + 500] for at in range(0, len(large), 500))
    problem(service.http.post("/v1/jobs", content=in_pieces, headers=headers), 413, "BODY_TOO_LARGE")


@pytest.mark.parametrize("path", ["/", "/v1/jobs", "/nowhere", "/static/plotly.min.js", "/healthz"])
def test_every_answer_has_the_security_headers(service: Running, path: str) -> None:
    headers = service.http.get(path).headers
    assert "script-src 'self';" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-request-id"]


def test_no_page_loads_scripts_from_elsewhere(service: Running) -> None:
    assert service.http.get("/docs").status_code == 404
    assert service.http.get("/redoc").status_code == 404


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_without_a_known_token_nothing_is_told(start: Start) -> None:
    service = start(tokens=TOKENS)
    for headers in ({}, bearer("x" * 16), {"Authorization": "Basic abc"}, {"Cookie": "nas_session=nonsense"}):
        answer = service.http.get("/v1/jobs", headers=headers)
        problem(answer, 401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert service.http.get("/healthz").status_code == 200


def test_every_v1_route_asks_for_a_token(start: Start) -> None:
    service = start(tokens=TOKENS)
    for path, operations in service.http.get("/openapi.json").json()["paths"].items():
        for method in operations:
            if path in ("/healthz", "/v1/session"):
                continue
            named = re.sub(r"\{\w+\}", "x", path)
            answer = service.http.request(method, named)
            assert answer.status_code == 401, f"{method} {path}: {answer.text}"


def test_a_scope_opens_what_it_is_for(start: Start) -> None:
    service = start(tokens=TOKENS)

    def status(token: str, method: str, path: str, **body: Any) -> int:
        return service.http.request(method, path, headers=bearer(token), **body).status_code

    assert status(READER, "GET", "/v1/jobs") == 200
    assert status(READER, "POST", "/v1/jobs", json=SPEC) == 403
    assert status(SUBMITTER, "POST", "/v1/jobs", json=SPEC) == 201
    assert status(SUBMITTER, "DELETE", "/v1/datasets/none") == 403
    assert status(ADMIN, "POST", "/v1/jobs", json=SPEC) == 201
    assert status(ADMIN, "DELETE", "/v1/datasets/none") == 404
    assert status(WORKER, "GET", "/v1/jobs") == 403


def test_a_missing_scope_is_named(start: Start) -> None:
    answer = start(tokens=TOKENS).http.post("/v1/jobs", json=SPEC, headers=bearer(READER))
    body = problem(answer, 403, "SCOPE_MISSING")
    assert body["violations"] == [{"field": "scopes", "value": "read", "allowed": "submit"}]


def test_a_session_is_a_cookie_that_no_script_and_no_other_site_gets(start: Start) -> None:
    service = start(tokens=TOKENS)
    with httpx.Client(base_url=service.url) as browser:
        problem(browser.post("/v1/session", json={"token": "nonsense"}), 401, "UNAUTHENTICATED")
        answer = browser.post("/v1/session", json={"token": READER})
        assert answer.json() == {"scopes": ["read"], "open": False}
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert browser.get("/v1/jobs").status_code == 200
        problem(browser.post("/v1/jobs", json=SPEC), 403, "SCOPE_MISSING")
        assert browser.delete("/v1/session").status_code == 204
        assert browser.get("/v1/jobs").status_code == 401


def test_in_open_mode_a_session_may_do_everything(service: Running) -> None:
    found = service.http.get("/v1/session").json()
    assert found == {"scopes": ["admin", "read", "submit", "worker"], "open": True}


def test_an_idempotency_key_of_one_token_is_not_anothers(start: Start) -> None:
    service = start(tokens=TOKENS)
    first = service.http.post("/v1/jobs", json=SPEC, headers=bearer(SUBMITTER) | {"Idempotency-Key": "k"})
    second = service.http.post("/v1/jobs", json=SPEC, headers=bearer(ADMIN) | {"Idempotency-Key": "k"})
    assert first.json()["job_id"] != second.json()["job_id"]
    unknown = service.http.post("/v1/jobs", json=SPEC, headers=bearer("x" * 20) | {"Idempotency-Key": "k"})
    problem(unknown, 401, "UNAUTHENTICATED")
