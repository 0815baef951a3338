"""The tables. One row of `jobs` is also the lock of everything that belongs to the job: whoever changes its units,
evaluations or candidates holds that row first, so there is one lock a transaction and no deadlock.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeAlias

import sqlalchemy as sa

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}

Row: TypeAlias = "sa.Row[*tuple[Any, ...]]"
Query: TypeAlias = "sa.Select[*tuple[Any, ...]]"

METADATA = sa.MetaData(naming_convention=_NAMES)


class UtcTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC time; SQLite keeps it without its zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# Compared byte by byte on both databases, so that pages have the same order on both.
_KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_JSON = sa.JSON(none_as_null=True)


def _job_id(*, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(
        "job_id", _KEY, sa.ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=primary_key, nullable=False
    )


jobs = sa.Table(
    "jobs",
    METADATA,
    sa.Column("job_id", _KEY, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("state", _KEY, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("stage", _KEY),
    sa.Column("planned", sa.Boolean, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("extended", sa.Boolean, nullable=False),
    sa.Column("spec", _JSON, nullable=False),
    sa.Column("spec_digest", _KEY, nullable=False),
    sa.Column("budget", _JSON, nullable=False),
    sa.Column("objectives", _JSON, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("progress", _JSON, nullable=False),
    sa.Column("num_proposals", sa.Integer, nullable=False),
    sa.Column("num_commits", sa.Integer, nullable=False),
    sa.Column("num_events", sa.Integer, nullable=False),
    sa.Column("spent_evaluations", sa.Integer, nullable=False),
    sa.Column("spent_epochs", sa.Integer, nullable=False),
    sa.Column("spent_seconds", sa.Double, nullable=False),
    sa.Column("preflight", _JSON),
    sa.Column("trust", _JSON),
    sa.Column("deliveries", _JSON, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("started_at", UtcTime),
    sa.Column("finished_at", UtcTime),
    sa.Column("supernet", _JSON),
    sa.Column("clock_seconds", sa.Double),
    sa.Column("clock_since", UtcTime),
    sa.Column("plan", _JSON),
    sa.Column("contexts", _JSON),
    sa.Column("choice", _JSON),
    sa.Column("dry_run", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("violations", _JSON),
    sa.Index(None, "state", "job_id"),
)

job_labels = sa.Table(
    "job_labels",
    METADATA,
    _job_id(primary_key=True),
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("value", _KEY, nullable=False),
    sa.Index(None, "key", "value", "job_id"),
)

units = sa.Table(
    "units",
    METADATA,
    sa.Column("unit_id", _KEY, primary_key=True),
    _job_id(),
    sa.Column("kind", _KEY, nullable=False),
    sa.Column("stage", _KEY, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("key", _KEY, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("payload", _JSON, nullable=False),
    sa.Column("state", _KEY, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("losses", sa.Integer, nullable=False),
    sa.Column("worker_id", _KEY),
    sa.Column("lease_until", UtcTime),
    sa.Column("result", _JSON),
    sa.Column("output_key", _KEY),
    sa.Column("error", sa.Text),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.UniqueConstraint("job_id", "kind", "stage", "round", "key"),
    sa.Index(None, "job_id", "state"),
    sa.Index(None, "state", "lease_until"),
    sa.Index(None, "stage", "output_key"),
)

evaluations = sa.Table(
    "evaluations",
    METADATA,
    _job_id(primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("commit_number", sa.Integer),
    sa.Column("digest", _KEY, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("level", _KEY, nullable=False),
    sa.Column("resources", _JSON),
    sa.Column("replicate", sa.Integer, nullable=False),
    sa.Column("group", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("memo", _JSON),
    sa.Column("state", _KEY, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("violation", sa.Double, nullable=False),
    sa.Column("seconds", sa.Double),
    sa.UniqueConstraint("job_id", "digest", "level", "replicate"),
    sa.Index(None, "job_id", "level", "commit_number"),
    sa.Index(None, "job_id", "state", "level", "number"),
)

measurements = sa.Table(
    "measurements",
    METADATA,
    sa.Column("job_id", _KEY, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("metric", _KEY, nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.Column("std", sa.Double),
    sa.Column("level", _KEY, nullable=False),
    sa.Column("resources", _JSON),
    sa.Column("context", _JSON),
    sa.ForeignKeyConstraint(["job_id", "number"], ["evaluations.job_id", "evaluations.number"], ondelete="CASCADE"),
)

# What evaluations are handed out to devices of the user's, and what came back. `terms` is a nas.claims.Offer less its
# keys, `answer` a nas.claims.Answer; a row stays when its evaluation is settled, so that an answer may come twice.
offers = sa.Table(
    "offers",
    METADATA,
    sa.Column("job_id", _KEY, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("unit_id", _KEY, nullable=False),
    sa.Column("target", _KEY, nullable=False),
    sa.Column("state", _KEY, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("losses", sa.Integer, nullable=False),
    sa.Column("worker", sa.Text),
    sa.Column("lease_until", UtcTime),
    sa.Column("overdue_at", UtcTime),
    sa.Column("offered_at", UtcTime, nullable=False),
    sa.Column("claimed_at", UtcTime),
    sa.Column("terms", _JSON, nullable=False),
    sa.Column("answer", _JSON),
    sa.ForeignKeyConstraint(["job_id", "number"], ["evaluations.job_id", "evaluations.number"], ondelete="CASCADE"),
    sa.Index(None, "state", "target", "offered_at"),
    sa.Index(None, "job_id", "state", "number"),
)

candidates = sa.Table(
    "candidates",
    METADATA,
    _job_id(primary_key=True),
    sa.Column("digest", _KEY, primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("feasible", sa.Boolean, nullable=False),
    sa.Column("finished", sa.Boolean, nullable=False),
    sa.Index(None, "job_id", "number", "digest"),
)

candidate_values = sa.Table(
    "candidate_values",
    METADATA,
    sa.Column("job_id", _KEY, primary_key=True),
    sa.Column("digest", _KEY, primary_key=True),
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
    sa.ForeignKeyConstraint(["job_id", "digest"], ["candidates.job_id", "candidates.digest"], ondelete="CASCADE"),
    # Not job_id first: SQLite would then read a job's every value from this index to find those of a few digests.
    sa.Index(None, "key", "job_id", "value", "digest"),
)

front_members = sa.Table(
    "front_members",
    METADATA,
    sa.Column("job_id", _KEY, primary_key=True),
    sa.Column("digest", _KEY, primary_key=True),
    sa.Column("losses", _JSON, nullable=False),
    sa.ForeignKeyConstraint(["job_id", "digest"], ["candidates.job_id", "candidates.digest"], ondelete="CASCADE"),
)

events = sa.Table(
    "events",
    METADATA,
    _job_id(primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("type", _KEY, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("data", _JSON, nullable=False),
    sa.Index(None, "job_id", "type", "sequence"),
)

artifacts = sa.Table(
    "artifacts",
    METADATA,
    _job_id(primary_key=True),
    sa.Column("artifact_id", _KEY, primary_key=True),
    sa.Column("sha256", _KEY, nullable=False),
    sa.Column("kind", _KEY, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("meta", _JSON, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Index(None, "artifact_id"),
)

workers = sa.Table(
    "workers",
    METADATA,
    sa.Column("worker_id", _KEY, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("process_id", sa.Integer, nullable=False),
    sa.Column("device", sa.Text, nullable=False),
    sa.Column("unit_id", _KEY),
    sa.Column("started_at", UtcTime, nullable=False),
    sa.Column("seen_at", UtcTime, nullable=False),
)

datasets = sa.Table(
    "datasets",
    METADATA,
    sa.Column("name", _KEY, primary_key=True),
    sa.Column("info", _JSON, nullable=False),
)

answers = sa.Table(
    "answers",
    METADATA,
    sa.Column("key", _KEY, primary_key=True),
    sa.Column("request_hash", _KEY, nullable=False),
    sa.Column("response", _JSON),
    sa.Column("created_at", UtcTime, nullable=False),
)
