"""An even walk through the space, without randomness."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas.history import History, Record
from nas.resources import Objective, Proposal
from nas.searchers._following import Floats, FollowingSearcher
from nas.searchers._searcher import proposal, unseen
from searchspaces import Architecture, Config, InvalidArchitecture, Plugin, Rng, SearchSpace

_STEPS = 256
"""Positions looked at for one proposal, before what is left is taken in the space's own order."""


class Grid(FollowingSearcher):
    """Places on a circle of (product of the numbers of options) positions, a golden section apart.

    A position is read as digits, one per decision: its share of the circle says which option the first decision takes,
    its share of that option's arc the second, and so on down the tree of `next_decision`. The step has no factor in
    common with the circle, so that every position comes once, the first n lie evenly however large n is (Weyl 1916, the
    sequence of least discrepancy), and one costs the same in a space of 10^30.

    Where decisions are conditional, a short architecture holds a wide arc and is met more than once; it is proposed
    the first time. In a (sub-)space that leaves most combinations out, the walk gives up after 256 positions and goes
    on with uniform samples.
    """

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        super().__init__(space, objectives)
        self._size = math.prod(len(decision.options) for decision in space.decisions)
        golden = self._size * 1_000_000_007 // 1_618_033_999  # big integers: a float has no digits for 10^30
        self._step = next(step for step in range(max(1, golden), 2 * self._size + 2) if math.gcd(step, self._size) == 1)
        self.forget()

    def forget(self) -> None:
        """Be as before the first record."""
        self._next = 0

    def learn(self, record: Record, loss: Floats | None) -> None:
        """Take in the next record."""
        self._next = max(self._next, record.memo.get("grid", -1) + 1)

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        self.follow(history)
        place = max([self._next, *(record.memo.get("grid", -1) + 1 for record in history.pending.values())])
        taken: set[str] = set()
        proposals: list[Proposal] = []
        while len(proposals) < n:
            found, place = self._walk(history, taken, place)
            if found is None:
                found = unseen(self.space, history, taken, rng, lambda: self.space.sample(rng))
                if found is None:
                    break
                proposals.append(proposal(found, reason="left over by the grid"))
            else:
                proposals.append(proposal(found, reason="next of the grid", memo={"grid": place - 1}))
            taken.add(found.digest)
        return proposals

    def _walk(self, history: History, taken: set[str], place: int) -> tuple[Architecture | None, int]:
        """The first new architecture from `place` on, and the place after it."""
        for step in range(place, min(place + _STEPS, self._size)):
            try:
                found = self._at(step * self._step % self._size)
            except InvalidArchitecture:
                continue
            if not history.has_seen(found) and found.digest not in taken:
                return found, step + 1
        return None, place

    def _at(self, position: int) -> Architecture:
        options: dict[str, str] = {}
        while decision := self.space.next_decision(options):
            digit, position = divmod(position * len(decision.options), self._size)
            options[decision.name] = decision.options[digit]
        return self.space.architecture(options)


def create(config: Config, space: SearchSpace, objectives: Sequence[Objective]) -> Grid:
    """The searcher on this space."""
    return Grid(space, objectives)


PLUGIN = Plugin(
    name="grid",
    description="An even walk through the space that never repeats; no randomness, no learning",
    source="Weyl (1916), Ueber die Gleichverteilung von Zahlen mod. Eins; the golden section as the step",
    create=create,
    flags={"multi_objective": True, "replicates": False},
)
