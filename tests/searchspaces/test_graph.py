"""Drawings, paths as features, and the isomorphism key."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict

import networkx
import numpy as np
import pytest

from searchspaces import (
    REGISTRY,
    InfeasibleSpace,
    SearchSpace,
    drawing,
    isomorphism_key,
    path_encoding,
    path_vocabulary,
    paths,
)
from searchspaces import _graph as graph_module

TEXT = "|avg_pool_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


@pytest.fixture
def space() -> SearchSpace:
    return REGISTRY["nasbench201"]({})


def test_a_drawing_is_plain_json_with_a_place_for_every_node(space: SearchSpace) -> None:
    drawn = drawing(space, space.parse(TEXT))
    assert json.loads(json.dumps(drawn)) == drawn
    assert [node["id"] for node in drawn["nodes"]] == ["0", "1", "2", "3"]
    assert len({(node["x"], node["y"]) for node in drawn["nodes"]}) == 4
    assert {(e["source"], e["target"], e["option"]) for e in drawn["edges"]} == {
        ("0", "1", "avg_pool_3x3"),
        ("1", "2", "nor_conv_1x1"),
        ("0", "3", "skip_connect"),
        ("2", "3", "nor_conv_3x3"),
    }


def test_no_two_edges_of_a_drawn_cell_cross(space: SearchSpace) -> None:
    drawn = drawing(space, space.extremes().largest)
    place = {node["id"]: np.array([node["x"], node["y"]]) for node in drawn["nodes"]}

    def side(a: str, b: str, c: str) -> float:
        (ax, ay), (bx, by), (cx, cy) = place[a], place[b], place[c]
        return float(np.sign((bx - ax) * (cy - ay) - (by - ay) * (cx - ax)))

    for one, other in itertools.combinations(drawn["edges"], 2):
        a, b, c, d = one["source"], one["target"], other["source"], other["target"]
        if len({a, b, c, d}) == 4:
            assert side(a, b, c) == side(a, b, d) or side(c, d, a) == side(c, d, b)


def test_a_chain_is_drawn_in_one_row() -> None:
    macro = REGISTRY["macro"]({})
    drawn = drawing(macro, macro.parse("01201201"))
    assert [node["x"] for node in drawn["nodes"]] == list(range(9))
    assert {node["y"] for node in drawn["nodes"]} == {0}


def test_paths_are_the_options_along_live_ways(space: SearchSpace) -> None:
    graph = space.graph(space.parse(TEXT))
    assert paths(graph) == [("skip_connect",), ("avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")]
    assert paths(space.graph(space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"))) == []


def test_the_cell_space_has_155_paths_of_which_84_go_through(space: SearchSpace) -> None:
    vocabulary = path_vocabulary(space)
    assert len(vocabulary) == 155
    assert sum("none" not in path for path in vocabulary) == 84
    encoded = path_encoding(space, space.parse(TEXT), vocabulary)
    assert [vocabulary[i] for i in np.flatnonzero(encoded)] == paths(space.graph(space.parse(TEXT)))


def test_a_vocabulary_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "MAX_PATHS", 1000)
    with pytest.raises(InfeasibleSpace, match="6561 paths"):
        path_vocabulary(REGISTRY["macro"]({}))


def test_equal_keys_are_isomorphic_graphs_and_unequal_ones_are_not(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    by_key: dict[str, list[networkx.DiGraph]] = defaultdict(list)
    for _ in range(60):
        live = space.live(space.sample(rng))
        by_key[isomorphism_key(space.graph(live))].append(networkx.DiGraph(space.graph(live)))
    for graphs in by_key.values():
        for graph in graphs[1:]:
            assert same(graphs[0], graph)
    for one, other in itertools.combinations((graphs[0] for graphs in by_key.values()), 2):
        assert not same(one, other)


def same(one: networkx.DiGraph, other: networkx.DiGraph) -> bool:
    one, other = (graph.subgraph([n for n in graph if graph.degree(n) or n in "03"]) for graph in (one, other))
    return bool(networkx.is_isomorphic(one, other, edge_match=lambda a, b: a["option"] == b["option"]))
