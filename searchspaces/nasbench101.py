"""NAS-Bench-101: cells as graphs of at most seven vertices and nine edges, with one of three operations each.

Ying et al., 2019, "NAS-Bench-101: Towards Reproducible Neural Architecture Search", arXiv 1902.09635. An architecture
here is a description: which of the 21 edges there are, and the operations of all five inner vertices, also of those
that no edge touches. Many describe one cell: `live` is without what lies on no path from input to output, `canonical`
one of all that are isomorphic; of these there are 423,624, the published number. The networks are not built here: the
public table knows what they are worth, and `counts` what they cost.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field

from searchspaces._architecture import Architecture
from searchspaces._cell_graphs import (
    EDGES,
    INNER,
    KERNELS,
    OPERATIONS,
    TOO_LARGE,
    VERTICES,
    Bits,
    Integers,
    Widths,
    adjacency_of,
    canonical_cells,
    codes_of,
    graphs,
    is_graph,
    keys,
    live_codes,
    live_edges,
    live_graphs,
    padded,
    reordered,
    touched,
    weights,
)
from searchspaces._constrained import ConstrainedSpace
from searchspaces._errors import InfeasibleSpace, InvalidArchitecture
from searchspaces._images import InputConfig
from searchspaces._registry import Plugin
from searchspaces._space import Counts, Decision, Extremes, Rng

if TYPE_CHECKING:
    import networkx

NO, YES = "0", "1"
LINKS = tuple(f"{source}->{target}" for source, target in EDGES)
VERTEX = tuple(f"vertex_{vertex}" for vertex in INNER)
_TARGETS = range(1, VERTICES)
_INTO = {target: [bit for bit, edge in enumerate(EDGES) if edge[1] == target] for target in _TARGETS}
_BITS = {
    (target, "".join(str(EDGES[bit][0]) for bit in chosen)): sum(1 << bit for bit in chosen)
    for target, bits in _INTO.items()
    for number in range(len(bits) + 1)
    for chosen in itertools.combinations(bits, number)
}
"""(vertex, its inputs as a text writes them) -> their edges as a code."""
_PATTERN = re.compile(r"\|".join([*[rf"({'|'.join(OPERATIONS)}):([0-5]*)"] * len(INNER), r"output:([0-5]+)"]))


class Config(InputConfig):
    """Settings of the cell space; the defaults give the networks of the public benchmark."""

    channels: int = Field(
        128, ge=8, le=4096, description="Channels of the first stack; each of the two others doubles them."
    )
    cells_per_stack: int = Field(3, ge=1, le=64, description="Copies of the cell in each of the three stacks.")


class NASBench101(ConstrainedSpace):
    """Descriptions of 423,624 cells; see the module for what an architecture is."""

    has_networks = False

    def __init__(self, config: Config) -> None:
        weighty = tuple(kernel > 0 for kernel in KERNELS)
        decisions = []
        for target in _TARGETS:
            decisions += [Decision(LINKS[bit], (NO, YES), (False, False), "link") for bit in _INTO[target]]
            if target in INNER:
                decisions.append(Decision(VERTEX[target - 1], OPERATIONS, weighty))
        super().__init__("nasbench101", config, decisions)

    @property
    def settings(self) -> Config:
        """The space's own settings."""
        return cast(Config, self.config)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.settings.input_shape or (3, 32, 32)

    # --- text --------------------------------------------------------------------------------------------------------

    def text(self, options: Mapping[str, str]) -> str:
        inputs = ["".join(str(EDGES[bit][0]) for bit in _INTO[t] if options[LINKS[bit]] == YES) for t in _TARGETS]
        return _text([options[name] for name in VERTEX], inputs)

    def read(self, text: str) -> dict[str, str]:
        match = _PATTERN.fullmatch(text)
        if match is None:
            example = _text([OPERATIONS[0]] * len(INNER), "012345")
            raise InvalidArchitecture(f"{text!r} is no cell; write every vertex as operation:inputs, as in {example}.")
        *inner, last = match.groups()
        inputs, code = [*inner[1::2], last], 0
        for target, into in zip(_TARGETS, inputs, strict=True):
            if (target, into) not in _BITS:
                raise InvalidArchitecture(f"{text!r}: inputs of vertex {target} are earlier ones, in order, each once.")
            code += _BITS[target, into]
        return {**_links(code), **dict(zip(VERTEX, inner[::2], strict=True))}

    def texts(self, adjacency: npt.ArrayLike, operations: npt.ArrayLike) -> list[str]:
        """The canonical texts of the public table's cells; 20,001 take about a third of a second.

        Args:
            adjacency: `n x 7 x 7`, 1 where the row feeds the column; only the first vertices are used.
            operations: `n x 7`, an index into `OPERATIONS`; 3 for the input, 4 for the output, -1 where no vertex is.
        """
        cells, chosen = canonical_cells(*padded(np.asarray(adjacency), np.asarray(operations)))
        codes = codes_of(cells)
        inputs = []
        for target in _TARGETS:
            first, number = _INTO[target][0], len(_INTO[target])
            held = ["".join(str(k) for k in range(number) if value >> k & 1) for value in range(1 << number)]
            inputs.append([held[value] for value in (codes >> first & (1 << number) - 1).tolist()])
        named = [[OPERATIONS[index] for index in row] for row in chosen.tolist()]
        return [_text(row, into) for row, into in zip(named, zip(*inputs, strict=True), strict=True)]

    # --- membership and walking --------------------------------------------------------------------------------------

    def forbidden(self, options: Mapping[str, str]) -> str | None:
        code = _code(options)
        if is_graph()[code]:
            return None
        return f"{code.bit_count()} edges do not join input and output, or are more than nine"

    def sample(self, rng: Rng) -> Architecture:
        """A live description, every one equally likely; any, where this part of the space holds no live one.

        Of all descriptions 98 % have something on no path from input to output, so that most would be small cells.

        Raises:
            InfeasibleSpace: this part of the space is empty.
        """
        codes = live_graphs(*self._bounds())
        if len(codes) == 0:
            raise InfeasibleSpace(f"this part of {self.name} is empty: restrict it less.")
        options = _links(int(codes[rng.integers(len(codes))]))
        for decision in self.decisions:
            if decision.name not in options:
                options[decision.name] = decision.options[int(rng.integers(len(decision.options)))]
        return self._make(options)

    def iterate(self) -> Iterator[Architecture]:
        """Every architecture once: every graph with all choices of operations."""
        allowed = [d.options for d in self.decisions if d.name in VERTEX]
        for code in self._graphs().tolist():
            links = _links(code)
            for chosen in itertools.product(*allowed):
                yield self._make({**links, **dict(zip(VERTEX, chosen, strict=True))})

    def size(self) -> int:
        """How many descriptions there are; of cells there are 423,624."""
        return len(self._graphs()) * math.prod(len(d.options) for d in self.decisions if d.name in VERTEX)

    # --- sameness ----------------------------------------------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Architecture:
        """The live description with the smallest code under all orders of its vertices, of those in this (sub-)space.

        Exact, and equal for isomorphic cells only. In a part of the space that holds no live description of the cell it
        is the architecture itself.
        """
        adjacency, operations = _arrays(self.live(architecture))
        codes = keys(adjacency, operations)[0]
        for which in np.argsort(codes):
            if codes[which] > TOO_LARGE:
                break
            moved = _described(*reordered(adjacency, operations, np.array([which])))
            if not self.why_not(moved):
                return self._make(moved)
        return architecture

    def live(self, architecture: Architecture) -> Architecture:
        """Without the edges on no path from input to output; vertices that no edge touches have the first operation."""
        adjacency, operations = _arrays(architecture)
        live = live_edges(adjacency)
        return self._make(_described(live, np.where(touched(live), operations, 0)))

    def encode(self, architecture: Architecture) -> npt.NDArray[np.float32]:
        """One-hot of the canonical cell: isomorphic cells have one encoding, cells that differ different ones."""
        code: npt.NDArray[np.float32] = self.encode_all([architecture.text])[0]
        return code

    def encode_all(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """What `encode` gives, `n x 57`; 20,001 take about a third of a second."""
        cells, operations = canonical_cells(*_cells_of(texts))
        columns = []
        for decision in self.decisions:
            if decision.name in VERTEX:
                held = operations[:, VERTEX.index(decision.name)]
                columns += [held == OPERATIONS.index(option) for option in decision.options]
            else:
                source, target = EDGES[LINKS.index(decision.name)]
                columns += [cells[:, source, target] == (option == YES) for option in decision.options]
        return np.asarray(np.stack(columns, axis=1), dtype=np.float32)

    # --- costs and drawing -------------------------------------------------------------------------------------------

    def counts(self, architecture: Architecture, *, live: bool = False) -> Counts:
        """Parameters and FLOPs of the benchmark's networks, which never have more than what is live.

        FLOPs are multiply-accumulates of convolutions and the classifier; normalisation, pooling and sums are free. The
        order of the vertices matters, by a percent at most: the first that feed the output take the channels that do
        not divide. In that of `canonical` parameters are the public table's.
        """
        adjacency, operations = _arrays(architecture)
        params, flops = weights(live_edges(adjacency), operations, _stacks(self.settings), per_channel=2)
        base = _trunk(self.settings)
        return Counts(base.params + int(params[0]), base.flops + int(flops[0]))

    def params_all(self, texts: Sequence[str]) -> Integers:
        cells, operations = _cells_of(texts)
        params, _ = weights(live_edges(cells), operations, _stacks(self.settings), per_channel=2)
        return params + _trunk(self.settings).params

    def extremes(self) -> Extremes:
        """Fewest and most parameters; the first call walks all graphs, which takes about a second."""
        required, allowed = self._bounds()
        found = []
        for dearest in (False, True):
            ranked = {d.name: sorted(d.options, key=_kernel) for d in self.decisions if d.name in VERTEX}
            chosen = {name: options[-1 if dearest else 0] for name, options in ranked.items()}
            places = tuple(OPERATIONS.index(chosen[name]) for name in VERTEX)
            code = _extreme_graphs(required, allowed, places, self.settings)[dearest]
            found.append(self._make({**_links(code), **chosen}))
        return Extremes(*found)

    def graph(self, architecture: Architecture) -> networkx.MultiDiGraph:
        """The cell: for every vertex what comes in, its operation, what goes out; edges of the cell have no option.

        The nodes stand on an arc, so that no edge runs over one that it does not touch.
        """
        import networkx

        graph, last = networkx.MultiDiGraph(), 2 * VERTICES - 3

        def add_node(name: str, label: str, layer: int) -> None:
            graph.add_node(name, label=label, layer=layer, x=float(layer), y=layer * (last - layer) / last)

        cells, _ = _arrays(architecture)
        adjacency, live = cells[0], live_edges(cells)[0]
        add_node("0", "input", 0)
        for vertex, name in zip(INNER, VERTEX, strict=True):
            if adjacency[vertex].any() or adjacency[:, vertex].any():
                add_node(f"into {vertex}", f"into vertex {vertex}", 2 * vertex - 1)
                add_node(str(vertex), f"vertex {vertex}", 2 * vertex)
                is_live = bool(live[vertex].any())
                graph.add_edge(f"into {vertex}", str(vertex), option=architecture[name], live=is_live, decision=name)
        add_node("output", "output", last)
        for (source, target), name in zip(EDGES, LINKS, strict=True):
            if adjacency[source, target]:
                end = f"into {target}" if target in INNER else "output"
                graph.add_edge(str(source), end, option="", live=bool(live[source, target]), decision=name)
        return graph

    def ways(self) -> list[tuple[str, ...]]:
        """Any of the inner vertices in their order."""
        return [way for number in range(len(VERTEX) + 1) for way in itertools.combinations(VERTEX, number)]

    def _bounds(self) -> tuple[int, int]:
        """Edges that every graph of this (sub-)space has, and those that any may have, as codes."""
        options = {decision.name: decision.options for decision in self.decisions}
        required = sum(1 << bit for bit, name in enumerate(LINKS) if NO not in options[name])
        return required, sum(1 << bit for bit, name in enumerate(LINKS) if YES in options[name])

    def _graphs(self) -> Integers:
        return graphs(*self._bounds())


def _kernel(operation: str) -> int:
    return KERNELS[OPERATIONS.index(operation)]


def _text(operations: Sequence[str], inputs: Sequence[str]) -> str:
    return "|".join(f"{name}:{into}" for name, into in zip((*operations, "output"), inputs, strict=True))


def _code(options: Mapping[str, str]) -> int:
    return sum(1 << bit for bit, name in enumerate(LINKS) if options[name] == YES)


def _links(code: int) -> dict[str, str]:
    return {name: YES if code >> bit & 1 else NO for bit, name in enumerate(LINKS)}


def _arrays(architecture: Architecture) -> tuple[Bits, Integers]:
    """Adjacency (`1 x 7 x 7`) and operations (`1 x 5`)."""
    options = dict(architecture.options)
    operations = np.array([[OPERATIONS.index(options[name]) for name in VERTEX]])
    return adjacency_of(np.array([_code(options)])), operations


def _cells_of(texts: Sequence[str]) -> tuple[Bits, Integers]:
    """Adjacency (`n x 7 x 7`) and operations (`n x 5`) of what these texts write."""
    codes, operations = [], []
    for text in texts:
        *inner, last = text.split("|")
        pairs = [part.split(":") for part in inner]
        operations.append([OPERATIONS.index(name) for name, _ in pairs])
        inputs = [*(into for _, into in pairs), last.removeprefix("output:")]
        codes.append(sum(_BITS[target, into] for target, into in zip(_TARGETS, inputs, strict=True)))
    return adjacency_of(np.array(codes, dtype=np.int64)), np.array(operations, dtype=np.int64).reshape(-1, len(INNER))


def _described(adjacency: Bits, operations: Integers) -> dict[str, str]:
    """The inverse of `_arrays`."""
    chosen = (OPERATIONS[index] for index in operations[0].tolist())
    return {**_links(int(codes_of(adjacency)[0])), **dict(zip(VERTEX, chosen, strict=True))}


def _stacks(config: Config) -> tuple[Widths, ...]:
    """The cells of a network: the first of every stack takes what the stack before gives."""
    _, height, width = config.input_shape or (3, 32, 32)
    found, inputs = [], config.channels
    for stack in range(3):
        outputs, pixels = config.channels << stack, -(-height // 2**stack) * -(-width // 2**stack)
        found += [Widths(inputs, outputs, pixels, 1), Widths(outputs, outputs, pixels, config.cells_per_stack - 1)]
        inputs = outputs
    return tuple(found)


def _trunk(config: Config) -> Counts:
    """The convolution before the cells and the classifier behind them."""
    channels, height, width = config.input_shape or (3, 32, 32)
    stem, last, classes = 9 * channels * config.channels, config.channels << 2, config.num_classes or 10
    return Counts(stem + 2 * config.channels + (last + 1) * classes, stem * height * width + last * classes)


@lru_cache(maxsize=16)
def _extreme_graphs(required: int, allowed: int, operations: tuple[int, ...], config: Config) -> tuple[int, int]:
    """The graphs with fewest and with most parameters when vertices have these operations, as codes."""
    codes = graphs(required, allowed)
    if len(codes) == 0:
        raise InfeasibleSpace("this part of the space is empty: restrict it less.")
    live, first = np.unique(live_codes(required, allowed), return_index=True)
    chosen = np.tile(np.array(operations), (len(live), 1))
    params, _ = weights(adjacency_of(live), chosen, _stacks(config), per_channel=2)
    return int(codes[first[params.argmin()]]), int(codes[first[params.argmax()]])


PLUGIN = Plugin(
    name="nasbench101",
    description="Cell of up to seven vertices and nine edges, three operations: 423,624 cells; tables only.",
    source="Ying et al., 2019, NAS-Bench-101, arXiv 1902.09635",
    create=NASBench101,
    Config=Config,
    flags={"networks": False},
)
