"""Which networks an audit draws, and that what it says of the space, and of the networks near the front, is true."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from nas.pareto import by_rank, nondominated
from nas.resources import Candidate, Objective
from nas.stages._drawing import Chosen, drawn_of, near_front, of_space
from nas.trust import Drawn, Stratum
from predictors.ranking import Design, kendall, kendall_interval
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, SearchSpace

ACCURACY = Objective(metric="accuracy", level="supernet", direction="max")
FLOPS = Objective(metric="flops", level="cost", direction="min")


class Table(NamedTuple):
    """NAS-Bench-201: true accuracy, FLOPs, and a ranker as good as a supernet; row of every text."""

    space: SearchSpace
    texts: list[str]
    truth: np.ndarray
    flops: np.ndarray
    ranker: np.ndarray
    rows: dict[str, int]


@pytest.fixture
def table(data_folder: Path) -> Table:
    with np.load(data_folder / "nasbench201.npz", allow_pickle=False) as known:
        texts = [str(text) for text in known["arch_str"]]
        truth, flops = known["cifar10_test_acc"].astype(float), known["flops_m"].astype(float)
        short = known["cifar10_valid_acc_12ep"].astype(float)
    ranker = short + np.random.default_rng(7).normal(0, 5, size=len(short))
    return Table(SPACES["nasbench201"](), texts, truth, flops, ranker, {text: row for row, text in enumerate(texts)})


def candidates(table: Table, rows: np.ndarray, objectives: list[Objective]) -> list[Candidate]:
    columns = {ACCURACY.key: table.ranker, FLOPS.key: table.flops}
    losses = np.array([[o.loss(columns[o.key][row]) for o in objectives] for row in rows])
    return [
        Candidate(
            job_id="job",
            digest=table.space.parse(table.texts[row]).digest,
            text=table.texts[row],
            number=number,
            values={key: float(column[row]) for key, column in columns.items()},
            on_front=bool(on_front),
            feasible=True,
        )
        for number, (row, on_front) in enumerate(zip(rows, nondominated(losses), strict=True))
    ]


def searched(table: Table, objectives: list[Objective], rng: np.random.Generator) -> np.ndarray:
    """What a search would have looked at: 60 at random, and 100 that the ranker prefers among a few."""
    found = list(rng.choice(len(table.texts), size=60, replace=False))
    for _ in range(100):
        some = rng.choice(len(table.texts), size=50, replace=False)
        ranks = (
            table.ranker[some].argsort().argsort()
            - rng.random() * 2 * (len(objectives) - 1) * table.flops[some].argsort().argsort()
        )
        found.append(some[int(ranks.argmax())])
    return np.unique(found)


def interval(
    table: Table, chosen: list[Chosen], population: str, rng: np.random.Generator
) -> tuple[float | None, tuple[float, float] | None]:
    rows = [table.rows[each.text] for each in chosen]
    strata = [getattr(each.drawn, population) for each in chosen]
    design = Design(tuple(s.number for s in strata), tuple(s.size for s in strata))
    truth, scores = table.truth[rows], table.ranker[rows]
    return kendall(truth, scores, design=design), kendall_interval(truth, scores, rng=rng, resamples=300, design=design)


@pytest.mark.slow
@pytest.mark.parametrize("objectives", [[ACCURACY], [ACCURACY, FLOPS]], ids=["one objective", "two objectives"])
def test_intervals_of_simulated_audits_hold_the_truth_of_both_populations(
    table: Table, objectives: list[Objective]
) -> None:
    """200 audits of 30 networks: nominal 95 %, at least 90 %; the mix of both held the space's in 35 to 65 %."""
    rng, audits = np.random.default_rng(0), 200
    of_all = kendall(table.truth, table.ranker)
    assert of_all is not None
    held, errors = {"space": 0, "near_front": 0}, {"space": [], "near_front": []}
    for _ in range(audits):
        looked_at = candidates(table, searched(table, objectives, rng), objectives)
        near = near_front(looked_at, objectives, 15, rng)
        losses = np.array([[o.loss(c.values[o.key]) for o in objectives] for c in looked_at])
        size = max(60, sum(c.on_front for c in looked_at))
        population = [table.rows[looked_at[i].text] for i in by_rank(losses)[:size]]
        uniform = of_space(
            table.space, 15, rng, cost=lambda a: float(table.flops[table.rows[a.text]]), holds=lambda a: True
        )
        true = {"space": of_all, "near_front": kendall(table.truth[population], table.ranker[population])}
        for name, chosen in (("space", uniform), ("near_front", near)):
            estimate, (low, high) = interval(table, chosen, name, rng)
            held[name] += low <= true[name] <= high
            errors[name].append(estimate - true[name])
    assert min(held.values()) >= 0.9 * audits, held
    for name, found in errors.items():  # no bias beyond three standard errors of the mean
        assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(audits), name


def test_the_best_is_always_drawn_and_every_part_of_what_is_near_twice(table: Table) -> None:
    rng = np.random.default_rng(1)
    looked_at = candidates(table, searched(table, [ACCURACY], rng), [ACCURACY])
    chosen = near_front(looked_at, [ACCURACY], 15, rng)
    best = max(looked_at, key=lambda c: c.values[ACCURACY.key])
    assert chosen[0].digest == best.digest
    assert chosen[0].drawn == Drawn(near_front=Stratum(0, 1))
    _, counts = np.unique([each.drawn.near_front.number for each in chosen[1:]], return_counts=True)
    assert list(counts) == [2] * 7
    assert len({each.digest for each in chosen}) == 15


def test_fewer_candidates_than_are_wanted_are_all_drawn(table: Table) -> None:
    looked_at = candidates(table, np.arange(5), [ACCURACY])
    chosen = near_front(looked_at, [ACCURACY], 15, np.random.default_rng(0))
    assert {each.digest for each in chosen} == {c.digest for c in looked_at}
    assert near_front([], [ACCURACY], 15, np.random.default_rng(0)) == []


def test_of_the_space_only_what_holds_is_drawn_within_a_bounded_number_of_tries(table: Table) -> None:
    def is_small(architecture: Architecture) -> bool:
        return bool(table.flops[table.rows[architecture.text]] < 30)

    chosen = of_space(table.space, 8, np.random.default_rng(0), cost=None, holds=is_small)
    assert len(chosen) == 8
    assert all(table.flops[table.rows[each.text]] < 30 for each in chosen)
    assert of_space(table.space, 8, np.random.default_rng(0), cost=None, holds=lambda a: False) == []


def test_how_a_network_was_drawn_is_kept_by_its_proposal() -> None:
    both = Chosen("a", "b", Drawn(space=Stratum(3, 40), near_front=Stratum(0, 1)))
    assert drawn_of(both.memo) == both.drawn
    assert drawn_of({}) == Drawn()
