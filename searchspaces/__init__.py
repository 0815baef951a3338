"""What can be searched. PLUG-IN FOLDER: one space per file.

A plug-in's `create(config)` gives a `SearchSpace`; its Config has `num_classes` and `input_shape`, which a job fills in
from its data set.
"""

from searchspaces._architecture import Architecture
from searchspaces._errors import (
    BrokenPlugin,
    Cancelled,
    CheckpointError,
    ConfigError,
    Conflict,
    ContractViolation,
    DataError,
    DuplicatePlugin,
    ExportError,
    InfeasibleSpace,
    InvalidArchitecture,
    InvalidState,
    LeaseLost,
    MeasurementError,
    NASError,
    NotFound,
    ServiceError,
    SpecError,
    StorageFull,
    StoreError,
    TrainingDiverged,
    UnknownPlugin,
    Violation,
)
from searchspaces._registry import Config, Flag, Plugin, Registry, violations
from searchspaces._space import Counts, Decision, Extremes, Rng, SearchSpace

REGISTRY: Registry[SearchSpace] = Registry("spaces", "searchspaces")

__all__ = [
    "REGISTRY",
    "Architecture",
    "BrokenPlugin",
    "Cancelled",
    "CheckpointError",
    "Config",
    "ConfigError",
    "Conflict",
    "ContractViolation",
    "Counts",
    "DataError",
    "Decision",
    "DuplicatePlugin",
    "ExportError",
    "Extremes",
    "Flag",
    "InfeasibleSpace",
    "InvalidArchitecture",
    "InvalidState",
    "LeaseLost",
    "MeasurementError",
    "NASError",
    "NotFound",
    "Plugin",
    "Registry",
    "Rng",
    "SearchSpace",
    "ServiceError",
    "SpecError",
    "StorageFull",
    "StoreError",
    "TrainingDiverged",
    "UnknownPlugin",
    "Violation",
    "violations",
]
