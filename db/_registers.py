"""What belongs to no job: workers, data sets, remembered answers, counts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from db._engine import insert_unless_there, upsert
from db._ids import new_id
from db._models import Row, answers, datasets, evaluations, jobs, units, workers
from nas.resources import DatasetInfo, JsonObject, Worker
from searchspaces import Conflict, NotFound, SpecError, Violation, did_you_mean

_GONE_AFTER = timedelta(seconds=30)
_BEAT_EVERY = timedelta(seconds=5)
_FORGOTTEN_AFTER = timedelta(days=1)
_ANSWER_WITHIN = timedelta(minutes=1)


class Counts(NamedTuple):
    """How many of each there are, by state."""

    jobs: dict[str, int]
    units: dict[str, int]
    evaluations: dict[str, int]
    workers: dict[str, int]


def register_worker(connection: sa.Connection, host: str, process_id: int, device: str, now: datetime) -> str:
    """Write a worker; its id. Workers not seen for a day are forgotten."""
    connection.execute(sa.delete(workers).where(workers.c.seen_at < now - _FORGOTTEN_AFTER))
    row = {
        "worker_id": new_id("worker"),
        "host": host,
        "process_id": process_id,
        "device": device,
        "started_at": now,
        "seen_at": now,
    }
    connection.execute(sa.insert(workers).values(**row))
    return str(row["worker_id"])


def beat(connection: sa.Connection, worker_id: str, unit_id: str | None, now: datetime) -> None:
    """The worker lives. Raises NotFound when it was forgotten."""
    change = sa.update(workers).where(workers.c.worker_id == worker_id).values(unit_id=unit_id, seen_at=now)
    if connection.execute(change).rowcount != 1:
        raise NotFound(f"no worker {worker_id!r}: register it again")


def is_fresh(connection: sa.Connection, worker_id: str, unit_id: str | None, now: datetime) -> bool:
    """Whether a beat would say nothing new: an idle worker beats several times a second, and every write is a flush."""
    row = connection.execute(sa.select(workers).where(workers.c.worker_id == worker_id)).first()
    return row is not None and row.unit_id == unit_id and row.seen_at > now - _BEAT_EVERY


def all_workers(connection: sa.Connection, now: datetime) -> tuple[Worker, ...]:
    """All workers, newest first."""
    rows = connection.execute(sa.select(workers).order_by(workers.c.worker_id.desc()))
    return tuple(_worker_of(row, now) for row in rows)


def add_dataset(connection: sa.Connection, info: DatasetInfo, *, replace: bool) -> None:
    """Write a data set. Raises Conflict where there is one of this name that is not to be replaced."""
    row = {"name": info.name, "info": info.model_dump(mode="json")}
    if replace:
        upsert(connection, datasets, [row], ["info"])
    elif not insert_unless_there(connection, datasets, row):
        raise name_taken(info.name)


def name_taken(name: str) -> Conflict:
    """The error for a name that is a data set's already."""
    return Conflict(
        f"there is a data set {name!r} already; replace it with `nas data add --replace` (replace: true), or choose "
        "another name"
    )


def dataset(connection: sa.Connection, name: str) -> DatasetInfo:
    """One data set. Raises NotFound."""
    row = connection.execute(sa.select(datasets).where(datasets.c.name == name)).first()
    if row is None:
        names = connection.execute(sa.select(datasets.c.name)).scalars().all()
        raise NotFound(f"no data set {name!r}: add it with `nas data add`{did_you_mean(name, names)}")
    return DatasetInfo.model_validate(row.info)


def all_datasets(connection: sa.Connection) -> tuple[DatasetInfo, ...]:
    """All data sets, by name."""
    rows = connection.execute(sa.select(datasets).order_by(datasets.c.name))
    return tuple(DatasetInfo.model_validate(row.info) for row in rows)


def remove_dataset(connection: sa.Connection, name: str) -> None:
    """Forget a data set; its files stay. Raises NotFound."""
    if connection.execute(sa.delete(datasets).where(datasets.c.name == name)).rowcount != 1:
        raise NotFound(f"no data set {name!r}")


def recall(connection: sa.Connection, key: str, request_hash: str, now: datetime, keep: timedelta) -> JsonObject | None:
    """What was answered under a key; None the first time: it is then this request's while held.

    Of two equal requests at once only one is so let through; the other is told to come again.

    Raises:
        SpecError: the key was used for another request.
        Conflict: its request is being answered.
    """
    connection.execute(sa.delete(answers).where(answers.c.created_at < now - keep))
    stale = (answers.c.key == key, answers.c.response.is_(sa.null()), answers.c.created_at < now - _ANSWER_WITHIN)
    connection.execute(sa.delete(answers).where(*stale))
    row = {"key": key, "request_hash": request_hash, "created_at": now}
    if insert_unless_there(connection, answers, row):
        return None
    found = connection.execute(sa.select(answers).where(answers.c.key == key)).one()
    if found.request_hash != request_hash:
        raise _used_otherwise(key)
    if found.response is None:
        raise Conflict(f"the request with Idempotency-Key {key!r} is being answered; ask again in a moment")
    answer: JsonObject = found.response
    return answer


def hold(connection: sa.Connection, key: str, now: datetime) -> None:
    """Keep a claimed key claimed for another minute."""
    mine = (answers.c.key == key, answers.c.response.is_(sa.null()))
    connection.execute(sa.update(answers).where(*mine).values(created_at=now))


def remember(connection: sa.Connection, key: str, request_hash: str, response: JsonObject, now: datetime) -> None:
    """Keep an answer. Raises SpecError when the key was used for another request."""
    row = {"key": key, "request_hash": request_hash, "response": response, "created_at": now}
    if insert_unless_there(connection, answers, row):
        return
    mine = (answers.c.key == key, answers.c.request_hash == request_hash)
    if connection.execute(sa.update(answers).where(*mine).values(response=response)).rowcount != 1:
        raise _used_otherwise(key)


def forget(connection: sa.Connection, key: str) -> None:
    """Free a key whose request could not be answered."""
    connection.execute(sa.delete(answers).where(answers.c.key == key, answers.c.response.is_(sa.null())))


def counts(connection: sa.Connection, now: datetime) -> Counts:
    """How much the store holds, by state."""
    found = [_by_state(connection, table.c.state) for table in (units, evaluations)]
    real = _by_state(connection, jobs.c.state, ~jobs.c.dry_run)
    by_worker: dict[str, int] = {}
    for worker in all_workers(connection, now):
        by_worker[worker.state] = by_worker.get(worker.state, 0) + 1
    return Counts(real, found[0], found[1], by_worker)


def _used_otherwise(key: str) -> SpecError:
    return SpecError([Violation("Idempotency-Key", repr(key), "a key that was not used for another request")])


def _by_state(connection: sa.Connection, state: sa.Column[Any], *only: sa.ColumnElement[bool]) -> dict[str, int]:
    rows = connection.execute(sa.select(state, sa.func.count()).where(*only).group_by(state))
    return {row[0]: row[1] for row in rows}


def _worker_of(row: Row, now: datetime) -> Worker:
    state: Literal["IDLE", "BUSY", "GONE"] = "IDLE" if row.unit_id is None else "BUSY"
    if row.seen_at < now - _GONE_AFTER:
        state = "GONE"
    return Worker(
        worker_id=row.worker_id,
        host=row.host,
        process_id=row.process_id,
        device=row.device,
        state=state,
        unit_id=row.unit_id,
        started_at=row.started_at,
        seen_at=row.seen_at,
    )
