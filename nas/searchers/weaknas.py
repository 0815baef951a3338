"""WeakNAS: weak predictors fitted again and again, each of which only narrows down where the next samples come from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import islice

from pydantic import Field

from nas.history import History
from nas.pareto import by_rank
from nas.resources import Objective, Proposal
from nas.scoring import Scores
from nas.searchers._outlook import Outlook, OutlookConfig, placed, pushed_back
from nas.searchers._posterior import encoder_of
from nas.searchers._searcher import Searcher, live_form, proposal
from nas.searchers._warm_up import WARM_UP
from nas.spec import PluginRef, Ref
from predictors.encoding import Floats
from searchspaces import Architecture, Plugin, Rng, SearchSpace

_AHEAD = 10  # times as many as are drawn from: of these it is asked whether they break a bound


class WeaknasConfig(OutlookConfig):
    """Settings of `weaknas`."""

    predictor: Ref = Field(
        PluginRef(name="random_forest", config={"trees": 50}), description="What ranks; light, since it ranks much."
    )
    labels: int = Field(
        10, ge=2, le=100_000, json_schema_extra=WARM_UP, description="Random architectures before the first predictor."
    )
    refit: int = Field(10, ge=1, le=100_000, description="New measurements after which the predictor is fitted again.")
    fitted: int = Field(1_000, ge=16, le=100_000, description="Most measurements it is fitted on: the newest.")
    top: int = Field(100, ge=1, le=100_000, description="So many of the best ranked are drawn from, all alike.")
    ranked: int = Field(
        16_000,
        ge=16,
        le=1_000_000,
        description="The largest space that is ranked whole.",
    )
    samples: int = Field(2_000, ge=16, le=1_000_000, description="Uniform part that is ranked of a larger space.")


class Weaknas(Searcher):
    """Draws uniformly from the hundred unseen architectures of the whole space that rank best.

    Wu et al. (2021), Stronger NAS with Weaker Predictors, NeurIPS, arXiv 2102.10490. Deviations: several objectives are
    ranked by non-dominated rank, then by crowding distance; of a space with more than `ranked` architectures the same
    `samples` are ranked every time, or the pool where the job scored one; proposals are in their live form.
    """

    def __init__(
        self, config: WeaknasConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None
    ) -> None:
        super().__init__(space, objectives)
        self.config = config
        self.outlook = Outlook(config, space, objectives, scores, encoder_of(space))
        self._kept: tuple[History, tuple[int, ...], Floats] | None = None

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        proposals: list[Proposal] = []
        if n and self.outlook.has_learned(history):
            new = [i for i, architecture in enumerate(self._ranked) if not history.has_seen(architecture)]
            top = max(self.config.top, n)
            expected = self._expected(history)[new]
            ahead = by_rank(placed(expected))[: _AHEAD * top]
            asked = [self._ranked[new[i]] for i in ahead]
            order = by_rank(pushed_back(expected[ahead], self.outlook.broken(history, asked)))[:top]
            chosen = rng.permutation(order)[:n]
            proposals = [proposal(asked[i], reason=f"among the {len(order)} best ranked") for i in chosen]
        return self.filled(proposals, history, n, rng)

    def _expected(self, history: History) -> Floats:
        """Of all that is ranked; kept until the predictor is fitted anew."""
        key = (self.outlook.num_learned(history), *map(len, history.cheaper))
        if self._kept is None or self._kept[0] is not history or self._kept[1] != key:
            self._kept = history, key, self.outlook.expected(history, self._ranked)
        return self._kept[2]

    @cached_property
    def _ranked(self) -> list[Architecture]:
        """The whole space, or a part of it."""
        everything = list(islice(self.space.iterate(), self.config.ranked + 1))
        if len(everything) > self.config.ranked:
            everything = self.outlook.scores.pool_of("weaknas", self.config.samples)
        return list(dict.fromkeys(live_form(self.space, architecture) for architecture in everything))


def create(
    config: WeaknasConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None = None
) -> Searcher:
    """The searcher on this space."""
    return Weaknas(config, space, objectives, scores)


PLUGIN = Plugin(
    name="weaknas",
    description="Uniform draws from the best hundred of the whole space by a predictor that is fitted again and again",
    source="Wu et al. (2021), Stronger NAS with Weaker Predictors, arXiv 2102.10490",
    create=create,
    Config=WeaknasConfig,
    flags={"multi_objective": True, "replicates": False, "ranks": True, "pool": True},
)
