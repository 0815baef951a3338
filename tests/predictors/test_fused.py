"""The vote, the blend, what it says of itself, and what it is worth on real tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from nas.streams import stream
from predictors.encoding import BLOCKS, Columns, Encoded, Floats, SpaceEncoder
from predictors.ranking import kendall, spearman
from predictors.surrogates import REGISTRY, Predictor, normal_scores
from predictors.surrogates.fused import Fused, Vote, _shares
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture

CELL = SPACES["nasbench201"]()


def numbered(count: int) -> list[Architecture]:
    return [Architecture((), str(row)) for row in range(count)]


class Rows:
    """An encoder that gives the rows of the architectures' numbers."""

    def __init__(self, scores: Floats | None, block: Floats | None = None, names: Sequence[str] = ()) -> None:
        self.scores, self.block, self.names = scores, block, tuple(names)

    def __call__(self, architectures: Sequence[Architecture]) -> Encoded:
        rows = [int(architecture.text) for architecture in architectures]
        blocks = {} if self.block is None else {"counts": self.block[rows]}
        scores = None if self.scores is None else Columns(self.names, self.scores[rows].reshape(-1, len(self.names)))
        return Encoded(len(rows), blocks, scores=scores)


def fused(encoder: Rows, num_labels: int, values: Floats) -> Fused:
    found = REGISTRY["fused"](None, encoder).fit(numbered(num_labels), values[:num_labels], rng=stream(0, "fit"))
    assert isinstance(found, Fused)
    return found


def test_a_vote_adds_logarithms_of_ranks() -> None:
    scores = Columns(("size", "other"), np.array([[5.0, 1.0], [7.0, np.nan], [6.0, 3.0]]))
    expected = np.log(np.array([1, 3, 2]) / 4) + np.log(np.array([2, 1, 3]) / 4)
    np.testing.assert_allclose(Vote(scores, (("size",), ("other",)))(scores), expected)


@pytest.mark.parametrize(
    ("groups", "voters"),
    [
        ((("b", "a"), ("c",)), ["b", "c"]),  # the first of a group that is known
        ((("x", "a"), ("y",)), ["a"]),
        ((("x",),), ["a", "b", "c"]),  # all where none is
    ],
)
def test_of_every_group_the_first_known_score_votes(groups: tuple[tuple[str, ...], ...], voters: list[str]) -> None:
    values = stream(0, "scores").normal(size=(10, 3))
    scores = Columns(("a", "b", "c"), values)
    chosen = Columns(tuple(voters), values[:, ["abc".index(name) for name in voters]])
    every = tuple((name,) for name in voters)
    np.testing.assert_allclose(Vote(scores, groups)(scores), Vote(chosen, every)(chosen))


def test_shares_are_near_equal_until_the_difference_is_certain() -> None:
    rng = stream(0, "errors")
    good, bad = rng.normal(1.0, 1.0, size=4000) ** 2, rng.normal(1.3, 1.0, size=4000) ** 2
    few, many = (_shares(np.stack([good[:n], bad[:n]])) for n in (10, 4000))
    assert few.sum() == many.sum() == pytest.approx(1)
    assert few.min() > 0.1
    assert many[1] < 0.01
    assert (_shares(np.ones((3, 5))) == 1 / 3).all()


def test_without_labels_the_vote_ranks_and_says_so() -> None:
    scores = stream(0, "scores").normal(size=(30, 2))
    found = fused(Rows(scores, names=("live_params", "jacov")), 0, np.zeros(0))
    prediction = found.predict(numbered(30))
    table = Columns(("a", "b"), scores)
    np.testing.assert_allclose(prediction.mean, normal_scores(Vote(table, (("a",), ("b",)))(table)))
    assert (prediction.std == 1).all()
    report = found.report(stream(0, "report"))
    assert (report.ranker, report.num_labels, report.kendall, report.members) == ("vote", 0, None, ())


def test_with_labels_it_learns_what_the_vote_does_not_know() -> None:
    rng = stream(0, "task")
    block, scores = rng.normal(size=(200, 3)), rng.normal(size=(200, 2))
    values = block[:, 0] - block[:, 1] ** 2 - scores[:, 0]  # the first score misleads
    found = fused(Rows(scores, block, ("live_params", "jacov")), 60, values)
    truth, asked = values[60:], numbered(200)[60:]
    tau = kendall(truth, found.predict(asked).mean)
    assert tau is not None
    assert tau > 0.85
    report = found.report(stream(0, "report"))
    assert report.ranker == "blend"
    assert report.kendall == pytest.approx(tau, abs=0.05)
    assert report.interval is not None
    assert report.interval[0] < report.kendall < report.interval[1]
    assert report.vote_kendall is not None
    assert report.vote_kendall < 0
    assert sum(member.share for member in report.members) == pytest.approx(1)
    assert [member.name for member in report.members] == ["alone", "ridge", "vote", "vote alone"]


def test_of_few_labels_it_makes_nothing_but_a_report() -> None:
    rng = stream(0, "few")
    encoder = Rows(rng.normal(size=(40, 2)), rng.normal(size=(40, 3)), ("live_params", "jacov"))
    asked = numbered(40)
    few, none = (fused(encoder, n, np.arange(40.0)).predict(asked).mean for n in (4, 0))
    assert (few == none).all()
    assert fused(encoder, 4, np.arange(40.0)).report(stream(0, "r")).num_labels == 4
    assert not (fused(encoder, 5, np.arange(40.0)).predict(asked).mean == none).all()


def test_where_nothing_is_known_it_refuses() -> None:
    with pytest.raises(ValueError, match="no scores are known and 1 values are too few"):
        fused(Rows(None, np.ones((5, 2))), 1, np.ones(5))
    with pytest.raises(ValueError, match="do not differ"):
        fused(Rows(None, np.ones((9, 2))), 9, np.arange(9.0))


def test_deviations_cover_what_is_missed() -> None:
    rng = stream(0, "cover")
    block = rng.normal(size=(500, 4))
    values = np.sin(2 * block[:, 0]) + block[:, 1] * block[:, 2]
    learned, asked = numbered(500)[:100], numbered(500)[100:]
    found = REGISTRY["fused"]({"target": "standardised"}, Rows(None, block))
    predicted = found.fit(learned, values[:100], rng=stream(0, "fit")).predict(asked)
    truth = (values - values[:100].mean()) / values[:100].std()
    covered = float((np.abs(predicted.mean - truth[100:]) < 1.645 * predicted.std).mean())
    assert 0.82 < covered < 0.98  # 90 % are meant


# --- real tables -----------------------------------------------------------------------------------------------------


def known_of_all(folder: Path) -> tuple[list[Architecture], Floats, Floats, dict[Architecture, Floats]]:
    """NAS-Bench-201: the 725 architectures with stored scores, validation and test accuracy, and size with jacov."""
    with np.load(folder / "nasbench201.npz") as table, np.load(folder / "nasbench201_zero_cost.npz") as scores:
        rows = scores["cifar10_arch_index"]
        architectures = [CELL.parse(str(text)) for text in table["arch_str"][rows]]
        jacov = scores["cifar10_scores"][:, list(scores["proxy_names"]).index("jacov")]
        size = [CELL.counts(architecture, live=True).params for architecture in architectures]
        known = dict(zip(architectures, np.stack([size, jacov], axis=1).astype(float), strict=True))
        return architectures, table["cifar10_valid_acc"][rows], table["cifar10_test_acc"][rows], known


def of_cells(known: dict[Architecture, Floats]) -> SpaceEncoder:
    def scores(architectures: Sequence[Architecture]) -> Columns:
        return Columns(("live_params", "jacov"), np.array([known[a] for a in architectures]).reshape(-1, 2))

    return SpaceEncoder(CELL, (*BLOCKS, "graph"), scores=scores)


def test_size_and_separability_rank_cells_without_a_label(data_folder: Path) -> None:
    """Spearman 0.94 in the spec; either alone has 0.82 and 0.73."""
    architectures, _, truth, known = known_of_all(data_folder)
    found: Predictor = REGISTRY["fused"](None, of_cells(known)).fit([], [], rng=stream(0, "fit"))
    rho = spearman(truth, found.predict(architectures).mean)
    assert rho is not None
    assert rho > 0.93


def test_twenty_labels_do_not_lose_what_the_vote_knew(data_folder: Path) -> None:
    """Five draws: 0.77 +- 0.01 where the vote has 0.79; Gaussian processes on paths alone have 0.42."""
    architectures, learned, truth, known = known_of_all(data_folder)
    encoder, taus = of_cells(known), []
    for seed in range(5):
        drawn = stream(seed, "examples").permutation(len(architectures))
        examples, rest = drawn[:20], drawn[20:]
        found = REGISTRY["fused"](None, encoder)
        found.fit([architectures[row] for row in examples], learned[examples], rng=stream(seed, "fit"))
        taus.append(kendall(truth[rest], found.predict([architectures[row] for row in rest]).mean) or 0.0)
    assert np.mean(taus) > 0.74, taus
