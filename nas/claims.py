"""Evaluations in the hands of devices of the user's: offered by a search, claimed, and answered with measurements."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from nas.reports import Resource
from nas.resources import Fidelity, JsonObject
from nas.spec import Level

ContextValue = str | int | float | bool
LONGEST_ERROR = 10_000  # characters of an answer's error


class Offer(Resource):
    """An evaluation that devices may claim, and on what terms."""

    evaluation_id: str
    target: str = Field(description="Which devices: those that ask for this name.")
    space: JsonObject = Field(description="Name and full settings of the search space.")
    options: dict[str, str] = Field(description="Decision -> option, in the order of the space's decisions.")
    metrics: dict[str, Level] = Field(description="What is to be measured, and at which level it will stand.")
    seed: int = Field(description="What a training may draw its randomness from: one for each replicate.")
    lease_seconds: float = Field(description="How long a claim holds unless it is renewed.")
    timeout_seconds: float | None = Field(None, description="Seconds after the offer after which the evaluation fails.")
    attempts: int = Field(description="So many devices may lose it before the evaluation fails.")


class Claim(Resource):
    """An evaluation in the hands of a device. `attempt` is the fencing number: every write names it."""

    evaluation_id: str
    job_id: str
    target: str
    worker: str
    attempt: int
    expires_at: datetime = Field(description="Renew before this, or the evaluation goes to another device.")
    lease_seconds: float
    space: JsonObject = Field(description="Name and full settings of the search space.")
    text: str = Field(description="Canonical text of the architecture.")
    digest: str
    options: dict[str, str] = Field(description="Decision -> option of the architecture.")
    fidelity: Fidelity
    replicate: int = 0
    seed: int = Field(description="What a training may draw its randomness from: one for each replicate.")
    metrics: dict[str, Level] = Field(description="What is to be measured.")


class Answer(Resource):
    """What a device says of an evaluation: every metric, or why it has none."""

    evaluation_id: str
    attempt: int
    measurements: dict[str, float] = Field(default_factory=dict)
    std: dict[str, float] = Field(default_factory=dict, description="Spread of measurements, where it is known.")
    error: str | None = None
    context: dict[str, ContextValue] = Field(default_factory=dict, description="What the values depend on.")
    seconds: float | None = Field(None, description="How long the measuring took.")
