"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Compared byte by byte on both databases.
_KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make every table."""
    _answers()
    _datasets()
    _jobs()
    _workers()
    _artifacts()
    _candidates()
    _evaluations()
    _events()
    _job_labels()
    _units()
    _candidate_values()
    _front_members()
    _measurements()


def _answers() -> None:
    op.create_table(
        "answers",
        sa.Column("key", _KEY, nullable=False),
        sa.Column("request_hash", _KEY, nullable=False),
        sa.Column("response", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_answers"),
    )


def _datasets() -> None:
    op.create_table(
        "datasets",
        sa.Column("name", _KEY, nullable=False),
        sa.Column("info", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_datasets"),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", _KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", _KEY, nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("stage", _KEY, nullable=True),
        sa.Column("planned", sa.Boolean(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("extended", sa.Boolean(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("spec_digest", _KEY, nullable=False),
        sa.Column("budget", sa.JSON(), nullable=False),
        sa.Column("objectives", sa.JSON(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("num_proposals", sa.Integer(), nullable=False),
        sa.Column("num_commits", sa.Integer(), nullable=False),
        sa.Column("num_events", sa.Integer(), nullable=False),
        sa.Column("spent_evaluations", sa.Integer(), nullable=False),
        sa.Column("spent_epochs", sa.Integer(), nullable=False),
        sa.Column("spent_seconds", sa.Double(), nullable=False),
        sa.Column("preflight", sa.JSON(), nullable=True),
        sa.Column("trust", sa.JSON(), nullable=True),
        sa.Column("deliveries", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_state_job_id", "jobs", ["state", "job_id"])


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("worker_id", _KEY, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("process_id", sa.Integer(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("unit_id", _KEY, nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name="pk_workers"),
    )


def _artifacts() -> None:
    op.create_table(
        "artifacts",
        sa.Column("job_id", _KEY, nullable=False),
        sa.Column("artifact_id", _KEY, nullable=False),
        sa.Column("sha256", _KEY, nullable=False),
        sa.Column("kind", _KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("meta", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_artifacts_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "artifact_id", name="pk_artifacts"),
    )
    op.create_index("ix_artifacts_artifact_id", "artifacts", ["artifact_id"])


def _candidates() -> None:
    op.create_table(
        "candidates",
        sa.Column("job_id", _KEY, nullable=False),
        sa.Column("digest", _KEY, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("feasible", sa.Boolean(), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_candidates_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "digest", name="pk_candidates"),
    )
    op.create_index("ix_candidates_job_id_number_digest", "candidates", ["job_id", "number", "digest"])


def _evaluations() -> None:
    op.create_table(
        "evaluations",
        sa.Column("job_id", _KEY, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("commit_number", sa.Integer(), nullable=True),
        sa.Column("digest", _KEY, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("level", _KEY, nullable=False),
        sa.Column("resources", sa.JSON(), nullable=True),
        sa.Column("replicate", sa.Integer(), nullable=False),
        sa.Column("group", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("memo", sa.JSON(), nullable=True),
        sa.Column("state", _KEY, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("violation", sa.Double(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_evaluations_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_evaluations"),
        sa.UniqueConstraint(
            "job_id", "digest", "level", "replicate", name="uq_evaluations_job_id_digest_level_replicate"
        ),
    )
    op.create_index("ix_evaluations_job_id_level_commit_number", "evaluations", ["job_id", "level", "commit_number"])
    op.create_index("ix_evaluations_job_id_state_level_number", "evaluations", ["job_id", "state", "level", "number"])


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("job_id", _KEY, nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("type", _KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_events_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "sequence", name="pk_events"),
    )
    op.create_index("ix_events_job_id_type_sequence", "events", ["job_id", "type", "sequence"])


def _job_labels() -> None:
    op.create_table(
        "job_labels",
        sa.Column("job_id", _KEY, nullable=False),
        sa.Column("key", _KEY, nullable=False),
        sa.Column("value", _KEY, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_job_labels_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "key", name="pk_job_labels"),
    )
    op.create_index("ix_job_labels_key_value_job_id", "job_labels", ["key", "value", "job_id"])


def _units() -> None:
    op.create_table(
        "units",
        sa.Column("unit_id", _KEY, nullable=False),
        sa.Column("job_id", _KEY, nullable=False),
        sa.Column("kind", _KEY, nullable=False),
        sa.Column("stage", _KEY, nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("key", _KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("state", _KEY, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("worker_id", _KEY, nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("output_key", _KEY, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"], name="fk_units_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("unit_id", name="pk_units"),
        sa.UniqueConstraint("job_id", "kind", "stage", "round", "key", name="uq_units_job_id_kind_stage_round_key"),
    )
    op.create_index("ix_units_job_id_state", "units", ["job_id", "state"])
    op.create_index("ix_units_stage_output_key", "units", ["stage", "output_key"])
    op.create_index("ix_units_state_lease_until", "units", ["state", "lease_until"])


def _candidate_values() -> None:
    op.create_table(
        "candidate_values",
        sa.Column("job_id", _KEY, nullable=False),
        sa.Column("digest", _KEY, nullable=False),
        sa.Column("key", _KEY, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id", "digest"],
            ["candidates.job_id", "candidates.digest"],
            name="fk_candidate_values_job_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", "digest", "key", name="pk_candidate_values"),
    )
    op.create_index(
        "ix_candidate_values_key_job_id_value_digest", "candidate_values", ["key", "job_id", "value", "digest"]
    )


def _front_members() -> None:
    op.create_table(
        "front_members",
        sa.Column("job_id", _KEY, nullable=False),
        sa.Column("digest", _KEY, nullable=False),
        sa.Column("losses", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id", "digest"],
            ["candidates.job_id", "candidates.digest"],
            name="fk_front_members_job_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", "digest", name="pk_front_members"),
    )


def _measurements() -> None:
    op.create_table(
        "measurements",
        sa.Column("job_id", _KEY, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("metric", _KEY, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("std", sa.Double(), nullable=True),
        sa.Column("level", _KEY, nullable=False),
        sa.Column("resources", sa.JSON(), nullable=True),
        sa.Column("context", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id", "number"],
            ["evaluations.job_id", "evaluations.number"],
            name="fk_measurements_job_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", "number", "position", name="pk_measurements"),
    )
