"""Spaces that hold only some of what their decisions span: every walk stays among those.

Negrinho and Gordon (2017), DeepArchitect, arXiv 1704.08792, leave such a constraint to the searcher; here the space
keeps it. Every decision of such a space is always active.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property

from searchspaces._architecture import Architecture
from searchspaces._errors import InfeasibleSpace
from searchspaces._space import Rng, SearchSpace

TRIES = 1_000
"""Draws after which a part of a space counts as one that holds next to nothing."""


class ConstrainedSpace(SearchSpace):
    """A space of which `forbidden` rules out some combinations of options.

    Walks draw again, or repair: a child that is ruled out takes over one differing option of its first parent after the
    other, in random order, until it is not.
    """

    @abstractmethod
    def forbidden(self, options: Mapping[str, str]) -> str | None:
        """Why this complete set of known options is ruled out; None when it is not."""

    def why_not(self, options: Mapping[str, str]) -> list[str]:
        reasons = super().why_not(options)
        found = None if reasons else self.forbidden(options)
        return [*reasons, *([found] if found else [])]

    def sample(self, rng: Rng) -> Architecture:
        """An architecture, every one equally likely.

        Raises:
            InfeasibleSpace: none of a thousand draws is one.
        """
        for _ in range(TRIES):
            options = {d.name: d.options[int(rng.integers(len(d.options)))] for d in self.decisions}
            if self.forbidden(options) is None:
                return self._make(options)
        raise InfeasibleSpace(f"none of {TRIES} draws from {self.name} is an architecture; restrict it less.")

    def complete(self, options: Mapping[str, str], rng: Rng) -> Architecture:
        """An architecture with these options, except those that a drawn architecture has to take over."""
        anchor = self.sample(rng)
        wanted = super().complete({**dict(anchor.options), **options}, rng)
        return self._repaired(dict(wanted.options), anchor, rng)

    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """A uniform one-edit neighbour; the architecture itself where there is none."""
        around = list(self.neighbours(architecture))
        return around[int(rng.integers(len(around)))] if around else architecture

    def cross(self, first: Architecture, second: Architecture, rng: Rng) -> Architecture:
        """Uniform crossover, repaired towards the first parent."""
        return self._repaired(dict(super().cross(first, second, rng).options), first, rng)

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """All architectures one edit away."""
        current = dict(architecture.options)
        for decision in self.decisions:
            for option in decision.options:
                edited = {**current, decision.name: option}
                if option != current[decision.name] and self.forbidden(edited) is None:
                    yield self._make(edited)

    def iterate(self) -> Iterator[Architecture]:
        """Every architecture once, in the order of the decisions (the last one changes fastest)."""
        return (found for found in super().iterate() if self.forbidden(dict(found.options)) is None)

    def size(self) -> int:
        """How many architectures there are; they are counted one by one, once."""
        return self._size

    @cached_property
    def _size(self) -> int:
        return sum(1 for _ in self.iterate())

    def _repaired(self, options: dict[str, str], anchor: Architecture, rng: Rng) -> Architecture:
        differing = [name for name, option in anchor if options[name] != option]
        for place in rng.permutation(len(differing)):
            if self.forbidden(options) is None:
                break
            options[differing[place]] = anchor[differing[place]]
        return self._make(options)
