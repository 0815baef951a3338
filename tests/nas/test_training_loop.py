"""The loop: what a checkpoint holds, resuming, divergence, being stopped; shared weights and single networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.ports import Checkpoint
from nas.recipes import REGISTRY
from nas.spec import Supernet as SupernetOptions
from nas.spec import Training
from nas.tasks import REGISTRY as TASKS
from nas.testing._recipes import small_dataset, small_space
from nas.training import (
    ChildLoss,
    EpochReport,
    MemoryCheckpoints,
    Recipe,
    Setting,
    TaskLoss,
    TrainingSummary,
    has_bf16,
    train_network,
    train_supernet,
)
from searchspaces import CheckpointError, Supernet, TrainingDiverged

DATASET = small_dataset()
TASK = TASKS["classification"](None, DATASET)
EPOCHS = 6


def stopping_after(steps: int | None) -> Callable[[], bool]:
    """A `should_stop` that says yes when it has been asked before so many steps of this process."""
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked - 1 == steps

    return should_stop


def recipe_and_supernet(options: SupernetOptions, *, seed: int = 0) -> tuple[Recipe, Supernet]:
    space = small_space()
    setting = Setting.of(space, DATASET, options, num_epochs=EPOCHS, seed=seed)
    return REGISTRY["pada"](None, setting), space.supernet(seed=seed)


def train_shared(
    *, learning_rate: float = 0.05, checkpoints: MemoryCheckpoints | None = None, stop: int | None = None, **more: Any
) -> tuple[TrainingSummary, Supernet]:
    options = SupernetOptions(batch_size=8, learning_rate=learning_rate)
    recipe, supernet = recipe_and_supernet(options)
    recipe = dataclasses.replace(recipe, loss=more.pop("loss", recipe.loss))
    settings: dict[str, Any] = {"num_epochs": EPOCHS, "seed": 0, "device": "cpu", **more}
    summary = train_supernet(
        supernet, recipe, DATASET, TASK, options, checkpoints=checkpoints, should_stop=stopping_after(stop), **settings
    )
    return summary, supernet


def train_one(
    *, checkpoints: MemoryCheckpoints | None = None, stop: int | None = None, seed: int = 0, **options: Any
) -> tuple[TrainingSummary, nn.Module]:
    space = small_space()
    network = space.build(space.extremes().largest, seed=seed)
    summary = train_network(
        network,
        DATASET.train.images,
        DATASET.train.labels,
        DATASET,
        TASK,
        Training(**{"epochs": EPOCHS, "batch_size": 8, **options}),
        seed=seed,
        device="cpu",
        checkpoints=checkpoints,
        should_stop=stopping_after(stop),
    )
    return summary, network


def equal(first: nn.Module, second: nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# --- shared weights --------------------------------------------------------------------------------------------------


def test_shared_weights_learn() -> None:
    reports: list[EpochReport] = []
    summary, _ = train_shared(on_epoch=reports.append, num_epochs=EPOCHS)
    assert summary.finished
    assert (summary.epochs, summary.steps) == (EPOCHS, EPOCHS * 4)
    assert summary.losses[-1] < summary.losses[0]
    assert [report.epoch for report in reports] == list(range(1, EPOCHS + 1))
    assert tuple(report.loss for report in reports) == summary.losses
    last = reports[-1].to_json()
    assert 0 < last["distinct_share"] <= 1
    assert last["images_per_second"] > 0
    assert all(abs(sum(options.values()) - 1) < 1e-9 for options in last["distribution"].values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stop_inside_an_epoch_changes_no_bit_of_the_result(precision: str) -> None:
    if precision == "bf16" and not has_bf16(torch.device("cpu")):
        pytest.skip("this processor has no bf16")
    _, whole = train_shared(precision=precision)
    checkpoints = MemoryCheckpoints()
    first, _ = train_shared(checkpoints=checkpoints, stop=6, precision=precision)
    assert not first.finished
    assert first.steps == 6
    second, _ = train_shared(checkpoints=checkpoints, stop=7, precision=precision)
    assert second.steps == 13
    last, resumed = train_shared(checkpoints=checkpoints, precision=precision)
    assert last.finished
    assert not last.notes
    assert equal(whole, resumed)


def test_a_finished_training_is_not_done_again() -> None:
    checkpoints = MemoryCheckpoints()
    first, supernet = train_shared(checkpoints=checkpoints)
    again, loaded = train_shared(checkpoints=checkpoints, stop=0)
    assert again.finished
    assert again.losses == first.losses
    assert equal(supernet, loaded)


def test_a_checkpoint_is_tensors_and_json() -> None:
    checkpoints = MemoryCheckpoints()
    train_shared(checkpoints=checkpoints, stop=6)
    held = checkpoints.load("supernet")
    assert held is not None
    assert all(isinstance(tensor, Tensor) for tensor in held.tensors.values())
    assert {key.split("/")[0] for key in held.tensors} == {"loop", "weights", "optimizer", "recipe"}
    assert held.meta["environment"]["threads"] == torch.get_num_threads()
    assert held.meta["environment"]["torch"] == torch.__version__
    assert (held.meta["step"], held.meta["epoch"]) == (6, 1)


def changed(checkpoints: MemoryCheckpoints, **meta: object) -> MemoryCheckpoints:
    held = checkpoints.load("supernet")
    assert held is not None
    checkpoints.save("supernet", held.tensors, {**held.meta, **meta})
    return checkpoints


def test_resuming_in_another_environment_says_that_it_is_not_bit_exact() -> None:
    checkpoints = MemoryCheckpoints()
    train_shared(checkpoints=checkpoints, stop=6)
    held = checkpoints.load("supernet")
    assert held is not None
    changed(checkpoints, environment={**held.meta["environment"], "threads": 96})
    summary, _ = train_shared(checkpoints=checkpoints)
    assert summary.finished
    assert len(summary.notes) == 1
    assert "not bit-exact" in summary.notes[0]
    assert "threads 96 ->" in summary.notes[0]


def test_a_checkpoint_of_another_training_is_refused() -> None:
    checkpoints = MemoryCheckpoints()
    train_shared(checkpoints=checkpoints, stop=6)
    with pytest.raises(CheckpointError, match="another training"):
        train_shared(checkpoints=checkpoints, learning_rate=0.01)


def test_a_checkpoint_that_lacks_a_weight_is_refused() -> None:
    checkpoints = MemoryCheckpoints()
    train_shared(checkpoints=checkpoints, stop=6)
    held = checkpoints.load("supernet")
    assert held is not None
    kept = {name: tensor for name, tensor in held.tensors.items() if "classifier" not in name}
    checkpoints.save("supernet", kept, held.meta)
    with pytest.raises(CheckpointError, match="does not fit"):
        train_shared(checkpoints=checkpoints)


class Exploding(TaskLoss):
    """Gives no finite loss in the steps of these numbers, each time counted anew."""

    def __init__(self, *bad: int) -> None:
        self.bad, self.calls = bad, 0

    def losses(self, *args: Any, **kwargs: Any) -> Tensor:
        self.calls += 1
        return super().losses(*args, **kwargs) * (float("nan") if self.calls in self.bad else 1.0)


def test_a_loss_that_is_not_finite_goes_back_to_the_checkpoint_at_half_the_rate() -> None:
    checkpoints = MemoryCheckpoints()
    train_shared(checkpoints=checkpoints, stop=5)
    summary, supernet = train_shared(checkpoints=checkpoints, loss=Exploding(2))
    assert summary.finished
    assert summary.steps == EPOCHS * 4
    assert len(summary.losses) == EPOCHS
    assert "back to step 5, at 0.5 times the rate" in summary.notes[0]
    assert all(bool(tensor.isfinite().all()) for tensor in supernet.state_dict().values())


def test_the_third_time_it_has_diverged() -> None:
    checkpoints = MemoryCheckpoints()
    train_shared(checkpoints=checkpoints, stop=5)
    with pytest.raises(TrainingDiverged, match="smaller learning_rate"):
        train_shared(checkpoints=checkpoints, loss=Exploding(*range(2, 100)))
    held = checkpoints.load("supernet")
    assert held is not None
    assert (held.meta["rate_factor"], held.meta["restarts"]) == (0.25, 2)
    assert all(bool(tensor.isfinite().all()) for name, tensor in held.tensors.items())


def test_a_training_without_a_store_goes_back_as_well() -> None:
    summary, _ = train_shared(loss=Exploding(9))
    assert summary.finished
    assert len(summary.notes) == 1


class Distilled(ChildLoss):
    """Keeps the roles whose logits it could read."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, tuple[str, ...]]] = []

    def losses(
        self, child: Any, logits: Tensor, targets: Tensor, *, task: Any, outputs: Mapping[str, Tensor]
    ) -> Tensor:
        self.seen.append((child.role, tuple(outputs)))
        assert not any(output.requires_grad for output in outputs.values())
        losses: Tensor = task.losses(logits, targets)
        return losses


def test_children_of_one_step_share_the_batch_and_later_ones_may_read_earlier_logits() -> None:
    options = SupernetOptions(batch_size=8)
    recipe, supernet = recipe_and_supernet(options)
    space, plan = supernet.space, recipe.paths.plan
    extremes, loss = space.extremes(), Distilled()
    recipe.paths.plan = lambda step: [  # type: ignore[method-assign]
        dataclasses.replace(plan(step)[0], choice=extremes.largest, role="max"),
        *plan(step),
        dataclasses.replace(plan(step)[0], choice=extremes.smallest, role="min"),
    ]
    recipe = dataclasses.replace(recipe, loss=loss)
    summary = train_supernet(supernet, recipe, DATASET, TASK, options, num_epochs=EPOCHS, seed=0, device="cpu")
    assert summary.finished
    assert set(loss.seen) == {("max", ()), ("single", ("max",)), ("min", ("max", "single"))}
    assert len(loss.seen) == 3 * summary.steps


# --- single networks -------------------------------------------------------------------------------------------------


def test_a_network_stopped_inside_an_epoch_ends_bit_for_bit_the_same() -> None:
    _, whole = train_one()
    checkpoints = MemoryCheckpoints()
    stopped, _ = train_one(checkpoints=checkpoints, stop=9)
    assert not stopped.finished
    summary, resumed = train_one(checkpoints=checkpoints)
    assert summary.finished
    assert equal(whole, resumed)


def test_another_seed_is_another_network() -> None:
    assert not equal(train_one(seed=0)[1], train_one(seed=1)[1])


def test_a_finished_network_answers_for_each_image_whatever_else_is_in_the_batch() -> None:
    _, network = train_one()
    images = torch.from_numpy(DATASET.valid.images).float() / 255
    with torch.no_grad():
        together, alone = network(images), torch.cat([network(image[None]) for image in images])
    assert not network.training
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_epochs_are_told_as_they_end() -> None:
    told: list[tuple[int, int]] = []
    space = small_space()
    network = space.build(space.extremes().smallest)
    train_network(
        network,
        DATASET.train.images,
        DATASET.train.labels,
        DATASET,
        TASK,
        Training(epochs=3),
        seed=0,
        device="cpu",
        on_epoch=lambda epoch, epochs, loss: told.append((epoch, epochs)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_checkpoint_of_the_store_is_not_changed_by_training_on() -> None:
    checkpoints = MemoryCheckpoints()
    train_shared(checkpoints=checkpoints, stop=6)
    held = checkpoints.load("supernet")
    assert isinstance(held, Checkpoint)
    losses = list(held.meta["losses"])
    train_shared(checkpoints=MemoryCheckpoints())
    assert held.meta["losses"] == losses == losses[:1]
