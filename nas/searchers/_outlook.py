"""What candidates are expected to be worth before they are measured: by costs, scores, and a predictor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from nas.history import History, Record
from nas.resources import EvaluationState, Objective
from nas.scoring import Scores
from nas.spec import PluginRef, Ref
from nas.streams import stream
from predictors.costs import REGISTRY as COSTS
from predictors.costs import Cost
from predictors.encoding import BLOCKS, SpaceEncoder
from predictors.ranking import rank_vote
from predictors.surrogates import REGISTRY as PREDICTORS
from predictors.surrogates import Prediction, Predictor
from searchspaces import Architecture, Config, ConfigError, MeasurementError, Rng, SearchSpace, UnknownPlugin

Floats = npt.NDArray[np.float64]

_TIE_BREAK = 0.05


class OutlookConfig(Config):
    """Settings of every searcher that ranks candidates before they are measured."""

    predictor: Ref = Field(
        PluginRef(name="fused"), description="What ranks candidates by what was measured, once there is enough of it."
    )
    labels: int = Field(
        20, ge=2, le=100_000, description="Measured architectures from which on the predictor ranks; before, votes do."
    )
    refit: int = Field(16, ge=1, le=100_000, description="New measurements after which the predictor is fitted again.")
    fitted: int = Field(400, ge=16, le=100_000, description="Most measurements it is fitted on: the newest.")

    @field_validator("predictor")
    @classmethod
    def _is_a_predictor(cls, predictor: PluginRef) -> PluginRef:
        try:
            PREDICTORS[predictor.name].configure(predictor.config)
        except (UnknownPlugin, ConfigError) as error:
            raise ValueError(str(error)) from error
        return predictor


class Outlook:
    """Expected losses of candidates, one column per objective.

    Costs that are known on paper are what they are. What is learned is ranked by the predictor once `labels`
    architectures were measured, and until then by a vote of the scores; a measured cost by FLOPs.

    Holds nothing that the history does not say: predictors are fitted on its first records, a multiple of `refit`.
    """

    def __init__(
        self, config: OutlookConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None
    ) -> None:
        self.config, self.space, self.objectives = config, space, tuple(objectives)
        self.scores = scores or Scores(space)
        self._fitted: dict[int, tuple[tuple[int, int], Predictor]] = {}

    def losses(self, history: History, architectures: Sequence[Architecture], rng: Rng | None = None) -> Floats:
        """`architectures x objectives`, less is better, each column in units of its own.

        With `rng`, what a predictor says is a sample of what it thinks possible (Thompson sampling), else its mean.
        """
        columns = [self._column(number, history, architectures, rng) for number in range(len(self.objectives))]
        return np.stack(columns, axis=1)

    def _column(self, number: int, history: History, asked: Sequence[Architecture], rng: Rng | None) -> Floats:
        objective = self.objectives[number]
        sign = 1.0 if objective.direction == "min" else -1.0
        if number in self._paper:
            try:
                return np.array([sign * self._paper[number].measure(architecture).value for architecture in asked])
            except MeasurementError:
                return np.zeros(len(asked))
        predictor = self._predictor(number, history)
        if predictor is None:
            if objective.level == "cost":
                return np.array([sign * self.space.counts(architecture, live=True).flops for architecture in asked])
            return -self._voted(asked)
        expected: Prediction = predictor.predict(asked)
        drawn = 0.0 if rng is None else expected.std * rng.standard_normal(len(asked))
        return -(expected.mean + drawn)

    def _predictor(self, number: int, history: History) -> Predictor | None:
        """The one fitted on all but the newest records of this objective; None while there are too few."""
        known = [r for r in history.settled if r.state is EvaluationState.FINISHED and r.values is not None]
        size = len(known) // self.config.refit * self.config.refit
        if size < self.config.labels:
            return None
        key = (id(history), size)
        if number not in self._fitted or self._fitted[number][0] != key:
            self._fitted[number] = (key, self._fit(number, known[max(0, size - self.config.fitted) : size]))
        return self._fitted[number][1]

    def _fit(self, number: int, known: Sequence[Record]) -> Predictor:
        ref = self.config.predictor
        predictor = PREDICTORS[ref.name](ref.config, self._encoder)
        sign = 1.0 if self.objectives[number].direction == "max" else -1.0
        values = [sign * record.values[number] for record in known if record.values is not None]
        rng = stream(len(known), "outlook", number)
        return predictor.fit([record.architecture for record in known], values, rng=rng)

    def _voted(self, asked: Sequence[Architecture]) -> Floats:
        """A rank by scores alone, higher better: the predictor's own where it needs no labels, else by all scores."""
        if self._unlabelled is not None:
            return self._unlabelled.predict(asked).mean
        return rank_vote(list(self.scores(asked).values.T))

    @cached_property
    def _unlabelled(self) -> Predictor | None:
        ref = self.config.predictor
        predictor = PREDICTORS[ref.name](ref.config, self._encoder)
        return None if predictor.min_labels else predictor.fit([], [], rng=stream(0, "outlook"))

    @cached_property
    def _encoder(self) -> SpaceEncoder:
        return SpaceEncoder(self.space, (*BLOCKS, "graph"), scores=self.scores)

    @cached_property
    def _paper(self) -> dict[int, Cost]:
        """The objectives that are costs known on paper."""
        costs = {n: o.metric for n, o in enumerate(self.objectives) if o.level == "cost" and o.metric in COSTS}
        return {n: COSTS[m](None, self.space, "cpu") for n, m in costs.items() if not COSTS[m].flags["measured"]}


def best_by_weight(losses: Floats, count: int, rng: Rng) -> list[int]:
    """Indices of up to `count` rows, each the best by a random weighting of the columns' ranks (Chebyshev norm)."""
    from scipy.stats import rankdata

    num, objectives = losses.shape
    places = np.stack([rankdata(column) for column in losses.T], axis=1) / max(1, num)
    chosen: list[int] = []
    for _ in range(min(count, num)):
        weighted = rng.dirichlet(np.ones(objectives)) * places
        score = weighted.max(axis=1) + _TIE_BREAK * weighted.sum(axis=1)
        score[chosen] = np.inf
        chosen.append(int(np.argmin(score)))
    return chosen
