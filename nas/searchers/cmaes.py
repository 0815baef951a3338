"""CMA-ES on the ordinal decisions of a space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from pydantic import Field

from nas.history import History, Record
from nas.resources import EvaluationState, Objective, Proposal
from nas.searchers._following import Floats, FollowingSearcher, is_comparable
from nas.searchers._searcher import proposal, unseen
from nas.searchers._warm_up import WARM_UP
from searchspaces import Architecture, Config, ConfigError, Plugin, Rng, SearchSpace, Violation

_REDRAWS = 16
"""Draws outside the box before one is moved to its border."""


class CmaEsConfig(Config):
    """Settings of `cmaes`."""

    population: int | None = Field(
        None,
        ge=2,
        le=10_000,
        json_schema_extra=WARM_UP,
        description="Evaluations in a generation; None: 4 + 3 ln(number of ordinal decisions).",
    )
    step: float = Field(
        0.3, gt=0, le=1, description="First standard deviation, where a decision's options reach from 0 to 1."
    )


class CmaEs(FollowingSearcher):
    """Draws from a normal distribution that moves and stretches to where the better half of each generation lay.

    Hansen (2016), The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772. The options of an ordinal decision are
    equal parts of [0, 1]; no decision's deviation falls so low that all of a generation would take the option that the
    mean lies in, after Hamano et al. (2022), CMA-ES with Margin, arXiv 2205.13482. Other decisions are drawn uniformly.
    Feasible goes before infeasible, then less violation. One objective, as a distribution with one mean has one aim.

    What is drawn travels in the memo as the point, so that the state follows from the history; Optuna's sampler keeps
    its own as pickled bytes. A generation is as many comparable records as there are in it, whichever come first; what
    comes later teaches nothing. A draw that was proposed before is drawn again.

    Raises:
        ConfigError: the space has no ordinal decision.
    """

    def __init__(self, config: CmaEsConfig, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        super().__init__(space, objectives)
        self.config = config
        self._levels = {d.name: d.options for d in space.decisions if d.kind == "ordinal" and len(d.options) > 1}
        if not self._levels:
            allowed = "a space with ordinal decisions; regularized_evolution and gp_its search any space"
            raise ConfigError([Violation("searcher", f"cmaes on {space.name}", allowed)])
        self._dimension = len(self._levels)
        self._population = config.population or 4 + int(3 * math.log(self._dimension))
        self.forget()

    def forget(self) -> None:
        """Be as before the first record."""
        size = self._dimension
        self._generation, self._sigma = 0, self.config.step
        self._mean, self._covariance = np.full(size, 0.5), np.eye(size)
        self._sigma_path, self._covariance_path = np.zeros(size), np.zeros(size)
        self._gathered: list[tuple[tuple[bool, float], Floats]] = []
        self._decompose()

    def learn(self, record: Record, loss: Floats | None) -> None:
        """Take in the next record; a full generation moves the distribution."""
        kept = record.memo.get("cmaes", {})
        if kept.get("generation") != self._generation or not is_comparable(record):
            return
        is_finished = record.state is EvaluationState.FINISHED and loss is not None
        merit = (False, float(loss[0])) if is_finished and loss is not None else (True, record.violation)
        self._gathered.append((merit, np.array(kept["point"])))
        if len(self._gathered) == self._population:
            order = sorted(range(self._population), key=lambda i: self._gathered[i][0])
            self._update(np.array([self._gathered[i][1] for i in order[: self._population // 2]]))
            self._generation, self._gathered = self._generation + 1, []

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        self.follow(history)
        taken: set[str] = set()
        proposals: list[Proposal] = []
        while len(proposals) < n:
            drawn: list[Floats] = []
            found = unseen(self.space, history, taken, rng, lambda: self._draw(drawn, rng))  # noqa: B023
            if found is None:
                break
            taken.add(found.digest)
            memo = {"generation": self._generation, "point": self._point(found, drawn[-1]).tolist()}
            proposals.append(proposal(found, reason="drawn by CMA-ES", memo={"cmaes": memo}))
        return proposals

    # --- drawing -----------------------------------------------------------------------------------------------------

    def _draw(self, drawn: list[Floats], rng: Rng) -> Architecture:
        for _ in range(_REDRAWS):
            point = self._mean + self._stretched @ rng.standard_normal(self._dimension)
            if ((point >= 0) & (point <= 1)).all():
                break
        drawn.append(np.clip(point, 0.0, 1.0))
        levels = dict(zip(self._levels, drawn[-1].tolist(), strict=True))
        options: dict[str, str] = {}
        while decision := self.space.next_decision(options):
            number = len(decision.options)
            at = levels[decision.name] * number if decision.name in levels else rng.integers(number)
            options[decision.name] = decision.options[min(int(at), number - 1)]
        return self.space.complete(options, rng)

    def _point(self, architecture: Architecture, drawn: Floats) -> Floats:
        """Where an architecture lies: as drawn where that is within its options, else in the middle of them."""
        point = drawn.copy()
        for place, (name, options) in enumerate(self._levels.items()):
            if name in architecture:
                level = options.index(architecture[name])
                if min(int(drawn[place] * len(options)), len(options) - 1) != level:
                    point[place] = (level + 0.5) / len(options)
        return point

    # --- learning ----------------------------------------------------------------------------------------------------

    def _update(self, points: Floats) -> None:
        """Move to the points of the better half of a generation (`half x dimension`, best first)."""
        size, half = self._dimension, len(points)
        weights = math.log((self._population + 1) / 2) - np.log(np.arange(1, half + 1))
        weights /= weights.sum()
        mass = 1 / float((weights**2).sum())
        steps = (points - self._mean) / (self._sigma * self._margin)  # half x dimension
        step = weights @ steps
        self._mean = np.clip(weights @ points, 0.0, 1.0)

        rate = (mass + 2) / (size + mass + 5)
        whitened = self._axes @ ((self._axes.T @ step) / self._lengths)
        self._sigma_path = (1 - rate) * self._sigma_path + math.sqrt(rate * (2 - rate) * mass) * whitened
        expected = math.sqrt(size) * (1 - 1 / (4 * size) + 1 / (21 * size**2))
        length = float(np.linalg.norm(self._sigma_path))
        damping = 1 + 2 * max(0.0, math.sqrt((mass - 1) / (size + 1)) - 1) + rate
        self._sigma = min(1.0, self._sigma * math.exp(rate / damping * (length / expected - 1)))

        warm = math.sqrt(1 - (1 - rate) ** (2 * (self._generation + 1)))
        moves = length / warm < (1.4 + 2 / (size + 1)) * expected
        slow = (4 + mass / size) / (size + 4 + 2 * mass / size)
        gain = math.sqrt(slow * (2 - slow) * mass) if moves else 0.0
        self._covariance_path = (1 - slow) * self._covariance_path + gain * step
        one = 2 / ((size + 1.3) ** 2 + mass)
        many = min(1 - one, 2 * (mass - 2 + 1 / mass) / ((size + 2) ** 2 + mass))
        stalled = 0.0 if moves else one * slow * (2 - slow)
        self._covariance = (
            (1 - one - many + stalled) * self._covariance
            + one * np.outer(self._covariance_path, self._covariance_path)
            + many * (steps.T * weights) @ steps
        )
        self._decompose()

    def _decompose(self) -> None:
        """Axes and lengths of the covariance, and by how much the margin widens each decision."""
        squares, self._axes = np.linalg.eigh((self._covariance + self._covariance.T) / 2)
        self._lengths = np.sqrt(np.maximum(squares, 1e-20))
        numbers = np.array([len(options) for options in self._levels.values()])
        level = np.minimum((self._mean * numbers).astype(int), numbers - 1)
        below = np.where(level > 0, self._mean - level / numbers, np.inf)
        above = np.where(level < numbers - 1, (level + 1) / numbers - self._mean, np.inf)
        outside = 1 - 1 / (self._population * self._dimension)
        needed = np.minimum(below, above) / NormalDist().inv_cdf(max(outside, 0.6))
        deviation = self._sigma * np.sqrt(np.maximum(np.diag(self._covariance), 1e-20))
        self._margin = np.maximum(1.0, needed / deviation)
        self._stretched = (self._sigma * self._margin)[:, None] * self._axes * self._lengths


def create(config: CmaEsConfig, space: SearchSpace, objectives: Sequence[Objective]) -> CmaEs:
    """The searcher on this space.

    Raises:
        ConfigError: the space has no ordinal decision.
    """
    return CmaEs(config, space, objectives)


PLUGIN = Plugin(
    name="cmaes",
    description="CMA-ES: a normal distribution over ordinal decisions that follows the better half; one objective",
    source="Hansen (2016), The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772",
    create=create,
    Config=CmaEsConfig,
    flags={"multi_objective": False, "replicates": False, "decisions": "ordinal"},
)
