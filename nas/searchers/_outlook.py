"""What candidates are expected to be worth before they are measured: by costs, scores, and a predictor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from nas.history import History, Record
from nas.resources import Objective
from nas.scoring import Scores
from nas.searchers._warm_up import WARM_UP
from nas.spec import PluginRef, Ref
from nas.streams import stream
from predictors.costs import Cost
from predictors.encoding import Encoder, SpaceEncoder, every_block
from predictors.surrogates import REGISTRY as PREDICTORS
from predictors.surrogates import AcrossFidelities, Prediction, Predictor
from searchspaces import Architecture, Config, ConfigError, MeasurementError, Rng, SearchSpace, UnknownPlugin

Floats = npt.NDArray[np.float64]

_TIE_BREAK = 0.05


class OutlookConfig(Config):
    """Settings of every searcher that ranks candidates before they are measured."""

    predictor: Ref = Field(
        PluginRef(name="fused"), description="What ranks candidates by what was measured, once there is enough of it."
    )
    labels: int = Field(
        20,
        ge=2,
        le=100_000,
        json_schema_extra=WARM_UP,
        description="Measured architectures from which on the predictor ranks; before, votes do.",
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
    architectures were measured, and until then by a vote of size and of every proxy of the job; a measured cost by
    FLOPs. Candidates that break a bound on such costs come last, and so do those that look like what broke a bound
    when it was measured.

    Holds nothing that the history does not say: predictors are fitted anew at every `refit`-th record. One that learns
    across fidelities sees what was measured at lower ones too (`History.cheaper`).

    Args:
        encoder: what the predictor sees; None: all that is known, the scores of proxies included.
    """

    def __init__(
        self,
        config: OutlookConfig,
        space: SearchSpace,
        objectives: Sequence[Objective],
        scores: Scores | None,
        encoder: Encoder | None = None,
    ) -> None:
        self._given = encoder
        self.config, self.space, self.objectives = config, space, tuple(objectives)
        self.scores = scores or Scores(space)
        self._fitted: dict[int, tuple[History, tuple[int, ...], Predictor]] = {}
        self._judged_so_far: tuple[History, int, list[Record], int] | None = None
        self._limits: tuple[Predictor, float | None] | None = None

    def losses(self, history: History, architectures: Sequence[Architecture], rng: Rng | None = None) -> Floats:
        """`architectures x objectives`, less is better, each column in units of its own.

        With `rng`, what a predictor says is a sample of what it thinks possible (Thompson sampling), else its mean.
        """
        return pushed_back(self.expected(history, architectures, rng), self.broken(history, architectures))

    def expected(self, history: History, architectures: Sequence[Architecture], rng: Rng | None = None) -> Floats:
        """As `losses`, whatever bounds are broken; without `rng` the same while `num_learned` is.

        NaN where a cost has no value for an architecture; `placed` says where that ranks.
        """
        columns = [self._column(number, history, architectures, rng) for number in range(len(self.objectives))]
        return np.stack(columns, axis=1)

    def broken(self, history: History, architectures: Sequence[Architecture]) -> Floats:
        """By how much each breaks the bounds, as far as can be known; 0 where it is thought to hold them."""
        known = np.array([self.scores.violation(architecture) for architecture in architectures])
        return np.asarray(known + (known == 0) * self._likely(history, architectures))

    def has_learned(self, history: History) -> bool:
        """Whether the predictor ranks, and no longer the vote."""
        return self.num_learned(history) > 0

    def num_learned(self, history: History) -> int:
        """How many measurements the predictor has seen; 0 while the vote ranks."""
        return self._size(len(history.losses()))

    def _column(self, number: int, history: History, asked: Sequence[Architecture], rng: Rng | None) -> Floats:
        objective = self.objectives[number]
        sign = 1.0 if objective.direction == "min" else -1.0
        if number in self._paper:
            return sign * np.array([_value_or_nan(self._paper[number], architecture) for architecture in asked])
        direction = -sign
        predictor = self._predictor(
            number, history, history.finished, lambda record: direction * (record.values or ())[number]
        )
        if predictor is None:
            if objective.level == "cost":
                return sign * self._size_of(asked)
            return -self.scores.vote(asked)
        expected: Prediction = predictor.predict(asked)
        drawn = 0.0 if rng is None else expected.std * rng.standard_normal(len(asked))
        return -(expected.mean + drawn)

    def _size_of(self, asked: Sequence[Architecture]) -> Floats:
        """What stands for a cost that is measured, until some was: FLOPs; NaN where they are not known."""
        flops = self.scores.costs.get("live_flops")
        if flops is None:
            return np.full(len(asked), np.nan)
        return np.array([_value_or_nan(flops, architecture) for architecture in asked])

    def _likely(self, history: History, asked: Sequence[Architecture]) -> Floats:
        """1 for candidates that the predictor puts nearer to what broke a bound when measured than to what held it."""
        known, num_broken = self._judged(history)
        predictor = self._predictor(-1, history, known, lambda record: -record.violation) if num_broken else None
        if predictor is None:
            return np.zeros(len(asked))
        limit = self._limit(known, predictor)
        if limit is None:
            return np.zeros(len(asked))
        return np.asarray(predictor.predict(asked).mean < limit, dtype=np.float64)

    def _judged(self, history: History) -> tuple[list[Record], int]:
        """What held or broke bounds that only measuring tells of, and how many broke one; costs what is new."""
        kept = self._judged_so_far
        if kept is None or kept[0] is not history:
            kept = history, 0, [], 0
        _, cursor, known, num_broken = kept
        for record in history.since(cursor):
            broke = self._broke_unseen(record)
            num_broken += broke
            if broke or record.is_finished:
                known.append(record)
        self._judged_so_far = history, len(history), known, num_broken
        return known, num_broken

    def _limit(self, known: Sequence[Record], predictor: Predictor) -> float | None:
        """Half way between what it predicts of those that held and those that broke, of all that it was fitted on."""
        if self._limits is None or self._limits[0] is not predictor:
            seen = self._newest(known, self._size(len(known)))
            held = np.array([record.violation == 0 for record in seen])
            between = None
            if held.any() and not held.all():
                of_seen = predictor.predict([record.architecture for record in seen]).mean
                between = float(of_seen[held].mean() + of_seen[~held].mean()) / 2
            self._limits = predictor, between
        return self._limits[1]

    def _broke_unseen(self, record: Record) -> bool:
        """Whether a record broke a bound that could not be known before."""
        return record.violation > 0 and self.scores.violation(record.architecture) == 0

    def _predictor(
        self, number: int, history: History, known: Sequence[Record], value: Callable[[Record], float]
    ) -> Predictor | None:
        """The one fitted on all but the newest of these records; None while there are too few."""
        size = self._size(len(known))
        if size == 0:
            return None
        below = [cheaper.finished for cheaper in self._cheaper(history, number)]
        sizes = [self._size(len(records)) for records in below]
        key, kept = (size, *sizes), self._fitted.get(number)
        if kept is not None and kept[0] is history and kept[1] == key:
            return kept[2]
        lower = [self._newest(records, held) for records, held in zip(below, sizes, strict=True) if held]
        predictor = self._fit(number, self._newest(known, size), value, lower)
        self._fitted[number] = (history, key, predictor)
        return predictor

    def _cheaper(self, history: History, number: int) -> tuple[History, ...]:
        """What a predictor of an objective may learn from beside the history itself."""
        is_across = PREDICTORS[self.config.predictor.name].flags.get("fidelities", False)
        return history.cheaper if is_across and number >= 0 else ()

    def _newest(self, records: Sequence[Record], size: int) -> Sequence[Record]:
        """The newest of the first `size`, at most as many as a predictor is fitted on."""
        return records[max(0, size - self.config.fitted) : size]

    def _size(self, num_known: int) -> int:
        """How many of the known records a predictor is fitted on; 0 while there are too few."""
        config = self.config
        return 0 if num_known < config.labels else num_known - (num_known - config.labels) % config.refit

    def _fit(
        self,
        number: int,
        known: Sequence[Record],
        value: Callable[[Record], float],
        lower: Sequence[Sequence[Record]],
    ) -> Predictor:
        ref = self.config.predictor
        predictor = PREDICTORS[ref.name](ref.config, self._encoder)
        rng = stream(len(known), "outlook", number)
        (measured, values), *cheaper = [
            ([record.architecture for record in records], [value(record) for record in records])
            for records in (known, *lower)
        ]
        if isinstance(predictor, AcrossFidelities):
            return predictor.fit(measured, values, rng=rng, cheaper=cheaper)
        return predictor.fit(measured, values, rng=rng)

    @cached_property
    def _encoder(self) -> Encoder:
        if self._given is not None:
            return self._given
        uses = PREDICTORS[self.config.predictor.name].flags["uses"]
        reads_layers = isinstance(uses, tuple) and "layers" in uses and self.scores.has_layers
        layers = self.scores.layers if reads_layers else None
        return SpaceEncoder(self.space, every_block(self.space), scores=self.scores, layers=layers)

    @cached_property
    def _paper(self) -> dict[int, Cost]:
        """The objectives that are costs known without measuring."""
        costs = {n: o.metric for n, o in enumerate(self.objectives) if o.level == "cost"}
        return {n: self.scores.costs[metric] for n, metric in costs.items() if metric in self.scores.costs}


def _value_or_nan(cost: Cost, architecture: Architecture) -> float:
    """The cost's value; NaN where it has none for this architecture."""
    try:
        return float(cost.measure(architecture).value)
    except MeasurementError:
        return math.nan


def placed(losses: Floats) -> Floats:
    """The losses (`architectures x objectives`) with a place, all finite, for those that are undefined (NaN).

    Within its column an undefined loss ranks behind all that are known: whoever has no value for a cost cannot be
    evaluated. Where a whole column is undefined all have the same place in it, so that it decides nothing.
    """
    is_unknown = np.isnan(losses)
    if not is_unknown.any():
        return losses
    some = ~is_unknown.all(axis=0)
    most = np.where(is_unknown, -np.inf, losses).max(axis=0, initial=-np.inf)
    least = np.where(is_unknown, np.inf, losses).min(axis=0, initial=np.inf)
    behind = np.zeros(losses.shape[1])
    behind[some] = most[some] + (most[some] - least[some]) + 1.0
    return np.where(is_unknown, behind, losses)


def pushed_back(losses: Floats, broken: Floats) -> Floats:
    """The losses, undefined ones `placed`, but those of what breaks a bound behind all others, by how much it does."""
    if not len(losses):
        return losses
    losses = placed(losses)
    behind = losses.max(axis=0, initial=0.0) + np.ptp(losses, axis=0) + 1.0
    return np.where(broken[:, None] > 0, behind * (1 + broken[:, None]), losses)


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
