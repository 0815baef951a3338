"""What a running job needs from outside. `db` implements these, `api` wires them; nothing here does anything.

Every write carries the attempt of the unit it belongs to; a write of an expired attempt raises LeaseLost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nas.claims import Answer, Offer
from nas.reports import Choice, TrustReport
from nas.resources import (
    ArtifactInfo,
    Candidate,
    DatasetInfo,
    Delivery,
    Evaluation,
    Job,
    JsonObject,
    ParetoFront,
    Phase,
    PreflightReport,
    Proposal,
    Settlement,
    SupernetOrigin,
    Unit,
    UnitPlan,
)
from nas.spec import Level

if TYPE_CHECKING:
    from torch import Tensor


class Control(StrEnum):
    """What the user wants of the job that a unit belongs to."""

    GO = "GO"
    PAUSE = "PAUSE"
    STOP = "STOP"
    CANCEL = "CANCEL"


class Checkpoint(NamedTuple):
    """Tensors by name, and plain values."""

    tensors: dict[str, Tensor]
    meta: JsonObject


class Tally(NamedTuple):
    """How many evaluations are settled, how many of these finished, and the mean seconds of those that took time."""

    settled: int
    finished: int
    seconds: float


class Journal(Protocol):
    """The store as one leased unit sees it. All methods raise LeaseLost when the lease is another's."""

    @property
    def unit(self) -> Unit: ...

    def job(self) -> Job:
        """The job as it stands now (budgets may have been raised)."""

    def elapsed(self) -> float:
        """Real seconds since the job's first lease, without pauses, as of now."""

    def control(self) -> Control:
        """Renew the lease when due, and read what the user wants. Cheap enough to call in every step."""

    def propose(self, proposals: Sequence[Proposal]) -> list[Evaluation]:
        """Write proposals as PENDING evaluations, in order; one that exists already is left out."""

    def pending(self, *levels: Level) -> list[Evaluation]:
        """Proposed but not settled evaluations of these levels, in order of proposal: what a new owner takes up."""

    def settled(self, *levels: Level, after: int = 0) -> list[Evaluation]:
        """Settled evaluations of these levels with `commit > after`, in commit order, with their measurements."""

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """End pending evaluations in one transaction: measurements, candidate values and front with them."""

    def front(self) -> ParetoFront:
        """The front of the job's objectives."""

    def front_size(self) -> int:
        """How many points there are on the front; costs less than to read them."""

    def candidates(self) -> list[Candidate]:
        """All candidates with their values."""

    def progress(self, **fields: object) -> None:
        """Change fields of `Progress`; written at most a few times a second."""

    def spend(self, *, epochs: int = 0, seconds: float = 0.0) -> None:
        """Add to what the job has spent. Evaluations are counted where they are settled."""

    def event(self, type: str, data: JsonObject) -> None:
        """Append an event."""

    def plan(self, **fields: object) -> None:
        """Change fields of the job's `Plan`; what is given as `contested` is added to what others put there."""

    def report(self, report: PreflightReport | TrustReport | Choice | Delivery | SupernetOrigin) -> None:
        """Keep a report with the job."""


class Checkpoints(Protocol):
    """Where a unit keeps what it needs to go on after its worker died."""

    def save(self, name: str, tensors: Mapping[str, Tensor], meta: JsonObject) -> None:
        """Write atomically. Raises StorageFull; the checkpoint before stays."""

    def load(self, name: str) -> Checkpoint | None:
        """The newest whole checkpoint of any attempt of this unit; None when there is none.

        A checkpoint that is cut short is passed over for the one before it; CheckpointError when none is whole.
        """

    def drop(self, name: str) -> None:
        """Remove all checkpoints of this name."""


class Artifacts(Protocol):
    """Content-addressed files."""

    def put(self, path: Path, *, kind: str, name: str, meta: JsonObject | None = None) -> ArtifactInfo:
        """Keep a copy of a file. Raises StorageFull."""

    def path(self, artifact_id: str) -> Path:
        """A local, whole copy to read. Raises NotFound, or StoreError when its content does not match its name."""


class Exchange(Protocol):
    """Where a unit hands evaluations to the user's devices. All methods raise LeaseLost when its lease is another's."""

    def offer(self, offers: Sequence[Offer]) -> None:
        """Let devices claim pending evaluations.

        One that was offered before stays as it is, with its answer; only its timeout begins anew.
        """

    def collect(self, evaluation_ids: Sequence[str]) -> list[Answer]:
        """The answers that are there. Cheap enough to call a few times a second.

        What too many devices lost, or nobody answered in time, is answered with the reason as its error.
        """


class JobView(Protocol):
    """A job as the planner of its next stage sees it."""

    def job(self) -> Job: ...

    def elapsed(self) -> float:
        """Real seconds since the job's first lease, without pauses, as of now."""

    def workers(self) -> int:
        """Living workers that do units of this job or have nothing to do; at least one."""

    def front(self) -> ParetoFront: ...

    def candidates(self, *, having: str | None = None) -> list[Candidate]:
        """All candidates, or those with a value of this key (`metric@level`), in order of their numbers."""

    def candidate(self, digest: str) -> Candidate | None:
        """One candidate with all its evaluations."""

    def settled(self, *levels: Level) -> list[Evaluation]: ...

    def tally(self, *levels: Level) -> Tally:
        """What is settled at these levels, counted where it is kept: cheap, however many there are."""

    def evaluations(self, digest: str) -> list[Evaluation]:
        """All evaluations of one candidate, with their measurements."""

    def results(self, phase: Phase) -> list[JsonObject]:
        """Results of the finished units of a stage, in order of their keys; the newest round only."""

    def find_output(
        self,
        phase: Phase,
        *,
        output_key: str | None = None,
        last_key: str | None = None,
        job_id: str | None = None,
    ) -> JsonObject | None:
        """The newest result of a finished unit of this stage, of any job: by its `output_key`, or by the job's id.

        With `last_key`, that of the last key from `output_key` on.
        """

    def registered(self, plugin: str, config: JsonObject) -> DatasetInfo | None:
        """The data set that is registered with exactly these settings; None where there is none."""


class Planner(Protocol):
    """Says what a job does next. `nas.job` implements it; it is the only one that knows the order."""

    def stages(self, job: Job) -> Sequence[Phase]:
        """The stages of a job, in order."""

    def plan(self, phase: Phase, view: JobView) -> list[UnitPlan]:
        """The units of work of a stage; none when there is nothing to do in it."""
