"""Evaluations that devices of the user's measure: claimed for a time, renewed, answered."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.dependencies import WORK, StoreDep
from api.errors import Refusal
from api.idempotency import IdempotentRoute
from api.openapi import problems
from nas.claims import LONGEST_ERROR, Answer, Claim, ContextValue
from nas.resources import Page
from searchspaces import SpecError

router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"], route_class=IdempotentRoute)

EvaluationId = Annotated[str, Path(min_length=1, max_length=100, description="Id of an evaluation.")]
Text = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=1000)]
Attempt = Annotated[int, Field(ge=1, lt=2**31, description="The claim's `attempt`.")]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ClaimRequest(_Body):
    """Who claims how many evaluations, and of what: a target, a job, or a job's evaluations for a target."""

    worker: Text = Field(min_length=1, description="What the device calls itself.")
    target: Text | None = Field(None, min_length=1, description="As the job's evaluator names it in `target`.")
    job_id: Text | None = Field(None, min_length=1, description="Only evaluations of this job.")
    count: int = Field(1, ge=1, le=1000, description="How many at most.")

    @model_validator(mode="after")
    def _says_what(self) -> ClaimRequest:
        if self.target is None and self.job_id is None:
            raise ValueError("target or job_id: whose evaluations are claimed")
        return self


class Held(_Body):
    """The attempt that holds an evaluation."""

    attempt: Attempt


class AnswerRequest(_Body):
    """What a device measured: every metric of the claim, or why it could not."""

    attempt: Attempt
    measurements: dict[Text, float] = Field(default_factory=dict, max_length=64, description="Metric -> value.")
    std: dict[Text, float] = Field(default_factory=dict, max_length=64, description="Metric -> spread of its value.")
    error: Annotated[str, Field(pattern=r"^[^\x00]*$", min_length=1, max_length=LONGEST_ERROR)] | None = Field(
        None, description="In place of measurements: why there are none."
    )
    context: dict[Text, Text | ContextValue] = Field(
        default_factory=dict, max_length=64, description="What the values depend on: device, dtype, batch ..."
    )
    seconds: float | None = Field(
        None, ge=0, description="How long the measuring took; without it, the time since the claim."
    )


@router.post("/claim", operation_id="claim_evaluations", dependencies=[WORK], responses=problems(404, 409, 422))
def claim(wanted: ClaimRequest, store: StoreDep) -> Page[Claim]:
    """Claim evaluations to measure, those that wait longest first; none when nothing waits. A claim holds for
    `lease_seconds` unless it is renewed, then the evaluation goes to the next who claims. 409 `INVALID_STATE` when the
    job is over.
    """
    found = store.claim_evaluations(
        target=wanted.target, job_id=wanted.job_id, worker=wanted.worker, count=wanted.count
    )
    return Page[Claim](items=tuple(found))


@router.post(
    "/{evaluation_id}/renew", operation_id="renew_evaluation", dependencies=[WORK], responses=problems(404, 409, 422)
)
def renew(evaluation_id: EvaluationId, held: Held, store: StoreDep) -> Claim:
    """Hold a claim for its whole time again. 409 `LEASE_LOST` when it ran out, or its job ended: measure no further."""
    return store.renew_evaluation(evaluation_id, held.attempt)


@router.post(
    "/{evaluation_id}/release",
    status_code=204,
    operation_id="release_evaluation",
    dependencies=[WORK],
    responses=problems(404, 409, 422),
)
def release(evaluation_id: EvaluationId, held: Held, store: StoreDep) -> None:
    """Give an evaluation back unmeasured, for the next who claims; nothing is held against it."""
    store.release_evaluation(evaluation_id, held.attempt)


@router.post(
    "/{evaluation_id}/measurements",
    operation_id="post_measurements",
    dependencies=[WORK],
    responses=problems(404, 409, 422),
)
def measurements(evaluation_id: EvaluationId, given: AnswerRequest, store: StoreDep) -> Answer:
    """Post what was measured, every metric of the claim, or why it could not be. The same answer may be posted again;
    another is refused (409 `CONFLICT`), and so is one whose claim ran out (409 `LEASE_LOST`).
    """
    answer = Answer(evaluation_id=evaluation_id, **given.model_dump())
    try:
        return store.answer_evaluation(answer)
    except SpecError as error:
        raise Refusal(
            422,
            "INVALID_MEASUREMENTS",
            f"{evaluation_id} was not answered so:\n{error}",
            violations=error.violations,
        ) from error
