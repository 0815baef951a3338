"""Scores of untrained networks: many of them, in several processes, whatever becomes of one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.datasets import REGISTRY as DATASETS
from nas.datasets import Dataset
from nas.scoring import FREE, Scores, proxies_of, proxy_context, score_many
from nas.spec import PluginRef
from nas.streams import stream
from nas.tasks import REGISTRY as TASKS
from predictors.zerocost import REGISTRY, Passes, Proxy, ProxyContext, Score
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, SearchSpace

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return DATASETS["digits"]({"limit": 60})


@pytest.fixture(scope="module")
def context(dataset: Dataset) -> ProxyContext:
    return proxy_context(dataset, TASKS["classification"]({}, dataset), images=4, seed=0, device=CPU)


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    settings = {"input_shape": (1, 8, 8), "num_classes": 10, "channels": 2, "cells_per_stage": 1}
    return SPACES["nasbench201"](settings)


def drawn(space: SearchSpace, number: int) -> list[Architecture]:
    rng = stream(0, "scoring test")
    return list(dict.fromkeys(space.sample(rng) for _ in range(2 * number)))[:number]


def test_a_context_has_two_different_batches_that_the_seed_draws(dataset: Dataset) -> None:
    task = TASKS["classification"]({}, dataset)
    first, again, other = (proxy_context(dataset, task, images=16, seed=seed, device=CPU) for seed in (0, 0, 1))
    assert [batch.inputs.shape for batch in first.batches] == [(8, 1, 8, 8)] * 2
    assert torch.equal(first.inputs, again.inputs)
    assert not torch.equal(first.inputs, other.inputs)
    assert not torch.equal(first.batches[0].inputs, first.batches[1].inputs)


def test_a_data_set_with_fewer_images_gives_what_it_has(dataset: Dataset) -> None:
    task, size = TASKS["classification"]({}, dataset), len(dataset.train)
    whole = proxy_context(dataset, task, images=10 * size, seed=0, device=CPU)
    assert [len(batch.labels) for batch in whole.batches] == [size // 2] * 2
    few = proxy_context(dataset, task, images=3, seed=0, device=CPU)
    assert [len(batch.labels) for batch in few.batches] == [3]


@pytest.mark.slow
def test_processes_give_the_scores_that_one_gives(space: SearchSpace, context: ProxyContext) -> None:
    proxies = proxies_of([PluginRef(name="jacov"), PluginRef(name="snip")])
    told: list[float] = []
    alone, several = (
        {
            found.architecture: {name: score.value for name, score in found.scores.items()}
            for found in score_many(space, drawn(space, 6), proxies, context, workers=workers, progress=told.append)
        }
        for workers in (1, 2)
    )
    assert alone == several
    assert len(alone) == 6
    assert told[-1] == told[5] == 1.0


class Fatal(Proxy):
    """Takes its process with it, for one architecture."""

    def score(self, passes: Passes) -> Score:
        if sum(p.numel() for p in passes.network.parameters()) == LARGEST:
            os._exit(1)
        return Score(1.0)


LARGEST = 6000


@pytest.mark.slow
def test_an_architecture_that_kills_its_process_fails_alone(space: SearchSpace, context: ProxyContext) -> None:
    largest = space.extremes().largest
    assert sum(p.numel() for p in space.build(largest).parameters()) == LARGEST
    asked = [*drawn(space, 4), largest]
    found = {
        f.architecture: f.scores["fatal"] for f in score_many(space, asked, {"fatal": Fatal()}, context, workers=2)
    }
    assert found.keys() == set(asked)
    assert "its process died" in (found[largest].error or "")
    assert [found[architecture].value for architecture in asked[:-1]] == [1.0] * 4


def test_an_architecture_of_another_space_fails_with_its_reason(space: SearchSpace, context: ProxyContext) -> None:
    foreign = Architecture((("nowhere", "nothing"),), "of another space")
    proxies = proxies_of([PluginRef(name="l2_norm")])
    found = list(score_many(space, [foreign, space.extremes().smallest], proxies, context))
    assert "not in nasbench201" in (found[0].scores["l2_norm"].error or "")
    assert found[1].scores["l2_norm"].value is not None


def test_scoring_ends_when_it_is_asked_to(space: SearchSpace, context: ProxyContext) -> None:
    proxies = proxies_of([PluginRef(name="l2_norm")])
    assert len(list(score_many(space, drawn(space, 5), proxies, context, should_stop=lambda: True))) == 1


def test_a_vote_brings_its_parts() -> None:
    assert set(proxies_of([PluginRef(name="az_nas")])) == {
        "az_nas",
        "az_expressivity",
        "az_progressivity",
        "az_trainability",
    }


def test_scores_are_costs_and_proxies_and_are_computed_once(space: SearchSpace, context: ProxyContext) -> None:
    made: list[str] = []

    class Counting(Proxy):
        def score(self, passes: Passes) -> Score:
            made.append("score")
            return Score(2.0)

    cut = space.architecture({decision.name: "none" for decision in space.decisions})
    asked = [*drawn(space, 3), cut]
    scores = Scores(space, {"counting": Counting()}, lambda: context)
    columns = scores(asked)
    assert columns.names == (*FREE, "counting")
    assert np.array_equal(columns.values, scores(asked).values, equal_nan=True)
    assert len(made) == sum(space.is_connected(architecture) for architecture in asked)
    assert np.isnan(columns.values[-1, -1])
    assert list(columns.values[:, 0]) == [space.counts(a, live=True).params for a in asked]


def test_what_a_pool_says_is_not_computed_again(space: SearchSpace) -> None:
    first, *_ = drawn(space, 1)
    scores = Scores(space, {"jacov": REGISTRY["jacov"]()}, None, pool={first: {"jacov": 3.0}})
    assert scores([first]).values[0, -1] == 3.0
    assert scores.pool == (first,)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_scored(space: SearchSpace, context: ProxyContext) -> None:
    proxies = {name: REGISTRY[name]() for name in ("jacov", "snip", "naswot")}
    found = score_many(space, drawn(space, 1000), proxies, context)
    for _ in range(100):
        next(found)
    before = resident_kilobytes()
    assert sum(1 for _ in found) == 900
    assert resident_kilobytes() - before < 20_000


def resident_kilobytes() -> int:
    """Memory that this process holds now."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
