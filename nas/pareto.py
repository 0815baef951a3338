"""Dominance, incremental fronts, hypervolume. All losses: less is better (`History.losses` signs them so)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from nas._blocks import Blocks
from nas.resources import Objective

Floats = npt.NDArray[np.float64]
Point = tuple[float, ...]
Key = TypeVar("Key", bound=Hashable)


class Front(Generic[Key]):
    """The non-dominated points among all that were added, one by one.

    A point is dominated when another is at least as good in every objective and better in one; so equal points all
    stay. An insertion compares with the members that lie near, not with all.

    >>> front: Front[str] = Front()
    >>> front.add("a", (1.0, 2.0)), front.add("b", (2.0, 3.0)), front.add("c", (1.0, 1.0))
    ((True, []), (False, []), (True, ['a']))
    """

    def __init__(self, members: Mapping[Key, Sequence[float]] | None = None) -> None:
        """Start from nothing, or from points that are known not to dominate one another."""
        self._points: dict[Key, Point] = {key: tuple(point) for key, point in (members or {}).items()}
        self._keys: dict[Point, list[Key]] = {}
        for key, point in self._points.items():
            self._keys.setdefault(point, []).append(key)
        self._blocks = Blocks(np.array(list(self._keys), dtype=float)) if self._keys else None

    def __len__(self) -> int:
        return len(self._points)

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._points))

    def __contains__(self, key: object) -> bool:
        return key in self._points

    @property
    def losses(self) -> Floats:
        """`members x objectives`, in the order of iteration, which is that of insertion."""
        return np.array(list(self._points.values()), dtype=float) if self._points else np.empty((0, 0))

    @property
    def num_compared(self) -> int:
        """Rows that insertions have been compared with so far: what they cost."""
        return self._blocks.compared if self._blocks else 0

    def add(self, key: Key, losses: Sequence[float] | Floats) -> tuple[bool, list[Key]]:
        """Whether the point is on the front now, and the members that it drove out.

        A point that is driven out never comes back: the value behind a key must not change.

        Raises:
            ValueError: a loss is not finite, their number differs from that of the other points, or `key` is a member.
        """
        row = _checked(np.asarray(losses, dtype=float)[None, :])[0]
        point: Point = tuple(row.tolist())
        if self._points and len(point) != len(next(iter(self._keys))):
            raise ValueError(f"{len(point)} losses given where the front has {len(next(iter(self._keys)))} objectives.")
        is_equal = point in self._keys
        if not is_equal and self._blocks is not None and self._blocks.covers(row):
            return False, []
        if key in self._points:
            raise ValueError(f"{key!r} is on the front already; a point is added once.")
        removed: list[Key] = []
        if self._blocks is None:
            self._blocks = Blocks(row[None, :])
        elif not is_equal:
            removed = [k for gone in self._blocks.add(row) for k in self._keys.pop(tuple(gone.tolist()))]
            for gone in removed:
                del self._points[gone]
        self._points[key] = point
        self._keys.setdefault(point, []).append(key)
        return True, removed


class Hypervolume:
    """The exact volume that points dominate, up to a reference; points are added one by one. Infinite beyond a float.

    A point costs what lies near it on the front, and nothing when it is dominated. Equal to `hypervolume` of all that
    was added but for rounding.

    >>> volume = Hypervolume((3.0, 3.0))
    >>> volume.add((1.0, 2.0)), volume.add((2.0, 1.0)), volume.value
    (2.0, 1.0, 3.0)
    """

    def __init__(self, reference: npt.ArrayLike) -> None:
        self.reference = _checked(np.asarray(reference, dtype=float)[None, :])[0]
        self.value, self.num_added = 0.0, 0
        self._blocks: Blocks | None = None

    def add(self, losses: Sequence[float] | Floats) -> float:
        """By how much the volume grows.

        Raises:
            ValueError: a loss is not finite, or their number differs from that of the reference.
        """
        point = _checked(np.asarray(losses, dtype=float)[None, :])[0]
        if len(point) != len(self.reference):
            raise ValueError(f"{len(point)} losses do not fit a reference of {len(self.reference)} objectives.")
        self.num_added += 1
        if not (point < self.reference).all() or (self._blocks is not None and self._blocks.covers(point)):
            return 0.0
        with np.errstate(over="ignore"):
            gain = float(np.prod(self.reference - point))
        if self._blocks is None:
            self._blocks = Blocks(point[None, :])
        elif math.isfinite(self.value):
            gain -= hypervolume(self._blocks.limited(point), self.reference)
            self._blocks.add(point)
        if not math.isfinite(self.value + gain):
            self.value = gain = math.inf
            return gain
        self.value += gain
        return gain


def nondominated(losses: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which rows (`points x objectives`) no other row dominates; equal rows are all kept or all left out.

    Raises:
        ValueError: a loss is not finite.
    """
    points = _checked(np.asarray(losses, dtype=float))
    if len(points) == 0:
        return np.zeros(0, dtype=bool)
    import moocore

    return np.asarray(moocore.is_nondominated(points, keep_weakly=True), dtype=bool)


def ranks(losses: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Non-dominated rank of each row (`points x objectives`): 0 for the front, 1 for the front without it, and so on.

    Raises:
        ValueError: a loss is not finite.
    """
    points = _checked(np.asarray(losses, dtype=float))
    if len(points) == 0:
        return np.zeros(0, dtype=np.int64)
    import moocore

    # pareto_rank puts a second copy of a point in the next front; one rank for all copies is what dominance says.
    unique, inverse = np.unique(points, axis=0, return_inverse=True)
    return np.asarray(moocore.pareto_rank(unique), dtype=np.int64)[inverse.reshape(-1)]


def crowding(losses: npt.ArrayLike) -> Floats:
    """Crowding distance of each row (`points x objectives`) among all rows given; infinite at the ends.

    Deb et al. (2002), A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II.
    """
    points = np.asarray(losses, dtype=float)
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        values = column[order]
        width = values[-1] - values[0] if len(values) else 0.0
        if width <= 0:
            continue
        distance[order[1:-1]] += (values[2:] - values[:-2]) / width
        distance[order[[0, -1]]] = np.inf
    return distance


def by_rank(losses: Floats) -> list[int]:
    """Rows (`points x objectives`) by non-dominated rank, then by crowding distance, the best first."""
    if losses.shape[1] == 1:
        return [int(i) for i in np.argsort(losses[:, 0], kind="stable")]
    found, spread = ranks(losses), np.zeros(len(losses))
    for rank in np.unique(found):
        members = np.flatnonzero(found == rank)
        spread[members] = -crowding(losses[members])
    return [int(i) for i in np.lexsort((spread, found))]


def hypervolume(losses: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Exact volume that the rows (`points x objectives`) dominate, up to `reference` (`objectives`).

    A point that is not better than the reference in every objective adds nothing; no points give 0.

    Raises:
        ValueError: a number is not finite, or points and reference differ in the number of objectives.
    """
    points, corner = np.asarray(losses, dtype=float), _checked(np.asarray(reference, dtype=float)[None, :])[0]
    if points.size == 0:
        return 0.0
    if points.ndim != 2 or points.shape[1] != len(corner):
        raise ValueError(f"losses of shape {points.shape} do not fit a reference of {len(corner)} objectives.")
    import moocore

    return float(moocore.hypervolume(_checked(points), ref=corner))


def hypervolume_reference(losses: npt.ArrayLike, objectives: Sequence[Objective]) -> Floats:
    """The reference point (`objectives`, as losses) that hypervolumes of a space are computed up to.

    The rule: the median of what is maximised (accuracy) and the largest of what is minimised (a cost), over the rows
    (`points x objectives`) given. So a front counts only where it is better than a middling architecture; the worst
    accuracy, which in many spaces is guessing, would drown every difference.

    Raises:
        ValueError: there is no point, or a loss is not finite.
    """
    points = _checked(np.asarray(losses, dtype=float))
    if len(points) == 0:
        raise ValueError("no point to take a reference from; give at least one.")
    worst, middle = points.max(axis=0), np.median(points, axis=0)
    return np.where([objective.direction == "max" for objective in objectives], middle, worst)


def _checked(points: Floats) -> Floats:
    if not np.isfinite(points).all():
        raise ValueError("a loss is not finite; failed evaluations have no place in a front.")
    return points
