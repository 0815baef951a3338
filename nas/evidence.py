"""What is known of every candidate: one expected value with its deviation, from audits, a ranking and their noise.

Values are larger is better here; who minimises changes the sign before and after.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from predictors.encoding import NormalScores

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FEWEST = 3
"""With fewer audited networks no line can be laid through them: nothing says how far a ranking can be trusted."""
_SPREAD = 1.0  # spread over seeds where nobody measured it, as a multiple of the noise of the split
_VARIANCES = np.geomspace(1e-3, 2.0, 48)  # of what the ranking leaves open, as shares of the audited variance
_EXAMPLES = 2.0  # networks that the expectation "half the variance is left open" counts for
_BEYOND = 0.5  # deviations that the line is followed beyond the audited networks


class Audits(NamedTuple):
    """What was measured of some of the candidates.

    Attributes:
        rows: which candidates, `m`.
        values: `m`, larger is better.
        noise: `m`: standard deviation of what repeating the measurement would give.
    """

    rows: Integers
    values: Floats
    noise: Floats


class Belief(NamedTuple):
    """The expected value of every candidate, and how sure that is.

    Attributes:
        mean: `n`.
        std: `n`: standard deviation.
        explained: share of the audited variance that the ranking explains, 0 to 1.
    """

    mean: Floats
    std: Floats
    explained: float


def measured_noise(values: npt.ArrayLike, num_samples: int | None, spreads: npt.ArrayLike | None = None) -> Floats:
    """Standard deviation of measured fractions such as accuracy: of the split's samples, and of another seed.

    The split's part is binomial (of (hits + 1) / (samples + 2), so that all right is not certain). What another seed
    would give is taken to vary as much again where nobody measured it.

    Args:
        values: `n`; what lies outside 0 to 1 is no fraction, and has the spread alone.
        num_samples: size of the split; None where nobody knows it.
        spreads: measured standard deviations over seeds, `n`; NaN where there is none.
    """
    found = np.asarray(values, dtype=np.float64)
    split = np.zeros(len(found))
    if num_samples:
        share = (np.clip(found, 0.0, 1.0) * num_samples + 1) / (num_samples + 2)
        split = np.where((found >= 0) & (found <= 1), np.sqrt(share * (1 - share) / num_samples), 0.0)
    known = np.full(len(found), np.nan) if spreads is None else np.asarray(spreads, dtype=np.float64)
    seeds = np.where(np.isnan(known), _SPREAD * split, known)
    return np.asarray(np.hypot(split, seeds))


def believed(scores: Floats, left_out: Floats, audits: Audits) -> Belief:
    """What every candidate is worth in the units of the audits, by a ranking that is trusted as far as they bear out.

    value = intercept + slope x ranking + own, with `own` normal and independent between candidates: a line through
    the audited networks (the ranking as it is, or by rank; whichever they are likelier under), whose slope is
    expected near 0 and is never negative. A candidate's own part is known as far as its audit is free of noise: a
    noisy audit is drawn to the line, and a candidate without one lies on it, with the deviation of what the line
    leaves open. All is Gaussian in closed form; the variance of `own` is the likeliest one.

    Args:
        scores: what ranks the candidates, `n`, larger is better; all finite.
        left_out: scores of the audited ones, `m`, by a ranker that did not see their own audit.

    Raises:
        ValueError: there are fewer than `FEWEST` audits, or a number is not finite.
    """
    if len(audits.rows) < FEWEST:
        raise ValueError(f"{len(audits.rows)} audits; {FEWEST} are needed to tell how far a ranking holds.")
    if not all(np.isfinite(part).all() for part in (scores, left_out, audits.values, audits.noise)):
        raise ValueError("a score, an audit or its noise is not finite; leave out what failed.")
    ranked = NormalScores(scores[:, None])
    readings = [(scores, left_out), (ranked(scores[:, None])[:, 0], ranked(left_out[:, None])[:, 0])]
    lines = [_line(*_scaled(every, inside), audits) for every, inside in readings]
    return max(lines, key=lambda line: line.likelihood).belief


def updated(means: Floats, stds: Floats, values: Floats, noise: Floats) -> Belief:
    """Candidates that were believed to differ so, after all of them were measured anew, alike, on another scale.

    Only differences count on both sides, since a longer training lifts all; each side weighs by its precision. A
    candidate whose deviation is not known (NaN, or 0) is judged by the new measurement alone.
    """
    before, now = means - means.mean(), values - values.mean()
    precise = np.divide(1.0, stds**2, out=np.zeros(len(stds)), where=np.nan_to_num(stds) > 0)
    weights = 1.0 / np.maximum(noise, 1e-6) ** 2
    mean = values.mean() + (precise * before + weights * now) / (precise + weights)
    return Belief(mean, 1.0 / np.sqrt(precise + weights), explained=float("nan"))


class _Line(NamedTuple):
    likelihood: float
    belief: Belief


def _scaled(every: Floats, inside: Floats) -> tuple[Floats, Floats]:
    """Scores with mean 0 and deviation 1 over the audited; a line says little of what lies far outside them."""
    deviation = inside.std()
    if not deviation > 0:
        return np.zeros(len(every)), np.zeros(len(inside))
    unit, units = (inside - inside.mean()) / deviation, (every - inside.mean()) / deviation
    return np.clip(units, unit.min() - _BEYOND, unit.max() + _BEYOND), unit


def _line(every: Floats, inside: Floats, audits: Audits) -> _Line:
    """The likeliest line, its likelihood, and what it says of every candidate."""
    center, scale = float(audits.values.mean()), float(audits.values.var())
    scale = max(scale, float(np.mean(audits.noise**2)), 1e-12)
    values, noise = audits.values - center, audits.noise**2
    fits = [_fit(inside, values, noise, share * scale, scale) for share in _VARIANCES]
    if max(fits, key=lambda fit: fit.likelihood).weights[1] < 0:  # ranked the wrong way round: it says nothing
        every, inside = np.zeros(len(every)), np.zeros(len(inside))
        fits = [_fit(inside, values, noise, share * scale, scale) for share in _VARIANCES]
    best = max(fits, key=lambda fit: fit.likelihood)
    mean, variance = _on(every, best)
    # What an audited candidate has of its own: the part of its distance to the line that is not noise.
    share = best.own / (best.own + noise)
    expected, doubt = _on(inside, best)
    mean[audits.rows] = expected + share * (values - expected)
    variance[audits.rows] = share * noise + (1 - share) ** 2 * (doubt - best.own)
    explained = 1.0 - best.own / (best.own + float(best.weights[1]) ** 2 * float(inside.var()))
    return _Line(best.likelihood, Belief(mean + center, np.sqrt(variance), explained))


class _Fit(NamedTuple):
    """Intercept and slope, their covariance `2 x 2`, the variance that is left open, and how likely all that is."""

    weights: Floats
    covariance: Floats
    own: float
    likelihood: float


def _fit(inside: Floats, values: Floats, noise: Floats, own: float, scale: float) -> _Fit:
    """Bayesian regression with weights expected at 0 +- sqrt(scale), for one variance of what is left open."""
    x = np.stack([np.ones(len(inside)), inside], axis=1)  # m x 2
    precision = 1.0 / (own + noise)
    covariance: Floats = np.linalg.inv(x.T @ (precision[:, None] * x) + np.eye(2) / scale).astype(np.float64)
    projected = x.T @ (precision * values)
    weights = np.asarray(covariance @ projected, dtype=np.float64)
    fit = float((precision * values**2).sum() - projected @ weights)
    volume = float(-np.log(precision).sum() - np.linalg.slogdet(covariance)[1] + 2 * np.log(scale))
    expected = _EXAMPLES * (np.log(own) + 0.5 * scale / own)
    return _Fit(weights, covariance, own, -0.5 * (fit + volume + float(expected)))


def _on(scores: Floats, fit: _Fit) -> tuple[Floats, Floats]:
    """Mean and variance of candidates without an audit, `n` each."""
    x = np.stack([np.ones(len(scores)), scores], axis=1)  # n x 2
    return x @ fit.weights, np.einsum("ni,ij,nj->n", x, fit.covariance, x) + fit.own
