"""Connections, transactions and the database's errors in our words. The only file that knows which database it is."""

from __future__ import annotations

import errno
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, NoSuchModuleError, StatementError

from nas.plain import unwritable
from searchspaces import NotFound, StorageFull, StoreError, UnwritableValue, whole_path

_BUSY_SECONDS = 30.0
_IN = 10_000
_ESCAPES = (r"\u0000", r"\ud8", r"\ud9", r"\uda", r"\udb", r"\udc", r"\udd", r"\ude", r"\udf")  # NUL, halves of pairs


class Database:
    """An engine, the folder for files, and transactions: `read` is a snapshot, `write` excludes other writers of a row
    (PostgreSQL) or of the file (SQLite).
    """

    def __init__(self, engine: sa.Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.is_sqlite = engine.dialect.name == "sqlite"
        options: dict[str, Any] = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reader = engine.execution_options(**options)
        self._writer = engine.execution_options(is_writer=True)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the store and changes nothing."""
        with self._translated(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that commits at its end, or leaves nothing."""
        with self._translated(is_write=True), self._writer.begin() as connection:
            yield connection

    def now(self, connection: sa.Connection) -> datetime:
        """The store's clock."""
        return store_time(connection)

    @contextmanager
    def _translated(self, *, is_write: bool = False) -> Iterator[None]:
        try:
            yield
        except (DataError, UnicodeEncodeError, OverflowError) as error:
            if not is_write or _asks(error):
                raise NotFound(f"no such thing: the name holds characters that no name has ({error})") from error
            raise UnwritableValue(f"a value cannot be kept: {getattr(error, 'orig', None) or error}") from error
        except StatementError as error:
            if isinstance(error.orig, UnwritableValue):  # from writing it as JSON
                raise error.orig from error
            raise store_error(error, self._shown) from error
        except sqlite3.Error as error:  # from preparing a new connection
            raise store_error(error, self._shown) from error

    @property
    def _shown(self) -> str:
        return str(self.engine.url.render_as_string(hide_password=True))


def sqlite_in(folder: Path) -> sa.URL:
    """The address of the store in a folder. As a text it could not hold a `?`, which begins a query there."""
    return sa.URL.create("sqlite", database=str(folder / "nas.db"))


def open_engine(url: str | sa.URL) -> sa.Engine:
    """An engine for a SQLite file or a PostgreSQL server.

    Raises:
        StoreError: `url` names neither, or the driver is not installed.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        is_sqlite = parsed.get_backend_name() == "sqlite"
        if (not is_sqlite and parsed.get_backend_name() != "postgresql") or (is_sqlite and not parsed.database):
            raise StoreError(f"{parsed.drivername} is no store; expected sqlite:///FILE or postgresql://USER@HOST/NAME")
        if is_sqlite:
            parsed = parsed.set(database=str(whole_path(str(parsed.database))))
        engine = sa.create_engine(
            parsed,
            json_serializer=_to_json,
            pool_size=10,
            max_overflow=40,
            pool_pre_ping=not is_sqlite,
            connect_args={"check_same_thread": False, "timeout": _BUSY_SECONDS} if is_sqlite else {},
        )
    except (ArgumentError, NoSuchModuleError) as error:
        raise StoreError(
            f"{url!r} is no store's address; expected sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from error
    except ImportError as error:
        raise StoreError("PostgreSQL needs its driver: install nas-service[postgres]") from error
    if is_sqlite:
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def store_time(connection: sa.Connection) -> datetime:
    """What the time is in the store: the server's on PostgreSQL, so that nothing depends on the clocks of workers."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    now: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
    return now.astimezone(UTC)


def use_wal(engine: sa.Engine) -> None:
    """Switch a SQLite file to write-ahead logging, which it then stays in.

    SQLite does not wait for other processes during this one step, whatever the busy timeout says; so we do.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            with closing(engine.raw_connection()) as raw:
                raw.cursor().execute("PRAGMA journal_mode=WAL")
                return
        except sqlite3.DatabaseError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise store_error(error, str(engine.url.database)) from error
        time.sleep(0.02)


def chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Pieces small enough for one IN (...): SQLite takes 32,766 parameters, PostgreSQL 65,535.

    A list of keys is looked up along the primary key on both databases; a join or subquery is left to SQLite's guesses,
    and without statistics it has guessed a walk over all rows of a job.
    """
    for start in range(0, len(values), _IN):
        yield values[start : start + _IN]


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    rows: Sequence[Mapping[str, Any]],
    update: Mapping[str, Any] | Sequence[str] = (),
) -> None:
    """Insert rows; where the primary key is there already, set the columns `update` (nothing when it is empty).

    A mapping gives expressions for the new values, made by `incoming`.
    """
    if not rows:
        return
    insert = _insert(connection, table)
    if not update:
        connection.execute(insert.on_conflict_do_nothing(), rows)
        return
    values = update if isinstance(update, Mapping) else {name: insert.excluded[name] for name in update}
    connection.execute(insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=values), rows)


def insert_unless_there(connection: sa.Connection, table: sa.Table, row: Mapping[str, Any]) -> bool:
    """Insert one row; whether it was not there before."""
    statement = _insert(connection, table).values(**row).on_conflict_do_nothing()
    return connection.execute(statement.returning(*table.primary_key)).first() is not None


def incoming(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """The value that an upsert tried to insert."""
    return sa.literal_column(f"excluded.{column.name}", column.type)


def storage_full(place: Path | str) -> StorageFull:
    """The error for a full disk."""
    message = f"no room left at {place}: free some space there, then resume; everything committed is kept"
    return StorageFull(errno.ENOSPC, message)


def os_error(error: OSError, place: Path | str) -> StoreError:
    """A file error in our words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return storage_full(place)
    return StoreError(f"cannot write to {place} ({error.strerror}): give a folder that this user may write to")


def store_error(error: Exception, place: str) -> StoreError:
    """A database error in our words, with the way out."""
    original = getattr(error, "orig", None) or error
    text = str(original).strip()
    if "disk is full" in text or getattr(original, "sqlstate", None) == "53100":
        return storage_full(place)
    if "not a database" in text or "malformed" in text:
        return StoreError(f"{place} is not a whole store ({text}): move the file away, or give another folder")
    if "locked" in text:
        return StoreError(f"{place} is held by another process ({text}): end that process, then try again")
    if "unable to open" in text or "readonly" in text:
        return StoreError(f"cannot write to {place} ({text}): give a folder that this user may write to")
    if "disk I/O error" in text:
        return StoreError(f"cannot read or write {place} ({text}): check the disk and its free space, then resume")
    if (isinstance(error, DBAPIError) and error.connection_invalidated) or "connection" in text:
        return StoreError(f"the database at {place} does not answer ({text}): check that it runs, then try again")
    return StoreError(f"{place} refused a query: {text}")


def _insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def _asks(error: Exception) -> bool:
    """Whether a statement of PostgreSQL was only looking for something."""
    return str(getattr(error, "statement", None) or "").lstrip().upper().startswith("SELECT")


def _to_json(value: object) -> str:
    """One line of JSON.

    Raises:
        UnwritableValue: it holds what JSON, or a database, cannot keep; with its place.
    """
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise UnwritableValue(_why_unwritable(value) or str(error)) from error
    if any(mark in text for mark in _ESCAPES) and (why := _why_unwritable(value)):
        raise UnwritableValue(why)
    return text


def _why_unwritable(value: object) -> str:
    return "; ".join(f"{v.field} is {v.value}, not {v.allowed}" for v in unwritable(value))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver's own implicit BEGIN would start every transaction as a reader
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(_BUSY_SECONDS * 1000)}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA cache_size=-16384")  # KiB; digests are written all over the indexes
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A reader that becomes a writer fails with "locked" at once when another wrote meanwhile; IMMEDIATE waits instead.
    is_writer = connection.get_execution_options().get("is_writer", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")
