"""Every registered recipe keeps the contract, with default and other settings, and the contract sees a breach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.recipes import REGISTRY
from nas.testing import _recipes
from nas.training import (
    Child,
    DataSampler,
    Exhaustive,
    GradientNorms,
    GradientPolicy,
    PathSampler,
    Probe,
    Recipe,
    Setting,
    ShuffledData,
    Splitting,
    Step,
    StepReport,
    Unbiased,
    UniformPaths,
)
from searchspaces import Config, ContractViolation, Plugin, Supernet

EXACT = {"path_reweighting": "exact", "data_reweighting": "exact"}
CASES: list[tuple[str, Mapping[str, object]]] = [
    *((name, {}) for name in REGISTRY),
    ("spos", {"idle": "decay"}),
    ("sumnas", {"fresh_momentum": False, "inner_steps": 1}),
    ("pada", {"released": True}),
    ("pada", {"path_distribution": "per_decision", "norms": "after_clip", **EXACT}),
    ("pada", {"path_importance": False, "data_reweighting": "clipped", "largest_data_weight": 1.01}),
    ("pada", {"data_importance": False, "path_reweighting": "clipped", "largest_path_weight": 1.01}),
    ("pada", {"parameter_free": "output", "path_schedule": "constant", "data_schedule": "cosine"}),
    (
        "fewshot",
        {"at": [0.25, 0.5], "decisions": ["2->3"], "base": {"name": "pada", "config": {"memory": "half_mean"}}},
    ),
    ("fewshot", {"at": [0.75], "restart": True}),
    ("gm_fewshot", {"at": [0.5], "repeats": 2, "largest_share": 5.0, "base": "pada"}),
]


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1].values())]))
def case(request: pytest.FixtureRequest) -> tuple[Plugin[Recipe], Mapping[str, object]]:
    name, settings = request.param
    return REGISTRY[name], settings


Case = tuple[Plugin[Recipe], Mapping[str, object]]


def test_paths_are_drawn_as_often_as_their_probability_says(case: Case) -> None:
    _recipes.check_paths(*case)


def test_samples_are_drawn_as_often_as_their_probability_says(case: Case) -> None:
    _recipes.check_samples(*case)


def test_weights_never_make_a_sample_count_more_than_it_should(case: Case) -> None:
    _recipes.check_weights(*case)


def test_exact_reweighting_expects_the_plain_mean() -> None:
    _recipes.check_weights(REGISTRY["pada"], EXACT, exact=True)


def test_options_of_no_child_stand_still(case: Case) -> None:
    _recipes.check_idle(*case)


def test_a_step_does_not_wait_for_the_device(case: Case) -> None:
    _recipes.check_waiting(*case)


def test_a_training_depends_on_its_seed_alone(case: Case) -> None:
    _recipes.check_seeds(*case)


def test_an_edit_of_the_structure_changes_no_output(case: Case) -> None:
    _recipes.check_editing(*case)


def test_a_training_resumes_bit_for_bit(case: Case) -> None:
    _recipes.check_resuming(*case)


# --- recipes that break it -------------------------------------------------------------------------------------------


class LyingPaths(UniformPaths):
    """Draws always the same path, and says that it draws uniformly."""

    def plan(self, step: int) -> Sequence[Child]:
        return super().plan(0)


class ForgetfulData(ShuffledData):
    """Has an order that is in no state: it changes from call to call."""

    calls = 0

    def order(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        self.calls += 1
        return np.roll(super().order(epoch), self.calls)


class HalfTheData(ShuffledData):
    """Never draws the second half, and says that it does."""

    def order(self, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return super().order(epoch) % (len(self) // 2)


class Impatient(ShuffledData):
    """Looks at the loss in every step."""

    def observe(self, report: StepReport) -> None:
        self.worst = float(report.sample_norms().max())


class TrainsAll(GradientPolicy):
    """Gives every idle weight a gradient."""

    def run(self, step: Step) -> Tensor:
        for group in step.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = parameter.detach().clone()
        for child in step.children:
            step.backward(child)
        step.observe(GradientNorms.of(step.supernet.parameters()))
        step.optimizer.step()
        return next(step.supernet.parameters()).detach().norm()


class Perturbs(Splitting):
    """Changes a weight when it splits."""

    def edit(self, supernet: Supernet, probe: Probe, epoch: int) -> Mapping[nn.Parameter, nn.Parameter]:
        origins = super().edit(supernet, probe, epoch)
        with torch.no_grad():
            next(supernet.parameters()).mul_(1.001)
        return origins


def broken(
    *,
    paths: type[PathSampler] | None = None,
    data: type[DataSampler] | None = None,
    gradients: GradientPolicy | None = None,
    reweighting: Unbiased | None = None,
) -> Plugin[Recipe]:
    def create(config: Config, setting: Setting) -> Recipe:
        recipe = REGISTRY["pada"](EXACT, setting) if reweighting else REGISTRY["spos"](None, setting)
        if paths:
            recipe = replace(recipe, paths=paths(setting))  # type: ignore[call-arg]
        if data:
            recipe = replace(recipe, data=data(setting))  # type: ignore[call-arg]
        if gradients:
            recipe = replace(recipe, gradients=gradients)
        return replace(recipe, reweighting=reweighting) if reweighting else recipe

    return Plugin("broken", "breaks the contract", "none", create)


def test_the_contract_sees_paths_that_are_drawn_otherwise() -> None:
    with pytest.raises(ContractViolation, match="paths are drawn as often"):
        _recipes.check_recipe(broken(paths=LyingPaths))


def test_the_contract_sees_samples_that_are_never_drawn() -> None:
    with pytest.raises(ContractViolation, match="samples are drawn as often"):
        _recipes.check_recipe(broken(data=HalfTheData))


def test_the_contract_sees_idle_weights_that_move() -> None:
    with pytest.raises(ContractViolation, match="gets no gradient"):
        _recipes.check_recipe(broken(gradients=TrainsAll()))


def test_the_contract_sees_a_step_that_waits_for_the_device() -> None:
    with pytest.raises(ContractViolation, match="reads no number"):
        _recipes.check_waiting(broken(data=Impatient))


def test_the_contract_sees_randomness_that_is_in_no_state() -> None:
    with pytest.raises(ContractViolation, match="resum"):
        _recipes.check_resuming(broken(data=ForgetfulData))


def test_the_contract_sees_an_edit_that_changes_outputs() -> None:
    def create(config: Config, setting: Setting) -> Recipe:
        structure = Perturbs(setting, Exhaustive(()), at=[0.5], restart=False)
        return replace(REGISTRY["spos"](None, setting), structure=structure)

    with pytest.raises(ContractViolation, match="changes no output"):
        _recipes.check_editing(Plugin("broken", "breaks the contract", "none", create))


def test_the_contract_sees_weights_that_are_cut() -> None:
    with pytest.raises(ContractViolation, match="plain mean"):
        _recipes.check_weights(broken(reweighting=Unbiased(largest=0.9)), exact=True)
