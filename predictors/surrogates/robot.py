"""RoBoT: weights over scores such that what is known to be best comes out on top.

He, Z. et al. (2024), Robustifying and Boosting Training-Free Neural Architecture Search, ICLR. The publication queries
architectures as it goes (`robot_search` does); fitted on values that are known already, its objective is the value of
the argmax among them. That is equal for many weights, so ties are broken by Kendall's tau. Tau alone (a setting) ranks
the whole better, and the top no better: with four proxies of NAS-Bench-201 and 78 values, tau 0.64 instead of 0.53,
with 469 0.65 instead of 0.45, but the mean accuracy of the predicted best ten of a thousand 93.1 instead of 93.7 %.
The prediction is the weighted sum, as a normal score, times its correlation with the targets.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from predictors.encoding import Encoded, Encoder, NormalScores
from predictors.ranking import kendall
from predictors.surrogates._predictor import Floats, Prediction, Predictor, PredictorConfig, Told
from predictors.surrogates._weights import Normalisation, WeightSearch, min_max, weighted
from searchspaces import Plugin, Rng


class RobotConfig(PredictorConfig):
    """Settings of `robot`."""

    trials: int = Field(50, ge=1, le=10_000, description="How many weights are tried.")
    random_trials: int = Field(10, ge=1, le=10_000, description="How many of them are drawn at random, at first.")
    objective: Literal["argmax", "kendall"] = Field(
        "argmax",
        description="What good weights do: put the best known on top, or rank all that are known (Kendall's tau).",
    )
    normalisation: Normalisation = Field(
        "rank", description="Scores to 0 to 1 over the examples: by rank, or linearly between the extremes (min_max)."
    )


class Robot(Predictor):
    """Ranks by a weighted sum of scores."""

    def __init__(self, config: RobotConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self._settings = config

    def _fit(self, known: Encoded, targets: Floats, rng: Rng, progress: Told) -> None:
        if known.scores is None or not known.scores.names:
            raise ValueError("the encoder gives no scores to weigh; give it proxies or costs.")
        self._known = known.scores.values
        self._ranks = NormalScores(self._known)
        scores = self._normalised(self._known)
        search = WeightSearch(scores.shape[1], rng, start=self._settings.random_trials)
        best, self.weights = -np.inf, np.zeros(scores.shape[1])  # which rank nothing, until some do
        for trial in range(self._settings.trials):
            weights = search.ask()
            value = self._agreement(weighted(scores, weights), targets)
            search.tell(value)
            if value is not None and value > best:
                best, self.weights = value, weights
            progress((trial + 1) / self._settings.trials)
        self._calibrate(weighted(scores, self.weights), targets)

    def _agreement(self, ranked: Floats, targets: Floats) -> float | None:
        """Tau, or how many the argmax is better than and less than one by tau, as a share; None: tau is undefined."""
        tau = kendall(targets, ranked)
        if tau is None or self._settings.objective == "kendall":
            return tau
        beaten = (targets < targets[np.argmax(ranked)]).sum()
        return float((beaten + (1 + tau) / 2) / len(targets))

    def _calibrate(self, ranked: Floats, targets: Floats) -> None:
        """How far the ranking can be believed, but no surer than so many examples can be.

        Where the ranking or the targets do not vary there is nothing to believe: what is predicted is the prior.
        """
        self._place = NormalScores(ranked[:, None])
        places = self._place(ranked[:, None])[:, 0]
        if not (places.std() > 0 and targets.std() > 0):
            self._correlation = 0.0
            return
        found, noise = float(np.corrcoef(places, targets)[0, 1]), 1 / len(targets)
        self._correlation = float(np.clip(found, np.sqrt(noise), np.sqrt(1 - noise)))

    def _predict(self, asked: Encoded) -> Prediction:
        if asked.scores is None:
            raise ValueError("the encoder gives no scores any more; give it those it was fitted with.")
        places = self._place(weighted(self._normalised(asked.scores.values), self.weights)[:, None])[:, 0]
        spread = np.sqrt(1 - self._correlation**2)
        return Prediction(mean=self._correlation * places, std=np.full(len(asked), spread))

    def _normalised(self, values: Floats) -> Floats:
        """By the fitted architectures alone, so that a prediction does not depend on who else is asked."""
        from scipy.stats import norm

        if self._settings.normalisation == "rank":
            return np.where(np.isfinite(values), norm.cdf(self._ranks(values)), np.nan)
        return min_max(values, self._known)


PLUGIN = Plugin(
    name="robot",
    description="Weights over scores, found by Bayesian optimisation, that put the best known on top",
    source="He et al. (2024), Robustifying and Boosting Training-Free Neural Architecture Search (RoBoT), ICLR",
    create=Robot,
    Config=RobotConfig,
    flags={
        "uses": ("scores",),
        "min_labels": Robot.min_labels,
        "exact": False,
        "quick": ("trials=14",),
    },
)
