"""What a spec must pass before a job is made of it: every name, every setting, every metric, and the constraints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nas.evaluators import level_of
from nas.plugins import registry
from nas.resources import DatasetInfo, Objective
from nas.scoring import is_scored, proxies_of
from nas.spec import JobSpec, Level, PluginRef
from predictors.costs import ready_costs
from searchspaces import ConfigError, DataError, Plugin, SpecError, UnknownPlugin, Violation


def admit(
    mapping: Mapping[str, object] | JobSpec,
    *,
    datasets: Mapping[str, DatasetInfo],
    embedded: bool = True,
    supernet_of: Callable[[str], JobSpec | None] | None = None,
) -> tuple[JobSpec, tuple[Objective, ...]]:
    """The frozen spec of a job, with its data set resolved to a plug-in, and what its objectives mean.

    Args:
        mapping: what the user wrote.
        datasets: the registered data sets by name.
        embedded: whether a spec may name files of this machine.
        supernet_of: the spec of a job whose supernet is trained, else None; asked for `supernet.from`.

    Raises:
        SpecError: with every violation.
    """
    spec = mapping if isinstance(mapping, JobSpec) else JobSpec.from_mapping(mapping)
    found: list[Violation] = []
    spec = _resolve_dataset(spec, datasets, embedded, found)
    for kind, field, ref in _references(spec):
        _check_plugin(kind, field, ref, found)
    found += _check_scoring(spec)
    if spec.supernet.from_job and supernet_of is not None:
        found += _check_origin(spec, spec.supernet.from_job, supernet_of(spec.supernet.from_job))
    if not any(violation.field.startswith("evaluator") for violation in found):
        levels = metric_levels(spec)
        allowed = f"one of {', '.join(sorted(levels))}"
        found += [Violation(field, repr(name), allowed) for field, name in _metrics(spec) if name not in levels]
    if found:
        raise SpecError(found)
    return spec, objectives_of(spec)


def _check_origin(spec: JobSpec, origin: str, known: JobSpec | None) -> list[Violation]:
    """Shared weights are worth something only in the space, and on the split, that they were trained on."""
    if known is None:
        return [Violation("supernet.from", repr(origin), "the id of a job whose supernet is trained")]
    pairs = [(field, getattr(spec, field), getattr(known, field)) for field in ("space", "dataset", "task")]
    return [
        Violation(field, repr(mine.model_dump()), f"that of {origin}, {theirs.model_dump()}")
        for field, mine, theirs in pairs
        if mine != theirs
    ]


def _check_scoring(spec: JobSpec) -> list[Violation]:
    """Proxies that have a score of their own, each named once; a pool where one is chosen from."""
    names = [ref.name for ref in spec.scoring.proxies]
    found = []
    for number, ref in enumerate(spec.scoring.proxies):
        field = f"scoring.proxies.{number}"
        if ref.name in registry("proxies") and not is_scored(ref):
            parts = ", ".join(proxies_of([ref]).keys() - {ref.name})
            found.append(Violation(field, repr(ref.name), f"a proxy of single networks; name its parts: {parts}"))
        elif names.index(ref.name) < number:
            found.append(Violation(field, repr(ref.name), "every proxy once"))
    if names and not spec.scoring.pool and _chooses_from_pool(spec.searcher):
        allowed = f"the size of the pool that {spec.searcher.name} chooses from, such as 500, since proxies score it"
        found.append(Violation("scoring.pool", "0", allowed))
    return found


def _chooses_from_pool(ref: PluginRef) -> bool:
    """Whether a searcher, or one that it holds, chooses from a pool; one that is wrong is refused elsewhere."""
    try:
        plugin = registry("searchers")[ref.name]
        held = getattr(plugin.configure(ref.config), "searcher", None)
    except (UnknownPlugin, ConfigError):
        return False
    return bool(plugin.flags.get("pool")) or (isinstance(held, PluginRef) and _chooses_from_pool(held))


def metric_levels(spec: JobSpec) -> dict[str, Level]:
    """Metric -> the level it is read at while searching: costs at `cost`, the rest at the evaluator's level."""
    metrics: Any = registry("evaluators")[spec.evaluator.name].flags["metrics"]
    known: dict[str, Level] = dict.fromkeys(metrics, level_of(spec.evaluator))
    known.update(dict.fromkeys((ref.name for ref in spec.scoring.proxies if is_scored(ref)), "proxy"))
    known.update(dict.fromkeys(ready_costs(), "cost"))
    return known


def objectives_of(spec: JobSpec) -> tuple[Objective, ...]:
    """The objectives with the level each is read at."""
    levels = metric_levels(spec)
    return tuple(
        Objective(metric=metric, level=levels[metric], direction=direction)
        for metric, direction in spec.objectives.items()
    )


def _references(spec: JobSpec) -> Iterator[tuple[str, str, PluginRef]]:
    yield "spaces", "space", spec.space
    yield "datasets", "dataset", spec.dataset
    yield "tasks", "task", spec.task
    yield "recipes", "supernet.recipe", spec.supernet.recipe
    for number, proxy in enumerate(spec.scoring.proxies):
        yield "proxies", f"scoring.proxies.{number}", proxy
    yield "evaluators", "evaluator", spec.evaluator
    yield "searchers", "searcher", spec.searcher


def _metrics(spec: JobSpec) -> Iterator[tuple[str, str]]:
    for metric in spec.objectives:
        yield f"objectives.{metric}", metric
    for number, constraint in enumerate(spec.bounds()):
        yield f"constraints.{number}", constraint.metric


def _resolve_dataset(
    spec: JobSpec, datasets: Mapping[str, DatasetInfo], embedded: bool, found: list[Violation]
) -> JobSpec:
    ref = spec.dataset
    known = datasets.get(ref.name)
    if known is not None and not ref.config:
        resolved = PluginRef(name=known.plugin, config=known.config)
        return spec.model_copy(update={"dataset": resolved})
    if ref.config.get("path") and not embedded:
        found.append(Violation("dataset.config.path", repr(ref.config["path"]), "the name of a registered data set"))
    if known is None and ref.name not in registry("datasets"):
        names = sorted({*datasets, *registry("datasets")})
        allowed = f"one of {', '.join(names)}; add yours with `nas data add NAME PATH`"
        found.append(Violation("dataset", repr(ref.name), allowed))
    return spec


def _check_plugin(kind: str, field: str, ref: PluginRef, found: list[Violation]) -> None:
    plugins = registry(kind)
    if kind == "datasets" and ref.name not in plugins:
        return  # said already, with the registered names
    try:
        plugin: Plugin[Any] = plugins[ref.name]
        plugin.configure(ref.config)
    except UnknownPlugin:
        found.append(Violation(field, repr(ref.name), f"one of {', '.join(plugins)}"))
    except ConfigError as error:
        found.extend(Violation(f"{field}.config.{v.field}", v.value, v.allowed) for v in error.violations)
    except DataError as error:
        found.append(Violation(field, repr(ref.name), str(error)))
