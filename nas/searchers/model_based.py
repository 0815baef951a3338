"""Predictor-guided search: candidates near the incumbents and anywhere, chosen by what a predictor thinks possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from nas.history import History
from nas.pareto import nondominated
from nas.resources import EvaluationState, Objective, Proposal
from nas.scoring import Scores
from nas.searchers._outlook import Outlook, OutlookConfig, best_by_weight
from nas.searchers._searcher import Searcher, live_form, proposal
from searchspaces import Architecture, Plugin, Rng, SearchSpace

_PARENTS = 10


class ModelBasedConfig(OutlookConfig):
    """Settings of `model_based`."""

    acquisition: Literal["sample", "mean"] = Field(
        "sample", description="Candidates are compared by samples of the prediction (Thompson), or by its mean."
    )
    samples: int = Field(300, ge=0, le=100_000, description="Uniform candidates beside the neighbours of incumbents.")
    unscored: int = Field(
        64, ge=1, le=100_000, description="Most candidates of a batch that the job's proxies have to score first."
    )


class ModelBased(Searcher):
    """Measures the candidates that a predictor expects most of, by a random weighting of the objectives each.

    Until `labels` architectures are measured a vote of scores chooses among uniform candidates for half of the
    proposals, the others are uniform, so that the predictor learns from bad architectures too. Costs on paper are
    exact. White, Neiswanger and Savani (2021), BANANAS, arXiv 1910.11858, with any predictor.
    """

    def __init__(
        self, config: ModelBasedConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None
    ) -> None:
        super().__init__(space, objectives)
        self.config = config
        self.outlook = Outlook(config, space, objectives, scores)

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        if n == 0:
            return []
        is_starting = not self.outlook.has_learned(history)
        wanted = (n + 1) // 2 if is_starting else n
        parents = [] if is_starting else self._incumbents(history)
        candidates = self._candidates(parents, history, rng)
        proposals = []
        if candidates:
            drawn = rng if self.config.acquisition == "sample" else None
            losses = self.outlook.losses(history, candidates, drawn)
            reason = "best ranked by votes" if is_starting else "predictor"
            proposals = [proposal(candidates[i], reason=reason) for i in best_by_weight(losses, wanted, rng)]
        return self.filled(proposals, history, n, rng)

    def _incumbents(self, history: History) -> list[Architecture]:
        """The front, and the best by each objective."""
        finished = [r for r in history.settled if r.state is EvaluationState.FINISHED and r.values is not None]
        losses = history.losses()
        rows = [int(i) for i in np.flatnonzero(nondominated(losses))][-4 * _PARENTS :]
        for column in losses.T:
            rows += [int(i) for i in np.argsort(column, kind="stable")[:_PARENTS]]
        return [finished[i].architecture for i in dict.fromkeys(rows)]

    def _candidates(self, parents: Sequence[Architecture], history: History, rng: Rng) -> list[Architecture]:
        """New ones: of the pool, near the incumbents and anywhere, in their live form; few that proxies have to score.

        What is known to break a bound is left out while something else is left.
        """
        scores, pool = self.outlook.scores, self.outlook.scores.pool
        found = [near for parent in parents for near in self.space.neighbours(parent)]
        found += [self.space.sample(rng) for _ in range(self.config.samples)]
        of_pool = [pool[i] for i in rng.permutation(len(pool))[: self.config.samples]]
        distinct = dict.fromkeys([*of_pool, *(live_form(self.space, architecture) for architecture in found)])
        new = [architecture for architecture in distinct if not history.has_seen(architecture)]
        holding = [architecture for architecture in new if scores.violation(architecture) == 0] or new
        dear = [architecture for architecture in holding if not scores.is_free(architecture)]
        left_out = {dear[i] for i in rng.permutation(len(dear))[self.config.unscored :]}
        return [architecture for architecture in holding if architecture not in left_out]


def create(
    config: ModelBasedConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None = None
) -> Searcher:
    """The searcher on this space."""
    return ModelBased(config, space, objectives, scores)


PLUGIN = Plugin(
    name="model_based",
    description="Any predictor over mutated incumbents and uniform candidates; any number of objectives",
    source="White, Neiswanger and Savani (2021), BANANAS, arXiv 1910.11858",
    create=create,
    Config=ModelBasedConfig,
    flags={"multi_objective": True, "replicates": False, "ranks": True},
)
