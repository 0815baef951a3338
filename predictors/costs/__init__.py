"""Numbers known without accuracy. PLUG-IN FOLDER: one cost per file, named as its metric.

A plug-in's `create(config, space, device)` gives a `Cost`; flags: `unit`, `measured` (True when it runs the network).
"""

from predictors.costs._cost import Cost, Reading
from searchspaces import Registry

REGISTRY: Registry[Cost] = Registry("costs", "predictors.costs")

__all__ = ["REGISTRY", "Cost", "Reading"]
