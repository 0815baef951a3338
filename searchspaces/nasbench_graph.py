"""NAS-Bench-Graph: graph networks of four operations, each fed by the input or by one before it.

Qin et al., 2022, "NAS-Bench-Graph: Benchmarking Graph Neural Architecture Search", arXiv 2206.09166. Nine patterns say
what feeds what; what feeds nothing is an output, and the outputs are concatenated and classified. `skip` passes on what
it is given: where it feeds something, or its source feeds nothing else, the network is one of fewer operations. The raw
input is no output. So 59,040 architectures make 26,206 networks, those of the public table. They are not built here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field

from searchspaces._architecture import Architecture
from searchspaces._constrained import ConstrainedSpace
from searchspaces._errors import InvalidArchitecture
from searchspaces._registry import Config as PluginConfig
from searchspaces._registry import Plugin
from searchspaces._space import Counts, Decision, Extremes

if TYPE_CHECKING:
    import networkx

SKIP = "skip"
OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", SKIP)
"""In the order of the public table's `op_names`."""
PATTERNS = ("0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123")
"""Digit k is what feeds operation k: 0 the input, else the operation of that number."""
LINKS = "links"
NAMES = ("op_1", "op_2", "op_3", "op_4")
_PATTERN = re.compile(rf"({'|'.join(PATTERNS)}):" + ",".join([f"({'|'.join(OPERATIONS)})"] * len(NAMES)))


class Config(PluginConfig):
    """Settings of the graph networks; the defaults are the benchmark's for Cora."""

    num_classes: int | None = Field(None, ge=2, le=100_000, description="Classes; a job fills in its data set's.")
    input_shape: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] | None = Field(
        None, min_length=1, max_length=3, description="What is known of a vertex of the graph; Cora's 1,433 by default."
    )
    hidden: int = Field(256, ge=1, le=65_536, description="Channels of every operation.")
    preprocess: bool = Field(False, description="Whether a linear layer stands before the operations.")
    postprocess: bool = Field(True, description="Whether a linear layer stands between the outputs and the classifier.")

    @property
    def features(self) -> int:
        """How many numbers are known of a vertex."""
        return int(np.prod(self.input_shape or (1433,)))

    @property
    def classes(self) -> int:
        """Number of classes; Cora's where none is set."""
        return self.num_classes or 7


class Linear(NamedTuple):
    """An operation of `h` channels with `i` inputs: `wide * i * h + square * h * h + more * h` weights, and a bias."""

    wide: int
    square: int = 0
    more: int = 0


COSTS = {
    "gat": Linear(1, more=2),  # two attention vectors
    "gcn": Linear(1),
    "gin": Linear(1),
    "cheb": Linear(2),
    "sage": Linear(2),
    "arma": Linear(2, square=1),
    "graph": Linear(2),
    "fc": Linear(1),
}


class Operation(NamedTuple):
    """An operation and what it feeds, as the network is once its idle skips are gone.

    Attributes:
        minus: the number of operations from here on, negative so that in sorted order the larger come first.
        place: of the operation in `OPERATIONS`.
        feeds: sorted.
    """

    minus: int
    place: int
    feeds: tuple[Operation, ...]


class NASBenchGraph(ConstrainedSpace):
    """59,040 architectures of 26,206 networks; see the module."""

    has_networks = False

    def __init__(self, config: Config) -> None:
        weighty = tuple(operation != SKIP for operation in OPERATIONS)
        decisions = [Decision(LINKS, PATTERNS, (False,) * len(PATTERNS), "link")]
        decisions += [Decision(name, OPERATIONS, weighty) for name in NAMES]
        super().__init__("nasbench_graph", config, decisions)

    @property
    def settings(self) -> Config:
        """The space's own settings."""
        return cast(Config, self.config)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.settings.input_shape or (self.settings.features,)

    # --- text and membership -----------------------------------------------------------------------------------------

    def text(self, options: Mapping[str, str]) -> str:
        return _text(options[LINKS], [options[name] for name in NAMES])

    def read(self, text: str) -> dict[str, str]:
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise InvalidArchitecture(f"{text!r} is no network; write it as in {_text(PATTERNS[1], OPERATIONS[:4])}.")
        return dict(zip((LINKS, *NAMES), match.groups(), strict=True))

    def texts(self, links: npt.ArrayLike, operations: npt.ArrayLike) -> list[str]:
        """The texts of the public table's networks.

        Args:
            links: `n x 4`, what feeds every operation.
            operations: `n x 4`, an index into `OPERATIONS`.
        """
        rows = zip(np.asarray(links).tolist(), np.asarray(operations).tolist(), strict=True)
        return [_text("".join(map(str, fed)), [OPERATIONS[index] for index in chosen]) for fed, chosen in rows]

    def forbidden(self, options: Mapping[str, str]) -> str | None:
        return "one operation at least is none that skips" if all(options[name] == SKIP for name in NAMES) else None

    def size(self) -> int:
        """How many architectures there are; they make 26,206 networks."""
        patterns, *choices = (decision.options for decision in self.decisions)
        idle = all(SKIP in options for options in choices)
        return len(patterns) * (int(np.prod([len(options) for options in choices])) - idle)

    # --- sameness ----------------------------------------------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Architecture:
        """How the public table writes the network: idle skips first, then larger branches, then in order of operations.

        In a part of the space that does not hold it, the architecture itself.
        """
        found = _described(_network(architecture))
        return architecture if self.why_not(found) else self._make(found)

    def live(self, architecture: Architecture) -> Architecture:
        """The architecture itself: no weight of it is idle."""
        return architecture

    # --- costs and drawing -------------------------------------------------------------------------------------------

    def counts(self, architecture: Architecture, *, live: bool = False) -> Counts:
        """Parameters as the public table has them; multiply-accumulates of linear layers for one vertex of the graph.

        Sums over the graph's edges and normalisation are free. Every operation has a normalisation, skips too.
        """
        config, network = self.settings, _network(architecture)
        hidden = config.hidden
        first = hidden if config.preprocess else config.features
        multiplied, added = 0, 2 * hidden * len(NAMES)
        if config.preprocess:
            multiplied, added = config.features * hidden, added + hidden
        for inputs, operation in _operations(network, first, hidden):
            cost = COSTS[OPERATIONS[operation]]
            multiplied += cost.wide * inputs * hidden + cost.square * hidden**2 + cost.more * hidden
            added += hidden
        outputs = _num_outputs(network) * hidden
        if config.postprocess:
            multiplied, added, outputs = multiplied + outputs * hidden, added + hidden, hidden
        multiplied, added = multiplied + outputs * config.classes, added + config.classes
        return Counts(multiplied + added, multiplied)

    def extremes(self) -> Extremes:
        """Fewest and most parameters: found among skips, cheapest and dearest operations, as the others lie between."""
        return self._extremes

    @cached_property
    def _extremes(self) -> Extremes:
        patterns, *choices = (decision.options for decision in self.decisions)
        tried = []
        for options in choices:
            working = sorted((o for o in options if o != SKIP), key=lambda o: (COSTS[o], OPERATIONS.index(o)))
            tried.append(list(dict.fromkeys([*working[:1], *working[-1:], *(o for o in options if o == SKIP)])))
        made = [dict(zip((LINKS, *NAMES), chosen, strict=True)) for chosen in itertools.product(patterns, *tried)]
        found = [self._make(options) for options in made if self.forbidden(options) is None]
        found.sort(key=lambda architecture: self.counts(architecture).params)
        return Extremes(found[0], found[-1])

    def ways(self) -> list[tuple[str, ...]]:
        """From the input to every output of every pattern."""
        found: dict[tuple[str, ...], None] = {}
        for pattern in PATTERNS:
            for last in _outputs(pattern):
                way, place = [], last
                while place > 0:
                    way.append(NAMES[place - 1])
                    place = int(pattern[place - 1])
                found[tuple(reversed(way))] = None
        return list(found)

    def graph(self, architecture: Architecture) -> networkx.MultiDiGraph:
        """The input, what comes out of every operation, and the outputs together; where a skip gives the raw input to
        the outputs, its edge is not live."""
        import networkx

        graph, pattern = networkx.MultiDiGraph(), architecture[LINKS]
        graph.add_node("0", label="input", layer=0)
        depths, is_raw = [0], [True]
        for place, (source, name) in enumerate(zip(map(int, pattern), NAMES, strict=True), 1):
            depths.append(depths[source] + 1)
            is_raw.append(is_raw[source] and architecture[name] == SKIP)
            graph.add_node(str(place), label=f"operation {place}", layer=depths[-1])
        graph.add_node("output", label="output", layer=max(depths) + 1)
        outputs = _outputs(pattern)
        for place, (digit, name) in enumerate(zip(pattern, NAMES, strict=True), 1):
            is_live = not (is_raw[place] and place in outputs)
            graph.add_edge(digit, str(place), option=architecture[name], live=is_live, decision=name)
        for place in outputs:
            graph.add_edge(str(place), "output", option="", live=not is_raw[place], decision=LINKS)
        return graph


def _text(pattern: str, operations: Sequence[str]) -> str:
    return f"{pattern}:{','.join(operations)}"


def _outputs(pattern: str) -> list[int]:
    """The operations that feed nothing."""
    return [place for place in range(1, len(NAMES) + 1) if str(place) not in pattern]


def _network(architecture: Architecture) -> tuple[Operation, ...]:
    """What the input feeds, once skips that change nothing are gone."""
    pattern = architecture[LINKS]
    idle = Operation(-1, OPERATIONS.index(SKIP), ())
    fed: dict[int, list[Operation]] = {place: [] for place in range(len(NAMES) + 1)}
    for place in range(len(NAMES), 0, -1):  # what an operation feeds comes after it
        index, feeds = OPERATIONS.index(architecture[NAMES[place - 1]]), fed[place]
        if index == idle.place:
            found = feeds or [idle]
        else:
            held = () if feeds == [idle] else tuple(sorted(feeds))
            found = [Operation(sum((child.minus for child in held), -1), index, held)]
        fed[int(pattern[place - 1])] += found
    return tuple(sorted(operation for operation in fed[0] if operation != idle))


def _described(network: Sequence[Operation]) -> dict[str, str]:
    """The options of a network: skips for the operations that it lacks, then its own, those near the input first."""
    missing = len(NAMES) + sum(operation.minus for operation in network)
    pattern = [str(place) for place in range(missing)]
    operations = [SKIP] * missing
    waiting = [(missing, operation) for operation in network]
    while waiting:
        source, operation = waiting.pop(0)
        pattern.append(str(source))
        operations.append(OPERATIONS[operation.place])
        waiting += [(len(pattern), child) for child in operation.feeds]
    return {LINKS: "".join(pattern), **dict(zip(NAMES, operations, strict=True))}


def _operations(network: Sequence[Operation], inputs: int, hidden: int) -> list[tuple[int, int]]:
    """(inputs, operation) of all that have weights."""
    here = [(inputs, operation.place) for operation in network if OPERATIONS[operation.place] != SKIP]
    return here + [found for operation in network for found in _operations(operation.feeds, hidden, hidden)]


def _num_outputs(network: Sequence[Operation]) -> int:
    return sum(_num_outputs(operation.feeds) if operation.feeds else 1 for operation in network)


PLUGIN = Plugin(
    name="nasbench_graph",
    description="Four operations of graph networks in nine patterns: 26,206 networks; tables only.",
    source="Qin et al., 2022, NAS-Bench-Graph, arXiv 2206.09166",
    create=NASBenchGraph,
    Config=Config,
    flags={"networks": False},
)
