"""A real PostgreSQL for tests: the server that `NAS_TEST_POSTGRES` names, else a private one from installed binaries.

A pytest plug-in, registered in tests/conftest.py. `postgres_url` is the address of an empty database of the test's own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_SETTINGS = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_connections=120",
)
_START_SECONDS = 30.0


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The SQLAlchemy URL of a server where databases may be made."""
    named = os.environ.get("NAS_TEST_POSTGRES")
    if named:
        yield named
        return
    binaries = _binaries()
    if binaries is None:
        from tests.conftest import missing

        missing("postgres", "no PostgreSQL here: set NAS_TEST_POSTGRES to a server's URL, or install its binaries")
    with _private_server(binaries) as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty database, dropped after the test."""
    import sqlalchemy as sa

    server = sa.make_url(postgres_server)
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    name = f"nas_test_{uuid.uuid4().hex[:12]}"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        admin.dispose()


def _binaries() -> Path | None:
    """The folder that holds `initdb` and `postgres`; the newest version where there are several."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    folders += [Path(on_path).resolve().parent] if on_path else []
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@contextmanager
def _private_server(binaries: Path) -> Iterator[str]:
    """A server of our own on a Unix socket. It refuses to run as root, and so runs as `postgres` or `nobody` then."""
    as_user: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="nas-pg-", dir="/tmp"))  # a socket's path may have 107 bytes at most
    if os.geteuid() == 0:
        names = {entry.pw_name: entry for entry in pwd.getpwall()}
        user = names.get("postgres") or names["nobody"]
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
    data, log = folder / "data", folder / "log"
    command = [binaries / "initdb", "-D", data, "-U", "nas", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, **as_user)
    options = [part for setting in (*_SETTINGS, "listen_addresses=") for part in ("-c", setting)]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, "-k", folder, *options],
            stdout=output,
            stderr=output,
            cwd=folder,
            **as_user,
        )
    try:
        url = f"postgresql+psycopg://nas@/postgres?host={folder}"
        _wait(url, server, log)
        yield url
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine(url, poolclass=sa.NullPool)
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            engine.connect().close()
            return
        except sa.exc.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the private PostgreSQL did not start:\n{log.read_text()}") from None
            time.sleep(0.05)
