"""Jobs: made, read, changed, moved from state to state, deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa

from db import _clock, _events
from db._engine import store_time
from db._ids import new_id, page_limit, token_of, values_of
from db._models import Row, job_labels, jobs, units
from db._states import STOPPED_BY_USER, WORKABLE, target_of
from nas.reports import Choice, Plan, TrustReport
from nas.resources import (
    Delivery,
    Job,
    JobState,
    JsonObject,
    Objective,
    Page,
    Phase,
    PreflightReport,
    ProblemViolation,
    Progress,
    Spent,
    SupernetOrigin,
    UnitState,
)
from nas.spec import NUMBERS, Budget, JobSpec
from searchspaces import Conflict, InvalidState, NotFound, SpecError, Violation

STAGE, EXPORT = "stage", "export"


def create(
    connection: sa.Connection,
    spec: JobSpec,
    objectives: tuple[Objective, ...],
    now: datetime,
    *,
    dry_run: bool = False,
) -> str:
    """Write a QUEUED job; its id. A dry run is a job whose first stage is all."""
    _check_text("name", spec.name)
    job_id = new_id("pre" if dry_run else "job")
    row = {
        "job_id": job_id,
        "name": spec.name,
        "state": JobState.QUEUED,
        "planned": False,
        "round": 0,
        "extended": False,
        "spec": spec.to_mapping(),
        "spec_digest": spec.digest(),
        "budget": spec.budget.model_dump(mode="json"),
        "objectives": [objective.model_dump(mode="json") for objective in objectives],
        "version": 1,
        "progress": Progress(evaluations_total=spec.budget.evaluations).model_dump(mode="json"),
        "num_proposals": 0,
        "num_commits": 0,
        "num_events": 0,
        "spent_evaluations": 0,
        "spent_epochs": 0,
        "spent_seconds": 0.0,
        "deliveries": [],
        "created_at": now,
        "dry_run": dry_run,
        "plan": _first_plan(connection, spec).model_dump(mode="json"),
    }
    connection.execute(sa.insert(jobs).values(**row))
    _write_labels(connection, job_id, spec.labels)
    _events.append(connection, job_id, [("job.state", {"state": JobState.QUEUED, "reason": None})], now)
    return job_id


def locked(connection: sa.Connection, job_id: str) -> Row:
    """The job's row, held until the transaction ends: the lock of all that belongs to the job.

    Units are not leased by SKIP LOCKED: every write of a unit needs the job's counters anyway, and one lock a
    transaction cannot deadlock.

    Raises:
        NotFound: there is no such job.
    """
    row = connection.execute(sa.select(jobs).where(jobs.c.job_id == job_id).with_for_update()).first()
    if row is None:
        raise NotFound(f"no job {job_id!r}")
    return row


def read(connection: sa.Connection, job_id: str) -> Job:
    """One job. Raises NotFound."""
    row = connection.execute(sa.select(jobs).where(jobs.c.job_id == job_id)).first()
    if row is None:
        raise NotFound(f"no job {job_id!r}")
    return job_of(row, _labels(connection, [job_id]).get(job_id, {}))


def check_listed(connection: sa.Connection, job_id: str) -> None:
    """Raise NotFound for a dry run: it is no job to its users."""
    is_dry = sa.select(jobs.c.job_id).where(jobs.c.job_id == job_id, jobs.c.dry_run)
    if connection.execute(is_dry).first() is not None:
        raise NotFound(f"no job {job_id!r}")


def keep_plan(connection: sa.Connection, row: Row, plan: Plan, now: datetime) -> None:
    """Write what a job is to do, and tell it; what it leaves out of what it meant to do as a warning of its own."""
    told = (row.plan or {}).get("notes", ())
    new = [("log", {"level": "warning", "message": note}) for note in plan.notes if note not in told]
    data = plan.model_dump(mode="json")
    connection.execute(sa.update(jobs).where(jobs.c.job_id == row.job_id).values(plan=data))
    _events.append(connection, row.job_id, [("plan", data), *new], now)


def _first_plan(connection: sa.Connection, spec: JobSpec) -> Plan:
    """What is known of a job's plan before its preflight: all of it where it is that of another job."""
    if spec.plan is None:
        return Plan(given=spec.given_numbers())
    query = sa.select(jobs.c.plan).where(jobs.c.job_id == spec.plan.from_job)
    known = connection.execute(query).scalar()
    if known is None:
        raise NotFound(f"no job {spec.plan.from_job!r} whose plan could be done again")
    return Plan.model_validate(known).model_copy(
        update={"fixed": True, "promises": "numbers", "notes": (), "seconds": {}}
    )


def elapsed(connection: sa.Connection, job_id: str) -> float:
    """What a job's clock shows right now."""
    row = connection.execute(sa.select(jobs.c.clock_seconds, jobs.c.clock_since).where(jobs.c.job_id == job_id)).one()
    return _clock.elapsed(row, store_time(connection))


def page(
    connection: sa.Connection, *, state: JobState | None, label: str | None, page_size: int, page_token: str | None
) -> Page[Job]:
    """Jobs, newest first. `label` is `key:value`, or a key alone."""
    query = sa.select(jobs).where(~jobs.c.dry_run)
    if state is not None:
        query = query.where(jobs.c.state == state)
    if label is not None:
        colons = [place for place, character in enumerate(label) if character == ":"]  # a key may hold one, too
        named = [
            sa.and_(job_labels.c.key == label[:place], job_labels.c.value == label[place + 1 :]) for place in colons
        ]
        fits = sa.or_(job_labels.c.key == label, *named)
        query = query.where(jobs.c.job_id.in_(sa.select(job_labels.c.job_id).where(fits)))
    if page_token is not None:
        query = query.where(jobs.c.job_id < values_of(page_token, str)[0])
    limit = page_limit(page_size)
    rows = connection.execute(query.order_by(jobs.c.job_id.desc()).limit(limit + 1)).all()
    labels = _labels(connection, [row.job_id for row in rows[:limit]])
    items = tuple(job_of(row, labels.get(row.job_id, {})) for row in rows[:limit])
    return Page[Job](items=items, next_page_token=token_of(items[-1].job_id) if len(rows) > limit else None)


def change(
    connection: sa.Connection,
    job_id: str,
    *,
    version: int | None,
    budget: Budget | None,
    name: str | None,
    labels: Mapping[str, str] | None,
    now: datetime,
) -> None:
    """Change what a user may change; `version=None` does not ask which version is changed."""
    row = locked(connection, job_id)
    if version is not None and row.version != version:
        raise Conflict(f"job {job_id} is at version {row.version}, not {version}: read it again, then change it")
    values: dict[str, Any] = {"version": row.version + 1}
    if name is not None:
        _check_text("name", name)
        values["name"] = name
    if labels is not None:
        _write_labels(connection, job_id, labels)
    reopened = False
    if budget is not None:
        old = Budget.model_validate(row.budget)
        new = old.model_copy(update={field: getattr(budget, field) for field in budget.model_fields_set})
        _check_budget(row, old, new, now)
        values["budget"] = new.model_dump(mode="json")
        values["plan"] = _with_given(row, old, new)
        values["progress"] = row.progress | {"evaluations_total": new.evaluations}
        is_searching = row.stage == Phase.SEARCH and has_units(connection, job_id, UnitState.READY, UnitState.LEASED)
        is_past_search = row.planned and row.stage in (Phase.SEARCH, Phase.AUDIT, Phase.DELIVER) and not is_searching
        reopened = _is_raised(old, new) and row.state == JobState.SUCCEEDED
        values["extended"] = row.extended or (_is_raised(old, new) and is_past_search and not reopened)
    connection.execute(sa.update(jobs).where(jobs.c.job_id == job_id).values(**values))
    if reopened:
        reopen(connection, job_id, row.round)
        move(connection, row, "reopen", now)


def reopen(connection: sa.Connection, job_id: str, round_: int) -> None:
    """Let the planner go on with the search, in a new round."""
    again = {"stage": Phase.SEARCH, "planned": False, "round": round_ + 1, "extended": False}
    connection.execute(sa.update(jobs).where(jobs.c.job_id == job_id).values(**again))


def act(connection: sa.Connection, job_id: str, verb: str, now: datetime) -> None:
    """Do what a user asks: pause, resume, stop or cancel."""
    row = locked(connection, job_id)
    is_new = verb == "resume" and row.started_at is None
    move(connection, row, "requeue" if is_new else verb, now)
    connection.execute(sa.update(jobs).where(jobs.c.job_id == job_id).values(version=jobs.c.version + 1))
    rest(connection, job_id, now)


def move(connection: sa.Connection, row: Row, name: str, now: datetime, *, reason: str | None = None) -> None:
    """Take the transition `name`; the caller holds the job's row. Raises InvalidState."""
    state = target_of(name, JobState(row.state))
    values: dict[str, Any] = {"state": state, "reason": reason, "finished_at": now if state.is_terminal else None}
    if state is JobState.RUNNING and row.started_at is None:
        values["started_at"] = now
    connection.execute(sa.update(jobs).where(jobs.c.job_id == row.job_id).values(**values))
    if state.is_terminal or state is JobState.PAUSED:
        _clock.stop(connection, row.job_id, now)
    _events.append(connection, row.job_id, [("job.state", {"state": state, "reason": reason})], now)


def interrupt(connection: sa.Connection, row: Row, reason: str, now: datetime) -> None:
    """Pause a job that has to wait for somebody; one that is over, or about to rest or to end anyway, does so."""
    if is_workable(row):
        move(connection, row, "interrupt", now, reason=reason)


def rest(connection: sa.Connection, job_id: str, now: datetime) -> None:
    """PAUSING becomes PAUSED, and CANCELLING CANCELLED, once no stage unit of the job is leased."""
    row = locked(connection, job_id)
    if row.state not in (JobState.PAUSING, JobState.CANCELLING) or has_units(connection, job_id, UnitState.LEASED):
        return
    if row.state == JobState.PAUSING:
        move(connection, row, "paused", now, reason=row.reason)
    else:
        move(connection, row, "cancelled", now)
        _drop_ready(connection, job_id)


def finish(connection: sa.Connection, row: Row, now: datetime) -> None:
    """The last stage is done."""
    is_stopped = row.state == JobState.STOPPING
    values = {"progress": row.progress | {"fraction": 1.0, "seconds_left": 0.0, "message": ""}}
    connection.execute(sa.update(jobs).where(jobs.c.job_id == row.job_id).values(**values))
    move(connection, row, "finish", now, reason=STOPPED_BY_USER if is_stopped else None)


def fail(
    connection: sa.Connection, row: Row, reason: str, now: datetime, *, violations: Sequence[Violation] = ()
) -> None:
    """End a job that cannot go on. One that is over, or is being cancelled, stays as it is."""
    state = JobState(row.state)
    if state.is_terminal or state is JobState.CANCELLING:
        return
    move(connection, row, "fail", now, reason=reason)
    if violations:
        found = [asdict(violation) for violation in violations]
        connection.execute(sa.update(jobs).where(jobs.c.job_id == row.job_id).values(violations=found))
    _drop_ready(connection, row.job_id)


def delete(connection: sa.Connection, job_id: str) -> None:
    """Remove a job that is over, with all that belongs to it."""
    row = locked(connection, job_id)
    if not JobState(row.state).is_terminal:
        raise InvalidState(f"job {job_id} is {row.state}; cancel it, then delete it")
    connection.execute(sa.delete(jobs).where(jobs.c.job_id == job_id))


def has_units(connection: sa.Connection, job_id: str, *states: UnitState) -> bool:
    """Whether the job has stage units in one of `states`."""
    query = sa.select(units.c.unit_id).where(units.c.job_id == job_id, units.c.kind == STAGE, units.c.state.in_(states))
    return connection.execute(query.limit(1)).first() is not None


def is_workable(row: Row) -> bool:
    """Whether the job's stage units may be planned and leased."""
    return row.state in WORKABLE


def job_of(row: Row, labels: dict[str, str]) -> Job:
    """The plain value of a row."""
    return Job(
        job_id=row.job_id,
        name=row.name,
        state=JobState(row.state),
        reason=row.reason,
        violations=violations_of(row),
        progress=Progress.model_validate(row.progress),
        spec=row.spec,
        spec_digest=row.spec_digest,
        budget=Budget.model_validate(row.budget),
        spent=Spent(
            evaluations=row.spent_evaluations,
            epochs=row.spent_epochs,
            wall_seconds=row.clock_seconds or 0.0,
            worker_seconds=row.spent_seconds,
            queued_seconds=_clock.queued(row),
        ),
        objectives=tuple(Objective.model_validate(objective) for objective in row.objectives),
        labels=labels,
        version=row.version,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        preflight=None if row.preflight is None else PreflightReport.model_validate(row.preflight),
        plan=None if row.plan is None else Plan.model_validate({**row.plan, "extended": row.round > 0}),
        supernet=None if row.supernet is None else SupernetOrigin.model_validate(row.supernet),
        trust=None if row.trust is None else TrustReport.model_validate(row.trust),
        choice=None if row.choice is None else Choice.model_validate(row.choice),
        deliveries=tuple(Delivery.model_validate(delivery) for delivery in row.deliveries),
    )


def violations_of(row: Row) -> tuple[ProblemViolation, ...]:
    """What was wrong with the spec of a job that failed."""
    return tuple(ProblemViolation.model_validate(violation) for violation in row.violations or ())


def _labels(connection: sa.Connection, job_ids: list[str]) -> dict[str, dict[str, str]]:
    query = sa.select(job_labels).where(job_labels.c.job_id.in_(job_ids)).order_by(job_labels.c.key)
    found: dict[str, dict[str, str]] = {}
    for row in connection.execute(query):
        found.setdefault(row.job_id, {})[row.key] = row.value
    return found


def _write_labels(connection: sa.Connection, job_id: str, labels: Mapping[str, str]) -> None:
    for key, value in labels.items():
        _check_text("labels", key)
        _check_text("labels", value)
    connection.execute(sa.delete(job_labels).where(job_labels.c.job_id == job_id))
    if labels:
        rows = [{"job_id": job_id, "key": key, "value": value} for key, value in labels.items()]
        connection.execute(sa.insert(job_labels), rows)


def _drop_ready(connection: sa.Connection, job_id: str) -> None:
    ready = (units.c.job_id == job_id, units.c.kind == STAGE, units.c.state == UnitState.READY)
    connection.execute(sa.update(units).where(*ready).values(state=UnitState.DROPPED))


def _with_given(row: Row, old: Budget, new: Budget) -> JsonObject | None:
    """The plan with the numbers of the budget that the user now gives; one that is done again has its own."""
    if row.plan is None or row.plan.get("fixed"):
        return cast("JsonObject | None", row.plan)
    changed = [name for name in ("epochs", "evaluations") if getattr(new, name) != getattr(old, name)]
    given = set(row.plan.get("given", ())).union(changed)
    return {**row.plan, "given": [name for name in NUMBERS if name in given]}


def _is_raised(old: Budget, new: Budget) -> bool:
    wall = old.wall_time is not None and (new.wall_time is None or new.wall_time > old.wall_time)
    return new.evaluations > old.evaluations or wall


def _check_budget(row: Row, old: Budget, new: Budget, now: datetime) -> None:
    if row.state in (JobState.FAILED, JobState.CANCELLED, JobState.CANCELLING) and new != old:
        raise InvalidState(f"job {row.job_id} is {row.state}: its budget cannot change; submit a new job")
    violations = []
    if new.evaluations < row.spent_evaluations:
        allowed = f"at least {row.spent_evaluations}, which are spent"
        violations.append(Violation("budget.evaluations", str(new.evaluations), allowed))
    elapsed = _clock.elapsed(row, now)
    if new.wall_time is not None and new.wall_time != old.wall_time and new.wall_time < elapsed:
        allowed = f"at least {elapsed:.0f} seconds, which are spent"
        violations.append(Violation("budget.wall_time", f"{new.wall_time:g}", allowed))
    if new.epochs != old.epochs and row.started_at is not None:
        allowed = f"{old.epochs}: a training length is fixed when the job starts; submit a new job for another"
        violations.append(Violation("budget.epochs", str(new.epochs), allowed))
    if violations:
        raise SpecError(violations)


def _check_text(field: str, text: str) -> None:
    if "\0" in text or (not text.isprintable() and any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)):
        raise SpecError([Violation(field, ascii(text), "text without NUL characters and lone surrogates")])
