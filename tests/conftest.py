"""What all tests share: where the real data lies, how many threads there are, and what must not be missing."""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from pathlib import Path
from typing import NoReturn

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch loads: small networks, and several processes at once

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
DATA_FOLDER = Path(os.environ.get("NAS_DATA") or ROOT.parent / "shared" / "data")
REQUIRED = frozenset(filter(None, os.environ.get("NAS_REQUIRE", "").split(",")))

pytest_plugins = ["tests.postgres"] if (ROOT / "tests" / "postgres.py").exists() else []

settings.register_profile(
    "default", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def missing(what: str, reason: str) -> NoReturn:
    """Skip the test, or fail it where `NAS_REQUIRE` names `what`: a skipped test is not a passed one."""
    if what in REQUIRED:
        pytest.fail(f"NAS_REQUIRE names {what}, but {reason}")
    pytest.skip(reason)


@pytest.fixture
def data_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the real tables and data sets, which `$NAS_DATA` then names."""
    if not DATA_FOLDER.is_dir():
        missing("data", f"{DATA_FOLDER} does not exist; set NAS_DATA to the folder with the real data")
    monkeypatch.setenv("NAS_DATA", str(DATA_FOLDER))
    return DATA_FOLDER


@pytest.fixture(autouse=True)
def _lightgbm_loads(request: pytest.FixtureRequest) -> None:
    """Its wheel needs an OpenMP library of the system, which a bare one lacks."""
    if "lightgbm" in request.node.name:
        try:
            import_module("lightgbm")
        except OSError as error:
            missing("lightgbm", f"lightgbm does not load: {error} (Debian: apt install libgomp1)")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's Chromium."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        missing("chromium", "there is no Chromium on this machine (Debian: apt install chromium)")
    return found
