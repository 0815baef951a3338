"""Batches that no memory of a CPU's machine can hold: refused before anything is spent, with the largest that fits."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from nas.spec import JobSpec
from nas.stages import _memory
from nas.stages._memory import Held, needs_of, refuse_batches
from nas.stages._preflight import examine
from nas.workbench import Workbench
from searchspaces import SpecError

SPEC: dict[str, Any] = {
    "dataset": {"name": "digits", "config": {"limit": 200}},
    "space": {"name": "nasbench201", "config": {"channels": 2, "cells_per_stage": 1}},
    "precision": "fp32",
    "device": "cpu",
}
BIG, SMALL = {"batch_size": 128, "epochs": 1}, {"batch_size": 2, "epochs": 1}


def made(**changes: Any) -> tuple[JobSpec, Workbench]:
    spec = JobSpec.from_mapping({**SPEC, **changes})
    return spec, Workbench(spec)


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch) -> Any:
    def bytes_of(whole: float, free: float | None = None) -> None:
        monkeypatch.setattr(_memory, "whole_bytes", lambda: int(whole))
        monkeypatch.setattr(_memory, "free_bytes", lambda: int(whole if free is None else free))

    return bytes_of


def refused(**changes: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        refuse_batches(*made(**changes))
    return {violation.field: f"{violation.value}: {violation.allowed}" for violation in caught.value.violations}


def test_what_a_step_holds_grows_with_the_batch_and_is_what_autograd_keeps() -> None:
    spec, bench = made()
    needs = needs_of(spec, bench)
    supernet, held = bench.space.supernet(seed=0).train(), Held()
    with torch.autograd.graph.saved_tensors_hooks(held.count, lambda tensor: tensor):
        logits = supernet(torch.zeros(64, 1, 8, 8), bench.space.extremes().largest)
    assert logits.requires_grad
    assert needs.step == pytest.approx(held.num_bytes / 64, rel=0.1)
    assert needs.forward >= 2 * 2 * 64 * 4  # two channels of 8 x 8 pixels, read and written
    assert needs.forward < needs.step


def test_a_storage_that_two_operations_keep_is_counted_once() -> None:
    held, tensor = Held(), torch.zeros(10)
    held.count(tensor)
    held.count(tensor.view(2, 5))
    assert held.num_bytes == 40


FIELDS = {
    "supernet.batch_size": {"supernet": {"batch_size": 128}},
    "audit.training.batch_size": {"audit": {"training": BIG}},
    "deliver.training.batch_size": {"deliver": {"training": BIG}},
    "evaluator.config.training.batch_size": {"evaluator": {"name": "standalone", "config": {"training": BIG}}},
}
OTHERS = {
    "supernet": {"batch_size": 2},
    "audit": {"training": SMALL},
    "deliver": {"training": SMALL},
    "evaluator": {"name": "supernet", "config": {"eval_batch": 2}},
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_batch_beyond_the_memory_is_refused_with_the_largest_that_fits(field: str, has: Any) -> None:
    changes = {**OTHERS, **FIELDS[field]}
    spec, bench = made(**changes)
    (batch,) = (b for b in _memory._batches(spec, bench, needs_of(spec, bench)) if b.field == field)
    has(batch.once + 50.5 * batch.each)
    found = refused(**changes)
    assert list(found) == [field]
    assert found[field].startswith("128: at most 50: ")
    assert re.search(r"samples of the largest network at once take \S+ GB or more, and this machine has", found[field])
    has(batch.once + 128 * batch.each)
    assert refuse_batches(spec, bench) == []


def test_an_evaluation_batch_beyond_the_memory_is_refused(has: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {**OTHERS, "evaluator": {"name": "supernet", "config": {"eval_batch": 1000}}}
    needs = needs_of(*made(**changes))._replace(step=1.0, weights=100)
    monkeypatch.setattr(_memory, "needs_of", lambda spec, bench: needs)
    has(100 + 20.5 * needs.forward)
    found = refused(**changes)
    assert list(found) == ["evaluator.config.eval_batch"]
    assert found["evaluator.config.eval_batch"].startswith("1000: at most 20: ")


def test_where_not_even_two_samples_fit_another_space_is_the_way_out(has: Any) -> None:
    has(1000)
    assert "a smaller space or smaller samples" in refused()["supernet.batch_size"]


def test_what_is_short_only_now_is_noted(has: Any) -> None:
    has(1e12, free=1e5)
    notes = refuse_batches(*made())
    assert any(note.startswith("supernet.batch_size: 64 samples at once take ") for note in notes)
    has(1e12)
    assert refuse_batches(*made()) == []


def test_preflight_refuses_it(has: Any) -> None:
    has(1e5)
    spec, bench = made()
    with pytest.raises(SpecError, match=r"supernet\.batch_size: got 64; expected"):
        examine(spec, bench=bench)


def test_this_machine_has_some_memory() -> None:
    assert 1e8 < _memory.free_bytes() <= _memory.whole_bytes() * 1.01
