"""What a job stands on is read before anything is spent, and looked at again whenever a unit of work begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.worker import Heartbeat, WorkerLoop
from db import Store
from nas.admission import admit
from nas.job import JobPlanner
from nas.resources import DatasetInfo, Job, JobState, Phase
from nas.spec import JobSpec
from nas.stages._inputs import audit_gaps, inputs_of
from nas.workbench import Workbench
from searchspaces import REGISTRY as SPACES
from searchspaces import ConfigError, DataError, SpecError, StorageFull
from tests.nas.impossible import refuse_impossible

ROWS = [(depth, width) for depth in (1, 2, 3) for width in (16, 32)]


class Stepped:
    """A job whose units are done one at a time."""

    def __init__(self, folder: Path, spec: dict[str, Any]) -> None:
        folder.mkdir()
        self.store = Store.open(f"sqlite:///{folder / 'nas.db'}", folder)
        self.job_id = self.store.create_job(*admit(spec, datasets={})).job_id
        self.loop = WorkerLoop(self.store, folder, threads=1)
        self.worker = self.store.register_worker("here", 1, "cpu").worker_id

    @property
    def job(self) -> Job:
        return self.store.job(self.job_id)

    def step(self) -> Phase | None:
        """Do the next unit; its stage. None where none is left."""
        lease = self.store.claim(self.worker, lease_seconds=30, planner=JobPlanner())
        if lease is None:
            return None
        with Heartbeat(self.store, lease, self.worker, 30) as heartbeat:
            self.loop.do(lease, heartbeat)
        return lease.unit.stage

    def end(self) -> Job:
        """Do all that is left."""
        while self.step() is not None:
            pass
        return self.job


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], Stepped]]:
    """Makes a job and does its preflight."""
    made: list[Stepped] = []

    def of(spec: dict[str, Any]) -> Stepped:
        made.append(Stepped(tmp_path / "store", spec))
        assert made[-1].step() is Phase.PREFLIGHT
        return made[-1]

    yield of
    for stepped in made:
        stepped.store.close()


def write_table(path: Path, *, better: float = 0.0) -> Path:
    lines = [f"{depth},{width},{0.1 * depth + width / 100 + better:.3f}" for depth, width in ROWS]
    path.write_text("\n".join(["decision.depth,decision.width,accuracy", *lines]) + "\n")
    return path


def write_costs(path: Path, *, slower: float = 0.0) -> Path:
    lines = [f'"depth={depth},width={width}",{depth * width + slower}' for depth, width in ROWS]
    path.write_text("\n".join(["architecture,value", *lines]) + "\n")
    return path


def write_images(path: Path, *, seed: int = 0, test_seed: int = 0, broken: bool = False) -> Path:
    arrays = {}
    for split, count, number in (("train", 60, seed), ("test", 30, 9 + test_seed)):
        rng = np.random.default_rng(number)
        arrays[f"{split}_x"] = rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
        arrays[f"{split}_y"] = np.arange(count) % 3
    if broken:
        arrays["test_x"] = arrays["test_x"][:, :5]
    np.savez(path, **arrays)
    return path


def over_table(folder: Path) -> dict[str, Any]:
    table, costs = write_table(folder / "mine.csv"), write_costs(folder / "phone.csv")
    return {
        "space": {"name": "options", "config": {"file": str(table)}},
        "evaluator": "table",
        "costs": {"phone": {"name": "lookup", "config": {"path": str(costs), "unit": "ms"}}},
        "objectives": {"accuracy": "max", "phone": "min"},
        "searcher": "random",
        "budget": {"evaluations": 6},
    }


def on_images(path: Path) -> dict[str, Any]:
    return {
        "space": {"name": "macro", "config": {"width": 0.1}},
        "dataset": {"name": "npz", "config": {"path": str(path)}},
        "evaluator": {"name": "proxy", "config": {"proxy": "jacov"}},
        "objectives": {"score": "max"},
        "searcher": "random",
        "budget": {"evaluations": 2},
        "audit": {"networks": 0},
        "deliver": {"networks": 1, "training": {"epochs": 1}, "formats": ["pytorch"]},
    }


def test_a_job_whose_files_stay_the_same_is_done(begin: Callable[..., Stepped], tmp_path: Path) -> None:
    stepped = begin(over_table(tmp_path))
    stepped.store.act(stepped.job_id, "pause")
    write_table(tmp_path / "mine.csv")  # written again, with the same content
    stepped.store.act(stepped.job_id, "resume")
    assert stepped.end().state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: write_table(folder / "mine.csv", better=0.1), "evaluator: table mine"),
        (lambda folder: write_costs(folder / "phone.csv", slower=1.0), r"costs.phone.config.path: \S+phone.csv"),
    ],
)
def test_a_job_whose_table_changed_while_it_was_paused_waits_for_the_old_content(
    change: Callable[[Path], object], said: str, begin: Callable[..., Stepped], tmp_path: Path
) -> None:
    stepped = begin(over_table(tmp_path))
    stepped.store.act(stepped.job_id, "pause")
    change(tmp_path)
    for _ in range(2):  # resumed too early, it says the same again
        stepped.store.act(stepped.job_id, "resume")
        job = stepped.end()
        assert (job.state, job.spent.evaluations) == (JobState.PAUSED, 0)
        with pytest.raises(AssertionError, match=f"{said} .*changed since this job began, .*put the old content back"):
            raise AssertionError(job.reason)
    over_table(tmp_path)  # the files as they were
    assert stepped.store.act(stepped.job_id, "resume").reason is None
    assert stepped.end().state is JobState.SUCCEEDED


@pytest.mark.parametrize("verb", ["pause", "stop", None])
def test_a_file_that_is_gone_pauses_a_job_with_its_path(
    verb: str | None, begin: Callable[..., Stepped], tmp_path: Path
) -> None:
    stepped = begin(over_table(tmp_path))
    if verb is not None:
        stepped.store.act(stepped.job_id, verb)
    if verb == "pause":
        stepped.store.act(stepped.job_id, "resume")
    (tmp_path / "phone.csv").unlink()
    job = stepped.end()
    assert (job.state, "phone.csv" in str(job.reason)) == (JobState.PAUSED, True)
    assert "put the old content back and resume the job" in str(job.reason)


def test_a_job_whose_disk_is_full_waits_with_the_reason(
    begin: Callable[..., Stepped], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(context: object) -> None:
        raise StorageFull("no room is left to write model.onnx")

    stepped = begin(over_table(tmp_path))
    stepped.loop.stop.set()  # it would wait for a while
    with monkeypatch.context() as patched:
        patched.setattr("api.worker.run_unit", full)
        job = stepped.end()
    assert (job.state, job.reason) == (
        JobState.PAUSED,
        "no room is left to write model.onnx; make room and resume the job",
    )
    stepped.loop.stop.clear()
    stepped.store.act(stepped.job_id, "resume")
    assert stepped.end().state is JobState.SUCCEEDED


def test_a_job_that_waits_for_its_data_can_be_cancelled(begin: Callable[..., Stepped], tmp_path: Path) -> None:
    stepped = begin(over_table(tmp_path))
    (tmp_path / "phone.csv").unlink()
    assert stepped.end().state is JobState.PAUSED
    assert stepped.store.act(stepped.job_id, "cancel").state is JobState.CANCELLED


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "said"),
    [({"seed": 1}, "dataset changed since"), ({"test_seed": 1}, "dataset's test split changed since")],
)
def test_images_that_changed_pause_a_job_before_anything_is_made_of_them(
    change: dict[str, int], said: str, begin: Callable[..., Stepped], tmp_path: Path
) -> None:
    path = write_images(tmp_path / "images.npz")
    stepped = begin(on_images(path))
    while stepped.job.spent.evaluations == 0:
        stepped.step()
    write_images(path, **change)
    job = stepped.end()
    assert job.state is JobState.PAUSED
    assert said in str(job.reason)
    assert not job.deliveries
    write_images(path)
    stepped.store.act(stepped.job_id, "resume")
    assert len(stepped.end().deliveries) == 1


@pytest.mark.parametrize("deliver", [0, 1])
def test_a_broken_test_split_is_refused_before_anything_is_spent(deliver: int, tmp_path: Path) -> None:
    spec = on_images(write_images(tmp_path / "images.npz", broken=True))
    spec["deliver"] = {"networks": deliver}
    with pytest.raises(SpecError, match=r"dataset: got 'npz'; expected .*test split of images has images .*equal"):
        refuse_impossible(JobSpec.from_mapping(spec))


def test_a_service_that_cannot_see_the_files_refuses_them_in_preflight(tmp_path: Path) -> None:
    stepped = Stepped(tmp_path / "store", on_images(write_images(tmp_path / "images.npz", broken=True)))
    assert stepped.step() is Phase.PREFLIGHT
    assert stepped.job.state is JobState.FAILED
    assert "test split of images has images" in str(stepped.job.reason)
    stepped.store.close()


def audited_by(path: Path, texts: Sequence[str]) -> JobSpec:
    path.write_text("\n".join(["architecture,accuracy", *(f"{text},0.5" for text in texts)]) + "\n")
    table = {"name": "file", "config": {"path": str(path), "space": "macro"}}
    auditor = {"name": "table", "config": {"table": table}}
    return JobSpec.from_mapping({"space": "macro", "evaluator": "external", "audit": {"evaluator": auditor}})


def test_an_audit_by_a_table_of_a_part_of_the_space_is_said_before(tmp_path: Path) -> None:
    texts = [architecture.text for architecture in SPACES["macro"]().iterate()]
    part = audited_by(tmp_path / "part.csv", [text for text in texts if text.startswith("0")])
    (note,) = audit_gaps(part, Workbench(part))
    assert 40 <= int(note.split("knows ")[1].split(" ")[0]) <= 95  # a third of 200
    none = audited_by(tmp_path / "none.csv", texts[:1])
    with pytest.raises(ConfigError, match=r"audit.evaluator: got table .*; of 200 that were drawn it knows none"):
        audit_gaps(none, Workbench(none))
    whole = audited_by(tmp_path / "whole.csv", texts)
    assert audit_gaps(whole, Workbench(whole)) == []


def test_registered_data_that_are_others_now_are_refused(tmp_path: Path) -> None:
    spec = on_images(write_images(tmp_path / "images.npz"))
    stepped = Stepped(tmp_path / "store", spec)
    info = DatasetInfo(name="pets", plugin="npz", config=spec["dataset"]["config"], digest="0" * 64)
    stepped.store.add_dataset(info)
    assert stepped.step() is Phase.PREFLIGHT
    assert stepped.job.state is JobState.FAILED
    assert "the content of data set 'pets' changed since it was registered" in str(stepped.job.reason)
    stepped.store.close()


def test_inputs_are_what_is_read_wherever_it_lies(tmp_path: Path) -> None:
    path = write_images(tmp_path / "images.npz")
    spec = JobSpec.from_mapping(on_images(path))
    found = inputs_of(spec, Workbench(spec))
    other = tmp_path / "other.npz"
    path.rename(other)
    moved = JobSpec.from_mapping(on_images(other))
    assert inputs_of(moved, Workbench(moved)) == found
    assert set(found) == {"dataset", "dataset's test split"}
    assert "dataset's test split" not in inputs_of(moved, Workbench(moved), with_test=False)
    write_images(other, test_seed=1)
    changed = inputs_of(moved, Workbench(moved))
    assert changed["dataset"] == found["dataset"]
    assert changed["dataset's test split"] != found["dataset's test split"]
    other.unlink()
    with pytest.raises(DataError, match=r"other\.npz does not exist"):
        inputs_of(moved, Workbench(moved))


def test_public_tables_are_inputs_though_no_setting_names_them(data_folder: Path) -> None:
    spec = JobSpec.from_mapping({"evaluator": "table", "objectives": {"accuracy": "max"}})
    (name,) = found = inputs_of(spec, Workbench(spec))
    assert name == "evaluator: table nasbench201"
    assert len(found[name]) == 64
