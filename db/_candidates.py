"""Reading candidates: pages in any order, an even sample, the front."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from db import _evaluations
from db._engine import chunks
from db._ids import page_limit, token_of, values_of
from db._models import Query, Row, candidate_values, candidates, front_members, jobs
from nas.resources import Candidate, FrontPoint, Objective, Page, ParetoFront
from searchspaces import NotFound, SpecError, Violation

_NUMBER = "number"
_IS_MEMBER = sa.exists().where(
    front_members.c.job_id == candidates.c.job_id, front_members.c.digest == candidates.c.digest
)
_COLUMNS = (*candidates.c, _IS_MEMBER.label("on_front"))


def page(
    connection: sa.Connection,
    job_id: str,
    *,
    order_by: str | None,
    descending: bool,
    feasible: bool | None,
    on_front: bool | None,
    page_size: int,
    page_token: str | None,
) -> Page[Candidate]:
    """One page. Ordered by a value, those without it come last, by number."""
    _check_job(connection, job_id)
    key = order_by or _NUMBER
    if key != _NUMBER and "@" not in key:
        raise SpecError([Violation("order_by", key, "number, or metric@level such as accuracy@supernet")])
    limit = page_limit(page_size)
    filters = [candidates.c.job_id == job_id]
    if feasible is not None:
        filters.append(candidates.c.feasible == feasible)
    if on_front is not None:
        filters.append(_IS_MEMBER if on_front else ~_IS_MEMBER)
    start = _start(page_token, key, descending)
    rows = list(_rows(connection, filters, key=key, descending=descending, start=start, limit=limit + 1))
    items = tuple(_filled(connection, job_id, rows[:limit]))
    token = None
    if len(rows) > limit:
        last = rows[limit - 1]
        token = token_of(key, descending, last.value, last.number if last.value is None else last.digest)
    return Page[Candidate](items=items, next_page_token=token)


def one(connection: sa.Connection, job_id: str, digest: str) -> Candidate:
    """One candidate with its evaluations. Raises NotFound."""
    row = connection.execute(
        sa.select(*_COLUMNS).where(candidates.c.job_id == job_id, candidates.c.digest == digest)
    ).first()
    if row is None:
        raise NotFound(f"no candidate {digest!r} in job {job_id!r}")
    found = _evaluations.of_candidate(connection, job_id, digest)
    return _filled(connection, job_id, [row])[0].model_copy(update={"evaluations": tuple(found)})


def every(connection: sa.Connection, job_id: str) -> list[Candidate]:
    """All candidates, in order of their numbers."""
    rows = connection.execute(
        sa.select(*_COLUMNS).where(candidates.c.job_id == job_id).order_by(candidates.c.number)
    ).all()
    return _filled(connection, job_id, rows)


def sample(connection: sa.Connection, job_id: str, limit: int) -> list[Candidate]:
    """At most `limit` candidates that have values, evenly spaced over their numbers; all when they are few enough."""
    _check_job(connection, job_id)
    valued = sa.exists().where(
        candidate_values.c.job_id == candidates.c.job_id, candidate_values.c.digest == candidates.c.digest
    )
    query = sa.select(candidates.c.digest).where(candidates.c.job_id == job_id, valued)
    digests = list(connection.execute(query.order_by(candidates.c.number)).scalars())
    if len(digests) > limit:
        digests = [digests[i * len(digests) // limit] for i in range(limit)]
    rows: list[Row] = []
    for some in chunks(digests):
        these = (candidates.c.job_id == job_id, candidates.c.digest.in_(some))
        rows += connection.execute(sa.select(*_COLUMNS).where(*these))
    return _filled(connection, job_id, sorted(rows, key=lambda row: row.number))


def front(connection: sa.Connection, job_id: str) -> ParetoFront:
    """The non-dominated feasible candidates, the best by the first objective first."""
    row = connection.execute(sa.select(jobs.c.objectives).where(jobs.c.job_id == job_id)).first()
    if row is None:
        raise NotFound(f"no job {job_id!r}")
    objectives = tuple(Objective.model_validate(objective) for objective in row.objectives)
    joined = sa.and_(front_members.c.job_id == candidates.c.job_id, front_members.c.digest == candidates.c.digest)
    query = (
        sa.select(*candidates.c, front_members.c.losses)
        .select_from(front_members.join(candidates, joined))
        .where(front_members.c.job_id == job_id)
    )
    rows = sorted(connection.execute(query), key=lambda member: (*member.losses, member.number))
    found = values(connection, job_id, [member.digest for member in rows])
    points = (FrontPoint(digest=m.digest, text=m.text, number=m.number, values=found.get(m.digest, {})) for m in rows)
    return ParetoFront(job_id=job_id, objectives=objectives, points=tuple(points))


def _rows(
    connection: sa.Connection,
    filters: Sequence[sa.ColumnElement[bool]],
    *,
    key: str,
    descending: bool,
    start: tuple[float | None, str | int] | None,
    limit: int,
) -> Iterable[Row]:
    """Up to `limit` rows after `start`; two walks along indexes: those with the value, then those without."""
    num_found = 0
    if key != _NUMBER and (start is None or start[0] is not None):
        query = _by_value(filters, key, descending, start)
        for row in connection.execute(query.limit(limit)):
            num_found += 1
            yield row
        start = None
    if num_found < limit:
        query = sa.select(*_COLUMNS, sa.null().label("value")).where(*filters)
        if key != _NUMBER:
            query = query.where(~_has_value(key))
        is_down = descending and key == _NUMBER
        if start is not None:
            query = query.where(candidates.c.number < start[1] if is_down else candidates.c.number > start[1])
        number = candidates.c.number.desc() if is_down else candidates.c.number
        yield from connection.execute(query.order_by(number).limit(limit - num_found))


def _by_value(
    filters: Sequence[sa.ColumnElement[bool]],
    key: str,
    descending: bool,
    start: tuple[float | None, str | int] | None,
) -> Query:
    value, digest = candidate_values.c.value, candidate_values.c.digest
    joined = sa.and_(candidate_values.c.job_id == candidates.c.job_id, digest == candidates.c.digest)
    query = (
        sa.select(*_COLUMNS, value)
        .select_from(candidate_values.join(candidates, joined))
        .where(candidate_values.c.key == key, *filters)
    )
    if start is not None:
        here, there = sa.tuple_(value, digest), sa.tuple_(*map(sa.literal, start))
        query = query.where(here < there if descending else here > there)
    return query.order_by(*((value.desc(), digest.desc()) if descending else (value, digest)))


def _has_value(key: str) -> sa.ColumnElement[bool]:
    return sa.exists().where(
        candidate_values.c.job_id == candidates.c.job_id,
        candidate_values.c.digest == candidates.c.digest,
        candidate_values.c.key == key,
    )


def _start(page_token: str | None, key: str, descending: bool) -> tuple[float | None, str | int] | None:
    if page_token is None:
        return None
    known_key, known_descending, value, place = values_of(page_token, str, bool, (float, int, type(None)), (str, int))
    is_number = value is None
    if known_key != key or known_descending != descending or is_number != isinstance(place, int):
        raise SpecError([Violation("page_token", page_token, "the token of a page with the same order")])
    return value, place


def _filled(connection: sa.Connection, job_id: str, rows: Sequence[Row]) -> list[Candidate]:
    found = values(connection, job_id, [row.digest for row in rows])
    return [
        Candidate(
            job_id=row.job_id,
            digest=row.digest,
            text=row.text,
            number=row.number,
            values=found.get(row.digest, {}),
            on_front=row.on_front,
            feasible=row.feasible,
        )
        for row in rows
    ]


def values(connection: sa.Connection, job_id: str, digests: Sequence[str]) -> dict[str, dict[str, float]]:
    """Values by digest and key."""
    found: dict[str, dict[str, float]] = {}
    columns = candidate_values.c.digest, candidate_values.c.key, candidate_values.c.value
    query = sa.select(*columns).where(candidate_values.c.job_id == job_id)
    for some in chunks(digests):
        for row in connection.execute(query.where(candidate_values.c.digest.in_(some))):
            found.setdefault(row.digest, {})[row.key] = row.value
    return found


def _check_job(connection: sa.Connection, job_id: str) -> None:
    if connection.execute(sa.select(jobs.c.job_id).where(jobs.c.job_id == job_id)).first() is None:
        raise NotFound(f"no job {job_id!r}")
