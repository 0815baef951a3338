"""Assisted search: of several proposals of another searcher, the one that ranks best is measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from nas.history import History
from nas.resources import Objective, Proposal
from nas.scoring import Scores
from nas.searchers._outlook import best_by_weight
from nas.searchers._searcher import Searcher
from nas.searchers._wrapping import Wrapper, WrappingConfig
from searchspaces import Plugin, Rng, SearchSpace


class AssistedConfig(WrappingConfig):
    """Settings of `assisted`."""

    of: int = Field(10, ge=2, le=10_000, description="Proposals of the held searcher, of which one is measured.")


class Assisted(Wrapper):
    """Asks the held searcher for ten times as many, and keeps the best of each ten.

    The best by the outlook: exact costs, and what a vote of scores or a predictor says of the rest; several objectives
    by a random weighting. Zhang and Jia (2022), GradSign, arXiv 2110.08616, with proxies as the only judge.
    """

    def __init__(
        self, config: AssistedConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None
    ) -> None:
        super().__init__(config, space, objectives, scores)
        self.num_each = config.of

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        proposed = self.inner.ask(history, n * self.num_each, rng)
        if len(proposed) <= n:
            return proposed
        losses = self.outlook.losses(history, [self.space.parse(made.text) for made in proposed])
        groups = np.array_split(np.arange(len(proposed)), n)
        kept = [int(group[best_by_weight(losses[group], 1, rng)[0]]) for group in groups]
        return [proposed[i].model_copy(update={"reason": f"best ranked: {proposed[i].reason}"}) for i in kept]


def create(
    config: AssistedConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None = None
) -> Searcher:
    """The searcher on this space."""
    return Assisted(config, space, objectives, scores)


PLUGIN = Plugin(
    name="assisted",
    description="Of several proposals of another searcher, the best ranked one is measured",
    source="Zhang and Jia (2022), GradSign, arXiv 2110.08616",
    create=create,
    Config=AssistedConfig,
    flags={"multi_objective": True, "replicates": False, "ranks": True},
)
