"""What predictors see of architectures: blocks of columns, graphs, layer statistics; a caller chooses which.

A block is one way to write an architecture as numbers. Which ones a predictor uses, and how, is the predictor's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from searchspaces import Architecture, InfeasibleSpace, MeasurementError, SearchSpace, path_vocabulary, paths

Floats = npt.NDArray[np.float64]
Block = Literal["onehot", "paths", "counts", "graph"]

BLOCKS: tuple[Block, ...] = ("onehot", "paths", "counts")

_REMEMBERED = 20_000  # architectures that were encoded; one takes about a kilobyte


class Graphs(NamedTuple):
    """Operations as nodes of directed acyclic graphs, padded to the same number of nodes `V`.

    Attributes:
        adjacency: `n x V x V`, True where the first node feeds the second.
        labels: `n x V`, which operation a node is, 0 to `num_labels - 1`; -1 where there is no node.
        num_labels: input and output are labels as well, the last two.
    """

    adjacency: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]
    num_labels: int


class Columns(NamedTuple):
    """Named numbers about architectures, higher better where they are scores.

    Attributes:
        names: of the columns.
        values: `n x len(names)`; NaN where a number is not defined.
    """

    names: tuple[str, ...]
    values: Floats


class Layers(NamedTuple):
    """Statistics of every layer, in slots: the same place of two networks is the same slot.

    Attributes:
        slots: names of the slots, `S`.
        statistics: names of the statistics, `K`.
        values: `n x S x K`; NaN where an architecture has no layer in the slot.
    """

    slots: tuple[str, ...]
    statistics: tuple[str, ...]
    values: Floats


@dataclass(frozen=True)
class Encoded:
    """What is known of `n` architectures; every part is in their order.

    Attributes:
        blocks: name -> `n x columns`: zeros and ones (`onehot`, `paths`) or numbers (`counts`).
        scores: proxies, costs, a supernet's score: what already ranks the architectures, None where nothing is known.
        graphs: None where they were not asked for.
        layers: None where no layer statistics are known.
    """

    size: int
    blocks: Mapping[str, Floats] = field(default_factory=dict)
    scores: Columns | None = None
    graphs: Graphs | None = None
    layers: Layers | None = None

    def __len__(self) -> int:
        return self.size

    def matrix(self) -> Floats:
        """All blocks and scores side by side, `n x columns`; an undefined score is NaN."""
        parts = [*self.blocks.values(), *([self.scores.values] if self.scores else [])]
        return np.concatenate([np.zeros((self.size, 0)), *parts], axis=1)


class Encoder(Protocol):
    """How a caller writes architectures as numbers; a pure function."""

    def __call__(self, architectures: Sequence[Architecture], /) -> Encoded:
        """The architectures in the order given."""


class Known(Protocol):
    """Numbers that are known of architectures: computed scores, or columns of a table."""

    def __call__(self, architectures: Sequence[Architecture], /) -> Columns:
        """One row per architecture, in the order given."""


class KnownLayers(Protocol):
    """Statistics of layers that are known of architectures."""

    def __call__(self, architectures: Sequence[Architecture], /) -> Layers:
        """One row per architecture, in the order given; equal slots and statistics every time."""


def every_block(space: SearchSpace) -> tuple[Block, ...]:
    """All encodings that a space has: without the graph where one decision stands on several edges."""
    drawn = space.graph(space.extremes().largest).edges(data=True)
    decisions = [data["decision"] for _, _, data in drawn if data["option"]]
    return (*BLOCKS, "graph") if len(set(decisions)) == len(decisions) else BLOCKS


class SpaceEncoder:
    """Encodings that follow from a space alone, and what else is known.

    - `onehot`: `SearchSpace.encode`.
    - `paths`: which sequences of operations lie between input and output (White et al., 2021, BANANAS, arXiv
      1910.11858). Left out where there are too many of them, and of a chain, whose one path `onehot` tells already.
    - `counts`: of the live architecture, how often every option is chosen, the logarithms of parameters and FLOPs (0
      where the space has none on paper), and of its paths their number, the length of the longest and the most
      operations with weights on one of them.
    - `graph`: every live edge of `SearchSpace.graph` as an operation node, in the place of its decision, between input
      (the first node) and output (the last one). A decision stands on one edge at most. Edges without an option, and
      decisions of what feeds what (`link`), are no nodes.

    2,000 architectures take about a quarter of a second, once; the last ones are remembered.

    Args:
        space: whose architectures are encoded.
        blocks: which encodings.
        scores: proxies, costs and the like; none by default.
        layers: statistics of layers; none by default.

    Raises:
        InfeasibleSpace: when called, for a graph with a decision on several edges.
    """

    def __init__(
        self,
        space: SearchSpace,
        blocks: Sequence[Block] = BLOCKS,
        *,
        scores: Known | None = None,
        layers: KnownLayers | None = None,
    ) -> None:
        self.space, self.scores, self.layers = space, scores, layers
        self._blocks = tuple(blocks)
        operations = [decision.name for decision in space.decisions if decision.kind != "link"]
        self._slots = {name: slot for slot, name in enumerate(operations)}
        options = dict.fromkeys(option for decision in space.decisions for option in decision.options)
        self._options = {option: index for index, option in enumerate(options)}
        self._weighty = {
            (decision.name, option)
            for decision in space.decisions
            for option, has_weights in zip(decision.options, decision.parametric, strict=True)
            if has_weights
        }
        self._paths = {path: index for index, path in enumerate(_vocabulary(space))} if "paths" in blocks else {}
        self._walk = lru_cache(maxsize=_REMEMBERED)(self._walked)
        self._bits = lru_cache(maxsize=_REMEMBERED)(space.encode)

    def __call__(self, architectures: Sequence[Architecture]) -> Encoded:
        """The architectures in the order given."""
        walks = [self._walk(architecture) for architecture in architectures] if self._blocks != ("onehot",) else []
        blocks: dict[str, Floats] = {}
        for block in self._blocks:
            if block == "onehot":
                width = sum(len(decision.options) for decision in self.space.decisions)
                bits = [self._bits(architecture) for architecture in architectures]
                blocks[block] = np.array(bits, dtype=np.float64).reshape(len(architectures), width)
            elif block == "counts":
                numbers = [walk.counts for walk in walks]
                blocks[block] = np.array(numbers, dtype=np.float64).reshape(len(walks), len(self._options) + 5)
            elif block == "paths" and self._paths:
                blocks[block] = np.zeros((len(walks), len(self._paths)))
                for row, walk in zip(blocks[block], walks, strict=True):
                    row[list(walk.paths)] = 1.0
        return Encoded(
            size=len(architectures),
            blocks=blocks,
            scores=self.scores(architectures) if self.scores else None,
            graphs=self._graphs(walks) if "graph" in self._blocks else None,
            layers=self.layers(architectures) if self.layers else None,
        )

    def _graphs(self, walks: Sequence[_Walk]) -> Graphs:
        size, num_options = len(self._slots) + 2, len(self._options)
        adjacency = np.zeros((len(walks), size, size), dtype=np.bool_)
        labels = np.full((len(walks), size), -1, dtype=np.int64)
        labels[:, 0], labels[:, -1] = num_options, num_options + 1
        for row, walk in enumerate(walks):
            for slot, option in walk.nodes:
                labels[row, slot] = option
            for first, second in walk.feeds:
                adjacency[row, first, second] = True
        return Graphs(adjacency, labels, num_options + 2)

    def _walked(self, architecture: Architecture) -> _Walk:
        graph = self.space.graph(architecture)
        layers: dict[Any, int] = {node: data["layer"] for node, data in graph.nodes(data=True)}
        by_layer = sorted(layers, key=layers.__getitem__)
        live = [(s, t, data["decision"], data["option"]) for s, t, data in graph.edges(data=True) if data["live"]]
        live.sort(key=lambda edge: layers[edge[0]])  # edges lead to later layers: all into a node come before those out
        ways, longest, deepest = ({by_layer[0]: first} for first in (1, 0, 0))
        into: dict[Any, list[int]] = {by_layer[0]: [0]}
        nodes, feeds = [], []
        for source, target, decision, option in live:
            if not option:
                into.setdefault(target, []).extend(into[source])
                ways[target] = ways.get(target, 0) + ways[source]
                longest[target] = max(longest.get(target, 0), longest[source])
                deepest[target] = max(deepest.get(target, 0), deepest[source])
                continue
            slot, weights = self._slots[decision] + 1, (decision, option) in self._weighty
            nodes.append((slot, self._options[option]))
            feeds += [(before, slot) for before in into[source]]
            into.setdefault(target, []).append(slot)
            ways[target] = ways.get(target, 0) + ways[source]
            longest[target] = max(longest.get(target, 0), longest[source] + 1)
            deepest[target] = max(deepest.get(target, 0), deepest[source] + weights)
        if "graph" in self._blocks and len(dict(nodes)) < len(nodes):
            raise InfeasibleSpace(f"{self.space.name} has a decision on several edges; leave out the block graph.")
        last = by_layer[-1]
        feeds += [(before, len(self._slots) + 1) for before in into.get(last, ()) if last != by_layer[0]]
        counts = [0.0] * len(self._options)
        for _, option in self.space.live(architecture):
            if option in self._options:  # a part of a space may lack what stands for nothing
                counts[self._options[option]] += 1
        counts += self._sizes(architecture)
        counts += [np.log1p(ways.get(last, 0)), longest.get(last, 0), deepest.get(last, 0)]
        found = {self._paths[path] for path in paths(graph) if path in self._paths} if self._paths else ()
        return _Walk(tuple(counts), tuple(found), tuple(nodes), tuple(feeds))

    def _sizes(self, architecture: Architecture) -> list[float]:
        """Logarithms of parameters and FLOPs; zeros where the space has no costs on paper."""
        try:
            return [float(np.log1p(count)) for count in self.space.counts(architecture, live=True)]
        except MeasurementError:
            return [0.0, 0.0]


class _Walk(NamedTuple):
    """What one walk over a graph gives: the row of `counts`, columns of `paths`, (node, label) and (node, node)."""

    counts: tuple[float, ...]
    paths: tuple[int, ...]
    nodes: tuple[tuple[int, int], ...]
    feeds: tuple[tuple[int, int], ...]


def _vocabulary(space: SearchSpace) -> list[tuple[str, ...]]:
    """Empty where paths say nothing, or too much."""
    if len(space.ways()) < 2:
        return []
    try:
        return path_vocabulary(space)
    except InfeasibleSpace:
        return []


def score_ranks(values: Floats) -> Floats:
    """Ranks within every column, `n x M` of 1 (worst) to n (best); ties share their mean, what is undefined is last."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(np.where(np.isfinite(values), values, -np.inf), axis=0), dtype=np.float64)


class NormalScores:
    """Scores as normal scores by their rank among known ones, so that no unit and no outlier rules.

    Between two known values it is interpolated; outside it goes on slower and slower, so that the order is kept.
    Undefined is below all.

    Args:
        known: `n x M`; not finite is undefined.
    """

    def __init__(self, known: Floats) -> None:
        self._knots = [_knots(column) for column in known.T]

    def __call__(self, asked: Floats) -> Floats:
        """asked: `m x M`; gives `m x M`, all finite."""
        columns = [_at(knots, column) for knots, column in zip(self._knots, asked.T, strict=True)]
        return np.stack(columns, axis=1) if columns else np.zeros(asked.shape)


class DesignMatrix:
    """Blocks and scores as one matrix, scaled by the architectures a model is fitted on.

    A column of a block gets mean 0 and deviation 1 over them; so does a score, after `NormalScores`. Columns that are
    constant over the fitted are left out; where all are, one of zeros is left.

    Args:
        fitted: what the model is fitted on, `n` architectures.
    """

    def __init__(self, fitted: Encoded) -> None:
        self._scores = NormalScores(fitted.scores.values) if fitted.scores else None
        columns = self._columns(fitted)
        self._mean, deviation = columns.mean(axis=0), columns.std(axis=0)
        self._kept = deviation > 1e-9
        self._deviation = deviation[self._kept]

    def __call__(self, asked: Encoded) -> Floats:
        """`len(asked) x columns`, all finite."""
        if not self._kept.any():
            return np.zeros((asked.size, 1))
        return np.asarray((self._columns(asked) - self._mean)[:, self._kept] / self._deviation)

    def _columns(self, encoded: Encoded) -> Floats:
        parts = [np.zeros((encoded.size, 0)), *encoded.blocks.values()]
        if self._scores and encoded.scores:
            parts.append(self._scores(encoded.scores.values))
        return np.concatenate(parts, axis=1)


class _Knots(NamedTuple):
    """Where a score is known: distinct values, their normal scores, and the normal score of what is undefined."""

    values: Floats
    scores: Floats
    undefined: float


def _knots(column: Floats) -> _Knots:
    from scipy.stats import norm

    defined, size = np.isfinite(column), len(column)
    quantiles = norm.ppf((score_ranks(column[:, None])[:, 0] - 0.5) / size)
    values, first = np.unique(column[defined], return_index=True)
    lowest = norm.ppf(0.5 / (size + 1)) if defined.all() else quantiles[~defined][0]
    return _Knots(values, quantiles[defined][first], float(lowest))


def _at(knots: _Knots, column: Floats) -> Floats:
    defined = np.isfinite(column)
    scores = np.full(len(column), knots.undefined)
    if len(knots.values) == 0:
        return scores
    asked, low, high = column[defined], knots.values[0], knots.values[-1]
    beyond = np.log1p((np.maximum(asked - high, 0) + np.maximum(low - asked, 0)) / ((high - low) or 1.0))
    floor = (knots.scores[0] - knots.undefined) * beyond / (1 + beyond)  # below the lowest, above what is undefined
    scores[defined] = np.interp(asked, knots.values, knots.scores) + np.where(asked > high, beyond, -floor)
    return scores
