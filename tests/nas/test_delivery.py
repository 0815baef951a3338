"""What is delivered: the network that the evidence puts first, after a contest, measured as it is handed out."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from api.worker import WorkerLoop
from db import Store
from nas.admission import admit
from nas.datasets import REGISTRY as DATASETS
from nas.export import run_onnx
from nas.resources import Evaluation, Job, JobState, Phase
from nas.stages._deliver import download_name
from nas.stages._pacing import ContestPace
from searchspaces import REGISTRY as SPACES
from tests.journeys.processes import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SPACE: dict[str, Any] = {"name": "nasbench201", "config": {"channels": 4, "cells_per_stage": 1}}
NUM_KNOWN = 40


class Delivering:
    """A job on digits whose search and audit look numbers up in a file, so that only the delivery trains."""

    def __init__(self, folder: Path, found: np.ndarray, truth: np.ndarray, **deliver: Any) -> None:
        space: Any = SPACES["nasbench201"](SPACE["config"])
        self.texts = [space.at(number).text for number in known_architectures()]
        path = folder / "known.csv"
        pd.DataFrame({"architecture": self.texts, "accuracy@3": found, "accuracy@9": truth}).to_csv(path, index=False)
        table = {"name": "file", "config": {"path": str(path), "space": "nasbench201"}}
        spec = {
            "space": SPACE,
            "dataset": {"name": "digits", "config": {"limit": 400}},
            "objectives": {"accuracy": "max"},
            "evaluator": {"name": "table", "config": {"table": table, "epochs": 3}},
            "searcher": "random",
            "budget": {"evaluations": NUM_KNOWN},
            "audit": {"networks": 24, "evaluator": {"name": "table", "config": {"table": table}}},
            "deliver": {"formats": ["onnx"], "training": {"epochs": 4}, "contenders": 2, **deliver},
        }
        self.folder, self.store = folder, Store.open(f"sqlite:///{folder / 'nas.db'}", folder)
        self.job_id = self.store.create_job(*admit(spec, datasets={})).job_id

    def work(self, until: Callable[[], bool]) -> Job:
        """Let a worker work until this holds, then stop it."""
        loop = WorkerLoop(self.store, self.folder, lease_seconds=60, threads=1)
        thread = threading.Thread(target=loop.run)
        thread.start()
        try:
            wait_for(lambda: until() or self.job.state.is_terminal, seconds=250, what="the end of the job")
        finally:
            loop.stop.set()
            thread.join(60)
        return self.job

    @property
    def job(self) -> Job:
        return self.store.job(self.job_id)

    def contended(self) -> list[Evaluation]:
        return self.store.view(self.job_id).settled("contender")


def known_architectures() -> np.ndarray:
    """Numbers of architectures that reach their output, so that they can be trained."""
    space: Any = SPACES["nasbench201"](SPACE["config"])
    drawn = np.random.default_rng(0).permutation(space.size())
    return np.array([n for n in drawn[:200] if space.counts(space.at(int(n)), live=True).flops > 70_000][:NUM_KNOWN])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Delivering]]:
    begun: list[Delivering] = []

    def begin(*args: Any, **deliver: Any) -> Delivering:
        begun.append(Delivering(tmp_path, *args, **deliver))
        return begun[-1]

    yield begin
    for each in begun:
        each.store.close()


def test_a_misleading_search_delivers_the_network_that_the_audit_found_to_be_better(
    start: Callable[..., Delivering], tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    truth = rng.uniform(0.80, 0.98, NUM_KNOWN)
    ran = start(1.0 - truth, truth, networks=1)  # the search prefers what is worse
    job = ran.work(lambda: False)
    assert job.state is JobState.SUCCEEDED, job.reason
    (delivery,) = job.deliveries
    place = {text: number for number, text in enumerate(ran.texts)}
    front = ran.store.front(ran.job_id).points[0]
    assert truth[place[front.text]] == truth.min()
    assert truth[place[delivery.text]] >= np.sort(truth)[-6]
    assert job.best == delivery.digest
    assert job.choice is not None
    assert job.choice.warning is None
    won = [contender for contender in delivery.contenders if contender.won]
    assert [contender.digest for contender in won] == [delivery.digest]
    assert len(delivery.contenders) == 2
    assert all(c.epochs == 2 and c.value is not None for c in delivery.contenders)
    assert sorted(e.proposal.digest for e in ran.contended()) == sorted(c.digest for c in delivery.contenders)
    assert all("accuracy@contender" not in c.values for c in ran.store.candidates(ran.job_id).items)
    assert {"test_accuracy", "test_loss"} == set(delivery.metrics)
    assert "onnxruntime" in delivery.measured_with
    (latency,) = delivery.timed
    assert (latency.metric, latency.unit, latency.context["file"]) == ("latency_ms", "ms", "model.onnx")
    assert {"runtime": "onnxruntime", "threads": 1, "batch": 1}.items() <= latency.context.items()
    with zipfile.ZipFile(ran.store.artifact_path(delivery.artifacts["onnx"])) as packed:
        packed.extractall(tmp_path / "model")
    check_card(tmp_path / "model", delivery.metrics["test_accuracy"], delivery.chosen)


def check_card(folder: Path, accuracy: float, chosen: str) -> None:
    """The card says what chose the network, and of the delivered file what anybody measures of it."""
    card, text = json.loads((folder / "card.json").read_text()), (folder / "README.md").read_text()
    assert card["chosen"] == chosen
    assert "audited accuracy" in chosen or "which ranks better" in chosen
    assert "## How it was chosen" in text
    assert "measured once, on what is delivered: onnxruntime" in text
    test = DATASETS["digits"]({"limit": 400}).load_test()
    (logits,) = run_onnx(folder / "model.onnx", [test.images])
    assert float((logits.argmax(dim=1).numpy() == test.labels).mean()) == pytest.approx(accuracy)
    assert card["metrics"]["test_accuracy@full"] == accuracy
    (latency,) = (m for m in card["measurements"] if m["metric"] == "latency_ms")
    assert f"| latency_ms | {latency['value']:.6g} ±" in text


def test_where_a_free_baseline_ranks_better_it_chooses_among_what_was_not_audited(
    start: Callable[..., Delivering],
) -> None:
    space: Any = SPACES["nasbench201"](SPACE["config"])
    flops = np.array([space.counts(space.at(int(n)), live=True).flops for n in known_architectures()])
    truth = 0.8 + 0.15 * np.argsort(np.argsort(flops)) / NUM_KNOWN
    ran = start(np.random.default_rng(2).uniform(0.5, 0.9, NUM_KNOWN), truth, networks=1, contenders=1)
    job = ran.work(lambda: ran.job.progress.phase is Phase.DELIVER)
    assert job.choice is not None
    assert job.choice.ranker is not None
    assert "accuracy" not in job.choice.ranker
    place = {text: number for number, text in enumerate(ran.texts)}
    assert truth[place[job.choice.best.text]] >= np.sort(truth)[-6]
    assert any(e.basis == "predicted" for e in job.choice.estimates)


def test_a_contest_that_lost_its_worker_goes_on_where_it_was(start: Callable[..., Delivering]) -> None:
    truth = np.random.default_rng(3).uniform(0.80, 0.98, NUM_KNOWN)
    ran = start(truth, truth, networks=1)
    ran.work(lambda: bool(ran.contended()))
    (first,) = ran.contended()
    job = ran.work(lambda: False)
    assert job.state is JobState.SUCCEEDED, job.reason
    found = ran.contended()
    assert len(found) == 2
    assert found[0] == first
    assert len(job.deliveries) == 1


def test_a_contest_without_time_for_its_rungs_is_left_out_and_a_repeat_leaves_it_out_too(
    start: Callable[..., Delivering], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first network of the only rung is trained, the second is not: what was known before chooses."""
    truth = np.random.default_rng(3).uniform(0.80, 0.98, NUM_KNOWN)
    ran = start(truth, truth, networks=1)
    with monkeypatch.context() as busy:
        busy.setattr(ContestPace, "allows", lambda pace, num_networks, epochs: pace.trained < 1)
        first = ran.work(lambda: False)
    assert first.state is JobState.SUCCEEDED, first.reason
    assert first.choice is not None
    assert first.plan is not None
    assert first.plan.contested == {"deliver-0000": 1}
    (note,) = [note for note in first.plan.notes if "contest" in note]
    assert "1 of 1 rungs of its contest were left out" in note
    (delivered,) = first.deliveries
    assert delivered.digest == first.choice.best.digest
    assert delivered.contenders == ()
    trained = [evaluation.proposal.digest for evaluation in ran.contended()]
    assert trained == [delivered.digest]

    asked = {**first.spec, "plan": {"from": first.job_id}, "reuse": "never"}
    ran.job_id = ran.store.create_job(*admit(asked, datasets={}, plan_of=lambda _: first.plan)).job_id
    again = ran.work(lambda: False)
    assert again.state is JobState.SUCCEEDED, again.reason
    assert again.plan is not None
    assert (again.plan.contested, again.plan.notes) == (first.plan.contested, ())
    assert [evaluation.proposal.digest for evaluation in ran.contended()] == trained
    assert [(d.digest, d.metrics) for d in again.deliveries] == [(delivered.digest, delivered.metrics)]


def test_a_download_is_called_by_its_job_network_and_format() -> None:
    digest = "0123456789abcdef"
    assert download_name("Pets, small!", digest, "onnx") == "pets-small-01234567-onnx.zip"
    assert download_name("данные", digest, "torch_export") == "01234567-torch-export.zip"
    assert len(download_name("x" * 200, digest, "pytorch")) < 100
