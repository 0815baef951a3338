"""Settings: from the environment, checked, and never telling a secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.settings import Settings, misspelt
from searchspaces import ConfigError

TOKEN = "0123456789abcdef-secret"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"NAS_{name.upper()}", raising=False)


def test_the_defaults_are_an_embedded_service_on_loopback() -> None:
    settings = Settings.load()
    assert settings.on_loopback
    assert settings.is_open
    assert settings.address == "http://127.0.0.1:8421"
    assert (settings.store, settings.folder) == (None, Path("nas-data").absolute())


def test_every_setting_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_PORT", "9000")
    monkeypatch.setenv("NAS_FOLDER", "/tmp/x")
    monkeypatch.setenv("NAS_DATA", "/tmp/data")
    monkeypatch.setenv("NAS_ALLOWED_HOSTS", "A.example,b.example")
    monkeypatch.setenv("NAS_TOKENS", json.dumps({TOKEN: ["read", "submit"]}))
    monkeypatch.setenv("NAS_EMBEDDED", "false")
    monkeypatch.setenv("NAS_URL", "http://of-the-client")
    settings = Settings.load()
    assert (settings.port, settings.folder, settings.data) == (9000, Path("/tmp/x"), Path("/tmp/data"))
    assert settings.allowed_hosts == ("a.example", "b.example")
    assert settings.tokens == {TOKEN: frozenset({"read", "submit"})}
    assert not settings.embedded


def test_what_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_PORT", "9000")
    monkeypatch.setenv("NAS_DATA", "/tmp/data")
    assert Settings.load(port=1, data="/tmp/other").port == 1
    assert Settings.load(data="/tmp/other").data == Path("/tmp/other")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "nas.example"])
def test_open_mode_is_for_loopback_only(host: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.load(host=host)
    message = str(refused.value)
    assert f"host={host!r}" in message
    assert "NAS_TOKENS" in message
    assert "127.0.0.1" in message
    assert Settings.load(host=host, tokens={TOKEN: ["read"]}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_needs_no_token(host: str) -> None:
    assert Settings.load(host=host).is_open


@pytest.mark.parametrize(
    ("wrong", "field", "allowed"),
    [
        ({"port": 70_000}, "port", "65535"),
        ({"port": "http"}, "port", "whole number"),
        ({"workers": -1}, "workers", "0"),
        ({"lease_seconds": 0}, "lease_seconds", "0.5"),
        ({"log_level": "loud"}, "log_level", "'warning'"),
        ({"nonsense": 1}, "nonsense", "no such key"),
        ({"page_size": 200, "page_size_max": 100}, "settings", "page_size=200"),
        ({"allowed_hosts": ["*"]}, "settings", "tokens"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(wrong: dict[str, object], field: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.load(**wrong)
    (violation,) = refused.value.violations
    assert violation.field == field
    assert allowed in violation.allowed


@pytest.mark.parametrize(
    "tokens", [{"short": ["read"]}, {TOKEN: ["root"]}, {TOKEN: []}, {TOKEN + "\n": ["read"]}, {TOKEN + ";": ["read"]}]
)
def test_a_wrong_token_is_refused_without_showing_it(tokens: dict[str, list[str]]) -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.load(tokens=tokens)
    assert {violation.field for violation in refused.value.violations} == {"tokens"}
    assert next(iter(tokens)) not in str(refused.value)


def test_secrets_are_not_printed() -> None:
    settings = Settings.load(tokens={TOKEN: ["read"]}, store="postgresql://nas:password@host/nas")
    assert TOKEN not in repr(settings)
    assert "password" not in repr(settings)


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("text", ["x", "{", '["a"]', '{"a": "b"}'])
def test_tokens_that_are_no_json_are_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("NAS_TOKENS", text)
    with pytest.raises(ConfigError, match=r"tokens: got \(hidden\)") as refused:
        Settings.load()
    assert "ydantic" not in str(refused.value)


def test_an_environment_variable_that_is_nearly_a_setting_is_told() -> None:
    (told,) = misspelt(["NAS_FOLDR", "NAS_FOLDER", "NAS_URL", "NAS_SYNOLOGY_VOLUME", "PATH", "FOLDR"])
    assert told == "nothing reads the environment variable NAS_FOLDR; did you mean NAS_FOLDER?"
