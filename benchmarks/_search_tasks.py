"""Tables and searchers of the search benchmark: one search is a task that any process can run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks._data import DATA_FOLDER, data_file
from nas.history import History
from nas.resources import Objective, Proposal
from nas.scoring import Scores
from nas.searchers import REGISTRY, make_searcher
from nas.simulation import Measured, simulate
from nas.spec import PluginRef
from nas.streams import stream
from predictors.zerocost import REGISTRY as PROXIES
from searchspaces import Architecture, ConfigError, SearchSpace
from searchspaces.tables import REGISTRY as TABLES

Floats = npt.NDArray[np.float64]

MOST = 300
POOL = 1_000
OBJECTIVES = (Objective(metric="accuracy", level="full", direction="max"),)

DATA: Mapping[str, tuple[str, dict[str, object]]] = {
    "nasbench201_cifar10": ("nasbench201", {"dataset": "cifar10"}),
    "nasbench201_cifar100": ("nasbench201", {"dataset": "cifar100"}),
    "macro": ("macro", {}),
    "nasbench101": ("nasbench101", {}),
}
NASWOT: Mapping[str, str] = {"nasbench201_cifar10": "naswot_cifar10", "nasbench201_cifar100": "naswot_cifar100"}
"""Where a table of proxies is, the column of the one that the warm start reads; elsewhere it reads sizes alone."""

OURS: Mapping[str, PluginRef] = {
    "default": PluginRef(name="warm_start"),
    "default_cold": PluginRef(name="gp_its"),
    "bananas_gp": PluginRef(name="bananas", config={"predictor": {"name": "gp"}}),
}
READERS = ("default", "robot")
"""Searchers that are given the table's proxy, as they ask for no other architectures than those of the pool."""
HELD = ("gp_its", "warm_start", "mo_bo", "optuna", "ladder")
"""Searchers that stand under another name, are another one for one objective, or need settings."""
SAMPLERS: Mapping[str, str] = {"optuna_tpe": "TPESampler", "optuna_nsga2": "NSGAIISampler", "optuna_gp": "GPSampler"}
SLOW = {"gp": 5, "optuna_gp": 5, "bananas": 10, "model_based": 10, "assisted": 10, "prefiltered": 10, "robot": 10}
"""Searchers that take more than about ten seconds for 300 queries, and how many seeds they get at most."""

SLOW_TABLES = {"nasbench101": 20}
"""Tables on which most searches spend all their queries, a minute for those with a model, and their seeds at most."""


class Problem(NamedTuple):
    """What is searched: accuracies, as fractions, of the architectures of a space."""

    name: str
    space: SearchSpace
    rows: Mapping[str, int]
    accuracy: Floats
    test: Floats | None

    def of(self, architecture: Architecture) -> float:
        """The accuracy that a query tells."""
        return float(self.accuracy[self.rows[architecture.text]])


class Task(NamedTuple):
    """One search, until the best is found or `queries` are spent."""

    table: str
    searcher: str
    seed: int
    queries: int = MOST


class Outcome(NamedTuple):
    """What a search saw.

    Attributes:
        accuracies: of every query, in their order; the last is the best there is where it was `found`.
        best_text: the architecture with the best of them.
        scores_read: proxy scores that were looked up.
        seconds: of the search itself.
    """

    accuracies: tuple[float, ...]
    found: bool
    best_text: str
    scores_read: int
    seconds: float


@cache
def problem(name: str, epochs: float | None = None) -> Problem:
    """A table at so many epochs; None: the longest training that it knows."""
    plugin, config = DATA[name]
    os.environ.setdefault("NAS_DATA", str(DATA_FOLDER))
    table = TABLES[plugin](config)
    measured = table.measured["accuracy"]
    held_out = table.held_out.get("accuracy")
    return Problem(
        name=name,
        space=table.within(table.space),
        rows={text: row for row, text in enumerate(table.texts)},
        accuracy=measured[max(measured) if epochs is None else epochs].mean,
        test=held_out[max(held_out)].mean if held_out else None,
    )


def searchers(table: str) -> Iterator[str]:
    """All there are, ours first; one that cannot search the table's space is left out."""
    yield from OURS
    for name in REGISTRY:
        if name in HELD:
            continue
        try:
            make_searcher(PluginRef(name=name), problem(table).space, OBJECTIVES, Scores(problem(table).space))
        except ConfigError:
            continue
        yield name
    yield from SAMPLERS


def outcome(task: Task, epochs: float | None = None) -> Outcome:
    """Run a search; a process of its own pays for reading the table once."""
    import time

    found = problem(task.table, epochs)
    best = float(found.accuracy.max()) if epochs is None else np.inf
    began = time.perf_counter()
    run = _plain if task.searcher in SAMPLERS else _simulated
    texts, read = run(task, found, lambda accuracy: accuracy >= best)
    seconds = time.perf_counter() - began
    accuracies = tuple(float(found.accuracy[found.rows[text]]) for text in texts)
    best_text = texts[int(np.argmax(accuracies))]
    return Outcome(accuracies, max(accuracies) >= best, best_text, read, seconds)


def _simulated(task: Task, found: Problem, is_best: Callable[[float], bool]) -> tuple[list[str], int]:
    """One of ours, asked for one proposal at a time; the texts it queried, and how many proxy scores it read."""
    scores = _scores(task, found)
    ref = OURS.get(task.searcher) or PluginRef(name=task.searcher)
    searcher = make_searcher(ref, found.space, OBJECTIVES, scores)

    def measure(made: Proposal, architecture: Architecture) -> Measured:
        return Measured((found.of(architecture),))

    def until(history: History) -> bool:
        return is_best(-float(history.losses()[-1, 0]))

    run = simulate(searcher, measure, evaluations=task.queries, seed=task.seed, until=until)
    return [record.architecture.text for record in run.history.settled], len(scores.pool)


def _scores(task: Task, found: Problem) -> Scores:
    """Sizes, and of a thousand architectures that the seed draws the proxy of the table, where there is one."""
    if task.table not in NASWOT or task.searcher not in READERS:
        return Scores(found.space, seed=task.seed)
    with np.load(data_file("nasbench201_zero_cost.npz"), allow_pickle=False) as archive:
        column = archive[NASWOT[task.table]].astype(float)
    rng = stream(task.seed, "scored")
    drawn = dict.fromkeys(found.space.sample(rng) for _ in range(POOL))
    pool = {a: {"naswot": _defined(column[found.rows[a.text]])} for a in drawn}
    return Scores(found.space, {"naswot": PROXIES["naswot"](None)}, pool=pool, seed=task.seed)


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _plain(task: Task, found: Problem, is_best: Callable[[float], bool]) -> tuple[list[str], int]:
    """Optuna as its documentation uses it: ask, tell; what it draws again is a query again.

    Of what is drawn and not in the table the nearest architecture that is there is queried.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    sampler = getattr(optuna.samplers, SAMPLERS[task.searcher])(seed=task.seed)
    rng = stream(task.seed, "nearest")
    study = optuna.create_study(direction="maximize", sampler=sampler)
    texts: list[str] = []
    while len(texts) < task.queries:
        trial = study.ask()
        options: dict[str, str] = {}
        while (decision := found.space.next_decision(options)) is not None:
            options[decision.name] = trial.suggest_categorical(decision.name, decision.options)
        architecture = found.space.complete(options, rng)
        texts.append(architecture.text)
        study.tell(trial, found.of(architecture))
        if is_best(found.of(architecture)):
            break
    return texts, 0
