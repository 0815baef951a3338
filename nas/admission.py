"""What a spec must pass before a job is made of it: every name, every setting, every metric, and the constraints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nas._bounds import unreachable_bounds
from nas._places import with_places
from nas.evaluators import epochs_of, knows_lengths, level_of, metrics_of, needs_data, needs_supernet
from nas.paths import absent, unreachable, with_absolute_paths
from nas.plugins import KINDS, registry
from nas.reports import Plan
from nas.resources import DatasetInfo, Objective
from nas.scoring import free_costs, is_scored, proxies_of
from nas.spec import NUMBERS, JobSpec, Level, PluginRef
from predictors.costs import ready_costs
from searchspaces import (
    BrokenPlugin,
    Config,
    ConfigError,
    DataError,
    Plugin,
    SpecError,
    UnknownPlugin,
    Violation,
    one_of,
)

_EPOCHS = "epochs"
_AUDITED = "accuracy"
"""What an audit compares the ranking with."""


def admit(
    mapping: Mapping[str, object] | JobSpec,
    *,
    datasets: Mapping[str, DatasetInfo],
    embedded: bool = True,
    supernet_of: Callable[[str], JobSpec | None] | None = None,
    plan_of: Callable[[str], Plan | None] | None = None,
) -> tuple[JobSpec, tuple[Objective, ...]]:
    """The frozen spec of a job, with its data set resolved to a plug-in, and what its objectives mean.

    Args:
        mapping: what the user wrote.
        datasets: the registered data sets by name.
        embedded: whether a spec may name files of this machine.
        supernet_of: the spec of a job whose supernet is trained, else None; asked for `supernet.from`.
        plan_of: the plan of a job that has succeeded, else None; asked for `plan.from`.

    Raises:
        SpecError: with every violation.
    """
    spec = mapping if isinstance(mapping, JobSpec) else JobSpec.from_mapping(mapping)
    if embedded:
        spec = with_absolute_paths(spec)
    found: list[Violation] = []
    spec = _resolve_dataset(spec, datasets, embedded, found)
    _refuse_broken(spec)
    if embedded and (wrong := unreachable(spec.to_mapping())):
        raise SpecError([*found, *wrong])  # what follows would read them
    for kind, field, ref in references(spec):
        _check_plugin(spec, kind, field, ref, found)
    if not found:
        found += _check_networks(spec)
    found += _check_scoring(spec)
    files = [] if embedded else _check_files(spec)
    found += files
    if spec.supernet.from_job and supernet_of is not None:
        found += _check_origin(spec, spec.supernet.from_job, supernet_of(spec.supernet.from_job))
    if spec.plan is not None and plan_of is not None:
        found += _check_plan(spec, spec.plan.from_job, plan_of(spec.plan.from_job))
    if not files and not any(violation.field.startswith(("evaluator", "audit")) for violation in found):
        is_wrong = any(violation.field.startswith("space") for violation in found)
        found += _check_metrics(spec, space_is_wrong=is_wrong)
    if embedded:
        said = {violation.field.partition(".")[0] for violation in found}
        found += [violation for violation in absent(spec.to_mapping()) if violation.field.partition(".")[0] not in said]
    if found:
        raise SpecError(found)
    return spec, objectives_of(spec)


def _refuse_broken(spec: JobSpec) -> None:
    """Before anything is asked of them: plug-ins that do not load, or are not what their kind asks for."""
    broken = []
    for kind, field, ref in references(spec):
        try:
            if ref.name in registry(kind):
                registry(kind)[ref.name]
        except BrokenPlugin as error:
            broken.append(Violation(field, repr(ref.name), f"a plug-in that works: {error}"))
    if broken:
        raise SpecError(broken)


def _check_origin(spec: JobSpec, origin: str, known: JobSpec | None) -> list[Violation]:
    """Shared weights are worth something only in the space, and on the split, that they were trained on."""
    if known is None:
        return [Violation("supernet.from", repr(origin), "the id of a job whose supernet is trained")]
    pairs = [(field, getattr(spec, field), getattr(known, field)) for field in ("space", "dataset", "task")]
    return [
        Violation(field, repr(mine.model_dump()) if mine else "nothing", f"that of {origin}, {theirs or 'none'}")
        for field, mine, theirs in pairs
        if mine != theirs
    ]


def _check_plan(spec: JobSpec, origin: str, known: Plan | None) -> list[Violation]:
    """A plan promises numbers, so there is no time beside it, and no number but its own."""
    if known is None:
        return [Violation("plan.from", repr(origin), "the id of a job that has succeeded")]
    if known.extended:
        allowed = (
            "the id of a job that ended once: the budget of this one was raised after its search had ended, so it "
            "chose and delivered again, and no plan repeats that; submit its spec with the raised budget, and "
            "name that job"
        )
        return [Violation("plan.from", repr(origin), allowed)]
    found = []
    if spec.budget.wall_time is not None:
        allowed = f"nothing: the plan of {origin} promises numbers, not a time"
        found.append(Violation("budget.wall_time", f"{spec.budget.wall_time:g}", allowed))
    own = {"epochs": spec.budget.epochs, "evaluations": spec.budget.evaluations, "audit_networks": spec.audit.networks}
    own |= {"audit_epochs": spec.audit.training.epochs, "delivery_epochs": spec.deliver.training.epochs}
    return found + [
        Violation(NUMBERS[name], str(own[name]), f"{theirs}, as job {origin} did it; or leave it out")
        for name in spec.given_numbers()
        if (theirs := getattr(known, name)) is not None and theirs != own[name]
    ]


def can_train(spec: JobSpec) -> bool:
    """Whether networks of the job can be trained: there are data, and the space builds networks."""
    return spec.dataset is not None and _builds_networks(spec)


def _builds_networks(spec: JobSpec) -> bool:
    spaces = registry("spaces")
    return spec.space.name not in spaces or bool(spaces[spec.space.name].flags.get("networks", True))


def _check_networks(spec: JobSpec) -> list[Violation]:
    """Data where they are read, and networks where they are run."""
    found = []
    if spec.dataset is None:
        readers = [spec.evaluator.name] * needs_data(spec.evaluator) + ["scoring.proxies"] * bool(spec.scoring.proxies)
        if readers:
            found.append(Violation("dataset", "nothing", f"a data set, since {' and '.join(readers)} reads one"))
    if not _builds_networks(spec):
        needs_networks = needs_supernet(spec.evaluator) or needs_data(spec.evaluator)
        if needs_networks or spec.scoring.proxies:
            runs = spec.evaluator.name if needs_networks else "scoring.proxies"
            allowed = f"a space that builds networks, since {runs} runs them; or an evaluator such as table or external"
            found.append(Violation("space", repr(spec.space.name), allowed))
    return found


def _check_files(spec: JobSpec) -> list[Violation]:
    """No files of this machine, where the service is not embedded."""
    return [
        Violation(f"{field}.config.{key}", repr(value), "no path: a service for others reads registered data only")
        for kind, field, ref in references(spec)
        for key, value in _paths(kind, ref)
        if field != "dataset"
    ]


def _paths(kind: str, ref: PluginRef) -> Iterator[tuple[str, object]]:
    """The files that the settings of a plug-in, and of those in them, name; wrong settings are refused elsewhere."""
    try:
        config: Config = registry(kind)[ref.name].configure(ref.config)
    except (UnknownPlugin, ConfigError, DataError):
        return
    for field in type(config).model_fields:
        value = getattr(config, field)
        if config.names_path(field) and value is not None:
            yield field, value
        for held in value if isinstance(value, tuple) else (value,):
            if isinstance(held, PluginRef):  # of which kind, the setting does not say
                inner = dict(path for kind in KINDS for path in _paths(kind, held))
                yield from ((f"{field}.config.{name}", path) for name, path in inner.items())


def _check_metrics(spec: JobSpec, *, space_is_wrong: bool) -> list[Violation]:
    """Every metric that is named is one; the audit measures at a level of its own."""
    try:
        levels = metric_levels(spec)
        found = [
            Violation(f"costs.{name}", repr(name), f"a name that is no metric already: {', '.join(sorted(levels))}")
            for name in spec.costs
            if name in metric_levels(spec.model_copy(update={"costs": {}}))
        ]
        found += _check_lengths(spec)
    except (ConfigError, UnknownPlugin) as error:
        if space_is_wrong or isinstance(error, UnknownPlugin):
            return []  # said already
        return [Violation(f"evaluator.config.{v.field}", v.value, v.allowed) for v in error.violations]
    except DataError as error:
        return [Violation("evaluator", str(spec.evaluator), str(error))]
    known = sorted(levels)
    found += [Violation(field, repr(name), one_of(name, known)) for field, name in _metrics(spec) if name not in levels]
    return found + (unreachable_bounds(spec) if not found else []) + _check_audit(spec)


def _check_audit(spec: JobSpec) -> list[Violation]:
    """What measures the audit fits the job, and is another thing than what the search is ranked by."""
    ref = spec.audit.evaluator
    if ref is None:
        return []
    if lacking := _lacks(spec, ref):
        return [Violation("audit.evaluator", repr(ref.name), lacking)]
    try:
        level, metrics = level_of(spec, ref), metrics_of(spec.model_copy(update={"evaluator": ref}))
    except ConfigError as error:
        return [Violation(f"audit.evaluator.config.{v.field}", v.value, v.allowed) for v in error.violations]
    except DataError as error:
        return [Violation("audit.evaluator", str(ref), str(error))]
    allowed = ""
    if level == level_of(spec):
        allowed = f"an evaluator that measures at another level than the search's, which is {level}"
    elif metrics.get(_AUDITED) != level:
        allowed = f"an evaluator that measures {_AUDITED} at its level, {level}; this one measures {', '.join(metrics)}"
    return [Violation("audit.evaluator", repr(ref.name), allowed)] if allowed else []


def _lacks(spec: JobSpec, ref: PluginRef) -> str:
    """What an auditor needs and the job does not have; empty: nothing."""
    if needs_supernet(ref) and not needs_supernet(spec.evaluator):
        return f"an evaluator that needs no supernet, since {spec.evaluator.name} has none trained"
    if needs_data(ref) and spec.dataset is None:
        return f"an evaluator that reads no data, such as table; or a data set under `dataset`, which {ref.name} reads"
    if (needs_data(ref) or needs_supernet(ref)) and not _builds_networks(spec):
        return f"an evaluator that runs no networks, such as table, since {spec.space.name} builds none"
    return ""


def _check_lengths(spec: JobSpec) -> list[Violation]:
    """A searcher that spends less on some asks for what the evaluator can spend, and in the end for all of it."""
    found = []
    for field, config in _searcher_configs(spec.searcher):
        rungs = getattr(config, "rungs", ())
        if not rungs:
            continue
        resource = str(getattr(config, "resource", _EPOCHS))
        if resource not in _spends(registry("evaluators")[spec.evaluator.name]):
            evaluators: Mapping[str, Plugin[Any]] = registry("evaluators")
            able = [name for name, plugin in evaluators.items() if resource in _spends(plugin)]
            allowed = f"an evaluator that can spend fewer {resource}: {', '.join(able)}"
            found.append(Violation("evaluator", repr(spec.evaluator.name), allowed))
            continue
        known = epochs_of(spec) if resource == _EPOCHS else ()
        if resource == _EPOCHS and not known and knows_lengths(spec):
            allowed = (
                f"one that knows lengths of training (a table: columns such as accuracy@4), since {spec.searcher.name} "
            )
            allowed += "goes from short ones to long ones; or a searcher without rungs"
            found.append(Violation("evaluator", repr(spec.evaluator.name), allowed))
        unknown = sorted(set(rungs) - set(known)) if len(known) > 1 else []
        if unknown:
            given = ", ".join(f"{e:g}" for e in unknown)
            allowed = f"lengths of training that {spec.evaluator.name} knows here: {', '.join(f'{e:g}' for e in known)}"
            found.append(Violation(f"{field}.rungs", given, allowed))
        elif known and rungs[-1] != known[-1]:
            allowed = f"{known[-1]:g} as the last, which is what {spec.evaluator.name} spends in full"
            found.append(Violation(f"{field}.rungs", f"{rungs[-1]:g}", allowed))
    return found


def _spends(evaluator: Plugin[Any]) -> tuple[str, ...]:
    """The resources of which an evaluator can be asked to spend less."""
    named = evaluator.flags.get("spends", ())
    return named if isinstance(named, tuple) else ()


def _searcher_configs(ref: PluginRef, field: str = "searcher.config") -> Iterator[tuple[str, Config]]:
    """The settings of a searcher and of those that it holds; those that are wrong are said elsewhere."""
    try:
        config = registry("searchers")[ref.name].configure(ref.config)
    except (UnknownPlugin, ConfigError):
        return
    yield field, config
    held = getattr(config, "searcher", None)
    if isinstance(held, PluginRef):
        yield from _searcher_configs(held, f"{field}.searcher.config")


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
    if ref.name not in registry("searchers"):
        return False
    held = [getattr(config, "searcher", None) for _, config in _searcher_configs(ref)]
    return any(registry("searchers")[r.name].flags.get("pool") for r in (ref, *held) if isinstance(r, PluginRef))


def metric_levels(spec: JobSpec) -> dict[str, Level]:
    """Metric -> the level it is read at while searching: costs at `cost`, the rest at the evaluator's level.

    Raises:
        ConfigError: the evaluator's settings do not fit the job.
        DataError: a file that they name is missing or broken.
    """
    known: dict[str, Level] = dict(metrics_of(spec))
    known.update(dict.fromkeys((ref.name for ref in spec.scoring.proxies if is_scored(ref)), "proxy"))
    counted, runs = free_costs(spec.space), _builds_networks(spec)
    known.update(dict.fromkeys((c for c in ready_costs() if c in counted or (runs and c not in counted)), "cost"))
    known.update(dict.fromkeys(spec.costs, "cost"))
    return known


def objectives_of(spec: JobSpec) -> tuple[Objective, ...]:
    """The objectives with the level each is read at."""
    levels = metric_levels(spec)
    return tuple(
        Objective(metric=metric, level=levels[metric], direction=direction)
        for metric, direction in spec.objectives.items()
    )


def references(spec: JobSpec) -> Iterator[tuple[str, str, PluginRef]]:
    """The plug-ins that a spec names, each with its kind and its field; those in their settings are not listed."""
    yield "spaces", "space", spec.space
    if spec.dataset is not None:
        yield "datasets", "dataset", spec.dataset
    yield "tasks", "task", spec.task
    yield "recipes", "supernet.recipe", spec.supernet.recipe
    for number, proxy in enumerate(spec.scoring.proxies):
        yield "proxies", f"scoring.proxies.{number}", proxy
    yield "evaluators", "evaluator", spec.evaluator
    if spec.audit.evaluator is not None:
        yield "evaluators", "audit.evaluator", spec.audit.evaluator
    for name, cost in spec.costs.items():
        yield "costs", f"costs.{name}", cost
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
    if ref is None:
        return spec
    known = datasets.get(ref.name)
    if known is not None and not ref.config:
        resolved = PluginRef(name=known.plugin, config=known.config)
        return spec.model_copy(update={"dataset": resolved})
    if not embedded:
        paths = _paths("datasets", ref)
        allowed = "the name of a registered data set"
        found += [Violation(f"dataset.config.{key}", repr(path), allowed) for key, path in paths]
    if known is not None and ref.name not in registry("datasets"):
        allowed = f"none: {ref.name} is registered with its settings; register it again with others"
        found.append(Violation("dataset.config", repr(ref.config), allowed))
    elif ref.name not in registry("datasets"):
        names = sorted({*datasets, *registry("datasets")})
        allowed = f"{one_of(ref.name, names)}; add yours with `nas data add NAME PATH`"
        found.append(Violation("dataset", repr(ref.name), allowed))
    return spec


def _check_plugin(spec: JobSpec, kind: str, field: str, ref: PluginRef, found: list[Violation]) -> None:
    plugins = registry(kind)
    if kind == "datasets" and ref.name not in plugins:
        return  # said already, with the registered names
    try:
        plugin: Plugin[Any] = plugins[ref.name]
        plugin.configure(ref.config)
    except UnknownPlugin:
        found.append(Violation(field, repr(ref.name), one_of(ref.name, plugins)))
    except ConfigError as error:
        wrong = [Violation(f"{field}.config.{v.field}", v.value, v.allowed) for v in error.violations]
        found.extend(with_places(wrong, spec.to_mapping(), JobSpec()))
    except DataError as error:
        found.append(Violation(field, repr(ref.name), str(error)))
