"""The trust report on demand: route, SDK and command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from api.cli import app
from nas.client import Client
from nas.reports import TrustReport
from nas.resources import EvaluationState, Fidelity, Job, Measurement, Proposal, Settlement
from searchspaces import REGISTRY as SPACES
from tests.api.conftest import Running, measurement

NUM_NETWORKS = 40


@pytest.fixture
def audited(service: Running) -> Job:
    """A running job: 40 networks evaluated on a supernet that ranks badly, and trained for real; FLOPs rank well."""
    job, lease = service.submit(), service.lease()
    space, rng = SPACES["nasbench201"](), np.random.default_rng(0)
    truth = rng.normal(0.6, 0.05, size=NUM_NETWORKS)
    flops, inherited = truth + rng.normal(0, 0.01, NUM_NETWORKS), truth + rng.normal(0, 1.0, NUM_NETWORKS)
    for level in ("supernet", "short"):
        fidelity = Fidelity.model_validate({"level": level})
        architectures = [space.at(300 * number) for number in range(NUM_NETWORKS)]
        proposals = [Proposal(text=a.text, digest=a.digest, fidelity=fidelity) for a in architectures]
        for number, evaluation in enumerate(lease.journal.propose(proposals)):
            value = inherited[number] if level == "supernet" else truth[number]
            context: dict[str, str | int | float | bool] = {"bn": "batch", "eval_batch": 359}
            measured = (
                Measurement(metric="accuracy", value=value, fidelity=fidelity, context=context),
                measurement("live_flops", flops[number] * 1e6, "cost"),
            )
            settlement = Settlement(
                evaluation_id=evaluation.evaluation_id, state=EvaluationState.FINISHED, measurements=measured
            )
            lease.journal.settle([settlement])
    return job


def test_trust_is_worked_out_at_any_time(service: Running, audited: Job) -> None:
    found = TrustReport.model_validate(service.http.get(f"/v1/jobs/{audited.job_id}/trust").json())
    assert found.audited == NUM_NETWORKS
    assert "accuracy@supernet ranks worse than counting live_flops" in found.verdict
    assert found.provenance is not None
    assert found.provenance.context == {"bn": "batch", "eval_batch": 359}
    assert found.provenance.passes["audit_epochs"] == NUM_NETWORKS * audited.spec["audit"]["training"]["epochs"]
    assert "half from near the front, half from the whole space" in found.provenance.rule
    assert [population.name for population in found.populations] == ["audited"]  # drawn as nobody knows
    assert service.store.job(audited.job_id).trust is None


def test_a_job_without_trained_networks_has_too_few(service: Running) -> None:
    job = service.searched()
    found = TrustReport.model_validate(service.http.get(f"/v1/jobs/{job.job_id}/trust").json())
    assert (found.audited, found.verdict[:7]) == (0, "too few")


def test_an_unknown_job_is_not_found(service: Running) -> None:
    answer = service.http.get("/v1/jobs/job_nosuch/trust")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


def test_the_client_and_the_command_line_say_the_same(service: Running, audited: Job) -> None:
    with Client(service.url) as client:
        found = client.job(audited.job_id).measure_trust()
    run = CliRunner().invoke(app, ["trust", audited.job_id, "--url", service.url, "--json"])
    assert run.exit_code == 0, run.output
    assert TrustReport.model_validate(json.loads(run.output)) == found
    shown = CliRunner().invoke(app, ["trust", "latest", "--url", service.url]).output
    assert found.verdict in shown
    assert all(ranker.ranker in shown for ranker in found.rankers)
    assert "eval_batch" in shown
