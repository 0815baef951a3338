"""What predictors see of architectures: blocks, graphs, ranks and the design matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictors.encoding import BLOCKS, Columns, DesignMatrix, Encoded, SpaceEncoder, score_ranks
from searchspaces import REGISTRY as SPACES
from searchspaces import InfeasibleSpace, path_encoding, path_vocabulary, paths
from tests.nas.conditional import Perceptrons

CELL = SPACES["nasbench201"]({})
CHAIN = SPACES["macro"]({})
OPTIONS_OF_101 = [o for decision in SPACES["nasbench101"]().decisions for o in decision.options]
ALL = (*BLOCKS, "graph")
NAN = float("nan")


def scored(*columns: list[float]) -> Encoded:
    values = np.array(columns, dtype=float).T
    return Encoded(len(values), scores=Columns(tuple(f"score{i}" for i in range(len(columns))), values))


def drawn(space, count: int = 40):
    rng = np.random.default_rng(0)
    return [space.sample(rng) for _ in range(count)]


@pytest.mark.parametrize("name", sorted(SPACES))
def test_an_architecture_is_encoded_alike_alone_and_among_others(name: str) -> None:
    architectures, encoder = drawn(SPACES[name]({})), SpaceEncoder(SPACES[name]({}), ALL)
    together = encoder(architectures)
    assert len(together) == len(architectures)
    for row, architecture in enumerate(architectures):
        alone = SpaceEncoder(SPACES[name]({}), ALL)([architecture])
        for block, values in together.blocks.items():
            assert (alone.blocks[block][0] == values[row]).all()
        assert (alone.graphs.adjacency[0] == together.graphs.adjacency[row]).all()
        assert (alone.graphs.labels[0] == together.graphs.labels[row]).all()


@pytest.mark.parametrize("name", sorted(SPACES))
def test_no_architectures_have_the_same_columns(name: str) -> None:
    encoder = SpaceEncoder(SPACES[name]({}), ALL)
    some, none = encoder(drawn(SPACES[name]({}), 3)), encoder([])
    assert {b: v.shape[1] for b, v in none.blocks.items()} == {b: v.shape[1] for b, v in some.blocks.items()}
    assert none.matrix().shape == (0, some.matrix().shape[1])
    assert none.graphs.adjacency.shape == (0, *some.graphs.adjacency.shape[1:])


def test_paths_and_one_hot_are_those_of_the_space() -> None:
    vocabulary = path_vocabulary(CELL)
    architectures = drawn(CELL)
    blocks = SpaceEncoder(CELL)(architectures).blocks
    assert (blocks["paths"] == [path_encoding(CELL, a, vocabulary) for a in architectures]).all()
    assert (blocks["onehot"] == [CELL.encode(a) for a in architectures]).all()


def test_decisions_that_are_not_active_are_no_nodes() -> None:
    space = Perceptrons()
    encoded = SpaceEncoder(space, ALL)([space.parse("16"), space.parse("8-16-40")])
    shallow, deep = encoded.graphs.labels
    assert (shallow[1:-1] >= 0).tolist() == [False, True, False, False]  # depth is no edge; one layer
    assert (deep[1:-1] >= 0).tolist() == [False, True, True, True]
    assert encoded.graphs.adjacency[1].nonzero()[1].tolist() == [2, 3, 4, 5]
    assert encoded.blocks["counts"][:, -2:].tolist() == [[1, 1], [3, 3]]  # longest path, with weights


def test_a_part_of_a_space_is_encoded() -> None:
    part = CELL
    for decision in CELL.decisions:
        part = part.partition(decision.name, [decision.options[1:], decision.options[:1]])[0]
    encoded = SpaceEncoder(part, ALL)(drawn(part))
    assert encoded.graphs.num_labels == 4 + 2
    assert (encoded.graphs.labels >= 0).all()


def test_what_feeds_what_is_no_node_of_a_graph() -> None:
    space = SPACES["nasbench101"]()
    encoded = SpaceEncoder(space, ALL)([space.parse("conv3x3:0|conv1x1:0|maxpool3x3:12|conv3x3:|conv3x3:0|output:03")])
    graph, label = encoded.graphs.adjacency[0], {option: i for i, option in enumerate(dict.fromkeys(OPTIONS_OF_101))}
    assert set(map(tuple, np.argwhere(graph))) == {(0, 1), (0, 2), (1, 3), (2, 3), (3, 6), (0, 6)}
    names = ["conv3x3", "conv1x1", "maxpool3x3"]
    assert encoded.graphs.labels[0, 1:-1].tolist() == [*(label[name] for name in names), -1, -1]
    vocabulary = path_vocabulary(space)
    has = {vocabulary[i] for i in np.flatnonzero(encoded.blocks["paths"][0])}
    assert has == {(), ("conv3x3", "maxpool3x3"), ("conv1x1", "maxpool3x3")}
    assert len(vocabulary) == sum(3**n for n in range(6))
    assert encoded.blocks["counts"][0, -3:].tolist() == [pytest.approx(np.log1p(3)), 2, 1]


def test_a_graph_with_a_decision_on_several_edges_is_refused() -> None:
    class Shared(type(CHAIN)):
        def graph(self, architecture):
            graph = super().graph(architecture)
            for _, _, data in graph.edges(data=True):
                data["decision"] = "layer_0"
            return graph

    space = Shared(CHAIN.config)
    with pytest.raises(InfeasibleSpace, match="several edges"):
        SpaceEncoder(space, ("graph",))(drawn(space, 1))
    assert len(SpaceEncoder(space, ("counts",))(drawn(space, 1))) == 1


def test_a_chain_has_no_path_bits() -> None:
    assert "paths" not in SpaceEncoder(CHAIN)(drawn(CHAIN, 2)).blocks


def test_counts_say_what_is_live() -> None:
    text = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+|none~0|avg_pool_3x3~1|nor_conv_1x1~2|"
    architecture = CELL.parse(text)
    row = SpaceEncoder(CELL, ("counts",))([architecture]).blocks["counts"][0]
    assert list(row[:5]) == [1, 1, 1, 2, 1]  # none, skip, 1x1, 3x3, pool
    live = CELL.counts(architecture, live=True)
    assert row[5:7] == pytest.approx(np.log1p([live.params, live.flops]))
    assert list(row[7:]) == pytest.approx([np.log1p(3), 3, 3])  # paths: 3-2 (conv, conv, 1x1), skip, pool


def test_what_is_not_live_is_not_in_counts_nor_graph() -> None:
    dangling = CELL.parse("|nor_conv_3x3~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|")
    encoder = SpaceEncoder(CELL, ("counts", "graph"))
    first, second = encoder([dangling]), encoder([CELL.live(dangling)])
    assert (first.blocks["counts"] == second.blocks["counts"]).all()
    assert (first.graphs.labels == second.graphs.labels).all()
    assert (first.graphs.labels >= 0).sum() == 3


@pytest.mark.parametrize("space", [CELL, CHAIN], ids=lambda space: space.name)
def test_ways_through_the_graph_are_the_paths_of_the_space(space) -> None:
    options = list(dict.fromkeys(option for decision in space.decisions for option in decision.options))
    architectures = drawn(space)
    graphs = SpaceEncoder(space, ("graph",))(architectures).graphs
    assert graphs.num_labels == len(options) + 2
    for architecture, adjacency, labels in zip(architectures, graphs.adjacency, graphs.labels, strict=True):
        ways, found = [(0, ())], []
        while ways:
            node, walked = ways.pop()
            if node == len(labels) - 1:
                found.append(walked[:-1])
            ways += [
                (n, (*walked, options[labels[n]] if labels[n] < len(options) else ""))
                for n in adjacency[node].nonzero()[0]
            ]
        assert sorted(found) == sorted(paths(space.graph(architecture)))


def test_undefined_scores_rank_last_and_ties_share() -> None:
    assert score_ranks(np.array([[3.0], [NAN], [5.0], [3.0]]))[:, 0].tolist() == [2.5, 1, 4, 2.5]


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=30, unique=True), st.lists(st.floats(-1e7, 1e7), max_size=20)
)
def test_a_score_in_the_design_matrix_keeps_its_order(fitted: list[float], asked: list[float]) -> None:
    design = DesignMatrix(scored(fitted))
    values = np.array([NAN, *sorted(asked)])
    column = design(scored(list(values)))[:, 0]
    assert np.isfinite(column).all()
    assert (np.diff(column[1:]) >= 0).all()
    assert (column[1:] >= column[0]).all()


def test_a_score_in_the_design_matrix_does_not_care_for_its_scale() -> None:
    fitted, asked = [1.0, 2.0, 4.0, 9.0, NAN], [0.5, 3.0, 20.0]
    plain = DesignMatrix(scored(fitted))
    cubed = DesignMatrix(scored([v**3 for v in fitted]))
    assert plain(scored(fitted)) == pytest.approx(cubed(scored([v**3 for v in fitted])))
    assert (
        np.argsort(plain(scored(asked))[:, 0]).tolist()
        == np.argsort(cubed(scored([v**3 for v in asked]))[:, 0]).tolist()
    )
    assert plain(scored([8.9]))[0, 0] < plain(scored([9.0]))[0, 0] < plain(scored([9.1]))[0, 0]


def test_the_design_matrix_is_standardised_over_the_fitted() -> None:
    fitted = SpaceEncoder(CELL)(drawn(CELL))
    matrix = DesignMatrix(fitted)(fitted)
    assert matrix.mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert matrix.std(axis=0) == pytest.approx(1)
    assert 30 < matrix.shape[1] < 195  # constant columns are gone
