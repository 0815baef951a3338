"""Gaussian process, independent Thompson sampling, and candidates from mutating the incumbents."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas.history import History, Record
from nas.pareto import Front
from nas.resources import EvaluationState, Objective, Proposal
from nas.searchers._candidates import Candidates, CandidatesConfig, smallest
from nas.searchers._posterior import Distances, Posterior, Shape, encoder_of
from nas.searchers._searcher import Searcher, proposal
from nas.searchers._warm_up import WARM_UP
from predictors.surrogates import normal_scores, standardised
from searchspaces import Architecture, Plugin, Rng, SearchSpace

Floats = npt.NDArray[np.float64]

_FAR = 100.0
_TIE_BREAK = 0.05
_PENDING = 64  # the newest of what is under way that deviations know of
_OF_FEASIBILITY = Shape()


class GpItsConfig(CandidatesConfig):
    """Settings of `gp_its`."""

    initial: int = Field(
        10, ge=2, le=100_000, json_schema_extra=WARM_UP, description="Random architectures before the first model."
    )
    fitted: int = Field(
        400, ge=16, le=5_000, description="Most records a model is fitted on: the best, the front, and the newest."
    )


class GpIts(Searcher):
    """Samples each objective of each candidate from its posterior, and takes the best by a random weighting.

    The models are Gaussian processes on what is seen of an architecture without building it: options, paths, and counts
    of operations, parameters, FLOPs and path lengths; each proposal looks at a random part of these three, since a
    process that is wrong about a region in one view seldom is in another. They are fitted to normal scores by rank of
    what is learned, standardised values of costs. What is under way, or chosen before in the same batch, is taken to
    become what is expected of it, so that nothing like it is chosen for its uncertainty. Sampling follows White,
    Neiswanger and Savani (2021), BANANAS, arXiv 1910.11858; the weighting Paria, Kandasamy and Póczos (2019), Random
    Scalarizations, arXiv 1805.12168, as a Chebyshev norm from the ideal point to the hypervolume's reference. Own
    additions: the counts and the random views, without which one search of twenty on NAS-Bench-201 gets stuck;
    proposals are brought to their `live` form, which computes the same at no greater cost; where proposals were
    infeasible, a further model learns where that happens.

    A step costs the cube of `fitted` and its product with the number of candidates, however long the history is.
    """

    reason = "posterior sample"

    def __init__(self, config: GpItsConfig, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        super().__init__(space, objectives)
        self.config = config
        self._candidates = Candidates(config, space)
        self._encoder = encoder_of(space)
        self._history: History | None = None
        self._cursor = 0
        self._known: list[Record] = []
        self._finished: list[int] = []
        self._front: Front[int] = Front()

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        self._update(history)
        if n == 0 or history.num_proposals < self.config.initial:
            return self.filled([], history, n, rng)
        if self._finished:
            candidates, reason = self._candidates(history, rng), self.reason
            chosen = self._choose(history, candidates, n, rng)
        else:
            candidates, reason = self._candidates.near(history, rng), "mutant of the least infeasible"
            chosen = [int(i) for i in rng.permutation(len(candidates))[:n]]
        proposals = [proposal(candidates[i], reason=reason) for i in chosen]
        return self.filled(proposals, history, n, rng)

    def _update(self, history: History) -> None:
        if history is not self._history:
            self._history, self._cursor = history, 0
            self._known, self._finished, self._front = [], [], Front()
        for record in history.since(self._cursor):
            if record.state is EvaluationState.FAILED:
                continue
            if record.is_finished:
                self._front.add(len(self._finished), history.losses()[len(self._finished)])
                self._finished.append(len(self._known))
            self._known.append(record)
        self._cursor = len(history)

    def _choose(self, history: History, candidates: Sequence[Architecture], n: int, rng: Rng) -> list[int]:
        """Indices of up to `n` candidates: for each a new posterior sample and a new weighting of the objectives."""
        rows, finished = self._rows(history)
        known = [self._known[row] for row in rows]
        pending = [record.architecture for record in list(history.pending.values())[-_PENDING:]]
        try:
            distances = Distances([record.architecture for record in known], [*candidates, *pending], self._encoder)
        except ValueError:  # all that was measured looks the same
            return []
        columns = zip(history.losses()[finished].T, self.objectives, strict=True)
        targets = np.stack([_target(column, objective) for column, objective in columns], axis=1)
        places = np.searchsorted(rows, [self._finished[i] for i in finished]).tolist()
        ideal, worst = targets.min(axis=0), self._worst(targets)
        penalty = _infeasibility(distances, known, rng)
        under_way = list(range(len(candidates), len(candidates) + len(pending)))
        chosen: list[int] = []
        for _ in range(min(n, len(candidates))):
            names = distances.some(rng)
            posteriors = [Posterior(distances, places, column, names=names) for column in targets.T]
            for posterior in posteriors:
                posterior.expect(*under_way, *chosen)
            sample = np.stack([posterior.sample(rng) for posterior in posteriors], axis=1)
            weighted = rng.dirichlet(np.ones(len(self.objectives))) * (sample - ideal) / (worst - ideal)
            score = weighted.max(axis=1) + _TIE_BREAK * weighted.sum(axis=1) + penalty
            score[chosen] = np.inf
            chosen.append(int(np.argmin(score[: len(candidates)])))
        return chosen

    def _rows(self, history: History) -> tuple[list[int], list[int]]:
        """What the models are fitted on, of what is known and of that what finished: a quarter of the front, a quarter
        the best by each objective, the rest the newest."""
        most, losses = self.config.fitted, history.losses()
        if len(self._known) <= most:
            return list(range(len(self._known))), list(range(len(losses)))
        finished = set(list(self._front)[-(most // 4) :])
        for column in losses.T:
            finished.update(smallest(column, most // (4 * len(self.objectives))))
        rows = {self._finished[i] for i in finished}
        for row in range(len(self._known) - 1, -1, -1):
            if len(rows) == most:
                break
            rows.add(row)
        oldest = bisect_left(self._finished, min(rows))
        return sorted(rows), [i for i in range(oldest, len(losses)) if self._finished[i] in rows]

    def _worst(self, targets: Floats) -> Floats:
        """The hypervolume's reference: the median of what is maximised, the largest of what is minimised."""
        is_maximised = [objective.direction == "max" for objective in self.objectives]
        worst = np.where(is_maximised, np.median(targets, axis=0), targets.max(axis=0))
        return np.asarray(np.maximum(worst, targets.min(axis=0) + 1e-3))


def _infeasibility(distances: Distances, known: Sequence[Record], rng: Rng) -> Floats | float:
    """A sampled share of the way to `infeasible`, where it is over a half far above any score; 0 while all were
    feasible."""
    labels = np.array([float(record.violation > 0) for record in known])
    if not labels.any():
        return 0.0
    posterior = Posterior(distances, range(len(known)), labels - labels.mean(), _OF_FEASIBILITY)
    deviation = labels.std() * posterior.std
    sampled = labels.mean() + posterior.mean + deviation * rng.standard_normal(len(deviation))
    return np.asarray(np.clip(sampled, 0.0, 1.0) * _FAR * (sampled > 0.5))


def _target(losses: Floats, objective: Objective) -> Floats:
    """What a model is fitted to: standardised costs; normal scores by rank (ties share theirs) of what is learned."""
    return standardised(losses) if objective.level == "cost" else normal_scores(losses)


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
