"""Nested Monte-Carlo search over a combinatorial bandit: every decision is a bandit of its own."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from nas.history import History, Record
from nas.resources import Objective, Proposal
from nas.searchers._following import Floats, FollowingSearcher, Rewards, is_comparable
from nas.searchers._searcher import proposal, unseen
from searchspaces import Architecture, Config, Plugin, Rng, SearchSpace

Prefix = tuple[str, ...]
"""The options of the first decisions."""


class CmabConfig(Config):
    """Settings of `cmab`."""

    exploration: float = Field(0.3, ge=0, le=100, description="Weight of what was seldom tried, in the first epoch.")
    decay: float = Field(0.95, gt=0, le=1, description="What that weight is multiplied by from epoch to epoch.")
    epoch: int = Field(50, ge=1, le=100_000, description="Evaluations after which the tree is grown anew.")
    simulations: int = Field(8, ge=1, le=10_000, description="Completions of which the most promising is proposed.")


@dataclass
class _Arm:
    pulls: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float:
        """Its mean reward; the highest there can be while it was never tried."""
        return self.total / self.pulls if self.pulls else 1.0


class Cmab(FollowingSearcher):
    """Down the decisions, by the first option that is untried, else by mean + alpha sqrt(2 ln N / n); behind an untried
    option the rest is completed by simulation.

    Huang, Ma, Erfani and Bailey (2021), Neural Architecture Search via Combinatorial Multi-Armed Bandit, arXiv
    2101.00336. Naive assumption: what an architecture is worth is the sum of what its options are worth, so an option's
    mean is over all architectures that have it (their rewards are ranks, see `Rewards`; any number of objectives).
    Visits, untried ones too, are those of a tree that starts anew in every epoch, while alpha decays. Of `simulations`
    random completions that with the largest mean of means is evaluated; the paper evaluates all of them, with a
    supernet's weights. A local bandit is one decision; the paper's are pairs of a cell's edges. Alpha starts at 0.3 and
    not at 1, as ranks lie wider apart than accuracies: of 15 searches of 300 on NAS-Bench-201, CIFAR-100, 13 and not 1
    find the best.
    """

    def __init__(self, config: CmabConfig, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        super().__init__(space, objectives)
        self.config = config
        self.forget()

    def forget(self) -> None:
        """Be as before the first record."""
        self._arms = {(d.name, option): _Arm() for d in self.space.decisions for option in d.options}
        self._rewarded: list[Architecture] = []
        self._rewards = Rewards()
        self._trees: dict[int, Counter[Prefix]] = {}

    def learn(self, record: Record, loss: Floats | None) -> None:
        """Take in the next record: a pull of each of its options."""
        _grow(self._trees, record.number // self.config.epoch, record.architecture)
        if not is_comparable(record):
            return
        version = self._rewards.version
        self._rewards.add(record.violation, loss, len(self.objectives))
        self._rewarded.append(record.architecture)
        newest = len(self._rewarded) - 1
        if self._rewards.version == version:
            self._pull(newest)
            return
        self._arms = {arm: _Arm() for arm in self._arms}
        for position in range(newest + 1):
            self._pull(position)

    def _pull(self, position: int) -> None:
        for arm in self._rewarded[position]:
            self._arms[arm].pulls += 1
            self._arms[arm].total += self._rewards[position]

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        self.follow(history)
        self._trees = {epoch: tree for epoch, tree in self._trees.items() if epoch >= self._epoch(history, 0)}
        trees = {epoch: tree.copy() for epoch, tree in self._trees.items()}
        for record in history.pending.values():
            _grow(trees, record.number // self.config.epoch, record.architecture)
        taken: set[str] = set()
        proposals: list[Proposal] = []
        while len(proposals) < n:
            epoch = self._epoch(history, len(proposals))
            tree = trees.setdefault(epoch, Counter())
            alpha = self.config.exploration * self.config.decay**epoch
            found = unseen(self.space, history, taken, rng, lambda: self._descend(tree, alpha, rng))  # noqa: B023
            if found is None:
                break
            _grow(trees, epoch, found)
            taken.add(found.digest)
            proposals.append(proposal(found, reason="completed descent over the bandits"))
        return proposals

    def _epoch(self, history: History, more: int) -> int:
        return (history.num_proposals + more) // self.config.epoch

    def _descend(self, tree: Counter[Prefix], alpha: float, rng: Rng) -> Architecture:
        options: dict[str, str] = {}
        prefix: Prefix = ()
        while decision := self.space.next_decision(options):
            untried = [option for option in decision.options if not tree[*prefix, option]]
            if untried:
                options[decision.name] = untried[int(rng.integers(len(untried)))]
                break
            log = 2 * math.log(tree[prefix])
            bounds = [
                self._arms[decision.name, option].mean + alpha * math.sqrt(log / tree[*prefix, option])
                for option in decision.options
            ]
            options[decision.name] = decision.options[bounds.index(max(bounds))]
            prefix = (*prefix, options[decision.name])
        completions = [self.space.complete(options, rng) for _ in range(self.config.simulations)]
        return max(completions, key=self._worth)

    def _worth(self, architecture: Architecture) -> float:
        return sum(self._arms[arm].mean for arm in architecture) / len(architecture.options)


def _grow(trees: dict[int, Counter[Prefix]], epoch: int, architecture: Architecture) -> None:
    """Count a visit to every node above the architecture in the epoch's tree."""
    chosen = tuple(option for _, option in architecture)
    trees.setdefault(epoch, Counter()).update(chosen[:i] for i in range(len(chosen) + 1))


def create(config: CmabConfig, space: SearchSpace, objectives: Sequence[Objective]) -> Cmab:
    """The searcher on this space."""
    return Cmab(config, space, objectives)


PLUGIN = Plugin(
    name="cmab",
    description="Nested Monte-Carlo search over a combinatorial bandit that adds up what single options are worth",
    source="Huang et al. (2021), Neural Architecture Search via Combinatorial Multi-Armed Bandit, arXiv 2101.00336",
    create=create,
    Config=CmabConfig,
    flags={"multi_objective": True, "replicates": False},
)
