"""LINAS: evolution on a light predictor inside, true measurements of what it finds outside."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from nas.history import History
from nas.pareto import by_rank
from nas.resources import Objective, Proposal
from nas.scoring import Scores
from nas.searchers._candidates import Candidates, CandidatesConfig
from nas.searchers._outlook import Outlook, OutlookConfig
from nas.searchers._posterior import encoder_of
from nas.searchers._searcher import Searcher, live_form, proposal
from nas.searchers._warm_up import WARM_UP
from nas.spec import PluginRef, Ref
from searchspaces import Architecture, Plugin, Rng, SearchSpace


class LinasConfig(OutlookConfig):
    """Settings of `linas`."""

    predictor: Ref = Field(
        PluginRef(name="ridge"), description="What the inner search asks; light, since it asks much."
    )
    labels: int = Field(
        20,
        ge=2,
        le=100_000,
        json_schema_extra=WARM_UP,
        description="Random architectures before the first inner search.",
    )
    population: int = Field(50, ge=4, le=10_000, description="Of the inner search.")
    generations: int = Field(10, ge=1, le=10_000, description="Of the inner search.")
    crossover: float = Field(0.9, ge=0, le=1, description="Share of children of two parents; every one is mutated.")


class Linas(Searcher):
    """Measures the best of what NSGA-II finds by predictions of what is learned and exact costs.

    Cummings et al. (2022), A Hardware-Aware Framework for Accelerating Neural Architecture Search Across Modalities
    (LINAS), arXiv 2205.10358. The inner search starts from the best that were measured and uniform samples; its whole
    memory is the order by non-dominated rank, then crowding distance, that Deb et al. (2002), NSGA-II, select by.
    Deviation: it begins anew for every batch, so that it needs no state of its own.
    """

    def __init__(
        self, config: LinasConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None
    ) -> None:
        super().__init__(space, objectives)
        self.config = config
        self.outlook = Outlook(config, space, objectives, scores, encoder_of(space))
        half = CandidatesConfig(parents=config.population // 2, samples=config.population)
        self._candidates = Candidates(half, space)

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        proposals: list[Proposal] = []
        if n and self.outlook.has_learned(history):
            found = self._inner(history, n, rng)
            proposals = [proposal(best, reason="found by the inner search") for best in found[:n]]
        return self.filled(proposals, history, n, rng)

    def _inner(self, history: History, n: int, rng: Rng) -> list[Architecture]:
        """New architectures, the best predicted first; at least `n` where so many were met."""
        size = max(self.config.population, n)
        start = [*self._candidates.incumbents(history, rng), *self._candidates.anywhere(history, rng)]
        population = list(dict.fromkeys(start))[:size]
        met: dict[Architecture, None] = dict.fromkeys(population)
        for _ in range(self.config.generations):
            children = [self._child(population, rng) for _ in range(size)]
            together = list(dict.fromkeys([*population, *children]))
            met.update(dict.fromkeys(children))
            population = [together[i] for i in by_rank(self.outlook.losses(history, together))[:size]]
        new = [architecture for architecture in met if not history.has_seen(architecture)]
        return [new[i] for i in by_rank(self.outlook.losses(history, new))] if new else []

    def _child(self, population: Sequence[Architecture], rng: Rng) -> Architecture:
        """Of the winners of tournaments of two; the population is in order, the best first."""
        first, second = (population[int(rng.integers(len(population), size=2).min())] for _ in range(2))
        child = self.space.cross(first, second, rng) if rng.random() < self.config.crossover else first
        return live_form(self.space, self.space.mutate(child, rng))


def create(
    config: LinasConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None = None
) -> Searcher:
    """The searcher on this space."""
    return Linas(config, space, objectives, scores)


PLUGIN = Plugin(
    name="linas",
    description="Evolution on a light predictor inside, true measurements outside; any number of objectives",
    source="Cummings et al. (2022), LINAS, arXiv 2205.10358",
    create=create,
    Config=LinasConfig,
    flags={"multi_objective": True, "replicates": False, "ranks": True},
)
