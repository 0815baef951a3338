"""What every space inherits, on a small space with a conditional decision."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchspaces import (
    REGISTRY,
    Architecture,
    Config,
    Decision,
    InfeasibleSpace,
    InvalidArchitecture,
    MeasurementError,
    SearchSpace,
)
from searchspaces.nasbench201 import Config as CellConfig
from searchspaces.nasbench201 import NASBench201


class Conditional(NASBench201):
    """Depth 1 or 2; the second layer exists only at depth 2. 3 + 3 x 2 = 9 architectures."""

    def __init__(self) -> None:
        super().__init__(CellConfig())
        self.decisions = (
            Decision("depth", ("1", "2"), (False, False), "ordinal"),
            Decision("first", ("a", "b", "c"), (True, True, True)),
            Decision("second", ("d", "e"), (True, True), active_if=("depth", frozenset({"2"}))),
        )

    def text(self, options: Mapping[str, str]) -> str:
        return "/".join(options.values())

    def read(self, text: str) -> dict[str, str]:
        return dict(zip(("depth", "first", "second"), text.split("/"), strict=False))


SPACE = Conditional()


def test_every_architecture_is_iterated_once_and_counted() -> None:
    texts = [architecture.text for architecture in SPACE.iterate()]
    assert texts == ["1/a", "1/b", "1/c", "2/a/d", "2/a/e", "2/b/d", "2/b/e", "2/c/d", "2/c/e"]
    assert SPACE.size() == 9


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"depth": "1", "first": "a", "second": "d"}, "second is given but not active"),
        ({"depth": "2", "first": "a"}, "second is missing"),
        ({"depth": "1", "first": "z"}, "first is 'z'"),
        ({"depth": "1", "first": "a", "third": "x"}, "no decision 'third'"),
        ({}, "depth is missing"),
    ],
)
def test_options_that_are_no_architecture_are_refused_with_the_reason(options: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidArchitecture, match=reason):
        SPACE.architecture(options)


def test_an_architecture_is_completed_one_decision_at_a_time() -> None:
    prefix: dict[str, str] = {}
    order = []
    while (decision := SPACE.next_decision(prefix)) is not None:
        order.append(decision.name)
        prefix[decision.name] = decision.options[-1]
    assert order == ["depth", "first", "second"]
    assert SPACE.architecture(prefix).text == "2/c/e"


@given(seed=st.integers(0, 2**32 - 1), text=st.sampled_from([a.text for a in SPACE.iterate()]))
def test_walks_open_and_close_conditional_decisions(seed: int, text: str) -> None:
    rng, start = np.random.default_rng(seed), SPACE.parse(text)
    mutant, child = SPACE.mutate(start, rng), SPACE.cross(start, SPACE.sample(rng), rng)
    for architecture in (mutant, child, *SPACE.neighbours(start)):
        assert SPACE.validate(architecture) == []
    assert mutant != start


def test_options_are_kept_as_far_as_the_space_has_them() -> None:
    rng = np.random.default_rng(0)
    assert SPACE.complete({"depth": "1", "first": "b", "second": "d"}, rng).text == "1/b"
    shallow, _ = SPACE.partition("depth", [["1"], ["2"]])
    assert shallow.complete({"depth": "2", "first": "c"}, rng).text == "1/c"
    assert {SPACE.complete({"depth": "2"}, rng).text for _ in range(200)} == {
        architecture.text for architecture in SPACE.iterate() if architecture["depth"] == "2"
    }


def test_what_was_computed_of_the_whole_is_not_taken_for_a_part() -> None:
    class Sized(Conditional):
        @cached_property
        def known_size(self) -> int:
            return self.size()

    space = Sized()
    assert space.known_size == 9
    deep = space.partition("depth", [["1"], ["2"]])[1]
    assert isinstance(deep, Sized)
    assert deep.known_size == 6


def test_a_space_that_has_no_networks_and_no_counts_says_what_to_do_instead() -> None:
    class Bare(Conditional):
        counts, network, supernetwork = SearchSpace.counts, SearchSpace.network, SearchSpace.supernetwork

    architecture = Bare().parse("1/a")
    with pytest.raises(MeasurementError, match="measure costs, or take them from a table"):
        Bare().counts(architecture)
    for build in (lambda: Bare().build(architecture), Bare().supernet):
        with pytest.raises(InfeasibleSpace, match="take an evaluator that needs none"):
            build()


def test_neighbours_are_all_edits_of_one_decision() -> None:
    around = {architecture.text for architecture in SPACE.neighbours(SPACE.parse("2/a/d"))}
    assert around == {"1/a", "2/b/d", "2/c/d", "2/a/e"}


def test_mutants_are_uniform_over_neighbours() -> None:
    space, rng = REGISTRY["macro"]({}), np.random.default_rng(0)
    start = space.parse("01201201")
    counts = Counter(space.mutate(start, rng).text for _ in range(3200))
    assert set(counts) == {neighbour.text for neighbour in space.neighbours(start)}
    assert all(130 < count < 280 for count in counts.values())  # 200 each, five standard deviations of 14


def test_an_inactive_decision_is_encoded_as_zeros() -> None:
    assert SPACE.encode(SPACE.parse("1/b")).tolist() == [1, 0, 0, 1, 0, 0, 0]


def test_a_partition_s_parts_are_sub_spaces_and_the_whole_is_left_as_it_was() -> None:
    parts = SPACE.partition("depth", [["1"], ["2"]])
    assert [part.size() for part in parts] == [3, 6]
    assert all(part.is_within(SPACE) and not SPACE.is_within(part) for part in parts)
    assert SPACE.size() == 9


@pytest.mark.parametrize("groups", [[["1"]], [["1"], ["1", "2"]], [["1"], ["2"], ["3"]]])
def test_groups_that_do_not_split_a_decision_are_refused(groups: list[list[str]]) -> None:
    with pytest.raises(InvalidArchitecture, match="does not split"):
        SPACE.partition("depth", groups)


def test_a_decision_that_does_not_exist_cannot_be_split() -> None:
    with pytest.raises(InvalidArchitecture, match="does not split"):
        SPACE.partition("width", [["1"], ["2"]])


def test_architectures_are_equal_by_text_and_say_their_digest_and_options() -> None:
    one, other = SPACE.parse("2/a/d"), Architecture((("depth", "2"),), "2/a/d")
    assert one == other
    assert len({one, other}) == 1
    assert one.to_json() == {
        "text": "2/a/d",
        "digest": hashlib.sha256(b"2/a/d").hexdigest()[:16],
        "options": {"depth": "2", "first": "a", "second": "d"},
    }


def test_a_config_is_frozen_and_refuses_unknown_keys() -> None:
    assert Config.model_config["frozen"] is True
    assert Config.model_config["extra"] == "forbid"


@pytest.mark.parametrize(("num", "size"), [(3, 2**3), (60, 2**60), (1_000, 2**1_000)])
def test_a_chain_of_decisions_that_open_each_other_is_counted_and_walked_at_once(num: int, size: int) -> None:
    decisions: dict[str, object] = {"d0": ["a", "b"]}
    for i in range(1, num):
        decisions[f"d{i}"] = {"options": ["a", "b"], "when": {f"d{i - 1}": ["a", "b"]}}
    space = REGISTRY["options"]({"decisions": decisions})
    assert space.size() == size
    assert space.is_always_active(space.decisions[-1])
    first, second = islice(space.iterate(), 2)
    assert (first[f"d{num - 1}"], second[f"d{num - 1}"]) == ("a", "b")
    assert first.options[:-1] == second.options[:-1]


@pytest.mark.parametrize(("deep", "size"), [(["2"], 1 + 3 + 3), (["2", "3"], 1 + 3 + 3 * 3)])
def test_branches_of_conditional_decisions_are_counted_as_they_are_iterated(deep: list[str], size: int) -> None:
    decisions = {
        "depth": ["1", "2", "3"],
        "second": {"options": ["a", "b"], "when": {"depth": deep}},
        "third": {"options": ["c", "d", "e"], "when": {"depth": ["3"]}},
        "inner": {"options": ["f", "g"], "when": {"second": ["b"]}},
    }
    space = REGISTRY["options"]({"decisions": decisions})
    texts = [architecture.text for architecture in space.iterate()]
    assert len(set(texts)) == len(texts) == space.size() == size
    assert all(space.parse(text).text == text for text in texts)
