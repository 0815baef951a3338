"""Views of an architecture's graph: a drawing as plain data, paths as features, a key for isomorphism.

The graph itself (`SearchSpace.graph`) is a directed acyclic multigraph of networkx: nodes with `label` and `layer` (and
`x`, `y` where the space knows a good place), edges with `option`, `live` and `decision`. networkx itself is loaded only
by the space that draws.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import defaultdict
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from searchspaces._architecture import Architecture
from searchspaces._errors import InfeasibleSpace

if TYPE_CHECKING:
    import networkx

    from searchspaces._space import SearchSpace

MAX_PATHS = 20_000
"""A path vocabulary longer than this is refused: as features it would be useless."""


class DrawnNode(TypedDict):
    """A node and its place."""

    id: str
    label: str
    layer: int
    x: float
    y: float


class DrawnEdge(TypedDict):
    """An edge; `live` when it lies on a path from input to output."""

    source: str
    target: str
    option: str
    decision: str
    live: bool


class Drawing(TypedDict):
    """An architecture's graph as plain JSON."""

    text: str
    nodes: list[DrawnNode]
    edges: list[DrawnEdge]


def drawing(space: SearchSpace, architecture: Architecture) -> Drawing:
    """What a page needs to draw an architecture; x grows from input to output.

    Nodes stand where the space puts them, else in one column per layer.
    """
    graph = space.graph(architecture)
    columns: dict[int, list[str]] = defaultdict(list)
    for node, data in graph.nodes(data=True):
        columns[data["layer"]].append(node)
    nodes: list[DrawnNode] = []
    for layer, column in sorted(columns.items()):
        for row, node in enumerate(column):
            data = graph.nodes[node]
            x, y = data.get("x", float(layer)), data.get("y", row - (len(column) - 1) / 2)
            nodes.append(DrawnNode(id=str(node), label=data["label"], layer=layer, x=x, y=y))
    edges = [
        DrawnEdge(
            source=str(source),
            target=str(target),
            option=data["option"],
            decision=data["decision"],
            live=data["live"],
        )
        for source, target, data in graph.edges(data=True)
    ]
    return Drawing(text=architecture.text, nodes=nodes, edges=edges)


def paths(graph: networkx.MultiDiGraph, *, attribute: str = "option") -> list[tuple[str, ...]]:
    """The edges' `attribute` along every way from input to output, in a fixed order.

    Edges that are not live are not walked; those without an operation (an empty `option`) are, and add nothing.
    """
    ends = _ends(graph)
    if ends is None:
        return []
    found: list[tuple[str, ...]] = []
    stack: list[tuple[str, tuple[str, ...]]] = [(ends[0], ())]
    while stack:
        node, walked = stack.pop()
        if node == ends[1]:
            found.append(walked)
        out = graph.out_edges(node, data=True)
        for _, target, data in out:
            if data["live"]:
                stack.append((target, (*walked, data[attribute]) if data["option"] else walked))
    return sorted(found, key=lambda path: (len(path), path))


def path_vocabulary(space: SearchSpace) -> list[tuple[str, ...]]:
    """Every sequence of options that can lie between input and output, shorter ones first.

    On every one of the space's ways, every choice of options (White et al., 2021, BANANAS, arXiv 1910.11858).

    Raises:
        InfeasibleSpace: there are more than `MAX_PATHS` of them.
    """
    ways = space.ways()
    options = {decision.name: decision.options for decision in space.decisions}
    count = sum(math.prod(len(options[name]) for name in way) for way in ways)
    if count > MAX_PATHS:
        raise InfeasibleSpace(f"{space.name} has {count} paths, more than {MAX_PATHS}; use `encode` instead.")
    sequences = {sequence for way in ways for sequence in itertools.product(*(options[name] for name in way))}
    return sorted(sequences, key=lambda path: (len(path), path))


def path_encoding(
    space: SearchSpace, architecture: Architecture, vocabulary: list[tuple[str, ...]]
) -> npt.NDArray[np.float32]:
    """`len(vocabulary)` zeros and ones: which of these paths the architecture has."""
    present = set(paths(space.graph(architecture)))
    return np.array([path in present for path in vocabulary], dtype=np.float32)


def isomorphism_key(graph: networkx.MultiDiGraph) -> str:
    """A text that is equal for graphs whose live parts are equal up to the names of their nodes.

    Colour refinement (Weisfeiler and Leman, 1968) over ingoing and outgoing edges; networkx's own changed its hashes
    between versions. Unequal graphs with equal keys exist in principle, none among those of the spaces here.
    """
    live = [(source, target, data["option"]) for source, target, data in graph.edges(data=True) if data["live"]]
    ends = _ends(graph) or ()
    used = {node for source, target, _ in live for node in (source, target)}
    colours = {node: f"end {ends.index(node)}" if node in ends else "inner" for node in used}
    for _ in range(len(used)):
        into, out = defaultdict(list), defaultdict(list)
        for source, target, option in live:
            into[target].append((option, colours[source]))
            out[source].append((option, colours[target]))
        colours = {node: _digest(repr((colours[node], sorted(into[node]), sorted(out[node])))) for node in used}
    return _digest(repr(sorted(colours.values())))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _ends(graph: networkx.MultiDiGraph) -> tuple[str, str] | None:
    """The nodes of the first and the last layer, where there is one of each."""
    by_layer = sorted(graph.nodes, key=lambda node: graph.nodes[node]["layer"])
    return (by_layer[0], by_layer[-1]) if len(by_layer) > 1 else None
