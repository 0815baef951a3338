"""Every error of the service.

NASError
├── SpecError            (ValueError)      a job spec, or a part of it, is wrong: carries every violation
├── ConfigError          (ValueError)      a plug-in's settings are wrong: carries every violation
├── UnknownPlugin        (LookupError)     no plug-in of that name
├── BrokenPlugin         (ImportError)     a plug-in's file does not load, or lacks what its kind must say
│   └── DuplicatePlugin  (ValueError)      two plug-ins claim one name
├── InvalidArchitecture  (ValueError)      a text or mapping that is no architecture of the space
├── InfeasibleSpace      (ValueError)      nothing in the space meets what is asked
├── DataError            (ValueError)      a data set's file is missing, broken or not what it should be
│   └── InputsChanged    (ValueError)      what a job stands on is not what it was when the job began
├── CheckpointError      (ValueError)      a checkpoint is cut short or belongs to something else
├── MeasurementError     (RuntimeError)    a number could not be computed
│   └── ProxyUndefined   (RuntimeError)    a proxy has no value for this network
├── PreflightFailed      (RuntimeError)    a job cannot succeed: carries what of its spec is wrong, where that is known
├── TrainingDiverged     (RuntimeError)    the loss is not finite
├── OutOfMemory          (MemoryError)     a training does not fit into the device's memory
├── ExportError          (RuntimeError)    a delivered model cannot be made, or does not equal the network
├── ContractViolation    (AssertionError)  a plug-in breaks the contract of its kind
├── StoreError           (RuntimeError)    the store cannot be opened, read or written
│   └── StorageFull      (OSError)         no room left on the device
├── UnwritableValue      (ValueError)      a number or a text that no store can keep
├── NotFound             (LookupError)     no such job, candidate, artifact ...
├── InvalidState         (RuntimeError)    a verb that the job's state does not allow
├── Conflict             (RuntimeError)    the resource changed meanwhile, or a key was used for something else
├── LeaseLost            (RuntimeError)    the unit of work belongs to another worker now
├── Cancelled            (RuntimeError)    the work was asked to end
└── ServiceError         (RuntimeError)    the service answered with an error, or not at all
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with an input: where, what was given, and what is allowed."""

    field: str
    value: str
    allowed: str

    def __str__(self) -> str:
        return f"{self.field}: got {self.value}; expected {self.allowed}"


class NASError(Exception):
    """Root of all errors that this software raises on purpose."""


class _Violations(NASError, ValueError):
    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("\n".join(str(violation) for violation in self.violations))


class SpecError(_Violations):
    """A job spec is wrong; `violations` names every field, its value and what is allowed."""


class ConfigError(_Violations):
    """A plug-in's settings are wrong; `violations` names every field, its value and what is allowed."""


class UnknownPlugin(NASError, LookupError):
    """No plug-in of this kind has this name."""


class BrokenPlugin(NASError, ImportError):
    """A plug-in's file does not load, holds no plug-in, or one that lacks what its kind must say or cannot be made."""


class DuplicatePlugin(BrokenPlugin, ValueError):
    """Two plug-ins of one kind claim one name."""


class InvalidArchitecture(NASError, ValueError):
    """A text or mapping is no architecture of the space."""


class InfeasibleSpace(NASError, ValueError):
    """Nothing in the space meets what is asked."""


class DataError(NASError, ValueError):
    """A data set's file is missing, broken or not what it should be."""


class InputsChanged(DataError):
    """What a job stands on is not what it was when the job began; with the old content back, it can go on."""


class CheckpointError(NASError, ValueError):
    """A checkpoint is cut short, broken, or belongs to something else."""


class MeasurementError(NASError, RuntimeError):
    """A number could not be computed; the message is the reason."""


class ProxyUndefined(MeasurementError):
    """A proxy has no value for this network; the message is the reason."""


class PreflightFailed(NASError, RuntimeError):
    """A job cannot succeed, or could not be examined; the message says why, `violations` what of its spec is wrong."""

    def __init__(self, reason: str, violations: Sequence[Violation] = ()) -> None:
        self.violations = tuple(violations)
        super().__init__(reason)


class TrainingDiverged(NASError, RuntimeError):
    """The training loss is not finite."""


class OutOfMemory(NASError, MemoryError):
    """A training does not fit into the device's memory, however few samples run at once."""


class ExportError(NASError, RuntimeError):
    """A delivered model cannot be made, or does not equal the network it was made from."""


class ContractViolation(NASError, AssertionError):
    """A plug-in breaks the contract of its kind."""


class StoreError(NASError, RuntimeError):
    """The store cannot be opened, read or written."""


class StorageFull(StoreError, OSError):
    """No room is left where the store or its artifacts lie."""


class UnwritableValue(NASError, ValueError):
    """A number that is not finite or too large, or a text, that no store can keep."""


class NotFound(NASError, LookupError):
    """There is no such job, candidate, artifact, data set or worker."""


class InvalidState(NASError, RuntimeError):
    """The verb is not allowed in the job's present state."""


class Conflict(NASError, RuntimeError):
    """The resource changed meanwhile, or an idempotency key was used for another request."""


class LeaseLost(NASError, RuntimeError):
    """The unit of work belongs to another attempt now; whoever gets this gives up quietly."""


class Cancelled(NASError, RuntimeError):
    """The work was asked to end before it was done."""


class ServiceError(NASError, RuntimeError):
    """The service answered with an error, or not at all."""

    def __init__(
        self, message: str, *, code: str = "UNAVAILABLE", status: int = 0, violations: Sequence[Violation] = ()
    ) -> None:
        self.code, self.status, self.violations = code, status, tuple(violations)
        super().__init__(message)
