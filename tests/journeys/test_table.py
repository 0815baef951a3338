"""A search over a table, through a real server and real workers: in seconds, and the same when a worker is killed."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from db import Store
from nas.admission import admit
from nas.client import Client
from nas.resources import EvaluationState, JobState
from tests.conftest import ROOT
from tests.journeys.processes import environment, server, wait_for, worker

LEASE_SECONDS = 2.0
EVALUATIONS = 300
SPEC = {
    "evaluator": "table",
    "searcher": "regularized_evolution",
    "objectives": {"accuracy": "max", "latency_pixel3": "min"},
    "constraints": ["latency_pixel3 <= 12"],
    "batch": 2,
    "budget": {"evaluations": EVALUATIONS},
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_demo_without_a_gpu_ends_within_a_minute_and_is_shown_by_the_command_line(
    tmp_path: Path, data_folder: Path
) -> None:
    example = ROOT / "examples" / "table.yaml"
    with server(tmp_path) as service, Client(service.url) as client:
        assert {table.name: table.available for table in client.tables()}["nasbench201"]
        environ = {**environment(), "NAS_URL": service.url}

        def nas(*arguments: str) -> str:
            command = [sys.executable, "-P", "-m", "api", *arguments]
            return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=90).stdout

        said = nas("submit", str(example), "--watch")
        job = client.find_job("latest")
        assert job.job.state is JobState.SUCCEEDED, job.job.reason
        assert "latency_pixel3@cost" in said
        assert "delivered" not in said
        assert "data set" not in nas("show", job.job_id)
        assert job.best().candidate.values["accuracy@full"] > 0.9
        evaluated = {
            c.text: (-c.values["accuracy@full"], c.values["latency_pixel3@cost"])
            for c in job.candidates()
            if "accuracy@full" in c.values
        }
        assert len(evaluated) == job.job.spent.evaluations == 200
        assert all(latency <= 12 for _, latency in evaluated.values())
        best = {
            text
            for text, mine in evaluated.items()
            if not any(o != mine and o[0] <= mine[0] and o[1] <= mine[1] for o in evaluated.values())
        }
        assert {point.text for point in job.pareto().points} == best
        names = [name for name in job.figure("pareto").to_dict()["layout"] if name.startswith(("xaxis", "yaxis"))]
        titles = [job.figure("pareto").layout[name].title.text for name in names]
        assert any("latency_pixel3" in title and "ms" in title for title in titles), titles


def test_whoever_goes_on_proposes_what_the_killed_worker_would_have(tmp_path: Path, data_folder: Path) -> None:
    assert searched(tmp_path / "killed", kill_after=60) == searched(tmp_path / "undisturbed", kill_after=None)


def searched(folder: Path, *, kill_after: int | None) -> list[tuple[int, str, EvaluationState, dict[str, float]]]:
    """Every evaluation of the job: its number, architecture, state and values."""
    folder.mkdir()
    url = f"sqlite:///{folder / 'nas.db'}"
    store = Store.open(url, folder)
    job_id = store.create_job(*admit(SPEC, datasets={})).job_id
    with ExitStack() as stack:
        first = stack.enter_context(worker(url, folder, lease_seconds=LEASE_SECONDS))
        if kill_after is not None:
            wait_for(lambda: store.job(job_id).progress.evaluations_done >= kill_after, what="the search under way")
            first.kill()
            first.wait()
            assert store.job(job_id).state is JobState.RUNNING
            stack.enter_context(worker(url, folder, lease_seconds=LEASE_SECONDS))
        wait_for(lambda: store.job(job_id).state.is_terminal, seconds=180, what="the end of the job")
    assert store.job(job_id).spent.evaluations == EVALUATIONS
    events = store.events(job_id, limit=10_000).items
    assert any(event.type == "lease" for event in events) == (kill_after is not None)
    candidates = store.candidates(job_id, page_size=10_000).items
    found = [(c.values, e) for c in candidates for e in store.candidate(job_id, c.digest).evaluations]
    store.close()
    return sorted((e.number, e.proposal.text, e.state, dict(values)) for values, e in found)
