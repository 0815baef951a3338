"""Pre-filter: what another searcher proposes is measured only if it ranks among the better part of the space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas.history import History
from nas.resources import Objective, Proposal
from nas.scoring import Scores
from nas.searchers._searcher import Searcher
from nas.searchers._wrapping import Wrapper, WrappingConfig
from searchspaces import Architecture, Plugin, Rng, SearchSpace


class PrefilteredConfig(WrappingConfig):
    """Settings of `prefiltered`."""

    keep: float = Field(0.25, gt=0, lt=1, description="Share of the space that may be measured.")
    pool: int = Field(
        400,
        ge=16,
        le=10_000,
        description="Uniform architectures that stand for the space, where the job scored none.",
    )


class Prefiltered(Wrapper):
    """Lets through what few architectures of a uniform pool dominate in all objectives, as far as is known.

    As few as dominate the best `keep` of the pool itself. Of one objective this is a threshold on the ranking. Where
    nothing is left that passes, what the fewest dominate is measured.
    """

    def __init__(
        self, config: PrefilteredConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None
    ) -> None:
        super().__init__(config, space, objectives, scores)
        self.keep, self.num_drawn = config.keep, config.pool

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        proposed = self.inner.ask(history, math.ceil(2 * n / self.keep), rng)
        if len(proposed) <= n:
            return proposed
        asked = [self.space.parse(made.text) for made in proposed]
        losses = self.outlook.losses(history, [*self._pool, *asked])  # in one call, since votes are ranks within it
        own, others = losses[: len(self._pool)], losses[len(self._pool) :]
        limit = np.quantile(_dominating(own, own), self.keep)
        counts = _dominating(own, others)
        passing = [i for i in range(len(proposed)) if counts[i] <= limit]
        order = passing if len(passing) >= n else [int(i) for i in np.argsort(counts, kind="stable")]
        return [proposed[i] for i in order[:n]]

    @cached_property
    def _pool(self) -> list[Architecture]:
        return self.outlook.scores.pool_of("prefiltered", self.num_drawn)


def _dominating(pool: npt.NDArray[np.float64], losses: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """How many of the pool are no worse than each row in every objective, and better in one."""
    no_worse = (pool[None] <= losses[:, None]).all(axis=2)
    return np.asarray((no_worse & (pool[None] < losses[:, None]).any(axis=2)).sum(axis=1))


def create(
    config: PrefilteredConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None = None
) -> Searcher:
    """The searcher on this space."""
    return Prefiltered(config, space, objectives, scores)


PLUGIN = Plugin(
    name="prefiltered",
    description="Only what ranks among the better part of the space is measured",
    source="Abdelfattah et al. (2021), Zero-Cost Proxies for Lightweight NAS, arXiv 2101.08134",
    create=create,
    Config=PrefilteredConfig,
    flags={"multi_objective": True, "replicates": False, "ranks": True, "pool": True},
)
