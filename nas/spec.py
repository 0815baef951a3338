"""The input contract: what a user writes to ask for a search. Python and YAML are the same; no torch here.

name: digits
space: {name: nasbench201, config: {channels: 8}}
dataset: digits
objectives: {accuracy: max, params: min}
constraints: ["params <= 200k"]
budget: {evaluations: 240, epochs: 30, wall_time: 10m}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from nas._places import with_places
from nas.plain import unwritable
from nas.quantities import Constraint, parse_constraint, parse_seconds
from nas.yaml import read_yaml
from searchspaces import SpecError, Violation, violations

Direction = Literal["max", "min"]
Level = Literal["cost", "proxy", "supernet", "partial", "short", "contender", "full"]
"""How true a measurement is. `partial`: at less than the job's fidelity, as `resources` says; it is on no front.
`contender`: after a rung of the contest before the final training, as long as `resources` says."""
ExportFormat = Literal["onnx", "torch_export", "pytorch"]
JsonValue = Any  # what json.loads gives; pydantic's own JsonValue does not survive schema generation for forms


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PluginRef(_Part):
    """A plug-in by name, with its settings. A bare string is a name with the default settings."""

    name: str = Field(min_length=1, max_length=200, description="Name of the plug-in, as listed by `nas plugins list`.")
    config: dict[str, JsonValue] = Field(default_factory=dict, description="Its settings; unknown keys are refused.")

    def __str__(self) -> str:
        return f"{self.name} {self.config}" if self.config else self.name


def _plugin_ref(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _seconds(value: object) -> object:
    return parse_seconds(value) if isinstance(value, str) else value


def _readable(constraint: str) -> str:
    parse_constraint(constraint)
    return constraint


Ref = Annotated[PluginRef, BeforeValidator(_plugin_ref)]
CostName = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*$", max_length=200)]
ConstraintText = Annotated[str, AfterValidator(_readable)]
Seconds = Annotated[float, BeforeValidator(_seconds)]


class Budget(_Part):
    """How much the job may spend. May be raised on a live or finished job; not part of the spec's hash."""

    evaluations: int = Field(200, ge=1, le=10_000_000, description="Architectures evaluated in the search.")
    epochs: int = Field(
        30, ge=1, le=100_000, description="Passes over the training data of the supernet; fixed in steps at preflight."
    )
    wall_time: Seconds | None = Field(
        None,
        gt=0,
        description="The whole time of the job (10m, 2h ...), from its first lease to the delivered model, without "
        "pauses. Epochs, evaluations, audit and final training follow from it; what is given of these is the most.",
    )


class Training(_Part):
    """How one stand-alone network is trained."""

    epochs: int = Field(ge=1, le=100_000, description="Passes over the training data.")
    batch_size: int = Field(64, ge=2, le=65_536, description="Images per step: two at least, for batch normalisation.")
    learning_rate: float = Field(0.01, gt=0, le=10, description="Peak rate of the one-cycle schedule (AdamW).")
    weight_decay: float = Field(0.01, ge=0, le=10, description="Decoupled weight decay.")
    label_smoothing: float = Field(0.05, ge=0, lt=1, description="Mass spread over the other classes.")
    augment: bool = Field(True, description="Random shifts, and flips where the data set allows them.")


class Supernet(_Part):
    """How the shared weights come to be: trained by a recipe, or taken from another job."""

    recipe: Ref = Field(PluginRef(name="pada"), description="Training recipe.")
    batch_size: int = Field(64, ge=2, le=65_536, description="Images per step: two at least, for batch normalisation.")
    learning_rate: float = Field(0.05, gt=0, le=10, description="Peak rate of SGD, cosine to zero.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD.")
    weight_decay: float = Field(2.5e-4, ge=0, le=1, description="L2 penalty, on the parameters of the path.")
    clip_norm: float = Field(5.0, gt=0, le=1e6, description="Largest norm of the path's gradient.")
    augment: bool = Field(True, description="Random shifts, and flips where the data set allows them.")
    diagnosis: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Largest share of the gradients that is spent on measuring their variance; 0: it is not measured.",
    )
    from_job: str | None = Field(
        None, alias="from", description="Search the supernet of this finished job again, without training."
    )

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class Scoring(_Part):
    """Scores of untrained networks: what searchers may rank by before anything is measured."""

    proxies: tuple[Ref, ...] = Field(
        (), max_length=64, description="Zero-cost proxies that every candidate is scored by; none: costs alone rank."
    )
    images: int = Field(32, ge=2, le=8192, description="Training images of a proxy's batch.")
    reduced: bool = Field(False, description="Score smaller networks of the same cells or layers, which is cheaper.")
    pool: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="Uniform architectures that all workers score before the search, for searchers that choose from "
        "a pool; none: such searchers draw their own.",
    )


class Audit(_Part):
    """Really trained networks that say how far the ranking can be trusted. They never enter the front."""

    networks: int = Field(30, ge=0, le=10_000, description="Half near the front, half of the whole space.")
    evaluator: Ref | None = Field(
        None, description="What measures them, such as a table; none: each is trained alone, as `training` says."
    )
    training: Training = Field(Training(epochs=5), description="Short training, the same for all.")


class Deliver(_Part):
    """What comes out: networks of the front, trained, checked and exported."""

    networks: int = Field(1, ge=0, le=100, description="Points of the front to deliver, spread over it; best first.")
    contenders: int = Field(
        4,
        ge=1,
        le=64,
        description="Networks that contend for each place: trained in rungs on train alone and compared on valid, "
        "which takes at most as many epochs as the final training; 1: none is compared.",
    )
    training: Training = Field(Training(epochs=60), description="Final training on train + valid.")
    formats: tuple[ExportFormat, ...] = Field(("onnx", "torch_export", "pytorch"), description="Export formats.")


class PlanSource(_Part):
    """Whose plan is done again."""

    from_job: str = Field(
        alias="from", min_length=1, max_length=200, description="A finished job; what it really did is done again."
    )

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


NUMBERS = {
    "epochs": "budget.epochs",
    "evaluations": "budget.evaluations",
    "audit_networks": "audit.networks",
    "audit_epochs": "audit.training.epochs",
    "delivery_epochs": "deliver.training.epochs",
}
"""The numbers of a job by what a plan calls them, and where a spec gives them."""


def _searcher_for(objectives: Mapping[str, Direction]) -> PluginRef:
    return PluginRef(name="mo_bo" if len(objectives) > 1 else "gp_its")


class JobSpec(_Part):
    """One search, from data to delivered models.

    >>> JobSpec.from_mapping({"dataset": "digits", "objectives": {"accuracy": "max"}}).searcher.name
    'gp_its'
    """

    name: str = Field("search", min_length=1, max_length=200, description="What people call it.")
    space: Ref = Field(PluginRef(name="nasbench201"), description="Search space.")
    dataset: Ref | None = Field(
        None,
        description="A registered data set by name, or (embedded mode) a plug-in with its path; none where nothing is "
        "trained, as in a search over a table.",
    )
    task: Ref = Field(PluginRef(name="classification"), description="What a batch means.")
    objectives: dict[str, Direction] = Field(
        {"accuracy": "max", "params": "min"}, min_length=1, max_length=8, description="Metric: max or min."
    )
    constraints: tuple[ConstraintText, ...] = Field((), max_length=32, description="Bounds, such as `params <= 200k`.")
    costs: dict[CostName, Ref] = Field(
        default_factory=dict,
        max_length=32,
        description="Costs of your own by the name that objectives and constraints use: "
        "`latency_phone: {name: lookup, config: {path: phone.csv, unit: ms}}`.",
    )
    supernet: Supernet = Field(default_factory=Supernet, description="Shared weights.")
    scoring: Scoring = Field(default_factory=Scoring, description="Scores of untrained networks.")
    evaluator: Ref = Field(PluginRef(name="supernet"), description="What measures a proposed architecture.")
    searcher: Ref = Field(
        default_factory=lambda known: _searcher_for(known.get("objectives", {})),
        description="What proposes architectures; none given: gp_its for one objective, mo_bo for several.",
    )
    batch: int = Field(8, ge=1, le=10_000, description="Architectures proposed and evaluated at a time.")
    budget: Budget = Field(default_factory=Budget, description="What the job may spend.")
    audit: Audit = Field(default_factory=Audit, description="Check of the ranking against trained networks.")
    deliver: Deliver = Field(default_factory=Deliver, description="What comes out.")
    seed: int = Field(0, ge=0, lt=2**32, description="Root of every random stream.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        examples=["cpu", "cuda", "cuda:1"],
        description="auto takes CUDA where there is one.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the device gains by it.")
    reuse: Literal["auto", "never"] = Field(
        "auto",
        description="auto: a supernet that a job before trained from the same settings, data and code is taken over; "
        "never: trained anew. `supernet.from` is not concerned.",
    )
    plan: PlanSource | None = Field(
        None,
        description="Do again what the job `{from: JOB}` really did: its epochs, evaluations, audit and final "
        "training. With the same seed that gives the same result.",
    )
    labels: dict[str, str] = Field(default_factory=dict, max_length=64, description="Free labels to find it by.")

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> JobSpec:
        given = self.supernet.model_copy(update={"from_job": None})
        if self.supernet.from_job and given != Supernet():
            changed = [key for key in Supernet.model_fields if getattr(given, key) != getattr(Supernet(), key)]
            raise ValueError(f"either supernet.from or supernet.{changed[0]}, not both: nothing is trained")
        return self

    def bounds(self) -> tuple[Constraint, ...]:
        """The constraints, read."""
        return tuple(parse_constraint(text) for text in self.constraints)

    def given_numbers(self) -> tuple[str, ...]:
        """Which of `NUMBERS` are given, and not left at their defaults."""
        return tuple(name for name, field in NUMBERS.items() if _is_set(self, field.split(".")))

    def digest(self) -> str:
        """SHA-256 of all but name, labels and budget: what is frozen at admission."""
        return digest_of(self.to_mapping(), without=("name", "labels", "budget"))

    def to_mapping(self, *, only_given: bool = False) -> dict[str, JsonValue]:
        """Plain values, as YAML and JSON hold them; `only_given`: without what was left at its default."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=only_given)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> JobSpec:
        """Check plain values.

        Raises:
            SpecError: with one violation for every field that is wrong.
        """
        found: list[Violation] = []
        try:
            spec = cls.model_validate(mapping)
        except ValidationError as error:
            found = with_places(violations(error, model=cls), mapping, cls())
        fields = {violation.field for violation in found}
        found += [violation for violation in unwritable(mapping) if violation.field not in fields]
        if found:
            raise SpecError(found)
        return spec

    @classmethod
    def from_yaml(cls, path: str | Path) -> JobSpec:
        """Read a YAML file.

        Raises:
            SpecError: the file is missing, is no YAML mapping, names a key twice, or a field is wrong.
        """
        try:
            loaded = read_yaml(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SpecError([Violation("(file)", str(path), f"a readable YAML file ({error})")]) from error
        if not isinstance(loaded, dict):
            raise SpecError([Violation("(file)", str(path), "a YAML mapping, see examples/digits.yaml")])
        return cls.from_mapping(loaded)


def digest_of(mapping: Mapping[str, JsonValue], *, without: tuple[str, ...] = ()) -> str:
    """SHA-256 of a mapping's canonical JSON, less the named keys."""
    kept = {key: value for key, value in mapping.items() if key not in without}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _is_set(part: object, path: Sequence[str]) -> bool:
    if path[0] not in getattr(part, "model_fields_set", ()):
        return False
    return len(path) == 1 or _is_set(getattr(part, path[0]), path[1:])
