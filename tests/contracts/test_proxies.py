"""Every registered proxy keeps the contract on every registered space, and the contract sees one that does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import nn

from nas.testing._proxies import check_leaves_network, check_proxy, example_context, scored_together
from nas.testing._spaces import spaces_with
from predictors.zerocost import REGISTRY, Passes, Proxy, Score, Scored, Vote, score_architecture, score_network
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, Config, ContractViolation, Plugin, SearchSpace

SMALL: dict[str, dict[str, object]] = {"nasbench201": {"channels": 4, "cells_per_stage": 1}, "macro": {"width": 0.25}}
RUNNING = [name for name in REGISTRY if not isinstance(REGISTRY[name](), Vote)]


def space_of(name: str) -> SearchSpace:
    return SPACES[name]({"input_shape": (3, 16, 16), "num_classes": 4, **SMALL.get(name, {})})


@cache
def together(space_name: str) -> dict[str, Scored]:
    space = space_of(space_name)
    return scored_together(space, whole(space))


def whole(space: SearchSpace) -> Architecture:
    return space.extremes().largest


@pytest.mark.parametrize("space_name", spaces_with("networks"))
@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_proxy_keeps_the_contract_on_every_space(name: str, space_name: str) -> None:
    space = space_of(space_name)
    check_proxy(REGISTRY[name], space, whole(space), beside=together(space_name))


@pytest.mark.parametrize("name", RUNNING)
def test_scoring_leaves_the_network_as_found(name: str) -> None:
    space = space_of("nasbench201")
    check_leaves_network(REGISTRY[name], space, whole(space))


def test_without_a_way_from_input_to_output_only_proxies_that_run_nothing_have_a_score() -> None:
    space = space_of("nasbench201")
    cut = space.architecture({decision.name: "none" for decision in space.decisions})
    scored = score_architecture(space, cut, {name: REGISTRY[name]() for name in RUNNING}, example_context(space))
    defined = {name for name, score in scored.items() if score.value is not None}
    assert defined == {name for name in RUNNING if not REGISTRY[name]().runs}
    assert all("no way leads" in (score.error or "") for name, score in scored.items() if name not in defined)


def test_another_seed_gives_another_score() -> None:
    space = space_of("nasbench201")
    proxies = {name: REGISTRY[name]() for name in RUNNING}
    first, second = (
        score_architecture(space, whole(space), proxies, example_context(space, images=16, seed=s)) for s in (0, 1)
    )
    assert not [name for name in RUNNING if first[name].value == second[name].value]


def test_what_fails_in_one_proxy_leaves_the_others_alone() -> None:
    space = space_of("nasbench201")
    proxies = {"broken": Broken(), "l2_norm": REGISTRY["l2_norm"]()}
    scored = score_architecture(space, whole(space), proxies, example_context(space))
    assert scored["broken"].value is None
    assert "shapes" in (scored["broken"].error or "")
    assert scored["l2_norm"].value is not None


def test_layers_that_draw_at_random_are_quiet_and_the_random_state_is_kept() -> None:
    space = space_of("nasbench201")
    network = nn.Sequential(space.build(whole(space)), nn.Dropout(0.5))
    proxies, before = {name: REGISTRY[name]() for name in ("grad_norm", "synflow", "gradsign")}, torch.get_rng_state()
    first, second = (score_network(network, proxies, example_context(space)) for _ in range(2))
    assert [first[name].value for name in proxies] == [second[name].value for name in proxies]
    assert torch.equal(before, torch.get_rng_state())


class Broken(Proxy):
    def score(self, passes: Passes) -> Score:
        raise ValueError("shapes do not fit")


class Greedy(Proxy):
    """Reads the images, though its flags deny it."""

    def score(self, passes: Passes) -> Score:
        return Score(float(passes.context.inputs.sum()))


class Layered(Proxy):
    """Has statistics of layers that do not exist."""

    def score(self, passes: Passes) -> Score:
        return Score(1.0, {"nowhere": 1.0})


class Drawing(Proxy):
    """Another number every time."""

    count = 0.0

    def score(self, passes: Passes) -> Score:
        type(self).count += 1
        return Score(self.count)


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (Greedy, "images are not read"),
        (Layered, "as the flag says"),
        (Drawing, "equal scores"),
        (Broken, "has a score"),
    ],
)
def test_the_contract_sees_a_proxy_that_breaks_it(made: Callable[[], Proxy], complaint: str) -> None:
    flags = {"data": False, "labels": False, "second_order": False, "layers": False, "direction": "max", "fails": ""}
    plugin: Plugin[Proxy] = Plugin("broken", "broken", "none", lambda config: made(), Config, flags)
    space = space_of("nasbench201")
    with pytest.raises(ContractViolation, match=complaint):
        check_proxy(plugin, space, whole(space))
