"""Uniform sampling without replacement: the baseline every search is held against."""

from __future__ import annotations

from collections.abc import Sequence

from nas.history import History
from nas.resources import Objective, Proposal
from nas.searchers._searcher import Searcher, proposal, unseen
from searchspaces import Config, Plugin, Rng, SearchSpace


class RandomSearcher(Searcher):
    """Every architecture that was not proposed yet is equally likely."""

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        taken: set[str] = set()
        proposals: list[Proposal] = []
        while len(proposals) < n:
            found = unseen(self.space, history, taken, rng, lambda: self.space.sample(rng))
            if found is None:
                break
            taken.add(found.digest)
            proposals.append(proposal(found, reason="random"))
        return proposals


def create(config: Config, space: SearchSpace, objectives: Sequence[Objective]) -> RandomSearcher:
    """The searcher on this space."""
    return RandomSearcher(space, objectives)


PLUGIN = Plugin(
    name="random",
    description="Uniform sampling without replacement; the baseline",
    source="Li and Talwalkar (2019), Random Search and Reproducibility for NAS, arXiv 1902.07638",
    create=create,
    flags={"multi_objective": True, "replicates": False},
)
