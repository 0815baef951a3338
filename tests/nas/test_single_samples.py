"""No way leads to a batch of one before batch normalisation: it is avoided, or refused before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from db import Store
from nas.resources import JobState
from nas.spec import JobSpec
from nas.stages import preflight
from nas.training import num_parts
from nas.training._data import even_parts, even_slices
from searchspaces import SpecError
from tests.nas.impossible import refuse_impossible
from tests.nas.test_table_jobs import Ran


def images(path: Path, *, train: int, valid: int) -> dict[str, Any]:
    """A spec on images of four pixels a side, of which the networks of the space leave one."""
    rng = np.random.default_rng(0)
    sizes = {"train": train, "valid": valid, "test": 5}
    arrays = {f"{name}_x": rng.integers(0, 256, (n, 4, 4), dtype=np.uint8) for name, n in sizes.items()}
    np.savez(path, **arrays, **{f"{name}_y": np.arange(n) % 2 for name, n in sizes.items()})  # type: ignore[arg-type]
    in_twos = {"epochs": 1, "batch_size": 2}
    return {
        "space": {"name": "nasbench201", "config": {"channels": 4, "cells_per_stage": 1}},
        "dataset": {"name": "npz", "config": {"path": str(path)}},
        "supernet": {"recipe": "spos", "batch_size": 2},
        "evaluator": {"name": "supernet", "config": {"eval_batch": 2}},
        "searcher": "random",
        "scoring": {"proxies": ["naswot", "swap"], "images": 2},
        "budget": {"evaluations": 4, "epochs": 2},
        "audit": {"networks": 2, "training": in_twos},
        "deliver": {"networks": 1, "training": in_twos, "formats": ["pytorch"]},
    }


@pytest.mark.parametrize("size", range(2, 9))
def test_no_part_holds_one_sample(size: int) -> None:
    for number in range(2, 40):
        parts = [len(part) for part in even_parts(torch.arange(number), size)]
        assert min(parts) >= 2
        assert max(parts) <= size + (size == 2 and number % 2)
        assert max(parts) - min(parts) <= 1
        assert [part.stop - part.start for part in even_slices(number, size)].count(1) == 0
        assert len(parts) == num_parts(number, size)


@pytest.mark.slow
@pytest.mark.parametrize("bn", ["batch", "recalibrated"])
def test_odd_numbers_in_twos_go_through_every_stage_on_networks_that_end_at_one_pixel(tmp_path: Path, bn: str) -> None:
    spec = images(tmp_path / "d.npz", train=7, valid=5)
    spec["evaluator"]["config"]["bn"] = bn
    found = Ran(Store.open(None, tmp_path), tmp_path, spec)
    assert (found.job.state, found.job.reason, found.job.progress.failures) == (JobState.SUCCEEDED, None, 0)
    assert [delivery.weights for delivery in found.job.deliveries] == ["trained"]
    assert found.job.trust is not None
    assert found.job.trust.audited == 2


@pytest.mark.parametrize("section", ["supernet", "audit.training", "deliver.training"])
def test_a_batch_of_one_is_refused(section: str) -> None:
    mapping: dict[str, Any] = {"batch_size": 1} | ({"epochs": 1} if "training" in section else {})
    for part in reversed(section.split(".")):
        mapping = {part: mapping}
    with pytest.raises(SpecError, match=f"{section}.batch_size"):
        JobSpec.from_mapping(mapping)


@pytest.mark.parametrize(("train", "valid"), [(1, 5), (5, 1)])
def test_a_split_of_one_sample_is_refused(tmp_path: Path, train: int, valid: int) -> None:
    spec = JobSpec.from_mapping(images(tmp_path / "d.npz", train=train, valid=valid))
    with pytest.raises(SpecError, match=r"one sample in|no training image"):
        refuse_impossible(spec)


def test_preflight_counts_the_steps_that_are_done(tmp_path: Path) -> None:
    report = preflight(JobSpec.from_mapping(images(tmp_path / "d.npz", train=7, valid=5)))
    assert report.train_steps == 2 * num_parts(7, 2) == 6
