"""Graph networks against the public table: its 26,206 classes, its parameters on five data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from searchspaces import InvalidArchitecture, path_vocabulary
from searchspaces.nasbench_graph import PLUGIN, NASBenchGraph

DATASETS: dict[str, dict[str, object]] = {
    "cora": {},
    "citeseer": {"input_shape": [3703], "num_classes": 6},
    "pubmed": {"input_shape": [500], "num_classes": 3, "hidden": 128, "postprocess": False},
    "computers": {"input_shape": [767], "num_classes": 10, "hidden": 64, "preprocess": True},
    "arxiv": {"input_shape": [128], "num_classes": 40, "hidden": 128},
}


def made(dataset: str = "cora") -> NASBenchGraph:
    return NASBenchGraph(PLUGIN.configure(DATASETS[dataset]))  # type: ignore[arg-type]


@pytest.fixture
def table(data_folder: Path) -> dict[str, np.ndarray]:
    with np.load(data_folder / "nasbench_graph.npz", allow_pickle=False) as archive:
        return dict(archive)


@pytest.mark.slow
def test_the_canonical_forms_are_the_rows_of_the_table(table: dict[str, np.ndarray]) -> None:
    space = made()
    everything = list(space.iterate())
    assert len(everything) == space.size() == 59_040
    rows = space.texts(table["links"], table["ops"])
    assert {space.canonical(architecture).text for architecture in everything} == set(rows)
    assert len(set(rows)) == len(rows) == 26_206


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_parameters_are_those_of_the_table(dataset: str, table: dict[str, np.ndarray]) -> None:
    space, column = made(dataset), table["dataset_names"].tolist().index(dataset)
    rows = np.random.default_rng(0).choice(len(table["links"]), 2_000, replace=False)
    texts = space.texts(table["links"][rows], table["ops"][rows])
    published = np.round(table["params_m"][rows, column].astype(np.float64) * 1e6)
    assert (space.params_all(texts) == published).all()


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0123:gat,skip,gcn,fc", "0123:skip,gat,gcn,fc"),  # a skip on the way is nothing
        ("0000:gat,skip,fc,gat", "0111:skip,gat,gat,fc"),  # the raw input is no output
        ("0111:gat,skip,fc,skip", "0111:gat,fc,skip,skip"),  # what the first gives is one, twice
        ("0122:gat,skip,fc,gin", "0122:skip,gat,gin,fc"),  # branches pass a skip
        ("0012:gcn,gat,fc,gin", "0012:gat,gcn,gin,fc"),  # branches stand in order
        ("0013:skip,gat,gcn,fc", "0112:skip,gcn,gat,fc"),  # the longer branch first
    ],
)
def test_networks_that_are_one_have_one_canonical_form(text: str, canonical: str) -> None:
    space = made()
    assert space.canonical(space.parse(text)).text == canonical
    assert space.counts(space.parse(text)) == space.counts(space.parse(canonical))


def test_a_network_of_skips_alone_is_none() -> None:
    with pytest.raises(InvalidArchitecture, match="one operation at least"):
        made().parse("0123:skip,skip,skip,skip")


def test_a_way_has_one_to_four_operations() -> None:
    space = made()
    assert {len(way) for way in space.ways()} == {1, 2, 3, 4}
    assert len(path_vocabulary(space)) == 9 + 9**2 + 9**3 + 9**4


def test_a_part_of_the_space_is_counted_without_its_networks_of_skips() -> None:
    chains, others = made().partition("links", [["0123"], [p for p in made().decisions[0].options if p != "0123"]])
    assert (chains.size(), others.size()) == (9**4 - 1, 8 * (9**4 - 1))
    cheap = ["gcn", "fc"]
    working, _ = chains.partition("op_1", [cheap, [o for o in chains.decisions[1].options if o not in cheap]])
    assert working.size() == 2 * 9**3
    assert working.extremes().largest.text == "0123:fc,arma,arma,arma"
