"""Weights over scores, searched for so that the best architecture comes out on top: the machinery of RoBoT."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from predictors.encoding import score_ranks
from searchspaces import Rng

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

Floats = npt.NDArray[np.float64]
Normalisation = Literal["min_max", "rank"]


class RobotResult(NamedTuple):
    """What `robot_search` looked at.

    Attributes:
        indices: the architectures queried, in that order, every one once.
        values: theirs.
        weights: `M`, those whose argmax was worth most.
        searched: how many of the queries the search for weights took; the rest were greedy.
    """

    indices: tuple[int, ...]
    values: tuple[float, ...]
    weights: Floats
    searched: int


class WeightSearch:
    """Bayesian optimisation over weights in [-1, 1] to the power of M: Optuna's Gaussian process, in memory.

    The publication takes the upper confidence bound; Optuna's sampler takes the logarithm of the expected improvement.

    Args:
        size: M, at least 1.
        rng: equal streams and values told give equal weights.
        start: how many are drawn at random first.
    """

    def __init__(self, size: int, rng: Rng, *, start: int) -> None:
        import optuna

        sampler = optuna.samplers.GPSampler(
            seed=int(rng.integers(2**31)), n_startup_trials=start, warn_independent_sampling=False
        )
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study announces itself; nobody asked for this one
        try:
            self._study = optuna.create_study(sampler=sampler, direction="maximize")
        finally:
            optuna.logging.set_verbosity(verbosity)
        self._box: dict[str, BaseDistribution] = {
            f"weight_{i}": optuna.distributions.FloatDistribution(-1.0, 1.0) for i in range(size)
        }
        self._asked: Trial | None = None

    def ask(self) -> Floats:
        """The next weights to try, `M`."""
        self._asked = self._study.ask(self._box)
        return np.array([self._asked.params[name] for name in self._box])

    def tell(self, value: float | None) -> None:
        """What the weights asked for last are worth; None where that is undefined: nothing is learned of them."""
        if self._asked is None:
            raise RuntimeError("no weights were asked for; call `ask` first.")
        if value is None:
            from optuna.trial import TrialState

            self._study.tell(self._asked, state=TrialState.FAIL)
        else:
            self._study.tell(self._asked, value)
        self._asked = None


def weighted(scores: Floats, weights: Floats) -> Floats:
    """The weighted sum, `n`, of scores from 0 to 1, `n x M`; one that is NaN counts as the worst that it could be."""
    defined = np.isfinite(scores)
    return np.asarray(np.where(defined, scores, 0.0) @ weights + ~defined @ np.minimum(weights, 0.0))


class Query(NamedTuple):
    """What `robot_queries` asks for.

    Attributes:
        row: of the architecture whose value it wants, larger better.
        weights: `M`, those whose argmax is worth most so far; zeros before the first value.
    """

    row: int
    weights: Floats


def robot_queries(
    scores: Floats, budget: int, *, rng: Rng, normalisation: Normalisation = "min_max"
) -> Generator[Query, float, RobotResult]:
    """`robot_search` as a generator, for whoever has no value at hand: every one that is asked for is sent back."""
    if not scores.size or budget < 1:
        raise ValueError(
            f"{scores.shape[0]} architectures, {scores.shape[1]} scores, budget {budget}; give at least 1."
        )
    pool, known, best = _normalised(scores, normalisation), dict[int, float](), (-np.inf, np.zeros(scores.shape[1]))
    search = WeightSearch(scores.shape[1], rng, start=max(budget // 2, 1))
    for _ in range(max(budget - 1, 1)):
        weights = search.ask()
        chosen = int(np.argmax(weighted(pool, weights)))
        if chosen not in known:
            known[chosen] = yield Query(chosen, best[1])
        search.tell(known[chosen])
        if known[chosen] > best[0]:
            best = known[chosen], weights
    searched = len(known)
    for index in ranking(scores, best[1], normalisation):
        if len(known) >= budget:
            break
        if index not in known:
            known[index] = yield Query(index, best[1])
    return RobotResult(tuple(known), tuple(known.values()), best[1], searched)


def robot_search(
    scores: Floats,
    query: Callable[[int], float],
    budget: int,
    *,
    rng: Rng,
    normalisation: Normalisation = "min_max",
) -> RobotResult:
    """Finds good architectures of a pool within few queries, by the weights of its scores.

    He, Z. et al. (2024), Robustifying and Boosting Training-Free Neural Architecture Search (RoBoT), ICLR: Bayesian
    optimisation of weights whose value is that of the argmax of the weighted sum, `budget - 1` rounds, in which an
    architecture known already costs nothing; what is left of the budget goes down the ranking of the best weights.
    Deviation: half of the rounds draw weights at random (the publication none), without which the improvement expected
    by a Gaussian process gets stuck.
    Which normalisation is better depends on pool and scores: neither always is.

    Args:
        scores: `n x M` of the whole pool; not finite is undefined.
        query: the value of one of the pool, 0 to n - 1, larger better.
        budget: how many may be queried.
        normalisation: over the pool, to 0 to 1: linearly between the extremes, or by rank.

    Raises:
        ValueError: the pool or the budget is empty, or there are no scores.
    """
    queries = robot_queries(scores, budget, rng=rng, normalisation=normalisation)
    try:
        asked = next(queries)
        while True:
            asked = queries.send(query(asked.row))
    except StopIteration as end:
        found: RobotResult = end.value
        return found


def ranking(scores: Floats, weights: Floats, normalisation: Normalisation) -> list[int]:
    """Rows of a pool (`n x M`), the best by these weights first."""
    return [int(i) for i in np.argsort(-weighted(_normalised(scores, normalisation), weights), kind="stable")]


def _normalised(scores: Floats, normalisation: Normalisation) -> Floats:
    """To 0 (worst) to 1 (best) over the pool; NaN where undefined."""
    defined = np.isfinite(scores)
    known = np.where(defined, scores, np.nan)
    if normalisation == "rank":
        return np.where(defined, score_ranks(known) / len(known), np.nan)
    return min_max(known, known)


def min_max(values: Floats, over: Floats) -> Floats:
    """Linear, 0 at the smallest and 1 at the largest finite value of the same column in `over`, `n x M`.

    Where all of a column's are equal it is 0; NaN where it is not finite.
    """
    known = np.where(np.isfinite(over), over, np.nan)
    some = np.isfinite(known).any(axis=0)
    low = np.nanmin(np.where(some, known, 0.0), axis=0)
    span = np.nanmax(np.where(some, known, 0.0), axis=0) - low
    return np.where(np.isfinite(values), (values - low) / np.where(span > 0, span, np.inf), np.nan)
