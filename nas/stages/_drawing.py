"""Which networks an audit measures: some near the front, some of the whole space.

Both are drawn so that figures of the two populations are unbiased (`predictors.ranking.Design`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from nas.pareto import by_rank
from nas.resources import Candidate, Objective
from nas.trust import Drawn, Stratum
from searchspaces import Architecture, Rng, SearchSpace

_POPULATION = 4
"""Times as many candidates as are drawn near the front are taken to be near it, by their rank."""
_POOL = 20
_TRIES = 20

Item = TypeVar("Item")


class Chosen(NamedTuple):
    """A network to audit, and how it was drawn."""

    text: str
    digest: str
    drawn: Drawn

    @property
    def memo(self) -> dict[str, list[int]]:
        """How it was drawn, as the proposal keeps it."""
        return {name: list(stratum) for name, stratum in self.drawn._asdict().items() if stratum is not None}


def drawn_of(memo: dict[str, object]) -> Drawn:
    """How a network was drawn, by the memo of its proposal; nothing where it has none."""
    strata = {name: Stratum(*value) for name in Drawn._fields if isinstance(value := memo.get(name), list)}
    return Drawn(**strata)


def near_front(candidates: Sequence[Candidate], objectives: Sequence[Objective], n: int, rng: Rng) -> list[Chosen]:
    """`n` of the candidates near the front: the best by the first objective, and others in strata along that objective.

    Near the front are the best `4 n` by non-dominated rank, the front itself in any case.
    """
    scored = [c for c in candidates if c.feasible and all(objective.key in c.values for objective in objectives)]
    if not scored or n < 1:
        return []
    losses = np.array([[o.loss(c.values[o.key]) for o in objectives] for c in scored])
    size = max(_POPULATION * n, sum(c.on_front for c in scored))
    near = [scored[i] for i in by_rank(losses)[:size]]
    first = objectives[0]
    near.sort(key=lambda c: (first.loss(c.values[first.key]), c.number))
    best, others = near[0], near[1:]
    chosen = [Chosen(best.text, best.digest, Drawn(near_front=Stratum(0, 1)))]
    drawn = _stratified(others, n - 1, rng)
    return chosen + [Chosen(c.text, c.digest, Drawn(near_front=s._replace(number=s.number + 1))) for c, s in drawn]


def of_space(
    space: SearchSpace,
    n: int,
    rng: Rng,
    *,
    cost: Callable[[Architecture], float] | None,
    holds: Callable[[Architecture], bool],
) -> list[Chosen]:
    """`n` architectures of the space, uniform over those that `holds` accepts, in strata of `cost`.

    They are drawn from a uniform pool of `20 n`; fewer come where so few of the space are accepted.
    """
    size, found = _POOL * n, dict[str, Architecture]()
    for _ in range(_TRIES * size):
        if len(found) == size:
            break
        architecture = space.sample(rng)
        if architecture.digest not in found and holds(architecture):
            found[architecture.digest] = architecture
    pool = list(found.values())
    if cost is not None:
        pool.sort(key=cost)
    return [Chosen(a.text, a.digest, Drawn(space=stratum)) for a, stratum in _stratified(pool, n, rng)]


def _stratified(population: Sequence[Item], n: int, rng: Rng) -> list[tuple[Item, Stratum]]:
    """`n` of the population (all of it where it is smaller), two or three from each of equal parts of its order.

    Two, so that pairs within a part are represented too.
    """
    if n < 1 or not population:
        return []
    n = min(n, len(population))
    parts = np.array_split(np.arange(len(population)), max(1, min(n // 2, len(population) // 2)))
    sizes = [len(each) for each in np.array_split(np.arange(n), len(parts))]
    drawn = []
    for number, (part, size) in enumerate(zip(parts, sizes, strict=True)):
        for place in rng.choice(part, size=min(size, len(part)), replace=False):
            drawn.append((population[int(place)], Stratum(number, len(part))))
    return drawn
