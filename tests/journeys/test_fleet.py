"""A fleet: one server without workers of its own, PostgreSQL, and workers that come from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from db import Store
from nas.client import Client
from nas.resources import AUDITED, JobState
from tests.journeys.processes import SMALL, server, worker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_two_workers_share_a_job_over_postgresql(postgres_url: str, tmp_path: Path) -> None:
    spec = {**SMALL, "audit": {"networks": 16, "training": {"epochs": 2}}}
    with (
        server(tmp_path, workers=0, store_url=postgres_url) as service,
        worker(postgres_url, tmp_path, lease_seconds=10),
        worker(postgres_url, tmp_path, lease_seconds=10),
        Client(service.url) as client,
    ):
        job = client.submit(spec).wait(progress=False)
        assert job.state is JobState.SUCCEEDED, job.reason
        assert job.trust is not None
        assert job.trust.audited == 16
        assert len(client.workers()) == 2
        archive = client.download(job.deliveries[0].artifacts["pytorch"], tmp_path / "best.zip")
        assert archive.stat().st_size > 1000
    store = Store.open(postgres_url, tmp_path)
    evaluations = [
        e
        for candidate in store.candidates(job.job_id, page_size=1000).items
        for e in store.candidate(job.job_id, candidate.digest).evaluations
    ]
    store.close()
    asked = [(e.proposal.fidelity.level, e.proposal.reason == AUDITED) for e in evaluations]
    of_space = {p.name: p.networks for p in job.trust.populations}["space"]
    assert (asked.count(("supernet", False)), asked.count(("supernet", True))) == (24, of_space)
    assert (asked.count(("short", True)), sum(level == "full" for level, _ in asked)) == (16, 1)
