"""A supernet in parts: they split the space exactly, nothing changes when a part is split, and the route is right."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from nas.testing import _networks
from searchspaces import (
    REGISTRY,
    Architecture,
    InvalidArchitecture,
    Mixture,
    RoutedSupernet,
    SearchSpace,
    Split,
)
from tests.nas.conditional import Perceptrons

SMALL = {"input_shape": (1, 6, 6), "num_classes": 4}
CELLS = REGISTRY["nasbench201"]({"channels": 2, "cells_per_stage": 1, **SMALL})
CHAINS = REGISTRY["macro"]({"width": 0.05, **SMALL})
CASES: dict[str, tuple[SearchSpace, list[Split]]] = {
    "cells": (
        CELLS,
        [
            Split(0, "0->2", (("none", "nor_conv_3x3"), ("skip_connect",), ("avg_pool_3x3", "nor_conv_1x1"))),
            Split(2, "0->1", (("nor_conv_1x1",), ("none", "skip_connect", "nor_conv_3x3", "avg_pool_3x3"))),
        ],
    ),
    "chains": (CHAINS, [Split(0, "layer_1", (("MB3_K3",), ("MB6_K5", "Identity")))]),
    "conditional": (
        Perceptrons(2),
        [Split(0, "depth", (("1",), ("2", "3"))), Split(1, "width2", (("8",), ("16",)))],
    ),
}


def routed(space: SearchSpace, splits: list[Split], *, seed: int = 0) -> RoutedSupernet:
    made = RoutedSupernet.of(space.supernet(seed=seed).eval())
    for split in splits:
        made.split(split)
    return made


def told_apart(supernet: RoutedSupernet) -> RoutedSupernet:
    """Every part with other weights, as after training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.2 * torch.rand(parameter.shape, generator=generator))
    return supernet


def example(space: SearchSpace) -> Tensor:
    return torch.randn(3, *space.input_shape, generator=torch.Generator().manual_seed(0))


def drawn(space: SearchSpace, number: int = 12) -> list[Architecture]:
    rng = np.random.default_rng(0)
    return [space.sample(rng) for _ in range(number)]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[SearchSpace, list[Split]]:
    return CASES[request.param]


def test_parts_split_the_space_exactly(case: tuple[SearchSpace, list[Split]]) -> None:
    space, splits = case
    parts = routed(space, splits).parts
    members = [a for part in parts for a in part.space.iterate()]
    assert sum(part.space.size() for part in parts) == space.size() == len(members)
    assert len(set(members)) == len(members)


def test_the_benchmarks_are_split_exactly_by_any_decision() -> None:
    for space, size in ((CELLS, 15_625), (CHAINS, 6_561)):
        for decision in space.decisions:
            parts = space.partition(decision.name, [[option] for option in decision.options])
            assert sum(part.size() for part in parts) == size


def test_no_output_changes_when_a_part_is_split(case: tuple[SearchSpace, list[Split]]) -> None:
    space, splits = case
    whole, parted, x = space.supernet(seed=0).eval(), routed(space, splits), example(space)
    for architecture in drawn(space):
        assert torch.equal(whole(x, architecture), parted(x, architecture))


def test_heirs_are_copies_of_what_they_are_said_to_come_from() -> None:
    parted = RoutedSupernet.of(CELLS.supernet())
    before = set(parted.parameters())
    origins = parted.split(CASES["cells"][1][0])
    assert origins.keys() == set(parted.parameters())
    assert all(torch.equal(heir, origin) and heir is not origin for heir, origin in origins.items())
    assert set(origins.values()) <= before


def test_every_architecture_runs_in_the_part_that_holds_its_live_form(case: tuple[SearchSpace, list[Split]]) -> None:
    space, splits = case
    parted, x = told_apart(routed(space, splits)), example(space)
    seen: Counter[int] = Counter()
    for architecture in drawn(space, 40):
        live = space.live(architecture)
        homes = [number for number, part in enumerate(parted.parts) if not part.space.validate(live)]
        assert homes == [parted.part_of(architecture)] == [parted.part_of(live)]
        assert torch.equal(parted(x, architecture), parted.parts[homes[0]](x, live))
        seen.update(homes)
    assert len(seen) == len(parted.parts)


def test_only_the_part_that_runs_is_trained(case: tuple[SearchSpace, list[Split]]) -> None:
    space, splits = case
    parted = routed(space, splits)
    architecture = drawn(space)[0]
    parted(example(space), architecture).sum().backward()
    trained = [any(p.grad is not None for p in part.parameters()) for part in parted.parts]
    assert [number for number, yes in enumerate(trained) if yes] == [parted.part_of(architecture)]


@pytest.mark.parametrize("name", ["cells", "chains"])
def test_parts_with_weights_of_their_own_keep_the_contract_of_a_supernet(name: str) -> None:
    space, splits = CASES[name]
    parted, x = told_apart(routed(space, splits)).double(), _networks.example(space, 0)
    dead = [space.sample(np.random.default_rng(seed)) for seed in range(60)]
    dead = [a for a in dead if space.live(a) != a and parted.parts[parted.part_of(a)].space.validate(a)][:3]
    assert bool(dead) == (name == "cells")
    for architecture in [*drawn(space, 4), *dead]:
        _networks._check_function(space, parted, architecture, x)
    _networks._check_owners(space, parted)
    _networks._check_restriction(space, parted, drawn(space), x)


def test_many_at_once_get_their_own_values_each(case: tuple[SearchSpace, list[Split]]) -> None:
    space, splits = case
    parted, x = told_apart(routed(space, splits)), example(space)
    several = drawn(space)
    found = dict(parted.forward_many(x, several))
    assert sorted(found) == list(range(len(several)))
    for place, architecture in enumerate(several):
        torch.testing.assert_close(found[place], parted(x, architecture))


def test_a_restricted_one_has_the_parts_that_meet_the_sub_space() -> None:
    space, splits = CASES["cells"]
    parted, x = told_apart(routed(space, splits)), example(space)
    for groups in (["skip_connect", "nor_conv_1x1"], ["nor_conv_3x3"]):
        rest = [o for o in ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3") if o not in groups]
        for name in ("0->2", "0->1"):
            part = space.partition(name, [groups, rest])[0]
            restricted = parted.restrict(part)
            assert sum(p.space.size() for p in restricted.parts) == part.size()
            assert (
                RoutedSupernet.arranged(part, restricted.splits).state_dict().keys() == restricted.state_dict().keys()
            )
            for architecture in drawn(part, 5):
                live = space.live(architecture)
                if not part.validate(live):
                    assert torch.equal(restricted(x, architecture), parted(x, architecture))


def test_a_mixture_over_one_part_runs_there_and_over_several_is_refused() -> None:
    space, splits = CASES["chains"]
    parted, x = told_apart(routed(space, splits)), example(space)
    weights = {d.name: torch.full((3,), 1 / 3) for d in space.decisions}
    with pytest.raises(InvalidArchitecture, match="several of the 2 parts"):
        parted(x, Mixture(weights))
    inside = Mixture({**weights, "layer_1": torch.tensor([0.5, 0.0, 0.5])})
    part = parted.parts[1]
    assert part.space.decisions[1].options == ("Identity", "MB6_K5")
    own = Mixture({**weights, "layer_1": torch.tensor([0.5, 0.5])})
    assert torch.equal(parted(x, inside), part(x, own))


def test_a_decision_that_not_every_architecture_has_is_not_split() -> None:
    parted = RoutedSupernet.of(Perceptrons(2).supernet())
    with pytest.raises(InvalidArchitecture, match="every architecture"):
        parted.split(Split(0, "width2", (("8",), ("16",))))
    with pytest.raises(InvalidArchitecture, match="exactly"):
        parted.split(Split(0, "depth", (("1",), ("2",))))


def test_another_structure_can_be_taken_before_its_weights_are_loaded(case: tuple[SearchSpace, list[Split]]) -> None:
    space, splits = case
    trained, x = told_apart(routed(space, splits)), example(space)
    other = RoutedSupernet.of(space.supernet(seed=5).eval())
    for wanted in (trained, routed(space, splits[:1])):
        other.arrange(wanted.splits)
        other.load_state_dict(wanted.state_dict())
        assert all(torch.equal(other(x, a), wanted(x, a)) for a in drawn(space))
