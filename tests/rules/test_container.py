"""What the image and the compose file name exists."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from api.settings import Settings
from tests.conftest import ROOT


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def test_the_fleet_sets_only_settings_that_exist() -> None:
    services = compose()["services"]
    given = {n for service in services.values() for n in service["environment"] if n.startswith("NAS_")}
    assert given - {f"NAS_{field.upper()}" for field in Settings.model_fields} == set()


def test_the_fleet_is_a_valid_configuration_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = compose()["services"]["server"]["environment"]
    secrets = {"POSTGRES_PASSWORD": "secret", "NAS_TOKENS": '{"abcdefghijklmnop": ["read", "submit", "admin"]}'}
    for name, value in environment.items():
        filled = re.sub(r"\$\{(\w+)[^}]*\}", lambda match: secrets[match[1]], value)
        monkeypatch.setenv(name, filled)
    settings = Settings.load()
    assert (settings.embedded, settings.workers, settings.on_loopback, settings.is_open) == (False, 0, False, False)
    assert settings.store == "postgresql+psycopg://nas:secret@postgres:5432/nas"


def test_the_services_run_commands_that_exist() -> None:
    import typer.main

    from api.cli import app

    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    services = compose()["services"]
    assert {services[name]["command"][0] for name in ("server", "worker")} <= set(known)


def test_the_image_copies_files_that_exist_and_are_not_ignored() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    lines = dockerfile.replace("${CONSTRAINTS}", "constraints-cpu.txt").splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY") and "--from" not in line]
    names = [name for sources in copies for name in sources]
    assert [name for name in names if not (ROOT / name).exists()] == []
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    assert [n for n in names if f"!{n}" not in allowed and n != "constraints-cpu.txt"] == []
