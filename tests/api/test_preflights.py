"""Dry runs over HTTP, and jobs that preflight refuses."""

from __future__ import annotations

from datetime import timedelta

import pytest

from db import Lease
from nas.preflights import Preflight, PreflightState
from nas.resources import Job, JobState
from nas.spec import JobSpec
from searchspaces import Violation
from tests.api.conftest import SPEC, PreflightOnly, Running, report
from tests.api.test_jobs import problem

WRONG = [Violation("dataset", "'digits'", "a file that is there"), Violation("constraints", "params <= 1", "more")]


def leased(service: Running) -> Lease:
    worker = service.store.register_worker("tests", 1, "cpu")
    lease = service.store.claim(worker.worker_id, lease_seconds=60, planner=PreflightOnly())
    assert lease is not None
    return lease


def after(service: Running, preflight_id: str) -> Preflight:
    worker = service.store.register_worker("tests", 1, "cpu")
    service.store.claim(worker.worker_id, lease_seconds=60, planner=PreflightOnly())
    return Preflight.model_validate(service.http.get(f"/v1/preflights/{preflight_id}").json())


def test_a_dry_run_is_a_preflight_to_poll(service: Running) -> None:
    answer = service.http.post("/v1/jobs?dry_run=true", json=SPEC)
    assert answer.status_code == 202
    asked = Preflight.model_validate(answer.json())
    assert answer.headers["location"] == f"/v1/preflights/{asked.preflight_id}"
    assert (asked.state, asked.workers) == (PreflightState.QUEUED, 0)
    assert "no worker is running" in asked.message
    lease = leased(service)
    running = Preflight.model_validate(service.http.get(answer.headers["location"]).json())
    assert (running.state, running.workers) == (PreflightState.RUNNING, 1)
    lease.journal.report(report(JobSpec.from_mapping(SPEC)))
    lease.complete({})
    done = after(service, asked.preflight_id)
    assert done.state is PreflightState.SUCCEEDED
    assert done.report is not None
    assert done.report.train_steps == 510


def test_a_dry_run_that_fails_keeps_every_violation(service: Running) -> None:
    asked = Preflight.model_validate(service.http.post("/v1/jobs?dry_run=true", json=SPEC).json())
    leased(service).fail("two violations", retryable=False, violations=WRONG)
    failed = after(service, asked.preflight_id)
    assert (failed.state, failed.reason, failed.report) == (PreflightState.FAILED, "two violations", None)
    assert [(v.field, v.value, v.allowed) for v in failed.violations] == [(v.field, v.value, v.allowed) for v in WRONG]


def test_a_dry_run_is_no_job(service: Running) -> None:
    asked = Preflight.model_validate(service.http.post("/v1/jobs?dry_run=true", json=SPEC).json())
    job = service.submit()
    assert [item["job_id"] for item in service.http.get("/v1/jobs").json()["items"]] == [job.job_id]
    problem(service.http.get(f"/v1/jobs/{asked.preflight_id}"), 404, "NOT_FOUND")
    problem(service.http.post(f"/v1/jobs/{asked.preflight_id}/cancel"), 404, "NOT_FOUND")
    problem(service.http.delete(f"/v1/jobs/{asked.preflight_id}"), 404, "NOT_FOUND")
    problem(service.http.get(f"/v1/preflights/{job.job_id}"), 404, "NOT_FOUND")
    assert sum(service.store.counts().jobs.values()) == 1
    assert leased(service).job_id == asked.preflight_id, "somebody waits for it: it comes before older jobs"


def test_old_dry_runs_are_forgotten_when_another_is_asked_for(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = service.http.post("/v1/jobs?dry_run=true", json=SPEC).json()["preflight_id"]
    monkeypatch.setattr("db._preflights._KEPT", timedelta(0))
    second = service.http.post("/v1/jobs?dry_run=true", json=SPEC).json()["preflight_id"]
    problem(service.http.get(f"/v1/preflights/{first}"), 404, "NOT_FOUND")
    assert service.http.get(f"/v1/preflights/{second}").status_code == 200


def test_a_job_that_preflight_refuses_fails_in_that_phase_with_every_violation(service: Running) -> None:
    job = service.submit()
    leased(service).fail("two violations", retryable=False, violations=WRONG)
    failed = Job.model_validate(service.http.get(f"/v1/jobs/{job.job_id}").json())
    assert (failed.state, failed.progress.phase, failed.reason) == (JobState.FAILED, "PREFLIGHT", "two violations")
    assert [violation.field for violation in failed.violations] == ["dataset", "constraints"]
