"""The one supernet loop and its parts, training of single networks, normalisation statistics. Loads torch."""

from nas.training._calibration import (
    batch_statistics,
    calibration_images,
    evaluate_batches,
    evaluate_network,
    recalibrate,
    set_statistics,
)
from nas.training._data import Batch, DeviceData, num_parts
from nas.training._device import (
    Precision,
    accelerated,
    autocast,
    choose_device,
    choose_dtype,
    code_version,
    device_name,
    dtype_name,
    has_bf16,
    is_out_of_memory,
    precision_note,
    to_device,
)
from nas.training._diagnosis import GradientVariance, Variance
from nas.training._displacement import Displacement
from nas.training._engine import SMALLEST_MICRO_BATCH, EpochReport, MemoryCheckpoints, TrainingSummary
from nas.training._gradients import GradientNorms
from nas.training._importance import ImportancePaths
from nas.training._importance_data import ImportanceData
from nas.training._metering import PathMeter, PathReading, measure_paths
from nas.training._network import train_network
from nas.training._paths import ChainPaths, FairPaths
from nas.training._recipe import (
    Accumulate,
    Child,
    ChildLoss,
    DataSampler,
    GradientPolicy,
    Part,
    PathSampler,
    PlainMean,
    Recipe,
    Reweighting,
    Setting,
    Step,
    StepReport,
    TaskLoss,
    Unbiased,
)
from nas.training._splitting import (
    Exhaustive,
    GradientMatching,
    Probe,
    SplitRule,
    Splitting,
    StructureEditor,
    agreement,
    largest_cut,
)
from nas.training._supernet import train_supernet
from nas.training._uniform import ShuffledData, UniformPaths
from searchspaces import track_statistics

__all__ = [
    "SMALLEST_MICRO_BATCH",
    "Accumulate",
    "Batch",
    "ChainPaths",
    "Child",
    "ChildLoss",
    "DataSampler",
    "DeviceData",
    "Displacement",
    "EpochReport",
    "Exhaustive",
    "FairPaths",
    "GradientMatching",
    "GradientNorms",
    "GradientPolicy",
    "GradientVariance",
    "ImportanceData",
    "ImportancePaths",
    "MemoryCheckpoints",
    "Part",
    "PathMeter",
    "PathReading",
    "PathSampler",
    "PlainMean",
    "Precision",
    "Probe",
    "Recipe",
    "Reweighting",
    "Setting",
    "ShuffledData",
    "SplitRule",
    "Splitting",
    "Step",
    "StepReport",
    "StructureEditor",
    "TaskLoss",
    "TrainingSummary",
    "Unbiased",
    "UniformPaths",
    "Variance",
    "accelerated",
    "agreement",
    "autocast",
    "batch_statistics",
    "calibration_images",
    "choose_device",
    "choose_dtype",
    "code_version",
    "device_name",
    "dtype_name",
    "evaluate_batches",
    "evaluate_network",
    "has_bf16",
    "is_out_of_memory",
    "largest_cut",
    "measure_paths",
    "num_parts",
    "precision_note",
    "recalibrate",
    "set_statistics",
    "to_device",
    "track_statistics",
    "train_network",
    "train_supernet",
]
