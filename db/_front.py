"""The Pareto front, kept as members with their losses: a new point is compared with the members only."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from db._engine import chunks
from db._models import Row, candidate_values, candidates, front_members
from nas.pareto import Front
from nas.resources import Objective, Settlement

Losses = tuple[float, ...]


def update(connection: sa.Connection, job: Row, ending: Sequence[tuple[Row, Settlement]]) -> None:
    """Bring the front up to date with what was just settled.

    Costs O(new points x members). Only when a member itself changed (measured again, or found infeasible) is the front
    made anew from all candidates: those it had beaten may belong to it now.
    """
    objectives = [Objective.model_validate(objective) for objective in job.objectives]
    digests = list(dict.fromkeys(row.digest for row, _ in ending))
    held = connection.execute(sa.select(front_members).where(front_members.c.job_id == job.job_id))
    members: dict[str, Losses] = {row.digest: tuple(row.losses) for row in held}
    points = _points(connection, job.job_id, objectives, digests)
    if any(members[digest] != points.get(digest) for digest in digests if digest in members):
        points = _points(connection, job.job_id, objectives, None)
        new = grow({}, points)
    else:
        new = grow(members, points)
    gone = [digest for digest in members if members[digest] != new.get(digest)]
    for some in chunks(gone):
        those = (front_members.c.job_id == job.job_id, front_members.c.digest.in_(some))
        connection.execute(sa.delete(front_members).where(*those))
    rows = [
        {"job_id": job.job_id, "digest": digest, "losses": list(losses)}
        for digest, losses in new.items()
        if members.get(digest) != losses
    ]
    if rows:
        connection.execute(sa.insert(front_members), rows)


def size(connection: sa.Connection, job_id: str) -> int:
    """How many members the front has."""
    count = sa.select(sa.func.count()).select_from(front_members).where(front_members.c.job_id == job_id)
    return int(connection.execute(count).scalar_one())


def grow(members: dict[str, Losses], points: dict[str, Losses]) -> dict[str, Losses]:
    """The members of the front of `members` (already a front) and `points`; equal points stay beside each other."""
    front: Front[str] = Front(members)
    for key, losses in points.items():
        if key not in members:
            front.add(key, losses)
    known = points | members
    return {key: known[key] for key in front}


def _points(
    connection: sa.Connection, job_id: str, objectives: Sequence[Objective], digests: Sequence[str] | None
) -> dict[str, Losses]:
    """Losses of feasible, finished candidates (of `digests`, or all) with every objective known, in that order."""
    keys = [objective.key for objective in objectives]
    signs = [1.0 if objective.direction == "min" else -1.0 for objective in objectives]
    worthy = _worthy(connection, job_id, digests)
    found = values(connection, job_id, worthy)
    return {
        digest: tuple(sign * found[digest][key] for sign, key in zip(signs, keys, strict=True))
        for digest in worthy
        if found.get(digest, {}).keys() >= set(keys)
    }


def _worthy(connection: sa.Connection, job_id: str, digests: Sequence[str] | None) -> list[str]:
    """Feasible candidates with a finished evaluation, of `digests` and in their order, or all by number."""
    query = sa.select(candidates.c.digest).where(
        candidates.c.job_id == job_id, candidates.c.feasible, candidates.c.finished
    )
    if digests is None:
        return list(connection.execute(query.order_by(candidates.c.number)).scalars())
    found: set[str] = set()
    for some in chunks(digests):
        found.update(connection.execute(query.where(candidates.c.digest.in_(some))).scalars())
    return [digest for digest in digests if digest in found]


def values(connection: sa.Connection, job_id: str, digests: Sequence[str]) -> dict[str, dict[str, float]]:
    """Values by digest and key."""
    found: dict[str, dict[str, float]] = {}
    columns = candidate_values.c.digest, candidate_values.c.key, candidate_values.c.value
    query = sa.select(*columns).where(candidate_values.c.job_id == job_id)
    for some in chunks(digests):
        for row in connection.execute(query.where(candidate_values.c.digest.in_(some))):
            found.setdefault(row.digest, {})[row.key] = row.value
    return found
