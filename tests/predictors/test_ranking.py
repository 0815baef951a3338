"""Ranking statistics against plain definitions, and against published figures on real tables."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import predictors.ranking
from predictors.ranking import (
    Design,
    agreement,
    kendall,
    kendall_difference_interval,
    kendall_interval,
    kendall_top_decile,
    partial_kendall,
    partial_kendall_interval,
    probability_beats_random,
    regret,
    relative_improvement,
    sparse_kendall,
    spearman,
    top_k,
)

pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=20)


def plain_tau(x: np.ndarray, y: np.ndarray) -> float | None:
    products, different_x, different_y = 0.0, 0, 0
    for i, j in combinations(range(len(x)), 2):
        products += np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])
        different_x += x[i] != x[j]
        different_y += y[i] != y[j]
    return products / np.sqrt(different_x * different_y) if different_x and different_y else None


@pytest.fixture
def macro(data_folder: Path) -> dict[str, np.ndarray]:
    with np.load(data_folder / "nasbench_macro.npz", allow_pickle=False) as table:
        return {name: table[name] for name in ("arch_ops", "mean_acc", "test_acc", "flops")}


@pytest.fixture
def nasbench201(data_folder: Path) -> dict[str, np.ndarray]:
    with np.load(data_folder / "nasbench201.npz", allow_pickle=False) as table:
        return {name: table[name] for name in ("cifar10_test_acc", "cifar10_valid_acc_12ep", "flops_m")}


@given(pairs)
def test_kendall_is_tau_b_by_its_definition(values: list[tuple[int, int]]) -> None:
    x, y = np.array(values, dtype=float).T
    expected = plain_tau(x, y)
    assert kendall(x, y) == (None if expected is None else pytest.approx(expected))


@given(pairs)
def test_spearman_is_the_correlation_of_mean_ranks(values: list[tuple[int, int]]) -> None:
    x, y = np.array(values, dtype=float).T
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert spearman(x, y) is None
        return
    ranks = [[(v < u).sum() + (v == u).sum() / 2 for u in v] for v in (x, y)]
    assert spearman(x, y) == pytest.approx(np.corrcoef(ranks)[0, 1])


def test_published_figures_on_nasbench_macro(macro: dict[str, np.ndarray]) -> None:
    seeds, mean = macro["test_acc"], macro["mean_acc"]
    assert kendall(seeds[:, 0], seeds[:, 1]) == pytest.approx(0.882, abs=5e-4)
    assert kendall(mean, (macro["arch_ops"] > 0).sum(axis=1)) == pytest.approx(0.693, abs=5e-4)
    assert kendall(mean, macro["flops"]) == pytest.approx(0.556, abs=5e-4)
    best = mean >= np.sort(mean)[-657]
    assert kendall(seeds[best, 0], seeds[best, 1]) == pytest.approx(0.187, abs=5e-4)


def test_published_figures_on_nasbench201(nasbench201: dict[str, np.ndarray]) -> None:
    truth, flops = nasbench201["cifar10_test_acc"], nasbench201["flops_m"]
    assert kendall(truth, nasbench201["cifar10_valid_acc_12ep"]) == pytest.approx(0.594, abs=1e-3)
    assert kendall(truth, flops) == pytest.approx(0.578, abs=5e-4)
    connected = truth > 10.5
    assert connected.sum() == 15_625 - 341
    assert kendall(truth[connected], flops[connected]) == pytest.approx(0.582, abs=5e-4)
    # Published as 0.085; which of those that tie with the last belong to a tenth is not said.
    assert kendall_top_decile(truth, flops) == pytest.approx(0.085, abs=0.01)


def test_sparse_kendall_is_kendall_when_the_bins_shrink(nasbench201: dict[str, np.ndarray]) -> None:
    truth, flops = nasbench201["cifar10_test_acc"].astype(float) / 100, nasbench201["flops_m"]
    assert sparse_kendall(truth, flops, bin_width=1e-9) == pytest.approx(kendall(truth, flops))
    assert sparse_kendall(truth, flops) != pytest.approx(kendall(truth, flops), abs=1e-3)


def test_differences_inside_a_bin_are_ties() -> None:
    assert sparse_kendall([0.9001, 0.9002, 0.95], [2.0, 1.0, 3.0]) == kendall([0.9, 0.9, 0.95], [2.0, 1.0, 3.0])


def test_the_interval_covers_the_tables_tau_as_often_as_it_says(nasbench201: dict[str, np.ndarray]) -> None:
    truth, flops = nasbench201["cifar10_test_acc"], nasbench201["flops_m"]
    whole, rng, covered = kendall(truth, flops), np.random.default_rng(0), 0
    assert whole is not None
    for _ in range(100):
        chosen = rng.choice(len(truth), size=50, replace=False)
        interval = kendall_interval(truth[chosen], flops[chosen], rng=rng, resamples=300)
        assert interval is not None
        covered += interval[0] <= whole <= interval[1]
    # 95 of 100 expected, deviation 2.2.
    assert covered >= 88


def test_the_interval_is_that_of_resampled_architectures() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=25)
    y = np.round(x + rng.normal(size=25), 1)
    found = kendall_interval(x, y, rng=np.random.default_rng(2), resamples=2_000)
    indices = np.random.default_rng(3).integers(25, size=(2_000, 25))
    low, high = np.quantile([kendall(x[i], y[i]) for i in indices], [0.025, 0.975])
    assert found == pytest.approx((low, high), abs=0.03)


def test_the_linearised_interval_is_close_to_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=600)
    y = np.round(x + rng.normal(size=600), 1)
    exact = kendall_interval(x, y, rng=np.random.default_rng(2), resamples=300)
    monkeypatch.setattr(predictors.ranking, "_EXACT", 256)
    assert kendall_interval(x, y, rng=np.random.default_rng(2), resamples=300) == pytest.approx(exact, abs=0.005)


def test_equal_generators_give_equal_intervals() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 20))
    first, second = (kendall_interval(x, y, rng=np.random.default_rng(7)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("x", "y"), [([], []), ([1.0], [2.0]), ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])])
def test_what_is_undefined_is_none(x: list[float], y: list[float]) -> None:
    rng = np.random.default_rng(0)
    assert kendall(x, y) is None
    assert spearman(x, y) is None
    assert sparse_kendall(x, y) is None
    assert kendall_interval(x, y, rng=rng) is None
    assert kendall_top_decile(x, y) is None
    assert top_k(x, y, k=4, rng=rng) is None
    assert regret(x, y, k=4, rng=rng) is None
    assert probability_beats_random([], x) is None


def test_a_top_decile_needs_a_hundred_architectures() -> None:
    x = np.arange(100.0)
    assert kendall_top_decile(x, x) == pytest.approx(1.0)
    assert kendall_top_decile(x[1:], x[1:]) is None


def test_the_top_k_are_those_predicted_best_with_their_true_values() -> None:
    rng = np.random.default_rng(0)
    assert top_k([1.0, 5.0, 3.0, 2.0], [4.0, 1.0, 3.0, 2.0], k=2, rng=rng) == (2.0, 3.0)
    assert regret([1.0, 5.0, 3.0, 2.0], [4.0, 1.0, 3.0, 2.0], k=2, rng=rng) == 2.0


def test_ties_in_a_prediction_are_broken_at_random_not_by_position() -> None:
    truth, rng = np.arange(10.0), np.random.default_rng(0)
    drawn = {found.best for _ in range(200) if (found := top_k(truth, np.zeros(10), k=1, rng=rng))}
    assert drawn == set(truth)


def test_random_beats_itself_half_of_the_time_and_an_oracle_always() -> None:
    values = np.random.default_rng(0).integers(0, 30, size=300).astype(float)
    assert probability_beats_random(values, values) == pytest.approx(0.5)
    assert probability_beats_random([31.0], values) == 1.0
    assert probability_beats_random([2.0, 2.0], [1.0, 2.0, 3.0]) == pytest.approx(0.5)


def test_values_that_are_not_finite_or_not_paired_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        kendall([1.0, float("nan")], [1.0, 2.0])
    with pytest.raises(ValueError, match="2 true values but 3 predicted"):
        spearman([1.0, 2.0], [1.0, 2.0, 3.0])


def test_paired_difference_tells_a_good_ranker_from_chance_and_not_from_itself() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=60)
    good, chance = truth + rng.normal(size=60), rng.normal(size=60)
    low, high = kendall_difference_interval(truth, good, chance, rng=np.random.default_rng(1)) or (0.0, 0.0)
    assert 0 < low < kendall(truth, good) - kendall(truth, chance) < high  # type: ignore[operator]
    assert kendall_difference_interval(truth, good, good, rng=np.random.default_rng(1)) == (0.0, 0.0)
    assert kendall_difference_interval(truth, good, np.ones(60), rng=np.random.default_rng(1)) is None


# --- beyond a given ranker, and all figures at once -------------------------------------------------------------------


@given(pairs, st.randoms(use_true_random=False))
def test_partial_kendall_is_the_correlation_of_what_the_given_ranker_leaves(
    values: list[tuple[int, int]], random: Random
) -> None:
    x, y = np.array(values, dtype=float).T
    z = np.array([random.randint(0, 5) for _ in x], dtype=float)
    found = partial_kendall(x, y, z)
    taus = plain_tau(x, y), plain_tau(x, z), plain_tau(y, z)
    if None in taus or 1 - taus[1] ** 2 < 1e-9 or 1 - taus[2] ** 2 < 1e-9:  # type: ignore[operator]
        assert found is None
        return
    # By least squares over ordered pairs: the signs of x and y, each with what the signs of z explain taken out.
    signs = [np.sign(np.subtract.outer(v, v)).ravel() for v in (x, y, z)]
    unit = [sign / np.linalg.norm(sign) for sign in signs]
    left = [u - (u @ unit[2]) * unit[2] for u in unit[:2]]
    assert found == pytest.approx(left[0] @ left[1] / (np.linalg.norm(left[0]) * np.linalg.norm(left[1])))


def test_a_ranker_that_only_repeats_the_given_one_adds_little() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    given = truth + rng.normal(size=400)
    echo, own = given + 0.5 * rng.normal(size=400), truth + rng.normal(size=400)
    assert kendall(truth, echo) == pytest.approx(kendall(truth, own), abs=0.12)
    low, high = partial_kendall_interval(truth, echo, given, rng=rng, resamples=200) or (1.0, 1.0)
    # Correlations 0.707, 0.894 and their product; tau of Gaussian values is 2/pi arcsin(correlation).
    xz, yz, xy = (2 / np.pi * np.arcsin(r) for r in (0.5**0.5, 0.8**0.5, 0.4**0.5))
    assert low < (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)) < high < 0.2
    low, _ = partial_kendall_interval(truth, own, given, rng=rng, resamples=200) or (0.0, 0.0)
    assert low > 0.2
    assert partial_kendall(truth, own, own) is None
    assert partial_kendall_interval(truth, own, own, rng=rng) is None


def test_the_interval_of_partial_kendall_is_that_of_resampled_architectures() -> None:
    rng = np.random.default_rng(1)
    x, z = rng.normal(size=(2, 30))
    y = x + z + rng.normal(size=30)
    found = partial_kendall_interval(x, y, z, rng=np.random.default_rng(2), resamples=1_000)
    drawn = np.random.default_rng(3).integers(30, size=(1_000, 30))
    assert found == pytest.approx(
        np.quantile([partial_kendall(x[i], y[i], z[i]) for i in drawn], [0.025, 0.975]), abs=0.04
    )


def live_flops(folder: Path) -> np.ndarray:
    """Conv FLOPs of the edges between input and output: 9 units a 3x3, 1 a 1x1, by following the edges."""
    with np.load(folder / "nasbench201.npz", allow_pickle=False) as table:
        ops, edges, names = table["arch_ops"], table["edges"], [str(name) for name in table["op_names"]]
    units, is_open = (
        np.array([{"nor_conv_3x3": 9, "nor_conv_1x1": 1}.get(n, 0) for n in names]),
        np.array(names) != "none",
    )
    result = np.zeros(len(ops))
    for row, choice in enumerate(ops):
        used = [(int(a), int(b), op) for (a, b), op in zip(edges, choice, strict=True) if is_open[op]]
        fed, needed = {0}, {3}
        for _ in range(3):
            fed |= {b for a, b, _ in used if a in fed}
            needed |= {a for a, b, _ in used if b in needed}
        result[row] = sum(units[op] for a, b, op in used if a in fed and b in needed)
    return result


def test_published_figures_of_live_edge_flops_on_nasbench201(
    nasbench201: dict[str, np.ndarray], data_folder: Path
) -> None:
    truth, live = nasbench201["cifar10_test_acc"].astype(float), live_flops(data_folder)
    assert kendall(truth, live) == pytest.approx(0.654, abs=5e-4)
    connected = truth > 10.5
    assert kendall(truth[connected], live[connected]) == pytest.approx(0.641, abs=5e-4)
    assert kendall_top_decile(truth, live) == pytest.approx(0.097, abs=0.01)
    best = [top_k(truth, live, k=10, rng=np.random.default_rng(seed)) for seed in range(50)]
    assert np.mean([found.mean for found in best if found]) == pytest.approx(93.59, abs=0.05)
    assert partial_kendall(truth, nasbench201["flops_m"], live) == pytest.approx(0.0, abs=0.2)


def test_all_figures_at_once_are_those_of_each_function(nasbench201: dict[str, np.ndarray]) -> None:
    rows = np.random.default_rng(0).choice(15_625, size=300, replace=False)
    truth, short, flops = (nasbench201[n][rows] for n in ("cifar10_test_acc", "cifar10_valid_acc_12ep", "flops_m"))
    found = agreement(truth / 100, short, given=flops, rng=np.random.default_rng(5))
    assert (found.num_architectures, found.k) == (300, 10)
    assert found.kendall == kendall(truth, short)
    assert found.interval is not None
    assert found.interval[0] < (found.kendall or 0) < found.interval[1]
    assert found.sparse_kendall == sparse_kendall(truth / 100, short)
    assert found.spearman == spearman(truth, short)
    assert found.kendall_top_decile == kendall_top_decile(truth, short)
    assert found.partial_kendall == partial_kendall(truth, short, flops)
    assert found.partial_interval is not None
    assert found.partial_interval[0] < (found.partial_kendall or 0) < found.partial_interval[1]
    best = np.argsort(-short)[:10]  # no ties among these
    assert found.top == pytest.approx((truth[best].mean() / 100, truth[best].max() / 100))
    assert found.regret == pytest.approx((truth.max() - truth[best].max()) / 100)
    assert found.beats_random == pytest.approx(
        np.mean([(truth < t).mean() + (truth == t).mean() / 2 for t in truth[best]])
    )
    assert found.relative_improvement == pytest.approx(truth[best].mean() / truth.mean() - 1)


def test_few_architectures_leave_what_needs_more_undefined() -> None:
    rng = np.random.default_rng(0)
    found = agreement([0.9, 0.8], [2.0, 1.0], rng=rng)
    assert (found.k, found.top, found.kendall, found.interval) == (1, (0.9, 0.9), 1.0, None)
    assert (found.kendall_top_decile, found.partial_kendall, found.partial_interval) == (None, None, None)
    nothing = agreement([], [], rng=rng, given=[])
    assert nothing == (0, None, None, None, None, None, None, None, 1, None, None, None, None)


def test_published_relative_improvement() -> None:
    """DARTS on CIFAR-10 in NAS evaluation is frustratingly hard: RI 0.32 %."""
    assert relative_improvement([97.23], [96.92]) == pytest.approx(0.0032, abs=5e-5)
    assert relative_improvement([], [1.0]) is None
    assert relative_improvement([1.0], [0.0, 0.0]) is None


def test_a_stratified_sample_gives_the_figures_of_its_population_without_bias() -> None:
    """Three strata of unlike sizes, two or three drawn of each; the plain figures of the sample are off by far more."""
    rng = np.random.default_rng(0)
    stratum = np.repeat([0, 1, 2], [6, 30, 84])
    truth = stratum + rng.normal(size=120)
    scores = np.where(stratum == 2, -truth, truth) + 0.3 * rng.normal(size=120)
    whole, weighted, plain = kendall(truth, scores), [], []
    spearmans = []
    for _ in range(600):
        rows = np.concatenate([rng.choice(np.flatnonzero(stratum == s), size=3, replace=False) for s in range(3)])
        design = Design(tuple(stratum[rows].tolist()), tuple(np.bincount(stratum)[stratum[rows]].tolist()))
        weighted.append(kendall(truth[rows], scores[rows], design=design))
        plain.append(kendall(truth[rows], scores[rows]))
        spearmans.append(spearman(truth[rows], scores[rows], design=design))
    assert whole is not None
    assert abs(np.mean(weighted) - whole) < 0.05 < abs(np.mean(plain) - whole)
    assert abs(np.mean(spearmans) - (spearman(truth, scores) or 0)) < 0.1


def test_a_design_that_drew_everything_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    for n in (12, 1_100):  # above a thousand, sums are made in blocks
        x, y = rng.integers(0, 9, size=(2, n)).astype(float)
        everything = Design((0,) * n, (n,) * n)
        assert kendall(x, y, design=everything) == pytest.approx(kendall(x, y))
        assert spearman(x, y, design=everything) == pytest.approx(spearman(x, y))
        assert partial_kendall(x, y, rng.random(n), design=everything) is not None
    stratum = np.arange(1_100) % 7
    unlike = Design(tuple(stratum.tolist()), tuple((200 * (stratum + 1)).tolist()))
    whole, block = unlike.pair_weights(), unlike.pair_weights(slice(300, 310))
    np.testing.assert_array_equal(whole[300:310], block)
    assert not np.diagonal(whole).any()


def test_one_of_a_stratum_stands_for_no_pair_within_it() -> None:
    design = Design((0, 1, 1), (5, 4, 4))
    np.testing.assert_allclose(design.pair_weights(), [[0, 10, 10], [10, 0, 6], [10, 6, 0]])
    np.testing.assert_allclose(design.weights(), [5, 2, 2])
    alone = Design((0, 1), (1, 1))
    np.testing.assert_allclose(alone.pair_weights(), [[0, 1], [1, 0]])
