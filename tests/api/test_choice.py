"""What a job puts first, over HTTP, by the SDK and on the command line."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from api.cli import app
from nas.client import Client
from nas.reports import Choice, Estimate
from nas.resources import Delivery, Job
from tests.api.conftest import TEXTS, Running, digest_of, fill


def estimate(number: int, mean: float) -> Estimate:
    text = TEXTS[number]
    return Estimate(digest=digest_of(text), text=text, number=number, mean=mean, std=0.007, basis="audited")


@pytest.fixture
def chosen(service: Running) -> Job:
    """A running job whose audit puts the third of four first, though the last has the best inherited accuracy."""
    job, lease = service.submit(), service.lease()
    fill(lease, 4)
    choice = Choice(
        metric="accuracy",
        level="short",
        direction="max",
        ranker="live_flops",
        audited=4,
        reason="audited accuracy 0.981 ± 0.007",
        warning="a warning",
        estimates=(estimate(2, 0.981), estimate(3, 0.953)),
        contests=((digest_of(TEXTS[2]), digest_of(TEXTS[1])),),
    )
    lease.journal.report(choice)
    return service.store.job(job.job_id)


def test_best_is_what_the_evidence_puts_first_and_not_the_first_of_the_front(service: Running, chosen: Job) -> None:
    path = f"/v1/jobs/{chosen.job_id}"
    assert service.store.front(chosen.job_id).points[0].digest == digest_of(TEXTS[3])
    assert service.http.get(f"{path}/candidates/best").json()["digest"] == digest_of(TEXTS[2])
    assert service.http.post(f"{path}/exports", json={}).json()["digest"] == digest_of(TEXTS[2])
    with Client(service.url) as client:
        job = client.job(chosen.job_id)
        assert job.best().digest == digest_of(TEXTS[2])
        assert job.choice == chosen.choice


def test_an_event_says_what_comes_first_and_leaves_the_estimates_to_the_job(service: Running, chosen: Job) -> None:
    events = service.http.get(f"/v1/jobs/{chosen.job_id}/events").json()["items"]
    (data,) = [event["data"] for event in events if event["type"] == "choice"]
    assert (data["digest"], data["mean"], data["basis"]) == (digest_of(TEXTS[2]), 0.981, "audited")
    assert "estimates" not in data


def test_who_won_the_contest_for_the_first_place_is_the_best_from_then_on(service: Running, chosen: Job) -> None:
    winner, asked_for = digest_of(TEXTS[1]), digest_of(TEXTS[0])
    assert chosen.choice is not None
    deliveries = [
        Delivery(digest=asked_for, text=TEXTS[0], weights="trained"),
        Delivery(digest=winner, text=TEXTS[1], weights="trained", chosen="audited accuracy 0.98"),
    ]
    assert chosen.best == digest_of(TEXTS[2])
    assert chosen.model_copy(update={"deliveries": tuple(deliveries[:1])}).best == digest_of(TEXTS[2])
    assert chosen.model_copy(update={"deliveries": tuple(deliveries)}).best == winner


def test_the_command_line_says_what_chose_it_and_warns(service: Running, chosen: Job) -> None:
    shown = CliRunner().invoke(app, ["show", chosen.job_id, "--url", service.url]).output
    said = f"{digest_of(TEXTS[2])}, chosen by audited accuracy 0.981 ± 0.007; warning: a warning"
    assert said in " ".join(shown.split())
