"""From a time to what is done in it: always within bounds, never less for more time, the audit dropped first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.reports import Speeds
from nas.resources import Phase
from nas.stages._schedule import Amounts, Limits, Range, fitting, replanned, seconds_of

STAGES = (Phase.SUPERNET, Phase.SEARCH, Phase.AUDIT, Phase.DELIVER)
USUAL = Limits(
    epochs=Range(1, 30, 600),
    evaluations=Range(8, 200, 5000),
    audit_networks=Range(0, 30, 200),
    audit_epochs=Range(1, 5, 30),
    delivery_epochs=Range(1, 60, 1200),
)
SPEEDS = Speeds(
    supernet_epoch=1.0, evaluation=0.1, audit_epoch=0.4, audit_network=0.2, delivery_epoch=1.5, delivery=8.0
)

each = st.floats(1e-3, 10.0)
times = st.floats(0.0, 1e5)
stages = st.sampled_from(STAGES)
speeds_of_any_machine = st.builds(
    Speeds,
    supernet_epoch=each,
    evaluation=each,
    audit_epoch=each,
    audit_network=st.floats(0.0, 1.0),
    delivery_epoch=each,
    delivery=st.floats(0.0, 10.0),
)


@st.composite
def ranges(draw: st.DrawFn, smallest: int, largest: int) -> Range:
    found = sorted(draw(st.integers(smallest, largest)) for _ in range(3))
    return Range(*found)


any_limits = st.builds(
    Limits,
    ranges(1, 600),
    ranges(1, 5000),
    ranges(0, 200),
    ranges(1, 30),
    ranges(1, 1200),
    st.integers(0, 3),
)


def total(amounts: Amounts, speeds: Speeds, limits: Limits, first: Phase = Phase.SUPERNET) -> float:
    return sum(seconds_of(amounts, speeds, limits, first).values())


def is_within(amounts: Amounts, limits: Limits) -> bool:
    return all(r.least <= amount <= r.most for r, amount in zip(limits[:5], amounts, strict=True))


@given(any_limits, speeds_of_any_machine, times, stages)
def test_a_schedule_is_within_its_bounds_and_its_time(
    limits: Limits, speeds: Speeds, seconds: float, first: Phase
) -> None:
    found = fitting(limits, speeds, seconds, first)
    assert is_within(found, limits)
    least = Amounts(*(r.least for r in limits[:5]))
    assert total(found, speeds, limits, first) <= max(seconds, total(least, speeds, limits, first)) * (1 + 1e-9)


@given(any_limits, speeds_of_any_machine, times, times, stages)
def test_more_time_makes_nothing_less(limits: Limits, speeds: Speeds, one: float, other: float, first: Phase) -> None:
    less, more = (fitting(limits, speeds, seconds, first) for seconds in sorted((one, other)))
    assert all(a <= b for a, b in zip(less, more, strict=True))


@given(speeds_of_any_machine, st.floats(30, 1e5), times, times, stages)
def test_more_time_left_makes_nothing_less_when_it_is_planned_again(
    speeds: Speeds, planned: float, one: float, other: float, first: Phase
) -> None:
    before = fitting(USUAL, speeds, planned)
    less, more = (replanned(before, USUAL, speeds, seconds, first) for seconds in sorted((one, other)))
    assert all(a <= b for a, b in zip(less, more, strict=True))
    assert is_within(less, USUAL)
    assert is_within(more, USUAL)


@given(speeds_of_any_machine, st.floats(30, 1e5), stages)
def test_what_was_planned_stays_where_the_time_is_as_it_was_expected(
    speeds: Speeds, planned: float, first: Phase
) -> None:
    before = fitting(USUAL, speeds, planned)
    left = total(before, speeds, USUAL, first)
    found = replanned(before, USUAL, speeds, left * (1 + 1e-9), first)
    assert all(a >= b for a, b in zip(found, before, strict=True))


@given(speeds_of_any_machine, st.floats(30, 1e5), st.floats(0, 1), st.sampled_from(STAGES[:3]))
def test_the_audit_is_dropped_before_anything_else(speeds: Speeds, planned: float, share: float, first: Phase) -> None:
    before = fitting(USUAL, speeds, planned)
    expected = seconds_of(before, speeds, USUAL, first)
    rest = sum(expected.values()) - expected[Phase.AUDIT]
    left = rest + share * expected[Phase.AUDIT]
    found = replanned(before, USUAL, speeds, left, first)
    assert found._replace(audit_networks=0) == before._replace(audit_networks=0)
    assert found.audit_networks <= before.audit_networks
    assert total(found, speeds, USUAL, first) <= left * (1 + 1e-6)
    assert replanned(before, USUAL, speeds, rest * 0.9, first).audit_networks == 0


@given(speeds_of_any_machine, st.floats(30, 1e5), times, stages)
def test_what_is_past_is_not_planned_again(speeds: Speeds, planned: float, left: float, first: Phase) -> None:
    before = fitting(USUAL, speeds, planned)
    found = replanned(before, USUAL, speeds, left, first)
    past = STAGES.index(first)
    assert past < 1 or found.epochs == before.epochs
    assert past < 2 or found.evaluations == before.evaluations


@pytest.mark.parametrize("seconds", [40, 60, 300, 600])
def test_time_is_used_up_unless_everything_is_at_its_most(seconds: float) -> None:
    used = total(fitting(USUAL, SPEEDS, seconds), SPEEDS, USUAL)
    assert seconds - 3.5 <= used <= seconds


def test_what_a_part_cannot_use_goes_to_the_others() -> None:
    bounded = USUAL._replace(epochs=Range(1, 10, 10))
    free, held = (fitting(limits, SPEEDS, 600) for limits in (USUAL, bounded))
    assert held.epochs == 10
    assert held.delivery_epochs > free.delivery_epochs
    assert held.audit_networks > free.audit_networks
    assert held.evaluations > free.evaluations


def test_an_audit_that_is_not_wanted_takes_no_time() -> None:
    found = fitting(USUAL._replace(audit_networks=Range(0, 0, 0)), SPEEDS, 600)
    assert found.audit_networks == 0
    assert total(found, SPEEDS, USUAL) > 590
