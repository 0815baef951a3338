"""Cells of NAS-Bench-101 as arrays: which graphs there are, what of them is live, which are the same, what they cost.

Ying et al., 2019, "NAS-Bench-101: Towards Reproducible Neural Architecture Search", arXiv 1902.09635. Vertices are 0
(input) to 6 (output), edges lead to later ones; a cell with fewer vertices has some that no edge touches. An adjacency
is `7 x 7`, True where the row feeds the column; operations are those of vertices 1 to 5, an index into `OPERATIONS`.
"""

from __future__ import annotations

import itertools
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

OPERATIONS = ("conv3x3", "conv1x1", "maxpool3x3")
"""In the order of the public table's `op_names`."""
KERNELS = (3, 1, 0)
"""Kernel size of every operation; 0: it has no weights."""
VERTICES = 7
MAX_EDGES = 9
EDGES = tuple((source, target) for target in range(1, VERTICES) for source in range(target))
INNER = range(1, VERTICES - 1)
_LAST = VERTICES - 1
_AT_ONCE = 20_000  # graphs, so that what is computed of them stays in the processor's cache


def adjacency_of(codes: Integers) -> Bits:
    """codes: `n`, bit k set where `EDGES[k]` is there -> `n x 7 x 7`."""
    found = np.zeros((len(codes), VERTICES, VERTICES), dtype=np.bool_)
    for bit, (source, target) in enumerate(EDGES):
        found[:, source, target] = codes >> bit & 1
    return found


def codes_of(adjacency: Bits) -> Integers:
    """The inverse of `adjacency_of`: `n x 7 x 7` -> `n`."""
    codes = np.zeros(len(adjacency), dtype=np.int64)
    for bit, (source, target) in enumerate(EDGES):
        codes |= adjacency[:, source, target].astype(np.int64) << bit
    return codes


def padded(adjacency: npt.NDArray[Any], operations: npt.NDArray[Any]) -> tuple[Bits, Integers]:
    """Cells of the public table with seven vertices each, the output last: `n x 7 x 7` and `n x 5`."""
    sizes = (operations != -1).sum(axis=1)
    wide = np.zeros(adjacency.shape, dtype=np.bool_)
    chosen = np.zeros((len(sizes), len(INNER)), dtype=np.int64)
    for size in np.unique(sizes).tolist():
        rows, places = np.flatnonzero(sizes == size), np.array([*range(size - 1), VERTICES - 1])
        wide[np.ix_(rows, places, places)] = adjacency[rows, :size, :size].astype(np.bool_)
        chosen[rows, : size - 2] = operations[rows, 1 : size - 1]
    return wide, chosen


def live_edges(adjacency: Bits) -> Bits:
    """Without the edges that lie on no path from input to output: `n x 7 x 7` -> `n x 7 x 7`."""
    reached = np.zeros(adjacency.shape[:2], dtype=np.bool_)
    reaching = np.zeros_like(reached)
    reached[:, 0] = reaching[:, _LAST] = True
    for vertex in range(1, VERTICES):
        reached[:, vertex] = (adjacency[:, :, vertex] & reached).any(axis=1)
        back = _LAST - vertex
        reaching[:, back] = (adjacency[:, back] & reaching).any(axis=1)
    return np.asarray(adjacency & reached[:, :, None] & reaching[:, None, :])


def touched(adjacency: Bits) -> Bits:
    """Which inner vertices an edge leads to: `n x 7 x 7` -> `n x 5`; of live edges, which vertices are live."""
    return np.asarray(adjacency[:, :, INNER].any(axis=1))


@lru_cache(maxsize=16)
def graphs(required: int, allowed: int) -> Integers:
    """Codes of all graphs of at most nine edges that join input and output, in ascending order.

    Args:
        required: edges that all of them have, as a code.
        allowed: edges that any of them may have, as a code.
    """
    codes: Integers = np.flatnonzero(is_graph())
    kept: Bits = (codes & required == required) & (codes & ~allowed == 0)
    return codes[kept]


@lru_cache(maxsize=16)
def live_codes(required: int, allowed: int) -> Integers:
    """Of each of these `graphs`, the code without what is on no path from input to output; half a second for all."""
    codes = graphs(required, allowed)
    parts = [live_edges(adjacency_of(part)) for part in np.array_split(codes, len(codes) // _AT_ONCE + 1)]
    return np.concatenate([codes_of(part) for part in parts])


@lru_cache(maxsize=16)
def live_graphs(required: int, allowed: int) -> Integers:
    """Those of these `graphs` whose every edge is live: 13,839 of all; where none is, all."""
    codes = graphs(required, allowed)
    found = codes[codes == live_codes(required, allowed)]
    return found if len(found) else codes


@cache
def is_graph() -> Bits:
    """For every code whether it has at most nine edges and they join input and output: `2 ** 21`, 573,494 of them."""
    codes = np.arange(1 << len(EDGES), dtype=np.int64)
    edges = np.zeros(len(codes), dtype=np.int8)
    reached = np.zeros((VERTICES, len(codes)), dtype=np.bool_)
    reached[0] = True
    for bit, (source, target) in enumerate(EDGES):  # by target: what reaches the source is known by then
        there = (codes >> bit & 1).astype(np.bool_)
        edges += there
        reached[target] |= there & reached[source]
    return np.asarray((edges <= MAX_EDGES) & reached[_LAST])


class Orders(NamedTuple):
    """All orders of the five inner vertices, and what turns a cell into its keys under each of them.

    Attributes:
        orders: `120 x 7`, which vertex comes to every place.
        of_edges: `49 x 120`; a cell's adjacency times this is its code of edges in that order, above `TOO_LARGE` where
            an edge would lead back.
        of_operations: `5 x 120`; its operations times this are their code.
    """

    orders: Integers
    of_edges: Floats
    of_operations: Floats


TOO_LARGE = 2.0**40
"""More than any key of an order that keeps edges leading forward; sums of nine of them are exact."""


@cache
def orders() -> Orders:
    """The table that `keys` reads."""
    weight = np.full((VERTICES, VERTICES), TOO_LARGE)
    for bit, (source, target) in enumerate(EDGES):
        weight[source, target] = float(1 << bit)
    found = np.array([(0, *inner, _LAST) for inner in itertools.permutations(INNER)])
    places = np.argsort(found, axis=1)
    of_edges = weight[places[:, :, None], places[:, None, :]].reshape(len(found), -1).T
    powers = np.power(float(len(OPERATIONS)), np.arange(len(INNER), dtype=np.float64)[::-1])
    return Orders(found, of_edges.copy(), powers[places[:, INNER] - 1].T.copy())


def keys(adjacency: Bits, operations: Integers) -> Floats:
    """A number for every cell and every order of its inner vertices; isomorphic cells have the same ones.

    adjacency: `n x 7 x 7`, live edges only. operations: `n x 5`, 0 where no edge touches the vertex. Gives `n x 120`;
    a key is the code of edges first, then that of operations; above `TOO_LARGE` in orders with an edge that leads back.
    """
    table = orders()
    edges = adjacency.reshape(-1, VERTICES**2).astype(np.float64) @ table.of_edges
    return np.asarray(edges * len(OPERATIONS) ** len(INNER) + operations.astype(np.float64) @ table.of_operations)


def reordered(adjacency: Bits, operations: Integers, which: Integers) -> tuple[Bits, Integers]:
    """Every cell with its vertices in order number `which` (`n`); shapes as given."""
    order, rows = orders().orders[which], np.arange(len(adjacency))
    moved = adjacency[rows[:, None, None], order[:, :, None], order[:, None, :]]
    return moved, operations[rows[:, None], order[:, INNER] - 1]


def canonical_cells(adjacency: Bits, operations: Integers) -> tuple[Bits, Integers]:
    """The representatives of the cells' isomorphism classes: live, vertices in the order of the smallest key.

    These are the benchmark's own descriptions, which it found by counting up codes: parameters, which depend on the
    order of vertices where channels do not divide, equal the public table's. 20,001 cells take a fifth of a second.
    """
    live = live_edges(adjacency)
    chosen = np.where(touched(live), operations, 0)
    return reordered(live, chosen, keys(live, chosen).argmin(axis=1))


class Widths(NamedTuple):
    """What one kind of cell works on.

    Attributes:
        inputs: channels that come in.
        outputs: channels that go out.
        pixels: of its images.
        copies: how many such cells a network has.
    """

    inputs: int
    outputs: int
    pixels: int
    copies: int


def weights(
    adjacency: Bits, operations: Integers, cells: tuple[Widths, ...], per_channel: int
) -> tuple[Integers, Integers]:
    """Parameters and multiply-accumulates of all cells of a network, `n` each.

    adjacency: `n x 7 x 7`, live edges only. operations: `n x 5`. per_channel: weights of every output channel of a
    convolution besides its kernel (normalisation, bias); they cost no multiply-accumulates.
    """
    params, flops = np.zeros((2, len(adjacency)), dtype=np.int64)
    squares = np.array(KERNELS)[operations] ** 2
    for cell in cells:
        channels = _channels(adjacency, cell.outputs)
        projected = (adjacency[:, 0, 1:] * channels[:, 1:]).sum(axis=1)
        kernels = (squares * channels[:, INNER] ** 2).sum(axis=1) + cell.inputs * projected
        normalised = projected + ((squares > 0) * channels[:, INNER]).sum(axis=1)
        params += cell.copies * (kernels + per_channel * normalised)
        flops += cell.copies * cell.pixels * kernels
    return params, flops


def _channels(adjacency: Bits, outputs: int) -> Integers:
    """Channels of every vertex, `n x 7`; 0 where no edge touches it.

    What feeds the output shares its channels evenly, the first vertices take what is left over; any other vertex has as
    many as the widest that it feeds.
    """
    channels = np.zeros(adjacency.shape[:2], dtype=np.int64)
    channels[:, _LAST] = outputs
    feeding = adjacency[:, INNER, _LAST]
    number = np.maximum(feeding.sum(axis=1), 1)[:, None]
    extra = np.cumsum(feeding, axis=1) <= outputs % number
    channels[:, INNER] = feeding * (outputs // number + extra)
    for vertex in reversed(INNER):
        widest = (adjacency[:, vertex, :_LAST] * channels[:, :_LAST]).max(axis=1)
        channels[:, vertex] = np.where(adjacency[:, vertex, _LAST], channels[:, vertex], widest)
    return channels
