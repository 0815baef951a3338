"""Searchers that rank before they measure: with bounds, with proxies, with pools, and after a restart."""

from __future__ import annotations

import numpy as np
import pytest

from nas.history import History, Record
from nas.quantities import parse_constraint
from nas.resources import EvaluationState, Objective
from nas.scoring import Scores
from nas.searchers import REGISTRY, Searcher, make_searcher
from nas.searchers._outlook import Outlook, OutlookConfig, best_by_weight, placed, pushed_back
from nas.spec import PluginRef
from nas.streams import stream
from predictors.costs import Cost, Reading
from predictors.zerocost import REGISTRY as PROXIES
from predictors.zerocost import Passes, Proxy, ProxyContext, Score, score_architecture
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, MeasurementError, SearchSpace

RANKING = [name for name in REGISTRY if REGISTRY[name].flags.get("ranks")]
WITH_PROXIES = [pytest.param(name, marks=() if name == "warm_start" else pytest.mark.slow) for name in RANKING]
"""Proxies are run for every one of these, which takes seconds; one stays with the default tests."""
ACCURACY = Objective(metric="accuracy", level="supernet", direction="max")
PARAMS = Objective(metric="params", level="cost", direction="min")


class Size(Proxy):
    """The number of parameters, as slowly as a proxy is."""

    runs = False
    calls = 0

    def score(self, passes: Passes) -> Score:
        type(self).calls += 1
        return Score(float(sum(p.numel() for p in passes.network.parameters())))


@pytest.fixture
def space() -> SearchSpace:
    settings = {"input_shape": (1, 8, 8), "num_classes": 4, "channels": 2, "cells_per_stage": 1}
    return SPACES["nasbench201"](settings)


def context() -> ProxyContext:
    from nas.testing._proxies import example_context

    return example_context(SPACES["nasbench201"]({"input_shape": (1, 8, 8), "num_classes": 4}), images=2)


def accuracy(space: SearchSpace, architecture: Architecture) -> float:
    """Grows with size, but not only."""
    bits = space.encode(architecture)
    weights = stream(1, "truth").normal(size=len(bits))
    return float(np.log(space.counts(architecture, live=True).params) + 0.1 * weights @ bits)


def run(searcher: Searcher, space: SearchSpace, scores: Scores, *, wanted: int, most: int = 400) -> History:
    """A search that prices what is proposed, and evaluates what holds the bounds."""
    history = History([ACCURACY])
    while len(history.losses()) < wanted and history.num_proposals < most:
        for made in searcher.ask(history, 8, stream(0, "ask", history.num_proposals)):
            architecture = space.parse(made.text)
            broken = scores.violation(architecture)
            state = EvaluationState.INFEASIBLE if broken else EvaluationState.FINISHED
            values = None if broken else (accuracy(space, architecture),)
            history.add(Record(history.num_proposals, architecture, state, values, violation=broken, memo=made.memo))
    return history


@pytest.mark.parametrize("name", RANKING)
def test_a_bound_on_a_cost_is_kept_by_most_proposals(name: str, space: SearchSpace) -> None:
    sizes = np.sort([space.counts(space.sample(stream(0, i))).params for i in range(200)])
    scores = Scores(space, bounds=[parse_constraint(f"params <= {sizes[len(sizes) // 4]}")])
    history = run(make_searcher(PluginRef(name=name), space, [ACCURACY], scores), space, scores, wanted=48)
    assert len(history.losses()) >= 48
    # uniform sampling keeps a bound at the lower quartile in one of four proposals
    assert history.num_proposals <= 3 * 48


@pytest.mark.parametrize("name", WITH_PROXIES)
def test_a_fresh_object_proposes_the_same_when_there_are_proxies(name: str, space: SearchSpace) -> None:
    pool = {space.sample(stream(0, i)): {"size": float(i)} for i in range(30)}
    objectives = [ACCURACY, PARAMS] if REGISTRY[name].flags["multi_objective"] else [ACCURACY]
    wanted: dict[str, object] = {"labels": 8, "refit": 4, "searcher": {"name": "random"}, "initial": 6}
    config = {key: value for key, value in wanted.items() if key in REGISTRY[name].Config.model_fields}

    def fresh() -> Searcher:
        scores = Scores(space, {"size": Size()}, context, pool=pool)
        return make_searcher(PluginRef(name=name, config=config), space, objectives, scores)

    kept, history = fresh(), History(objectives)
    for _ in range(5):
        rng_names = ("ask", history.num_proposals)
        proposals = kept.ask(history, 4, stream(0, *rng_names))
        assert [p.digest for p in proposals] == [p.digest for p in fresh().ask(history, 4, stream(0, *rng_names))]
        for made in proposals:
            architecture = space.parse(made.text)
            values = (accuracy(space, architecture), float(space.counts(architecture).params))
            known = values[: len(objectives)]
            history.add(Record(history.num_proposals, architecture, EvaluationState.FINISHED, known))


def test_the_predictor_ranks_from_the_labels_on_and_learns_anew_at_every_refit(space: SearchSpace) -> None:
    outlook = Outlook(OutlookConfig(labels=10, refit=4), space, [ACCURACY], None)
    assert [outlook._size(known) for known in (0, 9, 10, 13, 14, 17, 18)] == [0, 0, 10, 10, 14, 14, 18]


def test_before_labels_every_proxy_of_the_job_has_a_vote(space: SearchSpace) -> None:
    pool = {space.sample(stream(3, i)): {"size": float(-i)} for i in range(12)}
    plain, voting = Scores(space), Scores(space, {"size": Size()}, context, pool=pool)
    architectures = list(pool)
    assert list(np.argsort(plain.vote(architectures))) != list(np.argsort(voting.vote(architectures)))
    params = [space.counts(architecture, live=True).params for architecture in architectures]
    assert np.array_equal(np.argsort(np.argsort(params)), np.argsort(np.argsort(plain.vote(architectures))))


def test_what_broke_a_bound_when_it_was_measured_is_put_behind(space: SearchSpace) -> None:
    history, config = History([ACCURACY]), OutlookConfig(labels=20, refit=4)
    drawn = list(dict.fromkeys(space.sample(stream(5, i)) for i in range(80)))
    limit = float(np.median([accuracy(space, a) for a in drawn]))
    for number, architecture in enumerate(drawn[:60]):
        value = accuracy(space, architecture)
        state = EvaluationState.INFEASIBLE if value > limit else EvaluationState.FINISHED
        history.add(Record(number, architecture, state, (value,), violation=max(0.0, value - limit)))
    broken = Outlook(config, space, [ACCURACY], None).broken(history, drawn[60:]) > 0
    truly = np.array([accuracy(space, a) > limit for a in drawn[60:]])
    assert (broken == truly).mean() >= 0.8


class OfSome(Cost):
    """The number of parameters, known of all architectures but some."""

    def __init__(self, space: SearchSpace, unknown: set[str]) -> None:
        self.space, self.unknown = space, unknown

    def measure(self, architecture: Architecture) -> Reading:
        if architecture.digest in self.unknown:
            raise MeasurementError("the table has no row for it.")
        return Reading(float(self.space.counts(architecture).params), "parameters")


def test_one_undefined_cost_stays_undefined_and_leaves_the_others_their_own(space: SearchSpace) -> None:
    drawn = list(dict.fromkeys(space.sample(stream(6, i)) for i in range(12)))
    unknown = {architecture.digest for architecture in drawn[::2]}
    scores = Scores(space, costs={"params": OfSome(space, unknown)})
    outlook, history = Outlook(OutlookConfig(), space, [PARAMS], scores), History([PARAMS])
    known = [float(space.counts(architecture).params) for architecture in drawn[1::2]]
    expected = outlook.expected(history, drawn)[:, 0]
    assert np.isnan(expected[::2]).all()
    assert list(expected[1::2]) == known
    losses = outlook.losses(history, drawn)[:, 0]
    assert list(losses[1::2]) == known
    assert losses[::2].min() > max(known)


def test_a_cost_that_nobody_has_decides_nothing(space: SearchSpace) -> None:
    drawn = list(dict.fromkeys(space.sample(stream(7, i)) for i in range(6)))
    scores = Scores(space, costs={"params": OfSome(space, {a.digest for a in drawn})})
    outlook = Outlook(OutlookConfig(), space, [PARAMS], scores)
    assert np.isnan(outlook.expected(History([PARAMS]), drawn)).all()
    assert np.ptp(outlook.losses(History([PARAMS]), drawn)) == 0


def test_undefined_losses_are_placed_within_their_column_and_before_what_breaks_a_bound() -> None:
    losses = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    assert placed(losses)[:, 0].argmax() == 2
    assert np.isfinite(placed(losses)).all()
    assert pushed_back(losses, np.array([0.5, 0.0, 0.0]))[:, 0].argmax() == 0


def test_what_a_measured_candidate_scored_is_not_run_again(space: SearchSpace) -> None:
    scores, architecture = Scores(space, {"size": Size()}, context), space.extremes().largest
    scores.learn(architecture, {"size": 5.0})
    before = Size.calls
    assert scores.proxy_scores(architecture) == {"size": 5.0}
    assert Size.calls == before


def test_pools_differ_between_seeds_of_a_job_and_not_between_objects(space: SearchSpace) -> None:
    first, again, other = (Scores(space, seed=seed).pool_of("warm_start", 20) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_best_by_weight_of_one_objective_are_the_best() -> None:
    losses = stream(0, "losses").normal(size=(30, 1))
    assert best_by_weight(losses, 5, stream(0)) == [int(i) for i in np.argsort(losses[:, 0])[:5]]


def test_predictors_that_read_layers_are_given_the_statistics_of_the_jobs_proxies(space: SearchSpace) -> None:
    proxies = {name: PROXIES[name]() for name in ("l2_norm", "snip", "jacov")}
    scores, drawn = Scores(space, proxies, context), [space.sample(stream(7, i)) for i in range(3)]
    layers = scores.layers(drawn)
    assert layers.statistics == ("l2_norm", "snip")
    assert layers.values.shape == (3, len(layers.slots), 2)
    alone = score_architecture(space, drawn[0], {"snip": proxies["snip"]}, context())["snip"].layers
    found = {slot: layers.values[0, i, 1] for i, slot in enumerate(layers.slots)}
    assert {slot for slot, value in found.items() if not np.isnan(value)} == set(alone)
    assert all(np.isclose(found[slot], value, rtol=1e-4) for slot, value in alone.items())
    reading = Outlook(OutlookConfig(predictor=PluginRef(name="parzc")), space, [ACCURACY], scores)
    assert reading._encoder(drawn).layers is not None
    assert Outlook(OutlookConfig(), space, [ACCURACY], scores)._encoder(drawn).layers is None
