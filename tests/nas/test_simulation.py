"""The simulated clock of a search against a table."""

from __future__ import annotations

import pytest

from nas.resources import Objective, Proposal
from nas.searchers import make_searcher
from nas.simulation import Measured, Simulation, simulate
from nas.spec import PluginRef
from searchspaces import REGISTRY, Architecture


def second_each(made: Proposal, architecture: Architecture) -> Measured:
    return Measured((0.5,), seconds=1.0)


def simulated(workers: int | None, seconds: float) -> Simulation:
    objective = Objective(metric="accuracy", level="full", direction="max")
    searcher = make_searcher(PluginRef(name="random"), REGISTRY["nasbench201"](), (objective,))
    return simulate(searcher, second_each, evaluations=99, batch=8, workers=workers, seconds=seconds)


@pytest.mark.parametrize(("workers", "seconds", "num"), [(2, 1.0, 2), (2, 1.5, 4), (8, 1.0, 8), (None, 1.0, 8)])
def test_nothing_is_begun_after_the_time_is_up(workers: int | None, seconds: float, num: int) -> None:
    found = simulated(workers, seconds)
    assert (len(found.history), found.reason) == (num, "time spent")
    assert found.finished_at[-1] < seconds + 1
