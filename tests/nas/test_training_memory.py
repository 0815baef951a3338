"""Where memory is short, a batch runs in parts; what is saved is always sound."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.recipes import REGISTRY
from nas.spec import Supernet as SupernetOptions
from nas.spec import Training
from nas.tasks import REGISTRY as TASKS
from nas.testing._recipes import small_dataset, small_space
from nas.training import (
    Accumulate,
    MemoryCheckpoints,
    Setting,
    Step,
    TrainingSummary,
    train_network,
    train_supernet,
)
from searchspaces import OutOfMemory, Supernet, TrainingDiverged

DATASET = small_dataset()
TASK = TASKS["classification"](None, DATASET)
OPTIONS = SupernetOptions(batch_size=16, learning_rate=0.05)
CPU_MESSAGE = "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried ..."
ERRORS: list[Callable[[], Exception]] = [
    lambda: RuntimeError(CPU_MESSAGE),
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
]


def narrow(network: nn.Module, largest: int, *, after: int = 0, error: Callable[[], Exception] = ERRORS[0]) -> None:
    """From its call of number `after` on, no more than `largest` samples fit into the network in training."""
    calls = 0

    def refuse(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal calls
        calls += module.training
        if module.training and calls > after and len(inputs[0]) > largest:
            raise error()

    network.register_forward_pre_hook(refuse)


def plain_norms(network: nn.Module) -> None:
    """Normalise by fixed statistics, so that a batch and its parts are one function."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign,misc]


def train_shared(
    prepare: Callable[[Supernet], None] = lambda supernet: None,
    *,
    recipe_name: str = "spos",
    checkpoints: MemoryCheckpoints | None = None,
    **more: Any,
) -> tuple[TrainingSummary, Supernet]:
    space = small_space()
    setting = Setting.of(space, DATASET, OPTIONS, num_epochs=3, seed=0)
    recipe = REGISTRY[recipe_name](None, setting)
    supernet = recipe.prepare(space.supernet(seed=0))
    recipe = dataclasses.replace(recipe, gradients=more.pop("gradients", recipe.gradients))
    prepare(supernet)
    settings: dict[str, Any] = {"num_epochs": 3, "seed": 0, "device": "cpu", "precision": "fp32", **more}
    return train_supernet(supernet, recipe, DATASET, TASK, OPTIONS, checkpoints=checkpoints, **settings), supernet


def micro_batch(checkpoints: MemoryCheckpoints, name: str = "supernet") -> int:
    held = checkpoints.load(name)
    assert held is not None
    return int(held.meta["micro_batch"])


@pytest.mark.parametrize(("recipe", "error"), [*((name, ERRORS[0]) for name in REGISTRY), ("spos", ERRORS[1])])
def test_a_batch_that_does_not_fit_runs_in_halves(recipe: str, error: Callable[[], Exception]) -> None:
    checkpoints = MemoryCheckpoints()
    summary, supernet = train_shared(
        lambda net: narrow(net, 8, error=error), checkpoints=checkpoints, recipe_name=recipe
    )
    assert summary.finished
    assert micro_batch(checkpoints) == 8
    (note,) = summary.notes
    assert "out of memory in step 0 with 16 samples" in note
    assert "batch normalisation" in note
    assert all(bool(t.isfinite().all()) for t in supernet.state_dict().values())


@pytest.mark.parametrize("recipe", ["spos", "pada"])
def test_the_update_of_the_parts_is_that_of_the_batch_but_for_normalisation(recipe: str) -> None:
    def fixed(supernet: Supernet) -> None:
        plain_norms(supernet)

    _, whole = train_shared(fixed, recipe_name=recipe)

    def fixed_and_narrow(supernet: Supernet) -> None:
        fixed(supernet)
        narrow(supernet, 4)

    summary, parts = train_shared(fixed_and_narrow, recipe_name=recipe)
    assert len(summary.notes) == 2
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


def test_memory_that_gets_short_later_leaves_no_half_done_step() -> None:
    """The step of the shortage runs again from a checkpoint, in parts, like every step after it."""
    checkpoints = MemoryCheckpoints()
    summary, _ = train_shared(lambda net: narrow(net, 8, after=3), checkpoints=checkpoints)
    assert (summary.finished, summary.steps, len(summary.losses)) == (True, 6, 3)
    assert "in step 3 " in summary.notes[0]


def test_a_step_that_broke_off_leaves_no_gradient_on_its_path() -> None:
    """Its path is not that of the step which runs next; with `idle: decay` what is left there would be applied."""
    found: list[bool] = []

    class BreaksOff(Accumulate):
        def run(self, step: Step) -> Tensor:
            found.append(any(parameter.grad is not None for parameter in step.supernet.parameters()))
            if len(found) == 3:
                step.backward(step.children[0])
                raise ERRORS[0]()
            return super().run(step)

    summary, _ = train_shared(gradients=BreaksOff("decay"))
    assert summary.finished
    assert len(found) > summary.steps
    assert not any(found)


def test_the_size_of_the_parts_is_taken_up_from_the_checkpoint() -> None:
    checkpoints, calls = MemoryCheckpoints(), iter([False, False, True])
    stopped, _ = train_shared(lambda net: narrow(net, 8), checkpoints=checkpoints, should_stop=lambda: next(calls))
    assert not stopped.finished
    seen: list[int] = []

    def watch(supernet: Supernet) -> None:
        supernet.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))

    resumed, supernet = train_shared(watch, checkpoints=checkpoints)
    assert max(seen) <= 8
    _, undisturbed = train_shared(lambda net: narrow(net, 8))
    assert resumed.finished
    assert all(torch.equal(t, supernet.state_dict()[name]) for name, t in undisturbed.state_dict().items())


def test_when_not_even_a_few_fit_it_fails_with_the_reason() -> None:
    with pytest.raises(OutOfMemory, match=r"does not fit .* with 4 samples at once .*can't allocate memory"):
        train_shared(lambda net: narrow(net, 1))


def test_another_runtime_error_is_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        train_shared(lambda net: narrow(net, 1, error=lambda: RuntimeError("shapes do not match")))


def test_a_single_network_runs_in_parts_as_well() -> None:
    space, checkpoints = small_space(), MemoryCheckpoints()
    network = space.build(space.extremes().largest, seed=0)
    narrow(network, 8)
    summary = train_network(
        network,
        DATASET.train.images,
        DATASET.train.labels,
        DATASET,
        TASK,
        Training(epochs=2, batch_size=16),
        seed=0,
        device="cpu",
        checkpoints=checkpoints,
    )
    assert summary.finished
    assert micro_batch(checkpoints, "network") == 8
    assert len(summary.notes) == 1


class Overflowing(Accumulate):
    """The updates of these numbers, counted anew each time, make weights not finite out of finite gradients."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self.numbers, self.updates = numbers, 0

    def run(self, step: Step) -> Tensor:
        norm = super().run(step)
        self.updates += 1
        if self.updates in self.numbers:
            with torch.no_grad():
                next(step.supernet.parameters()).fill_(float("inf"))
        return norm


def test_weights_that_are_not_finite_are_never_saved() -> None:
    """The last step's loss is finite, the weights that it makes are not."""
    checkpoints = MemoryCheckpoints()
    summary, supernet = train_shared(checkpoints=checkpoints, gradients=Overflowing(6))
    assert summary.finished
    assert "the weights were not finite by step 6: back to step" in summary.notes[0]
    assert all(bool(t.isfinite().all()) for t in supernet.state_dict().values())
    held = checkpoints.load("supernet")
    assert held is not None
    assert all(bool(t.isfinite().all()) for t in held.tensors.values())


def test_weights_that_are_not_finite_time_and_again_end_the_training() -> None:
    checkpoints = MemoryCheckpoints()
    with pytest.raises(TrainingDiverged, match="the weights were not finite"):
        train_shared(checkpoints=checkpoints, gradients=Overflowing(6, 12, 18))
    held = checkpoints.load("supernet")
    assert held is not None
    assert all(bool(t.isfinite().all()) for t in held.tensors.values())
