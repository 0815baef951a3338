"""A job as the planner of its next stage sees it (`nas.ports.JobView`)."""

from __future__ import annotations

import sqlalchemy as sa

from db import _candidates, _evaluations, _jobs, _registers
from db._engine import Database
from db._models import units
from nas.ports import Tally
from nas.resources import Candidate, DatasetInfo, Evaluation, Job, JsonObject, ParetoFront, Phase, UnitState
from nas.spec import Level
from searchspaces import NotFound


class StoreView:
    """Reads of one job; needs no lease."""

    def __init__(self, database: Database, job_id: str) -> None:
        self._database, self._job_id = database, job_id

    def job(self) -> Job:
        """The job as it stands now."""
        with self._database.read() as connection:
            return _jobs.read(connection, self._job_id)

    def elapsed(self) -> float:
        """Real seconds since the job's first lease, without pauses, as of now."""
        with self._database.read() as connection:
            return _jobs.elapsed(connection, self._job_id)

    def workers(self) -> int:
        """Living workers that do units of this job or have nothing to do; at least one: who asks."""
        with self._database.read() as connection:
            known = _registers.all_workers(connection, self._database.now(connection))
            query = sa.select(units.c.unit_id).where(units.c.job_id == self._job_id)
            mine = set(connection.execute(query).scalars())
        return max(1, sum(w.state == "IDLE" or (w.state == "BUSY" and w.unit_id in mine) for w in known))

    def front(self) -> ParetoFront:
        """The front of the job's objectives."""
        with self._database.read() as connection:
            return _candidates.front(connection, self._job_id)

    def candidates(self, *, having: str | None = None) -> list[Candidate]:
        """All candidates with their values, or those with a value of this key, in order of their numbers."""
        with self._database.read() as connection:
            return _candidates.every(connection, self._job_id, having=having)

    def candidate(self, digest: str) -> Candidate | None:
        """One candidate with all its evaluations."""
        with self._database.read() as connection:
            try:
                return _candidates.one(connection, self._job_id, digest)
            except NotFound:
                return None

    def settled(self, *levels: Level) -> list[Evaluation]:
        """Settled evaluations of these levels, in commit order."""
        with self._database.read() as connection:
            return _evaluations.settled(connection, self._job_id, *levels, after=0)

    def tally(self, *levels: Level) -> Tally:
        """What is settled at these levels, counted where it is kept."""
        with self._database.read() as connection:
            return _evaluations.tally(connection, self._job_id, *levels)

    def evaluations(self, digest: str) -> list[Evaluation]:
        """All evaluations of one candidate, with their measurements."""
        with self._database.read() as connection:
            return _evaluations.of_candidate(connection, self._job_id, digest)

    def results(self, phase: Phase) -> list[JsonObject]:
        """Results of the finished units of a stage, in order of their keys; the newest round only."""
        done = (
            units.c.job_id == self._job_id,
            units.c.kind == _jobs.STAGE,
            units.c.stage == phase,
            units.c.state == UnitState.DONE,
        )
        newest = sa.select(sa.func.max(units.c.round)).where(*done).scalar_subquery()
        query = sa.select(units.c.result).where(*done, units.c.round == newest).order_by(units.c.key)
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def find_output(
        self,
        phase: Phase,
        *,
        output_key: str | None = None,
        last_key: str | None = None,
        job_id: str | None = None,
    ) -> JsonObject | None:
        """The newest result of a finished unit of this stage, of any job: by its `output_key`, or by the job's id.

        With `last_key`, that of the last key from `output_key` on.
        """
        query = sa.select(units.c.result).where(
            units.c.kind == _jobs.STAGE, units.c.stage == phase, units.c.state == UnitState.DONE
        )
        if output_key is not None:
            query = query.where(units.c.output_key >= output_key, units.c.output_key <= (last_key or output_key))
        if job_id is not None:
            query = query.where(units.c.job_id == job_id)
        order = (units.c.output_key.desc(), units.c.unit_id.desc()) if output_key else (units.c.unit_id.desc(),)
        with self._database.read() as connection:
            found: JsonObject | None = connection.execute(query.order_by(*order).limit(1)).scalar()
        return found

    def registered(self, plugin: str, config: JsonObject) -> DatasetInfo | None:
        """The data set that is registered with exactly these settings."""
        with self._database.read() as connection:
            found = _registers.all_datasets(connection)
        return next((info for info in found if (info.plugin, info.config) == (plugin, config)), None)
