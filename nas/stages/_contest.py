"""Which networks contend to be delivered, in how many rungs, and what that takes: successive halving within a budget.

Jamieson and Talwalkar (2016), Non-stochastic Best Arm Identification, arXiv 1502.07943: every rung costs the same, half
of the networks go on. A network begins every rung anew, since a rate that has fallen to zero cannot go on falling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nas.spec import Deliver

Floats = npt.NDArray[np.float64]
_WORTHWHILE = 4  # epochs of a final training below which no time is left for comparing


class Rung(NamedTuple):
    """How many networks are trained, for how many epochs each."""

    num_networks: int
    epochs: int


class DeliveryPlan(NamedTuple):
    """What a delivery does with its time: networks that contend for each that is delivered, and the final training."""

    contenders: int
    epochs: int

    def seconds(self, *, train_epoch: float, final_epoch: float) -> float:
        """Of one delivered network, from the seconds of an epoch over train, and over train and valid together."""
        passes = sum(rung.num_networks * rung.epochs for rung in rungs_of(self.contenders, self.epochs))
        return passes * train_epoch + self.epochs * final_epoch


def rungs_of(num_contenders: int, epochs: int) -> tuple[Rung, ...]:
    """The rungs before a final training of `epochs`; together at most as many epochs, over train alone, as that takes.

    Four networks and 60 epochs: four for 7 epochs, then two for 15. None where there is nothing to compare, or no time
    to; where there is little, fewer networks contend.

    >>> rungs_of(4, 60)
    (Rung(num_networks=4, epochs=7), Rung(num_networks=2, epochs=15))
    """
    for fitting in range(num_contenders, 1, -1):
        sizes = [fitting]
        while sizes[-1] > 2:
            sizes.append(-(-sizes[-1] // 2))
        lengths = [epochs // (len(sizes) * size) for size in sizes]
        if lengths[0] >= 1:
            return tuple(Rung(size, length) for size, length in zip(sizes, lengths, strict=True))
    return ()


def plan_of(deliver: Deliver) -> DeliveryPlan:
    """What the settings ask for."""
    return DeliveryPlan(deliver.contenders, deliver.training.epochs)


def fitting_plan(deliver: Deliver, seconds: float, *, train_epoch: float, final_epoch: float) -> DeliveryPlan:
    """The longest delivery of one network that fits into so many seconds, at most what the settings ask for.

    All is shortened alike, contest and final training; where the final training would be a few epochs, all time is
    its own. One epoch is the least.

    Args:
        train_epoch: seconds of an epoch over the train split.
        final_epoch: seconds of an epoch over train and valid together.
    """
    asked = plan_of(deliver)
    speed = {"train_epoch": train_epoch, "final_epoch": final_epoch}
    for epochs in range(asked.epochs, _WORTHWHILE - 1, -1):
        plan = asked._replace(epochs=epochs)
        if plan.seconds(**speed) <= seconds:
            return plan
    return DeliveryPlan(1, max(1, min(asked.epochs, int(seconds / final_epoch))))


def spread_over(members: Sequence[int], num_networks: int) -> list[int]:
    """The first, and others spread evenly over the rest."""
    if not members or not num_networks:
        return []
    places = np.unique(np.linspace(0, len(members) - 1, min(num_networks, len(members))).round().astype(int))
    return [members[place] for place in places]


def contests(
    points: Sequence[int],
    order: Sequence[int],
    costs: Floats,
    contenders: int,
    *,
    same_as: Callable[[int], object],
) -> list[list[int]]:
    """For each point to deliver, itself and the most promising others that may take its place; nobody contends twice.

    The first point is the most promising one, and everybody may take its place. The place of any other is open to
    those that cost no more than it, so that what is delivered stays spread over the costs.

    Args:
        points, order: candidates; `order` the most promising first.
        costs: the other objectives as losses, `candidates x objectives`.
        contenders: how many at most, the point itself with them.
        same_as: equal for candidates that are the same network, of which one contends.
    """
    taken = {same_as(point) for point in points}
    found = []
    for place, point in enumerate(points):
        contest = [point]
        for other in order:
            if len(contest) >= contenders:
                break
            if place and not (costs[other] <= costs[point]).all():
                continue
            if other not in points and same_as(other) not in taken:
                taken.add(same_as(other))
                contest.append(other)
        found.append(contest)
    return found
