"""NAS-Bench-201: a cell of four nodes whose six edges take one of five operations each.

Dong and Yang, 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", arXiv 2001.00326.
Text, order of rows, trunk, parameters and FLOPs are those of the public benchmark. One deviation: a convolution of a
node that nothing reaches is not run (the benchmark's gives a constant there), so that `live` is equal in function.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from random import Random
from typing import TYPE_CHECKING, cast

from pydantic import Field

from searchspaces._architecture import Architecture
from searchspaces._errors import InvalidArchitecture
from searchspaces._images import ImageConfig
from searchspaces._registry import Plugin
from searchspaces._space import Counts, Decision, Extremes, SearchSpace, total

if TYPE_CHECKING:
    import networkx

    from searchspaces._cell_networks import CellNetwork, CellSupernet
    from searchspaces._layers import Style

NONE, SKIP, POOL = "none", "skip_connect", "avg_pool_3x3"
OPTIONS = (NONE, SKIP, "nor_conv_1x1", "nor_conv_3x3", POOL)
KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(source, target) in the order of the public text."""
NAMES = tuple(f"{source}->{target}" for source, target in EDGES)

Plan = tuple[tuple[tuple[int, str], ...], ...]
"""For nodes 1, 2, 3: the live edges into it as (source, operation)."""

_TEXT = "+".join("".join(f"|{{}}~{s}" for s, t in EDGES if t == node) + "|" for node in (1, 2, 3))
_PATTERN = re.compile(re.escape(_TEXT).replace(r"\{\}", r"(\w+)"))
_POSITIONS = {0: (0.0, 0.0), 1: (1.2, 0.8), 2: (1.9, 2.0), 3: (3.0, 0.0)}
"""Where a page puts the nodes so that no two edges cross."""


class Config(ImageConfig):
    """Settings of the cell space; the defaults give the networks of the public benchmark."""

    channels: int = Field(
        16, ge=1, le=1024, description="Channels of the first stage; each further stage doubles them."
    )
    cells_per_stage: int = Field(5, ge=1, le=64, description="Copies of the cell in each of the three stages.")
    supernet_bias: bool = Field(
        False,
        description="Convolutions of the supernet's cells and reductions have a bias; stem and shortcuts have none, as "
        "in PA&DA's code.",
    )

    def style(self, *, supernet: bool) -> Style:
        style = super().style(supernet=supernet)
        return replace(style, frame_bias=False) if supernet else style


class NASBench201(SearchSpace):
    """15,625 cells; see the module for what a cell is."""

    def __init__(self, config: Config) -> None:
        decisions = [Decision(name, OPTIONS, tuple(option in KERNELS for option in OPTIONS)) for name in NAMES]
        super().__init__("nasbench201", config, decisions)

    @property
    def settings(self) -> Config:
        """The space's own settings."""
        return cast(Config, self.config)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.settings.shape

    # --- text and order ----------------------------------------------------------------------------------------------

    def text(self, options: Mapping[str, str]) -> str:
        return _TEXT.format(*(options[name] for name in NAMES))

    def read(self, text: str) -> dict[str, str]:
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise InvalidArchitecture(f"{text!r} is no cell; write it as {_TEXT.format(*['OP'] * 6)}.")
        return dict(zip(NAMES, match.groups(), strict=True))

    def index(self, architecture: Architecture) -> int:
        """The row of the public benchmark's tables that holds this architecture."""
        return _rows()[1][_place(architecture)]

    def at(self, index: int) -> Architecture:
        """The architecture in row `index` of the public benchmark's tables.

        Raises:
            InvalidArchitecture: there is no such row, or its architecture is not in this (sub-)space.
        """
        order = _rows()[0]
        if not 0 <= index < len(order):
            raise InvalidArchitecture(f"row {index} does not exist; rows are 0 to {len(order) - 1}.")
        digits = [order[index] // 5 ** (5 - k) % 5 for k in range(6)]
        return self.architecture({name: OPTIONS[digit] for name, digit in zip(NAMES, digits, strict=True)})

    # --- sameness ----------------------------------------------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Architecture:
        """The first architecture of the same class, of the benchmark's 6,466 (of 15,625).

        The benchmark compares sums as texts and lets only node 1 pass on that it is zero, so its classes are finer than
        equality of functions (4,930).
        """
        first = _representatives(tuple(d.options for d in self.decisions))
        return self._make(dict(zip(NAMES, first[_expression([o for _, o in architecture.options])], strict=True)))

    def live(self, architecture: Architecture) -> Architecture:
        """The architecture with `none` on every edge that is on no path from input to output."""
        chosen = [architecture[name] for name in NAMES]
        kept = _live(tuple(option != NONE for option in chosen))
        options = [option if keep else NONE for option, keep in zip(chosen, kept, strict=True)]
        return self._make(dict(zip(NAMES, options, strict=True)))

    def is_connected(self, architecture: Architecture) -> bool:
        """Whether a path leads from the cell's input to its output: 15,284 of the 15,625."""
        return bool(self.plan(architecture)[-1])

    def plan(self, architecture: Architecture) -> Plan:
        """What a cell runs: for nodes 1, 2, 3 the live edges into it as (source, operation)."""
        return _plan(tuple(option for _, option in architecture.options))

    def reduced(self) -> NASBench201:
        """One cell a stage, at most 8 channels in the first."""
        small = {"cells_per_stage": 1, "channels": min(8, self.settings.channels)}
        space = NASBench201(self.settings.model_copy(update=small))
        space.decisions = self.decisions
        return space

    # --- costs -------------------------------------------------------------------------------------------------------

    def counts(self, architecture: Architecture, *, live: bool = False) -> Counts:
        """Parameters and FLOPs in the benchmark's convention.

        FLOPs are multiply-accumulates of convolutions and the classifier, plus one for every addition of a bias;
        normalisation, pooling and sums are free. All chosen operations count, also those that are not run, unless
        `live` is set.
        """
        base, prices = self._prices
        counted = self.live(architecture) if live else architecture
        return total([base, *(prices[option] for _, option in counted.options if option in prices)])

    def extremes(self) -> Extremes:
        """Skips where they can be, and the dearest convolutions: both have an output."""
        price = self._prices[1]
        order = (SKIP, POOL, NONE, *KERNELS)
        cost = {option: (price[option].params if option in price else 0, order.index(option)) for option in OPTIONS}
        smallest = {d.name: min(d.options, key=cost.__getitem__) for d in self.decisions}
        largest = {d.name: max(d.options, key=lambda o: (cost[o][0], -cost[o][1])) for d in self.decisions}
        return Extremes(self.architecture(smallest), self.architecture(largest))

    @cached_property
    def _prices(self) -> tuple[Counts, dict[str, Counts]]:
        """Of the network without its cells, and of one edge with each convolution, in all cells."""
        config = self.settings
        channels, height, width = config.shape
        stages = [(config.channels << k, -(-height // 2**k), -(-width // 2**k)) for k in range(3)]
        last = stages[-1][0]
        base = [self._conv(channels, *stages[0], kernel=3), Counts(2 * last * config.affine, 0)]
        for (inputs, _, _), stage in itertools.pairwise(stages):
            shortcut = self._conv(inputs, *stage, kernel=1, norm=False)
            base += [self._conv(inputs, *stage, kernel=3), self._conv(stage[0], *stage, kernel=3), shortcut]
        base.append(Counts((last + 1) * config.classes, (last + 1) * config.classes))
        prices = {}
        for option, kernel in KERNELS.items():
            one = total(self._conv(stage[0], *stage, kernel=kernel) for stage in stages)
            prices[option] = Counts(one.params * config.cells_per_stage, one.flops * config.cells_per_stage)
        return total(base), prices

    def _conv(self, inputs: int, outputs: int, height: int, width: int, *, kernel: int, norm: bool = True) -> Counts:
        config = self.settings
        weights = (kernel * kernel * inputs + config.bias) * outputs
        return Counts(weights + 2 * outputs * (norm and config.affine), weights * height * width)

    # --- networks and drawing ----------------------------------------------------------------------------------------

    def network(self, architecture: Architecture) -> CellNetwork:
        from searchspaces._cell_networks import CellNetwork

        return CellNetwork(self, architecture, self.settings.style(supernet=False))

    def supernetwork(self) -> CellSupernet:
        from searchspaces._cell_networks import CellSupernet

        return CellSupernet(self)

    def convolutions(self, pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
        """The convolutions that these (edge, option) pairs need: name -> kernel size."""
        return {operation(edge, option): KERNELS[option] for edge, option in pairs if option in KERNELS}

    def graph(self, architecture: Architecture) -> networkx.MultiDiGraph:
        """The cell: nodes 0 (input) to 3 (output); an edge for every operation but `none`."""
        import networkx

        graph = networkx.MultiDiGraph()
        labels = ("input", "node 1", "node 2", "output")
        for node, (x, y) in _POSITIONS.items():
            graph.add_node(str(node), label=labels[node], layer=node, x=x, y=y)
        alive = self.live(architecture)
        for (source, target), name in zip(EDGES, NAMES, strict=True):
            option = architecture[name]
            if option != NONE:
                graph.add_edge(str(source), str(target), option=option, live=alive[name] != NONE, decision=name)
        return graph


def operation(edge: str, option: str) -> str:
    """What a cell calls the operation `option` on `edge`; the same on all edges when it has no weights."""
    return f"edge_{edge.replace('->', '_')}_{option}" if option in KERNELS else option


def _place(architecture: Architecture) -> int:
    place = 0
    for name in NAMES:
        place = 5 * place + OPTIONS.index(architecture[name])
    return place


@cache
def _rows() -> tuple[list[int], list[int]]:
    """Row -> place in the order of `iterate`, and its inverse.

    The benchmark's authors shuffled that order with Python's generator at seed 88; a test holds it against the table.
    """
    order = list(range(5**6))
    Random(88).shuffle(order)  # noqa: S311
    inverse = [0] * len(order)
    for row, place in enumerate(order):
        inverse[place] = row
    return order, inverse


@cache
def _live(present: tuple[bool, ...]) -> tuple[bool, ...]:
    """Which of the six edges lie on a path from node 0 to node 3."""
    reached, reaching = {0}, {3}
    for (source, target), there in sorted(zip(EDGES, present, strict=True)):
        if there and source in reached:
            reached.add(target)
    for (source, target), there in sorted(zip(EDGES, present, strict=True), reverse=True):
        if there and target in reaching:
            reaching.add(source)
    return tuple(
        there and source in reached and target in reaching
        for (source, target), there in zip(EDGES, present, strict=True)
    )


@cache
def _plan(options: tuple[str, ...]) -> Plan:
    kept = _live(tuple(option != NONE for option in options))
    edges = list(zip(EDGES, NAMES, options, kept, strict=True))
    return tuple(
        tuple(
            (source, operation(name, option))
            for (source, target), name, option, keep in edges
            if keep and target == node
        )
        for node in (1, 2, 3)
    )


def _expression(options: Sequence[str]) -> str:
    """The output as a text of nested sums; equal texts make one of the benchmark's 6,466 classes."""
    values = ["x"]
    for node in (1, 2, 3):
        terms = []
        for (source, target), option in zip(EDGES, options, strict=True):
            if target != node:
                continue
            if option == NONE or values[source] == "#":
                terms.append("#")
            else:
                terms.append(values[source] if option == SKIP else f"({values[source]})@{option}")
        values.append("+".join(sorted(terms)))
    return values[-1]


@cache
def _representatives(options: tuple[tuple[str, ...], ...]) -> dict[str, tuple[str, ...]]:
    """Expression -> the first of the architectures with these options that has it."""
    first: dict[str, tuple[str, ...]] = {}
    for chosen in itertools.product(*options):
        first.setdefault(_expression(chosen), chosen)
    return first


PLUGIN = Plugin(
    name="nasbench201",
    description="Cell of four nodes and six edges, five operations each: 15,625 architectures.",
    source="Dong and Yang, 2020, NAS-Bench-201, arXiv 2001.00326",
    create=NASBench201,
    Config=Config,
)
