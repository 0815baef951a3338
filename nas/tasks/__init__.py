"""What a batch means: loss, metrics, example input. PLUG-IN FOLDER: one task per file.

A plug-in's `create(config, dataset)` gives a `Task`; flag `metrics` lists what it measures. The flags
`fractions` (of these, what lies between 0 and 1) and `not_negative` let bounds be refused that nothing can meet.
"""

from nas.tasks._task import Task
from searchspaces import Registry

REGISTRY: Registry[Task] = Registry("tasks", "nas.tasks", {"metrics": tuple})

__all__ = ["REGISTRY", "Task"]
