"""The benchmark of predictors: what is learned from and what is tested on, and the encoding of tables."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks._tables import Table, _counts, _paths
from benchmarks.predictors import TESTED, Run, _digest, _drawn, _made, _settings
from nas.streams import stream
from predictors.encoding import BLOCKS, Encoded, Graphs, SpaceEncoder
from predictors.surrogates import REGISTRY
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture

CELL = SPACES["nasbench201"]()


def toy(name: str = "toy", *, size: int = TESTED + 60) -> Table:
    """Architectures whose worth is the sum of their two columns."""
    block = stream(0, "toy").normal(size=(size, 2))
    architectures = tuple(Architecture((), str(row)) for row in range(size))
    return Table(name, architectures, block.sum(axis=1), block.sum(axis=1), Encoded(size, {"counts": block}), (20,))


@pytest.fixture(scope="module")
def cells() -> tuple[SpaceEncoder, Encoded]:
    encoder = SpaceEncoder(CELL, (*BLOCKS, "graph"))
    return encoder, encoder([CELL.sample(stream(0, "cells", n)) for n in range(200)])


def live_nodes(graphs: Graphs) -> Graphs:
    """With labels of operations alone, 0 to 3: no cell has an edge that does nothing."""
    return Graphs(graphs.adjacency, np.where(graphs.labels > 0, graphs.labels - 1, -1), graphs.num_labels - 1)


def test_examples_are_never_tested_and_fewer_are_among_more() -> None:
    table = toy()
    few, tested = _drawn(Run(table, "ridge", {}, 20, 0))
    more, again = _drawn(Run(table, "ridge", {}, 40, 0))
    other, _ = _drawn(Run(table, "ridge", {}, 20, 1))
    assert len(tested) == TESTED
    assert (tested == again).all()
    assert not set(more) & set(tested)
    assert set(few) < set(more)
    assert set(few) != set(other)


def test_a_result_is_known_by_what_the_predictor_sees() -> None:
    table, other = toy(), toy()
    other.encoded.blocks["counts"][:] += 1
    runs = [Run(t, "ridge", {}, 20, 0) for t in (table, toy(), other)]
    digests = [_digest(run, *_drawn(run)) for run in runs]
    assert digests[0] == digests[1] != digests[2]
    settings = Run(table, "ridge", {"penalty": 2.0}, 20, 0)
    assert _digest(settings, *_drawn(settings)) != digests[0]


def test_a_sum_of_columns_is_ranked_and_what_cannot_be_fitted_says_why() -> None:
    run = Run(toy(), "ridge", {}, 40, 0)
    found = _made(run, *_drawn(run))
    assert found.kendall is not None
    assert found.kendall > 0.9
    flat = toy()
    flat.encoded.blocks["counts"][:] = 1
    refused = _made(Run(flat, "gp", {}, 40, 0), *_drawn(run))
    assert refused.kendall is None
    assert "do not differ" in refused.error


@pytest.mark.parametrize("name", list(REGISTRY))
def test_quick_settings_are_settings(name: str) -> None:
    assert _settings(name, quick=False) == {}
    REGISTRY[name].configure(_settings(name, quick=True))


def test_counts_of_tables_are_those_of_spaces(cells: tuple[SpaceEncoder, Encoded]) -> None:
    graphs = cells[1].graphs
    assert graphs is not None
    weighty = (graphs.labels == 2) | (graphs.labels == 3)
    found = _counts(live_nodes(graphs), 4, weighty, np.zeros(200))
    expected = cells[1].blocks["counts"]
    connected = expected[:, -2] > 0
    assert 0 < connected.sum() < 200
    np.testing.assert_allclose(found[:, :4], expected[:, 1:5])
    np.testing.assert_allclose(found[connected, 5:], expected[connected, -3:] + [0, 1, 0])  # nodes, not edges


def test_paths_of_tables_are_those_of_spaces(cells: tuple[SpaceEncoder, Encoded]) -> None:
    graphs = cells[1].graphs
    assert graphs is not None
    found = _paths(live_nodes(graphs), 4)
    np.testing.assert_allclose(found.sum(axis=1), cells[1].blocks["paths"].sum(axis=1))
    same = (found @ found.T) == (cells[1].blocks["paths"] @ cells[1].blocks["paths"].T)
    assert same.all()
