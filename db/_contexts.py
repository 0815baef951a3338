"""The contexts in which a job's values are measured: for every metric the first one is the job's."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from db import _events
from db._fence import Held
from db._models import Row, evaluations, jobs, measurements
from nas.contexts import comparable, differences, key_of
from nas.resources import Fidelity, JsonObject, Measurement

_LOOKED_AT = 200  # evaluations of a job from before contexts were kept, that say which its contexts are


class JobContexts:
    """What the values of a job are compared by; `admits` each measurement in the order of commits, then `write`."""

    def __init__(self, held: Held) -> None:
        self._held = held
        found = kept(held.connection, held.job)
        self._contexts: JsonObject = {key: dict(entry) for key, entry in found.items()}
        self._is_changed = held.job.contexts is None and bool(found)
        self._notes: list[str] = []

    def admits(self, measurement: Measurement) -> bool:
        """Whether a value may stand beside the job's others; one that may not is counted."""
        key, mine = key_of(measurement), comparable(measurement)
        entry: dict[str, Any] | None = self._contexts.get(key)
        if entry is None:
            self._contexts[key] = {"context": mine, "left_out": 0}
            self._is_changed = True
            return True
        if entry["context"] == mine:
            return True
        if not entry["left_out"]:
            self._notes.append(
                f"{key} was measured otherwise than before ({differences(entry['context'], mine)}): such values are "
                "kept with their evaluations, but on no front, since they cannot be compared"
            )
        entry["left_out"] += 1
        self._is_changed = True
        return False

    def write(self) -> None:
        """Keep what is new, and say once of every metric that some values are left out."""
        if self._is_changed:
            change = sa.update(jobs).where(jobs.c.job_id == self._held.job.job_id).values(contexts=self._contexts)
            self._held.connection.execute(change)
        entries = [("log", {"level": "warning", "message": note}) for note in self._notes]
        _events.append(self._held.connection, self._held.job.job_id, entries, self._held.now)


def kept(connection: sa.Connection, job: Row) -> JsonObject:
    """`metric@level` -> its context and how many values were left out; of a job from before, read from its first."""
    if job.contexts is not None:
        found: JsonObject = job.contexts
        return found
    columns = measurements.c.metric, measurements.c.level, measurements.c.context
    joined = sa.and_(evaluations.c.job_id == measurements.c.job_id, evaluations.c.number == measurements.c.number)
    query = (
        sa.select(*columns)
        .select_from(measurements.join(evaluations, joined))
        .where(measurements.c.job_id == job.job_id, evaluations.c.commit_number <= _LOOKED_AT)
        .order_by(evaluations.c.commit_number)
    )
    contexts: JsonObject = {}
    for row in connection.execute(query):
        like = Measurement(metric=row.metric, value=0.0, fidelity=Fidelity(level=row.level), context=row.context or {})
        contexts.setdefault(key_of(like), {"context": comparable(like), "left_out": 0})
    return contexts
