"""Searchers that rank by models: what they see, what they choose among, and what they find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks._search_tasks import Outcome, Task, outcome
from benchmarks.search_tables import MOST, summary
from nas.history import History, Record
from nas.pareto import by_rank
from nas.resources import EvaluationState, Objective
from nas.scoring import Scores
from nas.searchers import REGISTRY, Searcher
from nas.searchers._candidates import Candidates, CandidatesConfig, smallest
from nas.searchers._outlook import Outlook, OutlookConfig, pushed_back
from nas.searchers._posterior import Distances, Posterior, Shape, encoder_of
from nas.simulation import Measured, simulate
from nas.streams import stream
from predictors.surrogates import robot_queries, robot_search
from predictors.zerocost import REGISTRY as PROXIES
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, SearchSpace
from tests.nas.conditional import Perceptrons

ACCURACY = (Objective(metric="accuracy", level="full", direction="max"),)
SPACE: SearchSpace = SPACES["nasbench201"]()


def worth(architecture: Architecture) -> float:
    """Smooth, with one best: the more weights on live edges, the better."""
    return float(np.log(SPACE.counts(architecture, live=True).params))


def record(number: int, architecture: Architecture, violation: float = 0.0) -> Record:
    state = EvaluationState.INFEASIBLE if violation else EvaluationState.FINISHED
    return Record(number, architecture, state, None if violation else (worth(architecture),), violation)


def history(count: int, violation: float = 0.0) -> History:
    found = History(ACCURACY)
    for number in range(count):
        found.add(record(number, SPACE.sample(stream(0, number)), violation * (number + 1)))
    return found


def reborn(address: int) -> History:
    """A new history at an address that another one had, where Python gives it."""
    tried = [History(ACCURACY)]
    while id(tried[-1]) != address and len(tried) < 1_000:
        tried.append(History(ACCURACY))
    return tried[-1]


def seeded(seed: int, found: History) -> History:
    for number in range(12):
        rng = stream(seed, number)
        found.add(Record(number, SPACE.sample(rng), EvaluationState.FINISHED, (rng.random(),)))
    return found


def test_what_was_learned_of_a_history_is_not_taken_for_another_at_its_place() -> None:
    asked = [SPACE.sample(stream(9, number)) for number in range(20)]
    config = REGISTRY["weaknas"].configure({"predictor": "ridge", "labels": 10})
    assert isinstance(config, OutlookConfig)
    outlooks = [Outlook(config, SPACE, ACCURACY, None, encoder_of(SPACE)) for _ in range(2)]
    searchers = [REGISTRY["weaknas"].create(config, SPACE, ACCURACY) for _ in range(2)]
    first = seeded(1, History(ACCURACY))
    outlooks[0].expected(first, asked)
    searchers[0].ask(first, 4, stream(0))
    place = id(first)
    del first
    second = seeded(2, reborn(place))
    used, fresh = (outlook.expected(second, asked) for outlook in outlooks)
    assert np.array_equal(used, fresh)
    proposed = [[made.text for made in searcher.ask(second, 4, stream(0))] for searcher in searchers]
    assert proposed[0] == proposed[1]


# --- candidates ------------------------------------------------------------------------------------------------------


def test_candidates_are_live_new_and_near_the_best() -> None:
    known = history(30)
    found = Candidates(CandidatesConfig(parents=2, samples=40), SPACE)(known, stream(1))
    best = sorted(known.settled, key=lambda r: -worth(r.architecture))[:2]
    near = {SPACE.live(n).text for r in best for n in SPACE.neighbours(r.architecture)}
    assert near - {r.architecture.text for r in known.settled} <= {a.text for a in found}
    assert all(SPACE.live(a) == a and not known.has_seen(a) for a in found)
    assert len(set(found)) == len(found)
    assert len(near) < len(found) <= len(near) + 40


def test_while_nothing_is_feasible_candidates_are_near_what_breaks_least() -> None:
    known = history(12, violation=0.1)
    made = Candidates(CandidatesConfig(parents=1), SPACE)
    assert made.incumbents(known, stream(0)) == [known.settled[0].architecture]


def test_three_quarters_of_the_samples_stay_for_the_next_proposal() -> None:
    made, known = Candidates(CandidatesConfig(samples=400), SPACE), history(20)
    first = set(made.anywhere(known, stream(0)))
    known.add(record(20, SPACE.sample(stream(9))))
    second = set(made.anywhere(known, stream(0)))
    assert 0.6 < len(first & second) / len(second) < 0.9
    assert second == set(Candidates(CandidatesConfig(samples=400), SPACE).anywhere(known, stream(0)))


def test_of_very_many_neighbours_only_so_many_are_made_as_are_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    space = SPACES["options"]({"decisions": {f"d{i}": [str(j) for j in range(500)] for i in range(20)}})
    known = History(ACCURACY)
    for number in range(12):
        known.add(Record(number, space.sample(stream(0, number)), EvaluationState.FINISHED, (float(number),)))
    made = 0
    complete = type(space)._complete

    def counted(*given: Any) -> Architecture:
        nonlocal made
        made += 1
        return complete(*given)

    monkeypatch.setattr(type(space), "_complete", counted)
    config = CandidatesConfig(parents=4, near=100, samples=0)
    found = Candidates(config, space)(known, stream(1))
    assert 0 < len(found) <= made <= 100
    parents = [r.architecture for r in known.settled[-4:]]
    edits = [min(len(set(a.options) - set(p.options)) for p in parents) for a in found]
    assert set(edits) == {1}
    assert Candidates(config, space)(known, stream(1)) == found


def test_candidates_end_with_the_space() -> None:
    space, known = Perceptrons(2), History(ACCURACY)
    for number, architecture in enumerate(space.iterate()):
        known.add(Record(number, architecture, EvaluationState.FINISHED, (0.0,)))
    assert Candidates(CandidatesConfig(), space)(known, stream(0)) == []


def test_the_smallest_are_the_older_among_equals() -> None:
    assert smallest(np.array([3.0, 1.0, 2.0, 1.0, 1.0]), 3) == [1, 3, 4]
    assert smallest(np.array([3.0, 1.0]), 3) == [1, 0]


# --- the model -------------------------------------------------------------------------------------------------------


def distances(known: int = 20, asked: int = 15) -> tuple[Distances, list[Architecture], list[Architecture]]:
    drawn = list(dict.fromkeys(SPACE.sample(stream(3, i)) for i in range(known + asked)))
    return Distances(drawn[:known], drawn[known:], encoder_of(SPACE)), drawn[:known], drawn[known:]


def test_what_is_expected_changes_deviations_alone_as_if_it_had_been_measured() -> None:
    found, known, asked = distances()
    targets, shape = stream(4).normal(size=len(known)), Shape(2.0, 0.1)
    posterior = Posterior(found, range(len(known)), targets, shape)
    mean, before = posterior.mean.copy(), posterior.std
    posterior.expect(2, 5)
    np.testing.assert_array_equal(posterior.mean, mean)
    assert (posterior.std <= before + 1e-12).all()
    assert posterior.std[2] < before[2]

    # One after the other is the same as both at once, and the same as conditioning on their means.
    single = Posterior(found, range(len(known)), targets, shape)
    single.expect(2)
    single.expect(5)
    np.testing.assert_allclose(single.std, posterior.std, rtol=1e-6)
    kernel = _matern(found, known, asked, shape)
    n = len(known)
    rows = [*range(n), n + 2, n + 5]
    inner = kernel[np.ix_(rows, rows)] + (shape.noise + 1e-6) * np.eye(len(rows))
    across = kernel[rows][:, n:]
    exact = across.T @ np.linalg.solve(inner, np.concatenate([targets, mean[[2, 5]]]))
    np.testing.assert_allclose(exact, mean, atol=1e-6)
    variance = 1.0 - (across * np.linalg.solve(inner, across)).sum(axis=0)
    np.testing.assert_allclose(posterior.std**2, np.maximum(variance, 1e-6), atol=1e-6)


def _matern(found: Distances, known: list[Architecture], asked: list[Architecture], shape: Shape) -> np.ndarray:
    """The covariance of all, from distances that `Distances` gives."""
    rows, everyone = range(len(known)), range(len(asked))
    among, across = found.among(rows, found.names), found.across(rows, found.names)
    under = found.from_asked(everyone, found.names)
    u = np.block([[among, across], [across.T, under]]) / shape.length
    root = np.sqrt(5 * u)
    return np.asarray((1 + root + 5 * u / 3) * np.exp(-root))


def test_distances_of_equal_architectures_say_that_nothing_can_be_learned() -> None:
    same = [SPACE.sample(stream(0))] * 3
    with pytest.raises(ValueError, match="all the same"):
        Distances(same, same, encoder_of(SPACE))


def test_a_random_part_of_the_views_is_never_empty_and_not_always_the_same() -> None:
    found, _, _ = distances()
    parts = {found.some(stream(0, i)) for i in range(40)}
    assert all(parts)
    assert len(parts) == 2 ** len(found.names) - 1


# --- searchers -------------------------------------------------------------------------------------------------------


def searched(name: str, evaluations: int, scores: Scores | None = None, **settings: object) -> History:
    plugin = REGISTRY[name]
    given = (scores or Scores(SPACE),) if plugin.flags.get("ranks") else ()
    made: Searcher = plugin(settings, SPACE, ACCURACY, *given)
    return simulate(made, lambda p, a: Measured((worth(a),)), evaluations=evaluations, seed=1, batch=4).history


@pytest.mark.parametrize("name", ["gp_its", "linas", "weaknas"])
def test_a_model_finds_what_a_smooth_landscape_hides(name: str) -> None:
    """Of 15,625 architectures: 60 uniform samples hold one of the best twenty in fewer than one search of twelve."""
    settings = {"weaknas": {"predictor": {"name": "ridge"}}}.get(name, {})
    twentieth = sorted(map(worth, SPACE.iterate()))[-20]
    assert max(r.values[0] for r in searched(name, 60, **settings).settled if r.values) >= twentieth


def test_robot_measures_what_a_score_puts_on_top() -> None:
    drawn = [SPACE.sample(stream(5, i)) for i in range(300)]
    pool = {a: {"naswot": worth(a), "synflow": float(stream(6, i).normal())} for i, a in enumerate(drawn)}
    scores = Scores(SPACE, {name: PROXIES[name]() for name in ("naswot", "synflow")}, pool=pool, costs={})
    found = [r.values[0] for r in searched("robot", 24, scores, budget=12).settled if r.values]
    assert max(found) == max(map(worth, pool))
    assert np.mean(found[-8:]) > np.quantile([worth(a) for a in pool], 0.75)


def test_queries_of_robot_are_those_of_its_search() -> None:
    values = stream(1).normal(size=40)
    scores = np.stack([values + stream(2).normal(size=40), stream(3).normal(size=40)], axis=1)
    whole = robot_search(scores, lambda i: float(values[i]), 10, rng=stream(4))
    asked, queries = [], robot_queries(scores, 10, rng=stream(4))
    asked.append(next(queries).row)
    for index in whole.indices[1:]:
        asked.append(queries.send(float(values[asked[-1]])).row)
        assert asked[-1] == index
    assert tuple(asked) == whole.indices


def test_half_of_a_warm_start_is_uniform() -> None:
    found = searched("warm_start", 10)
    top = sorted((worth(r.architecture) for r in found.settled), reverse=True)
    assert len(found) == 10
    assert top[4] > np.quantile([worth(SPACE.sample(stream(8, i))) for i in range(400)], 0.95) > top[8]


def test_rows_by_rank_come_front_first_and_broken_last() -> None:
    losses = np.array([[2.0, 2.0], [0.0, 3.0], [3.0, 0.0], [1.0, 1.0]])
    assert set(by_rank(losses)[:3]) == {1, 2, 3}
    assert by_rank(pushed_back(losses, np.array([0.0, 0.0, 0.0, 0.5])))[-1] == 3
    assert by_rank(np.array([[2.0], [1.0]])) == [1, 0]


# --- the benchmark ---------------------------------------------------------------------------------------------------


def test_a_search_that_found_nothing_counts_as_all_its_queries(data_folder: Path) -> None:
    found = [Outcome((0.5, 0.9), True, "", 0, 0.1), Outcome((0.5,) * MOST, False, "", 0, 0.1)]
    figures = summary("macro", found)
    assert figures["mean_queries"] == (2 + MOST) / 2
    assert figures["found_share"] == 0.5


@pytest.mark.slow
def test_the_default_finds_the_best_of_a_real_table_within_few_queries(data_folder: Path) -> None:
    """Queries over 60 seeds: 45 with a deviation of 17 and a largest of 92; so 8 seeds have a mean under 75."""
    outcomes = [outcome(Task("macro", "default_cold", seed)) for seed in range(8)]
    assert all(found.found for found in outcomes)
    assert np.mean([len(found.accuracies) for found in outcomes]) <= 75
