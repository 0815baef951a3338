"""A worker killed with SIGKILL in each stage: another goes on, and no committed evaluation is lost or done twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from db import Store
from nas.admission import admit
from nas.resources import AUDITED, Evaluation, EvaluationState, Event, Job, JobState, Phase
from tests.journeys.processes import SMALL, wait_for, worker

LEASE_SECONDS = 2.0
SPEC = {
    **SMALL,
    "scoring": {"proxies": ["jacov", "synflow"], "images": 16, "pool": 150},
    "searcher": {"name": "warm_start", "config": {"initial": 8}},
    "budget": {"evaluations": 60, "epochs": 12},
    "audit": {"networks": 4, "training": {"epochs": 3}},
    "deliver": {"networks": 1, "training": {"epochs": 8}, "formats": ["pytorch"]},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path / 'nas.db'}", tmp_path)
    yield store
    store.close()


def all_events(store: Store, job_id: str) -> list[Event]:
    return list(store.events(job_id, limit=10_000).items)


def all_evaluations(store: Store, job_id: str) -> list[Evaluation]:
    candidates = store.candidates(job_id, page_size=1000).items
    return [e for c in candidates for e in store.candidate(job_id, c.digest).evaluations]


def is_under_way(job: Job, phase: Phase) -> bool:
    return job.state is JobState.RUNNING and job.progress.phase is phase and job.progress.fraction > 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("phase", [Phase.SCORE, Phase.SUPERNET, Phase.SEARCH, Phase.AUDIT, Phase.DELIVER])
def test_another_worker_goes_on_where_the_killed_one_stood(store: Store, tmp_path: Path, phase: Phase) -> None:
    spec, objectives = admit(SPEC, datasets={})
    job_id = store.create_job(spec, objectives).job_id
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    with ExitStack() as stack:
        first = stack.enter_context(worker(url, tmp_path, lease_seconds=LEASE_SECONDS))
        wait_for(lambda: is_under_way(store.job(job_id), phase), seconds=120, what=f"{phase} under way")
        first.kill()
        first.wait()
        committed = {
            e.evaluation_id: e for e in all_evaluations(store, job_id) if e.state is not EvaluationState.PENDING
        }
        stack.enter_context(worker(url, tmp_path, lease_seconds=LEASE_SECONDS))
        wait_for(lambda: store.job(job_id).state.is_terminal, seconds=180, what="the end of the job")
    job = store.job(job_id)
    assert job.state is JobState.SUCCEEDED, job.reason
    assert any(event.type == "lease" for event in all_events(store, job_id)), "nobody took the unit over"
    after = {e.evaluation_id: e for e in all_evaluations(store, job_id)}
    for evaluation_id, evaluation in committed.items():
        assert after[evaluation_id].model_dump() == evaluation.model_dump(), "a committed evaluation changed"
    settled = [e for e in after.values() if e.state is EvaluationState.FINISHED]
    keys = Counter((e.proposal.digest, str(e.proposal.fidelity), e.proposal.replicate) for e in settled)
    assert max(keys.values()) == 1, "an evaluation was done twice"
    searched = [e for e in settled if e.proposal.fidelity.level == "supernet" and e.proposal.reason != AUDITED]
    assert len(searched) == SPEC["budget"]["evaluations"]
    assert [e.state for e in after.values() if e.state is EvaluationState.PENDING] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_training_killed_in_the_middle_ends_with_the_weights_of_an_undisturbed_run(tmp_path: Path) -> None:
    undisturbed, _ = trained(tmp_path / "undisturbed", kill_after=None)
    killed, events = trained(tmp_path / "killed", kill_after=40)
    assert killed == undisturbed
    assert any(event.type == "lease" for event in events), "nobody took the training over"
    epochs = [event.data["epoch"] for event in events if event.type == "epoch"]
    assert epochs.count(1) == 1, "the training began anew"
    assert set(epochs) == set(range(1, 81))


def trained(folder: Path, *, kill_after: int | None) -> tuple[str, list[Event]]:
    """Id of the supernet's artifact, which is that of its bytes, and the events so far."""
    folder.mkdir()
    url = f"sqlite:///{folder / 'nas.db'}"
    store = Store.open(url, folder)
    spec, objectives = admit({**SPEC, "budget": {"evaluations": 8, "epochs": 80}}, datasets={})
    job_id = store.create_job(spec, objectives).job_id
    with ExitStack() as stack:
        first = stack.enter_context(worker(url, folder, lease_seconds=LEASE_SECONDS))
        if kill_after:
            wait_for(lambda: store.job(job_id).progress.epochs_done >= kill_after, seconds=120, what="the epoch")
            first.kill()
            stack.enter_context(worker(url, folder, lease_seconds=LEASE_SECONDS))
        found = wait_for(
            lambda: [a for a in store.artifacts(job_id) if a.kind == "supernet"], seconds=180, what="the supernet"
        )
    events = all_events(store, job_id)
    store.close()
    return found[0].artifact_id, events
