"""Why a job cannot succeed, found before anything is spent: what a spec names does not fit together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.resources import JsonObject
from nas.searchers import REGISTRY as SEARCHERS
from nas.spec import JobSpec, PluginRef
from nas.stages._inputs import audit_gaps, inputs_of
from searchspaces import ConfigError, DataError, InfeasibleSpace, SpecError, Violation

if TYPE_CHECKING:
    from nas.workbench import Workbench


def refuse_unfit(spec: JobSpec, bench: Workbench) -> JsonObject:
    """Read all that any stage reads, fit the space to it, and the searcher and the costs to the space; what was read.

    Raises:
        SpecError: the data cannot be read, or one of them does not fit.
    """
    try:
        _ = bench.measurable
        inputs = inputs_of(spec, bench)
    except DataError as error:
        named = repr(spec.dataset.name) if spec.dataset else str(spec.evaluator)
        raise SpecError([Violation("dataset" if spec.dataset else "evaluator", named, str(error))]) from error
    except ConfigError as error:
        raise SpecError(error.violations) from error
    _refuse_costs(spec, bench)
    try:
        audit_gaps(spec, bench)
    except ConfigError as error:
        raise SpecError(error.violations) from error
    _refuse_searcher(spec.searcher, spec, bench)
    return inputs


def refuse_unmet(unmet: Sequence[str]) -> None:
    """Raise SpecError where bounds are met by nothing; each says what there is."""
    if unmet:
        raise SpecError([Violation("constraints", why, "a bound that some architecture meets") for why in unmet])


def _refuse_searcher(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    """Say now, and not when the supernet is trained, that the searcher, or one it holds, cannot do what is asked."""
    flags, name = SEARCHERS[ref.name].flags, ref.name
    if len(spec.objectives) > 1 and not flags.get("multi_objective"):
        raise SpecError([Violation("objectives", ", ".join(spec.objectives), f"one, as {name} takes no more")])
    kind = flags.get("decisions")
    if kind and not any(decision.kind == kind for decision in bench.space.decisions):
        raise SpecError([Violation("searcher", name, f"one that does without {kind} decisions, as {bench.space.name}")])
    held = getattr(SEARCHERS[ref.name].configure(ref.config), "searcher", None)
    if isinstance(held, PluginRef):
        _refuse_searcher(held, spec, bench)


def _refuse_costs(spec: JobSpec, bench: Workbench) -> None:
    """Say now that a cost does not fit the space, or that nothing of it is left that every cost is known of."""
    for name, ref in spec.costs.items():
        try:
            bench.costs([name])
        except ConfigError as error:
            prefix = f"costs.{name}.config"
            found = [Violation(f"{prefix}.{v.field}", v.value, v.allowed) for v in error.violations]
            raise SpecError(found) from error
        except DataError as error:
            raise SpecError([Violation(f"costs.{name}", str(ref), str(error))]) from error
    try:
        _ = bench.space
    except InfeasibleSpace as error:
        allowed = "costs that are known of the same architectures, or missing: predict"
        raise SpecError([Violation("costs", str(error), allowed)]) from error
