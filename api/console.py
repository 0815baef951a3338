"""How the command line shows things: tables for people, JSON for programs, errors on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from nas.client import JobHandle
from nas.plain import visible
from nas.quantities import counted
from nas.reports import TrustReport
from nas.resources import (
    DatasetInfo,
    Delivery,
    Job,
    JobState,
    ParetoFront,
    Phase,
    PluginInfo,
    PreflightReport,
    TableInfo,
)
from searchspaces import ConfigError, NASError, ServiceError, SpecError

if TYPE_CHECKING:
    from rich.console import Console


_VIOLATION = ("field", "got", "expected")


def print_json(value: BaseModel | Sequence[BaseModel] | dict[str, Any]) -> None:
    """One JSON document on standard output."""
    plain = (
        value.model_dump(mode="json")
        if isinstance(value, BaseModel)
        else value
        if isinstance(value, dict)
        else [item.model_dump(mode="json") for item in value]
    )
    document = json.dumps(plain, indent=2, ensure_ascii=False)
    print("\n".join(_escaped(line) for line in document.split("\n")))


def say(text: str, *, keep_lines: bool = False, to_error: bool = False) -> None:
    """One line on standard output, of names that may be anybody's; or the lines of a message of ours."""
    print(_lines(text) if keep_lines else visible(text), file=sys.stderr if to_error else sys.stdout)


def _lines(text: str) -> str:
    return "\n".join(visible(line) for line in text.split("\n"))


def _escaped(line: str) -> str:
    """Within JSON: every other character that a terminal would obey."""
    return "".join(c if visible(c) == c else json.dumps(c)[1:-1] for c in line) if visible(line) != line else line


def print_error(error: NASError) -> None:
    """What went wrong, and the way out: a table when there are violations, else one line."""
    console = _console(to_error=True)
    violations = error.violations if isinstance(error, SpecError | ConfigError | ServiceError) else ()
    if not violations:
        console.print(_lines(f"error: {error}"), style="red", markup=False, highlight=False, soft_wrap=True)
        return
    console.print(f"error: {counted(len(violations), 'violation')}", style="red", markup=False, highlight=False)
    rows = ((v.field, v.value, v.allowed) for v in violations)
    _table(console, _VIOLATION, rows, keep_lines=True)


def print_jobs(jobs: Iterable[Job]) -> None:
    """One line a job."""
    rows = (
        (
            job.job_id,
            job.name,
            job.state.value,
            job.progress.phase.value if job.progress.phase and not job.state.is_terminal else "",
            str(job.spent.evaluations),
            f"{job.created_at:%Y-%m-%d %H:%M}",
        )
        for job in jobs
    )
    _table(_console(), ("job", "name", "state", "phase", "evaluations", "created"), rows)


def print_job(job: Job, page: str) -> None:
    """All that matters about one job."""
    from nas.client import counters, duration

    spent, progress = job.spent, job.progress
    left = None if job.state.is_terminal else progress.seconds_left
    rows = [
        ("job", job.job_id),
        ("name", job.name),
        ("state", job.state.value + (f": {job.reason}" if job.reason else "")),
        ("phase", ", ".join(filter(None, (progress.phase.value, counters(job)))) if progress.phase else ""),
        ("time left", duration(left) if left is not None else ""),
        ("spent", f"{spent.evaluations} evaluations, {spent.epochs} epochs, {duration(spent.wall_seconds)}"),
        ("objectives", ", ".join(f"{o.key} {o.direction}" for o in job.objectives)),
        ("space", str(job.spec.get("space", {}).get("name", ""))),
        ("data set", str((job.spec.get("dataset") or {}).get("name", ""))),
        ("waited", duration(spent.queued_seconds) + " for a worker" if spent.queued_seconds else ""),
        *(("left out", note) for note in (job.plan.notes if job.plan else ())),
        ("supernet", job.supernet.words if job.supernet else ""),
        ("trust", job.trust.verdict if job.trust else ""),
        ("best", _first(job)),
        *((f"delivered {d.digest}", _delivered(d)) for d in job.deliveries),
        ("page", page),
    ]
    _facts(rows)


def print_front(front: ParetoFront) -> None:
    """The Pareto front, best in the first objective first."""
    keys = [objective.key for objective in front.objectives]
    first = front.objectives[0]
    sign = -1 if first.direction == "max" else 1
    points = sorted(front.points, key=lambda point: sign * point.values.get(first.key, float("inf")))
    rows = [
        [point.digest, *(f"{point.values[key]:.6g}" if key in point.values else "" for key in keys), point.text]
        for point in points
    ]
    title = f"Pareto front, {counted(len(points), 'point')}"
    _table(_console(), ("candidate", *keys, "architecture"), rows, title=title)
    for key, number in front.left_out.items():
        say(f"{counted(number, 'value')} of {key}: measured in another context, so on no front; see the job's log")


_WHERE = {"space": "in the whole space", "near_front": "near the front", "audited": "among the audited networks"}


def print_trust(report: TrustReport) -> None:
    """How far a ranking can be trusted: in words, then every ranker."""
    say(f"trust: {report.verdict}")
    if report.rankers:
        say(f"held against {report.truth}; {report.audited} networks")
    if report.best:
        say(f"best trusted here: {report.best}")
    for population in report.populations:
        say(f"{_WHERE[population.name]}: {population.networks} networks of {population.rule}")
    for note in report.notes:
        say(f"note: {note}")
    taus = ("tau", "95 %", "near the front", "95 %", "sparse", "Spearman", "top decile", "given live FLOPs")
    head = ("ranked by", *taus, "top k", "mean", "best")
    agreements = [
        (
            found.ranker,
            _number(found.kendall),
            _interval(found.interval),
            _number(found.near_front.kendall if found.near_front else None),
            _interval(found.near_front.interval if found.near_front else None),
            *map(_number, (found.sparse_kendall, found.spearman, found.kendall_top_decile, found.partial_kendall)),
            *((str(found.top.k), f"{found.top.mean:.4g}", f"{found.top.best:.4g}") if found.top else ("", "", "")),
        )
        for found in report.rankers
    ]
    if agreements:
        _table(_console(), head, agreements)
    if report.provenance is None:
        return
    said = report.provenance
    context = [(name, str(value)) for name, value in {**said.context, **said.passes}.items()]
    seconds = f"{said.wall_seconds:.0f}" if said.wall_seconds is not None else ""
    _facts([("chosen", said.rule), *context, ("wall seconds", seconds)])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:+.2f} to {interval[1]:+.2f}"


def print_outcome(handle: JobHandle, page: str) -> None:
    """What a job that has ended came to."""
    job = handle.job
    if job.state is not JobState.SUCCEEDED:
        reason = f": {job.reason}" if job.reason and not job.violations else ""
        during = f" in phase {job.progress.phase.value}" if job.progress.phase else ""
        say(f"job {job.job_id} ended {job.state.value}{during}{reason}")
    if job.state is JobState.FAILED and job.progress.phase is Phase.PREFLIGHT:
        if job.violations:
            rows = ((v.field, v.value, v.allowed) for v in job.violations)
            _table(_console(), _VIOLATION, rows, keep_lines=True)
        say(f"page: {page}")
        return
    print_front(handle.pareto())
    if job.choice is not None:
        say(f"best: {_first(job)}")
    for delivery in job.deliveries:
        say(f"delivered {delivery.digest}: {_delivered(delivery)} ({', '.join(delivery.parity)})")
    if job.trust:
        say(f"trust: {job.trust.verdict}")
    say(f"page: {page}")


def _first(job: Job) -> str:
    """What the job puts first, and what chose it."""
    choice = job.choice
    if choice is None:
        return ""
    warning = f"; warning: {choice.warning}" if choice.warning else ""
    if job.best != choice.best.digest:
        return f"{job.best}, which won delivery; before that {choice.best.digest} by {choice.reason}{warning}"
    return f"{job.best}, chosen by {choice.reason}{warning}"


def _delivered(delivery: Delivery) -> str:
    """What a delivered network measured, and how."""
    timed = ", ".join(f"{m.metric} {m.value:.4g}" for m in delivery.timed)
    said = (_values(delivery.metrics), timed, f"{delivery.weights} weights", delivery.measured_with)
    return ", ".join(filter(None, said))


def print_preflight(report: PreflightReport) -> None:
    """What a job will meet."""
    from nas.client import duration

    satisfiable = {True: "yes", False: "no", None: "not known"}[report.satisfiable]
    _facts(
        [
            ("architectures", f"{report.space_size:,}"),
            ("constraints can be met", satisfiable),
            ("share that meets them", f"{report.share_feasible:.1%}" if report.share_feasible is not None else ""),
            ("largest path", f"{report.largest_path_bytes / 1e6:.1f} MB" if report.largest_path_bytes else ""),
            ("training steps", str(report.train_steps or "")),
            ("expected time", duration(report.expected_seconds) if report.expected_seconds is not None else ""),
            *(("note", note) for note in report.notes),
        ]
    )
    rows = [(c.metric, c.unit, *(f"{value:.6g}" for value in (c.minimum, c.median, c.maximum))) for c in report.costs]
    _table(_console(), ("cost", "unit", "smallest", "median", "largest"), rows)


def print_datasets(datasets: Iterable[DatasetInfo]) -> None:
    """One line a data set, and below them what was done to their files."""
    datasets = list(datasets)
    rows = (
        (
            info.name,
            info.plugin,
            " x ".join(map(str, info.input_shape or ())),
            str(info.num_classes or ""),
            ", ".join(f"{split} {size}" for split, size in info.sizes.items()),
            "ok" if info.available and not info.error else info.error or "not available",
        )
        for info in datasets
    )
    _table(_console(), ("name", "format", "input", "classes", "samples", "state"), rows)
    for info in datasets:
        for note in info.notes:
            say(f"{info.name}: {note}")


def print_tables(tables: Iterable[TableInfo]) -> None:
    """One line a table."""
    rows = (
        (
            info.name,
            info.space,
            f"{info.architectures:,}" if info.architectures else "",
            ", ".join(info.metrics),
            ", ".join(f"{epochs:g}" for epochs in info.epochs if epochs),
            str(len(info.costs) or ""),
            (info.digest or "")[:16],
            "ok" if info.available else info.error or "not available",
        )
        for info in tables
    )
    header = ("table", "space", "architectures", "metrics", "epochs", "costs", "digest", "state")
    _table(_console(), header, rows)


def print_plugins(plugins: Iterable[PluginInfo]) -> None:
    """One line a plug-in."""
    rows = ((info.kind, info.name, info.error or info.description, info.source) for info in plugins)
    _table(_console(), ("kind", "name", "what", "from"), rows)


def _values(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _console(*, to_error: bool = False) -> Console:
    from rich.console import Console

    # Without a terminal nobody's window is the limit: a line that a program reads is not cut.
    stream = sys.stderr if to_error else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 200)


def _facts(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, value in rows if value)
    for name, value in rows:
        if value:
            say(f"{name:<{width}}  {value}")


def _table(
    console: Console,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str | None = None,
    keep_lines: bool = False,
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in head:
        table.add_column(Text(visible(name)))
    for row in rows:
        table.add_row(*(Text(_lines(cell) if keep_lines else visible(cell)) for cell in row))
    console.print(table)
