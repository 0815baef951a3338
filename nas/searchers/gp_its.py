"""Gaussian process, independent Thompson sampling, and candidates from mutating the incumbents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas.history import History, Record
from nas.pareto import Front
from nas.resources import EvaluationState, Objective, Proposal
from nas.searchers._searcher import Searcher, live_form, proposal
from searchspaces import Architecture, Config, Plugin, Rng, SearchSpace

Floats = npt.NDArray[np.float64]

_LENGTHS = (1.0, 2.0, 4.0, 8.0)
_NOISES = (0.01, 0.1, 0.3)
_REFIT = 32
_PARENTS = 32
_JITTER = 1e-6
_TIE_BREAK = 0.05


class GpItsConfig(Config):
    """Settings of `gp_its`."""

    initial: int = Field(24, ge=2, le=100_000, description="Random architectures before the first model.")
    samples: int = Field(300, ge=0, le=100_000, description="Uniform candidates beside the neighbours of incumbents.")
    fitted: int = Field(
        400, ge=16, le=5_000, description="Most records a model is fitted on: the front and the newest."
    )


class GpIts(Searcher):
    """Samples each objective of each candidate from its posterior, and takes the best by a random weighting.

    The models are Gaussian processes on one-hot codes, exp(-(number of differing decisions) / length), on normal scores
    by rank for what is learned, standardised values for costs; length and noise are those of a small grid with the
    largest marginal likelihood. Candidates are the neighbours of the front and of the best by each objective, and
    uniform samples. Sampling follows White, Neiswanger and Savani (2021), BANANAS, arXiv 1910.11858; the weighting
    Paria, Kandasamy and Póczos (2019), Random Scalarizations, arXiv 1805.12168, as a Chebyshev norm from the ideal
    point to the hypervolume's reference. Own additions: proposals are brought to their `live` form, which computes the
    same at no greater cost; where proposals were infeasible, a further model learns where that happens.
    """

    def __init__(self, config: GpItsConfig, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        super().__init__(space, objectives)
        self.config = config
        self._history: History | None = None
        self._cursor = 0
        self._known: list[tuple[Record, Floats | None]] = []
        self._front: Front[int] = Front()
        self._shapes: dict[tuple[int, int], _Shape] = {}

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        self._update(history)
        if history.num_proposals < self.config.initial:
            return self.filled([], history, n, rng)
        if not self._front:
            return self.filled(self._towards_feasible(history, n, rng), history, n, rng)
        candidates = self._candidates(history, rng)
        proposals = []
        for index in self._choose(candidates, n, rng):
            proposals.append(proposal(candidates[index], reason="posterior sample"))
        return self.filled(proposals, history, n, rng)

    # --- what is known -----------------------------------------------------------------------------------------------

    def _update(self, history: History) -> None:
        if history is not self._history:
            self._history, self._cursor, self._known = history, 0, []
            self._front, self._shapes = Front(), {}
        for record in history.since(self._cursor):
            if record.state is not EvaluationState.FAILED:
                loss = history.loss(record) if record.state is EvaluationState.FINISHED else None
                if loss is not None:
                    self._front.add(len(self._known), loss)
                self._known.append((record, loss))
        self._cursor = len(history)

    def _towards_feasible(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """New mutants of the records that break the constraints least, while none meets them."""
        broken = sorted((r for r, _ in self._known if r.violation > 0), key=lambda r: (r.violation, r.number))
        found: dict[str, Architecture] = {}
        for record in broken[:_PARENTS]:
            for neighbour in self.space.neighbours(record.architecture):
                mutant = live_form(self.space, neighbour)
                if not history.has_seen(mutant):
                    found.setdefault(mutant.digest, mutant)
            if len(found) >= 4 * n:
                break
        mutants = list(found.values())
        chosen = rng.permutation(len(mutants))[:n]
        return [proposal(mutants[i], reason="mutant of the least infeasible") for i in chosen]

    def _candidates(self, history: History, rng: Rng) -> list[Architecture]:
        """New architectures near the incumbents, and anywhere; in an order that depends on nothing but the history."""
        members = list(self._front)
        if len(members) > _PARENTS:
            members = [members[i] for i in rng.choice(len(members), _PARENTS, replace=False)]
        rows = [i for i, (_, loss) in enumerate(self._known) if loss is not None]
        losses = np.array([self._known[i][1] for i in rows])
        for column in losses.T:
            members += [rows[i] for i in np.argsort(column, kind="stable")[: _PARENTS // 4]]
        found = [a for i in dict.fromkeys(members) for a in self.space.neighbours(self._known[i][0].architecture)]
        found += [self.space.sample(rng) for _ in range(self.config.samples)]
        alive = dict.fromkeys(live_form(self.space, architecture) for architecture in found)
        return [architecture for architecture in alive if not history.has_seen(architecture)]

    # --- the model ---------------------------------------------------------------------------------------------------

    def _choose(self, candidates: Sequence[Architecture], n: int, rng: Rng) -> list[int]:
        """Indices of up to `n` candidates: for each a new posterior sample and a new weighting of the objectives."""
        if not candidates:
            return []
        rows = self._rows()
        finished = [i for i in rows if self._known[i][1] is not None]
        codes = np.array([self.space.encode(candidate) for candidate in candidates], dtype=float)
        losses = np.array([self._known[i][1] for i in finished])
        targets = np.stack([_target(column, o) for column, o in zip(losses.T, self.objectives, strict=True)], axis=1)
        posteriors = [
            self._posterior(number, finished, targets[:, number], codes) for number in range(len(self.objectives))
        ]
        ideal, worst = targets.min(axis=0), self._worst(targets)
        penalty = self._infeasibility(rows, codes, rng)
        chosen: list[int] = []
        for _ in range(min(n, len(candidates))):
            sample = np.stack([mean + std * rng.standard_normal(len(mean)) for mean, std in posteriors], axis=1)
            weighted = rng.dirichlet(np.ones(len(self.objectives))) * (sample - ideal) / (worst - ideal)
            score = weighted.max(axis=1) + _TIE_BREAK * weighted.sum(axis=1) + penalty
            score[chosen] = np.inf
            chosen.append(int(np.argmin(score)))
        return chosen

    def _rows(self) -> list[int]:
        """What the models are fitted on: all, or the front and the newest."""
        everything = range(len(self._known))
        if len(everything) <= self.config.fitted:
            return list(everything)
        front = list(self._front)[: self.config.fitted // 2]
        newest = everything[len(everything) - self.config.fitted + len(front) :]
        return sorted({*front, *newest})

    def _worst(self, targets: Floats) -> Floats:
        """The hypervolume's reference: the median of what is maximised, the largest of what is minimised."""
        is_maximised = [objective.direction == "max" for objective in self.objectives]
        worst = np.where(is_maximised, np.median(targets, axis=0), targets.max(axis=0))
        return np.asarray(np.maximum(worst, targets.min(axis=0) + 1e-3))

    def _posterior(self, number: int, rows: Sequence[int], targets: Floats, codes: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of one objective's target at `codes`."""
        return _predict(self._codes(rows), targets, codes, self._shape(number))

    def _shape(self, number: int) -> _Shape:
        """The kernel of one objective, refitted whenever 32 more have finished, on what there was then alone."""
        finished = [i for i, (_, loss) in enumerate(self._known) if loss is not None]
        num_fitted = len(finished) // _REFIT * _REFIT
        if num_fitted == 0:
            return _FIRST_SHAPE
        key = (number, num_fitted)
        if key not in self._shapes:
            rows = finished[max(0, num_fitted - self.config.fitted) : num_fitted]
            losses = np.array([self._known[i][1] for i in rows])[:, number]
            self._shapes[key] = _best_shape(self._codes(rows), _target(losses, self.objectives[number]))
        return self._shapes[key]

    def _codes(self, rows: Sequence[int]) -> Floats:
        """One-hot codes of known records, `rows x options`."""
        return np.array([self.space.encode(self._known[i][0].architecture) for i in rows], dtype=float)

    def _infeasibility(self, rows: Sequence[int], codes: Floats, rng: Rng) -> Floats:
        """A sampled share of the way to `infeasible`, far above any score; zeros while all were feasible."""
        labels = np.array([float(self._known[i][0].violation > 0) for i in rows])
        if not labels.any():
            return np.zeros(len(codes))
        mean, std = _predict(self._codes(rows), labels - labels.mean(), codes, _FIRST_SHAPE)
        sampled = labels.mean() + mean + labels.std() * std * rng.standard_normal(len(mean))
        return np.asarray(np.clip(sampled, 0.0, 1.0) * 100.0 * (sampled > 0.5))


@dataclass(frozen=True)
class _Shape:
    """Length of the kernel in differing decisions, and the variance of the noise."""

    length: float
    noise: float


_FIRST_SHAPE = _Shape(4.0, 0.1)


def _kernel(a: Floats, b: Floats, length: float) -> Floats:
    """exp(-differing decisions / length), `len(a) x len(b)`; two one-hot codes differ in twice as many places."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :]
    return np.asarray(np.exp(-np.maximum(squares - 2 * a @ b.T, 0.0) / (2 * length)))


def _best_shape(known: Floats, targets: Floats) -> _Shape:
    """Of the grid, the shape with the largest marginal likelihood."""

    def likelihood(shape: _Shape) -> float:
        factor = np.linalg.cholesky(_kernel(known, known, shape.length) + (shape.noise + _JITTER) * np.eye(len(known)))
        white = np.linalg.solve(factor, targets)
        return float(-0.5 * white @ white - np.log(np.diag(factor)).sum())

    return max((_Shape(length, noise) for length in _LENGTHS for noise in _NOISES), key=likelihood)


def _predict(known: Floats, targets: Floats, codes: Floats, shape: _Shape) -> tuple[Floats, Floats]:
    """Posterior mean and standard deviation of the noise-free value at `codes`."""
    factor = np.linalg.cholesky(_kernel(known, known, shape.length) + (shape.noise + _JITTER) * np.eye(len(known)))
    cross = np.linalg.solve(factor, _kernel(known, codes, shape.length))
    mean = cross.T @ np.linalg.solve(factor, targets)
    return mean, np.sqrt(np.maximum(1.0 - (cross**2).sum(axis=0), _JITTER))


def _target(losses: Floats, objective: Objective) -> Floats:
    """What a model is fitted to: standardised costs; normal scores by rank (ties share theirs) of what is learned."""
    from scipy.stats import norm, rankdata

    if objective.level == "cost":
        spread = losses.std()
        return np.asarray((losses - losses.mean()) / (spread or 1.0))
    return np.asarray(norm.ppf((rankdata(losses) - 0.5) / len(losses)))


def create(config: GpItsConfig, space: SearchSpace, objectives: Sequence[Objective]) -> GpIts:
    """The searcher on this space."""
    return GpIts(config, space, objectives)


PLUGIN = Plugin(
    name="gp_its",
    description="Gaussian process with Thompson sampling over mutated incumbents; any number of objectives",
    source="White, Neiswanger and Savani (2021), BANANAS, arXiv 1910.11858; Paria et al. (2019), arXiv 1805.12168",
    create=create,
    Config=GpItsConfig,
    flags={"multi_objective": True, "replicates": False},
)
