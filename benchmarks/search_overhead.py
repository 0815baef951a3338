"""What a searcher costs itself: seconds for 1,000 candidates, after 1,000 and after 10,000 evaluations.

Twenty decisions of five options, two objectives that cost nothing to measure, batches of ten, each told before the next
is asked for. What is timed is `ask`, in seconds of the processor; the first one, which takes up the history, is not.
The history before is uniform, told at once; that of `nsga2` is its own, because generations are what it goes by.
A row ends after 1,000 candidates or `--limit` seconds, one batch at least, and is scaled to 1,000. Models are capped
whatever the history: those of `gp_its` and `mo_bo` at 400 records, those of `gp` at its `window`.

`adapter_over_optuna.SAMPLER`: our adapter against Optuna used plainly on the same history, in turns, two at a time, by
the draw: both tell what was drawn before as failed and draw again, a few times. The worse of the two histories counts.
`store` is the real one, a SQLite file, as the search stage uses it: propose, settle, read what was settled.

`growth.NAME`: seconds after the long history over seconds after the short one, of our own searchers and of `store`.
`growth.table`: the last 1,000 evaluations over the first 1,000 of a whole job of 100,000 over a generated table of
200,000 rows (`benchmarks/_table_jobs.py`), its end included; `seconds_1000`, `seconds_10000` and `seconds_100000` are
what whole jobs take, in seconds of the processor.

`--quick` leaves `gp` out, the long history of Optuna's samplers and the job of 100,000, which take minutes: there
stands null, and `growth.table` is that of the job of 10,000.

    python -m benchmarks.search_overhead [--json] [--quick] [--searchers all] [--limit 20]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks._report import Value, arguments, report
from benchmarks._table_jobs import table_job, write_table
from db import Store
from nas.history import History, Record
from nas.ports import JobView
from nas.resources import (
    EvaluationState,
    Fidelity,
    Job,
    Measurement,
    Objective,
    Phase,
    Proposal,
    Settlement,
    UnitPlan,
)
from nas.searchers import REGISTRY, Searcher
from nas.spec import JobSpec
from nas.streams import stream
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, SearchSpace

HISTORIES = (1_000, 10_000)
CANDIDATES, BATCH, OPTUNA_BATCH = 1_000, 10, 2
ASKS = 8  # draws for one candidate, as in our adapter; two equal ones end it too
OBJECTIVES = (
    Objective(metric="quality", level="full", direction="max"),
    Objective(metric="price", level="cost", direction="min"),
)
SEARCHERS = (
    *("random", "regularized_evolution", "local_search", "grid", "emars", "reinforce", "mcts", "cmab"),
    *("ladder", "assisted", "model_based", "linas", "weaknas", "gp_its", "mo_bo"),
)
FIT_EVERY = 8  # batches of ten within which what is fitted every sixteen is fitted as often as in any other eight
TABLE = "table"
JOBS = (1_000, 10_000, 100_000)
SLOW = ("gp",)
SAMPLERS = {"nsga2": "NSGAIISampler", "tpe": "TPESampler"}
GROWS_ITS_OWN = ("nsga2",)

Values = tuple[float, float]


class Timed(NamedTuple):
    """What some candidates took."""

    seconds: float
    candidates: int
    draws: int


Turn = Callable[[], Timed]


def main() -> None:
    """Print the figures."""
    options = arguments(
        __doc__,
        ("searchers", str, ",".join((*SEARCHERS, *SAMPLERS, "store", TABLE, *SLOW)), "which, separated by commas"),
        ("limit", float, 20.0, "seconds for a row"),
    )
    limit = min(options.limit, 1.0) if options.quick else options.limit
    figures: dict[str, Value] = {}
    growth: dict[str, Value] = {}
    for name in options.searchers.split(","):
        worst: float | None = None
        if name == TABLE:
            figures |= table_jobs(growth, is_quick=options.quick)
            continue
        for size in HISTORIES:
            key = f"seconds_per_1000.{name}.{size}"
            if name in SAMPLERS:
                ours, plain = against_optuna(name, size, limit, is_quick=options.quick)
                figures[key] = per_1000(tell(key, ours))
                figures[f"seconds_per_1000.optuna_{name}.{size}"] = per_1000(plain)
                if ours and plain:
                    worst = max(worst or 0.0, per_draw(ours) / per_draw(plain))
                    figures[f"adapter_over_optuna.{name}"] = worst
                continue
            if options.quick and name in SLOW:
                figures[key] = None
                continue
            turn = store_turns(size) if name == "store" else searcher_turns(name, size)
            figures[key] = per_1000(tell(key, rounds([turn], limit, 1 if name in SLOW else FIT_EVERY)[0]))
        if name not in SAMPLERS:
            growth[name] = grown([figures[f"seconds_per_1000.{name}.{size}"] for size in HISTORIES])
    report({**figures, "growth": growth}, as_json=options.json)


def grown(seconds: Sequence[Value]) -> float | None:
    """The last over the first; None where one was not measured."""
    short, long = seconds[0], seconds[-1]
    return long / short if isinstance(short, float) and isinstance(long, float) else None


def table_jobs(growth: dict[str, Value], *, is_quick: bool) -> dict[str, Value]:
    """Whole jobs over a table; the longest says how they grow."""
    figures: dict[str, Value] = {}
    with tempfile.TemporaryDirectory(prefix="search-overhead-") as folder:
        table = Path(folder) / "table.npz"
        write_table(table)
        for size in JOBS:
            key = f"seconds_{size}"
            if is_quick and size == JOBS[-1]:
                figures[key] = None
                continue
            found = table_job(size, table)
            print(f"# {key}: first and last 1,000 in {found.first:.3f} and {found.last:.3f} s", flush=True)
            figures[key], growth[TABLE] = found.seconds, found.last / found.first
    return figures


def rounds(turns: Sequence[Turn], limit: float, least: int = 1) -> list[list[Timed]]:
    """Each turn in its turn, until all have made enough candidates or the time is up; the first of each warms up.

    At least so many of each: what is fitted anew every few batches has to fall into both of two rows.
    """
    for turn in turns:
        turn()
    done: list[list[Timed]] = [[] for _ in turns]
    began = time.monotonic()
    while len(done[0]) < least or (
        time.monotonic() - began < limit and sum(t.candidates for t in done[0]) < CANDIDATES
    ):
        for turn, found in zip(turns, done, strict=True):
            found.append(turn())
    return done


def tell(key: str, found: Sequence[Timed]) -> Sequence[Timed]:
    """Print what a figure rests on."""
    print(f"# {key}: {sum(t.candidates for t in found)} candidates, {sum(t.draws for t in found)} draws", flush=True)
    return found


def per_1000(found: Sequence[Timed]) -> float | None:
    """Seconds for 1,000 candidates; None where nothing was measured."""
    return 1_000 * sum(t.seconds for t in found) / sum(t.candidates for t in found) if found else None


def per_draw(found: Sequence[Timed]) -> float:
    """Seconds for a draw."""
    return sum(t.seconds for t in found) / sum(t.draws for t in found)


# --- searchers -------------------------------------------------------------------------------------------------------


@cache
def space() -> SearchSpace:
    """Twenty decisions of five options each."""
    options = [str(option) for option in range(5)]
    return SPACES["options"]({"decisions": {f"decision{i}": options for i in range(20)}})


@cache
def weights() -> npt.NDArray[np.float64]:
    """Of every option in both objectives."""
    return stream(0, "overhead", "weights").random((2, 100))


def measured(architecture: Architecture) -> Values:
    """Quality and price."""
    quality, price = weights() @ space().encode(architecture)
    return float(quality), float(price)


@cache
def uniform(size: int) -> tuple[Architecture, ...]:
    """Distinct architectures, drawn uniformly."""
    rng = stream(0, "overhead", "history")
    found: dict[Architecture, None] = {}
    while len(found) < size:
        found[space().sample(rng)] = None
    return tuple(found)


def searcher_turns(name: str, size: int) -> Turn:
    """Batches of a searcher after a history."""
    searcher, history = REGISTRY[name](None, space(), OBJECTIVES), History(OBJECTIVES)
    for architecture in uniform(size):
        _tell(history, architecture)
    return turns_of(searcher, history)


def turns_of(searcher: Searcher, history: History, batch: int = BATCH) -> Turn:
    """Batches of a searcher, each told before the next."""

    def turn() -> Timed:
        rng, began = stream(0, "searcher", history.num_proposals), time.process_time()
        proposals = searcher.ask(history, batch, rng)
        seconds = time.process_time() - began
        for made in proposals:
            _tell(history, space().parse(made.text), made)
        discarded = sum(made.memo.get("optuna", {}).get("discarded", 0) for made in proposals)
        return Timed(seconds, len(proposals), len(proposals) + discarded)

    return turn


def _tell(history: History, architecture: Architecture, made: Proposal | None = None) -> None:
    memo = made.memo if made else {}
    values = measured(architecture)
    history.add(Record(history.num_proposals, architecture, EvaluationState.FINISHED, values, memo=memo))


# --- our adapter against Optuna itself -------------------------------------------------------------------------------


def against_optuna(name: str, size: int, limit: float, *, is_quick: bool) -> tuple[list[Timed], list[Timed]]:
    """Our adapter's turns and those of plain Optuna, after a history; empty where it would take too long to grow."""
    grows = name in GROWS_ITS_OWN
    if is_quick and size > HISTORIES[0]:
        return [], []
    start = () if grows else uniform(size)
    searcher, history = REGISTRY["optuna"]({"sampler": SAMPLERS[name]}, space(), OBJECTIVES), History(OBJECTIVES)
    for architecture in start:
        _tell(history, architecture)
    plain, ours = plain_turns(SAMPLERS[name], start), turns_of(searcher, history, OPTUNA_BATCH)
    while len(history) < size:
        ours(), plain()
    found = rounds([ours, plain], limit)
    return found[0], found[1]


def plain_turns(sampler: str, start: Sequence[Architecture]) -> Turn:
    """Batches by ask and tell, as a user of Optuna writes it who measures nothing twice."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = getattr(optuna.samplers, sampler)(seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=made)
    distributions = {d.name: optuna.distributions.CategoricalDistribution(d.options) for d in space().decisions}
    for architecture in start:
        params = dict(architecture.options)
        values = measured(architecture)
        study.add_trial(optuna.create_trial(params=params, distributions=distributions, values=values))
    seen, rng = set(start), stream(0, "overhead", "plain")

    def draw() -> tuple[optuna.Trial | None, Architecture, int]:
        """What the sampler draws, or where it draws nothing new a mutant of that; and how often it drew."""
        drawn: list[Architecture] = []
        while len(drawn) < ASKS and len(set(drawn)) == len(drawn):
            trial = study.ask()
            options = {d.name: trial.suggest_categorical(d.name, d.options) for d in space().decisions}
            drawn.append(space().architecture(options))
            if drawn[-1] not in seen:
                return trial, drawn[-1], len(drawn)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        found = drawn[-1]
        while found in seen:
            found = space().mutate(found, rng)
        return None, found, len(drawn)

    def turn() -> Timed:
        draws, asked, began = 0, list[tuple[optuna.Trial | None, Architecture]](), time.process_time()
        while len(asked) < OPTUNA_BATCH:
            trial, architecture, drawn = draw()
            asked.append((trial, architecture))
            seen.add(architecture)
            draws += drawn
        seconds = time.process_time() - began
        told = [(trial, architecture, measured(architecture)) for trial, architecture in asked]
        began = time.process_time()
        for trial, architecture, values in told:
            if trial is not None:
                study.tell(trial, values)
            else:
                params = dict(architecture.options)
                study.add_trial(optuna.create_trial(params=params, distributions=distributions, values=values))
        return Timed(seconds + time.process_time() - began, len(asked), draws)

    return turn


# --- the store -------------------------------------------------------------------------------------------------------


class SearchAlone:
    """Plans a search and nothing else."""

    def stages(self, job: Job) -> Sequence[Phase]:
        return (Phase.SEARCH,)

    def plan(self, phase: Phase, view: JobView) -> list[UnitPlan]:
        return [UnitPlan(key="search")]


def store_turns(size: int) -> Turn:
    """Batches through a new store, in a folder that goes with the turn."""
    folder = tempfile.TemporaryDirectory(prefix="search-overhead-")
    store = Store.open(f"sqlite:///{Path(folder.name) / 'nas.db'}", Path(folder.name) / "files")
    store.create_job(JobSpec.from_mapping({"dataset": "digits"}), OBJECTIVES)
    worker = store.register_worker("here", 1, "cpu")
    lease = store.claim(worker.worker_id, lease_seconds=86_400.0, planner=SearchAlone())
    assert lease is not None
    cursor, journal, source = 0, lease.journal, proposals()

    def pass_through(count: int) -> Timed:
        nonlocal cursor
        batch = [next(source) for _ in range(count)]
        began = time.process_time()
        evaluations = journal.propose([made for made, _ in batch])
        ends = zip(evaluations, batch, strict=True)
        journal.settle([_settlement(evaluation.evaluation_id, values) for evaluation, (_, values) in ends])
        cursor = journal.settled("full", after=cursor)[-1].commit or cursor
        journal.front()
        folder  # noqa: B018 - held as long as the turn is
        return Timed(time.process_time() - began, count, count)

    for _ in range(size // CANDIDATES):
        pass_through(CANDIDATES)
    return lambda: pass_through(BATCH)


def proposals() -> Iterator[tuple[Proposal, Values]]:
    """Uniform ones without end."""
    rng, fidelity = stream(0, "overhead", "store"), Fidelity(level="full")
    while True:
        found = space().sample(rng)
        yield Proposal(text=found.text, digest=found.digest, fidelity=fidelity, reason="uniform"), measured(found)


def _settlement(evaluation_id: str, values: Values) -> Settlement:
    levels = [(objective, Fidelity(level=objective.level)) for objective in OBJECTIVES]
    return Settlement(
        evaluation_id=evaluation_id,
        state=EvaluationState.FINISHED,
        measurements=tuple(
            Measurement(metric=objective.metric, value=value, fidelity=fidelity)
            for (objective, fidelity), value in zip(levels, values, strict=True)
        ),
    )


if __name__ == "__main__":
    main()
