"""The output contract: what the service answers, and what the store gives out. Plain, frozen, no torch."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from nas.reports import Choice, Contender, Plan, Resource, Speeds, TrustReport
from nas.spec import Budget, Direction, ExportFormat, Level

JsonObject = dict[str, Any]
Item = TypeVar("Item")


class JobState(StrEnum):
    """Where a job stands. The last three are terminal."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    PAUSING = "PAUSING"
    PAUSED = "PAUSED"
    STOPPING = "STOPPING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_terminal(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class Phase(StrEnum):
    """Label of the stage a job is in."""

    PREFLIGHT = "PREFLIGHT"
    SCORE = "SCORE"
    SUPERNET = "SUPERNET"
    SEARCH = "SEARCH"
    AUDIT = "AUDIT"
    DELIVER = "DELIVER"


class EvaluationState(StrEnum):
    """Where one evaluation stands; all but PENDING are settled and never change."""

    PENDING = "PENDING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    INFEASIBLE = "INFEASIBLE"


class UnitState(StrEnum):
    """Where a unit of work stands."""

    READY = "READY"
    LEASED = "LEASED"
    DONE = "DONE"
    FAILED = "FAILED"
    DROPPED = "DROPPED"


class Fidelity(Resource):
    """How dear and how true a measurement is."""

    level: Level
    resources: dict[str, float] = Field(default_factory=dict, description="epochs, data, resolution, seeds ...")


class Measurement(Resource):
    """One number about one architecture. Never overwritten; only equal contexts are compared."""

    metric: str
    value: float
    unit: str = ""
    std: float | None = None
    fidelity: Fidelity
    context: dict[str, str | int | float | bool] = Field(default_factory=dict)


AUDITED = "audit"
"""`Proposal.reason` of what the audit asks for. It is not counted as the search's."""


class Proposal(Resource):
    """What a searcher asks for. `memo` is opaque JSON that comes back in history."""

    text: str = Field(description="Canonical text of the architecture.")
    digest: str
    fidelity: Fidelity
    replicate: int = 0
    group: str = ""
    reason: str = ""
    memo: JsonObject = Field(default_factory=dict)


class Evaluation(Resource):
    """One (job, proposal): the unit that is never done twice and never lost."""

    evaluation_id: str
    job_id: str
    number: int = Field(description="Position among the job's proposals, from 0.")
    commit: int | None = Field(None, description="Position in commit order once settled, from 1.")
    proposal: Proposal
    state: EvaluationState
    attempt: int = 0
    error: str | None = None
    violation: float = Field(0.0, description="How far its constraints are broken, relative; 0 when they hold.")
    measurements: tuple[Measurement, ...] = ()
    seconds: float | None = None


class Settlement(Resource):
    """How one pending evaluation ended: what a worker writes, once."""

    evaluation_id: str
    state: EvaluationState
    measurements: tuple[Measurement, ...] = ()
    violation: float = 0.0
    error: str | None = None
    seconds: float | None = None


class Candidate(Resource):
    """An architecture inside one job: what its evaluations say of it. It has no state of its own."""

    job_id: str
    digest: str
    text: str
    number: int = Field(description="Number of its first proposal.")
    values: dict[str, float] = Field(description="`metric@level` -> latest value, for example `accuracy@supernet`.")
    on_front: bool = False
    feasible: bool = True
    evaluations: tuple[Evaluation, ...] = Field((), description="Only when one candidate is asked for.")


class Objective(Resource):
    """What is optimised: a metric, where it is read, and which way is better."""

    metric: str
    level: Level
    direction: Direction

    @property
    def key(self) -> str:
        return f"{self.metric}@{self.level}"

    def loss(self, value: float) -> float:
        """The value, signed so that less is better."""
        return value if self.direction == "min" else -value


class FrontPoint(Resource):
    """One non-dominated feasible candidate."""

    digest: str
    text: str
    number: int
    values: dict[str, float]


class ParetoFront(Resource):
    """The feasible candidates that none other is better than in every objective."""

    job_id: str
    objectives: tuple[Objective, ...]
    points: tuple[FrontPoint, ...]
    reference: dict[str, float] | None = None
    hypervolume: float | None = None
    contexts: dict[str, dict[str, str | int | float | bool]] = Field(
        default_factory=dict, description="Objective -> the context that all its values share, as far as it matters."
    )
    left_out: dict[str, int] = Field(
        default_factory=dict, description="Objective -> values of other contexts, which are on no front."
    )


class Progress(Resource):
    """How far a job is. `seconds_left` is an estimate from what was measured, None while there is none."""

    phase: Phase | None = None
    fraction: float = Field(0.0, ge=0, le=1, description="Of the present phase.")
    message: str = ""
    seconds_left: float | None = None
    epochs_done: int = 0
    epochs_total: int = 0
    evaluations_done: int = 0
    evaluations_total: int = 0
    audited: int = 0
    audits_total: int = 0
    delivered: int = 0
    deliveries_total: int = 0
    failures: int = 0
    infeasible: int = 0
    hypervolume: float | None = Field(None, description="Of the front, from `reference`; None while there are too few.")
    reference: dict[str, float] | None = Field(None, description="Objective -> where the hypervolume is measured from.")


class Spent(Resource):
    """What a job has spent so far."""

    evaluations: int = 0
    epochs: int = 0
    wall_seconds: float = Field(0.0, description="Real time since its first lease, without pauses: its budget's.")
    worker_seconds: float = Field(0.0, description="Summed over all workers.")
    queued_seconds: float | None = Field(None, description="From its submission to its first lease.")


class CostPrediction(Resource):
    """How a cost that is known of some networks is predicted for the others; errors are of networks left out."""

    networks: int = Field(description="Networks that it is learned from.")
    error: float = Field(description="Median of the absolute difference over the value.")
    kendall: float | None = Field(None, description="Rank correlation of prediction and value.")


class CostRange(Resource):
    """Spread of one cost over a space."""

    metric: str
    unit: str
    minimum: float
    median: float
    maximum: float
    share_feasible: float | None = Field(None, description="Share of sampled architectures that meet its constraints.")
    predicted: CostPrediction | None = Field(None, description="Where most of its values are predictions: how far off.")


class PreflightReport(Resource):
    """What a job will meet, before anything is spent."""

    space_size: int
    costs: tuple[CostRange, ...]
    satisfiable: bool | None
    share_feasible: float | None = None
    unmet: tuple[str, ...] = Field((), description="Bounds that nothing meets, with what there is.")
    largest_path_bytes: int | None = None
    threads: int | None = Field(None, description="CPU threads with which a training step is fastest here.")
    train_steps: int | None = None
    expected_seconds: float | None = None
    phase_seconds: dict[str, float] = Field(default_factory=dict, description="Expected seconds of each phase.")
    phases: tuple[Phase, ...] = Field((), description="In which the job has something to do; none: not known.")
    speeds: Speeds | None = Field(None, description="What was measured, where `budget.wall_time` is to be kept.")
    plan: Plan | None = Field(None, description="What fits into `budget.wall_time`.")
    notes: tuple[str, ...] = ()


class SupernetOrigin(Resource):
    """Where the shared weights of a job come from."""

    job_id: str = Field(description="The job that trained them.")
    taken_over: bool = Field(description="Whether that is another job.")
    trained_at: datetime | None = Field(None, description="When their training ended; None where nobody wrote it down.")
    torch: str | None = Field(None, description="The version of torch that trained them.")
    torch_here: str | None = Field(None, description="That of the worker that took them over.")
    epochs: int = 0

    @property
    def words(self) -> str:
        """The origin in a line."""
        when = f" on {self.trained_at:%Y-%m-%d at %H:%M} UTC" if self.trained_at else ""
        by = f" by torch {self.torch}" if self.torch else ""
        differs = self.torch and self.torch_here and self.torch != self.torch_here
        here = f" (torch is {self.torch_here} now)" if differs else ""
        told = f"supernet of job {self.job_id} taken over" if self.taken_over else "supernet trained by this job"
        return f"{told}: {self.epochs} epochs{when}{by}{here}"


class ArtifactInfo(Resource):
    """A content-addressed file of a job."""

    artifact_id: str
    job_id: str
    kind: str = Field(description="supernet, model, onnx, torch_export, pytorch, card ...")
    name: str
    size_bytes: int
    created_at: datetime
    meta: JsonObject = Field(default_factory=dict)


class Delivery(Resource):
    """A network that came out of a job."""

    digest: str
    text: str
    weights: Literal["trained", "inherited"]
    metrics: dict[str, float] = Field(default_factory=dict)
    parity: dict[str, float] = Field(default_factory=dict, description="Format -> largest difference to the network.")
    artifacts: dict[str, str] = Field(default_factory=dict, description="Format -> artifact id of the archive.")
    measured_with: str = Field("", description="What ran the network for its metrics.")
    timed: tuple[Measurement, ...] = Field(
        (), description="Costs, such as latency_ms, that were measured on the delivered ONNX file itself."
    )
    chosen: str = Field("", description="What chose it, in words; empty where somebody asked for it.")
    contenders: tuple[Contender, ...] = Field((), description="Against which networks it won, and itself.")


class ExportState(StrEnum):
    """Where an export that somebody asked for stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class Export(Resource):
    """An export that somebody asked for."""

    export_id: str
    job_id: str
    digest: str
    formats: tuple[ExportFormat, ...]
    weights: Literal["trained", "inherited"]
    state: ExportState
    error: str | None = None
    delivery: Delivery | None = None


class ProblemViolation(Resource):
    """One thing that is wrong with a request, or with the spec of a job."""

    field: str = Field(description="Path of the field, or name of the parameter or header.")
    value: str = Field(description="What was given.")
    allowed: str = Field(description="What is expected.")


class Job(Resource):
    """One search, from spec to delivered models."""

    job_id: str
    name: str
    state: JobState
    reason: str | None = Field(None, description="Why it ended so, or what it waits for while it is paused.")
    violations: tuple[ProblemViolation, ...] = Field((), description="What of the spec preflight refused.")
    progress: Progress
    spec: JsonObject
    spec_digest: str
    budget: Budget
    spent: Spent
    objectives: tuple[Objective, ...]
    labels: dict[str, str] = Field(default_factory=dict)
    version: int = Field(description="Grows with every change a user makes; what If-Match is held against.")
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    preflight: PreflightReport | None = None
    plan: Plan | None = Field(None, description="How much of everything it does, or did.")
    supernet: SupernetOrigin | None = Field(
        None, description="Where the shared weights come from, once they are there."
    )
    trust: TrustReport | None = None
    choice: Choice | None = Field(None, description="What it puts first, since the search has ended.")
    deliveries: tuple[Delivery, ...] = ()

    @property
    def best(self) -> str | None:
        """Digest of the candidate to take: what won the first contest, else what the evidence puts first.

        None before the search has ended.
        """
        if self.choice is None:
            return None
        first = self.choice.contests[0] if self.choice.contests else ()
        won = (delivery.digest for delivery in self.deliveries if delivery.chosen and delivery.digest in first)
        return next(won, self.choice.best.digest)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """What tells jobs apart: a notebook shows the last value of a cell, and a whole job fills pages."""
        shown = {"job_id": self.job_id, "name": self.name, "state": self.state.value, "reason": self.reason}
        return [(key, value) for key, value in shown.items() if value is not None]


class Event(Resource):
    """Something that happened in a job. `sequence` counts from 1 in each job."""

    sequence: int
    job_id: str
    type: str
    at: datetime
    data: JsonObject = Field(default_factory=dict)


class Worker(Resource):
    """A process that does units of work."""

    worker_id: str
    host: str
    process_id: int
    device: str
    state: Literal["IDLE", "BUSY", "GONE"]
    unit_id: str | None = None
    started_at: datetime
    seen_at: datetime


class Unit(Resource):
    """A unit of work that a worker can lease. `attempt` is the fencing number."""

    unit_id: str
    job_id: str
    kind: Literal["stage", "export"] = "stage"
    stage: Phase
    key: str
    payload: JsonObject = Field(default_factory=dict)
    state: UnitState
    attempt: int = 0
    result: JsonObject | None = None


class UnitPlan(Resource):
    """A unit of work that a stage asks for; `key` is unique in (job, stage).

    `plan`: that of the job from this stage on, where it changes; the first unit's counts.
    """

    key: str
    payload: JsonObject = Field(default_factory=dict)
    plan: Plan | None = None


class DatasetInfo(Resource):
    """A registered data set."""

    name: str
    plugin: str
    config: JsonObject = Field(default_factory=dict)
    digest: str | None = None
    num_classes: int | None = None
    input_shape: tuple[int, ...] | None = None
    sizes: dict[str, int] = Field(default_factory=dict, description="Samples in train, valid and test.")
    notes: tuple[str, ...] = Field((), description="What was done to its files, or left out, that nobody asked for.")
    available: bool = True
    error: str | None = None


class TableInfo(Resource):
    """A table of measurements that searches can look up, with its default settings."""

    name: str
    space: str = Field("", description="The space whose architectures it holds.")
    files: tuple[str, ...] = Field((), description="What it reads from the service's folder of data.")
    digest: str | None = Field(None, description="SHA-256 of its first file.")
    architectures: int | None = None
    metrics: tuple[str, ...] = Field((), description="What was measured after training.")
    epochs: tuple[float, ...] = Field((), description="Lengths of training that it knows; 0 where nobody says.")
    costs: tuple[str, ...] = Field((), description="What is known without training.")
    available: bool = True
    error: str | None = None


class PluginInfo(Resource):
    """A plug-in as the API lists it."""

    kind: str
    name: str
    description: str
    source: str
    flags: JsonObject = Field(default_factory=dict)
    config_schema: JsonObject = Field(default_factory=dict)
    error: str | None = Field(None, description="Why it does not load.")


class Page(Resource, Generic[Item]):
    """One page of a list; `next_page_token` is absent at the end."""

    items: tuple[Item, ...]
    next_page_token: str | None = None
    total: int | None = Field(None, description="How many the whole list holds, where `count` asked for it.")
