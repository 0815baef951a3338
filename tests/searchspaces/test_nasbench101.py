"""Cells of NAS-Bench-101 against networkx, the published numbers and the public table."""

from __future__ import annotations

import itertools
from pathlib import Path

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchspaces import Architecture, InfeasibleSpace, InvalidArchitecture, SearchSpace, isomorphism_key
from searchspaces._cell_graphs import (
    EDGES,
    INNER,
    OPERATIONS,
    TOO_LARGE,
    Integers,
    adjacency_of,
    codes_of,
    graphs,
    keys,
    live_graphs,
    padded,
    touched,
)
from searchspaces.nasbench101 import LINKS, PLUGIN, VERTEX, NASBench101

SPACE = NASBench101(PLUGIN.configure())  # type: ignore[arg-type]
EVERYTHING = (1 << len(EDGES)) - 1
SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int) -> Architecture:
    """Any description, most with something that is not live."""
    rng, codes = np.random.default_rng(seed), graphs(0, EVERYTHING)
    code = int(codes[rng.integers(len(codes))])
    options = {name: str(code >> bit & 1) for bit, name in enumerate(LINKS)}
    return SPACE.architecture({**options, **{name: str(rng.choice(OPERATIONS)) for name in VERTEX}})


def live_graph(architecture: Architecture) -> networkx.DiGraph:
    """The live part of a cell as networkx finds it, operations on the vertices."""
    graph = networkx.DiGraph((int(name[0]), int(name[-1])) for name in LINKS if architecture[name] == "1")
    kept = {0, 6} | (networkx.descendants(graph, 0) & networkx.ancestors(graph, 6))
    graph = graph.subgraph(kept).copy()
    for vertex in kept:
        graph.nodes[vertex]["operation"] = architecture[VERTEX[vertex - 1]] if vertex in INNER else str(vertex)
    return graph


def are_isomorphic(one: Architecture, other: Architecture) -> bool:
    match = networkx.algorithms.isomorphism.categorical_node_match("operation", None)
    return networkx.is_isomorphic(live_graph(one), live_graph(other), node_match=match)


def relabelled(architecture: Architecture, rng: np.random.Generator) -> Architecture:
    """The same cell with its vertices in another order that keeps edges leading forward."""
    edges = [edge for edge, name in zip(EDGES, LINKS, strict=True) if architecture[name] == "1"]
    orders = [
        place
        for order in itertools.permutations(INNER)
        if all(place[a] < place[b] for place in [(0, *order, 6)] for a, b in edges)
        for place in [(0, *order, 6)]
    ]
    place = orders[int(rng.integers(len(orders)))]
    options = dict.fromkeys(LINKS, "0") | {f"{place[a]}->{place[b]}": "1" for a, b in edges}
    return SPACE.architecture({**options, **{VERTEX[place[v] - 1]: architecture[VERTEX[v - 1]] for v in INNER}})


@given(seed=SEEDS)
def test_only_what_lies_on_a_path_is_live(seed: int) -> None:
    architecture = drawn(seed)
    live = SPACE.live(architecture)
    assert {(int(n[0]), int(n[-1])) for n in LINKS if live[n] == "1"} == set(live_graph(architecture).edges)
    assert networkx.utils.graphs_equal(live_graph(architecture), live_graph(live))


@given(seed=SEEDS)
def test_a_cell_in_another_order_has_the_same_canonical_form_and_encoding(seed: int) -> None:
    architecture = drawn(seed)
    other = relabelled(architecture, np.random.default_rng(seed))
    assert SPACE.canonical(architecture) == SPACE.canonical(other)
    assert (SPACE.encode(architecture) == SPACE.encode(other)).all()
    assert isomorphism_key(SPACE.graph(architecture)) == isomorphism_key(SPACE.graph(other))


@given(seed=SEEDS)
def test_canonical_forms_are_equal_exactly_where_networkx_finds_an_isomorphism(seed: int) -> None:
    one, rng = SPACE.sample(np.random.default_rng(seed)), np.random.default_rng(seed)
    near = [SPACE.mutate(relabelled(one, rng), rng) for _ in range(3)]
    for two in (relabelled(one, rng), *near, SPACE.mutate(near[0], rng)):
        assert (SPACE.canonical(one) == SPACE.canonical(two)) == are_isomorphic(one, two)


@pytest.mark.slow
def test_there_are_as_many_cells_as_published() -> None:
    live = np.unique(live_graphs(0, EVERYTHING))
    used = touched(adjacency_of(live))
    cells: set[float] = set()
    for operations in itertools.product(range(len(OPERATIONS)), repeat=len(INNER)):
        chosen: Integers = np.tile(np.array(operations), (len(live), 1))
        fitting = ~(~used & (chosen > 0)).any(axis=1)  # the first operation where no edge touches the vertex
        smallest = keys(adjacency_of(live[fitting]), chosen[fitting]).min(axis=1)
        cells.update(smallest.tolist())
    assert len(cells) == 423_624
    assert max(cells) < TOO_LARGE


def test_the_extremes_are_the_published_ones() -> None:
    smallest, largest = SPACE.extremes()
    assert (SPACE.counts(smallest).params, SPACE.counts(largest).params) == (227_274, 49_979_274)


def test_the_table_s_cells_have_its_parameters(data_folder: Path) -> None:
    table = np.load(data_folder / "nasbench101_subset.npz", allow_pickle=False)
    texts = SPACE.texts(table["adjacency"], table["ops"])
    assert len(set(texts)) == len(texts) == 20_001
    assert (SPACE.params_all(texts) == table["trainable_parameters"]).all()
    cells, operations = padded(table["adjacency"], table["ops"])
    for row in range(0, len(texts), 500):
        architecture = SPACE.parse(texts[row])
        assert SPACE.counts(architecture).params == table["trainable_parameters"][row]
        assert SPACE.canonical(architecture) == architecture
        options = {name: str(codes_of(cells[row : row + 1])[0] >> bit & 1) for bit, name in enumerate(LINKS)}
        given = {**options, **{n: OPERATIONS[o] for n, o in zip(VERTEX, operations[row], strict=True)}}
        assert SPACE.canonical(SPACE.architecture(given)) == architecture


def test_many_texts_are_encoded_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    architectures = [SPACE.sample(rng) for _ in range(20)]
    together = SPACE.encode_all([architecture.text for architecture in architectures])
    assert (together == [SPACE.encode(architecture) for architecture in architectures]).all()
    assert SPACE.encode_all([]).shape == (0, sum(len(decision.options) for decision in SPACE.decisions))


def test_a_walk_never_has_more_than_nine_edges_and_always_joins_input_and_output() -> None:
    rng = np.random.default_rng(0)
    architecture = SPACE.sample(rng)
    for _ in range(200):
        other = SPACE.sample(rng)
        architecture = SPACE.mutate(SPACE.cross(architecture, other, rng), rng)
        edges = [(int(n[0]), int(n[-1])) for n in LINKS if architecture[n] == "1"]
        assert len(edges) <= 9
        assert networkx.has_path(networkx.DiGraph(edges), 0, 6)


def test_neighbours_are_all_cells_one_edit_away() -> None:
    architecture = SPACE.parse("conv3x3:0|maxpool3x3:1|conv3x3:2|conv3x3:0|conv1x1:034|output:25")
    found = set(SPACE.neighbours(architecture))
    edits = {
        (name, option)
        for other in found
        for (name, option), (_, before) in zip(other, architecture, strict=True)
        if option != before
    }
    assert len(edits) == len(found)  # each in one decision
    operations = [edit for edit in edits if edit[0] in VERTEX]
    assert len(operations) == 2 * len(VERTEX)
    assert len(found) - len(operations) == 9  # it has nine edges: each can go, as some path is left, and none can come


@pytest.mark.parametrize("text", ["", "conv3x3:0", "conv3x3:0|conv3x3:10|conv3x3:|conv3x3:|conv3x3:|output:1"])
def test_a_text_that_is_no_cell_is_refused(text: str) -> None:
    with pytest.raises(InvalidArchitecture, match="vertex"):
        SPACE.parse(text)


def test_a_cell_whose_output_is_not_reached_is_refused() -> None:
    with pytest.raises(InvalidArchitecture, match="do not join"):
        SPACE.parse("conv3x3:0|conv3x3:|conv3x3:|conv3x3:|conv3x3:|output:2")


def part(**options: str) -> SearchSpace:
    """The part of the space whose decisions have these options alone."""
    found: SearchSpace = SPACE
    for name, option in options.items():
        decision = next(d for d in found.decisions if d.name == name)
        rest = [other for other in decision.options if other != option]
        found = found.partition(name, [[option], rest])[0]
    return found


def test_a_part_of_the_space_is_walked_within() -> None:
    rng, found = np.random.default_rng(0), part(**{"0->1": "0", "vertex_3": "maxpool3x3"})
    for _ in range(20):
        one, two = found.sample(rng), found.sample(rng)
        for architecture in (one, found.mutate(one, rng), found.cross(one, two, rng), found.canonical(one)):
            assert found.validate(architecture) == []
    low, high = (found.counts(end).params for end in found.extremes())
    assert all(low <= found.counts(found.sample(rng)).params <= high for _ in range(20))


def test_an_empty_part_of_the_space_says_so() -> None:
    found = part(**{f"{source}->{target}": "0" for source, target in EDGES if target == 6})
    assert found.size() == 0
    with pytest.raises(InfeasibleSpace, match="restrict it less"):
        found.sample(np.random.default_rng(0))
    with pytest.raises(InfeasibleSpace, match="restrict it less"):
        found.extremes()
