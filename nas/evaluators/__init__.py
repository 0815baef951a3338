"""Architecture -> measurements. PLUG-IN FOLDER: one evaluator per file.

A plug-in's `create(config, bench)` gives an `Evaluator`; `bench` is a `nas.workbench.Workbench`, which can be made
anywhere from plain values and artifact ids. Flags: `level`, `metrics`, `needs_supernet`, `stateful` (shared weights:
one owner, in order), `batched`, `resumable`.
"""

from nas.evaluators._evaluator import EvaluationContext, Evaluator, Outcome, Request
from searchspaces import Registry

REGISTRY: Registry[Evaluator] = Registry("evaluators", "nas.evaluators")

__all__ = ["REGISTRY", "EvaluationContext", "Evaluator", "Outcome", "Request"]
