"""Dry runs as the API tells of them: what a job would meet, found out by a worker."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from nas.reports import Resource
from nas.resources import PreflightReport, ProblemViolation


class PreflightState(StrEnum):
    """Where a dry run stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class Preflight(Resource):
    """A dry run: what a job of a spec would meet, measured by a worker. It is forgotten after an hour."""

    preflight_id: str
    state: PreflightState
    message: str = Field("", description="What it waits for, while it does.")
    workers: int = Field(0, description="Workers that are running.")
    report: PreflightReport | None = Field(None, description="What the job would meet; where nothing meets it, too.")
    reason: str | None = Field(None, description="Why it FAILED, and so would the job.")
    violations: tuple[ProblemViolation, ...] = Field((), description="What is wrong with the spec, where it FAILED.")
    created_at: datetime
