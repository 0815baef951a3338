"""Numbers known without accuracy. PLUG-IN FOLDER: one cost per file, named as its metric.

A plug-in's `create(config, space, device)` gives a `Cost`; flags: `unit`, `measured` (True when it runs the network),
`needs_config` (True when it is no metric by its name alone: a job gives it settings and a name, and it has no `unit`).
"""

from predictors.costs._cost import Cost, Reading
from predictors.costs._estimate import FEWEST, EstimateError
from predictors.costs._estimated import Estimated
from searchspaces import Registry

REGISTRY: Registry[Cost] = Registry("costs", "predictors.costs", {"measured": bool})


def ready_costs() -> tuple[str, ...]:
    """The costs that are a metric by their own name: those that need no settings, and load."""
    return tuple(name for name, plugin in REGISTRY.sound().items() if not plugin.flags.get("needs_config", False))


__all__ = ["FEWEST", "REGISTRY", "Cost", "EstimateError", "Estimated", "Reading", "ready_costs"]
