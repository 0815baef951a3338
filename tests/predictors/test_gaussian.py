"""Gaussian processes against their definitions, and what graphs say against walks over them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nas.streams import stream
from predictors.encoding import Columns, Encoded, Graphs
from predictors.surrogates._gaussian import (
    EXPONENTIAL,
    MATERN,
    GaussianProcess,
    Linear,
    Network,
    Parts,
    Shape,
    Stationary,
    Term,
    mixture,
    ridge,
)
from predictors.surrogates._predictor import Floats, Prediction
from predictors.surrogates._structure import Bag, neighbourhoods, path_statistics, places

NETWORK = Network(["a", "b"], depth=2, weight_variance=10.0, bias_variance=1.3, variance=1.0)
TERMS: dict[str, list[Term]] = {
    "matern": [Stationary(MATERN, ["a", "b"], 1.0)],
    "gaussian": [Stationary(EXPONENTIAL, ["a", "b"], 1.0)],
    "linear": [Linear(["a", "b"], 0.5)],
    "network": [NETWORK],
    "sum": [Stationary(MATERN, ["a"], 0.7), Linear(["b"], 0.3), NETWORK],
}


def drawn_parts(n: int, name: str = "parts") -> dict[str, Floats]:
    rng = stream(0, name)
    return {"a": rng.normal(size=(n, 3)), "b": rng.normal(size=(n, 2))}


def covariance(terms: list[Term], process: GaussianProcess, a: dict[str, Floats], b: dict[str, Floats]) -> Floats:
    """Of the fitted process, term by term."""
    ends = np.cumsum([len(term.start()) for term in terms])
    each = zip(terms, np.split(process.parameters[:-1], ends[:-1]), strict=True)
    return np.asarray(sum(term.covariance(term.relations(a, b), parameters) for term, parameters in each))


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
def test_a_process_conditions_on_its_examples(terms: list[Term]) -> None:
    known, asked = drawn_parts(30), drawn_parts(7, "asked")
    targets = stream(0, "targets").normal(size=30)
    process = GaussianProcess(terms).fit(known, targets)
    noise = np.exp(process.parameters[-1]) + 1e-5
    inverse = np.linalg.inv(covariance(terms, process, known, known) + noise * np.eye(30))
    between, own = covariance(terms, process, asked, known), covariance(terms, process, asked, asked)
    found = process.predict(asked)
    np.testing.assert_allclose(found.mean, between @ inverse @ targets, atol=1e-7)
    variance = np.diag(own - between @ inverse @ between.T)
    np.testing.assert_allclose(found.std, np.sqrt(np.maximum(variance, 1e-5)), atol=1e-5)


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
def test_gradients_are_those_of_finite_differences(terms: list[Term]) -> None:
    known, targets = drawn_parts(12), stream(0, "targets").normal(size=12)
    process = GaussianProcess(terms)
    relations = [term.relations(known, known) for term in terms]
    at = process.parameters + 0.3 * stream(0, "at").normal(size=len(process.parameters))
    _, slopes = process._loss(at, relations, targets, np.eye(12))
    for index, slope in enumerate(slopes):
        step = np.zeros_like(at)
        step[index] = 1e-5
        ahead, behind = (process._loss(at + way * step, relations, targets, np.eye(12))[0] for way in (1, -1))
        assert slope == pytest.approx((ahead - behind) / 2e-5, rel=1e-4, abs=1e-5)


def test_what_is_left_out_is_predicted_from_the_others() -> None:
    known, targets = drawn_parts(15), stream(0, "targets").normal(size=15)
    terms = TERMS["matern"]
    process = GaussianProcess(terms).fit(known, targets)
    whole = covariance(terms, process, known, known) + (np.exp(process.parameters[-1]) + 1e-5) * np.eye(15)
    found = process.left_out()
    for row in range(15):
        others = np.arange(15) != row
        weights = np.linalg.solve(whole[np.ix_(others, others)], whole[others, row])
        assert found.mean[row] == pytest.approx(weights @ targets[others], abs=1e-7)
        assert found.std[row] == pytest.approx(np.sqrt(whole[row, row] - weights @ whole[others, row]), abs=1e-7)


def test_parameters_explain_the_targets_better_than_where_they_start() -> None:
    known = drawn_parts(60)
    targets = np.sin(2 * known["a"][:, 0])  # b says nothing
    process = GaussianProcess([Stationary(MATERN, ["a", "b"], 1.0)]).fit(known, targets)
    start = GaussianProcess([Stationary(MATERN, ["a", "b"], 1.0)]).parameters
    assert process.parameters[1] < start[1]  # the length of a is shorter
    assert process.parameters[2] > start[2]
    assert process.parameters[-1] < start[-1]  # there is no noise


@pytest.mark.parametrize("shape", [MATERN, EXPONENTIAL], ids=["matern", "exponential"])
def test_a_shape_falls_from_one_with_its_slope(shape: Shape) -> None:
    u = np.linspace(0.01, 9, 50)
    assert shape.value(np.zeros(1))[0] == 1
    difference = (shape.value(u + 1e-6) - shape.value(u - 1e-6)) / 2e-6
    np.testing.assert_allclose(shape.slope(u), difference, atol=1e-7)
    assert (shape.slope(u) < 0).all()


def test_an_infinite_network_is_the_limit_of_wide_ones() -> None:
    x = {"a": stream(0, "inputs").normal(size=(4, 3))}
    network = Network(["a"], depth=1, weight_variance=2.0, bias_variance=0.5, variance=1.0)
    inputs, rng, width = x["a"] * np.sqrt(2), stream(0, "weights"), 400_000
    hidden = inputs @ rng.normal(scale=np.sqrt(2.0), size=(3, width)) + rng.normal(scale=np.sqrt(0.5), size=width)
    active = np.maximum(hidden, 0)
    expected = 0.5 + 2.0 * active @ active.T / width
    found = network.relations(x, x)[0]
    np.testing.assert_allclose(found / found[0, 0], expected / expected[0, 0], rtol=0.02)
    np.testing.assert_allclose(network.variances(x, np.zeros(1)), np.diag(found), rtol=1e-6)


def test_a_mixture_has_the_moments_of_its_draws() -> None:
    first = Prediction(np.array([0.0, 1.0]), np.array([1.0, 0.1]))
    second = Prediction(np.array([2.0, 1.0]), np.array([0.5, 0.3]))
    found = mixture([first, second], np.array([3.0, 1.0]))
    rng = stream(0, "mixture")
    chosen = rng.random(200_000) < 0.75
    for row in range(2):
        normal = rng.normal(size=200_000)
        draws = np.where(chosen, first.mean[row] + first.std[row] * normal, second.mean[row] + second.std[row] * normal)
        assert found.mean[row] == pytest.approx(draws.mean(), abs=0.01)
        assert found.std[row] == pytest.approx(draws.std(), abs=0.01)


# --- parts -----------------------------------------------------------------------------------------------------------


def encoded(n: int, seed: int) -> Encoded:
    rng = stream(seed, "encoded")
    blocks = {
        "onehot": (rng.random((n, 6)) < 0.5) * 1.0,
        "counts": rng.normal(5, 2, size=(n, 3)),
        "flat": np.ones((n, 2)),
    }
    scores = rng.normal(size=(n, 2))
    scores[0] = np.nan
    return Encoded(n, blocks, scores=Columns(("first", "second"), scores), graphs=random_graphs(n, seed))


def random_graphs(n: int, seed: int, size: int = 6, num_labels: int = 5) -> Graphs:
    """Acyclic graphs whose nodes, but the first and the last, are in no order; some are missing."""
    rng = stream(seed, "graphs")
    labels = np.concatenate(
        [np.full((n, 1), 3), rng.integers(-1, 3, size=(n, size - 2)), np.full((n, 1), 4)], axis=1
    ).astype(np.int64)
    adjacency = np.zeros((n, size, size), dtype=np.bool_)
    for row in range(n):
        there = [node for node in rng.permutation(np.arange(1, size - 1)) if labels[row, node] >= 0]
        for a, b in itertools.combinations([0, *there, size - 1], 2):
            adjacency[row, a, b] = rng.random() < 0.5
    return Graphs(adjacency, labels, num_labels)


def walks(graphs: Graphs, row: int) -> list[list[int]]:
    """Labels along every path from input to output."""
    size, found = graphs.labels.shape[1], []
    stack = [[0]]
    while stack:
        walked = stack.pop()
        if walked[-1] == size - 1:
            found.append([int(graphs.labels[row, node]) for node in walked])
        stack += [[*walked, int(node)] for node in np.flatnonzero(graphs.adjacency[row, walked[-1]])]
    return found


def test_parts_differ_by_one_on_average_and_leave_out_what_is_equal() -> None:
    known = encoded(40, 0)
    parts = Parts(known)
    assert set(parts.names) == {
        *("onehot", "counts", "path statistics", "places", "neighbourhoods", "score first", "score second")
    }
    assert parts.bits == ("onehot",)
    for part in parts(known).values():
        distances = ((part[:, None] - part[None]) ** 2).sum(axis=2)
        assert distances.mean() == pytest.approx(1)
        assert np.isfinite(part).all()


def test_parts_of_an_architecture_do_not_depend_on_who_else_is_asked() -> None:
    parts, asked = Parts(encoded(40, 0)), encoded(10, 1)
    assert asked.graphs is not None
    alone = Encoded(
        1, {name: block[3:4] for name, block in asked.blocks.items()},
        scores=asked.scores and Columns(asked.scores.names, asked.scores.values[3:4]),
        graphs=Graphs(asked.graphs.adjacency[3:4], asked.graphs.labels[3:4], asked.graphs.num_labels),
    )  # fmt: skip
    together = parts(asked)
    for name, part in parts(alone).items():
        np.testing.assert_allclose(part, together[name][3:4], atol=1e-12)


def test_a_ridge_has_no_more_than_its_variance() -> None:
    known = encoded(40, 0)
    parts = Parts(known)
    terms = ridge(parts, 0.3)
    variances = sum(term.variances(parts(known), np.array(term.start())) for term in terms)
    assert np.mean(variances) == pytest.approx(0.3)


# --- structure -------------------------------------------------------------------------------------------------------


def test_path_statistics_are_those_of_the_paths() -> None:
    graphs = random_graphs(60, 2)
    found = path_statistics(graphs)
    for row in range(60):
        every = walks(graphs, row)
        counts = np.array([[*(walk.count(label) for label in range(5)), len(walk)] for walk in every]).reshape(-1, 6)
        nothing = np.zeros(6)
        expected = [nothing] * 3 if not every else [counts.mean(axis=0), counts.max(axis=0), counts.min(axis=0)]
        np.testing.assert_allclose(found[row], [*np.concatenate(expected), np.log1p(len(every))])


def test_places_are_the_longest_distances_from_both_ends() -> None:
    graphs = random_graphs(60, 3)
    size = graphs.labels.shape[1]
    flipped = Graphs(graphs.adjacency.transpose(0, 2, 1)[:, ::-1, ::-1], graphs.labels[:, ::-1], graphs.num_labels)
    codes, mirrored = places(graphs), places(flipped)
    there = codes[:, :size] != 0
    assert (there == (mirrored[:, size:] != 0)[:, ::-1]).all()
    own, other = codes[:, :size][there], mirrored[:, size:][:, ::-1][there]
    assert len(set(zip(own, other, strict=True))) == len(set(own)) == len(set(other))
    row = next(row for row in range(60) if len(walks(graphs, row)) > 1)
    longest = max(len(walk) for walk in walks(graphs, row)) - 1
    assert codes[row, size - 1] == 1 + graphs.labels[row, -1] * size + longest


def test_neighbourhoods_do_not_depend_on_the_order_of_nodes() -> None:
    graphs = random_graphs(60, 4)
    order = np.array([0, 3, 1, 4, 2, 5])
    shuffled = Graphs(graphs.adjacency[:, order][:, :, order], graphs.labels[:, order], graphs.num_labels)
    assert (neighbourhoods(shuffled) == neighbourhoods(graphs)[:, order]).all()
    assert (np.sort(places(shuffled)) == np.sort(places(graphs))).all()
    np.testing.assert_allclose(path_statistics(shuffled), path_statistics(graphs))


def test_neighbourhoods_are_equal_exactly_when_label_feeders_and_fed_are() -> None:
    graphs = random_graphs(200, 5)
    codes, meanings = neighbourhoods(graphs), {}
    for row, node in np.argwhere(graphs.labels >= 0):
        into = sorted(graphs.labels[row, graphs.adjacency[row, :, node]])
        out = sorted(graphs.labels[row, graphs.adjacency[row, node]])
        meanings.setdefault(int(codes[row, node]), set()).add((graphs.labels[row, node], *into, -1, *out))
    assert all(len(meaning) == 1 for meaning in meanings.values())
    assert len(set().union(*meanings.values())) == len(meanings)
    assert (codes[graphs.labels < 0] == 0).all()


def test_squared_distances_of_bags_count_differences() -> None:
    rng = stream(0, "bags")
    fitted, asked = (rng.integers(0, 4, size=(n, 5)).astype(np.uint64) for n in (30, 20))
    asked[0] = [9, 9, 9, 1, 1]  # nobody has a 9
    bag = Bag(fitted)
    a, b = bag(asked), bag(fitted)
    for row, column in itertools.product(range(20), range(30)):
        most = {code: (fitted == code).sum(axis=1).max() for code in range(1, 4)}
        differences = [
            abs(min((asked[row] == code).sum(), most[code]) - (fitted[column] == code).sum()) for code in range(1, 4)
        ]
        unknown = (asked[row] > 3).sum()
        assert ((a[row] - b[column]) ** 2).sum() == pytest.approx(sum(differences) + unknown)
