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
_POWERS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_BEYOND = 0.2  # deviations that the line is followed beyond the audited networks
_BEND = 0.25  # how much of a line may be bend, as a share of the variance that its slope may explain


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

    value = intercept + slope x ranking + bend x ranking^2 + own, with `own` normal and independent between candidates:
    a line through the audited networks that may level off, over the ranking as it is or by rank, of the values as they
    are or to a power; whichever they are likelier under. Slope and bend are expected near 0, and a ranking that points
    the wrong way says nothing. A candidate's own part is known as far as its audit is free of noise: a noisy audit is
    drawn to the line, and a candidate without one lies on it, with the deviation of what the line leaves open. All is
    Gaussian in closed form; the variance of `own` is the likeliest one.

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
    powers = _POWERS if (audits.values > 0).all() else _POWERS[:1]
    scales = [Power.of(audits.values, power) for power in powers]
    lines = [
        (_line(*_scaled(every, inside), scale.seen(audits)), scale) for every, inside in readings for scale in scales
    ]
    line, scale = max(lines, key=lambda each: each[0].likelihood)
    return scale.told(line.belief)


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


class Power(NamedTuple):
    """Values to a power, scaled so that likelihoods under several powers can be compared.

    Accuracies have a long tail of bad networks. A line through them as they are runs past the best, and believes what
    it was never shown: on a large power the tail is short, and what lies at the top apart. Box and Cox (1964), An
    Analysis of Transformations.
    """

    power: float
    scale: float

    @classmethod
    def of(cls, values: Floats, power: float) -> Power:
        """True to scale at the geometric mean of the values, all positive unless the power is 1."""
        mean = 1.0 if power == 1 else float(np.exp(np.log(values).mean()))
        return cls(power, power * mean ** (power - 1))

    def seen(self, audits: Audits) -> Audits:
        """The audits on this scale, their noise as far as it reaches there."""
        slopes = np.abs(audits.values) ** (self.power - 1) * self.power / self.scale
        return Audits(audits.rows, audits.values**self.power / self.scale, audits.noise * slopes)

    def told(self, belief: Belief) -> Belief:
        """A belief in the units of the values."""
        low, mean, high = (self._back(belief.mean + side * belief.std) for side in (-1.0, 0.0, 1.0))
        return Belief(mean, (high - low) / 2, belief.explained)

    def _back(self, values: Floats) -> Floats:
        if self.power == 1:
            return values
        return np.asarray(np.maximum(values * self.scale, 0.0) ** (1 / self.power))


class _Line(NamedTuple):
    likelihood: float
    belief: Belief


def _scaled(every: Floats, inside: Floats) -> tuple[Floats, Floats]:
    """Scores with mean 0 and deviation 1 over the audited; outside them it goes on slower and slower."""
    deviation = inside.std()
    if not deviation > 0:
        return np.zeros(len(every)), np.zeros(len(inside))
    unit, units = (inside - inside.mean()) / deviation, (every - inside.mean()) / deviation
    low, high = unit.min(), unit.max()
    above, below = np.maximum(units - high, 0.0), np.maximum(low - units, 0.0)
    return np.clip(units, low, high) - _BEYOND * (np.expm1(-above) - np.expm1(-below)), unit


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
    line = float(np.var(_terms(inside) @ best.weights))
    explained = line / (line + best.own)
    return _Line(best.likelihood, Belief(mean + center, np.sqrt(variance), explained))


class _Fit(NamedTuple):
    """Intercept, slope and bend, their covariance `3 x 3`, the variance left open, and how likely that is."""

    weights: Floats
    covariance: Floats
    own: float
    likelihood: float


def _fit(inside: Floats, values: Floats, noise: Floats, own: float, scale: float) -> _Fit:
    """Bayesian regression with intercept and slope expected at 0 +- sqrt(scale), for one variance left open."""
    x = _terms(inside)
    precision, prior = 1.0 / (own + noise), scale * np.array([1.0, 1.0, _BEND])
    covariance: Floats = np.linalg.inv(x.T @ (precision[:, None] * x) + np.diag(1 / prior)).astype(np.float64)
    projected = x.T @ (precision * values)
    weights = np.asarray(covariance @ projected, dtype=np.float64)
    fit = float((precision * values**2).sum() - projected @ weights)
    volume = float(-np.log(precision).sum() - np.linalg.slogdet(covariance)[1] + np.log(prior).sum())
    expected = _EXAMPLES * (np.log(own) + 0.5 * scale / own)
    return _Fit(weights, covariance, own, -0.5 * (fit + volume + float(expected)))


def _terms(scores: Floats) -> Floats:
    """`n x 3`: one, the score, and its square less that of the audited on average; no bend where all scores are 0."""
    return np.stack([np.ones(len(scores)), scores, np.where(scores.any(), scores**2 - 1, 0.0)], axis=1)


def _on(scores: Floats, fit: _Fit) -> tuple[Floats, Floats]:
    """Mean and variance of candidates without an audit, `n` each."""
    x = _terms(scores)
    return x @ fit.weights, np.einsum("ni,ij,nj->n", x, fit.covariance, x) + fit.own
