"""Some architectures of a space as a space: every walk stays among them and goes to the nearest."""

from __future__ import annotations

import numpy as np
import pytest

from nas.testing._spaces import (
    check_decisions,
    check_sameness,
    check_size,
    check_texts,
    check_views,
    drawn_architectures,
    spaces_with,
)
from searchspaces import REGISTRY, Architecture, InfeasibleSpace, SearchSpace
from searchspaces._members import NEAREST, Members
from tests.nas.conditional import Perceptrons

NUMBER = 60


def some(space: SearchSpace, number: int = NUMBER) -> Members:
    """Canonical ones, drawn."""
    rng = np.random.default_rng(0)
    found: dict[str, None] = {}
    while len(found) < min(number, space.size() // 2 + 1):
        found[space.canonical(space.sample(rng)).text] = None
    return Members(space, list(found))


@pytest.fixture(params=[*sorted(REGISTRY), "conditional"], scope="module")
def members(request: pytest.FixtureRequest) -> Members:
    return some(REGISTRY[request.param]() if request.param in REGISTRY else Perceptrons())


def test_members_keep_the_contract_of_a_space(members: Members) -> None:
    found = drawn_architectures(members, samples=20)
    check_decisions(members)
    check_texts(members, found)
    check_sameness(members, found)
    check_size(members)
    check_views(members, found)


def test_every_walk_ends_at_a_member(members: Members) -> None:
    rng, texts = np.random.default_rng(0), set(members.texts)
    for _ in range(20):
        one, two = members.sample(rng), members.sample(rng)
        prefix = dict(one.options[:2])
        walked = [members.mutate(one, rng), members.cross(one, two, rng), members.complete(prefix, rng)]
        walked += [members.live(one), members.canonical(one), *members.neighbours(one), *members.extremes()]
        assert {architecture.text for architecture in walked} <= texts
        assert members.mutate(one, rng) != one


def test_walks_depend_on_their_generator_alone(members: Members) -> None:
    def walk(space: Members) -> list[Architecture]:
        rng = np.random.default_rng(1)
        one, two = space.sample(rng), space.sample(rng)
        return [one, two, space.mutate(one, rng), space.cross(one, two, rng), space.complete(dict(two.options), rng)]

    assert walk(members) == walk(Members(members.space, members.texts))


def test_neighbours_are_the_nearest_members(members: Members) -> None:
    one = members.sample(np.random.default_rng(0))
    near = list(members.neighbours(one))
    assert one not in near
    assert len(set(near)) == len(near) >= min(NEAREST, members.size() - 1)
    codes = {a: members.encode(a) for a in members.iterate()}
    distance = {a: float(((codes[a] - codes[one]) ** 2).sum() / 2) for a in codes if a != one}
    farthest = max(distance[a] for a in near)
    assert all(distance[a] >= farthest for a in distance if a not in near)
    assert all(a in near for a in distance if distance[a] <= 1)


def test_all_members_one_edit_away_are_neighbours() -> None:
    space = REGISTRY["macro"]()
    whole = Members(space, [architecture.text for architecture in space.iterate()])
    one = whole.sample(np.random.default_rng(0))
    assert set(whole.neighbours(one)) == set(space.neighbours(one))


def test_a_completed_prefix_is_kept_where_a_member_has_it(members: Members) -> None:
    rng = np.random.default_rng(0)
    one = members.sample(rng)
    prefix = dict(one.options[: len(one.options) // 2])
    found = members.complete(prefix, rng)
    assert all(found[name] == option for name, option in prefix.items())


def test_what_is_not_among_them_is_told_why(members: Members) -> None:
    rng = np.random.default_rng(5)
    outside = next(a for a in (members.space.sample(rng) for _ in range(500)) if a.text not in members.texts)
    assert members.validate(outside) == [f"it is not one of the {members.size()} that are known here"]


def test_a_class_without_its_representative_has_its_first_member() -> None:
    space = REGISTRY["nasbench_graph"]()
    texts = ["0012:gcn,gat,fc,gin", "0123:gat,skip,gcn,fc", "0123:gat,gcn,skip,fc"]
    found = Members(space, texts)
    assert [found.canonical(space.parse(text)).text for text in texts] == [texts[0], texts[1], texts[1]]


def test_one_member_has_no_neighbours_and_none_cannot_be_drawn() -> None:
    space, rng = REGISTRY["macro"](), np.random.default_rng(0)
    alone = Members(space, ["00000000"])
    assert list(alone.neighbours(alone.sample(rng))) == []
    assert alone.mutate(alone.sample(rng), rng).text == "00000000"
    empty = Members(space, [])
    for walk in (lambda: empty.sample(rng), empty.extremes):
        with pytest.raises(InfeasibleSpace, match="known here"):
            walk()


@pytest.mark.parametrize("name", spaces_with("networks"))
def test_members_have_the_networks_of_their_space(name: str) -> None:
    members = some(REGISTRY[name]({"input_shape": (1, 8, 8), "num_classes": 4}), 3)
    one = next(members.iterate())
    network = members.reduced().build(one)
    assert sum(p.numel() for p in network.parameters()) == members.reduced().counts(one).params
