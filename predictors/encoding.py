"""What predictors see of architectures: blocks of columns, graphs, layer statistics; a caller chooses which.

A block is one way to write an architecture as numbers. Which ones a predictor uses, and how, is the predictor's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from searchspaces import Architecture, SearchSpace, path_encoding, path_vocabulary

Floats = npt.NDArray[np.float64]
Block = Literal["onehot", "paths", "counts", "graph"]

BLOCKS: tuple[Block, ...] = ("onehot", "paths", "counts")


class Graphs(NamedTuple):
    """Operations as nodes of directed acyclic graphs, padded to the same number of nodes `V`.

    Attributes:
        adjacency: `n x V x V`, True where the first node feeds the second.
        labels: `n x V`, which operation a node is, 0 to `num_labels - 1`; -1 where there is no node.
        num_labels: input and output are labels as well.
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

    def __call__(self, architectures: Sequence[Architecture]) -> Encoded:
        """The architectures in the order given."""


class Known(Protocol):
    """Numbers that are known of architectures: computed scores, or columns of a table."""

    def __call__(self, architectures: Sequence[Architecture]) -> Columns:
        """One row per architecture, in the order given."""


class SpaceEncoder:
    """Encodings that follow from a space alone, and what else is known.

    Args:
        space: whose architectures are encoded.
        blocks: which encodings; `paths` is left out where the space has too many of them.
        scores: proxies, costs and the like; none by default.
    """

    def __init__(self, space: SearchSpace, blocks: Sequence[Block] = BLOCKS, *, scores: Known | None = None) -> None:
        self.space, self.scores = space, scores
        self._blocks = tuple(blocks)

    def __call__(self, architectures: Sequence[Architecture]) -> Encoded:
        raise NotImplementedError
