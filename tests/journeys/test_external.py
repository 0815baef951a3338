"""A search that the user's own devices measure: a device and the search's worker are killed half-way, and every
evaluation is measured once.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml

from nas.client import Client
from nas.resources import EvaluationState, JobState
from tests.conftest import ROOT
from tests.journeys.processes import children_of, environment, server, wait_for

LEASE_SECONDS = 1.5
EVALUATIONS = 14
STUCK = """
from nas.client import Client
for work in Client().work("phone", worker="stuck"):
    print("claimed", work.claim.evaluation_id, flush=True)
    while True: pass
"""


@contextmanager
def device(url: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A device: a process that knows the service's address only."""
    environ = {**environment(), "NAS_URL": url}
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environ)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def spec() -> dict[str, object]:
    """The example's spec, smaller."""
    given = yaml.safe_load((ROOT / "examples" / "own_device.yaml").read_text(encoding="utf-8"))
    given["evaluator"]["config"]["lease"] = LEASE_SECONDS
    small = {"name": "nasbench201", "config": {"channels": 2, "cells_per_stage": 1}}
    return {**given, "space": small, "batch": 4, "budget": {"evaluations": EVALUATIONS}}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_devices_of_the_user_measure_a_search_and_whoever_dies_is_stood_in_for(tmp_path: Path) -> None:
    with server(tmp_path, lease_seconds=2) as service, Client(service.url) as client:
        job = client.submit(spec())
        report = wait_for(lambda: job.refresh().preflight, what="the preflight")
        assert report.expected_seconds is None
        assert any("waits for devices of yours" in note for note in report.notes)
        with device(service.url, "-c", STUCK) as stuck:
            assert stuck.stdout is not None
            word, lost = stuck.stdout.readline().split()
            assert word == "claimed"
            with device(service.url, str(ROOT / "examples" / "own_device.py")):
                wait_for(lambda: list(job.candidates()), what="a measurement")
                stuck.kill()
                (worker,) = children_of(service.process.pid)
                subprocess.run(["kill", "-9", str(worker)], check=True)
                ended = job.wait(progress=False)
        assert ended.state is JobState.SUCCEEDED, ended.reason
        candidates = [client.job(job.job_id).candidate(c.digest).candidate for c in job.candidates()]
        evaluations = [e for candidate in candidates for e in candidate.evaluations]
        assert Counter(e.state for e in evaluations) == {EvaluationState.FINISHED: EVALUATIONS}
        assert (
            len({e.evaluation_id for e in evaluations}) == len({e.proposal.digest for e in evaluations}) == EVALUATIONS
        )
        for evaluation in evaluations:
            (latency,) = [m for m in evaluation.measurements if m.metric == "phone_latency"]
            assert (latency.unit, latency.fidelity.level, latency.context["device"]) == ("ms", "full", "phone")
            assert latency.value > 0
            assert evaluation.seconds is not None
        told = [event.data for event in job.events() if event.type == "lease" and "evaluation" in event.data]
        assert [(data["evaluation"], data["worker"], data["attempt"]) for data in told] == [(lost, "stuck", 1)]
        assert any(event.type == "lease" and "unit" in event.data for event in job.events())
        with closing(sqlite3.connect(tmp_path / "nas.db")) as store:
            attempts = Counter(attempt for (attempt,) in store.execute("SELECT attempt FROM offers"))
        assert attempts == {1: EVALUATIONS - 1, 2: 1}  # none was claimed twice but the lost one
        assert job.pareto().points
