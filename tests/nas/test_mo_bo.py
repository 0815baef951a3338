"""The default searcher of several objectives: what it expects a front to gain, and what it takes as known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas.history import History, Record
from nas.pareto import hypervolume, hypervolume_reference
from nas.quantities import Constraint
from nas.resources import EvaluationState, Objective, Proposal
from nas.scoring import Scores
from nas.searchers import REGISTRY, make_searcher
from nas.searchers.mo_bo import _Volume
from nas.simulation import Measured, simulate
from nas.spec import PluginRef
from nas.streams import stream
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, SearchSpace
from tests.nas.conditional import Perceptrons

OBJECTIVES = (
    Objective(metric="accuracy", level="full", direction="max"),
    Objective(metric="latency", level="cost", direction="min"),
    Objective(metric="energy", level="cost", direction="min"),
)
SPACE: SearchSpace = SPACES["nasbench201"]()


class Known:
    """Losses that are certain: `asked x objectives`, one column each."""

    def __init__(self, losses: np.ndarray) -> None:
        self.losses = losses

    def quantiles(self) -> np.ndarray:
        return np.repeat(self.losses[:, None], 16, axis=1)

    def expect(self, index: int) -> float:
        return float(self.losses[index])


@pytest.mark.parametrize("num_objectives", [2, 3])
def test_growth_is_in_proportion_to_the_hypervolume_that_a_point_adds(num_objectives: int) -> None:
    """With many directions; what is left is the noise of drawing them, 2 % at 100,000."""
    objectives, rng = OBJECTIVES[:num_objectives], stream(0, "points")
    seen, asked = rng.random((12, num_objectives)), 0.7 * rng.random((6, num_objectives))
    reference = hypervolume_reference(seen, objectives)
    before = hypervolume(seen, reference)
    added = np.array([hypervolume(np.vstack([seen, point]), reference) - before for point in asked])
    volume = _Volume(seen, reference, 100_000, rng)
    outlooks = [Known(column) for column in asked.T]
    growth = volume.growth(outlooks)  # type: ignore[arg-type]
    assert added.max() > 0
    assert growth / growth.sum() == pytest.approx(added / added.sum(), abs=0.02)
    volume.expect(outlooks, int(np.argmax(added)))  # type: ignore[arg-type]
    assert volume.growth(outlooks)[int(np.argmax(added))] <= 0  # type: ignore[arg-type]


def toy(space: SearchSpace, num_objectives: int, limit: float = np.inf) -> tuple[History, list[Proposal]]:
    """A search of 60 for what a few decisions decide, and costs; the first cost is bounded."""
    weights = stream(0, "toy").random((3, len(space.encode(next(iter(space.iterate()))))))
    proposals: list[Proposal] = []

    def measure(proposal: Proposal, architecture: Architecture) -> Measured:
        proposals.append(proposal)
        values = weights[:num_objectives] @ space.encode(architecture)
        if len(proposals) % 9 == 0:
            return Measured(None)
        return Measured(tuple(map(float, values)), max(0.0, values[1] / limit - 1))

    found = REGISTRY["mo_bo"]({"samples": 50}, space, OBJECTIVES[:num_objectives])
    return simulate(found, measure, evaluations=60, batch=4, workers=6).history, proposals


@pytest.mark.parametrize("num_objectives", [2, 3])
def test_conditional_decisions_failures_and_what_is_under_way_are_searched_around(num_objectives: int) -> None:
    history, proposals = toy(Perceptrons(), num_objectives)
    assert history.num_proposals == history.num_distinct == 60
    assert sum(proposal.reason == "expected growth of the hypervolume" for proposal in proposals) >= 45


def test_it_learns_which_bounds_are_broken() -> None:
    values = [record.values[1] for record in toy(SPACE, 2)[0].settled[:10] if record.values]
    history, _ = toy(SPACE, 2, limit=float(np.median(values)))
    broken = [record.violation > 0 for record in history.settled]
    assert sum(broken[-30:]) < 0.5 * sum(broken[:10]) * 3


def test_what_is_known_to_break_a_bound_is_not_proposed() -> None:
    limit = float(np.median([SPACE.counts(SPACE.sample(stream(0, i))).params for i in range(99)]))
    scores = Scores(SPACE, bounds=[Constraint("params", "<=", limit)])
    objectives = (OBJECTIVES[0], Objective(metric="params", level="cost", direction="min"))
    found = make_searcher(PluginRef(name="mo_bo"), SPACE, objectives, scores)
    history = History(objectives)
    while history.num_proposals < 40:
        for made in found.ask(history, 5, stream(0, "searcher", history.num_proposals)):
            architecture = SPACE.parse(made.text)
            params = float(SPACE.counts(architecture).params)
            state = EvaluationState.INFEASIBLE if params > limit else EvaluationState.FINISHED
            accuracy = float(sum(option.startswith("nor") for _, option in architecture))
            violation = max(0.0, params / limit - 1)
            history.add(Record(history.num_proposals, architecture, state, (accuracy, params), violation))
    assert any(record.violation > 0 for record in history.settled[:10])
    assert not any(record.violation > 0 for record in history.settled[10:])


@pytest.mark.slow
@pytest.mark.parametrize("device", ["pixel3", "titan_rtx_256"])
def test_it_beats_evolution_on_a_real_table(data_folder: Path, device: str) -> None:
    """Share of the true front's hypervolume at 100 queries, mean of 5 seeds, latency known only when measured.

    Over 20 seeds .93 and .86, each with a spread of .03 from seed to seed; so the means of five differ by .07 +- .02.
    """
    table, hardware = np.load(data_folder / "nasbench201.npz"), np.load(data_folder / "nasbench201_hardware.npz")
    latency = hardware["latency_ms"][:, hardware["device_names"].tolist().index(device)].astype(float)
    accuracy = table["cifar10_valid_acc"].astype(float) / 100
    rows = dict(zip(table["arch_str"].tolist(), zip(accuracy, latency, strict=True), strict=True))
    losses = np.stack([-accuracy, latency], axis=1)
    reference = hypervolume_reference(losses, OBJECTIVES[:2])
    shares = {}
    for name in ("mo_bo", "regularized_evolution"):
        volumes = []
        for seed in range(5):
            found = REGISTRY[name](None, SPACE, OBJECTIVES[:2])
            run = simulate(found, lambda _, a: Measured(rows[a.text]), evaluations=100, batch=5, seed=seed)
            volumes.append(hypervolume(run.history.losses(), reference))
        shares[name] = np.mean(volumes) / hypervolume(losses, reference)
    assert shares["mo_bo"] > shares["regularized_evolution"] + 0.02
