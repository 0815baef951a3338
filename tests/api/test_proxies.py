"""Behind a reverse proxy: whose page may change things, and whose word counts for host, scheme and address."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from api.settings import Settings
from searchspaces import ConfigError
from tests.api.conftest import SPEC, Running
from tests.api.test_jobs import problem

Start = Callable[..., Running]
PUBLIC = "https://nas.example.com:8443"


def submitted(service: Running, **headers: str) -> int:
    answer = service.http.post("/v1/jobs", json=SPEC, headers={k.replace("_", "-"): v for k, v in headers.items()})
    return answer.status_code


@pytest.mark.parametrize("host", ["nas.example.com", "nas.example.com:8443", "127.0.0.1:8616", "localhost"])
def test_the_page_of_the_public_address_may_change_things_whatever_host_the_proxy_names(
    start: Start, host: str
) -> None:
    service = start(public_url=f"{PUBLIC}/")
    assert submitted(service, Host=host, Origin=PUBLIC) == 201
    for foreign in ("https://nas.example.com", "http://nas.example.com:8443", "https://evil.example:8443"):
        if foreign.partition("://")[2] != host:
            assert submitted(service, Host=host, Origin=foreign) == 403


@pytest.mark.parametrize("host", ["nas.example.com", "127.0.0.1:8616"])
def test_a_page_of_an_allowed_host_may_change_things_on_any_port(start: Start, host: str) -> None:
    service = start(allowed_hosts="nas.example.com")
    assert submitted(service, Host=host, Origin=PUBLIC) == 201
    assert submitted(service, Host=host, Origin="https://evil.example:8443") == 403


def test_loopback_among_the_allowed_hosts_opens_no_other_port(start: Start) -> None:
    service = start(allowed_hosts="localhost,nas.example.com")
    assert submitted(service, Origin="http://localhost:1") == 403


def test_a_refusal_names_the_settings(service: Running) -> None:
    foreign = service.http.post("/v1/jobs", json=SPEC, headers={"Origin": PUBLIC})
    assert "NAS_PUBLIC_URL" in problem(foreign, 403, "FOREIGN_ORIGIN")["detail"]
    elsewhere = service.http.get("/healthz", headers={"Host": "nas.example.com"})
    assert "NAS_PUBLIC_URL" in problem(elsewhere, 421, "HOST_NOT_ALLOWED")["detail"]


def test_only_a_trusted_proxy_is_believed(start: Start) -> None:
    forwarded = {"Host": "127.0.0.1:1", "X_Forwarded_Host": "evil.example, nas.example.com:8443"}
    trusted = start(trusted_proxies="127.0.0.0/8, ::1", allowed_hosts="nas.example.com")
    assert submitted(trusted, **forwarded, Origin=PUBLIC) == 201
    assert submitted(trusted, Host="127.0.0.1:1", X_Forwarded_Host="evil.example", Origin="https://evil.example") == 421


def test_what_others_forward_is_ignored(service: Running) -> None:
    assert submitted(service, X_Forwarded_Host="evil.example", Origin="http://evil.example") == 403
    assert service.http.get("/healthz", headers={"X-Forwarded-Host": "evil.example"}).status_code == 200


@pytest.mark.parametrize(
    ("settings", "headers", "is_secure"),
    [
        ({"public_url": PUBLIC}, {}, True),
        ({"public_url": "http://nas.example.com"}, {}, False),
        ({"trusted_proxies": "127.0.0.1"}, {"X-Forwarded-Proto": "https"}, True),
        ({}, {"X-Forwarded-Proto": "https"}, False),
    ],
)
def test_the_cookie_is_for_https_alone_where_people_come_by_https(
    start: Start, settings: dict[str, str], headers: dict[str, str], is_secure: bool
) -> None:
    token = "submitter" * 2
    service = start(tokens={token: ["read", "submit"]}, **settings)
    answer = service.http.post("/v1/session", json={"token": token}, headers=headers)
    assert ("secure" in answer.headers["set-cookie"].lower()) is is_secure


@pytest.mark.parametrize("url", ["nas.example.com", "https://", "https://a/b", "ftp://a", "https://u@a", "https://a:x"])
def test_a_public_address_is_scheme_host_and_port(url: str) -> None:
    with pytest.raises(ConfigError, match="public_url"):
        Settings.load(public_url=url)
    with pytest.raises(ConfigError, match="trusted_proxies"):
        Settings.load(trusted_proxies=f"127.0.0.1,{url}")


def test_an_address_of_ipv6_may_stand_in_brackets() -> None:
    for host in ("[::1]", "::1"):
        settings = Settings.load(host=host, port=9000)
        assert (settings.host, settings.address, settings.on_loopback) == ("::1", "http://[::1]:9000", True)
