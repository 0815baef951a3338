"""Splitting: what parts inherit, when they are made, what a checkpoint holds of it, and what gradients decide."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nas.recipes import REGISTRY
from nas.spec import Supernet as SupernetOptions
from nas.tasks import REGISTRY as TASKS
from nas.testing._recipes import small_dataset, small_space
from nas.training import (
    Batch,
    DeviceData,
    EpochReport,
    Exhaustive,
    GradientMatching,
    MemoryCheckpoints,
    Probe,
    Setting,
    Splitting,
    TaskLoss,
    TrainingSummary,
    agreement,
    largest_cut,
    track_statistics,
    train_supernet,
)
from searchspaces import REGISTRY as SPACES
from searchspaces import ConfigError, InvalidState, RoutedSupernet, SearchSpace, Supernet
from tests.nas.conditional import Perceptrons

DATASET = small_dataset()
TASK = TASKS["classification"](None, DATASET)
OPTIONS = SupernetOptions(batch_size=8, learning_rate=0.05)
EPOCHS, STEPS = 4, 4
"""Steps of an epoch."""


def setting(space: SearchSpace, *, num_epochs: int = EPOCHS) -> Setting:
    return Setting.of(space, DATASET, OPTIONS, num_epochs=num_epochs, seed=0)


def train(
    name: str,
    settings: dict[str, Any] | None = None,
    *,
    checkpoints: MemoryCheckpoints | None = None,
    stop: Callable[[], bool] = lambda: False,
    **more: Any,
) -> tuple[TrainingSummary, Supernet]:
    space = small_space()
    recipe = REGISTRY[name](settings, setting(space))
    supernet = recipe.prepare(space.supernet())
    recipe = dataclasses.replace(recipe, loss=more.pop("loss", recipe.loss))
    summary = train_supernet(
        supernet,
        recipe,
        DATASET,
        TASK,
        OPTIONS,
        num_epochs=EPOCHS,
        seed=0,
        device="cpu",
        checkpoints=checkpoints,
        should_stop=stop,
        **more,
    )
    return summary, supernet


def before_step(number: int) -> Callable[[], bool]:
    asked = itertools.count()
    return lambda: next(asked) == number


def state_at(name: str, step: int, settings: dict[str, Any] | None = None) -> dict[str, Tensor]:
    checkpoints = MemoryCheckpoints()
    train(name, settings, checkpoints=checkpoints, stop=before_step(step))
    held = checkpoints.load("supernet")
    assert held is not None
    return held.tensors


def probe(space: SearchSpace) -> Probe:
    data = DeviceData.of(DATASET.train, DATASET, "cpu")
    return Probe(data, TASK, torch.float32, batch_size=8, num_steps=1000, augment=True, seed=0)


# --- what is split, and when -----------------------------------------------------------------------------------------


def test_every_part_inherits_weights_and_momentum() -> None:
    whole, parted = state_at("spos", 2 * STEPS), state_at("fewshot", 2 * STEPS)
    heirs = [name for name in parted if name.startswith(("weights/", "optimizer/"))]
    for name in heirs:
        kind, held, _, rest = name.replace("held.", "held/", 1).replace(".", "/", 1).split("/", 3)
        assert held == "held"
        assert torch.equal(parted[name], whole[f"{kind}/{rest}"])
    momenta = [name for name in heirs if name.endswith("momentum_buffer")]
    assert len({name.split(".")[1] for name in momenta}) == 5
    assert {name.split(".", 2)[2] for name in momenta} == {
        name.removeprefix("optimizer/") for name in whole if name.endswith("momentum_buffer")
    }


def test_parts_go_their_own_ways_after_the_split() -> None:
    _, supernet = train("fewshot", {"at": [0.25]})
    parts = cast(RoutedSupernet, supernet).parts
    assert [[d.options for d in part.space.decisions if d.name == "1->3"] for part in parts] == [
        [(option,)] for option in ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    ]
    stems = [next(part.parameters()) for part in parts]
    alike = [pair for pair in itertools.combinations(stems, 2) if torch.equal(*pair)]
    assert len(alike) <= 1  # twelve steps need not reach every part


@pytest.mark.parametrize(("name", "parts"), [("fewshot", 25), ("gm_fewshot", 4)])
def test_splits_are_repeated_told_and_exact(name: str, parts: int) -> None:
    reports: list[EpochReport] = []
    summary, supernet = train(name, {"at": [0.25, 0.5]}, on_epoch=reports.append)
    routed = cast(RoutedSupernet, supernet)
    members = [a for part in routed.parts for a in part.space.iterate()]
    assert len(members) == len(set(members)) == 25
    assert len(routed.parts) == parts
    assert [len(report.edits) for report in reports] == [1, len(routed.splits) - 1, 0, 0]
    assert tuple(edit for report in reports for edit in report.edits) == summary.edits
    assert summary.edits[0].startswith("after epoch 1: the supernet split by ")
    assert not summary.notes


@pytest.mark.parametrize(
    ("at", "epochs", "due"),
    [
        ([0.5], 10, [4]),
        ([0.22, 0.44], 90, [19, 39]),
        ([0.01], 10, [0]),
        ([0.99], 10, []),
        ([0.5, 0.51], 4, [1]),
        ([0.5], 1, []),
    ],
)
def test_parts_are_split_at_shares_of_the_training_but_never_at_its_end(
    at: list[float], epochs: int, due: list[int]
) -> None:
    splitting = Splitting(setting(small_space(), num_epochs=epochs), Exhaustive(()), at=at, restart=True)
    assert [epoch for epoch in range(epochs) if splitting.due(epoch)] == due
    last = due[-1] + 1 if due else 0
    assert [splitting.cycle(e) for e in range(epochs)] == [(0, last)] * last + [(last, epochs)] * (epochs - last)


def test_the_rate_falls_once_unless_it_restarts_at_the_last_split() -> None:
    plain = Splitting(setting(small_space()), Exhaustive(()), at=[0.5], restart=False)
    assert {plain.cycle(epoch) for epoch in range(EPOCHS)} == {(0, EPOCHS)}
    one, other = (state_at("fewshot", 2 * STEPS, {"restart": restart}) for restart in (False, True))
    assert not torch.equal(one["weights/held.0.trunk.stem.0.weight"], other["weights/held.0.trunk.stem.0.weight"])


def test_a_decision_is_split_by_name_and_a_wrong_name_is_refused() -> None:
    summary, _ = train("fewshot", {"decisions": ["2->3"]})
    assert "2->3 into none | skip_connect | nor_conv_1x1" in summary.edits[0]
    with pytest.raises(ConfigError, match="one of 0->1"):
        train("fewshot", {"decisions": ["3->4"]})
    with pytest.raises(ConfigError, match="at most one"):
        train("fewshot", {"decisions": ["2->3", "1->3"]})


@pytest.mark.parametrize("base", ["fewshot", "no_such", {"name": "pada", "config": {"path_cap": 7}}])
def test_a_base_that_cannot_be_is_refused(base: object) -> None:
    with pytest.raises(ConfigError) as error:
        REGISTRY["gm_fewshot"].configure({"base": base})
    assert [violation.field for violation in error.value.violations] == ["base"]


def test_a_supernet_that_was_not_prepared_is_refused() -> None:
    space = small_space()
    recipe = REGISTRY["fewshot"](None, setting(space))
    for supernet in (space.supernet(), train("fewshot")[1]):
        with pytest.raises(InvalidState):
            train_supernet(supernet, recipe, DATASET, TASK, OPTIONS, num_epochs=EPOCHS, seed=0, device="cpu")


# --- checkpoints -----------------------------------------------------------------------------------------------------


@functools.cache
def undisturbed(name: str) -> tuple[TrainingSummary, Supernet]:
    return train(name, {"at": [0.25]})


@pytest.mark.parametrize("name", ["fewshot", "gm_fewshot"])
@pytest.mark.parametrize("step", [STEPS - 1, STEPS, 3 * STEPS + 1])
def test_a_stop_before_at_and_after_a_split_changes_no_bit(name: str, step: int) -> None:
    settings = {"at": [0.25]}
    summary, whole = undisturbed(name)
    checkpoints = MemoryCheckpoints()
    train(name, settings, checkpoints=checkpoints, stop=before_step(step))
    again, resumed = train(name, settings, checkpoints=checkpoints)
    assert again.edits == summary.edits
    one, two = whole.state_dict(), resumed.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


class ExplodesOnce(TaskLoss):
    """Gives no finite loss in its step of this number."""

    def __init__(self, step: int) -> None:
        self._steps = itertools.count(1)
        self._bad = step

    def losses(self, *args: Any, **kwargs: Any) -> Tensor:
        return super().losses(*args, **kwargs) * (float("nan") if next(self._steps) == self._bad else 1.0)


def test_going_back_before_a_split_undoes_it_and_does_it_again() -> None:
    checkpoints = MemoryCheckpoints()
    train("fewshot", checkpoints=checkpoints, stop=before_step(STEPS + 1))
    summary, supernet = train("fewshot", checkpoints=checkpoints, loss=ExplodesOnce(STEPS + 1))
    assert summary.finished
    assert f"back to step {STEPS + 1}" in summary.notes[0]
    assert len(summary.edits) == 1
    assert len(cast(RoutedSupernet, supernet).parts) == 5
    assert all(bool(tensor.isfinite().all()) for tensor in supernet.state_dict().values())


# --- gradient matching -----------------------------------------------------------------------------------------------


def cells() -> SearchSpace:
    return SPACES["nasbench201"]({"channels": 2, "cells_per_stage": 1, "input_shape": (1, 6, 6), "num_classes": 4})


def test_comparing_gradients_leaves_everything_as_it_was() -> None:
    space = cells()
    supernet = track_statistics(space.supernet()).train()
    for parameter in supernet.parameters():
        parameter.grad = torch.ones_like(parameter)
    before, generator = {k: t.clone() for k, t in supernet.state_dict().items()}, torch.default_generator.get_state()
    gradients = [parameter.grad for parameter in supernet.parameters()]
    agreement(cast(Supernet, supernet), space.decisions[0], probe(space), repeats=2)
    assert all(torch.equal(before[key], tensor) for key, tensor in supernet.state_dict().items())
    for parameter, gradient in zip(supernet.parameters(), gradients, strict=True):
        assert gradient is not None
        assert parameter.grad is gradient
        assert bool((gradient == 1).all())
    assert torch.equal(generator, torch.default_generator.get_state())
    assert all(module.training for module in supernet.modules())


def test_agreement_is_the_mean_cosine_of_the_gradients_of_shared_weights() -> None:
    space = cells()
    supernet, decision, own = space.supernet(), space.decisions[2], set()
    measured = agreement(supernet, decision, probe(space), repeats=3)
    for option in decision.options:
        own |= {id(parameter) for parameter in supernet.parameters_of(decision.name, option)}
    assert own
    shared = [parameter for parameter in supernet.parameters() if id(parameter) not in own]

    class Seen(Probe):
        def gradient(self, supernet: Any, architecture: Any, batch: Any, parameters: Any) -> Tensor:
            assert [id(p) for p in parameters] == [id(p) for p in shared]
            supernet.zero_grad(set_to_none=True)
            self.task.losses(supernet(batch.images, architecture), batch.targets).mean().backward()
            kept.append((architecture, batch))
            return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])

    kept: list[Any] = []
    plain = probe(space)
    watched = Seen(**{field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)})
    np.testing.assert_allclose(agreement(supernet, decision, watched, repeats=3), measured, atol=1e-5)
    for repeat in range(3):
        group = kept[5 * repeat : 5 * repeat + 5]
        assert [a[decision.name] for a, _ in group] == list(decision.options)
        assert all(space.is_connected(a) for a, _ in group)
        assert len({tuple(pair for pair in a if pair[0] != decision.name) for a, _ in group}) == 1
        assert len({id(batch.images) for _, batch in group}) == 1


@given(size=st.integers(2, 7), seed=st.integers(0, 10**6))
def test_the_cut_is_the_best_of_all_and_groups_are_closer_within_than_between(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((size, 4))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    cosines = directions @ directions.T
    (small, rest), weight = largest_cut(1 - cosines)
    assert sorted(small + rest) == list(range(size))
    assert len(small) == size // 2
    sides = [side for side in itertools.product((0, 1), repeat=size) if sum(side) == size // 2]
    cuts = [sum(1 - cosines[i, j] for i, j in itertools.combinations(range(size), 2) if s[i] != s[j]) for s in sides]
    assert weight == pytest.approx(max(cuts))
    within = [cosines[i, j] for group in (small, rest) for i, j in itertools.combinations(group, 2)]
    between = [cosines[i, j] for i in small for j in rest]
    assert not within or np.mean(within) >= np.mean(between) - 1e-9


def test_the_decision_with_the_largest_cut_is_split() -> None:
    space = cells()
    routed = RoutedSupernet.of(space.supernet())
    rule = GradientMatching(repeats=2, share=1.0)
    splitting = Splitting(setting(space), rule, at=[0.5], restart=False)
    splitting.edit(routed, probe(space), 1)
    (split,) = routed.splits
    cuts = {}
    whole = space.supernet()
    for decision in space.decisions:
        distances = 1 - agreement(whole, decision, probe(space), repeats=2, names=(1, 0))
        groups, cuts[decision.name] = largest_cut(distances)
        if decision.name == split.decision:
            assert split.groups == tuple(tuple(decision.options[i] for i in group) for group in groups)
    assert split.decision == max(cuts, key=cuts.__getitem__)
    assert sorted(map(len, split.groups)) == [2, 3]
    assert "60 gradients" in splitting.edits[0]


@pytest.mark.parametrize(("share", "gradients"), [(1e-6, 30), (0.1, 90), (10.0, 150)])
def test_matching_costs_at_most_a_share_of_the_steps_but_is_done_once_at_least(share: float, gradients: int) -> None:
    space = cells()
    splitting = Splitting(setting(space), GradientMatching(repeats=5, share=share), at=[0.5], restart=False)
    splitting.edit(RoutedSupernet.of(space.supernet()), probe(space), 1)
    assert f"{gradients} gradients" in splitting.edits[0]


# --- conditional decisions -------------------------------------------------------------------------------------------


class Squares:
    """A task on vectors: the loss is the mean square of what comes out, however wide."""

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.normalize(logits.square() + 1, dim=1).mean(1)


class Vectors:
    """Ten inputs of four numbers."""

    device = torch.device("cpu")

    def __len__(self) -> int:
        return 10

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> Batch:
        return Batch(torch.sin(indices[:, None] * torch.arange(1, 5)), indices)


def test_conditional_decisions_are_split_where_every_architecture_has_them() -> None:
    space = Perceptrons(3)
    given_vectors = Probe(cast(Any, Vectors()), cast(Any, Squares()), torch.float32, 8, 10**6, augment=False, seed=0)
    for rule in (Exhaustive(("depth", "width2")), GradientMatching(repeats=2, share=1.0)):
        routed = RoutedSupernet.of(space.supernet())
        splitting = Splitting(setting(space), rule, at=[0.25, 0.5, 0.75], restart=False)
        for epoch in (0, 1, 2):
            splitting.edit(routed, given_vectors, epoch)
        members = [a for part in routed.parts for a in part.space.iterate()]
        assert len(members) == len(set(members)) == space.size()
        assert all(routed.parts[routed.part_of(a)].space.validate(a) == [] for a in members)
        fresh = Splitting(setting(space), rule, at=[0.25, 0.5, 0.75], restart=False)
        fresh.load_state_dict(splitting.state_dict())
        other = RoutedSupernet.of(space.supernet())
        fresh.rebuild(other)
        assert other.state_dict().keys() == routed.state_dict().keys()


def test_when_nothing_is_left_to_split_it_is_said() -> None:
    space = small_space()
    splitting = Splitting(setting(space), Exhaustive(()), at=[0.25, 0.5, 0.75], restart=False)
    routed = RoutedSupernet.of(space.supernet())
    for epoch in (0, 1):
        assert splitting.edit(routed, probe(space), epoch)
    assert not splitting.edit(routed, probe(space), 2)
    assert splitting.edits[-1] == "after epoch 3: no decision is left to split"
    assert len(routed.parts) == 25
