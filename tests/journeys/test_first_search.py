"""The first search as a user meets it: real server, real worker, HTTP, real data."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.client import Client
from nas.resources import Job, JobState, Phase
from searchspaces import SpecError
from tests.journeys.processes import SMALL, environment, server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with server(tmp_path_factory.mktemp("service")) as service, Client(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def finished(client: Client) -> Job:
    spec = {**SMALL, "constraints": ["params <= 12k"], "deliver": {"networks": 1, "training": {"epochs": 2}}}
    return client.submit(spec).wait(progress=False)


def test_a_job_goes_from_spec_to_a_checked_model(finished: Job) -> None:
    assert finished.state is JobState.SUCCEEDED, finished.reason
    assert finished.spent.evaluations == 24
    assert finished.preflight is not None
    assert finished.preflight.satisfiable is True
    assert finished.trust is not None
    assert finished.trust.audited == 4
    assert "too few" in finished.trust.verdict
    (delivery,) = finished.deliveries
    assert delivery.metrics["test_accuracy"] > 0.3
    assert set(delivery.parity) == {"onnx", "torch_export", "pytorch"}
    assert max(delivery.parity.values()) <= 1e-4


def test_the_front_is_feasible_and_not_dominated(client: Client, finished: Job) -> None:
    points = client.job(finished.job_id).pareto().points
    pairs = [(-p.values["accuracy@supernet"], p.values["params@cost"]) for p in points]
    assert points
    assert all(params <= 12000 for _, params in pairs)
    assert not any(a != b and a[0] <= b[0] and a[1] <= b[1] for a in pairs for b in pairs)


def test_candidates_come_as_a_data_frame(client: Client, finished: Job) -> None:
    frame = client.job(finished.job_id).candidates().to_pandas()
    assert {"digest", "text", "on_front", "accuracy@supernet", "params@cost"} <= set(frame.columns)
    assert frame["accuracy@supernet"].between(0, 1).sum() == 24 + 2  # of the search; of the space, for the audit


def test_a_point_that_was_not_delivered_is_exported_with_inherited_weights(
    client: Client, finished: Job, tmp_path: Path
) -> None:
    handle = client.job(finished.job_id)
    delivered = {delivery.digest for delivery in finished.deliveries}
    other = next(c for c in handle.candidates() if c.digest not in delivered and c.feasible)
    folder = handle.candidate(other.digest).export(tmp_path / "model", format="pytorch", weights="inherited")
    card = next(Path(folder).rglob("README.md")).read_text(encoding="utf-8")
    assert "inherited" in card
    source = next(Path(folder).rglob("model.py"))
    code = "import sys, torch; sys.path.insert(0, sys.argv[1]); import model; net = model.load()\n"
    code += "print(tuple(net(torch.rand(3, 1, 8, 8)).shape)); assert 'nas' not in sys.modules"
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code, str(source.parent)],
        capture_output=True, text=True, env=environment(), cwd=tmp_path, check=False,
    )  # fmt: skip
    assert ran.stdout.strip() == "(3, 10)", ran.stderr


def test_delivered_archives_hold_card_and_script(client: Client, finished: Job, tmp_path: Path) -> None:
    (delivery,) = finished.deliveries
    for name in delivery.parity:
        file = client.download(delivery.artifacts[name], tmp_path / f"{name}.zip")
        names = {Path(n).name for n in zipfile.ZipFile(file).namelist()}
        assert {"README.md", "card.json", "reproduce.py"} <= names


def test_a_raised_budget_goes_on_with_the_same_supernet(client: Client, finished: Job) -> None:
    handle = client.job(finished.job_id)
    handle.change(budget={"evaluations": 32})
    job = handle.wait(progress=False)
    assert job.state is JobState.SUCCEEDED, job.reason
    assert job.spent.evaluations == 32
    assert job.spent.epochs == 3


def test_a_second_job_searches_the_supernet_of_the_first(client: Client, finished: Job) -> None:
    spec = {**SMALL, "supernet": {"from": finished.job_id}, "searcher": "random", "audit": {"networks": 0}}
    handle = client.submit({**spec, "deliver": {"networks": 0}})
    job = handle.wait(progress=False)
    assert job.state is JobState.SUCCEEDED, job.reason
    assert job.spec["searcher"]["name"] != finished.spec["searcher"]["name"]
    mine, theirs = ({a.kind: a.artifact_id for a in h.artifacts()} for h in (handle, client.job(finished.job_id)))
    assert mine["supernet"] == theirs["supernet"]
    events = list(handle.events())
    assert not [event for event in events if event.type == "epoch"]
    messages = [str(event.data.get("message", "")) for event in events]
    assert any(f"supernet of job {finished.job_id} taken over" in message for message in messages)
    assert job.spent.epochs == 0
    assert job.spent.evaluations == 24


def test_a_split_supernet_is_searched_delivered_and_searched_again(client: Client) -> None:
    spec = {**SMALL, "audit": {"networks": 0}, "deliver": {"networks": 1, "training": {"epochs": 1}}}
    spec["supernet"] = {"recipe": {"name": "fewshot", "config": {"decisions": ["0->3"]}}, "batch_size": 128}
    first = client.submit({**spec, "budget": {"evaluations": 12, "epochs": 4}}).wait(progress=False)
    assert first.state is JobState.SUCCEEDED, first.reason
    handle = client.job(first.job_id)
    logged = [event.data["message"] for event in handle.events() if event.type == "log"]
    assert [m for m in logged if "after epoch 2: the supernet split by 0->3 into none | skip_connect" in m]
    again = {**spec, "supernet": {"from": first.job_id}, "deliver": {"networks": 0}}
    second = client.submit({**again, "budget": {"evaluations": 12, "epochs": 4}}).wait(progress=False)
    assert second.state is JobState.SUCCEEDED, second.reason
    assert second.spent.epochs == 0
    jobs = (client.job(job.job_id) for job in (first, second))
    one, two = ({c.text: c.values["accuracy@supernet"] for c in job.candidates()} for job in jobs)
    common = one.keys() & two.keys()
    assert common
    assert {text: one[text] for text in common} == {text: two[text] for text in common}


def test_a_dry_run_answers_without_a_job(client: Client) -> None:
    before = len(list(client.jobs()))
    report = client.dry_run(SMALL)
    assert report.space_size == 15_625
    assert report.expected_seconds is not None
    assert {cost.metric for cost in report.costs} >= {"params", "flops"}
    assert len(list(client.jobs())) == before


def test_constraints_that_nothing_meets_are_refused(client: Client) -> None:
    report = client.dry_run({**SMALL, "constraints": ["params <= 10"]})
    assert report.satisfiable is False
    refused = client.submit({**SMALL, "constraints": ["params <= 10"]})
    with pytest.raises(SpecError, match="params"):
        refused.wait(progress=False, raise_on_failure=True)
    assert (refused.state, refused.job.progress.phase) == (JobState.FAILED, Phase.PREFLIGHT)


def test_a_wrong_spec_is_refused_with_every_violation(client: Client) -> None:
    wrong = {
        **SMALL,
        "colour": 1,
        "searcher": "nosuch",
        "objectives": {"accuracy": "up"},
        "budget": {"evaluations": 0},
    }
    with pytest.raises(SpecError) as caught:
        client.submit(wrong)
    assert {v.field for v in caught.value.violations} == {"colour", "objectives.accuracy", "budget.evaluations"}
