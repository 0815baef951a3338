"""Killed at any step and taken up again, a training ends with the very bits of one that was left alone."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.recipes import REGISTRY
from nas.testing._recipes import EPOCHS, Trial
from nas.training import MemoryCheckpoints, code_version
from searchspaces import kernel_build

RECIPES = ("spos", "pada")
STEPS = EPOCHS * Trial(REGISTRY["spos"], None, seed=0).setting.num_steps_per_epoch


class Killed(BaseException):
    """The process is gone: nobody catches this."""


@cache
def undisturbed(recipe: str) -> Trial:
    trial = Trial(REGISTRY[recipe], None, seed=0)
    trial.train()
    return trial


def kill(recipe: str, checkpoints: MemoryCheckpoints, *, after: int) -> None:
    """Train on from what is saved, and die when so many steps of this process are done, without saving."""
    trial, done = Trial(REGISTRY[recipe], None, seed=0), 0

    def count() -> None:
        nonlocal done
        done += 1
        if done >= after:
            raise Killed

    with pytest.raises(Killed):
        trial.train(checkpoints=checkpoints, after_step=count)


@pytest.mark.parametrize("recipe", RECIPES)
@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_a_training_killed_at_any_step_ends_as_one_that_was_left_alone(recipe: str, data: st.DataObject) -> None:
    saved = data.draw(st.integers(1, STEPS - 2), label="saved")
    killed = data.draw(st.integers(1, STEPS - 1 - saved), label="killed so many steps later")
    checkpoints = MemoryCheckpoints()
    Trial(REGISTRY[recipe], None, seed=0).train(checkpoints=checkpoints, stop_at=saved)
    kill(recipe, checkpoints, after=killed)
    held = checkpoints.load("supernet")
    assert held is not None
    assert held.meta["step"] == saved
    trial = Trial(REGISTRY[recipe], None, seed=0)
    summary = trial.train(checkpoints=checkpoints)
    whole = undisturbed(recipe)
    assert summary.finished
    assert not summary.notes
    assert summary.losses == whole.summary.losses
    for mine, expected in ((trial.supernet, whole.supernet), (trial.recipe, whole.recipe)):
        first, second = mine.state_dict(), expected.state_dict()
        assert first.keys() == second.keys()
        assert [name for name, tensor in second.items() if not torch.equal(first[name], tensor)] == []


def test_a_checkpoint_records_what_its_bits_depend_on() -> None:
    checkpoints = MemoryCheckpoints()
    Trial(REGISTRY["spos"], None, seed=0).train(checkpoints=checkpoints, stop_at=2)
    held = checkpoints.load("supernet")
    assert held is not None
    assert held.meta["environment"] == {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": "cpu",
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "dtype": "fp32",
        "kernels": kernel_build(torch.device("cpu")),
        "code": code_version(),
    }


@pytest.mark.parametrize(("key", "other"), [("kernels", "another"), ("cpu", "another"), ("torch", "0"), ("threads", 0)])
def test_bits_that_may_differ_are_told(key: str, other: object) -> None:
    checkpoints = MemoryCheckpoints()
    Trial(REGISTRY["spos"], None, seed=0).train(checkpoints=checkpoints, stop_at=2)
    held = checkpoints.load("supernet")
    assert held is not None
    environment = {**held.meta["environment"], key: other}
    checkpoints.save("supernet", held.tensors, {**held.meta, "environment": environment})
    summary = Trial(REGISTRY["spos"], None, seed=0).train(checkpoints=checkpoints)
    (note,) = summary.notes
    assert "not bit-exact" in note
    assert f"{key} {other} ->" in note
