"""SCORE: untrained networks of a pool, scored by all workers before the search."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas.ports import JobView
from nas.resources import JsonObject, Phase, UnitPlan
from nas.spec import JobSpec
from nas.streams import stream
from searchspaces import Architecture, SearchSpace

if TYPE_CHECKING:
    from nas.scoring import Scores
    from nas.stages._context import UnitContext
    from nas.workbench import Workbench
    from predictors.zerocost import ProxyContext

_PER_UNIT = 50
_TELL_SECONDS = 1.0


class ScoreStage:
    """Units of a few architectures each, so that many workers share them; none where nothing is to be scored."""

    def plan(self, spec: JobSpec, view: JobView) -> list[UnitPlan]:
        if not spec.scoring.pool or not spec.scoring.proxies:
            return []
        starts = range(0, spec.scoring.pool, _PER_UNIT)
        return [UnitPlan(key=f"score-{number:05d}", payload={"start": start}) for number, start in enumerate(starts)]

    def run(self, context: UnitContext) -> JsonObject:
        from nas.scoring import proxies_of, score_many

        spec, bench = context.spec, context.bench
        start: int = context.unit.payload["start"]
        part = pool_part(spec, bench.space, start)
        proxies, began, told = proxies_of(spec.scoring.proxies), time.monotonic(), 0.0
        scored: list[list[object]] = []
        failures = 0
        for found in score_many(scored_space(bench), part, proxies, scoring_context(bench)):
            scored.append([found.architecture.text, {name: score.value for name, score in found.scores.items()}])
            failures += all(score.value is None for score in found.scores.values())
            if context.must_leave():
                raise context.leave()
            if time.monotonic() - told > _TELL_SECONDS or len(scored) == len(part):
                told = time.monotonic()
                self._tell(context, start + len(scored), (told - began) / len(scored))
        return {"scored": scored, "failures": failures, "seconds": time.monotonic() - began}

    def _tell(self, context: UnitContext, done: int, each: float) -> None:
        total = context.spec.scoring.pool
        context.journal.progress(
            phase=Phase.SCORE,
            fraction=min(1.0, done / total),
            message=f"{min(done, total)} of {total} untrained networks scored",
            seconds_left=max(0, total - done) * each + context.seconds_after(Phase.SCORE),
        )


def pool_part(spec: JobSpec, space: SearchSpace, start: int) -> list[Architecture]:
    """The uniform architectures that one unit scores; fewer than its share where some are drawn twice."""
    rng = stream(spec.seed, "scoring", "pool", start)
    size = min(_PER_UNIT, spec.scoring.pool - start)
    return list(dict.fromkeys(space.sample(rng) for _ in range(size)))


def scored_space(bench: Workbench) -> SearchSpace:
    """The space whose networks are scored."""
    return bench.space.reduced() if bench.spec.scoring.reduced else bench.space


def scoring_context(bench: Workbench) -> ProxyContext:
    """What all proxies of a job have in common."""
    import torch

    from nas.scoring import proxy_context

    return proxy_context(
        bench.dataset,
        bench.task,
        images=bench.spec.scoring.images,
        seed=bench.spec.seed,
        device=bench.device,
        low_precision=bench.dtype == torch.bfloat16,
    )


def scores_of(bench: Workbench, view: JobView) -> Scores:
    """What the job knows of architectures for free, with the pool that was scored before the search."""
    from nas.scoring import Scores, proxies_of

    known: dict[Architecture, Mapping[str, float | None]] = {}
    for result in view.results(Phase.SCORE):
        for text, scores in result["scored"]:
            known[bench.space.parse(text)] = scores
    return Scores(
        bench.space,
        proxies_of(bench.spec.scoring.proxies),
        lambda: scoring_context(bench),
        scored=scored_space(bench),
        pool=known,
        bounds=bench.spec.bounds(),
        costs=bench.known_costs(),
        seed=bench.spec.seed,
    )
