"""The Pareto front, kept as members with their losses: a new point is compared with the members only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from db import _candidates
from db._engine import chunks
from db._models import Row, candidates, front_members
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


def grow(members: dict[str, Losses], points: dict[str, Losses]) -> dict[str, Losses]:
    """The members of the front of `members` (already a front) and `points`; equal points stay beside each other."""
    keys, new = list(members), [key for key in points if key not in members]
    if not new:
        return members
    front: npt.NDArray[np.float64] = np.array(list(members.values())).reshape(len(members), len(points[new[0]]))
    for key in new:
        point = np.array(points[key])
        if ((front <= point).all(axis=1) & (front < point).any(axis=1)).any():
            continue
        beaten = (front >= point).all(axis=1) & (front > point).any(axis=1)
        keys = [*(keys[i] for i in np.flatnonzero(~beaten)), key] if beaten.any() else [*keys, key]
        front = np.vstack([front[~beaten], point])
    known = points | members
    return {key: known[key] for key in keys}


def _points(
    connection: sa.Connection, job_id: str, objectives: Sequence[Objective], digests: Sequence[str] | None
) -> dict[str, Losses]:
    """Losses of feasible, finished candidates (of `digests`, or all) with every objective known, in that order."""
    keys = [objective.key for objective in objectives]
    signs = [1.0 if objective.direction == "min" else -1.0 for objective in objectives]
    worthy = _worthy(connection, job_id, digests)
    found = _candidates.values(connection, job_id, worthy)
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
