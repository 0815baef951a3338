"""Predictor-guided search: candidates near the incumbents and anywhere, chosen by what a predictor thinks possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from nas.history import History
from nas.resources import Objective, Proposal
from nas.scoring import Scores
from nas.searchers._candidates import Candidates, CandidatesConfig
from nas.searchers._outlook import Outlook, OutlookConfig, best_by_weight
from nas.searchers._searcher import Searcher, proposal
from predictors.encoding import Encoder
from searchspaces import Architecture, Plugin, Rng, SearchSpace


class ModelBasedConfig(OutlookConfig, CandidatesConfig):
    """Settings of `model_based`."""

    acquisition: Literal["sample", "mean"] = Field(
        "sample", description="Candidates are compared by samples of the prediction (Thompson), or by its mean."
    )
    samples: int = Field(300, ge=0, le=100_000, description="Uniform candidates beside the neighbours of incumbents.")
    voted: float = Field(
        0.5, ge=0, le=1, description="Share of the first proposals that the vote chooses; the others are uniform."
    )
    unscored: int = Field(
        64, ge=1, le=100_000, description="Most candidates of a batch that the job's proxies have to score first."
    )


class ModelBased(Searcher):
    """Measures the candidates that a predictor expects most of, by a random weighting of the objectives each.

    Until `labels` architectures are measured a vote of scores chooses among uniform candidates for a share of the
    proposals, the others are uniform, so that the predictor learns from bad architectures too. Costs on paper are
    exact. White, Neiswanger and Savani (2021), BANANAS, arXiv 1910.11858, with any predictor.
    """

    def __init__(
        self,
        config: ModelBasedConfig,
        space: SearchSpace,
        objectives: Sequence[Objective],
        scores: Scores | None,
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__(space, objectives)
        self.config = config
        self.outlook = Outlook(config, space, objectives, scores, encoder)
        self._candidates = Candidates(config, space, self.outlook.scores.pool)

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        if n == 0:
            return []
        is_starting = not self.outlook.has_learned(history)
        wanted = math.ceil(self.config.voted * n) if is_starting else n
        candidates = self._affordable(
            self._candidates.anywhere(history, rng) if is_starting else self._candidates(history, rng), rng
        )
        proposals = []
        if wanted and candidates:
            drawn = rng if self.config.acquisition == "sample" else None
            losses = self.outlook.losses(history, candidates, drawn)
            reason = "best ranked by votes" if is_starting else "predictor"
            proposals = [proposal(candidates[i], reason=reason) for i in best_by_weight(losses, wanted, rng)]
        return self.filled(proposals, history, n, rng)

    def _affordable(self, candidates: Sequence[Architecture], rng: Rng) -> list[Architecture]:
        """Few that proxies have to score; what is known to break a bound is left out while something else is left."""
        scores = self.outlook.scores
        holding = [architecture for architecture in candidates if scores.violation(architecture) == 0] or candidates
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
