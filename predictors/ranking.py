"""How far a ranking can be trusted: rank correlations with intervals, and what a user gets from the predicted best.

Throughout, `truth` and `predicted` are one number per architecture, larger is better in both (negate a cost). What is
undefined (too few architectures, or one side constant) is None, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rng = np.random.Generator

_EXACT = 1_000  # above, the bootstrap of tau is linearised: an exact one would take hours for 15,625 architectures
_MIN_TOP_DECILE = 100


class Design(NamedTuple):
    """How a sample came out of its population: at random, without replacement, from each of several strata.

    A figure of the population weighs every pair of the sample by one over its chance of being drawn (Horvitz and
    Thompson 1952, A Generalization of Sampling Without Replacement From a Finite Universe). With two or more drawn of
    every stratum that is unbiased; pairs within a stratum of which one was drawn are not represented.

    Attributes:
        strata: the stratum of each sampled architecture, `n`; any integers.
        sizes: how many architectures of the population that stratum holds, `n`.
    """

    strata: tuple[int, ...]
    sizes: tuple[int, ...]

    def weights(self) -> Floats:
        """How many architectures of the population each stands for, `n`."""
        _, stratum, counts = np.unique(self.strata, return_inverse=True, return_counts=True)
        weights: Floats = np.array(self.sizes, dtype=float) / counts[stratum]
        return weights

    def pair_weights(self, rows: slice = slice(None)) -> Floats:
        """One over the chance of each ordered pair, `rows x n`; 0 for an architecture with itself."""
        size = np.array(self.sizes, dtype=float)
        _, stratum, counts = np.unique(self.strata, return_inverse=True, return_counts=True)
        drawn = counts[stratum].astype(float)
        each = size / drawn
        within = np.divide(size * (size - 1), drawn * (drawn - 1), out=np.zeros_like(each), where=drawn > 1)
        weights: Floats = np.where(stratum[rows, None] == stratum, within[rows, None], each[rows, None] * each)
        weights[np.arange(len(weights)), np.arange(len(size))[rows]] = 0.0
        return weights


class TopK(NamedTuple):
    """True values of the predicted top k: their mean, and the best of them."""

    mean: float
    best: float


class Agreement(NamedTuple):
    """How well one ranker agrees with the truth; each field is what the function of its name says.

    Attributes:
        k: how many of the predicted best `top`, `regret`, `beats_random` and `relative_improvement` are about.
        partial_kendall, partial_interval: None where nothing was given to hold constant, too.
    """

    num_architectures: int
    kendall: float | None
    interval: tuple[float, float] | None
    sparse_kendall: float | None
    spearman: float | None
    kendall_top_decile: float | None
    partial_kendall: float | None
    partial_interval: tuple[float, float] | None
    k: int
    top: TopK | None
    regret: float | None
    beats_random: float | None
    relative_improvement: float | None


def agreement(
    truth: npt.ArrayLike,
    predicted: npt.ArrayLike,
    *,
    rng: Rng,
    given: npt.ArrayLike | None = None,
    k: int | None = None,
    bin_width: float = 0.001,
    design: Design | None = None,
) -> Agreement:
    """All figures of this module for one ranker.

    The predicted top k, ties broken at random, are what a search with this ranker delivers; random choice is held
    against them as the mean, and the spread, of all architectures.

    Args:
        given: another ranker, such as live-edge FLOPs, whose part is taken out in `partial_kendall`.
        k: without it a tenth of the architectures, at least 1 and at most 10.
        bin_width: of `sparse_kendall`; 0.001 for accuracies that are fractions.
        design: how the architectures were drawn; the correlations, but for the top decile's, are then those of the
            population. What the best are worth stays a figure of the architectures themselves.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    x, y = _pair(truth, predicted)
    k = max(1, min(10, len(x) // 10)) if k is None else k
    best = _predicted_best(x, y, k, rng) if len(x) >= k else x[:0]
    return Agreement(
        num_architectures=len(x),
        kendall=kendall(x, y, design=design),
        interval=kendall_interval(x, y, rng=rng, design=design),
        sparse_kendall=sparse_kendall(x, y, bin_width=bin_width, design=design),
        spearman=spearman(x, y, design=design),
        kendall_top_decile=kendall_top_decile(x, y),
        partial_kendall=None if given is None else partial_kendall(x, y, given, design=design),
        partial_interval=None if given is None else partial_kendall_interval(x, y, given, rng=rng, design=design),
        k=k,
        top=TopK(float(best.mean()), float(best.max())) if len(best) else None,
        regret=float(x.max() - best.max()) if len(best) else None,
        beats_random=probability_beats_random(best, x),
        relative_improvement=relative_improvement(best, x),
    )


def kendall(truth: npt.ArrayLike, predicted: npt.ArrayLike, *, design: Design | None = None) -> float | None:
    """Kendall's tau-b, -1 to 1: concordant less discordant pairs, corrected for ties in either.

    With a `design` it is that of the population which the architectures were drawn from.

    None for fewer than two architectures, or when all values of one side are equal.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    x, y = _pair(truth, predicted)
    if not _varies(x, y):
        return None
    if design is not None:
        found = float(_resampled_taus(x, y, np.ones((1, len(x))), design)[0])
        return None if math.isnan(found) else found
    from scipy.stats import kendalltau

    return float(kendalltau(x, y).statistic)


def kendall_interval(
    truth: npt.ArrayLike,
    predicted: npt.ArrayLike,
    *,
    rng: Rng,
    level: float = 0.95,
    resamples: int = 1_000,
    design: Design | None = None,
) -> tuple[float, float] | None:
    """Bootstrap interval of Kendall's tau-b over the architectures; of the population's with a `design`.

    A resample weighs each architecture by how often it was drawn; a pair of two copies of one counts as a tie. The
    percentiles are those that a t distribution asks for, since those of a normal one are too narrow for small samples
    (Hesterberg 2015, What Teachers Should Know About the Bootstrap, arXiv 1411.5279, expanded percentiles). Up to
    1,000 architectures tau-b is computed of every resample; above, its terms are linearised around the sample (the
    first term of Hoeffding's decomposition), whose error is of order 1/n.

    None where tau is undefined, and for fewer than three architectures.

    Raises:
        ValueError: lengths differ, a value is not finite, or `level` is not between 0 and 1.
    """
    x, y = _pair(truth, predicted)
    if len(x) < 3 or not _varies(x, y):
        return None
    return _quantiles(_resampled_taus(x, y, _resamples(len(x), resamples, rng), design), level, len(x))


def kendall_difference_interval(
    truth: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    rng: Rng,
    level: float = 0.95,
    resamples: int = 1_000,
    design: Design | None = None,
) -> tuple[float, float] | None:
    """Bootstrap interval of tau-b(truth, first) - tau-b(truth, second), paired: equal resamples for both.

    An interval that holds 0 says that the two rankers cannot be told apart on these architectures.

    None where either tau is undefined, and for fewer than three architectures.

    Raises:
        ValueError: lengths differ, a value is not finite, or `level` is not between 0 and 1.
    """
    (x, y), (_, z) = _pair(truth, first), _pair(truth, second)
    if len(x) < 3 or not _varies(x, y) or not _varies(x, z):
        return None
    weights = _resamples(len(x), resamples, rng)
    difference = _resampled_taus(x, y, weights, design) - _resampled_taus(x, z, weights, design)
    return _quantiles(difference, level, len(x))


def partial_kendall(
    truth: npt.ArrayLike, predicted: npt.ArrayLike, given: npt.ArrayLike, *, design: Design | None = None
) -> float | None:
    """Kendall's partial tau of truth and prediction given a third ranker: what the prediction adds to it.

    (t_xy - t_xz t_yz) / sqrt((1 - t_xz^2) (1 - t_yz^2)) with x the truth, y the prediction, z the given and t their
    tau-b; -1 to 1. Kendall (1942), Partial Rank Correlation, Biometrika 32. A noisy copy
    of z is not at 0, only near it (Gaussian values with t_xz = 0.5 and t_yz = 0.7: 0.14).

    None where one of the three taus is undefined, and where z ranks as the truth or as the prediction does.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    (x, y), (_, z) = _pair(truth, predicted), _pair(truth, given)
    taus = kendall(x, y, design=design), kendall(x, z, design=design), kendall(y, z, design=design)
    if taus[0] is None or taus[1] is None or taus[2] is None:
        return None
    found = float(_partial(*(np.array([tau]) for tau in taus))[0])
    return None if math.isnan(found) else found


def partial_kendall_interval(
    truth: npt.ArrayLike,
    predicted: npt.ArrayLike,
    given: npt.ArrayLike,
    *,
    rng: Rng,
    level: float = 0.95,
    resamples: int = 1_000,
    design: Design | None = None,
) -> tuple[float, float] | None:
    """Bootstrap interval of `partial_kendall`, all three taus from equal resamples.

    None where it is undefined, and for fewer than three architectures.

    Raises:
        ValueError: lengths differ, a value is not finite, or `level` is not between 0 and 1.
    """
    (x, y), (_, z) = _pair(truth, predicted), _pair(truth, given)
    if len(x) < 3 or partial_kendall(x, y, z, design=design) is None:
        return None
    weights = _resamples(len(x), resamples, rng)
    taus = (_resampled_taus(*pair, weights, design) for pair in ((x, y), (x, z), (y, z)))
    return _quantiles(_partial(*taus), level, len(x))


def sparse_kendall(
    truth: npt.ArrayLike, predicted: npt.ArrayLike, *, bin_width: float = 0.001, design: Design | None = None
) -> float | None:
    """Kendall's tau-b after rounding the true values to multiples of `bin_width`, so that small differences tie.

    0.001 is 0.1 % of an accuracy given as a fraction. Yu, Ranftl and Salzmann (2020), How to Train Your Super-Net,
    arXiv 2003.04276. None where tau is undefined.

    Raises:
        ValueError: lengths differ, a value is not finite, or `bin_width` is not positive.
    """
    if not bin_width > 0:
        raise ValueError(f"bin_width is {bin_width}; give a positive one, such as 0.001.")
    x, y = _pair(truth, predicted)
    return kendall(np.round(x / bin_width), y, design=design)


def spearman(truth: npt.ArrayLike, predicted: npt.ArrayLike, *, design: Design | None = None) -> float | None:
    """Spearman's rank correlation, -1 to 1; ties get their mean rank. None where `kendall` is.

    With a `design` the ranks, and their correlation, are estimated for the population.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    x, y = _pair(truth, predicted)
    if not _varies(x, y):
        return None
    weights = np.ones(len(x)) if design is None else design.weights()
    ranks = np.stack([_weighted_ranks(x, weights), _weighted_ranks(y, weights)])
    covariance = np.cov(ranks, aweights=weights)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def _weighted_ranks(values: Floats, weights: Floats) -> Floats:
    """Weight of what is smaller, and half the weight of what is equal, `n`."""
    _, inverse = np.unique(values, return_inverse=True)
    of_value = np.bincount(inverse, weights=weights)
    ranks: Floats = (np.cumsum(of_value) - of_value / 2)[inverse]
    return ranks


def kendall_top_decile(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float | None:
    """Kendall's tau-b among the truly best tenth of the architectures (with all that tie with its last).

    None for fewer than 100 architectures, and where tau is undefined.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    x, y = _pair(truth, predicted)
    if len(x) < _MIN_TOP_DECILE:
        return None
    best = x >= np.sort(x)[-math.ceil(len(x) / 10)]
    return kendall(x[best], y[best])


def top_k(truth: npt.ArrayLike, predicted: npt.ArrayLike, *, k: int, rng: Rng) -> TopK | None:
    """What the k architectures predicted to be best are really worth; ties in the prediction are broken at random.

    None when there are fewer than k.

    Raises:
        ValueError: lengths differ, a value is not finite, or k is not positive.
    """
    if k < 1:
        raise ValueError(f"k is {k}; give at least 1.")
    x, y = _pair(truth, predicted)
    if len(x) < k:
        return None
    chosen = _predicted_best(x, y, k, rng)
    return TopK(mean=float(chosen.mean()), best=float(chosen.max()))


def regret(truth: npt.ArrayLike, predicted: npt.ArrayLike, *, k: int = 1, rng: Rng) -> float | None:
    """By how much the best of the predicted top k falls short of the best there is; 0 or more.

    None when there are fewer than k.

    Raises:
        ValueError: lengths differ, a value is not finite, or k is not positive.
    """
    found = top_k(truth, predicted, k=k, rng=rng)
    return None if found is None else float(np.max(np.asarray(truth, dtype=float))) - found.best


def probability_beats_random(found: npt.ArrayLike, random: npt.ArrayLike) -> float | None:
    """Chance that a value of `found` (a search's results, one per seed) exceeds one of `random`; ties count half.

    `random` holds results of random choice under the same evaluation, or the values of a whole table. Yu et al. (2020),
    Evaluating the Search Phase of Neural Architecture Search, arXiv 1902.08142. None when either is empty.

    Raises:
        ValueError: a value is not finite.
    """
    ours, theirs = _finite(found), np.sort(_finite(random))
    if len(ours) == 0 or len(theirs) == 0:
        return None
    below, up_to = np.searchsorted(theirs, ours, side="left"), np.searchsorted(theirs, ours, side="right")
    return float((below + up_to).mean() / (2 * len(theirs)))


def relative_improvement(found: npt.ArrayLike, random: npt.ArrayLike) -> float | None:
    """By which fraction the mean of `found` exceeds that of random choice; 0.01 is "RI 1 %".

    Yang, Esperanca and Carlucci (2020), NAS evaluation is frustratingly hard, arXiv 1912.12522. None when either is
    empty, or the mean of `random` is not positive.

    Raises:
        ValueError: a value is not finite.
    """
    ours, theirs = _finite(found), _finite(random)
    if len(ours) == 0 or len(theirs) == 0 or not theirs.mean() > 0:
        return None
    return float((ours.mean() - theirs.mean()) / theirs.mean())


def rank_vote(scores: Sequence[npt.ArrayLike]) -> Floats:
    """Sum over scores of log(rank / n), n architectures in all, higher better; NaN is ranked last, ties share ranks.

    It asks for all at once: what one score ranks low is not made up for by another. Lee and Ham (2024), AZ-NAS, arXiv
    2403.19232.

    Raises:
        ValueError: there is no score, or lengths differ.
    """
    from scipy.stats import rankdata

    columns = [np.asarray(score, dtype=np.float64).reshape(-1) for score in scores]
    if not columns or len({len(column) for column in columns}) > 1:
        raise ValueError(f"scores of lengths {[len(column) for column in columns]}; give one or more, of equal length.")
    places = [rankdata(np.where(np.isnan(column), -np.inf, column)) for column in columns]
    return np.asarray(sum(np.log(place / len(place)) for place in places))


def _predicted_best(x: Floats, y: Floats, k: int, rng: Rng) -> Floats:
    """True values of the k predicted to be best; ties in the prediction are broken at random."""
    return x[np.lexsort((rng.random(len(y)), -y))[:k]]


def _partial(xy: Floats, xz: Floats, yz: Floats) -> Floats:
    """Partial correlation of x and y given z; NaN where z ranks as one of them does (but for rounding)."""
    rest = (1 - xz**2) * (1 - yz**2)
    result = np.full(len(xy), np.nan)
    defined = rest > 1e-9  # NaN compares as False
    result[defined] = (xy - xz * yz)[defined] / np.sqrt(rest[defined])
    clipped: Floats = np.clip(result, -1.0, 1.0)
    return clipped


def _resamples(n: int, resamples: int, rng: Rng) -> Floats:
    """How often each architecture is drawn in each resample, `resamples x n`."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def _resampled_taus(x: Floats, y: Floats, weights: Floats, design: Design | None = None) -> Floats:
    """tau-b of every resample, `resamples`; NaN, never shown, where a resample holds no pair that differs."""
    concordance, pairs_x, pairs_y = _pair_sums(x, y, weights, design)
    defined = (pairs_x > 0) & (pairs_y > 0)
    taus = np.full(len(weights), np.nan)
    taus[defined] = concordance[defined] / np.sqrt(pairs_x[defined] * pairs_y[defined])
    clipped: Floats = np.clip(taus, -1.0, 1.0)
    return clipped


def _quantiles(values: Floats, level: float, num_architectures: int) -> tuple[float, float] | None:
    """The middle of the values that are defined, by the expanded percentiles for `level`; None when none is."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a share between 0 and 1, such as 0.95.")
    from scipy.special import ndtr, stdtrit

    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return None
    n = num_architectures
    outside = float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - level) / 2)))
    low, high = np.quantile(defined, [outside, 1 - outside])
    return float(low), float(high)


def _pair_sums(x: Floats, y: Floats, weights: Floats, design: Design | None) -> tuple[Floats, Floats, Floats]:
    """Weighted sums over ordered pairs, `resamples` each: sign(dx) sign(dy), [dx != 0], [dy != 0]."""
    if len(x) > _EXACT:
        # sum_ij w_i w_j k_ij, for weights near 1, is sum_i (2 w_i - 1) sum_j k_ij up to the square of the deviations.
        sums = (2 * weights - 1) @ _row_sums(x, y, design)  # resamples x 3
        return sums[:, 0], sums[:, 1], sums[:, 2]
    kernels = _kernels(x, y, slice(None), design)
    first, second, third = (np.einsum("bi,bi->b", weights @ kernel, weights) for kernel in kernels)
    return first, second, third


def _row_sums(x: Floats, y: Floats, design: Design | None) -> Floats:
    """For each architecture the sums of `_kernels` over its partners, `n x 3`; in blocks, quadratic in time only."""
    blocks = [slice(start, start + _EXACT) for start in range(0, len(x), _EXACT)]
    return np.concatenate(
        [np.stack([kernel.sum(axis=1) for kernel in _kernels(x, y, rows, design)], axis=1) for rows in blocks]
    )


def _kernels(x: Floats, y: Floats, rows: slice, design: Design | None) -> tuple[Floats, Floats, Floats]:
    """sign(dx) sign(dy), [dx != 0] and [dy != 0] of ordered pairs, `rows x n` each, by the weight of the pair."""
    signs_x, signs_y = _signs(x[rows], x).astype(float), _signs(y[rows], y).astype(float)
    kernels = (signs_x * signs_y, signs_x**2, signs_y**2)
    if design is None:
        return kernels
    pairs = design.pair_weights(rows)
    return pairs * kernels[0], pairs * kernels[1], pairs * kernels[2]


def _signs(rows: Floats, columns: Floats) -> npt.NDArray[np.int8]:
    greater, less = rows[:, None] > columns[None, :], rows[:, None] < columns[None, :]
    return greater.view(np.int8) - less.view(np.int8)


def _pair(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> tuple[Floats, Floats]:
    x, y = _finite(truth), _finite(predicted)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} true values but {len(y)} predicted; give one of each for every architecture.")
    return x, y


def _finite(values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not np.isfinite(array).all():
        raise ValueError("a value is not finite; leave out what failed.")
    return array


def _varies(x: Floats, y: Floats) -> bool:
    return len(x) >= 2 and bool(np.ptp(x) > 0) and bool(np.ptp(y) > 0)
