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
) -> Agreement:
    """All figures of this module for one ranker.

    The predicted top k, ties broken at random, are what a search with this ranker delivers; random choice is held
    against them as the mean, and the spread, of all architectures.

    Args:
        given: another ranker, such as live-edge FLOPs, whose part is taken out in `partial_kendall`.
        k: without it a tenth of the architectures, at least 1 and at most 10.
        bin_width: of `sparse_kendall`; 0.001 for accuracies that are fractions.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    x, y = _pair(truth, predicted)
    k = max(1, min(10, len(x) // 10)) if k is None else k
    best = _predicted_best(x, y, k, rng) if len(x) >= k else x[:0]
    return Agreement(
        num_architectures=len(x),
        kendall=kendall(x, y),
        interval=kendall_interval(x, y, rng=rng),
        sparse_kendall=sparse_kendall(x, y, bin_width=bin_width),
        spearman=spearman(x, y),
        kendall_top_decile=kendall_top_decile(x, y),
        partial_kendall=None if given is None else partial_kendall(x, y, given),
        partial_interval=None if given is None else partial_kendall_interval(x, y, given, rng=rng),
        k=k,
        top=TopK(float(best.mean()), float(best.max())) if len(best) else None,
        regret=float(x.max() - best.max()) if len(best) else None,
        beats_random=probability_beats_random(best, x),
        relative_improvement=relative_improvement(best, x),
    )


def kendall(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float | None:
    """Kendall's tau-b, -1 to 1: concordant less discordant pairs, corrected for ties in either.

    None for fewer than two architectures, or when all values of one side are equal.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    x, y = _pair(truth, predicted)
    if not _varies(x, y):
        return None
    from scipy.stats import kendalltau

    return float(kendalltau(x, y).statistic)


def kendall_interval(
    truth: npt.ArrayLike,
    predicted: npt.ArrayLike,
    *,
    rng: Rng,
    level: float = 0.95,
    resamples: int = 1_000,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of Kendall's tau-b over the architectures.

    A resample weighs each architecture by how often it was drawn; a pair of two copies of one counts as a tie. Up to
    1,000 architectures tau-b is computed of every resample; above, its terms are linearised around the sample (the
    first term of Hoeffding's decomposition), whose error is of order 1/n.

    None where tau is undefined, and for fewer than three architectures.

    Raises:
        ValueError: lengths differ, a value is not finite, or `level` is not between 0 and 1.
    """
    x, y = _pair(truth, predicted)
    if len(x) < 3 or not _varies(x, y):
        return None
    return _quantiles(_resampled_taus(x, y, _resamples(len(x), resamples, rng)), level)


def kendall_difference_interval(
    truth: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    rng: Rng,
    level: float = 0.95,
    resamples: int = 1_000,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of tau-b(truth, first) - tau-b(truth, second), paired: equal resamples for both.

    An interval that holds 0 says that the two rankers cannot be told apart on these architectures.

    None where either tau is undefined, and for fewer than three architectures.

    Raises:
        ValueError: lengths differ, a value is not finite, or `level` is not between 0 and 1.
    """
    (x, y), (_, z) = _pair(truth, first), _pair(truth, second)
    if len(x) < 3 or not _varies(x, y) or not _varies(x, z):
        return None
    weights = _resamples(len(x), resamples, rng)
    return _quantiles(_resampled_taus(x, y, weights) - _resampled_taus(x, z, weights), level)


def partial_kendall(truth: npt.ArrayLike, predicted: npt.ArrayLike, given: npt.ArrayLike) -> float | None:
    """Kendall's partial tau of truth and prediction given a third ranker: what the prediction adds to it.

    (t_xy - t_xz t_yz) / sqrt((1 - t_xz^2) (1 - t_yz^2)) with x the truth, y the prediction, z the given and t their
    tau-b; -1 to 1. Kendall (1942), Partial Rank Correlation, Biometrika 32. A noisy copy
    of z is not at 0, only near it (Gaussian values with t_xz = 0.5 and t_yz = 0.7: 0.14).

    None where one of the three taus is undefined, and where z ranks as the truth or as the prediction does.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    (x, y), (_, z) = _pair(truth, predicted), _pair(truth, given)
    taus = kendall(x, y), kendall(x, z), kendall(y, z)
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
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of `partial_kendall`, all three taus from equal resamples.

    None where it is undefined, and for fewer than three architectures.

    Raises:
        ValueError: lengths differ, a value is not finite, or `level` is not between 0 and 1.
    """
    (x, y), (_, z) = _pair(truth, predicted), _pair(truth, given)
    if len(x) < 3 or partial_kendall(x, y, z) is None:
        return None
    weights = _resamples(len(x), resamples, rng)
    return _quantiles(_partial(*(_resampled_taus(*pair, weights) for pair in ((x, y), (x, z), (y, z)))), level)


def sparse_kendall(truth: npt.ArrayLike, predicted: npt.ArrayLike, *, bin_width: float = 0.001) -> float | None:
    """Kendall's tau-b after rounding the true values to multiples of `bin_width`, so that small differences tie.

    0.001 is 0.1 % of an accuracy given as a fraction. Yu, Ranftl and Salzmann (2020), How to Train Your Super-Net,
    arXiv 2003.04276. None where tau is undefined.

    Raises:
        ValueError: lengths differ, a value is not finite, or `bin_width` is not positive.
    """
    if not bin_width > 0:
        raise ValueError(f"bin_width is {bin_width}; give a positive one, such as 0.001.")
    x, y = _pair(truth, predicted)
    return kendall(np.round(x / bin_width), y)


def spearman(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> float | None:
    """Spearman's rank correlation, -1 to 1; ties get their mean rank. None where `kendall` is.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    x, y = _pair(truth, predicted)
    if not _varies(x, y):
        return None
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


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


def _resampled_taus(x: Floats, y: Floats, weights: Floats) -> Floats:
    """tau-b of every resample, `resamples`; NaN, never shown, where a resample holds no pair that differs."""
    concordance, pairs_x, pairs_y = _pair_sums(x, y, weights)
    defined = (pairs_x > 0) & (pairs_y > 0)
    taus = np.full(len(weights), np.nan)
    taus[defined] = concordance[defined] / np.sqrt(pairs_x[defined] * pairs_y[defined])
    clipped: Floats = np.clip(taus, -1.0, 1.0)
    return clipped


def _quantiles(values: Floats, level: float) -> tuple[float, float] | None:
    """The middle `level` of the values that are defined; None when none is."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a share between 0 and 1, such as 0.95.")
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _pair_sums(x: Floats, y: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Weighted sums over ordered pairs, `resamples` each: sign(dx) sign(dy), [dx != 0], [dy != 0]."""
    if len(x) > _EXACT:
        # sum_ij w_i w_j k_ij, for weights near 1, is sum_i (2 w_i - 1) sum_j k_ij up to the square of the deviations.
        linear = 2 * weights - 1
        return linear @ _concordance(x, y), linear @ _num_different(x), linear @ _num_different(y)
    signs_x, signs_y = _signs(x, x).astype(float), _signs(y, y).astype(float)  # n x n
    kernels = (signs_x * signs_y, signs_x**2, signs_y**2)
    first, second, third = (np.einsum("bi,bi->b", weights @ kernel, weights) for kernel in kernels)
    return first, second, third


def _concordance(x: Floats, y: Floats) -> Floats:
    """For each architecture, concordant less discordant partners, `n`; in blocks, quadratic in time only."""
    blocks = [slice(start, start + _EXACT) for start in range(0, len(x), _EXACT)]
    return np.concatenate([(_signs(x[b], x) * _signs(y[b], y)).sum(axis=1, dtype=np.int32) for b in blocks]).astype(
        float
    )


def _signs(rows: Floats, columns: Floats) -> npt.NDArray[np.int8]:
    greater, less = rows[:, None] > columns[None, :], rows[:, None] < columns[None, :]
    return greater.view(np.int8) - less.view(np.int8)


def _num_different(values: Floats) -> Floats:
    """For each value, how many others differ from it, `n`."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (len(values) - counts[inverse]).astype(float)


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
