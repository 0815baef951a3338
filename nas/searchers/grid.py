"""An even walk through the space, without randomness."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas.history import History, Record
from nas.resources import Objective, Proposal
from nas.searchers._following import Floats, FollowingSearcher
from nas.searchers._searcher import proposal, unseen
from nas.streams import stream
from searchspaces import Architecture, Config, Plugin, Rng, SearchSpace

_STEPS = 64
"""Positions looked at for one proposal, before what is left is taken at random and then in the space's own order."""


class Grid(FollowingSearcher):
    """The architectures in an order in which the first n lie evenly, however large n is.

    Position k is written in digits, one per decision, the decision with most options first and fastest; a decision's
    option is its own digit plus fixed multiples of all faster ones. So every combination comes once, any run of as many
    positions as a decision has options tends to hold each of them once, and a position costs the same in a space of
    10^30. The map is a triangular generator matrix as in Niederreiter (1987), Point Sets and Sequences with Small
    Discrepancy, over mixed bases.

    Where decisions are conditional, a short architecture stands for many combinations, and is proposed the first time;
    where the space rules a combination out, what it makes of it is proposed.
    """

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        super().__init__(space, objectives)
        self._order = sorted(space.decisions, key=lambda decision: -len(decision.options))
        self._size = math.prod(len(decision.options) for decision in self._order)
        self._multiples = [_multiples(place, len(decision.options)) for place, decision in enumerate(self._order)]
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
            found, place = self._walk(history, taken, place, rng)
            if found is None:
                found = unseen(self.space, history, taken, rng, lambda: self.space.sample(rng))
                if found is None:
                    break
                proposals.append(proposal(found, reason="left over by the grid"))
            else:
                proposals.append(proposal(found, reason="next of the grid", memo={"grid": place - 1}))
            taken.add(found.digest)
        return proposals

    def _walk(self, history: History, taken: set[str], place: int, rng: Rng) -> tuple[Architecture | None, int]:
        """The first new architecture from `place` on, and the place after it."""
        for step in range(place, min(place + _STEPS, self._size)):
            found = self.space.complete(self._at(step), rng)
            if not history.has_seen(found) and found.digest not in taken:
                return found, step + 1
        return None, place

    def _at(self, position: int) -> dict[str, str]:
        """The option of every decision, active or not."""
        digits: list[int] = []
        while position:
            position, digit = divmod(position, len(self._order[len(digits)].options))
            digits.append(digit)
        found = {}
        for place, (decision, multiples) in enumerate(zip(self._order, self._multiples, strict=True)):
            own = digits[place] if place < len(digits) else 0
            level = own + sum(digit * multiple for digit, multiple in zip(digits, multiples, strict=False))
            found[decision.name] = decision.options[level % len(decision.options)]
        return found


def _multiples(place: int, base: int) -> list[int]:
    """What each faster digit counts for; the fastest steps through all options, so its multiple is a unit."""
    rng = stream(place, "grid")
    found: list[int] = rng.integers(base, size=place).tolist()
    units = [unit for unit in range(1, base + 1) if math.gcd(unit, base) == 1]
    return [units[int(rng.integers(len(units)))], *found[1:]] if found else found


def create(config: Config, space: SearchSpace, objectives: Sequence[Objective]) -> Grid:
    """The searcher on this space."""
    return Grid(space, objectives)


PLUGIN = Plugin(
    name="grid",
    description="An even walk through the space that never repeats and learns nothing",
    source="Niederreiter (1987), Point Sets and Sequences with Small Discrepancy",
    create=create,
    flags={"multi_objective": True, "replicates": False},
)
