"""Architecture -> measurements. PLUG-IN FOLDER: one evaluator per file.

A plug-in's `create(config, bench)` gives an `Evaluator`; `bench` is a `nas.workbench.Workbench`, which can be made
anywhere from plain values and artifact ids. Flags: `level`, `metrics`, `needs_supernet`, `stateful` (shared weights:
one owner, in order), `batched`, `resumable`.
"""

from typing import Any, cast

from nas.evaluators._evaluator import EvaluationContext, Evaluator, Outcome, Request
from nas.spec import Level, PluginRef
from searchspaces import Registry

REGISTRY: Registry[Evaluator] = Registry("evaluators", "nas.evaluators")


def level_of(ref: PluginRef) -> Level:
    """The fidelity level that an evaluator measures at: its setting where it has one, else its flag."""
    plugin = REGISTRY[ref.name]
    level: Any = getattr(plugin.configure(ref.config), "level", None) or plugin.flags["level"]
    return cast(Level, level)


def needs_supernet(ref: PluginRef) -> bool:
    """Whether an evaluator measures with shared weights."""
    return bool(REGISTRY[ref.name].flags.get("needs_supernet", False))


__all__ = ["REGISTRY", "EvaluationContext", "Evaluator", "Outcome", "Request", "level_of", "needs_supernet"]
