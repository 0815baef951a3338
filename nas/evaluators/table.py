"""Looks measurements up in a table: a search in seconds, without data and without training."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from nas.evaluators._evaluator import EvaluationContext, Evaluator, KnownValues, Outcome, Request
from nas.resources import Fidelity, Measurement
from nas.spec import JobSpec, Level, PluginRef, Ref
from nas.streams import stream
from predictors.costs import Cost, Reading
from searchspaces import REGISTRY as SPACES
from searchspaces import (
    Architecture,
    Config,
    ConfigError,
    InfeasibleSpace,
    MeasurementError,
    Members,
    Plugin,
    SearchSpace,
    Violation,
    one_of,
    whole_path,
)
from searchspaces.tables import REGISTRY as TABLES
from searchspaces.tables import Series, Table

if TYPE_CHECKING:
    from nas.workbench import Workbench

_SECONDS = "train_seconds"


class TableConfig(Config):
    """Settings of `table`."""

    table: Ref | None = Field(
        None, description="The table, with its settings; none: the one of the job's space, with its defaults."
    )
    epochs: float | None = Field(
        None, gt=0, le=1e6, description="Length of training to look up; none: the longest that the table knows."
    )
    noise: Literal["mean", "run"] = Field(
        "mean", description="The mean over runs, or a single run: another for every replicate and seed."
    )

    # --- what a job asks before there is an evaluator -----------------------------------------------------------------

    def opened(self, spec: JobSpec) -> Table:
        """The table that is meant.

        Raises:
            ConfigError: there is no such table, none of the job's space, or it does not know what is asked for.
            DataError: its file is missing or broken.
        """
        ref = self.table or _table_of(spec.space)
        if ref.name not in TABLES:
            raise ConfigError([Violation("table", repr(ref.name), one_of(ref.name, TABLES))])
        try:
            table = _opened(ref.name, json.dumps(ref.config, sort_keys=True), _stamps(ref))
        except ConfigError as error:
            found = [Violation(f"table.config.{v.field}", v.value, v.allowed) for v in error.violations]
            raise ConfigError(found) from error
        table.within(SPACES[spec.space.name](spec.space.config))
        if self.epochs is not None and self.epochs not in table.epochs:
            allowed = f"one of {', '.join(f'{e:g}' for e in table.epochs)}, which {table.name} knows"
            raise ConfigError([Violation("epochs", f"{self.epochs:g}", allowed)])
        if self.noise == "run" and any(series.runs is None for series in self.looked_up(table).values()):
            allowed = f"mean; {table.name} knows no single runs of this metric and split"
            raise ConfigError([Violation("noise", repr(self.noise), allowed)])
        return table

    def looked_up(self, table: Table, epochs: float | None = None) -> dict[str, Series]:
        """The metrics that are measured."""
        return table.metrics_at(epochs or self.epochs or table.epochs[-1])

    def offered_level(self, spec: JobSpec) -> Level:
        """`full` where the table knows no longer training."""
        return "full" if self.epochs is None or self.epochs == self.opened(spec).epochs[-1] else "short"

    def offered_metrics(self, spec: JobSpec) -> dict[str, Level]:
        """What is measured, and what costs the table knows, with their levels."""
        table, level = self.opened(spec), self.offered_level(spec)
        measured = self.looked_up(table)
        timed = [_SECONDS] if any(series.seconds is not None for series in measured.values()) else []
        return {**dict.fromkeys(table.costs, "cost"), **dict.fromkeys([*measured, *timed], level)}

    def offered_ranges(self, spec: JobSpec) -> dict[str, tuple[float, float]]:
        """The least and the largest that the table holds of every metric."""
        table = self.opened(spec)
        columns = {name: s.runs if self.noise == "run" else s.mean for name, s in self.looked_up(table).items()}
        known = {name: values[np.isfinite(values)] for name, values in columns.items() if values is not None}
        return {name: (float(values.min()), float(values.max())) for name, values in known.items() if values.size}

    def offered_values(self, spec: JobSpec) -> KnownValues:
        """All that the table holds of what is measured, and of the costs that it knows."""
        table = self.opened(spec)
        measured = self.looked_up(table)
        columns = {name: s.mean for name, s in table.costs.items()}
        columns |= {name: s.mean if s.runs is None or self.noise == "mean" else s.runs for name, s in measured.items()}
        clocks = [series.seconds for series in measured.values() if series.seconds is not None]
        columns |= {_SECONDS: clocks[0]} if clocks else {}
        return KnownValues(table.texts, {name: np.asarray(values, np.float64) for name, values in columns.items()})

    def offered_epochs(self, spec: JobSpec) -> tuple[float, ...]:
        """The lengths of training that can be looked up, where anybody says them; its own is the last that counts."""
        table = self.opened(spec)
        own = self.epochs or table.epochs[-1]
        return tuple(epochs for epochs in table.epochs if 0 < epochs <= own and self._has_runs(table, epochs))

    def _has_runs(self, table: Table, epochs: float) -> bool:
        """Whether what is known after so many epochs is known as the setting `noise` wants it."""
        return self.noise == "mean" or all(s.runs is not None for s in self.looked_up(table, epochs).values())

    def offered_costs(self, spec: JobSpec, space: SearchSpace) -> dict[str, Cost]:
        """The costs that the table knows."""
        table = self.opened(spec)
        return {metric: TableCost(table, metric, series) for metric, series in table.costs.items()}

    def offered_digests(self, spec: JobSpec) -> dict[str, str]:
        """The table, with the digest of its files."""
        table = self.opened(spec)
        return {f"table {table.name}": table.digest}

    def offered_space(self, spec: JobSpec, space: SearchSpace) -> SearchSpace:
        """The architectures that can be looked up."""
        return self.opened(spec).within(space)


@lru_cache(maxsize=4)
def _opened(name: str, config: str, stamps: tuple[tuple[str, int, int], ...]) -> Table:
    """A table, built once while its files do not change."""
    return TABLES[name](json.loads(config))


def _stamps(ref: PluginRef) -> tuple[tuple[str, int, int], ...]:
    """When the files of a table last changed, and how large they are; of those that are there."""
    names, given = TABLES[ref.name].flags["files"], ref.config.get("path")
    files = [whole_path(str(given))] if given else []
    folder = files[0] if files and files[0].is_dir() else Path(os.environ.get("NAS_DATA", ""))
    files += [folder / name for name in names] if isinstance(names, tuple) else []
    found = [(file, file.stat()) for file in files if file.is_file()]
    return tuple((str(file), status.st_mtime_ns, status.st_size) for file, status in found)


def _table_of(space: PluginRef) -> PluginRef:
    """The table of a space: the file that spans it, or the first that says it holds its architectures."""
    file = getattr(SPACES[space.name].configure(space.config), "file", None)
    if file is not None:
        return PluginRef(name="file", config={"path": file})
    found = [name for name in TABLES if TABLES[name].flags["space"] == space.name]
    if not found:
        raise ConfigError(
            [Violation("table", "nothing", f"a table of the space {space.name}; none is known by itself")]
        )
    return PluginRef(name=found[0])


class TableCost(Cost):
    """A column of a table that is known without training."""

    def __init__(self, table: Table, metric: str, series: Series) -> None:
        self.table, self.metric, self.series = table, metric, series

    def measure(self, architecture: Architecture) -> Reading:
        value = float(self.series.mean[self.table.row(architecture)])
        if not math.isfinite(value):
            raise MeasurementError(f"{self.table.name} has no {self.metric} of {architecture.text}.")
        return Reading(value, self.series.unit, context={"table": self.table.name, "digest": self.table.digest[:16]})

    def within(self, space: SearchSpace) -> SearchSpace:
        known = self._known
        if len(known) == len(self.table.texts):
            return space
        there = [text for text in known if not space.why_not(space.read(text))]
        if not there:
            raise InfeasibleSpace(f"{self.table.name} has no {self.metric} of any architecture of this part.")
        return Members(space, there)

    def about(self, space: SearchSpace) -> str | None:
        known, size = len(self._known), len(self.table.texts)
        if known == size:
            return None
        return (
            f"{self.table.name} has {self.metric} of {known:,} of its {size:,} architectures; only these are searched"
        )

    @cached_property
    def _known(self) -> list[str]:
        return [self.table.texts[int(row)] for row in np.flatnonzero(np.isfinite(self.series.mean))]


class TableEvaluator(Evaluator):
    """What the table says of an architecture, after as many epochs as the request, or the settings, ask for."""

    def __init__(self, config: TableConfig, bench: Workbench) -> None:
        self._config, self._bench = config, bench

    @cached_property
    def _table(self) -> Table:
        return self._config.opened(self._bench.spec)

    def evaluate(self, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        for number, request in enumerate(requests, 1):
            if context.should_stop():
                return
            try:
                yield Outcome(request.evaluation_id, self.look_up(request, context.seed))
            except MeasurementError as error:
                yield Outcome(request.evaluation_id, error=str(error))
            context.progress(number / len(requests))

    def look_up(self, request: Request, seed: int) -> tuple[Measurement, ...]:
        """What is measured of one architecture.

        Raises:
            MeasurementError: the table does not hold the architecture, the length of training or the run.
        """
        table, row = self._table, self._table.row(request.architecture)
        epochs = request.fidelity.resources.get("epochs", self._config.epochs or table.epochs[-1])
        found = self._config.looked_up(table, epochs)
        if not found:
            known = ", ".join(f"{known:g}" for known in table.epochs)
            raise MeasurementError(f"{table.name} knows nothing after {epochs:g} epochs; it knows {known}.")
        fidelity = Fidelity(level=request.fidelity.level, resources={"epochs": epochs} if epochs else {})
        looked_up = {metric: (s.unit, self._value(s, row, request, seed)) for metric, s in found.items()}
        values = {metric: (unit, value) for metric, (unit, value) in looked_up.items() if value is not None}
        missing = (self._asked & found.keys()) - values.keys()
        if missing or not values:
            lacking = ", ".join(sorted(missing or found))
            what = f"run {request.replicate + 1}" if self._config.noise == "run" else lacking
            raise MeasurementError(f"{table.name} has no {what} of {request.architecture.text}.")
        clocks = [float(series.seconds[row]) for series in found.values() if series.seconds is not None]
        if clocks and math.isfinite(clocks[0]):
            values[_SECONDS] = ("s", clocks[0])
        context: Mapping[str, str | int | float | bool] = {
            "table": table.name,
            "digest": table.digest[:16],
            "noise": self._config.noise,
        }
        return tuple(
            Measurement(metric=metric, value=value, unit=unit, fidelity=fidelity, context=dict(context))
            for metric, (unit, value) in values.items()
        )

    @cached_property
    def _asked(self) -> set[str]:
        """What an objective or a constraint names: an architecture without it is not measured."""
        spec = self._bench.spec
        return {*spec.objectives, *(bound.metric for bound in spec.bounds())}

    def _value(self, series: Series, row: int, request: Request, seed: int) -> float | None:
        """The mean, or a single run; None where it is not known."""
        if self._config.noise == "mean":
            mean = float(series.mean[row])
            return mean if math.isfinite(mean) else None
        order = stream(seed, "table", request.architecture.digest).permutation(series.num_runs(row))
        return series.of_run(row, int(order[request.replicate])) if request.replicate < len(order) else None


PLUGIN = Plugin(
    name="table",
    description="Looks measurements up in a table of a public benchmark, or in your own",
    source="Dong and Yang (2020), NAS-Bench-201, arXiv 2001.00326 (search without training)",
    create=TableEvaluator,
    Config=TableConfig,
    flags={
        "level": "full",
        "metrics": ("accuracy",),
        "needs_supernet": False,
        "needs_data": False,
        "spends": ("epochs",),
        "reads_tables": True,
        "stateful": False,
        "batched": False,
        "resumable": False,
    },
)
