"""Search against a table: a searcher with simulated workers and a simulated clock, in one process.

What takes days when networks are trained takes seconds here, and the searcher cannot tell: it sees the same history,
with what is under way as pending, and gets the same random streams as in a job.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from nas.history import History, Record
from nas.resources import EvaluationState, Proposal
from nas.searchers import Searcher
from nas.streams import stream
from searchspaces import Architecture


class Measured(NamedTuple):
    """What became of one proposal.

    Attributes:
        values: one per objective, as `Record.values`; None: it failed.
        violation: of the constraints, relative; 0 when they hold.
        seconds: how long a worker was busy with it, on the simulated clock.
    """

    values: tuple[float, ...] | None
    violation: float = 0.0
    seconds: float = 1.0


Measure = Callable[[Proposal, Architecture], Measured]


@dataclass
class Simulation:
    """A search that was simulated.

    Attributes:
        history: all that was measured, in the order in which it finished.
        finished_at: simulated seconds from the start, one for each settled record.
        reason: why it ended.
    """

    history: History
    finished_at: list[float] = field(default_factory=list)
    reason: str = ""


def simulate(
    searcher: Searcher,
    measure: Measure,
    *,
    evaluations: int,
    seed: int = 0,
    batch: int = 1,
    workers: int | None = None,
    seconds: float | None = None,
    until: Callable[[History], bool] = lambda history: False,
) -> Simulation:
    """Run a search to its end.

    Args:
        searcher: proposes; made for a space and objectives.
        measure: what a proposal gives, and how long it takes.
        evaluations: proposals measured at most.
        seed: root of the streams that the searcher draws from.
        batch: proposals asked for at a time.
        workers: how many measure at once, each taking new work as soon as it is free (asynchronously); None: a batch is
            measured whole, by as many workers as it has members, before the next is asked for.
        seconds: simulated time after which no more is begun; what was proposed by then and is not begun stays pending.
        until: asked after every finished measurement; True ends the search.
    """
    run = Simulation(History(searcher.objectives))
    history, clock, running = run.history, 0.0, list[tuple[float, int, Record]]()
    waiting: list[tuple[Record, float]] = []
    while True:
        room, is_late = batch if workers is None else workers - len(running), seconds is not None and clock >= seconds
        may_ask = not running if workers is None else room > 0
        while may_ask and not run.reason and len(waiting) < room:
            left = evaluations - history.num_proposals
            if left <= 0 or is_late:
                run.reason = "evaluations spent" if left <= 0 else "time spent"
                break
            asked = searcher.ask(history, min(batch, left), stream(seed, "searcher", history.num_proposals))
            if not asked:
                run.reason = "" if running or waiting else "nothing left to propose"
                break
            waiting += [_begin(searcher, history, made, measure) for made in asked]
        if waiting and is_late:
            waiting, run.reason = [], "time spent"
        for record, cost in waiting[:room] if may_ask else ():
            heapq.heappush(running, (clock + cost, record.number, record))
        waiting = waiting[room:] if may_ask else waiting
        if not running:
            return run
        clock, _, record = heapq.heappop(running)
        history.add(record)
        run.finished_at.append(clock)
        if until(history):
            run.reason = "found what was looked for"
            return run


def _begin(searcher: Searcher, history: History, made: Proposal, measure: Measure) -> tuple[Record, float]:
    """The record that it will be, and the time it takes; in the history it is pending."""
    architecture = searcher.space.parse(made.text)
    found = measure(made, architecture)
    state = EvaluationState.FINISHED
    if found.values is None or found.violation > 0:
        state = EvaluationState.INFEASIBLE if found.violation > 0 else EvaluationState.FAILED
    number = history.num_proposals
    common = {"replicate": made.replicate, "group": made.group, "memo": made.memo, "fidelity": made.fidelity}
    history.add(Record(number, architecture, EvaluationState.PENDING, None, **common))  # type: ignore[arg-type]
    settled = Record(number, architecture, state, found.values, found.violation, **common)  # type: ignore[arg-type]
    return settled, found.seconds
