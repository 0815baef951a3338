"""Points none of which dominates another, kept in blocks of near ones, so that a comparison needs few of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_SIZE = 256  # points of a block: at 100,000 points looking through the blocks costs about as much as through one


class Blocks:
    """Mutually non-dominated, distinct points (losses: less is better), each block with the corners of its points.

    The ND-tree of Jaszkiewicz and Lust (2018), ND-Tree-based update, arXiv 1603.04798, with two levels: what no corner
    rules out is compared point by point. `compared` counts the rows, of corners and of points, that were looked at.

    Args:
        points: `points x objectives`, one at least.
    """

    def __init__(self, points: Floats) -> None:
        self.compared = 0
        self._blocks: list[Floats] = []
        self._lower = np.empty((0, points.shape[1]))  # best corner of each block, `blocks x objectives`
        self._upper = np.empty((0, points.shape[1]))  # worst corner
        self._put(points)

    def covers(self, point: Floats) -> bool:
        """Whether one is at least as good as the point in every objective."""
        self.compared += len(self._blocks)
        for index in np.flatnonzero((self._lower <= point).all(axis=1)):
            block = self._blocks[index]
            self.compared += len(block)
            if (block <= point).all(axis=1).any():
                return True
        return False

    def add(self, point: Floats) -> list[Floats]:
        """Put a point in that none covers; gives those that it covers, which are no longer here."""
        beaten = self._without_covered(point)
        if not self._blocks:
            self._put(point[None, :])
            return beaten
        width = self._upper.max(axis=0) - self._lower.min(axis=0)
        middle = (self._lower + self._upper) / 2
        away = (middle - point) / np.where(width > 0, width, 1.0)
        self.compared += len(self._blocks)
        nearest = int(np.argmin((away**2).sum(axis=1)))
        block = np.concatenate((self._blocks[nearest], point[None, :]))
        if len(block) > _SIZE:
            self._drop(nearest)
            self._put(block)
        else:
            self._blocks[nearest] = block
            self._lower[nearest] = np.minimum(self._lower[nearest], point)
            self._upper[nearest] = np.maximum(self._upper[nearest], point)
        return beaten

    def limited(self, point: Floats) -> Floats:
        """The non-dominated ones among all points after each was made no better than `point` in any objective.

        What a point dominates is known from them: the space between it and the reference, without theirs. Blocks near
        it come first; whole blocks are left out whose best corner is covered by then.
        """
        import moocore

        corners = np.maximum(self._lower, point)  # blocks x objectives
        width = np.where((wide := self._upper.max(axis=0) - self._lower.min(axis=0)) > 0, wide, 1.0)
        distance = ((corners - point) / width).sum(axis=1)
        alive = np.ones(len(corners), dtype=bool)
        kept = np.empty((0, len(point)))
        while alive.any():
            index = int(np.argmin(np.where(alive, distance, np.inf)))
            alive[index] = False
            block = np.maximum(self._blocks[index], point)
            joined = np.concatenate((kept, block))
            kept = joined[moocore.is_nondominated(joined, keep_weakly=False)]
            left = np.flatnonzero(alive)
            self.compared += len(joined) + len(left)
            alive[left] = ~(kept[None, :, :] <= corners[left, None, :]).all(axis=2).any(axis=1)
        return kept

    def _without_covered(self, point: Floats) -> list[Floats]:
        beaten: list[Floats] = []
        self.compared += len(self._blocks)
        for index in np.flatnonzero((self._upper >= point).all(axis=1))[
            ::-1
        ]:  # the last first: dropping moves the last
            block = self._blocks[index]
            covered = (block >= point).all(axis=1)
            self.compared += len(block)
            if not covered.any():
                continue
            beaten += list(block[covered])
            left = block[~covered]
            if len(left):
                self._blocks[index] = left
                self._lower[index], self._upper[index] = left.min(axis=0), left.max(axis=0)
            else:
                self._drop(int(index))
        return beaten

    def _put(self, points: Floats) -> None:
        """As new blocks, halved along the objective in which they are widest until each is small enough."""
        waiting, new = [points], list[Floats]()
        while waiting:
            block = waiting.pop()
            if len(block) <= _SIZE:
                new.append(block)
                continue
            spans = np.concatenate((self._upper, block)).max(axis=0) - np.concatenate((self._lower, block)).min(axis=0)
            widest = int(np.argmax(np.ptp(block, axis=0) / np.where(spans > 0, spans, 1.0)))
            order = np.argsort(block[:, widest], kind="stable")
            waiting += [block[order[: len(order) // 2]], block[order[len(order) // 2 :]]]
        self._blocks += new
        self._lower = np.concatenate((self._lower, [block.min(axis=0) for block in new]))
        self._upper = np.concatenate((self._upper, [block.max(axis=0) for block in new]))

    def _drop(self, index: int) -> None:
        last = len(self._blocks) - 1
        self._blocks[index] = self._blocks[last]
        self._lower[index], self._upper[index] = self._lower[last], self._upper[last]
        del self._blocks[last]
        self._lower, self._upper = self._lower[:last].copy(), self._upper[:last].copy()
