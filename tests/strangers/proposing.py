"""A searcher that counts on every decision to be active, and on ones that are not there."""

from __future__ import annotations

from collections.abc import Sequence

from nas.history import History
from nas.resources import Objective, Proposal
from nas.searchers import Searcher, proposal
from searchspaces import Config, Plugin, Rng, SearchSpace


class Proposing(Searcher):
    def __init__(self, config: Config, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        self.space = space

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        drawn = [self.space.sample(rng) for _ in range(n)]
        return [proposal(architecture, reason=architecture["depth"]) for architecture in drawn]


PLUGIN = Plugin("proposing", "By depth.", "nobody", Proposing, flags={"multi_objective": True})
