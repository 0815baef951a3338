"""What can be searched. PLUG-IN FOLDER: one space per file.

A plug-in's `create(config)` gives a `SearchSpace`; its Config has `num_classes` and `input_shape`, which a job fills in
from its data set.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from searchspaces._architecture import Architecture
from searchspaces._blame import defined_at, module_of, own_frame, own_line, raised_at
from searchspaces._csv import Sheet, is_number, read_sheet
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
    InputsChanged,
    InvalidArchitecture,
    InvalidState,
    LeaseLost,
    MeasurementError,
    NASError,
    NotFound,
    OutOfMemory,
    PreflightFailed,
    ProxyUndefined,
    ServiceError,
    SpecError,
    StorageFull,
    StoreError,
    TrainingDiverged,
    UnknownPlugin,
    UnwritableValue,
    Violation,
)
from searchspaces._files import data_file, whole_path, why_unreachable
from searchspaces._graph import Drawing, drawing, isomorphism_key, path_encoding, path_vocabulary, paths
from searchspaces._members import Members
from searchspaces._registry import (
    DATA_PATH,
    LOCAL_PATH,
    Config,
    Flag,
    Plugin,
    Registry,
    marks_data_path,
    marks_path,
)
from searchspaces._space import Counts, Decision, Extremes, Rng, SearchSpace, Split
from searchspaces._violations import did_you_mean, elsewhere, nearest, one_of, shortened, told, violations

if TYPE_CHECKING:
    from searchspaces._kernels import fused, kernel_build, kernel_mode, normalised_alone
    from searchspaces._layers import initialised, normalisations, track_statistics
    from searchspaces._routed import RoutedSupernet
    from searchspaces._sample_gradients import Geometry, add_sample_signs, sample_gradients
    from searchspaces._supernet import Choice, Mixture, Supernet, Tapped

REGISTRY: Registry[SearchSpace] = Registry("spaces", "searchspaces")

__all__ = [
    "DATA_PATH",
    "LOCAL_PATH",
    "REGISTRY",
    "Architecture",
    "BrokenPlugin",
    "Cancelled",
    "CheckpointError",
    "Choice",
    "Config",
    "ConfigError",
    "Conflict",
    "ContractViolation",
    "Counts",
    "DataError",
    "Decision",
    "Drawing",
    "DuplicatePlugin",
    "ExportError",
    "Extremes",
    "Flag",
    "Geometry",
    "InfeasibleSpace",
    "InputsChanged",
    "InvalidArchitecture",
    "InvalidState",
    "LeaseLost",
    "MeasurementError",
    "Members",
    "Mixture",
    "NASError",
    "NotFound",
    "OutOfMemory",
    "Plugin",
    "PreflightFailed",
    "ProxyUndefined",
    "Registry",
    "Rng",
    "RoutedSupernet",
    "SearchSpace",
    "ServiceError",
    "Sheet",
    "SpecError",
    "Split",
    "StorageFull",
    "StoreError",
    "Supernet",
    "Tapped",
    "TrainingDiverged",
    "UnknownPlugin",
    "UnwritableValue",
    "Violation",
    "add_sample_signs",
    "data_file",
    "defined_at",
    "did_you_mean",
    "drawing",
    "elsewhere",
    "fused",
    "initialised",
    "is_number",
    "isomorphism_key",
    "kernel_build",
    "kernel_mode",
    "marks_data_path",
    "marks_path",
    "module_of",
    "nearest",
    "normalisations",
    "normalised_alone",
    "one_of",
    "own_frame",
    "own_line",
    "path_encoding",
    "path_vocabulary",
    "paths",
    "raised_at",
    "read_sheet",
    "sample_gradients",
    "shortened",
    "told",
    "track_statistics",
    "violations",
    "whole_path",
    "why_unreachable",
]


_WITH_TORCH = {
    "Choice": "_supernet",
    "Geometry": "_sample_gradients",
    "Mixture": "_supernet",
    "RoutedSupernet": "_routed",
    "Supernet": "_supernet",
    "Tapped": "_supernet",
    "add_sample_signs": "_sample_gradients",
    "fused": "_kernels",
    "kernel_build": "_kernels",
    "kernel_mode": "_kernels",
    "initialised": "_layers",
    "normalisations": "_layers",
    "normalised_alone": "_kernels",
    "sample_gradients": "_sample_gradients",
    "track_statistics": "_layers",
}


def __getattr__(name: str) -> object:
    """The names that need torch, loaded when they are asked for."""
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"searchspaces.{_WITH_TORCH[name]}"), name)
