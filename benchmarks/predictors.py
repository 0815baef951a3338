"""How well predictors rank architectures of public tables after a few labels.

A predictor is fitted on what the table says of a few random architectures (validation accuracy, or one run) and ranks
2,000 others, always the same; Kendall's tau with their test accuracy, or with other runs, is averaged over seeds, which
draw the examples anew. All predictors see the same examples and the same encoding, and have the same settings, their
defaults, on all tables. `best` is the predictor with the largest mean. `--quick` takes one seed; predictors that take
long have their quick settings, and no more than 200 labels.

What our proxies say of cells of NAS-Bench-201 is computed once, in minutes, and kept in the user's cache folder; with
`--quick`, or `--features stored`, there are the scores of public tables alone, and no statistics of layers.

Results are kept in the user's cache folder, and read again as long as neither the predictor nor what it sees changes.

    python -m benchmarks.predictors [--json] [--quick] [--predictors all] [--tables nasbench201,nasbench101,...]
                                    [--labels published] [--seeds 10] [--features computed]
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

import predictors
from benchmarks._data import cache_folder
from benchmarks._report import Value, arguments, report
from benchmarks._tables import TABLES, Table, prepare
from nas.streams import stream
from predictors.encoding import Encoded
from predictors.ranking import kendall
from predictors.surrogates import REGISTRY
from searchspaces import Architecture

SEED = 0
TESTED = 2_000
QUICK_LABELS = 200
FOLDER = Path(predictors.__file__).parent


@dataclass(frozen=True)
class Result:
    """One predictor after one fit: tau None where it ranks all alike; `error` where it cannot be fitted here."""

    kendall: float | None
    seconds_fit: float
    seconds_predict: float
    error: str = ""


@dataclass(frozen=True)
class Run:
    """What is asked for."""

    table: Table
    predictor: str
    settings: Mapping[str, object]
    num_labels: int
    seed: int

    def __str__(self) -> str:
        return f"{self.table.name}.{self.predictor}.{self.num_labels}"


def main() -> None:
    """Print the figures."""
    options = arguments(
        __doc__,
        ("predictors", str, "all", "which, separated by commas"),
        ("tables", str, ",".join(TABLES), "which, separated by commas"),
        ("labels", str, "published", "numbers of labels, separated by commas; those that are published for each table"),
        ("seeds", int, 10, "draws of the examples"),
        ("features", str, "computed", "what proxies say of NAS-Bench-201 cells: computed, or stored scores alone"),
    )
    seeds = 1 if options.quick else options.seeds
    names = list(REGISTRY) if options.predictors == "all" else options.predictors.split(",")
    figures: dict[str, Value] = {}
    for table in (TABLES[name]() for name in options.tables.split(",")):
        numbers = table.num_labels if options.labels == "published" else [*map(int, options.labels.split(","))]
        if options.features == "computed" and not options.quick:
            drawn = [_drawn(Run(table, "", {}, max(numbers), seed)) for seed in range(seeds)]
            prepare(table.name, _of(table, np.unique(np.concatenate([rows for pair in drawn for rows in pair]))))
        for num_labels in numbers:
            means: dict[str, float] = {}
            for name in names:
                settings = _settings(name, options.quick)
                if settings and num_labels > QUICK_LABELS:
                    continue
                runs = [Run(table, name, settings, num_labels, seed) for seed in range(seeds)]
                means |= _figures(str(runs[0]), [_result(run) for run in runs], figures)
            best = f"{table.name}.best.{num_labels}"
            figures[best] = max(means.values(), default=None)
            figures[f"{best}.predictor"] = max(means, key=means.__getitem__).split(".")[1] if means else None
    report(figures, as_json=options.json)


def _settings(name: str, quick: bool) -> dict[str, object]:
    """Defaults, or the quick settings of the predictor."""
    flag = REGISTRY[name].flags.get("quick", ()) if quick else ()
    pairs = [str(pair).partition("=") for pair in (flag if isinstance(flag, tuple) else ())]
    return {key: json.loads(value) for key, _, value in pairs}


def _figures(key: str, results: Sequence[Result], figures: dict[str, Value]) -> dict[str, float]:
    """Adds mean and deviation over seeds to the figures; the mean, where every seed has one."""
    taus = [result.kendall for result in results if result.kendall is not None]
    whole = len(taus) == len(results)
    figures[key] = float(np.mean(taus)) if whole else None
    if not whole:
        reasons = {result.error or "all are ranked alike" for result in results if result.kendall is None}
        print(f"{key}: {'; '.join(sorted(reasons))}", file=sys.stderr)
        return {}
    figures[f"{key}.std"] = float(np.std(taus, ddof=1)) if len(taus) > 1 else None
    figures[f"{key}.seconds"] = float(np.mean([result.seconds_fit for result in results]))
    return {key: float(np.mean(taus))}


def _result(run: Run) -> Result:
    """Of this run, from the cache or made now."""
    examples, tested = _drawn(run)
    file = cache_folder() / "predictors" / f"{_digest(run, examples, tested)}.json"
    if file.is_file():
        return Result(**json.loads(file.read_text(encoding="utf-8")))
    result = _made(run, examples, tested)
    print(f"{run} seed {run.seed}: {result}", file=sys.stderr)
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    unfinished.write_text(json.dumps(asdict(result)), encoding="utf-8")
    unfinished.replace(file)
    return result


def _drawn(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the examples, which fewer labels share with more, and of the tested."""
    drawn = stream(SEED, "tested", run.table.name).permutation(len(run.table.architectures))
    rest = drawn[TESTED:]
    return stream(run.seed, "examples", run.table.name).permutation(rest)[: run.num_labels], drawn[:TESTED]


def _made(run: Run, examples: np.ndarray, tested: np.ndarray) -> Result:
    learned, asked = (_of(run.table, rows) for rows in (examples, tested))
    predictor = REGISTRY[run.predictor](run.settings, run.table)
    began = time.perf_counter()
    try:
        predictor.fit(learned, run.table.learned[examples], rng=stream(run.seed, "predictor", run.predictor))
        fitted = time.perf_counter()
        predicted = predictor.predict(asked).mean
    except ValueError as error:
        return Result(None, 0.0, 0.0, str(error))
    return Result(kendall(run.table.truth[tested], predicted), fitted - began, time.perf_counter() - fitted)


def _of(table: Table, rows: np.ndarray) -> list[Architecture]:
    return [table.architectures[row] for row in rows]


def _digest(run: Run, examples: np.ndarray, tested: np.ndarray) -> str:
    """Of what the result depends on: the predictor's source and settings, what it sees, and what it is held against."""
    seen = hashlib.blake2b(digest_size=12)
    seen.update(json.dumps([str(run), run.seed, run.settings, TESTED], sort_keys=True, default=str).encode())
    seen.update(_source(run.predictor))
    for rows, values in ((examples, run.table.learned), (tested, run.table.truth)):
        seen.update(values[rows].tobytes())
        for part in _arrays(run.table(_of(run.table, rows))):
            seen.update(np.ascontiguousarray(part).tobytes())
    return seen.hexdigest()


@cache
def _source(predictor: str) -> bytes:
    """The predictor's file, those of its package that it imports, and those that they do, as this process has them."""
    found: dict[Path, str] = {}
    new = {FOLDER / "surrogates" / f"{predictor}.py"}
    while new:
        found |= {file: file.read_text(encoding="utf-8") for file in new}
        names = re.findall(r"^ *from predictors\.([\w.]+) import", "\n".join(found.values()), re.MULTILINE)
        files = {FOLDER / f"{name.replace('.', '/')}.py" for name in names}
        new = {file for file in files if file.is_file()} - found.keys()
    return "\n".join(text for _, text in sorted(found.items())).encode()


def _arrays(encoded: Encoded) -> Iterator[np.ndarray]:
    for name, block in sorted(encoded.blocks.items()):
        yield np.array([name], dtype=np.str_)
        yield block
    yield from () if encoded.scores is None else (np.array(encoded.scores.names), encoded.scores.values)
    yield from () if encoded.graphs is None else (encoded.graphs.adjacency, encoded.graphs.labels)
    yield from () if encoded.layers is None else (np.array(encoded.layers.statistics), encoded.layers.values)


if __name__ == "__main__":
    main()
