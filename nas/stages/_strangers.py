"""Plug-ins of others: tried before anything is spent on a job, and named where they fail later.

Our own are held to their contracts by tests. A stranger may break its in ways that come to light when a supernet is
trained already: what can be tried in seconds is tried at preflight, by the contract's own checks where they are quick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from nas.admission import references
from nas.plugins import KINDS, registry
from nas.spec import JobSpec, PluginRef
from nas.streams import stream
from searchspaces import (
    BrokenPlugin,
    ContractViolation,
    InvalidArchitecture,
    MeasurementError,
    NASError,
    SpecError,
    Violation,
    defined_at,
    module_of,
    own_frame,
    raised_at,
)

if TYPE_CHECKING:
    from nas.workbench import Workbench

_OURS = ("searchspaces", "predictors", "nas")
_SAMPLES = 4
_EVALUATIONS = 8
_LEARNED = 12


def refuse_broken(spec: JobSpec, bench: Workbench) -> None:
    """Try what others brought to this job.

    Raises:
        SpecError: with a violation for every plug-in that breaks its contract, which names the promise and the line.
    """
    from nas.training import is_out_of_memory

    broken = []
    for kind, field, ref in named(spec):
        if not _is_strange(kind, ref):
            continue
        create = registry(kind)[ref.name].create
        try:
            _TRIALS[kind](ref, spec, bench)
            continue
        except (ContractViolation, BrokenPlugin, InvalidArchitecture, MeasurementError) as error:
            said = f"{error} ({defined_at(create)})"
        except NASError:
            raise  # of settings, data, bounds: what it is meant to say
        except Exception as error:  # the edge of what somebody else wrote
            if is_out_of_memory(error):
                raise  # the limit of the process that measures is no promise that it broke
            said = f"it raised {type(error).__name__}: {error} ({raised_at(error, create)})"
        broken.append(Violation(field, repr(ref.name), f"a plug-in that keeps its contract: {said}"))
    if broken:
        raise SpecError(broken)


def blamed(spec: JobSpec, error: BaseException) -> str:
    """What an error says, with the plug-in of the job in whose source it arose last, and the line there."""
    said, found = f"{type(error).__name__}: {error}", list[tuple[int, str]]()
    for kind, _, ref in named(spec):
        try:
            modules = registry(kind).module_of(ref.name), module_of(registry(kind)[ref.name].create)
        except NASError:
            continue
        frame = own_frame(error, *modules)
        if frame is not None:
            one = kind[:-3] + "y" if kind.endswith("ies") else kind[:-1]
            found.append((frame[0], f"{one} {ref.name!r} raised {said} ({frame[1]})"))
    return max(found)[1] if found else said


def named(spec: JobSpec) -> Iterator[tuple[str, str, PluginRef]]:
    """Every plug-in of a spec with its kind and field, those in the settings of others too."""
    for kind, field, ref in references(spec):
        yield kind, field, ref
        yield from _held(kind, field, ref)


def _held(kind: str, field: str, ref: PluginRef) -> Iterator[tuple[str, str, PluginRef]]:
    if ref.name not in registry(kind):
        return
    for name, value in _fields(registry(kind)[ref.name].configure(ref.config)):
        for inner in value if isinstance(value, tuple | list) else (value,):
            if isinstance(inner, PluginRef):
                kinds = [kind] if inner.name in registry(kind) else [k for k in KINDS if inner.name in registry(k)]
                for each in kinds[:1]:
                    yield each, f"{field}.config.{name}", inner
                    yield from _held(each, f"{field}.config.{name}", inner)


def _fields(config: BaseModel) -> Iterator[tuple[str, object]]:
    return ((name, getattr(config, name)) for name in type(config).model_fields)


def _is_strange(kind: str, ref: PluginRef) -> bool:
    if ref.name not in registry(kind):
        return False
    made_by = registry(kind).module_of(ref.name), module_of(registry(kind)[ref.name].create)
    return any(name.partition(".")[0] not in _OURS for name in made_by)


# --- what is tried, by kind ------------------------------------------------------------------------------------------


def _try_space(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.admission import can_train
    from nas.testing import check_pass, check_reading

    space = bench.whole
    check_reading(space, seed=spec.seed, samples=_SAMPLES)
    if can_train(spec):
        check_pass(space.reduced(), space.extremes().smallest, bench.dataset.num_classes)


def _try_proxy(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.scoring import is_scored
    from nas.stages._score import scored_space, scoring_context
    from predictors.zerocost import score_architecture

    if not is_scored(ref):
        return
    space, context = scored_space(bench), scoring_context(bench)
    proxy = registry("proxies")[ref.name](ref.config)
    for architecture in bench.space.extremes():
        found = score_architecture(space, architecture, {ref.name: proxy}, context)[ref.name]
        if found.is_fault:
            raise ContractViolation(f"a network has a score, or ProxyUndefined says why; got {found.error}.")
        if found.layers and not registry("proxies")[ref.name].flags["layers"]:
            raise ContractViolation("a proxy that gives statistics of layers has the flag layers.")


def _try_searcher(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.testing import check_searcher

    plugin, quick = registry("searchers")[ref.name], {"with_few": False, "to_the_end": False}
    check_searcher(plugin, bench.space, ref.config, evaluations=_EVALUATIONS, **quick)


def _try_predictor(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    import numpy as np

    from predictors.encoding import SpaceEncoder, every_block

    space, rng = bench.space, stream(spec.seed, "preflight", "predictor")
    drawn = list(dict.fromkeys(space.sample(rng) for _ in range(4 * _LEARNED)))[:_LEARNED]
    plugin = registry("predictors")[ref.name]
    predictor = plugin(ref.config, SpaceEncoder(space, every_block(space)))
    uses = plugin.flags["uses"]
    if len(drawn) < max(2, predictor.min_labels) or (isinstance(uses, tuple) and {"scores", "layers"} >= set(uses)):
        return  # what it reads, or too few of them, are not known yet
    found = predictor.fit(drawn, rng.normal(size=len(drawn)), rng=rng).predict(drawn)
    if not (np.isfinite(found.mean).all() and (found.std >= 0).all()):
        raise ContractViolation("predictions are finite and deviations not negative; got others.")


def _try_recipe(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.admission import can_train
    from nas.training import Setting
    from searchspaces import Architecture

    if not can_train(spec):
        return
    setting = Setting.of(bench.whole, bench.dataset, spec.supernet, num_epochs=spec.budget.epochs, seed=spec.seed)
    recipe = registry("recipes")[ref.name](ref.config, setting)
    for child in recipe.paths.plan(0):
        if isinstance(child.choice, Architecture):
            setting.space.check(child.choice)
    size = len(recipe.data.order(0))
    if size != setting.num_samples:
        raise ContractViolation(f"an epoch has as many samples as the data set, {setting.num_samples}; got {size}.")


def _try_cost(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.testing import check_cost

    metric = next((name for name, given in spec.costs.items() if given == ref), ref.name)
    check_cost(bench.costs([metric])[metric], registry("costs")[ref.name].flags, [bench.space.extremes().smallest])


def _try_task(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.testing import check_task

    if spec.dataset is not None:
        check_task(bench.task, registry("tasks")[ref.name].flags, num_classes=bench.dataset.num_classes)


def _try_dataset(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.testing import check_split

    for name in ("train", "valid"):
        check_split(name, getattr(bench.dataset, name), bench.dataset)


def _try_evaluator(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.evaluators import Evaluator

    made = registry("evaluators")[ref.name](ref.config, bench)
    if not isinstance(made, Evaluator):
        raise ContractViolation(f"create makes an Evaluator; got {type(made).__name__}.")


_TRIALS: Mapping[str, Callable[[PluginRef, JobSpec, Any], None]] = {
    "spaces": _try_space,
    "proxies": _try_proxy,
    "searchers": _try_searcher,
    "predictors": _try_predictor,
    "recipes": _try_recipe,
    "costs": _try_cost,
    "tasks": _try_task,
    "datasets": _try_dataset,
    "evaluators": _try_evaluator,
    "tables": lambda ref, spec, bench: None,  # the evaluator that reads one has read it by now
}
