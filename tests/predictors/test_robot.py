"""RoBoT: weights over scores, and the search of a pool by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictors.encoding import Columns, Encoded
from predictors.ranking import kendall
from predictors.surrogates import REGISTRY, robot_search
from predictors.surrogates._weights import WeightSearch, min_max, weighted
from searchspaces import REGISTRY as SPACES

NAN = float("nan")
SPACE = SPACES["macro"]({})


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_an_undefined_score_counts_as_the_worst_it_could_be() -> None:
    scores = np.array([[NAN, 0.5], [0.0, 0.5], [1.0, 0.5]])
    for weights in (np.array([0.7, 0.1]), np.array([-0.7, 0.1])):
        found = weighted(scores, weights)
        assert found[0] == pytest.approx(min(found[1:]))


def test_min_max_is_over_the_finite_values_of_a_column() -> None:
    over = np.array([[2.0, 5.0, NAN], [4.0, 5.0, NAN], [NAN, 5.0, NAN]])
    found = min_max(np.array([[3.0, 5.0, NAN], [6.0, 5.0, 1.0], [np.inf, 5.0, NAN]]), over)
    np.testing.assert_array_equal(found, [[0.5, 0, NAN], [2, 0, 0], [NAN, 0, NAN]])


@given(seed=st.integers(0, 99), budget=st.integers(1, 12), normalisation=st.sampled_from(["min_max", "rank"]))
@settings(max_examples=5)
def test_a_search_asks_for_each_architecture_once_and_within_its_budget(
    seed: int, budget: int, normalisation: str
) -> None:
    scores = rng(seed).normal(size=(10, 3))
    scores[rng(seed).random((10, 3)) < 0.2] = NAN
    asked: list[int] = []

    def query(index: int) -> float:
        asked.append(index)
        return float(index)

    found = robot_search(scores, query, budget, rng=rng(seed), normalisation=normalisation)
    assert list(found.indices) == asked
    assert len(asked) == len(set(asked)) == min(budget, 10)
    assert list(found.values) == asked
    assert 1 <= found.searched <= len(asked)
    assert found.weights.shape == (3,)
    assert (np.abs(found.weights) <= 1).all()


def test_equal_streams_search_alike() -> None:
    scores, values = rng(1).normal(size=(50, 4)), rng(2).normal(size=50)
    first, second = (robot_search(scores, lambda i: float(values[i]), 14, rng=rng(3)) for _ in range(2))
    assert first.indices == second.indices
    assert (first.weights == second.weights).all()


def test_what_is_left_of_the_budget_goes_down_the_ranking() -> None:
    scores = rng(1).random((40, 2))
    found = robot_search(scores, lambda i: float(scores[i, 0]), 20, rng=rng(), normalisation="rank")
    ranks = (np.argsort(np.argsort(scores, axis=0), axis=0) + 1) / 40
    ranking = [int(i) for i in np.argsort(-(ranks @ found.weights)) if int(i) not in found.indices[: found.searched]]
    assert found.searched < 20
    assert list(found.indices[found.searched :]) == ranking[: 20 - found.searched]


@pytest.mark.parametrize(("shape", "budget"), [((0, 3), 5), ((5, 0), 5), ((5, 3), 0)])
def test_a_search_of_nothing_is_refused(shape: tuple[int, int], budget: int) -> None:
    with pytest.raises(ValueError, match="give at least 1"):
        robot_search(np.zeros(shape), float, budget, rng=rng())


def test_values_are_told_of_weights_that_were_asked_for() -> None:
    with pytest.raises(RuntimeError, match="call `ask` first"):
        WeightSearch(2, rng(), start=1).tell(0.5)


@pytest.mark.parametrize("normalisation", ["min_max", "rank"])
def test_a_score_that_is_upside_down_gets_a_negative_weight(normalisation: str) -> None:
    architectures = list(dict.fromkeys(SPACE.sample(rng(i)) for i in range(60)))
    truth = {a.text: float(SPACE.counts(a).params) for a in architectures}

    def encoder(asked):
        values = np.array([truth[a.text] for a in asked])
        noise = rng(5).normal(size=len(asked))
        return Encoded(len(asked), scores=Columns(("down", "noise"), np.stack([-values, noise], axis=1)))

    predictor = REGISTRY["robot"]({"normalisation": normalisation, "trials": 20}, encoder)
    values = [truth[a.text] for a in architectures]
    predictor.fit(architectures[:30], values[:30], rng=rng())
    mean, std = predictor.predict(architectures[30:])
    assert predictor.weights[0] < 0
    assert kendall(values[30:], mean) > 0.6
    assert (std < 0.9).all()


@pytest.mark.parametrize("objective", ["argmax", "kendall"])
@pytest.mark.parametrize("constant", ["scores", "values"])
def test_where_no_weights_rank_anything_the_prior_is_predicted(objective: str, constant: str) -> None:
    architectures = list(dict.fromkeys(SPACE.sample(rng(i)) for i in range(20)))
    sizes = {a.text: float(SPACE.counts(a).params) for a in architectures}

    def encoder(asked):
        seen = np.array([[1.0 if constant == "scores" else sizes[a.text]] for a in asked])
        return Encoded(len(asked), scores=Columns(("size",), seen))

    predictor = REGISTRY["robot"]({"objective": objective, "trials": 4, "random_trials": 2}, encoder)
    values = [3.0 if constant == "values" else sizes[a.text] for a in architectures]
    predictor.fit(architectures, values, rng=rng())
    mean, std = predictor.predict(architectures)
    assert (predictor.weights == 0).all()
    assert np.ptp(mean) == 0
    assert std == pytest.approx(np.full(len(architectures), std[0]))


def test_weights_without_a_value_teach_nothing_and_others_do() -> None:
    search = WeightSearch(2, rng(), start=2)
    for value in (None, 0.25, None, 1.0, 0.5):
        weights = search.ask()
        assert weights.shape == (2,)
        search.tell(value)
    assert [trial.value for trial in search._study.trials] == [None, 0.25, None, 1.0, 0.5]
    assert search._study.best_value == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("data_set", ["cifar10", "cifar100"])
def test_the_best_of_725_cells_is_found_within_twenty_queries(data_folder: Path, data_set: str) -> None:
    with (
        np.load(data_folder / "nasbench201_zero_cost.npz") as stored,
        np.load(data_folder / "nasbench201.npz") as table,
    ):
        names = [str(name) for name in stored["proxy_names"]]
        six = [names.index(n) for n in ("grad_norm", "snip", "grasp", "fisher", "synflow", "jacov")]
        scores = stored[f"{data_set}_scores"][:, six]
        values = table[f"{data_set}_valid_acc"][stored[f"{data_set}_arch_index"]]
    assert scores.shape == (725, 6)
    searches = [robot_search(scores, lambda i: float(values[i]), 20, rng=rng(seed)) for seed in range(5)]
    assert all(len(search.indices) == 20 for search in searches)
    assert sum(max(search.values) == values.max() for search in searches) >= 4
