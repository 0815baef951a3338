"""Some given architectures of a space, as a space of their own: what a table holds, for example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from searchspaces._architecture import Architecture
from searchspaces._errors import InfeasibleSpace
from searchspaces._space import Counts, Decision, Extremes, Rng, SearchSpace

if TYPE_CHECKING:
    import networkx
    from torch import nn

    from searchspaces._supernet import Supernet

NEAREST = 8
"""Neighbours that a member has at least, where there are so many others."""


class Members(SearchSpace):
    """The architectures of `space` that `texts` name.

    Walks go to the nearest members: those with the fewest decisions that differ (by `encode`), the earlier one where it
    is equal. Nothing is parsed before it is asked for; a walk among 20,000 members takes about a millisecond.

    Args:
        space: whose decisions, networks, drawings and costs the members have.
        texts: the members, each as `space` writes it, none twice.
    """

    def __init__(self, space: SearchSpace, texts: Sequence[str]) -> None:
        super().__init__(space.name, space.config, space.decisions)
        self.space, self.texts = space, tuple(texts)
        self.has_networks, self.has_counts = space.has_networks, space.has_counts
        self._rows = {text: row for row, text in enumerate(self.texts)}
        self._parsed: dict[int, Architecture] = {}

    # --- membership --------------------------------------------------------------------------------------------------

    def why_not(self, options: Mapping[str, str]) -> list[str]:
        reasons = self.space.why_not(options)
        if not reasons and self.text(options) not in self._rows:
            reasons = [f"it is not one of the {len(self.texts)} that are known here"]
        return reasons

    def size(self) -> int:
        return len(self.texts)

    def iterate(self) -> Iterator[Architecture]:
        """Every member once, in the order given."""
        return (self._at(row) for row in range(len(self.texts)))

    def sample(self, rng: Rng) -> Architecture:
        """A member, every one equally likely.

        Raises:
            InfeasibleSpace: there is none.
        """
        if not self.texts:
            raise InfeasibleSpace(f"no architecture of this part of {self.name} is known here; restrict it less.")
        return self._at(int(rng.integers(len(self.texts))))

    # --- walking -----------------------------------------------------------------------------------------------------

    def complete(self, options: Mapping[str, str], rng: Rng) -> Architecture:
        """A member that shares as many of these options as any does, drawn among those."""
        wanted = [
            float(options.get(decision.name) == option) for decision in self.decisions for option in decision.options
        ]
        shared = self._encoded @ np.array(wanted, dtype=np.float32)
        best = np.flatnonzero(shared == shared.max(initial=0.0))
        return self._at(int(best[rng.integers(len(best))])) if len(best) else self.sample(rng)

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """The members one edit away; where these are fewer than eight, the eight nearest."""
        return (self._at(row) for row in self._near(architecture))

    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """One of the neighbours, every one equally likely; the architecture itself where it is alone."""
        near = self._near(architecture)
        return self._at(near[int(rng.integers(len(near)))]) if near else architecture

    def cross(self, first: Architecture, second: Architecture, rng: Rng) -> Architecture:
        """The member nearest to the crossover of two."""
        return self._at(int(self._distances(self.space.cross(first, second, rng)).argmin()))

    def _near(self, architecture: Architecture) -> list[int]:
        distances = self._distances(architecture)
        if architecture.text in self._rows:
            distances[self._rows[architecture.text]] = np.inf
        others = int(np.isfinite(distances).sum())
        number = max(int((distances <= 1).sum()), min(NEAREST, others))
        if number == 0:
            return []
        reach = np.partition(distances, number - 1)[number - 1]
        rows = np.flatnonzero(distances <= reach)
        found: list[int] = rows[np.argsort(distances[rows], kind="stable")][:number].tolist()
        return found

    def _distances(self, architecture: Architecture) -> npt.NDArray[np.float32]:
        """To every member; half the squared distance of encodings is the number of decisions that differ."""
        code = self.space.encode(architecture)
        return np.asarray((self._lengths + code @ code) / 2 - self._encoded @ code)

    @cached_property
    def _encoded(self) -> npt.NDArray[np.float32]:
        return self.space.encode_all(self.texts)

    @cached_property
    def _lengths(self) -> npt.NDArray[np.float32]:
        return np.asarray((self._encoded**2).sum(axis=1))

    def _at(self, row: int) -> Architecture:
        if row not in self._parsed:
            self._parsed[row] = self.space.parse(self.texts[row])
        return self._parsed[row]

    def _restricted(self, decision: Decision, options: Sequence[str]) -> SearchSpace:
        held = [text for text in self.texts if self.space.read(text).get(decision.name, options[0]) in options]
        return Members(self.space._restricted(decision, options), held)

    # --- sameness ----------------------------------------------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Architecture:
        """The space's own representative where it is a member, else the first member of the class."""
        found = self.space.canonical(architecture)
        return found if found.text in self._rows else self._at(self._first[found])

    @cached_property
    def _first(self) -> dict[Architecture, int]:
        """Representative -> the first member of its class."""
        found: dict[Architecture, int] = {}
        for row, member in enumerate(self.iterate()):
            found.setdefault(self.space.canonical(member), row)
        return found

    def live(self, architecture: Architecture) -> Architecture:
        """The architecture without what cannot reach the output where that is a member, else the architecture."""
        found = self.space.live(architecture)
        return found if found.text in self._rows else architecture

    # --- what the space knows ----------------------------------------------------------------------------------------

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.space.input_shape

    def text(self, options: Mapping[str, str]) -> str:
        return self.space.text(options)

    def read(self, text: str) -> dict[str, str]:
        return self.space.read(text)

    def encode(self, architecture: Architecture) -> npt.NDArray[np.float32]:
        return self.space.encode(architecture)

    def encode_all(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return self.space.encode_all(texts)

    def graph(self, architecture: Architecture) -> networkx.MultiDiGraph:
        return self.space.graph(architecture)

    def ways(self) -> list[tuple[str, ...]]:
        return self.space.ways()

    def is_connected(self, architecture: Architecture) -> bool:
        return self.space.is_connected(architecture)

    def counts(self, architecture: Architecture, *, live: bool = False) -> Counts:
        return self.space.counts(architecture, live=live)

    def extremes(self) -> Extremes:
        """The members with fewest and with most parameters; the first and the last where they cannot be counted."""
        smallest, largest = self._ends
        return Extremes(self._at(smallest), self._at(largest))

    @cached_property
    def _ends(self) -> tuple[int, int]:
        if not self.texts:
            raise InfeasibleSpace(f"no architecture of this part of {self.name} is known here; restrict it less.")
        if not self.has_counts:
            return 0, len(self.texts) - 1
        params = self.space.params_all(self.texts)
        return int(params.argmin()), int(params.argmax())

    def reduced(self) -> SearchSpace:
        return Members(self.space.reduced(), self.texts)

    def network(self, architecture: Architecture) -> nn.Module:
        return self.space.network(architecture)

    def supernetwork(self) -> Supernet:
        return self.space.supernetwork()
