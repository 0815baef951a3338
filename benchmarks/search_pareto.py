"""Searching two objectives on NAS-Bench-201: how much of the true front is found in how many queries.

Validation accuracy on CIFAR-10 after 200 epochs against the latency that was measured on three devices, and against
FLOPs. A front counts by its hypervolume from (median accuracy, largest cost) of the whole table, as a share of the true
front's. A query tells both numbers of one architecture; nobody knows the cost before, but for `default_known_costs`,
which shows what that is worth.

`default` is our default of several objectives. `front_mutation` is ten lines: a one-edit mutant of a random member of
the front. `optuna_*` are Optuna's samplers used plainly, ask and tell in turns, where what is drawn again is a query
again. Our searchers are asked for five at a time, as a job with five workers does, and are told when all have ended.

`hypervolume.SEARCHER.QUERIES` is the mean over seeds on the worst device, `hypervolume_flops.SEARCHER.QUERIES` that
against FLOPs, `lead.QUERIES` by how much `default` is above the best of the others on the worst device.

    python -m benchmarks.search_pareto [--json] [--quick] [--searchers issue] [--seeds 20] [--processes 2]
"""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks._data import data_file
from benchmarks._report import Value, arguments, report
from nas.pareto import Front, hypervolume, hypervolume_reference, nondominated
from nas.resources import Objective, Proposal
from nas.scoring import Scores
from nas.searchers import make_searcher
from nas.simulation import Measured, simulate
from nas.spec import JobSpec, PluginRef
from nas.streams import stream
from predictors.costs import REGISTRY as COSTS
from predictors.costs import Cost, Reading
from searchspaces import Architecture, SearchSpace
from searchspaces.tables import REGISTRY as TABLES

DEVICES = ("pixel3", "raspi4", "titan_rtx_256")
FLOPS = "flops"
EPOCHS = 200.0
QUERIES = (50, 100, 200, 400)
BATCH = 5
OF_A_JOB = {"accuracy": "max", "params": "min"}  # any two: the default of a job goes by their number
OWN = ("default", "default_known_costs")
ISSUE = (*OWN, "random", "front_mutation", "optuna_nsga2", "optuna_tpe", "optuna_gp")
OURS = ("regularized_evolution", "local_search", "nsga2", "nsga3", "tpe", "gp_its", "emars", "linas", "mcts", "cmab")
SAMPLERS = {"optuna_nsga2": "NSGAIISampler", "optuna_tpe": "TPESampler", "optuna_gp": "GPSampler"}
SLOW_SEEDS = {"optuna_gp": 2}  # 400 queries of it take minutes
QUICK_SEEDS, QUICK_QUERIES = 1, {"optuna_gp": 50}  # more of it takes longer than all the others together

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """One search."""

    searcher: str
    problem: str
    seed: int
    queries: int


class Problem(NamedTuple):
    """Accuracy against one cost.

    Attributes:
        rows: text of an architecture -> row.
        values: `architectures x 2`, as measured.
        objectives: accuracy, and a cost that nobody knows on paper.
        reference: of the hypervolume, as losses.
        volume: of the true front.
    """

    space: SearchSpace
    rows: dict[str, int]
    values: Floats
    objectives: tuple[Objective, Objective]
    reference: Floats
    volume: float

    def of(self, architecture: Architecture) -> tuple[float, float]:
        """Accuracy and cost of one."""
        accuracy, cost = self.values[self.rows[architecture.text]]
        return float(accuracy), float(cost)

    def shares(self, values: Sequence[tuple[float, float]]) -> list[float | None]:
        """Of the true front's hypervolume, after each number of queries; None where there were not so many."""
        losses = np.array(values) * (-1.0, 1.0)
        volumes = [hypervolume(losses[:queries], self.reference) / self.volume for queries in QUERIES]
        return [volume if queries <= len(values) else None for queries, volume in zip(QUERIES, volumes, strict=True)]


class TableCost(Cost):
    """The cost of a problem, known before it is measured."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def measure(self, architecture: Architecture) -> Reading:
        """What the table says."""
        return Reading(self.problem.of(architecture)[1], "")


def main() -> None:
    """Print the figures."""
    options = arguments(
        __doc__,
        (
            "searchers",
            str,
            "issue",
            "which, by commas; issue: those named above, ours: further ones, all",
        ),
        ("seeds", int, 20, "searches of each searcher and problem"),
        ("processes", int, os.cpu_count() or 1, "searches at a time"),
    )
    searchers = chosen(options.searchers)
    seeds = QUICK_SEEDS if options.quick else options.seeds
    tasks = [
        Task(searcher, problem, seed, QUICK_QUERIES.get(searcher, QUERIES[-1]) if options.quick else QUERIES[-1])
        for searcher in searchers
        for problem in (*DEVICES, FLOPS)
        for seed in range(min(seeds, SLOW_SEEDS.get(searcher, seeds)))
    ]
    found: dict[tuple[str, str], list[list[float | None]]] = {}
    for searcher, solved in groupby(results(tasks, options.processes), lambda result: result[0].searcher):
        seconds = []
        for task, shares, spent in solved:
            found.setdefault((searcher, task.problem), []).append(shares)
            seconds.append(spent)
        tell(searcher, found, float(np.mean(seconds)))
    report(figures(searchers, found), as_json=options.json)


def chosen(text: str) -> list[str]:
    """The searchers that are meant."""
    groups = {"issue": ISSUE, "ours": (*OWN, *OURS), "all": (*ISSUE, *OURS)}
    return list(dict.fromkeys(name for part in text.split(",") for name in groups.get(part, (part,))))


# --- searches --------------------------------------------------------------------------------------------------------


def results(tasks: Sequence[Task], processes: int) -> Iterator[tuple[Task, list[float | None], float]]:
    """Every task with its shares and seconds, in order."""
    if processes == 1:
        yield from map(solve, tasks)
        return
    # Started afresh: what a process holds when threads of torch run in it cannot be copied safely.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(solve, tasks)


def solve(task: Task) -> tuple[Task, list[float | None], float]:
    """Search once; the seconds are the processor's."""
    problem, began = problem_of(task.problem), time.process_time()
    if task.searcher in SAMPLERS:
        values = plain_optuna(SAMPLERS[task.searcher], problem, task)
    elif task.searcher == "front_mutation":
        values = front_mutation(problem, task)
    else:
        values = ours(problem, task)
    return task, problem.shares(values), time.process_time() - began


def ours(problem: Problem, task: Task) -> list[tuple[float, float]]:
    """One of the product's searchers."""
    known = {problem.objectives[1].metric: TableCost(problem)} if task.searcher == "default_known_costs" else None
    scores = Scores(problem.space, costs=known) if known else None
    ref = JobSpec(objectives=OF_A_JOB).searcher if task.searcher in OWN else PluginRef(name=task.searcher)
    searcher = make_searcher(ref, problem.space, problem.objectives, scores)

    def measure(proposal: Proposal, architecture: Architecture) -> Measured:
        return Measured(problem.of(architecture))

    run = simulate(searcher, measure, evaluations=task.queries, seed=task.seed, batch=BATCH)
    return [problem.of(record.architecture) for record in run.history.settled]


def front_mutation(problem: Problem, task: Task) -> list[tuple[float, float]]:
    """The baseline: one-edit mutants of the front, after ten at random; nothing twice, and at random where 64 mutants
    in a row were known."""
    rng, space = stream(task.seed, "front mutation"), problem.space
    front: Front[Architecture] = Front()
    seen: dict[Architecture, tuple[float, float]] = {}
    repeats = 0
    while len(seen) < task.queries:
        members = list(front)
        parent = members[int(rng.integers(len(members)))] if len(seen) >= 10 and repeats < 64 else None
        found = space.mutate(parent, rng) if parent else space.sample(rng)
        repeats += 1
        if found not in seen:
            seen[found] = accuracy, cost = problem.of(found)
            front.add(found, (-accuracy, cost))
            repeats = 0
    return list(seen.values())


def plain_optuna(sampler: str, problem: Problem, task: Task) -> list[tuple[float, float]]:
    """A sampler as its users run it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = ["maximize" if objective.direction == "max" else "minimize" for objective in problem.objectives]
    values = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made = getattr(optuna.samplers, sampler)(seed=task.seed)
    study = optuna.create_study(directions=directions, sampler=made)
    for _ in range(task.queries):
        trial = study.ask()
        options = {d.name: trial.suggest_categorical(d.name, d.options) for d in problem.space.decisions}
        values.append(problem.of(problem.space.architecture(options)))
        study.tell(trial, values[-1])
    return values


@cache
def problem_of(name: str) -> Problem:
    """The problem of a device, or FLOPs."""
    table = TABLES["nasbench201"]({"path": str(data_file("nasbench201.npz").parent)})
    texts = [table.space.parse(text).text for text in table.texts]
    if name == FLOPS:
        flops = COSTS["flops"](None, table.space, "cpu")
        cost = np.array([flops.measure(table.space.parse(text)).value for text in texts])
    else:
        cost = table.costs[f"latency_{name}"].mean
    objectives = (
        Objective(metric="accuracy", level="full", direction="max"),
        Objective(metric=f"measured_{name}", level="cost", direction="min"),
    )
    values = np.stack([table.measured["accuracy"][EPOCHS].mean, cost], axis=1)
    losses = values * (-1.0, 1.0)
    reference = hypervolume_reference(losses, objectives)
    volume = hypervolume(losses[nondominated(losses)], reference)
    return Problem(table.space, {text: row for row, text in enumerate(texts)}, values, objectives, reference, volume)


# --- figures ---------------------------------------------------------------------------------------------------------


def tell(searcher: str, found: dict[tuple[str, str], list[list[float | None]]], seconds: float) -> None:
    """What became of a searcher on each problem, with the spread over seeds."""
    print(f"# {searcher}: {seconds:.3g} s of the processor for a search")
    for problem in (*DEVICES, FLOPS):
        runs = found[searcher, problem]
        columns = zip(QUERIES, zip(*runs, strict=True), strict=True)
        known = [(queries, [share for share in shares if share is not None]) for queries, shares in columns]
        parts = [f"{queries}: {np.mean(shares):.3f} +- {np.std(shares):.3f}" for queries, shares in known if shares]
        print(f"#   {problem}, {len(runs)} seeds: {', '.join(parts)}", flush=True)


def figures(searchers: Sequence[str], found: dict[tuple[str, str], list[list[float | None]]]) -> dict[str, Value]:
    """Means over seeds: on the worst device, and against FLOPs."""
    means = {
        (searcher, problem, queries): mean([run[number] for run in found[searcher, problem]])
        for searcher in searchers
        for problem in (*DEVICES, FLOPS)
        for number, queries in enumerate(QUERIES)
    }
    worst = {
        (searcher, queries): least([means[searcher, device, queries] for device in DEVICES])
        for searcher in searchers
        for queries in QUERIES
    }
    told: dict[str, Value] = {f"hypervolume.{s}.{q}": share for (s, q), share in worst.items()}
    told |= {f"hypervolume_flops.{s}.{q}": means[s, FLOPS, q] for s, q in worst}
    for queries in QUERIES:
        own = worst.get(("default", queries))
        others = [share for (s, q), share in worst.items() if q == queries and s not in OWN and share is not None]
        told[f"lead.{queries}"] = own - max(others) if own is not None and others else None
    return told


def mean(shares: Sequence[float | None]) -> float | None:
    """None where none is known."""
    known = [share for share in shares if share is not None]
    return float(np.mean(known)) if known else None


def least(shares: Sequence[float | None]) -> float | None:
    """None where one is not known."""
    known = [share for share in shares if share is not None]
    return min(known) if len(known) == len(shares) else None


if __name__ == "__main__":
    main()
