"""Warm start: the first architectures are the best ranked of many, then another searcher goes on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

from pydantic import Field

from nas.history import History
from nas.resources import Objective, Proposal
from nas.scoring import Scores
from nas.searchers._outlook import best_by_weight
from nas.searchers._searcher import Searcher, proposal
from nas.searchers._warm_up import WARM_UP
from nas.searchers._wrapping import SearcherRef, Wrapper, WrappingConfig
from nas.spec import PluginRef
from searchspaces import Architecture, Plugin, Rng, SearchSpace


class WarmStartConfig(WrappingConfig):
    """Settings of `warm_start`."""

    searcher: SearcherRef = Field(
        PluginRef(name="gp_its", config={"initial": 2}), description="The searcher, with its settings, that goes on."
    )
    initial: int = Field(
        10, ge=1, le=100_000, json_schema_extra=WARM_UP, description="Architectures proposed before it goes on."
    )
    ranked: float = Field(
        0.5, gt=0, le=1, description="Share of these that rank best in the pool; the others are uniform samples."
    )
    pool: int = Field(
        1_000, ge=1, le=1_000_000, description="Uniform architectures to choose from, where the job scored none."
    )


class WarmStart(Wrapper):
    """Proposes the architectures of a pool that rank best, by a new random weighting of the objectives each.

    Costs are exact, the rest is ranked by a vote of scores. Abdelfattah et al. (2021), Zero-Cost Proxies for
    Lightweight NAS, arXiv 2101.08134. Deviation: half of what comes first are uniform samples. A model that has seen
    nothing bad yet is wrong about most of the space: with all ten from the pool, six searches of sixty on NAS-Bench-201
    got stuck.
    """

    def __init__(
        self, config: WarmStartConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None
    ) -> None:
        super().__init__(config, space, objectives, scores)
        self.num_initial, self.num_drawn, self.share = config.initial, config.pool, config.ranked

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        count = max(0, min(n, self.num_initial - history.num_proposals))
        last = history.num_proposals + count
        # Rounded up, so that the very first proposal is a ranked one.
        ranked = math.ceil(self.share * last) - math.ceil(self.share * history.num_proposals)
        first = self.filled(self._first(history, ranked, rng), history, count, rng)
        if len(first) == n:
            return first
        taken = {made.digest for made in first}
        rest = [made for made in self.inner.ask(history, n, rng) if made.digest not in taken]
        return first + rest[: n - len(first)]

    def _first(self, history: History, wanted: int, rng: Rng) -> list[Proposal]:
        if wanted <= 0:
            return []
        new = [architecture for architecture in self._pool if not history.has_seen(architecture)]
        if not new:
            return []
        chosen = best_by_weight(self.outlook.losses(history, new), wanted, rng)
        return [proposal(new[i], reason=f"best ranked of {len(self._pool)}") for i in chosen]

    @cached_property
    def _pool(self) -> list[Architecture]:
        scores = self.outlook.scores
        return scores.pool_of("warm_start", max(self.num_drawn, len(scores.pool)))


def create(
    config: WarmStartConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None = None
) -> Searcher:
    """The searcher on this space."""
    return WarmStart(config, space, objectives, scores)


PLUGIN = Plugin(
    name="warm_start",
    description="The best ranked of a pool first, then another searcher goes on",
    source="Abdelfattah et al. (2021), Zero-Cost Proxies for Lightweight NAS, arXiv 2101.08134",
    create=create,
    Config=WarmStartConfig,
    flags={"multi_objective": True, "replicates": False, "ranks": True, "pool": True},
)
