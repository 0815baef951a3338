"""Fronts and hypervolumes against plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas import _blocks
from nas.pareto import Front, Hypervolume, crowding, hypervolume, hypervolume_reference, nondominated, ranks
from nas.resources import Objective
from nas.streams import stream

OBJECTIVES = (
    Objective(metric="accuracy", level="supernet", direction="max"),
    Objective(metric="params", level="cost", direction="min"),
)

# Small whole numbers, so that equal points and ties in one objective are common.
clouds = st.integers(1, 4).flatmap(
    lambda m: st.integers(0, 25).flatmap(lambda n: arrays(float, (n, m), elements=st.integers(0, 4).map(float)))
)

# How many times as many rows may be compared for the last tenth of the candidates as for the first.
GROWTH = 6.0


@pytest.fixture(params=[1, 3, 256])
def block_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Small blocks, so that small clouds fill many."""
    monkeypatch.setattr(_blocks, "_SIZE", request.param)
    return int(request.param)


def plainly_nondominated(points: np.ndarray) -> np.ndarray:
    better = [[(q <= p).all() and (q < p).any() for q in points] for p in points]
    return np.array([not any(row) for row in better], dtype=bool)


@given(clouds)
def test_nondominated_points_are_those_of_the_definition(points: np.ndarray) -> None:
    assert nondominated(points).tolist() == plainly_nondominated(points).tolist()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clouds)
def test_an_incremental_front_holds_what_is_nondominated_after_every_insertion(
    block_size: int, points: np.ndarray
) -> None:
    front: Front[int] = Front()
    for i, point in enumerate(points):
        before = set(front)
        added, removed = front.add(i, point)
        assert set(front) == set(np.flatnonzero(plainly_nondominated(points[: i + 1])))
        assert set(front) == (before - set(removed)) | ({i} if added else set())
    assert sorted(map(tuple, front.losses)) == sorted(tuple(points[i]) for i in front)


@given(clouds)
def test_ranks_peel_one_front_after_the_other(points: np.ndarray) -> None:
    found, left, rank = ranks(points), np.arange(len(points)), 0
    while len(left):
        on_front = plainly_nondominated(points[left])
        assert (found[left[on_front]] == rank).all()
        left, rank = left[~on_front], rank + 1


@given(arrays(float, st.tuples(st.integers(0, 12), st.just(2)), elements=st.floats(0, 2)))
def test_the_hypervolume_of_two_objectives_is_the_area_of_a_staircase(points: np.ndarray) -> None:
    inside = points[(points < 1).all(axis=1)]
    area, height = 0.0, 1.0
    for x, y in inside[np.lexsort((inside[:, 1], inside[:, 0]))]:
        area += (1 - x) * max(0.0, height - y)
        height = min(height, y)
    assert hypervolume(points, (1.0, 1.0)) == pytest.approx(area, abs=1e-12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clouds)
def test_an_incremental_hypervolume_is_that_of_all_points_after_every_insertion(
    block_size: int, points: np.ndarray
) -> None:
    reference = np.full(points.shape[1], 3.5)
    volume = Hypervolume(reference)
    for i, point in enumerate(points):
        before = volume.value
        gain = volume.add(point)
        assert volume.value == pytest.approx(hypervolume(points[: i + 1], reference), rel=1e-12, abs=1e-12)
        assert volume.value == before + gain
    assert volume.num_added == len(points)


@pytest.mark.parametrize("num_objectives", [2, 3, 4])
def test_an_incremental_hypervolume_of_many_points_is_exact(num_objectives: int) -> None:
    points = stream(0, "points").dirichlet(np.ones(num_objectives), size=700)  # none dominates another
    volume = Hypervolume(np.ones(num_objectives))
    for point in points:
        volume.add(point)
    assert volume.value == pytest.approx(hypervolume(points, np.ones(num_objectives)), rel=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "num_objectives", "size"),
    [("cloud", 2, 100_000), ("cloud", 3, 100_000), ("cloud", 4, 100_000), ("front", 3, 30_000)],
)
def test_the_last_tenth_of_many_candidates_costs_about_what_the_first_did(
    shape: str, num_objectives: int, size: int
) -> None:
    """Rows compared, corners of blocks too; with every candidate on the front, a plain comparison grows 19-fold."""
    rng = stream(0, "points")
    points = rng.random((size, num_objectives))
    if shape == "front":
        points = rng.dirichlet(np.ones(num_objectives), size=size)
    front: Front[int] = Front()
    compared = [0]
    for i, point in enumerate(points):
        front.add(i, point)
        if (i + 1) % (size // 10) == 0:
            compared.append(front.num_compared)
    spent = np.diff(compared)
    assert len(front) == (size if shape == "front" else nondominated(points).sum())
    assert spent[-1] < GROWTH * spent[0]


def test_hypervolume_of_no_point_is_zero() -> None:
    assert hypervolume(np.empty((0, 3)), (1, 1, 1)) == 0.0


def test_the_reference_is_the_median_accuracy_and_the_largest_cost() -> None:
    losses = np.array([(-0.9, 5.0), (-0.8, 1.0), (-0.1, 9.0)])
    assert hypervolume_reference(losses, OBJECTIVES).tolist() == [-0.8, 9.0]


def test_crowding_is_infinite_at_the_ends_and_the_gap_inside() -> None:
    assert crowding([(0.0, 4.0), (1.0, 3.0), (4.0, 0.0)]).tolist() == [np.inf, 2.0, np.inf]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        Front[str]().add("a", (bad, 1.0))
    with pytest.raises(ValueError, match="not finite"):
        nondominated([(bad, 1.0)])


def test_a_point_is_added_once_and_has_all_objectives() -> None:
    front: Front[str] = Front()
    front.add("a", (1.0, 1.0))
    with pytest.raises(ValueError, match="added once"):
        front.add("a", (0.0, 0.0))
    with pytest.raises(ValueError, match="2 objectives"):
        front.add("b", (0.0,))
