"""Architecture -> measurements. PLUG-IN FOLDER: one evaluator per file.

A plug-in's `create(config, bench)` gives an `Evaluator`; `bench` is a `nas.workbench.Workbench`, which can be made
anywhere from plain values and artifact ids. Flags: `level`, `metrics`, `needs_supernet`, `needs_data` (True unless it
says otherwise), `spends` (resources of which it can be asked to spend less, such as `epochs`), `reads_tables` (it looks
up what lies in `$NAS_DATA`), `stateful` (shared weights: one owner, in order), `batched`, `resumable`, `waits` (True
when others measure, and nobody knows how long that takes).

Where that depends on its settings, its Config has methods instead: `offered_level(spec)`, `offered_metrics(spec)`,
`offered_costs(spec, space)` (costs that it knows without measuring), `offered_space(spec, space)` (the part of the
space that it can measure), `offered_epochs(spec)` (the lengths of training that it knows), `offered_ranges(spec)` (the
least and the largest value of a metric, where it knows them), `offered_values(spec)` (`KnownValues`: what it will
measure of every architecture, where it knows that, so that constraints are held against it before) and
`offered_digests(spec)` (what it reads from files, by name, with a digest of what they say: a job goes on only while
that is the same).
"""

import math
from typing import Any, cast

from nas.evaluators._evaluator import EvaluationContext, Evaluator, KnownValues, Outcome, Request, faults, writable
from nas.spec import JobSpec, Level, PluginRef
from predictors.costs import Cost
from searchspaces import Config, Registry, SearchSpace

REGISTRY: Registry[Evaluator] = Registry("evaluators", "nas.evaluators", {"level": str, "metrics": tuple})


def level_of(spec: JobSpec, ref: PluginRef | None = None) -> Level:
    """The fidelity level that a job's evaluator, or another one of it, measures at."""
    plugin, config = REGISTRY[(ref or spec.evaluator).name], _config(ref or spec.evaluator)
    offered = getattr(config, "offered_level", None)
    level: Any = offered(spec) if offered else getattr(config, "level", None) or plugin.flags["level"]
    return cast(Level, level)


def metrics_of(spec: JobSpec) -> dict[str, Level]:
    """Metric -> level of what the job's evaluator measures, and of the costs that it knows."""
    offered = getattr(_config(spec.evaluator), "offered_metrics", None)
    if offered:
        return cast("dict[str, Level]", offered(spec))
    metrics: Any = REGISTRY[spec.evaluator.name].flags["metrics"]
    return dict.fromkeys(metrics, level_of(spec))


def costs_of(spec: JobSpec, space: SearchSpace) -> dict[str, Cost]:
    """The costs that the job's evaluator knows without measuring."""
    offered = getattr(_config(spec.evaluator), "offered_costs", None)
    return cast("dict[str, Cost]", offered(spec, space)) if offered else {}


def space_of(spec: JobSpec, space: SearchSpace) -> SearchSpace:
    """The part of the space that the job's evaluator can measure."""
    offered = getattr(_config(spec.evaluator), "offered_space", None)
    return cast(SearchSpace, offered(spec, space)) if offered else space


def epochs_of(spec: JobSpec) -> tuple[float, ...]:
    """The lengths of training that the job's evaluator can be asked for, what it spends in full last; none: any.

    One alone: that is what it spends in full, and any that is shorter can be asked for.
    """
    offered = getattr(_config(spec.evaluator), "offered_epochs", None)
    return cast("tuple[float, ...]", offered(spec)) if offered else ()


def ranges_of(spec: JobSpec) -> dict[str, tuple[float, float]]:
    """Metric -> the least and the largest value that can be measured, where that is known."""
    offered = getattr(_config(spec.evaluator), "offered_ranges", None)
    if offered:
        return cast("dict[str, tuple[float, float]]", offered(spec))
    if not needs_data(spec.evaluator):
        return {}
    from nas.tasks import REGISTRY as TASKS

    if spec.task.name not in TASKS:
        return {}
    flags, measured = TASKS[spec.task.name].flags, REGISTRY[spec.evaluator.name].flags["metrics"]
    known = dict.fromkeys(cast("tuple[str, ...]", flags.get("not_negative", ())), (0.0, math.inf))
    known |= dict.fromkeys(cast("tuple[str, ...]", flags.get("fractions", ())), (0.0, 1.0))
    return {name: known[name] for name in cast("tuple[str, ...]", measured) if name in known}


def known_values_of(spec: JobSpec) -> KnownValues | None:
    """What the job's evaluator will measure of every architecture that it can; None where nobody knows that before."""
    offered = getattr(_config(spec.evaluator), "offered_values", None)
    return cast(KnownValues, offered(spec)) if offered else None


def knows_lengths(spec: JobSpec) -> bool:
    """Whether the job's evaluator is bound to lengths of training that it knows, be they none: `epochs_of` tells."""
    return hasattr(_config(spec.evaluator), "offered_epochs")


def digests_of(spec: JobSpec, ref: PluginRef) -> dict[str, str]:
    """What an evaluator reads from files -> a digest of what they say."""
    offered = getattr(_config(ref), "offered_digests", None)
    return cast("dict[str, str]", offered(spec)) if offered else {}


def needs_supernet(ref: PluginRef) -> bool:
    """Whether an evaluator measures with shared weights."""
    return bool(REGISTRY[ref.name].flags.get("needs_supernet", False))


def needs_data(ref: PluginRef) -> bool:
    """Whether an evaluator reads the job's data set."""
    return bool(REGISTRY[ref.name].flags.get("needs_data", True))


def waits(ref: PluginRef) -> bool:
    """Whether an evaluator waits for others to measure."""
    return bool(REGISTRY[ref.name].flags.get("waits", False))


def _config(ref: PluginRef) -> Config:
    return REGISTRY[ref.name].configure(ref.config)


__all__ = [
    "REGISTRY",
    "EvaluationContext",
    "Evaluator",
    "KnownValues",
    "Outcome",
    "Request",
    "costs_of",
    "digests_of",
    "epochs_of",
    "faults",
    "known_values_of",
    "knows_lengths",
    "level_of",
    "metrics_of",
    "needs_data",
    "needs_supernet",
    "ranges_of",
    "space_of",
    "waits",
    "writable",
]
