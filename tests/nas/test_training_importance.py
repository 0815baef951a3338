"""What importance sampling computes: distributions from norms, averages, what becomes of the unseen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nas.recipes import REGISTRY as RECIPES
from nas.tasks import REGISTRY as TASKS
from nas.testing._recipes import small_dataset, small_space
from nas.training import (
    Child,
    GradientNorms,
    ImportanceData,
    ImportancePaths,
    Setting,
    StepReport,
    Unbiased,
    UniformPaths,
)
from nas.training._averages import Averages, temperature
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, SearchSpace, Supernet

DATASET = small_dataset()
TASK = TASKS["classification"](None, DATASET)
EPOCHS = 10


def setting(space: SearchSpace, *, num_samples: int = 26) -> Setting:
    return Setting(space, num_samples=num_samples, num_steps_per_epoch=4, num_epochs=EPOCHS, seed=0)


def report(
    supernet: Supernet,
    choice: Architecture,
    *,
    indices: Sequence[int] = (0, 1),
    logits: torch.Tensor | None = None,
    weight: float = 1.0,
    clip: float = 1e9,
    outputs: Mapping[str, Sequence[float]] | None = None,
) -> StepReport:
    shown = torch.zeros(len(indices), 4) if logits is None else logits
    targets = torch.zeros(len(indices), dtype=torch.int64)
    norms = GradientNorms.of(supernet.parameters(), clip)
    put_out = {decision: [torch.tensor(norm) for norm in listed] for decision, listed in (outputs or {}).items()}
    child = Child(choice, weight=weight)
    return StepReport(0, [child], torch.tensor(indices), targets, [shown], TASK, supernet, norms, put_out)


def fill(supernet: Supernet, choice: Architecture, value: float) -> None:
    """Gradients of this value for the path, none elsewhere."""
    supernet.zero_grad(set_to_none=True)
    for pair in choice:
        for parameter in supernet.parameters_of(*pair):
            parameter.grad = torch.full_like(parameter, value)


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SPACES["nasbench201"](
        {"channels": 2, "cells_per_stage": 1, "input_shape": (1, 6, 6), "num_classes": 4, "supernet_bias": True}
    )


def paths(space: SearchSpace, **switches: Any) -> ImportancePaths:
    plain = {"cap": 1.0, "shared": True, "memory": "mean", "parameter_free": "zero"}
    return ImportancePaths(setting(space), **{**plain, **switches})


def one_of_each(space: SearchSpace) -> Architecture:
    options = ("nor_conv_1x1", "nor_conv_3x3", "none", "skip_connect", "avg_pool_3x3", "nor_conv_3x3")
    return space.architecture({d.name: o for d, o in zip(space.decisions, options, strict=True)})


CONVOLUTIONS = ("nor_conv_1x1", "nor_conv_3x3")


def names(space: SearchSpace) -> list[str]:
    return [decision.name for decision in space.decisions]


def expected_norm(supernet: Supernet, pairs: Sequence[tuple[str, str]]) -> float:
    """Sum of the norms of every weight and bias, over all cells, per edge."""
    return sum(
        float(p.grad.norm()) for pair in pairs for p in supernet.parameters_of(*pair) if p.grad is not None
    ) / len(pairs)


def test_options_are_drawn_in_proportion_to_their_gradient(space: SearchSpace) -> None:
    sampler, supernet, choice = paths(space), space.supernet(), one_of_each(space)
    fill(supernet, choice, 0.5)
    sampler.observe(report(supernet, choice))
    small = expected_norm(supernet, [("0->1", "nor_conv_1x1")])
    large = expected_norm(supernet, [("0->2", "nor_conv_3x3"), ("2->3", "nor_conv_3x3")])
    sampler.end_epoch(4)
    t = 4 / EPOCHS
    shares = sampler.distribution()["0->3"]
    assert shares["nor_conv_1x1"] == pytest.approx(t * small / (small + large) + (1 - t) / 5)
    assert shares["nor_conv_3x3"] == pytest.approx(t * large / (small + large) + (1 - t) / 5)
    assert shares["none"] == shares["skip_connect"] == shares["avg_pool_3x3"] == pytest.approx((1 - t) / 5)
    assert all(other == shares for other in sampler.distribution().values())


def test_the_first_epochs_temperature_is_zero_and_the_cap_holds(space: SearchSpace) -> None:
    supernet, choice = space.supernet(), one_of_each(space)
    fill(supernet, choice, 1.0)
    for epoch, floor in ((0, 0.2), (5, 0.1), (9, 0.04)):
        sampler = paths(space, cap=0.8)
        sampler.observe(report(supernet, choice))
        sampler.end_epoch(epoch)
        assert sampler.distribution()["0->1"]["none"] == pytest.approx(floor)


def test_options_without_weights_may_keep_an_even_share(space: SearchSpace) -> None:
    sampler, supernet, choice = paths(space, parameter_free="mean"), space.supernet(), one_of_each(space)
    fill(supernet, choice, 1.0)
    sampler.observe(report(supernet, choice))
    sampler.end_epoch(EPOCHS)
    shares = sampler.distribution()["0->1"]
    assert shares["none"] == shares["skip_connect"] == shares["avg_pool_3x3"] == pytest.approx(0.2)
    assert shares["nor_conv_3x3"] > 0.2 > shares["nor_conv_1x1"]


def test_each_decision_may_have_its_own_distribution(space: SearchSpace) -> None:
    sampler, supernet, choice = paths(space, shared=False), space.supernet(), one_of_each(space)
    fill(supernet, choice, 1.0)
    sampler.observe(report(supernet, choice))
    sampler.end_epoch(EPOCHS)
    assert sampler.distribution()["0->1"]["nor_conv_1x1"] == pytest.approx(1.0)
    assert sampler.distribution()["0->2"]["nor_conv_3x3"] == pytest.approx(1.0)
    assert sampler.distribution()["1->2"]["nor_conv_3x3"] == pytest.approx(0.2)  # no option with weights was seen


def test_without_any_gradient_paths_stay_uniform(space: SearchSpace) -> None:
    sampler = paths(space)
    sampler.end_epoch(EPOCHS)
    uniform = UniformPaths(setting(space))
    assert sampler.distribution() == uniform.distribution()
    choice = one_of_each(space)
    assert sampler.probability(choice) == pytest.approx(uniform.probability(choice))


def test_an_option_that_an_epoch_left_out_keeps_its_norm(space: SearchSpace) -> None:
    sampler, supernet, choice = paths(space), space.supernet(), one_of_each(space)
    fill(supernet, choice, 1.0)
    sampler.observe(report(supernet, choice))
    sampler.end_epoch(5)
    before = sampler.distribution()
    sampler.end_epoch(5)
    assert sampler.distribution() == before


def test_an_option_that_an_epoch_left_out_may_be_forgotten(space: SearchSpace) -> None:
    sampler, supernet, choice = paths(space, undrawn="forget"), space.supernet(), one_of_each(space)
    fill(supernet, choice, 1.0)
    sampler.observe(report(supernet, choice))
    sampler.end_epoch(5)
    assert sampler.distribution()["0->1"]["none"] == pytest.approx(0.1)
    sampler.end_epoch(6)
    assert sampler.distribution()["0->1"]["none"] == pytest.approx(0.2)  # all norms are zero: uniform


@pytest.mark.parametrize(("after_clip", "share"), [(False, 11 / 12), (True, 1 / 2)])
def test_norms_are_read_before_or_after_the_clip(space: SearchSpace, after_clip: bool, share: float) -> None:
    """One path's gradient is eleven times another's, of another option, until both are clipped to one length."""
    kernels = {option: space.architecture(dict.fromkeys(names(space), option)) for option in CONVOLUTIONS}
    sampler, supernet = paths(space, after_clip=after_clip), space.supernet()
    for option, length in zip(CONVOLUTIONS, (1.0, 11.0), strict=True):
        fill(supernet, kernels[option], 0.0)
        for edge in names(space):
            next(iter(supernet.parameters_of(edge, option))).grad.view(-1)[0] = length  # type: ignore[union-attr]
        sampler.observe(report(supernet, kernels[option], clip=0.01))
    sampler.end_epoch(EPOCHS)
    assert sampler.distribution()["0->1"][CONVOLUTIONS[1]] == pytest.approx(share, rel=1e-3)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_weight_of_a_path_does_not_enter_its_norm(space: SearchSpace, weight: float) -> None:
    sampler, supernet, choice = paths(space), space.supernet(), one_of_each(space)
    fill(supernet, choice, 2.0 * weight)
    sampler.observe(report(supernet, choice, weight=weight))
    sampler.end_epoch(EPOCHS)
    expected = expected_norm(supernet, [("0->1", "nor_conv_1x1")]) / weight
    place = space.decisions[0].options.index("nor_conv_1x1")
    assert sampler.state_dict()["norms"][place].item() == pytest.approx(expected)


def lengths(supernet: Supernet, of: Mapping[tuple[str, str], float]) -> None:
    """Gradients of the weights of these options: one entry of this length in each cell, biases zero."""
    supernet.zero_grad(set_to_none=True)
    for pair, length in of.items():
        for parameter in supernet.parameters_of(*pair):
            parameter.grad = torch.zeros_like(parameter)
            if parameter.ndim > 1:
                parameter.grad.view(-1)[0] = length


@pytest.mark.parametrize(("count_dead", "expected"), [(False, (2.25, 7.5)), (True, (2.25, 4.5))])
def test_dead_places_are_averaged_in_unless_all_of_an_option_s_are_dead(
    space: SearchSpace, count_dead: bool, expected: tuple[float, float]
) -> None:
    """Three cells; 1x1 is drawn once, 3x3 for two edges, one of which never reaches the output."""
    sampler, supernet = paths(space, count_dead=count_dead, memory="half_mean"), space.supernet()
    small, large = CONVOLUTIONS
    both = space.architecture(dict(zip(names(space), (small, large, large, *["none"] * 3), strict=True)))
    for reached in (
        {("0->1", small): 1.0, ("0->2", large): 4.0},  # 1x1: (0 + 3 * 1) / 2 = 1.5; 3x3: 3 * 4 = 12 over two places
        {("0->2", large): 0.0},  # all of 1x1 and all that 3x3 has are zero: neither is seen
        {("0->1", small): 1.0, ("0->2", large): 4.0},  # 1x1: (1.5 + 3) / 2 = 2.25
    ):
        lengths(supernet, reached)
        sampler.observe(report(supernet, both))
    found = sampler.state_dict()["totals"]
    places = [space.decisions[0].options.index(option) for option in CONVOLUTIONS]
    # 3x3, counting the dead place: 6, nothing, 6: (3 + 6) / 2; not counting it: 12, 0, 12: (6 / 2 + 12) / 2
    assert tuple(found[places].tolist()) == pytest.approx(expected)


def test_released_treats_dead_places_as_the_published_code_does(space: SearchSpace) -> None:
    recipe = RECIPES["pada"]({"released": True}, setting(space))
    supernet, small = space.supernet(), CONVOLUTIONS[0]
    choice = space.architecture(dict.fromkeys(names(space), small))
    for reached in ({("0->1", small): 2.0}, {}):
        lengths(supernet, reached)
        recipe.paths.observe(report(supernet, choice))
    # three cells of length 2 over six places, half of it after the first observation; the second is none
    place = space.decisions[0].options.index(small)
    assert recipe.paths.state_dict()["totals"][place].item() == pytest.approx(3 * 2.0 / 6 / 2)


def test_options_without_weights_may_be_judged_by_the_gradient_at_their_output(space: SearchSpace) -> None:
    """G = mean weight gradient of the others, times own output gradient over the mean of theirs."""
    sampler, supernet, choice = paths(space, parameter_free="output"), space.supernet(), one_of_each(space)
    assert sampler.reads_outputs
    fill(supernet, choice, 1.0)
    small = expected_norm(supernet, [("0->1", "nor_conv_1x1")])
    large = expected_norm(supernet, [("0->2", "nor_conv_3x3"), ("2->3", "nor_conv_3x3")])
    outputs = {"0->1": [1.0, 1.0], "0->2": [3.0, 1.0], "1->2": [0.5], "0->3": [6.0], "2->3": [8.0]}
    sampler.observe(report(supernet, choice, outputs=outputs))
    sampler.end_epoch(EPOCHS)
    reference = (2.0 + (4.0 + 8.0) / 2) / 2  # of the two convolutions, summed over cells, per decision
    mean = (small + large) / 2
    norms = {
        "nor_conv_1x1": small,
        "nor_conv_3x3": large,
        "none": mean * 0.5 / reference,
        "skip_connect": mean * 6.0 / reference,
        "avg_pool_3x3": mean,  # nothing came through it: the mean of the others
    }
    assert sampler.distribution()["0->1"] == pytest.approx({o: n / sum(norms.values()) for o, n in norms.items()})


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("linear", (0, 0.3, 0.5, 0.8)), ("cosine", (0, 0.206, 0.5, 0.8)), ("constant", (0.8,) * 4)],
)
def test_importance_grows_as_the_schedule_says_up_to_the_cap(schedule: Any, expected: Sequence[float]) -> None:
    for epoch, value in zip((0, 3, 5, 9), expected, strict=True):
        assert temperature(schedule, 0.8, epoch, 10) == pytest.approx(value, abs=1e-3)


def test_exact_weights_of_paths_expect_the_mean_of_all_and_clipped_ones_are_bounded(space: SearchSpace) -> None:
    """Every factor is cut, and then their product: six factors of 3 would be 729."""
    supernet, choice = space.supernet(), one_of_each(space)
    for kind in ("none", "exact", "clipped"):
        sampler = paths(space, cap=0.9, weights=kind, largest_weight=3.0)
        fill(supernet, choice, 1.0)
        sampler.observe(report(supernet, choice))
        sampler.end_epoch(EPOCHS)
        every = list(space.iterate())
        q, weights = (np.array([f(a) for a in every]) for f in (sampler.probability, sampler.weight))
        assert q.sum() == pytest.approx(1)
        if kind == "exact":
            losses = np.random.default_rng(0).random(len(every))
            assert (q * weights) @ losses == pytest.approx(losses.mean())
            assert weights.max() > 1e5
        else:
            assert weights.max() == {"none": 1.0, "clipped": 3.0}[kind]
        assert all(child.weight == sampler.weight(child.choice) for child in sampler.plan(3))  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 100)), max_size=30),
    st.sampled_from(["mean", "half_mean"]),
    st.booleans(),
)
def test_averages_are_those_that_their_names_say(seen: list[tuple[int, float]], memory: Any, from_first: bool) -> None:
    averages = Averages(4, memory, from_first=from_first)
    for start in range(0, len(seen), 7):
        chunk = seen[start : start + 7]
        averages.add(np.array([i for i, _ in chunk]), np.array([v for _, v in chunk]))
    values, observed = averages.finish()
    for index in range(4):
        mine = [value for i, value in seen if i == index]
        half = mine[0] if from_first and mine else 0.0
        for value in mine:
            half = (half + value) / 2
        assert observed[index] == bool(mine)
        if mine:
            assert values[index] == pytest.approx(np.mean(mine) if memory == "mean" else half)
    assert not averages.finish()[1].any()


# --- samples ---------------------------------------------------------------------------------------------------------


def data(*, num_samples: int = 26, **switches: Any) -> ImportanceData:
    plain = {"cap": 1.0, "memory": "mean", "undrawn": "keep", "decay": 0.1}
    return ImportanceData(setting(small_space(), num_samples=num_samples), **{**plain, **switches})


def show(sampler: ImportanceData, norms: npt.NDArray[np.float64], indices: npt.NDArray[np.int64]) -> None:
    """Let the sampler see these samples with logits whose bound is `norms`, between 0 and the root of 2."""
    space = small_space()
    confidence = 1 - norms / np.sqrt(2)  # probability of the target in two classes
    logits = torch.from_numpy(np.stack([np.log(confidence), np.log(1 - confidence)], axis=1))
    far = torch.full((len(norms), 2), -1e9)
    shown = torch.cat([logits.float(), far], dim=1)
    choice = space.extremes().smallest
    sampler.observe(report(space.supernet(), choice, indices=indices.tolist(), logits=shown))


def test_samples_are_drawn_in_proportion_to_the_bound_of_their_gradient() -> None:
    sampler, norms = data(), np.linspace(0.1, 1.2, 26)
    show(sampler, norms, np.arange(26))
    sampler.end_epoch(3)
    expected = 0.3 * norms / norms.sum() + 0.7 / 26
    np.testing.assert_allclose(sampler.probability(np.arange(26)), expected, rtol=1e-5)


def test_while_the_temperature_is_zero_every_sample_comes_once() -> None:
    sampler = data()
    assert sorted(sampler.order(0)) == list(range(26))
    show(sampler, np.linspace(0.1, 1.2, 26), np.arange(26))
    sampler.end_epoch(0)
    assert sorted(sampler.order(1)) == list(range(26))
    sampler.end_epoch(1)
    assert sorted(sampler.order(2)) != list(range(26))


def test_a_sample_that_was_not_drawn_moves_towards_the_mean_or_is_forgotten() -> None:
    for undrawn, expected in (("keep", 0.2 + 0.1 * (1.0 - 0.2)), ("forget", 0.0)):
        sampler = data(undrawn=undrawn)
        show(sampler, np.full(26, 0.2), np.arange(26))
        sampler.end_epoch(0)
        show(sampler, np.full(13, 1.0), np.arange(13))
        sampler.end_epoch(EPOCHS)
        seen, unseen = sampler.probability(np.array([0, 25]))
        assert unseen / seen == pytest.approx(expected, rel=1e-4)


def test_keeping_norms_shows_more_distinct_samples_than_forgetting_them() -> None:
    """The defect of the release: what is not drawn is never drawn again."""
    norms = np.random.default_rng(0).lognormal(-1.5, 0.8, 2000).clip(0.01, 1.3)
    distinct = {}
    for undrawn in ("keep", "forget"):
        sampler = data(undrawn=undrawn, decay=0.05, num_samples=2000)
        for epoch in range(EPOCHS):
            order = sampler.order(epoch)
            show(sampler, norms[order], order)
            sampler.end_epoch(EPOCHS - 1 if epoch else 0)
        distinct[undrawn] = len(np.unique(sampler.order(EPOCHS))) / 2000
    assert distinct["keep"] > distinct["forget"] + 0.1


def test_reweighted_importance_lowers_the_variance_of_the_gradient_and_the_plain_mean_raises_it() -> None:
    """Of soft-max regression at fixed weights, with the true norms: 0.73 and 1.55 are known for this setting."""
    rng = np.random.default_rng(0)
    features, targets = torch.from_numpy(rng.normal(size=(600, 20))).float(), torch.from_numpy(rng.integers(0, 4, 600))
    model = nn.Linear(20, 4)
    model.load_state_dict({"weight": torch.from_numpy(rng.normal(size=(4, 20))).float(), "bias": torch.zeros(4)})
    logits = model(features).detach()
    residual = logits.softmax(dim=1) - nn.functional.one_hot(targets, 4)
    gradients = (residual[:, :, None] * features[:, None, :]).flatten(1).double().numpy()  # samples x weights
    bound = TASK.gradient_norm_bound(logits, targets).double().numpy()
    true = np.linalg.norm(gradients, axis=1)
    assert np.corrcoef(bound, true)[0, 1] > 0.9
    p = bound / bound.sum()
    weights = Unbiased().weights(p, 600)
    assert weights is not None
    np.testing.assert_allclose((p * weights) @ gradients, gradients.mean(axis=0), atol=1e-12)

    def variance(probability: npt.NDArray[np.float64], scaled: npt.NDArray[np.float64]) -> float:
        mean = probability @ scaled
        return float(probability @ ((scaled - mean) ** 2).sum(axis=1))

    uniform = variance(np.full(600, 1 / 600), gradients)
    assert variance(p, weights[:, None] * gradients) < 0.9 * uniform
    assert variance(p, gradients) > 1.1 * uniform


def test_a_plain_data_loader_gives_the_samples_of_the_current_epoch() -> None:
    sampler = data()
    loader = DataLoader(TensorDataset(torch.arange(26)), batch_size=8, sampler=sampler)
    for epoch in range(4):
        seen = torch.cat([batch for (batch,) in loader])
        assert len(sampler) == len(seen) == 26
        assert seen.tolist() == sampler.order(epoch).tolist()
        show(sampler, np.linspace(0.1, 1.2, 26), np.arange(26))
        resumed = data()
        resumed.load_state_dict(sampler.state_dict())
        assert list(resumed) == list(sampler)
        sampler.end_epoch(epoch)


def test_a_loaded_sampler_draws_and_weighs_by_the_very_same_probabilities() -> None:
    one, other = (data(cap=0.3, schedule="constant") for _ in range(2))
    everyone = np.arange(26)
    show(one, np.random.default_rng(0).uniform(0.1, 1.2, 26), everyone)
    one.end_epoch(0)
    other.load_state_dict(one.state_dict())
    assert (one.probability(everyone) != 1 / 26).any()
    np.testing.assert_array_equal(other.probability(everyone), one.probability(everyone))
    np.testing.assert_array_equal(other.order(1), one.order(1))
