"""What a graph of operations says of an architecture, as numbers: its paths, places and neighbourhoods."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from predictors.encoding import Graphs

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint64]
Number = TypeVar("Number", np.float64, np.uint64)

_ROWS = 2_000
NOTHING = np.uint64(0)
"""The code where there is no node."""


def path_statistics(graphs: Graphs) -> Floats:
    """Of every label, and of all together, how many nodes with it the paths from input to output have.

    The mean, the most and the fewest over the paths, and the logarithm of one more than the number of paths:
    `n x (3 (num_labels + 1) + 1)`; zeros where no path leads to the output. What separates cells that use equal
    operations: whether the same ones lie one after the other, or side by side.
    """
    return _in_chunks(_path_statistics, graphs)


def places(graphs: Graphs) -> Codes:
    """A code of every node's label and its distance from the input, and one with that to the output: `n x 2V`.

    Distances are those along the longest way.
    """
    return _in_chunks(_places, graphs)


def neighbourhoods(graphs: Graphs) -> Codes:
    """A code of every node's label with those that feed it and that it feeds, `n x V`.

    One round of colour refinement over a directed graph (Weisfeiler and Leman, 1968; as features, Shervashidze et al.,
    2011, Weisfeiler-Lehman Graph Kernels, JMLR 12). More rounds told no more on any table.
    """
    return _in_chunks(_neighbourhoods, graphs)


class Bag:
    """How often every code occurs, written so that the squared distance of two rows is the sum of differences.

    A count c is c ones (a thermometer); codes that no fitted architecture has share the square root of their number.

    Args:
        fitted: `n x nodes`, what decides which codes have columns.
    """

    def __init__(self, fitted: Codes) -> None:
        self._codes = np.unique(fitted[fitted != NOTHING])
        counts = self._counts(fitted)[:, :-1]
        self._most = counts.max(axis=0, initial=0).astype(int)

    def __call__(self, asked: Codes) -> Floats:
        """`len(asked) x columns`."""
        counts = self._counts(asked)
        levels = range(1, int(self._most.max(initial=0)) + 1)
        bits = [counts[:, :-1][:, self._most >= level] >= level for level in levels]
        return np.concatenate([*bits, np.sqrt(counts[:, -1:])], axis=1).astype(np.float64)

    def _counts(self, codes: Codes) -> Floats:
        counts = np.zeros((len(codes), len(self._codes) + 1))
        column = np.searchsorted(self._codes, codes)
        at = np.minimum(column, max(0, len(self._codes) - 1))
        known = self._codes[at] == codes if len(self._codes) else np.zeros(codes.shape, dtype=bool)
        column = np.where(known, column, len(self._codes))
        row, node = np.nonzero(codes != NOTHING)
        np.add.at(counts, (row, column[row, node]), 1.0)
        return counts


def _in_chunks(function: Callable[[Graphs], npt.NDArray[Number]], graphs: Graphs) -> npt.NDArray[Number]:
    """The function of some rows at a time: its arrays are much larger than its result."""
    parts = [
        function(Graphs(graphs.adjacency[i : i + _ROWS], graphs.labels[i : i + _ROWS], graphs.num_labels))
        for i in range(0, max(1, len(graphs.labels)), _ROWS)
    ]
    return np.concatenate(parts)


def _depths(adjacency: npt.NDArray[np.bool_], start: int) -> Floats:
    """Length of the longest way from node `start` to every node, `n x V`; minus infinity where there is none."""
    n, size, _ = adjacency.shape
    depth = np.full((n, size), -np.inf)
    depth[:, start] = 0
    for _ in range(size):
        further = np.where(adjacency, depth[:, :, None] + 1, -np.inf).max(axis=1)
        if (further <= depth).all():
            break
        depth = np.maximum(depth, further)
    return depth


def _path_statistics(graphs: Graphs) -> Floats:
    n, size = graphs.labels.shape
    depth, rows = _depths(graphs.adjacency, 0), np.arange(n)[:, None]
    order = np.argsort(np.where(np.isfinite(depth), depth, size), axis=1, kind="stable")  # whoever feeds comes first
    feeds = graphs.adjacency[rows[:, :, None], order[:, :, None], order[:, None, :]]
    label = graphs.labels[rows, order]
    has = np.concatenate([label[:, :, None] == np.arange(graphs.num_labels), np.ones((n, size, 1), bool)], axis=2) * 1.0
    ways = np.zeros((n, size))
    ways[:, 0] = 1
    total, most, fewest = has * ways[:, :, None], np.full(has.shape, -np.inf), np.full(has.shape, np.inf)
    most[:, 0] = fewest[:, 0] = has[:, 0]
    for node in range(1, size):
        into = feeds[:, :, node]
        ways[:, node] = (into * ways).sum(axis=1)
        total[:, node] = (into[:, :, None] * total).sum(axis=1) + ways[:, node, None] * has[:, node]
        most[:, node] = np.where(into[:, :, None], most, -np.inf).max(axis=1) + has[:, node]
        fewest[:, node] = np.where(into[:, :, None], fewest, np.inf).min(axis=1) + has[:, node]
    last = (np.arange(n), np.argmax(order == size - 1, axis=1))
    found = ways[last][:, None]
    statistics = [total[last] / np.maximum(found, 1), most[last], fewest[last]]
    return np.concatenate([np.where(found > 0, part, 0.0) for part in (*statistics, np.log1p(found))], axis=1)


def _places(graphs: Graphs) -> Codes:
    size = graphs.labels.shape[1]
    ends = (graphs.adjacency, 0), (graphs.adjacency.transpose(0, 2, 1), size - 1)
    codes = []
    for side, (adjacency, start) in enumerate(ends):
        depth = _depths(adjacency, start)
        there = (graphs.labels >= 0) & np.isfinite(depth)
        code = 1 + ((side * graphs.num_labels + graphs.labels) * size + np.where(there, depth, 0)).astype(np.int64)
        codes.append(np.where(there, code, 0).astype(np.uint64))
    return np.concatenate(codes, axis=1)


def _neighbourhoods(graphs: Graphs) -> Codes:
    there = graphs.labels >= 0
    own, before, after = (
        np.where(there, _numbers(role, graphs.num_labels)[graphs.labels], NOTHING) for role in ("is", "from", "to")
    )
    into = np.where(graphs.adjacency, before[:, :, None], NOTHING).sum(axis=1, dtype=np.uint64)
    out = np.where(graphs.adjacency, after[:, None, :], NOTHING).sum(axis=2, dtype=np.uint64)
    return np.where(there, own + into + out, NOTHING)


def _numbers(role: str, count: int) -> Codes:
    """Fixed numbers of 64 bits: sums of them are equal only for equal collections, in practice."""
    digests = (hashlib.blake2b(f"{role} {index}".encode(), digest_size=8).digest() for index in range(count))
    return np.array([int.from_bytes(digest, "little") for digest in digests], dtype=np.uint64)
