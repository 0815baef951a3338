"""How far a ranking can be trusted: rank correlations with intervals, and what a user gets from the predicted best.

Throughout, `truth` and `predicted` are one number per architecture, larger is better in both (negate a cost). What is
undefined (too few architectures, or one side constant) is None, never NaN.
"""

from __future__ import annotations

import math
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
    chosen = x[np.lexsort((rng.random(len(y)), -y))[:k]]
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
