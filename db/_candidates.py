"""Reading candidates: pages in any order, an even sample, the front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from db import _evaluations
from db._contexts import kept
from db._engine import chunks
from db._front import values
from db._ids import page_limit, token_of, values_of
from db._models import Query, Row, candidate_values, candidates, front_members, jobs
from nas.resources import Candidate, FrontPoint, Objective, Page, ParetoFront
from searchspaces import NotFound, SpecError, Violation

_NUMBER = "number"
_IS_MEMBER = sa.exists().where(
    front_members.c.job_id == candidates.c.job_id, front_members.c.digest == candidates.c.digest
)
_COLUMNS = (*candidates.c, _IS_MEMBER.label("on_front"))


class _Order(NamedTuple):
    """How a page is ordered, and after which (value, digest) or (None, number) it starts."""

    key: str
    descending: bool
    start: tuple[float | None, str | int] | None


class _Place(NamedTuple):
    """A candidate's row and the value that it is ordered by."""

    row: Row
    value: float | None


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
    count: bool = False,
) -> Page[Candidate]:
    """One page. Ordered by a value, those without it come last, by number; `count` says how many there are in all."""
    _check_job(connection, job_id)
    key = order_by or _NUMBER
    if key != _NUMBER and "@" not in key:
        raise SpecError([Violation("order_by", key, "number, or metric@level such as accuracy@supernet")])
    limit, order = page_limit(page_size), _Order(key, descending, _start(page_token, key, descending))
    filters = [candidates.c.job_id == job_id]
    filters += [] if feasible is None else [candidates.c.feasible == feasible]
    filters += [] if on_front is None else [_IS_MEMBER if on_front else ~_IS_MEMBER]
    if on_front:
        places = [] if feasible is False else _of_front(connection, job_id, order)
    else:
        places = _of_all(connection, job_id, filters, order, limit + 1)
    token = None
    if len(places) > limit:
        row, value = places[limit - 1]
        token = token_of(key, descending, value, row.number if value is None else row.digest)
    items = _filled(connection, job_id, [place.row for place in places[:limit]])
    total = None
    if count:
        total = connection.execute(sa.select(sa.func.count()).select_from(candidates).where(*filters)).scalar_one()
    return Page[Candidate](items=tuple(items), next_page_token=token, total=total)


def one(connection: sa.Connection, job_id: str, digest: str) -> Candidate:
    """One candidate with its evaluations. Raises NotFound."""
    row = connection.execute(
        sa.select(*_COLUMNS).where(candidates.c.job_id == job_id, candidates.c.digest == digest)
    ).first()
    if row is None:
        raise NotFound(f"no candidate {digest!r} in job {job_id!r}")
    found = _evaluations.of_candidate(connection, job_id, digest)
    return _filled(connection, job_id, [row])[0].model_copy(update={"evaluations": tuple(found)})


def every(connection: sa.Connection, job_id: str, *, having: str | None = None) -> list[Candidate]:
    """All candidates, or those with a value of this key, in order of their numbers."""
    if having is not None:
        keyed = (candidate_values.c.job_id == job_id, candidate_values.c.key == having)
        digests = list(connection.execute(sa.select(candidate_values.c.digest).where(*keyed)).scalars())
        return _filled(connection, job_id, _by_digest(connection, job_id, digests))
    rows = connection.execute(
        sa.select(*_COLUMNS).where(candidates.c.job_id == job_id).order_by(candidates.c.number)
    ).all()
    return _filled(connection, job_id, rows)


def sample(connection: sa.Connection, job_id: str, limit: int) -> list[Candidate]:
    """At most `limit` candidates, evenly spaced in order of their numbers and all when they are few enough; of these
    the ones that have values.
    """
    _check_job(connection, job_id)
    mine = candidates.c.job_id == job_id
    total = connection.execute(sa.select(sa.func.count()).select_from(candidates).where(mine)).scalar_one()
    place = sa.func.row_number().over(order_by=candidates.c.number).label("place")
    placed = sa.select(candidates.c.digest, place).where(mine).subquery()
    step = max(1, -(-total // max(1, limit)))
    chosen = sa.select(placed.c.digest).where(placed.c.place % step == (1 if step > 1 else 0))
    digests = list(connection.execute(chosen).scalars())
    found = _filled(connection, job_id, _by_digest(connection, job_id, digests))
    return [candidate for candidate in found if candidate.values]


def front(connection: sa.Connection, job_id: str) -> ParetoFront:
    """The non-dominated feasible candidates, the best by the first objective first."""
    held = jobs.c.job_id, jobs.c.objectives, jobs.c.contexts
    row = connection.execute(sa.select(*held).where(jobs.c.job_id == job_id)).first()
    if row is None:
        raise NotFound(f"no job {job_id!r}")
    objectives = tuple(Objective.model_validate(objective) for objective in row.objectives)
    joined = sa.and_(front_members.c.job_id == candidates.c.job_id, front_members.c.digest == candidates.c.digest)
    query = (
        sa.select(*candidates.c, front_members.c.losses)
        .select_from(front_members.join(candidates, joined))
        .where(front_members.c.job_id == job_id)
    )
    members = sorted(connection.execute(query), key=lambda member: (*member.losses, member.number))
    found = values(connection, job_id, [member.digest for member in members])
    points = (
        FrontPoint(digest=m.digest, text=m.text, number=m.number, values=found.get(m.digest, {})) for m in members
    )
    contexts = kept(connection, row)
    mine = {objective.key: contexts[objective.key] for objective in objectives if objective.key in contexts}
    return ParetoFront(
        job_id=job_id,
        objectives=objectives,
        points=tuple(points),
        contexts={key: entry["context"] for key, entry in mine.items()},
        left_out={key: entry["left_out"] for key, entry in mine.items() if entry["left_out"]},
    )


def _of_front(connection: sa.Connection, job_id: str, order: _Order) -> list[_Place]:
    """All members of the front after the start. They are few, and sorting them here never walks over all candidates."""
    members = sa.select(front_members.c.digest).where(front_members.c.job_id == job_id)
    rows = _by_digest(connection, job_id, list(connection.execute(members).scalars()))
    found = values(connection, job_id, [row.digest for row in rows])
    places = [_Place(row, found.get(row.digest, {}).get(order.key)) for row in rows]
    valued = sorted(
        (place for place in places if place.value is not None),
        key=lambda place: (place.value, place.row.digest),
        reverse=order.descending,
    )
    is_down = order.descending and order.key == _NUMBER
    others = sorted((p for p in places if p.value is None), key=lambda place: place.row.number, reverse=is_down)
    if order.start is None:
        return valued + others
    value, place = order.start
    if value is None:
        return [p for p in others if (p.row.number < place if is_down else p.row.number > place)]
    after = [p for p in valued if ((p.value, p.row.digest) < order.start) == order.descending]
    return [p for p in after if (p.value, p.row.digest) != order.start] + others


def _of_all(
    connection: sa.Connection, job_id: str, filters: Sequence[sa.ColumnElement[bool]], order: _Order, limit: int
) -> list[_Place]:
    """Up to `limit` after the start; two walks along indexes: those with the value, then those without."""
    key, start, places = order.key, order.start, list[_Place]()
    if key != _NUMBER and (start is None or start[0] is not None):
        rows = connection.execute(_by_value(job_id, filters, order).limit(limit))
        places += [_Place(row, row.value) for row in rows]
        start = None
    if len(places) < limit:
        query = sa.select(*_COLUMNS).where(*filters)
        if key != _NUMBER:
            query = query.where(~_has_value(key))
        is_down = order.descending and key == _NUMBER
        if start is not None:
            query = query.where(candidates.c.number < start[1] if is_down else candidates.c.number > start[1])
        number = candidates.c.number.desc() if is_down else candidates.c.number
        rows = connection.execute(query.order_by(number).limit(limit - len(places)))
        places += [_Place(row, None) for row in rows]
    return places


def _by_value(job_id: str, filters: Sequence[sa.ColumnElement[bool]], order: _Order) -> Query:
    value, digest = candidate_values.c.value, candidate_values.c.digest
    joined = sa.and_(candidate_values.c.job_id == candidates.c.job_id, digest == candidates.c.digest)
    query = (
        sa.select(*_COLUMNS, value)
        .select_from(candidate_values.join(candidates, joined))
        .where(candidate_values.c.key == order.key, candidate_values.c.job_id == job_id, *filters)
    )
    if order.start is not None:
        here, there = sa.tuple_(value, digest), sa.tuple_(*map(sa.literal, order.start))
        query = query.where(here < there if order.descending else here > there)
    return query.order_by(*((value.desc(), digest.desc()) if order.descending else (value, digest)))


def _by_digest(connection: sa.Connection, job_id: str, digests: Sequence[str]) -> list[Row]:
    """The rows of these candidates, in order of their numbers."""
    rows: list[Row] = []
    for some in chunks(digests):
        these = (candidates.c.job_id == job_id, candidates.c.digest.in_(some))
        rows += connection.execute(sa.select(*_COLUMNS).where(*these))
    return sorted(rows, key=lambda row: row.number)


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


def _check_job(connection: sa.Connection, job_id: str) -> None:
    if connection.execute(sa.select(jobs.c.job_id).where(jobs.c.job_id == job_id)).first() is None:
        raise NotFound(f"no job {job_id!r}")
