"""Searching one objective on public tables: how many queries until the best architecture is found.

The oracle tells validation accuracy after the longest training (NAS-Bench-Macro: test accuracy, the only one there is;
NAS-Bench-101: of 20,001 of its cells). A search that has not found the best after 300 queries counts as 300. Every
searcher of ours is asked for one proposal at a time and never asks twice. `optuna_*` are Optuna's samplers used
plainly, by ask and tell, with the defaults of its samplers: what they draw again is a query again, and of what is not
among the cells of NAS-Bench-101 the nearest is queried.

`default` is our default searcher warm-started by a thousand scored architectures (`warm_start`: on NAS-Bench-201 the
table's NASWOT and live parameters, elsewhere live parameters alone), `default_cold` the same from uniform samples.

- `TABLE.SEARCHER.mean_queries`, `.std_queries`, `.upper` (the upper end of the 95 % interval of the mean),
  `.found_share` (within 300), `.regret_50`, `_100`, `_150`, `_300` (best accuracy of the table less the best queried,
  a fraction, mean over seeds), `.seeds`, `.scores_read` (proxy scores read per search), `.seconds` (median of a search)
- `12000s.SEARCHER.test_cifar10`, `.test_cifar100`, `.std_cifar10`, `.std_cifar100`: the protocol of 12,000 simulated
  seconds of NAS-Bench-201. The tables here hold no training times, so it is 109 queries at a uniform 109.7 s, the mean
  of the 12-epoch training; the signal is CIFAR-10 validation accuracy after 12 epochs, what is reported is the test
  accuracy after 200 of the best by it.

    python -m benchmarks.search_tables [--json] [--quick] [--searchers all] [--tables all] [--seeds 0] [--processes 2]
"""

from __future__ import annotations

import multiprocessing
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from scipy.stats import t as student

from benchmarks._report import Value, arguments, report
from benchmarks._search_tasks import DATA, MOST, SLOW, SLOW_TABLES, Outcome, Task, outcome, problem, searchers

OWN = {"default", "default_cold"}
SEEDS, SEEDS_OF_OWN = 30, 100
REGRETS = (50, 100, 150, 300)
QUICK_SEEDS, QUICK_QUERIES = 1, 11

SIGNAL, SIGNAL_EPOCHS, SIGNAL_QUERIES = "nasbench201_cifar10", 12.0, 109
PROTOCOL = ("random", "regularized_evolution", "local_search", "reinforce", "default_cold", "default")
REPORTED = {"cifar10": "nasbench201_cifar10", "cifar100": "nasbench201_cifar100"}
PUBLISHED = """\
# 12,000 s as published, test accuracy on CIFAR-10 / CIFAR-100 in percent (tables of RoBoT and NAS-Bench-201):
#   random 93.70+-.36 / 71.04+-1.07, evolution 93.92+-.30 / 71.84+-.99, REINFORCE 93.85+-.37 / 71.71+-1.09,
#   BOHB 93.61+-.52 / 70.85+-1.28; the best by the signal has 94.37 / 73.09, the best there is 94.37 / 73.51
# queries to the best validation accuracy on CIFAR-10 / CIFAR-100 as published by WeakNAS: WeakNAS 182 / 78"""


def main() -> None:
    """Print the figures."""
    options = arguments(
        __doc__,
        ("searchers", str, "all", "which, by commas"),
        ("tables", str, "all", "which, by commas"),
        ("seeds", int, 0, f"searches of each; 0: {SEEDS_OF_OWN} where ours alone are run, else {SEEDS}"),
        ("processes", int, os.cpu_count() or 1, "searches at a time"),
    )
    tables = list(DATA) if options.tables == "all" else options.tables.split(",")
    named = None if options.searchers == "all" else options.searchers.split(",")
    seeds = options.seeds or (SEEDS_OF_OWN if named and set(named) <= OWN else SEEDS)
    if options.quick:
        seeds = QUICK_SEEDS
    chosen = {table: list(named or searchers(table)) for table in tables}
    queries = QUICK_QUERIES if options.quick else MOST
    tasks = [
        Task(table, name, seed, queries)
        for table, names in chosen.items()
        for name in names
        for seed in range(min(seeds, SLOW.get(name, seeds), SLOW_TABLES.get(table, seeds)))
    ]
    figures: dict[str, Value] = {}
    grouped: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for task, found in _run(tasks, options.processes, None):
        grouped[task.table, task.searcher].append(found)
        if task.seed == 0:
            print(f"# {task.table}: {task.searcher} ...", flush=True)
    for (table, name), outcomes in grouped.items():
        for key, value in summary(table, outcomes).items():
            figures[f"{table}.{name}.{key}"] = value
    if SIGNAL in tables:
        figures |= _protocol([n for n in PROTOCOL if n in chosen[SIGNAL]], seeds, queries, options.processes)
    print(PUBLISHED)
    if queries < MOST:
        print(f"# quick: {seeds} seeds of {queries} queries, which say nothing; what was not found counts as {MOST}")
    report(figures, as_json=options.json)


def summary(table: str, outcomes: Sequence[Outcome]) -> dict[str, Value]:
    """The figures of one searcher on one table, over its seeds."""
    queries = np.array([len(found.accuracies) if found.found else MOST for found in outcomes], dtype=float)
    best, num = float(problem(table).accuracy.max()), len(queries)
    deviation = float(queries.std(ddof=1)) if num > 1 else None
    half = None if deviation is None else float(student.ppf(0.975, num - 1)) * deviation / num**0.5
    regrets = {
        f"regret_{count}": float(np.mean([best - max(found.accuracies[:count]) for found in outcomes]))
        for count in REGRETS
    }
    return {
        "mean_queries": float(queries.mean()),
        "std_queries": deviation,
        "upper": None if half is None else float(queries.mean()) + half,
        "found_share": float(np.mean([found.found for found in outcomes])),
        **regrets,
        "seeds": num,
        "scores_read": float(np.mean([found.scores_read for found in outcomes])),
        "seconds": float(np.median([found.seconds for found in outcomes])),
    }


def _protocol(names: Iterable[str], seeds: int, queries: int, processes: int) -> dict[str, Value]:
    """The protocol of 12,000 seconds."""
    tasks = [Task(SIGNAL, name, seed, min(SIGNAL_QUERIES, queries)) for name in names for seed in range(seeds)]
    found: dict[str, list[str]] = defaultdict(list)
    for task, searched in _run(tasks, processes, SIGNAL_EPOCHS):
        found[task.searcher].append(searched.best_text)
    figures: dict[str, Value] = {}
    for name, texts in found.items():
        for dataset, table in REPORTED.items():
            known = problem(table)
            assert known.test is not None, "both tables have test accuracies"
            values = known.test[[known.rows[text] for text in texts]]
            figures[f"12000s.{name}.test_{dataset}"] = float(values.mean())
            figures[f"12000s.{name}.std_{dataset}"] = float(values.std())
    return figures


def _run(tasks: Sequence[Task], processes: int, epochs: float | None) -> Iterator[tuple[Task, Outcome]]:
    """Every task with what came of it, in order."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, processes), mp_context=context) as pool:
        yield from zip(tasks, pool.map(partial(outcome, epochs=epochs), tasks, chunksize=4), strict=True)


if __name__ == "__main__":
    main()
