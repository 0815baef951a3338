"""Monte-Carlo tree search over the decisions of a space."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from pydantic import Field

from nas.history import History, Record
from nas.resources import Objective, Proposal
from nas.searchers._following import Floats, FollowingSearcher, Rewards, is_comparable
from nas.searchers._searcher import proposal, unseen
from searchspaces import Architecture, Config, Decision, Plugin, Rng, SearchSpace

Path = tuple[int, ...]
"""From the root: which branch was taken at every fork."""
Arc = tuple[int, int]
"""The options from the first number up to the second, in the order of the decision."""


class MctsConfig(Config):
    """Settings of `mcts`."""

    exploration: float = Field(0.3, ge=0, le=100, description="Weight of what was seldom tried; rewards lie in 0..1.")
    bisection: bool = Field(
        True, description="Whether an ordinal decision is a tree of halves, so that near options share what is learned."
    )


@dataclass
class _Node:
    visits: int = 0
    total: float = 0.0


class Mcts(FollowingSearcher):
    """From the root the branch with the largest mean reward + c sqrt(2 ln N / n), to a node with untried branches; one
    of them is tried, and the decisions behind it are drawn uniformly.

    Kocsis and Szepesvari (2006), Bandit Based Monte-Carlo Planning, on the tree that `next_decision` spans, as Negrinho
    and Gordon (2017), DeepArchitect, arXiv 1704.08792; from there the bisection too. Every measured architecture adds
    one node. Rewards are ranks (see `Rewards`), any number of objectives. As these lie wider apart than accuracies, c
    is 0.3 and not 1: of 15 searches of 300 on NAS-Bench-201, CIFAR-100, 10 and not 1 find the best. Evaluations under
    way count as visits without a reward (Liu et al. 2020, Watch the Unobserved, arXiv 1810.11755), so that a batch
    spreads; what was proposed is closed, and so is a node whose branches all are.
    """

    def __init__(self, config: MctsConfig, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        super().__init__(space, objectives)
        self.config = config
        self.forget()

    def forget(self) -> None:
        """Be as before the first record."""
        self._nodes: dict[Path, _Node] = {(): _Node()}
        self._rewarded: list[tuple[Path, int]] = []  # of every rewarded record: its leaf, and how many nodes it visited
        self._rewards = Rewards()
        self._closed: set[Path] = set()

    def learn(self, record: Record, loss: Floats | None) -> None:
        """Take in the next record: a visit to the nodes above it, the first missing one among them."""
        leaf, forks = self._path(record.architecture)
        _close(leaf, forks, self._closed, ())
        if not is_comparable(record):
            return
        depth = next((i for i in range(len(leaf) + 1) if leaf[:i] not in self._nodes), len(leaf))
        self._nodes.setdefault(leaf[:depth], _Node())
        self._rewarded.append((leaf, depth + 1))
        version = self._rewards.version
        self._rewards.add(record.violation, loss, len(self.objectives))
        for i in range(depth + 1):
            self._nodes[leaf[:i]].visits += 1
            self._nodes[leaf[:i]].total += self._rewards[len(self._rewards) - 1]
        if self._rewards.version != version:
            self._sum_anew()

    def _sum_anew(self) -> None:
        for node in self._nodes.values():
            node.total = 0.0
        for position, (leaf, num_visited) in enumerate(self._rewarded):
            for i in range(num_visited):
                self._nodes[leaf[:i]].total += self._rewards[position]

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        self.follow(history)
        under_way, closed = Counter[Path](), set[Path]()
        for record in history.pending.values():
            self._count(record.architecture, under_way, closed)
        taken: set[str] = set()
        proposals: list[Proposal] = []
        while len(proposals) < n:
            found = unseen(self.space, history, taken, rng, lambda: self._descend(under_way, closed, rng))
            if found is None:
                break
            self._count(found, under_way, closed)
            taken.add(found.digest)
            proposals.append(proposal(found, reason="leaf of the search tree"))
        return proposals

    # --- the tree ----------------------------------------------------------------------------------------------------

    def _descend(self, under_way: Counter[Path], closed: set[Path], rng: Rng) -> Architecture:
        """An open leaf, as the tree has it, then at random; any architecture when none is open."""
        path, options, forks = Path(), dict[str, str](), list[int]()
        while decision := self.space.next_decision(options):
            first, last = 0, len(decision.options)
            while last - first > 1:
                arcs = self._arcs(decision, (first, last))
                open_arcs = [i for i in range(len(arcs)) if not self._is_closed((*path, i), closed)]
                if not open_arcs:
                    return self.space.sample(rng)
                chosen = self._branch(path, arcs, open_arcs, under_way, rng)
                path, (first, last) = (*path, chosen), arcs[chosen]
                forks.append(len(arcs))
            options[decision.name] = decision.options[first]
        found = self.space.complete(options, rng)
        if dict(found.options) != options:  # ruled out by the space
            _close(path, forks, closed, self._closed)
        return found

    def _branch(
        self, path: Path, arcs: Sequence[Arc], open_arcs: Sequence[int], under_way: Counter[Path], rng: Rng
    ) -> int:
        """Behind the tree's edge a branch by its number of options, else an untried one, else that of the bound."""
        untried = [i for i in open_arcs if (*path, i) not in self._nodes and not under_way[*path, i]]
        if path not in self._nodes or untried:
            drawn = untried if path in self._nodes else open_arcs
            ends = list(accumulate(arcs[i][1] - arcs[i][0] for i in drawn))
            return drawn[bisect_right(ends, int(rng.integers(ends[-1])))]
        parent = self._nodes[path]
        log = math.log(max(1, parent.visits + under_way[path]))

        def bound(i: int) -> float:
            child = self._nodes.get((*path, i), _Node())
            visits = child.visits + under_way[*path, i]
            known = child if child.visits else parent
            mean = known.total / known.visits if known.visits else 0.0
            return mean + self.config.exploration * math.sqrt(2 * log / visits)

        return max(open_arcs, key=bound)

    def _arcs(self, decision: Decision, arc: Arc) -> list[Arc]:
        first, last = arc
        if self.config.bisection and decision.kind == "ordinal":
            middle = (first + last + 1) // 2
            return [(first, middle), (middle, last)]
        return [(i, i + 1) for i in range(first, last)]

    def _path(self, architecture: Architecture) -> tuple[Path, list[int]]:
        """The leaf of an architecture, and how many branches there are at every fork on the way."""
        steps = list(self._steps(architecture))
        return tuple(branch for branch, _ in steps), [number for _, number in steps]

    def _steps(self, architecture: Architecture) -> Iterator[tuple[int, int]]:
        options: dict[str, str] = {}
        while decision := self.space.next_decision(options):
            options[decision.name] = architecture[decision.name]
            target, arc = decision.options.index(architecture[decision.name]), (0, len(decision.options))
            while arc[1] - arc[0] > 1:
                arcs = self._arcs(decision, arc)
                branch = next(i for i, (first, last) in enumerate(arcs) if first <= target < last)
                yield branch, len(arcs)
                arc = arcs[branch]

    def _count(self, architecture: Architecture, under_way: Counter[Path], closed: set[Path]) -> None:
        leaf, forks = self._path(architecture)
        under_way.update(leaf[:i] for i in range(len(leaf) + 1))
        _close(leaf, forks, closed, self._closed)

    def _is_closed(self, path: Path, closed: set[Path]) -> bool:
        return path in self._closed or path in closed


def _close(leaf: Path, forks: Sequence[int], closed: set[Path], too: set[Path] | tuple[()]) -> None:
    """Close a leaf, and every node above it whose branches are all closed, here or in `too`."""
    closed.add(leaf)
    for depth in range(len(leaf) - 1, -1, -1):
        above = leaf[:depth]
        if not all((*above, i) in closed or (*above, i) in too for i in range(forks[depth])):
            return
        closed.add(above)


def create(config: MctsConfig, space: SearchSpace, objectives: Sequence[Objective]) -> Mcts:
    """The searcher on this space."""
    return Mcts(config, space, objectives)


PLUGIN = Plugin(
    name="mcts",
    description="Monte-Carlo tree search: upper confidence bounds down the tree of decisions, random roll-outs below",
    source="Kocsis and Szepesvari (2006), Bandit Based Monte-Carlo Planning; Negrinho and Gordon (2017), "
    "DeepArchitect, arXiv 1704.08792",
    create=create,
    Config=MctsConfig,
    flags={"multi_objective": True, "replicates": False},
)
