"""Public tables as predictors see them: architectures, what is learned from, what is tested on, and encodings.

Cells of NAS-Bench-101 and networks of NAS-Bench-Graph are no search spaces here; their encoders, in the parts that
`SpaceEncoder` has, are below.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from benchmarks._data import data_file
from benchmarks._features import Features
from predictors.encoding import BLOCKS, Columns, Encoded, Floats, Graphs, Layers, SpaceEncoder
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture

Archive = Mapping[str, npt.NDArray[np.generic]]
Bits = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

EVERYTHING = (*BLOCKS, "graph")


@dataclass(frozen=True, eq=False)
class Table:
    """Architectures with two measurements each.

    Attributes:
        learned: what predictors are fitted on, `n`, higher better.
        truth: what their ranking is held against, `n`: other data, or other runs, where the table has them.
        encoded: blocks and graphs of all architectures.
        num_labels: the numbers of examples that are published for it.
    """

    name: str
    architectures: tuple[Architecture, ...]
    learned: Floats
    truth: Floats
    encoded: Encoded
    num_labels: tuple[int, ...]

    def __call__(self, architectures: Sequence[Architecture]) -> Encoded:
        """The table is the encoder of its architectures."""
        rows = [self._rows[architecture] for architecture in architectures]
        graphs = self.encoded.graphs
        return Encoded(
            size=len(rows),
            blocks={name: block[rows] for name, block in self.encoded.blocks.items()},
            graphs=graphs and Graphs(graphs.adjacency[rows], graphs.labels[rows], graphs.num_labels),
            scores=known_scores(self.name, architectures),
            layers=known_layers(self.name, architectures),
        )

    @cached_property
    def _rows(self) -> dict[Architecture, int]:
        return {architecture: row for row, architecture in enumerate(self.architectures)}


def known_scores(table: str, architectures: Sequence[Architecture]) -> Columns | None:
    """What ranks architectures of a table for nothing, in their order; None where there is no such thing."""
    stored = _SCORES[table](architectures) if table in _SCORES else None
    features = _FEATURES.get(table)
    if stored is None or features is None:
        return stored
    computed = features.scores(architectures)
    new = [i for i, name in enumerate(computed.names) if name not in stored.names]
    names = (*stored.names, *(computed.names[i] for i in new))
    return Columns(names, np.concatenate([stored.values, computed.values[:, new]], axis=1))


def known_layers(table: str, architectures: Sequence[Architecture]) -> Layers | None:
    """Statistics of the layers of untrained networks, in the order of the architectures; None where there are none."""
    return _FEATURES[table].layers(architectures) if table in _FEATURES else None


def prepare(table: str, architectures: Sequence[Architecture]) -> None:
    """Compute what our proxies say of these architectures, where the table is one of networks that we can build."""
    if table in _COMPUTED:
        features = _FEATURES.setdefault(table, Features(SPACES[table]({"input_shape": (3, 32, 32), "num_classes": 10})))
        features.prepare(architectures)


# --- tables of search spaces -----------------------------------------------------------------------------------------


def nasbench201() -> Table:
    """CIFAR-10: validation accuracy after training on half the images, test accuracy after training on all."""
    table = _archive("nasbench201.npz")
    space = SPACES["nasbench201"]()
    architectures = tuple(space.parse(str(text)) for text in table["arch_str"])
    return Table(
        "nasbench201",
        architectures,
        _floats(table["cifar10_valid_acc"]),
        _floats(table["cifar10_test_acc"]),
        SpaceEncoder(space, EVERYTHING)(architectures),
        (20, 78, 156, 469, 781),
    )


def nasbench_macro() -> Table:
    """CIFAR-10 test accuracy: of one run, and the mean of the two others."""
    table = _archive("nasbench_macro.npz")
    space = SPACES["macro"]()
    architectures = tuple(space.parse(str(text)) for text in table["arch_str"])
    runs = _floats(table["test_acc"])
    return Table(
        "nasbench_macro",
        architectures,
        runs[:, 0],
        runs[:, 1:].mean(axis=1),
        SpaceEncoder(space, EVERYTHING)(architectures),
        (20, 40, 80),
    )


@cache
def _nasbench201_scores() -> tuple[dict[str, int], Columns]:
    table, scores = _archive("nasbench201.npz"), _archive("nasbench201_zero_cost.npz")
    space = SPACES["nasbench201"]()
    costs = [space.counts(space.parse(str(text)), live=True) for text in table["arch_str"]]
    columns = {
        "live_params": np.array([cost.params for cost in costs]),
        "live_flops": np.array([cost.flops for cost in costs]),
        **{name: scores[f"{name}_cifar10"] for name in ("zen", "naswot", "nasi", "ntk")},
    }
    rows = {str(text): row for row, text in enumerate(table["arch_str"])}
    return rows, Columns(tuple(columns), np.stack([_floats(column) for column in columns.values()], axis=1))


@cache
def _macro_scores() -> tuple[dict[str, int], Columns]:
    table = _archive("nasbench_macro.npz")
    rows = {str(text): row for row, text in enumerate(table["arch_str"])}
    return rows, Columns(
        ("live_params", "live_flops"), np.stack([_floats(table[name]) for name in ("params", "flops")], axis=1)
    )


def _of(stored: Callable[[], tuple[dict[str, int], Columns]]) -> Callable[[Sequence[Architecture]], Columns]:
    def scores(architectures: Sequence[Architecture]) -> Columns:
        rows, columns = stored()
        return columns._replace(values=columns.values[[rows[architecture.text] for architecture in architectures]])

    return scores


_COMPUTED = ("nasbench201",)
_FEATURES: dict[str, Features] = {}
_SCORES: Mapping[str, Callable[[Sequence[Architecture]], Columns]] = {
    "nasbench201": _of(_nasbench201_scores),
    "nasbench_macro": _of(_macro_scores),
}


# --- tables of graphs ------------------------------------------------------------------------------------------------


def nasbench101() -> Table:
    """20,001 cells, CIFAR-10 validation accuracy of one run after 108 epochs, which is learned and tested on.

    The cells' operations are nodes. `counts` are how often each is used, the logarithms of parameters and of the number
    of paths, the length of the longest and the most operations with weights on one.
    """
    table = _archive("nasbench101_subset.npz")
    size, sizes = 7, table["n_vertices"].astype(np.int64)
    adjacency = np.zeros((len(sizes), size, size), dtype=np.bool_)
    labels = np.full((len(sizes), size), -1, dtype=np.int64)
    for n in np.unique(sizes):  # the output, the last vertex, becomes the last of seven
        rows, nodes = np.flatnonzero(sizes == n), np.array([*range(n - 1), size - 1])
        adjacency[np.ix_(rows, nodes, nodes)] = table["adjacency"][rows, :n, :n].astype(np.bool_)
        labels[np.ix_(rows, nodes)] = table["ops"][rows, :n]
    graphs = Graphs(adjacency, labels, num_labels=5)
    weighty = labels <= 1  # the two convolutions; -1 is on no path
    params = np.log(_floats(table["trainable_parameters"]))
    accuracy = _floats(table["valid_acc"])[:, -1]
    names = [str(name) for name in table["op_names"]]
    return Table(
        "nasbench101",
        tuple(_cell(a, label, names) for a, label in zip(adjacency, labels, strict=True)),
        accuracy,
        accuracy,
        Encoded(len(sizes), {"paths": _paths(graphs, 3), "counts": _counts(graphs, 3, weighty, params)}, graphs=graphs),
        (100, 172, 424),
    )


def nasbench_graph() -> Table:
    """Graph networks on Cora: validation and test accuracy of one run.

    Four operations, each fed by the input or by one before it; what feeds nothing is fed into the output.
    """
    table = _archive("nasbench_graph.npz")
    links, operations = table["links"].astype(np.int64), table["ops"].astype(np.int64)
    names = [str(name) for name in table["op_names"]]
    n, (first, last, size) = len(links), (len(names), len(names) + 1, links.shape[1] + 2)
    adjacency = np.zeros((n, size, size), dtype=np.bool_)
    for node, source in enumerate(links.T, 1):
        adjacency[np.arange(n), source, node] = True
    adjacency[:, 1:-1, -1] = ~adjacency[:, 1:-1].any(axis=2)
    ends = np.full((n, 1), first), np.full((n, 1), last)
    graphs = Graphs(adjacency, np.concatenate([ends[0], operations, ends[1]], axis=1), num_labels=last + 1)
    weighty = (graphs.labels < first) & (graphs.labels != names.index("skip"))
    onehot = [column[:, None] == np.arange(column.max() + 1) for column in (*operations.T, *links.T)]
    blocks = {
        "onehot": np.concatenate(onehot, axis=1).astype(np.float64),
        "counts": _counts(graphs, len(names), weighty, np.log(_floats(table["params_m"])[:, 0])),
    }
    return Table(
        "nasbench_graph",
        tuple(_cell(a, label, names) for a, label in zip(adjacency, graphs.labels, strict=True)),
        _floats(table["valid_acc"])[:, 0],
        _floats(table["test_acc"])[:, 0],
        Encoded(n, blocks, graphs=graphs),
        (20, 78, 156, 469),
    )


def _cell(adjacency: Bits, labels: Integers, names: Sequence[str]) -> Architecture:
    """A value for a graph that no space here knows."""
    edges = ",".join(f"{a}-{b}" for a, b in np.argwhere(adjacency))
    options = tuple((f"node{node}", names[label]) for node, label in enumerate(labels) if 0 <= label < len(names))
    return Architecture((*options, ("edges", edges)), "+".join([*(name for _, name in options), edges]))


def _counts(graphs: Graphs, num_operations: int, weighty: Bits, params: Floats) -> Floats:
    """The block `counts` of `SpaceEncoder` without FLOPs."""
    n, size = graphs.labels.shape
    ways, longest, deepest = np.zeros((n, size)), np.full((n, size), -np.inf), np.full((n, size), -np.inf)
    ways[:, 0], longest[:, 0], deepest[:, 0] = 1, 0, 0
    for node in range(1, size):
        feeds = graphs.adjacency[:, :, node]
        ways[:, node] = (feeds * ways).sum(axis=1)
        longest[:, node] = np.where(feeds, longest + 1, -np.inf).max(axis=1)
        deepest[:, node] = np.where(feeds, deepest, -np.inf).max(axis=1) + weighty[:, node]
    used = [(graphs.labels == operation).sum(axis=1) for operation in range(num_operations)]
    return np.stack([*used, params, np.log1p(ways[:, -1]), longest[:, -1], deepest[:, -1]], axis=1)


def _paths(graphs: Graphs, num_operations: int) -> Floats:
    """Which sequences of operations lie between input and output; one column for each that could."""
    size = graphs.labels.shape[1]
    sequences = [s for n in range(size - 1) for s in itertools.product(range(num_operations), repeat=n)]
    columns = {sequence: column for column, sequence in enumerate(sequences)}
    found = np.zeros((len(graphs.labels), len(columns)))
    for row, (adjacency, labels) in enumerate(zip(graphs.adjacency, graphs.labels.tolist(), strict=True)):
        after = [np.flatnonzero(feeds).tolist() for feeds in adjacency]
        stack: list[tuple[int, tuple[int, ...]]] = [(0, ())]
        while stack:
            node, walked = stack.pop()
            for following in after[node]:
                if following == size - 1:
                    found[row, columns[walked]] = 1.0
                else:
                    stack.append((following, (*walked, labels[following])))
    return found


def _archive(name: str) -> Archive:
    with np.load(data_file(name), allow_pickle=False) as archive:
        return dict(archive)


def _floats(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


TABLES: Mapping[str, Callable[[], Table]] = {
    "nasbench201": nasbench201,
    "nasbench101": nasbench101,
    "nasbench_macro": nasbench_macro,
    "nasbench_graph": nasbench_graph,
}
