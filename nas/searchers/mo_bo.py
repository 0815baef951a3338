"""Expected improvement of the hypervolume under Gaussian processes, for any number of objectives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt
from pydantic import Field

from nas.history import History, Record
from nas.pareto import hypervolume_reference
from nas.resources import Objective
from nas.scoring import Scores
from nas.searchers._posterior import Distances, Posterior, Shape
from nas.searchers.gp_its import GpIts, GpItsConfig
from predictors.surrogates import normal_scores, standardised
from searchspaces import Architecture, MeasurementError, Plugin, Rng, SearchSpace

Floats = npt.NDArray[np.float64]

_QUANTILES = 16  # values of equal probability that stand for what an objective may turn out to be
_TAIL = 0.2  # share of the records whose slope goes on beyond the best
_PENDING = 256  # the newest of what is under way that is reckoned with
_OF_FEASIBILITY = Shape()


class MoBoConfig(GpItsConfig):
    """Settings of `mo_bo`."""

    samples: int = Field(300, ge=0, le=100_000, description="Uniform candidates beside the neighbours.")
    directions: int = Field(
        128, ge=1, le=10_000, description="From the reference into the front, in which improvement is looked for."
    )


class MoBo(GpIts):
    """Takes the candidate that promises the largest growth of the hypervolume, times its chance to be feasible.

    A hypervolume is the mean, over directions from the reference, of how far the front reaches in each, to the power of
    the number of objectives (Zhang and Golovin, 2020, Random Hypervolume Scalarizations, arXiv 2006.04655); so is its
    expected improvement, exact as the number of directions grows, for any number of objectives (Emmerich, Giannakoglou
    and Naujoks, 2006). Few directions and quantiles leave it a sample, which spreads what is proposed. Models,
    candidates and what they are fitted on are those of `gp_its`; costs that are known on paper are exact, and what is
    known to break a bound is no candidate. (Against FLOPs on NAS-Bench-201 known costs find less of the front than
    learned ones: shares of .898 and .930 after 100 queries, .954 and .968 after 400.) Normal scores are brought back to
    the objective's own unit, in which the volume is measured. Of a batch, and of what is under way, each is taken to
    become what is expected of it. Of one objective it is `gp_its`.
    """

    reason = "expected growth of the hypervolume"
    config: MoBoConfig

    def __init__(
        self, config: MoBoConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None = None
    ) -> None:
        super().__init__(config, space, objectives)
        self.scores = scores or Scores(space)

    def _choose(self, history: History, candidates: Sequence[Architecture], n: int, rng: Rng) -> list[int]:
        """Indices of up to `n` candidates, each chosen as if those before had become what is expected of them."""
        holding = [i for i, candidate in enumerate(candidates) if self.scores.violation(candidate) == 0]
        if len(self.objectives) == 1 or not holding:
            return super()._choose(history, candidates, n, rng)
        candidates = [candidates[i] for i in holding]
        rows, finished = self._rows(history)
        known = [self._known[row] for row in rows]
        pending = [record.architecture for record in list(history.pending.values())[-_PENDING:]]
        asked = [*candidates, *pending]
        try:
            distances = Distances([record.architecture for record in known], asked, self._encoder)
        except ValueError:  # all that was measured looks the same
            return []
        places = np.searchsorted(rows, [self._finished[i] for i in finished])
        seen = history.losses()[finished]
        outlooks = [
            _Outlook(distances, places, column, objective, self._exact(objective, asked))
            for column, objective in zip(seen.T, self.objectives, strict=True)
        ]
        likely = _chance_to_hold(distances, known, len(asked))[: len(candidates)]
        reference = hypervolume_reference(history.losses(), self.objectives)
        volume = _Volume(history.losses()[list(self._front)], reference, self.config.directions, rng)
        for index in range(len(candidates), len(asked)):
            volume.expect(outlooks, index)
        chosen: list[int] = []
        for _ in range(min(n, len(candidates))):
            worth = volume.growth(outlooks)[: len(candidates)] * likely
            worth[chosen] = -1.0
            chosen.append(int(np.argmax(worth)))
            volume.expect(outlooks, chosen[-1])
        return [holding[i] for i in chosen]

    def _exact(self, objective: Objective, asked: Sequence[Architecture]) -> Floats | None:
        """Losses by a cost that is known on paper."""
        cost = self.scores.costs.get(objective.metric) if objective.level == "cost" else None
        if cost is None:
            return None
        sign = 1.0 if objective.direction == "min" else -1.0
        try:
            return np.array([sign * cost.measure(architecture).value for architecture in asked])
        except MeasurementError:
            return None


class _Outlook:
    """What one objective of the candidates may turn out to be: `asked x _QUANTILES` losses of equal probability.

    Args:
        distances: of the known architectures from each other and from those asked about.
        places: which of the known ones are measured.
        losses: of those.
        objective: what they are of.
        exact: the losses of those asked about, where they are known.
    """

    def __init__(
        self,
        distances: Distances,
        places: npt.NDArray[np.intp],
        losses: Floats,
        objective: Objective,
        exact: Floats | None,
    ) -> None:
        self._exact = exact
        if exact is None:
            is_cost = objective.level == "cost"
            targets = standardised(losses) if is_cost else normal_scores(losses)
            self._posterior = Posterior(distances, places.tolist(), targets)
            self._back = _line(losses) if is_cost else _curve(losses, targets)

    def quantiles(self) -> Floats:
        """`asked x _QUANTILES`; the same ones in a row where the loss is known."""
        from scipy.stats import norm

        if self._exact is not None:
            return np.repeat(self._exact[:, None], _QUANTILES, axis=1)
        nodes = norm.ppf((np.arange(_QUANTILES) + 0.5) / _QUANTILES)
        return self._back(self._posterior.mean[:, None] + self._posterior.std[:, None] * nodes)

    def expect(self, index: int) -> float:
        """The loss that is expected of one, which is taken for its loss from now on."""
        if self._exact is not None:
            return float(self._exact[index])
        expected = float(self._back(self._posterior.mean[index : index + 1])[0])
        self._posterior.expect(index)
        return expected


class _Volume:
    """The hypervolume of the front as a mean over directions, and by how much candidates are expected to add to it.

    Args:
        front: losses of its members, `members x objectives`.
        reference: up to which the volume is measured, `objectives`.
        directions: how many.
        rng: draws them.
    """

    def __init__(self, front: Floats, reference: Floats, directions: int, rng: Rng) -> None:
        self._reference = reference
        width = self._reference - front.min(axis=0)
        self._width = np.where(width > 0, width, 1.0)
        drawn = np.abs(rng.standard_normal((directions, len(reference))))  # uniform on the sphere, when of length 1
        self._directions = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        self._nodes = rng.integers(_QUANTILES, size=(directions, len(reference)))
        self._reached = self._reach(front.T[:, :, None]).max(axis=0)  # directions

    def growth(self, outlooks: Sequence[_Outlook]) -> Floats:
        """Expected growth of the volume for every one asked about, up to a factor; where none is expected, how near
        each comes to it, below 0."""
        drawn = [o.quantiles()[:, node] for o, node in zip(outlooks, self._nodes.T, strict=True)]
        reach = self._reach(drawn)  # asked x directions
        power = len(outlooks)
        grown = np.maximum(reach**power - self._reached**power, 0.0).mean(axis=1)
        return np.asarray(grown if grown.max() > 0 else (reach - self._reached).max(axis=1))

    def expect(self, outlooks: Sequence[_Outlook], index: int) -> None:
        """Go on as if one were on the front."""
        point = [np.full((1, 1), outlook.expect(index)) for outlook in outlooks]
        self._reached = np.maximum(self._reached, self._reach(point)[0])

    def _reach(self, losses: Iterable[Floats]) -> Floats:
        """How far points lie from the reference in every direction, 0 for those behind it, `n x directions`; losses by
        one objective after the other, `n x (1 or directions)`."""
        each = zip(losses, self._reference, self._width, self._directions.T, strict=True)
        nearest = reduce(np.minimum, [(end - loss) / (width * along) for loss, end, width, along in each])
        return np.asarray(nearest.clip(0.0))


def _curve(losses: Floats, scores: Floats) -> Callable[[Floats], Floats]:
    """From normal scores back to losses: between known ones interpolated, below the best as steep as near the best."""
    known, first = np.unique(losses, return_index=True)
    at = scores[first]
    tail = min(len(known) - 1, max(1, int(_TAIL * len(known))))
    slope = (known[tail] - known[0]) / (at[tail] - at[0]) if tail else 0.0
    return lambda asked: np.asarray(np.interp(asked, at, known) + slope * np.minimum(asked - at[0], 0.0))


def _line(losses: Floats) -> Callable[[Floats], Floats]:
    """From standardised losses back to losses."""
    mean, spread = losses.mean(), losses.std() or 1.0
    return lambda asked: np.asarray(mean + spread * asked)


def _chance_to_hold(distances: Distances, known: Sequence[Record], num_asked: int) -> Floats:
    """Probability that each asked about holds the bounds, by which of the known ones did; ones while all did."""
    from scipy.stats import norm

    broken = np.array([float(record.violation > 0) for record in known])
    if not broken.any():
        return np.ones(num_asked)
    posterior = Posterior(distances, range(len(known)), broken - broken.mean(), _OF_FEASIBILITY)
    expected = broken.mean() + posterior.mean
    return np.asarray(norm.cdf((0.5 - expected) / (max(broken.std(), 0.1) * posterior.std)))


def create(
    config: MoBoConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None = None
) -> MoBo:
    """The searcher on this space."""
    return MoBo(config, space, objectives, scores)


PLUGIN = Plugin(
    name="mo_bo",
    description="Expected hypervolume improvement under Gaussian processes over mutated incumbents",
    source="Emmerich, Giannakoglou and Naujoks (2006), Single- and Multiobjective Evolutionary Optimization Assisted "
    "by Gaussian Random Field Metamodels; Zhang and Golovin (2020), arXiv 2006.04655",
    create=create,
    Config=MoBoConfig,
    flags={"multi_objective": True, "replicates": False, "ranks": True},
)
