"""Artifacts and checkpoints: whole or not there."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from db import Store
from searchspaces import CheckpointError, NotFound, StorageFull, StoreError
from tests.db.conftest import FakePlanner, claimed, new_job, searching


def a_file(folder: Path, content: bytes = b"weights") -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


def test_an_artifact_is_kept_by_its_content(store: Store, worker_id: str, tmp_path: Path) -> None:
    lease = searching(store, worker_id)
    info = lease.artifacts.put(a_file(tmp_path), kind="supernet", name="supernet.bin", meta={"epochs": 3})
    digest = hashlib.sha256(b"weights").hexdigest()
    assert info.artifact_id == f"art_{digest[:32]}"
    assert (info.kind, info.name, info.size_bytes, info.meta) == ("supernet", "supernet.bin", 7, {"epochs": 3})
    assert store.artifact(info.artifact_id) == info
    assert store.artifacts(lease.job_id) == (info,)
    path = store.artifact_path(info.artifact_id)
    assert path == tmp_path / "files" / "artifacts" / digest[:2] / digest
    assert path.read_bytes() == b"weights"
    assert lease.artifacts.path(info.artifact_id) == path
    with pytest.raises(NotFound):
        store.artifact_path("art_none")


def test_an_artifact_whose_content_changed_is_refused(store: Store, worker_id: str, tmp_path: Path) -> None:
    lease = searching(store, worker_id)
    info = lease.artifacts.put(a_file(tmp_path), kind="model", name="m")
    path = store.artifact_path(info.artifact_id)
    for broken in (b"weightz", b"weig"):
        path.write_bytes(broken)
        with pytest.raises(StoreError, match="not what was kept"):
            store.artifact_path(info.artifact_id)
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        lease.artifacts.path(info.artifact_id)


def test_an_artifact_that_another_job_uses_outlives_the_job_that_made_it(
    store: Store, worker_id: str, tmp_path: Path
) -> None:
    first = searching(store, worker_id)
    shared = first.artifacts.put(a_file(tmp_path), kind="supernet", name="s")
    own = first.artifacts.put(a_file(tmp_path, b"own"), kind="model", name="m")
    first.complete({})
    second = searching(store, worker_id)
    assert second.artifacts.path(shared.artifact_id).read_bytes() == b"weights"
    assert [info.kind for info in store.artifacts(second.job_id)] == ["supernet"]
    store.claim(worker_id, lease_seconds=60, planner=FakePlanner())
    gone = store.artifact_path(own.artifact_id)
    store.delete_job(first.job_id)
    assert not gone.exists()
    assert store.artifact_path(shared.artifact_id).read_bytes() == b"weights"
    with pytest.raises(NotFound):
        store.artifact(own.artifact_id)


def test_a_checkpoint_comes_back_bit_for_bit(store: Store, worker_id: str) -> None:
    lease = searching(store, worker_id)
    weight = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    tensors = {
        "weight": weight,
        "view": weight.t(),
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "count": torch.tensor(3),
        "empty": torch.empty(0, 4),
        "mask": torch.tensor([True, False]),
    }
    meta = {"epoch": 3, "name": "ü", "nested": {"list": [1, 2.5, None]}}
    assert lease.checkpoints.load("train") is None
    lease.checkpoints.save("train", tensors, meta)
    found = lease.checkpoints.load("train")
    assert found is not None
    assert found.meta == meta
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)


def files(tmp_path: Path, name: str = "train") -> list[Path]:
    return sorted((tmp_path / "files" / "checkpoints").rglob(f"{name}.*.safetensors"))


def save(lease: object, value: int) -> None:
    lease.checkpoints.save("train", {"x": torch.tensor([value])}, {"value": value})  # type: ignore[attr-defined]


def loaded(lease: object) -> int:
    found = lease.checkpoints.load("train")  # type: ignore[attr-defined]
    assert found.meta["value"] == int(found.tensors["x"])
    return int(found.meta["value"])


def test_the_two_newest_checkpoints_are_kept_and_a_name_is_dropped_alone(
    store: Store, worker_id: str, tmp_path: Path
) -> None:
    lease = searching(store, worker_id)
    for value in range(4):
        save(lease, value)
    lease.checkpoints.save("train.other", {}, {})
    assert [path.name for path in files(tmp_path)] == [
        "train.a1.3.safetensors",
        "train.a1.4.safetensors",
        "train.other.a1.1.safetensors",
    ]
    lease.checkpoints.drop("train")
    assert lease.checkpoints.load("train") is None
    assert lease.checkpoints.load("train.other") is not None


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_checkpoint_cut_short_is_passed_over_for_the_one_before(
    store: Store, worker_id: str, tmp_path: Path, kept: int
) -> None:
    lease = searching(store, worker_id)
    save(lease, 1)
    save(lease, 2)
    older, newer = files(tmp_path)
    newer.write_bytes(newer.read_bytes()[:kept])
    assert loaded(lease) == 1
    older.write_bytes(older.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="delete it") as refused:
        lease.checkpoints.load("train")
    assert str(older) in str(refused.value)


def test_a_checkpoint_with_a_flipped_bit_is_passed_over(store: Store, worker_id: str, tmp_path: Path) -> None:
    lease = searching(store, worker_id)
    save(lease, 1)
    save(lease, 2)
    newer = files(tmp_path)[1]
    content = bytearray(newer.read_bytes())
    content[-1] ^= 1
    newer.write_bytes(content)
    assert loaded(lease) == 1


def test_the_next_attempt_goes_on_from_the_checkpoint_and_a_late_one_never_wins(
    store: Store, worker_id: str, tmp_path: Path
) -> None:
    new_job(store)
    old = claimed(store, worker_id, lease_seconds=0.1)
    save(old, 1)
    time.sleep(0.15)
    new = claimed(store, worker_id)
    assert loaded(new) == 1
    save(new, 2)
    late = files(tmp_path)[0]
    late.rename(late.with_name("train.a1.99.safetensors"))
    assert loaded(new) == 2
    save(new, 3)
    assert [path.name.split(".")[1] for path in files(tmp_path)] == ["a2", "a2"]


def test_checkpoints_go_when_their_unit_is_done_but_not_when_it_is_given_back(
    store: Store, worker_id: str, tmp_path: Path
) -> None:
    lease = searching(store, worker_id)
    save(lease, 1)
    lease.release()
    assert len(files(tmp_path)) == 1
    claimed(store, worker_id).complete({})
    assert files(tmp_path) == []


@pytest.fixture
def full_disk(tmp_path: Path) -> Path:
    """A file system of 3 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder  # type: ignore[misc]
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return path
    raise AssertionError("the disk did not fill up")


def test_a_full_disk_is_told_keeps_what_was_there_and_goes_on_when_there_is_room(full_disk: Path) -> None:
    store = Store.open(f"sqlite:///{full_disk / 'nas.db'}", full_disk)
    lease = searching(store, store.register_worker("here", 1, "cpu").worker_id)
    save(lease, 1)
    filler = fill(full_disk)
    with pytest.raises(StorageFull, match="free some space"):
        save(lease, 2)
    with pytest.raises(StorageFull, match="free some space"):
        lease.artifacts.put(filler, kind="model", name="m")
    with pytest.raises(StorageFull, match="free some space"):
        lease.journal.event("log", {"text": "x" * 1_000_000})
    assert loaded(lease) == 1
    assert not list(full_disk.rglob("*.part"))
    assert store.job(lease.job_id).state == "RUNNING"
    num_events = len(store.events(lease.job_id).items)
    filler.unlink()
    save(lease, 2)
    lease.journal.event("log", {"text": "again"})
    assert loaded(lease) == 2
    assert [event.sequence for event in store.events(lease.job_id).items] == list(range(1, num_events + 2))
    store.close()


def test_a_store_on_a_full_disk_does_not_open_and_says_why(full_disk: Path) -> None:
    fill(full_disk)
    with pytest.raises(StorageFull, match="free some space"):
        Store.open(f"sqlite:///{full_disk / 'nas.db'}", full_disk)


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_an_error_of_the_store_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """A limit on the size of files works for every user; the kernel then says EFBIG, not ENOSPC."""
    script = """
        import resource, sys, torch
        from pathlib import Path
        from db import Store
        from searchspaces import StoreError
        from tests.db.conftest import searching
        folder = Path(sys.argv[1])
        store = Store.open(f"sqlite:///{folder / 'nas.db'}", folder)
        lease = searching(store, store.register_worker("here", 1, "cpu").worker_id)
        lease.checkpoints.save("train", {"x": torch.zeros(10)}, {"value": 1})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        for write in (
            lambda: lease.checkpoints.save("train", {"x": torch.zeros(1_000_000)}, {"value": 2}),
            lambda: lease.journal.event("log", {"text": "x" * 2_000_000}),
        ):
            try:
                write()
            except StoreError as error:
                print("refused", error)
        print(lease.checkpoints.load("train").meta, store.job(lease.job_id).state)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    lines = done.stdout.splitlines()
    assert (len(lines), lines[-1]) == (3, "{'value': 1} RUNNING"), done.stderr
    assert not list(tmp_path.rglob("*.part"))


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    """Nobody, not even root, may make a file in /proc."""
    for database, folder in ((Path("/proc/nas/nas.db"), tmp_path), (tmp_path / "nas.db", Path("/proc/nas"))):
        with pytest.raises(StoreError, match=r"/proc/nas.*may write to"):
            Store.open(f"sqlite:///{database}", folder)
