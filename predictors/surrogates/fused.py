"""Whatever is known, fused into one ranking with its uncertainty: scores alone by vote, with labels by what they say.

Without labels the architectures are ranked by the sum of the logarithms of their ranks by complementary scores (as Lee
and Ham, 2024, AZ-NAS, arXiv 2403.19232, do with theirs): a size and how well samples are told apart. No such vote holds
in all spaces, so it is only what stands in for labels. With labels Gaussian processes are fitted to all that is known:
alone, around a ridge regression, and around the vote; a fourth knows the vote only. What they predict of every label
from the others decides their shares (`_shares`), and widens the deviations where the errors are larger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from predictors.encoding import Columns, Encoded, Encoder
from predictors.ranking import kendall, kendall_interval
from predictors.surrogates._gaussian import MATERN, GaussianProcess, Linear, Parts, Stationary, Term, mixture, ridge
from predictors.surrogates._predictor import Floats, Prediction, Predictor, PredictorConfig, Told, normal_scores
from searchspaces import Plugin, Rng

_VOTE = "vote"
_MEAN = 0.3  # share of the targets' variance that the regression or the vote is expected to explain


class FusedConfig(PredictorConfig):
    """Settings of `fused`."""

    vote: tuple[tuple[str, ...], ...] = Field(
        (("live_params", "live_flops", "params", "flops"), ("jacov", "naswot", "epe_nas")),
        max_length=100,
        description="Scores whose ranks are added up: of every group the first that is known; all where none is.",
    )
    min_fitted: int = Field(5, ge=2, le=10_000, description="With fewer labels the vote ranks, where scores are known.")


class Member(NamedTuple):
    """One model of the blend: its share, and how it ranks every labelled architecture by the other labels."""

    name: str
    share: float
    kendall: float | None


class Report(NamedTuple):
    """What ranks, and how well on the labelled architectures.

    Attributes:
        ranker: what predicts.
        num_labels: how many architectures have a value.
        kendall: Kendall's tau of the ranker with the values. Each is predicted from the others, but with the shares and
            lengths that all gave, so that it is a little too good.
        interval: of `kendall`, 95 %, over the architectures.
        vote_kendall: the tau of the vote, None where no scores are known.
        members: of the blend.
        spread: what the deviations were multiplied by, 1 or more, so that they are not smaller than the errors.
    """

    ranker: Literal["vote", "blend"]
    num_labels: int
    kendall: float | None
    interval: tuple[float, float] | None
    vote_kendall: float | None
    members: tuple[Member, ...]
    spread: float


class Vote:
    """Sum of the logarithms of ranks: high where no voter ranks low.

    Args:
        reference: whose ranks count.
        groups: names of scores; of every group the first that is known votes, all where none is.
    """

    def __init__(self, reference: Columns, groups: tuple[tuple[str, ...], ...]) -> None:
        columns = {name: index for index, name in enumerate(reference.names)}
        known = ([columns[name] for name in group if name in columns] for group in groups)
        self._voters = [found[0] for found in known if found] or list(columns.values())
        self._sorted = np.sort(self._of(reference), axis=0)

    def __call__(self, asked: Columns) -> Floats:
        """`len(asked)`; undefined scores rank last."""
        total = np.zeros(len(asked.values))
        for reference, column in zip(self._sorted.T, self._of(asked).T, strict=True):
            below = (np.searchsorted(reference, column, "left") + np.searchsorted(reference, column, "right")) / 2
            total += np.log((below + 0.5) / (len(reference) + 1))
        return total

    def _of(self, scores: Columns) -> Floats:
        values = scores.values[:, self._voters]
        return np.asarray(np.where(np.isfinite(values), values, -np.inf))


class Fused(Predictor):
    """Needs no labels where scores are known; then ranks are among the architectures asked about, and the deviation 1.

    78 labels take a tenth of a second, 781 about three (one core).
    """

    min_labels = 0

    def __init__(self, config: FusedConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self._groups, self._min_fitted = config.vote, config.min_fitted

    def report(self, rng: Rng) -> Report:
        """What ranks, and how well on the labelled architectures; `rng` draws them anew for the interval.

        Raises:
            RuntimeError: nothing was fitted yet.
        """
        if not self.is_fitted:
            raise RuntimeError("nothing was fitted yet; call `fit` first.")
        targets, blend, voted = self._targets, self._blend, self._voted
        found = blend.left_out.mean if blend else voted
        return Report(
            ranker="blend" if blend else "vote",
            num_labels=len(targets),
            kendall=None if found is None else kendall(targets, found),
            interval=None if found is None else kendall_interval(targets, found, rng=rng),
            vote_kendall=None if voted is None else kendall(targets, voted),
            members=blend.members if blend else (),
            spread=blend.spread if blend else 1.0,
        )

    def _fit(self, known: Encoded, targets: Floats, rng: Rng, progress: Told) -> None:
        vote = Vote(known.scores, self._groups) if known.scores and known.scores.names else None
        if len(targets) < (2 if vote is None else self._min_fitted):
            if vote is None:
                raise ValueError(f"no scores are known and {len(targets)} values are too few; give at least 2.")
            self._blend = None
        else:
            self._blend = Blend(known, targets, vote, progress)
        self._targets, self._voted = targets, vote(known.scores) if vote and known.scores else None

    def _predict(self, asked: Encoded) -> Prediction:
        if self._blend:
            return self._blend.predict(asked)
        if asked.scores is None:
            raise ValueError("no scores are known of the architectures; give labels, or an encoder with scores.")
        return Prediction(normal_scores(Vote(asked.scores, self._groups)(asked.scores)), np.ones(len(asked)))


class Blend:
    """Gaussian processes of all that is known, averaged.

    Attributes:
        members: in the order in which they were fitted.
        left_out: what is predicted of every label from the others, its deviation with noise, scaled.
        spread: what deviations are multiplied by.
    """

    def __init__(self, known: Encoded, targets: Floats, vote: Vote | None, progress: Told) -> None:
        self._vote, self._parts = vote, Parts(known)
        if not self._parts.names:
            raise ValueError("the architectures do not differ in anything that is known; give others, or more.")
        if vote and known.scores:
            voted = vote(known.scores)
            self._centre, self._scale = voted.mean(), np.sqrt(2) * voted.std()
        parts, self._processes = self._all_parts(known), {}
        models = self._models(parts)
        for number, (name, terms) in enumerate(models.items(), 1):
            self._processes[name] = GaussianProcess(terms).fit(parts, targets)
            progress(number / len(models))
        each = [process.left_out() for process in self._processes.values()]
        self._shares = _shares(np.stack([_loss(one, targets) for one in each]))
        left_out = mixture(each, self._shares)
        # Never narrower: the lengths know every label, so that errors are a little too small (a tenth with 78 labels).
        self.spread = max(1.0, float(np.sqrt((((left_out.mean - targets) / left_out.std) ** 2).mean())))
        self.left_out = Prediction(left_out.mean, left_out.std * self.spread)
        taus = [kendall(targets, one.mean) for one in each]
        self.members = tuple(map(Member, self._processes, map(float, self._shares), taus))

    def predict(self, asked: Encoded) -> Prediction:
        """In units of the targets."""
        parts = self._all_parts(asked)
        found = mixture([process.predict(parts) for process in self._processes.values()], self._shares)
        return Prediction(found.mean, found.std * self.spread)

    def _all_parts(self, encoded: Encoded) -> dict[str, Floats]:
        parts = self._parts(encoded)
        if self._vote and encoded.scores and self._scale > 0:
            parts[_VOTE] = ((self._vote(encoded.scores) - self._centre) / self._scale)[:, None]
        return parts

    def _models(self, parts: Mapping[str, Floats]) -> dict[str, list[Term]]:
        """Name -> covariance: of all parts, the same around a regression or the vote, and of the vote only."""
        kernel, rest = (Stationary(MATERN, self._parts.names, variance) for variance in (1.0, 1 - _MEAN))
        models: dict[str, list[Term]] = {"alone": [kernel], "ridge": [rest, *ridge(self._parts, _MEAN)]}
        if _VOTE in parts:
            models |= {"vote": [rest, Linear([_VOTE], _MEAN)], "vote alone": [Linear([_VOTE], 1.0)]}
        return models


def _loss(predicted: Prediction, targets: Floats) -> Floats:
    """Negative logarithm of the density at every target, but for a constant."""
    return np.asarray(0.5 * ((targets - predicted.mean) / predicted.std) ** 2 + np.log(predicted.std))


def _shares(losses: Floats) -> Floats:
    """Shares of members from their losses, `members x n`: exp(-excess / standard error of the excess).

    The excess is over the member with the smallest loss, paired. With few labels its error is large and the shares are
    nearly equal; with many a worse member gets nothing.
    """
    excess = losses - losses[np.argmin(losses.mean(axis=1))]
    error = excess.std(axis=1) / np.sqrt(losses.shape[1])
    shares = np.exp(-excess.mean(axis=1) / np.where(error > 0, error, 1.0))
    return np.asarray(shares / shares.sum())


PLUGIN = Plugin(
    name="fused",
    description="Whatever is known in one ranking: scores by vote without labels, Gaussian processes blended by "
    "measured errors with them.",
    source="own; parts from arXiv 2301.09231 and 2403.19232",
    create=Fused,
    Config=FusedConfig,
    flags={"uses": ("blocks", "graphs", "scores"), "min_labels": Fused.min_labels, "exact": True},
)
