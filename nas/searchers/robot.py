"""RoBoT: weights over scores; the architecture that they put on top is measured, then those down the best ranking."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import cached_property

import numpy as np
from pydantic import Field

from nas.history import History
from nas.resources import EvaluationState, Objective, Proposal
from nas.scoring import Scores
from nas.searchers._searcher import Searcher, proposal
from nas.streams import stream
from predictors.encoding import Floats
from predictors.surrogates import Normalisation, Query, RobotResult, ranking, robot_queries
from searchspaces import Architecture, Config, Plugin, Rng, SearchSpace


class RobotConfig(Config):
    """Settings of `robot`."""

    budget: int = Field(
        20,
        ge=2,
        le=1_000,
        json_schema_extra={"warm_up": 1.0},
        description="Measurements within which weights are searched for, half of them random; what comes after goes "
        "down the ranking of the best.",
    )
    pool: int = Field(
        1_000, ge=2, le=1_000_000, description="Uniform architectures to choose from, where the job scored none."
    )
    normalisation: Normalisation = Field(
        "rank", description="Scores to 0 to 1 over the pool: by rank, or linearly between the extremes (min_max)."
    )


class Robot(Searcher):
    """`predictors.surrogates.robot_search` over the sizes and the job's proxies of a pool.

    He et al. (2024), Robustifying and Boosting Training-Free Neural Architecture Search (RoBoT), ICLR. While the
    architecture that it waits for is under way, the ranking by the best weights so far is followed. What fails or
    breaks a bound leaves the pool; then the search goes through its steps again with what is known, and asks only for
    what is new. Where the pool is used up, uniform samples follow.
    """

    def __init__(
        self, config: RobotConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None
    ) -> None:
        super().__init__(space, objectives)
        self.config, self.scores = config, scores or Scores(space)
        self._history: History | None = None
        self._asked: Query | None = None

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        self._follow(history)
        found = dict.fromkeys(a for a in self._next() if not history.has_seen(a)) if n else {}
        proposals = [proposal(architecture, reason="best by weighted scores") for architecture in list(found)[:n]]
        return self.filled(proposals, history, n, rng)

    def _follow(self, history: History) -> None:
        """Go on for as long as the values asked for are known."""
        if history is not self._history:
            self._history, self._cursor = history, 0
            self._values, self._out = dict[Architecture, float](), set[Architecture]()
            self._begin()
        for record in history.since(self._cursor):
            loss = history.loss(record)
            if record.state is EvaluationState.FINISHED and loss is not None:
                self._values[record.architecture] = -float(loss[0])
            elif record.architecture in self._all:
                self._out.add(record.architecture)
        if self._out & set(self._left):
            self._begin()
        self._cursor = len(history)
        while self._asked is not None and (value := self._values.get(self._left[self._asked.row])) is not None:
            try:
                self._asked = self._queries.send(value)
            except StopIteration as end:
                self._asked, self._weights = None, end.value.weights

    def _begin(self) -> None:
        kept = [row for row, architecture in enumerate(self._all) if architecture not in self._out]
        self._left, self._scored = [list(self._all)[row] for row in kept], self._columns[kept]
        self._weights = np.zeros(self._columns.shape[1])
        rng, self._asked = stream(self.scores.seed, "robot", "weights"), None
        if self._scored.size:
            self._queries: Generator[Query, float, RobotResult] = robot_queries(
                self._scored, self.config.budget, rng=rng, normalisation=self.config.normalisation
            )
            self._asked = next(self._queries)

    def _next(self) -> Iterator[Architecture]:
        """What is wanted next, then down the best ranking so far."""
        if self._asked is not None:
            yield self._left[self._asked.row]
        weights = self._weights if self._asked is None else self._asked.weights
        yield from (self._left[row] for row in ranking(self._scored, weights, self.config.normalisation))

    @cached_property
    def _all(self) -> dict[Architecture, int]:
        """The pool."""
        pool = self.scores.pool_of("robot", max(self.config.pool, len(self.scores.pool)))
        return {architecture: row for row, architecture in enumerate(pool) if self.scores.violation(architecture) == 0}

    @cached_property
    def _columns(self) -> Floats:
        return self.scores(list(self._all)).values


def create(
    config: RobotConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None = None
) -> Searcher:
    """The searcher on this space."""
    return Robot(config, space, objectives, scores)


PLUGIN = Plugin(
    name="robot",
    description="Weights over scores, found by Bayesian optimisation, choose from a pool; one objective",
    source="He et al. (2024), Robustifying and Boosting Training-Free Neural Architecture Search (RoBoT), ICLR",
    create=create,
    Config=RobotConfig,
    flags={"multi_objective": False, "replicates": False, "ranks": True, "pool": True},
)
