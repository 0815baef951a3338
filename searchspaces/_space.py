"""What every search space is: a set of architectures, how to walk it, and how to build networks from it.

A space is pure: every verb returns new values; randomness comes in as `rng`. Nothing here loads torch; `build` and
`supernet` do, when called.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from searchspaces._architecture import Architecture
from searchspaces._errors import InfeasibleSpace, InvalidArchitecture, MeasurementError
from searchspaces._registry import Config
from searchspaces._violations import did_you_mean, one_of

if TYPE_CHECKING:
    import networkx
    from torch import nn

    from searchspaces._supernet import Supernet

Rng = np.random.Generator


@dataclass(frozen=True)
class Decision:
    """One degree of freedom.

    Attributes:
        name: unique in its space.
        options: the values it may take, as text; their order is the order of `encode`.
        parametric: for every option, whether it owns trainable weights.
        kind: `op` (unordered), `ordinal` (nested, the larger holds the smaller) or `link` (what feeds what, so no
            operation of its own).
        active_if: (earlier decision, the options of it) under which this one exists; None means always.
    """

    name: str
    options: tuple[str, ...]
    parametric: tuple[bool, ...]
    kind: Literal["op", "ordinal", "link"] = "op"
    active_if: tuple[str, frozenset[str]] | None = None


class Split(NamedTuple):
    """One step of dividing a space: part number `part` becomes one part per group of a decision's options, in place."""

    part: int
    decision: str
    groups: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, part: int, decision: str, groups: Iterable[Iterable[str]]) -> Split:
        """From what JSON makes of one."""
        return cls(part, decision, tuple(tuple(group) for group in groups))


class Counts(NamedTuple):
    """What a network costs on paper: trainable parameters; multiply-accumulates of one input (FLOPs)."""

    params: int
    flops: int


def total(counts: Iterable[Counts]) -> Counts:
    """The sum of several counts."""
    listed = list(counts)
    return Counts(sum(one.params for one in listed), sum(one.flops for one in listed))


class Extremes(NamedTuple):
    """The cheapest and the dearest architecture of a space, by parameters."""

    smallest: Architecture
    largest: Architecture


class SearchSpace(ABC):
    """The set of architectures that `decisions` span.

    A subclass gives the text form, both notions of sameness, the drawing, the counts and the networks; everything that
    follows from the decisions alone is here.

    Attributes:
        has_networks: whether `build` and `supernet` work; the plug-in's flag `networks` says the same.
        has_counts: whether `counts` works; the plug-in's flag `counts` says the same.
    """

    has_networks: bool = True
    has_counts: bool = True

    def __init__(self, name: str, config: Config, decisions: Sequence[Decision]) -> None:
        self.name, self.config, self.decisions = name, config, tuple(decisions)

    # --- what a space supplies ---------------------------------------------------------------------------------------

    @abstractmethod
    def text(self, options: Mapping[str, str]) -> str:
        """The canonical text of a complete set of options; `parse` is its inverse."""

    @abstractmethod
    def read(self, text: str) -> dict[str, str]:
        """Decision -> option as written in `text`.

        Raises:
            InvalidArchitecture: the text is not in the format of this space.
        """

    @abstractmethod
    def canonical(self, architecture: Architecture) -> Architecture:
        """The representative of all architectures that are the same function when trained from scratch. For reports."""

    @abstractmethod
    def live(self, architecture: Architecture) -> Architecture:
        """The architecture without what cannot reach the output. Only equal `live` may share a supernet value."""

    @abstractmethod
    def graph(self, architecture: Architecture) -> networkx.MultiDiGraph:
        """What a page draws: nodes with `label` and `layer`, edges with `option` and `live`."""

    @abstractmethod
    def extremes(self) -> Extremes:
        """The cheapest and the dearest architecture; some first and last one where nothing can be counted."""

    def ways(self) -> list[tuple[str, ...]]:
        """The sequences of decisions whose operations can lie between input and output.

        Those of the largest architecture; a space where that one does not have all of them gives its own.
        """
        from searchspaces._graph import paths

        return paths(self.graph(self.extremes().largest), attribute="decision")

    # --- what a space may lack, and then says so with `has_counts` and `has_networks` ---------------------------------

    def counts(self, architecture: Architecture, *, live: bool = False) -> Counts:
        """Parameters and FLOPs of the stand-alone network, analytically; with `live`, of what can reach the output.

        Raises:
            MeasurementError: this space cannot count.
        """
        raise MeasurementError(
            f"nothing can be counted on paper in {self.name}: measure costs, or take them from a table."
        )

    def network(self, architecture: Architecture) -> nn.Module:
        """The stand-alone network, initialised from torch's generator as it stands; callers want `build`.

        Raises:
            InfeasibleSpace: this space has no networks.
        """
        raise InfeasibleSpace(self._without_networks)

    def supernetwork(self) -> Supernet:
        """The supernet, initialised from torch's generator as it stands; callers want `supernet`.

        Raises:
            InfeasibleSpace: this space has no networks.
        """
        raise InfeasibleSpace(self._without_networks)

    @property
    def _without_networks(self) -> str:
        return f"{self.name} has no networks to build or train: take an evaluator that needs none, a table for example."

    def reduced(self) -> SearchSpace:
        """The same architectures with smaller networks, for scores of untrained ones; itself where it has none."""
        return self

    def is_connected(self, architecture: Architecture) -> bool:
        """Whether the output depends on the input at all; chains always do."""
        return True

    # --- networks ----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch axis: `channels x height x width` for images."""

    def build(self, architecture: Architecture, *, seed: int = 0) -> nn.Module:
        """The stand-alone network with fresh weights drawn from `seed`; torch's generator is left as found."""
        from searchspaces._layers import initialised

        with initialised(seed):
            return self.network(self.check(architecture))

    def supernet(self, *, seed: int = 0) -> Supernet:
        """The supernet with fresh weights drawn from `seed`; torch's generator is left as found."""
        from searchspaces._layers import initialised

        with initialised(seed):
            return self.supernetwork()

    # --- membership --------------------------------------------------------------------------------------------------

    def architecture(self, options: Mapping[str, str]) -> Architecture:
        """The architecture with these options.

        Raises:
            InvalidArchitecture: an active decision is missing, an inactive or unknown one given, or an option unknown.
        """
        reasons = self.why_not(options)
        if reasons:
            raise InvalidArchitecture(f"not an architecture of {self.name}: {'; '.join(reasons)}.")
        return self._make(options)

    def parse(self, text: str) -> Architecture:
        """The architecture that `text` writes.

        Raises:
            InvalidArchitecture: the text is not in the space's format, or names an option that the space does not have.
        """
        return self.architecture(self.read(text))

    def validate(self, architecture: Architecture) -> list[str]:
        """Why `architecture` is not in this space; empty when it is."""
        return self.why_not(dict(architecture.options))

    def check(self, architecture: Architecture) -> Architecture:
        """The architecture itself.

        Raises:
            InvalidArchitecture: it is not in this space.
        """
        reasons = self.validate(architecture)
        if reasons:
            raise InvalidArchitecture(f"{architecture.text!r} is not in {self.name}: {'; '.join(reasons)}.")
        return architecture

    def why_not(self, options: Mapping[str, str]) -> list[str]:
        """Why these options are no architecture of this space; empty when they are one."""
        reasons = []
        for decision in self.decisions:
            given = options.get(decision.name)
            if not _is_active(decision, options):
                if given is not None:
                    reasons.append(f"{decision.name} is given but not active")
            elif given is None:
                reasons.append(f"{decision.name} is missing, one of {', '.join(decision.options)}")
            elif given not in decision.options:
                reasons.append(f"{decision.name} is {given!r}, not {one_of(given, decision.options)}")
        unknown = set(options) - {decision.name for decision in self.decisions}
        return reasons + [
            f"there is no decision {name!r}{did_you_mean(name, [d.name for d in self.decisions])}"
            for name in sorted(unknown)
        ]

    # --- walking -----------------------------------------------------------------------------------------------------

    def complete(self, options: Mapping[str, str], rng: Rng) -> Architecture:
        """An architecture that has these options as far as it can; what they leave open is drawn.

        What a searcher uses that chooses decision by decision: not everything that the decisions span need be an
        architecture of the space. Options of decisions that are not active are left out.
        """
        allowed = {decision.name: decision.options for decision in self.decisions}
        return self._complete({name: o for name, o in options.items() if o in allowed.get(name, ())}, rng)

    def next_decision(self, prefix: Mapping[str, str]) -> Decision | None:
        """The first active decision that `prefix` leaves open; None when it is complete."""
        for decision in self.decisions:
            if decision.name not in prefix and _is_active(decision, prefix):
                return decision
        return None

    def sample(self, rng: Rng) -> Architecture:
        """An architecture whose every active decision is drawn uniformly."""
        return self._complete({}, rng)

    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """A uniform one-edit neighbour: one active decision takes another option."""
        options = dict(architecture.options)
        open_decisions = [d for d in self.decisions if d.name in options and len(d.options) > 1]
        if not open_decisions:
            return architecture
        weights = np.array([len(d.options) - 1 for d in open_decisions], dtype=float)
        decision = open_decisions[int(rng.choice(len(open_decisions), p=weights / weights.sum()))]
        others = [option for option in decision.options if option != options[decision.name]]
        options[decision.name] = others[int(rng.integers(len(others)))]
        return self._complete(options, rng)

    def cross(self, first: Architecture, second: Architecture, rng: Rng) -> Architecture:
        """Uniform crossover: each decision from either parent; what only became active is drawn."""
        options: dict[str, str] = {}
        for decision in self.decisions:
            parents = [parent[decision.name] for parent in (first, second) if decision.name in parent]
            if parents and _is_active(decision, options):
                options[decision.name] = parents[int(rng.integers(len(parents)))]
        return self._complete(options, rng)

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """All architectures one edit away; where an edit opens new decisions, each takes its first option."""
        current = dict(architecture.options)
        for decision in self.decisions:
            for option in decision.options if decision.name in current else ():
                if option != current[decision.name]:
                    yield self._complete({**current, decision.name: option}, None)

    def iterate(self) -> Iterator[Architecture]:
        """Every architecture once, in the order of the decisions (the last one changes fastest)."""
        options: dict[str, str] = {}
        untried: list[tuple[str, Iterator[str]]] = []
        while True:
            if (decision := self.next_decision(options)) is None:
                yield self._make(options)
            else:
                untried.append((decision.name, iter(decision.options)))
            while untried:  # the last decision that has another option takes it
                name, others = untried[-1]
                options.pop(name, None)
                if (option := next(others, None)) is not None:
                    options[name] = option
                    break
                untried.pop()
            else:
                return

    def size(self) -> int:
        """How many architectures there are."""
        ways: dict[str, int] = {}  # of an active decision and all that it activates; later ones are known first
        opened: dict[str, list[Decision]] = {decision.name: [] for decision in self.decisions}
        for decision in reversed(self.decisions):
            below = dict.fromkeys(decision.options, 1)
            for child, needed in ((d, d.active_if[1]) for d in opened[decision.name] if d.active_if):
                below |= {option: below[option] * ways[child.name] for option in needed if option in below}
            ways[decision.name] = sum(below.values())
            if decision.active_if is not None:
                opened[decision.active_if[0]].append(decision)
        return math.prod(ways[decision.name] for decision in self.decisions if decision.active_if is None)

    def is_always_active(self, decision: Decision) -> bool:
        """Whether every architecture has this decision; only then do its partitions have no architecture in common."""
        named = {d.name: d for d in self.decisions}
        while decision.active_if is not None:
            name, needed = decision.active_if
            if not set(named[name].options) <= needed:
                return False
            decision = named[name]
        return True

    def partition(self, decision: str, groups: Sequence[Sequence[str]]) -> list[SearchSpace]:
        """Sub-spaces in which `decision` is restricted to one of `groups` each.

        Architectures without the decision are in all of them (see `is_always_active`).

        Raises:
            InvalidArchitecture: the groups do not split the decision's options exactly.
        """
        found = next((d for d in self.decisions if d.name == decision), None)
        if found is None or sorted(o for group in groups for o in group) != sorted(found.options):
            raise InvalidArchitecture(f"{groups!r} does not split the options of {decision!r} in {self.name} exactly.")
        return [self._restricted(found, group) for group in groups]

    def is_within(self, other: SearchSpace) -> bool:
        """Whether this is `other` or a sub-space of it: the same plug-in and settings, no decision or option more."""
        allowed = {decision.name: set(decision.options) for decision in other.decisions}
        inside = all(set(d.options) <= allowed.get(d.name, set()) for d in self.decisions)
        return self.name == other.name and self.config == other.config and inside

    def encode(self, architecture: Architecture) -> npt.NDArray[np.float32]:
        """One-hot: `sum of the numbers of options` zeros and ones; an inactive decision is all zeros."""
        code = np.zeros(len(self._places), dtype=np.float32)
        code[[self._places[pair] for pair in architecture.options if pair in self._places]] = 1.0
        return code

    # --- many at once ------------------------------------------------------------------------------------------------

    def encode_all(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """What `encode` gives for every one of these architectures, given by their texts: `n x its length`.

        Texts are not checked. A space whose `encode` is not the one above gives its own.
        """
        codes = np.zeros((len(texts), len(self._places)), dtype=np.float32)
        for code, text in zip(codes, texts, strict=True):
            code[[self._places[pair] for pair in self.read(text).items()]] = 1.0
        return codes

    def params_all(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """The parameters of every one of these architectures, given by their texts: `n`.

        Raises:
            MeasurementError: this space cannot count.
        """
        return np.array([self.counts(self.parse(text)).params for text in texts], dtype=np.int64)

    # --- inside ------------------------------------------------------------------------------------------------------

    @cached_property
    def _places(self) -> dict[tuple[str, str], int]:
        """Where `encode` has the option of a decision."""
        pairs = ((decision.name, option) for decision in self.decisions for option in decision.options)
        return {pair: place for place, pair in enumerate(pairs)}

    def _with_option(self, place: int) -> Architecture:
        """The architecture with the option in this place of every active decision."""
        options: dict[str, str] = {}
        while (decision := self.next_decision(options)) is not None:
            options[decision.name] = decision.options[place]
        return self._make(options)

    def _make(self, options: Mapping[str, str]) -> Architecture:
        ordered = tuple((d.name, options[d.name]) for d in self.decisions if d.name in options)
        return Architecture(ordered, self.text(options))

    def _complete(self, options: Mapping[str, str], rng: Rng | None) -> Architecture:
        complete: dict[str, str] = {}
        for decision in self.decisions:
            if _is_active(decision, complete):
                drawn = 0 if rng is None or decision.name in options else int(rng.integers(len(decision.options)))
                complete[decision.name] = options.get(decision.name, decision.options[drawn])
        return self._make(complete)

    def _restricted(self, decision: Decision, options: Sequence[str]) -> SearchSpace:
        kept = [i for i, option in enumerate(decision.options) if option in options]
        narrow = Decision(
            decision.name,
            tuple(decision.options[i] for i in kept),
            tuple(decision.parametric[i] for i in kept),
            decision.kind,
            decision.active_if,
        )
        space = copy.copy(self)
        for name in [n for n in vars(self) if isinstance(getattr(type(self), n, None), cached_property)]:
            delattr(space, name)  # what was computed of the whole is not of the part
        space.decisions = tuple(narrow if d.name == decision.name else d for d in self.decisions)
        return space


def _is_active(decision: Decision, options: Mapping[str, str]) -> bool:
    if decision.active_if is None:
        return True
    parent, needed = decision.active_if
    return options.get(parent) in needed
