"""The trust report, as the service answers it and the store keeps it: part of the output contract."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Resource(BaseModel):
    """A frozen value; unknown keys are ignored, so that an older client reads a newer service."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class TopNetworks(Resource):
    """What the networks that a ranker puts first are really worth: what a search with it would deliver."""

    k: int = Field(description="How many of the predicted best.")
    mean: float = Field(description="Their mean true value.")
    best: float = Field(description="The best true value among them.")
    regret: float = Field(description="By how much that falls short of the best there is.")
    beats_random: float | None = Field(None, description="Chance that one of them exceeds a random network.")
    relative_improvement: float | None = Field(
        None, description="By which fraction their mean exceeds that of random networks."
    )


class NearFront(Resource):
    """Agreement of one ranker with really trained networks among those near the front."""

    networks: int = Field(description="How many of the audited networks were drawn from there.")
    kendall: float | None
    interval: tuple[float, float] | None = Field(None, description="95 % bootstrap interval of kendall.")


class Correlation(Resource):
    """Agreement of one ranker with really trained networks (or a table), in the report's population."""

    ranker: str
    kendall: float | None
    interval: tuple[float, float] | None = Field(None, description="95 % bootstrap interval of kendall.")
    near_front: NearFront | None = Field(None, description="The same among the networks near the front.")
    sparse_kendall: float | None = Field(None, description="kendall with true values rounded to 0.1 %.")
    spearman: float | None = None
    kendall_top_decile: float | None = Field(
        None, description="kendall among the truly best tenth; None for fewer than 100 networks."
    )
    partial_kendall: float | None = Field(None, description="kendall given live-edge FLOPs: what is beyond them.")
    partial_interval: tuple[float, float] | None = Field(None, description="95 % interval of partial_kendall.")
    top: TopNetworks | None = Field(None, description="What its best are worth, among all audited networks.")
    is_free: bool = Field(False, description="A baseline that needs no training: a cost, or chance.")


PopulationName = Literal["space", "near_front", "audited"]


class Population(Resource):
    """Of which architectures a figure is, and how many of them were audited."""

    name: PopulationName = Field(description="audited: just those, as it is not known how they were drawn.")
    networks: int = Field(description="How many of the audited networks were drawn from there.")
    rule: str = Field(description="Which architectures these are, and how some were drawn.")


class Comparison(Resource):
    """The job's ranker against one free baseline, on the same networks."""

    ranker: str
    baseline: str
    population: PopulationName = Field("audited", description="Of which architectures.")
    ranker_kendall: float | None = Field(None, description="kendall of the ranker there.")
    baseline_kendall: float | None = Field(None, description="kendall of the baseline there.")
    difference: float = Field(description="kendall of the ranker less that of the baseline.")
    interval: tuple[float, float] | None = Field(None, description="95 % paired bootstrap interval of the difference.")

    @property
    def outcome(self) -> Literal["better", "worse", "undecided"]:
        """Whether the interval lies above zero, below it, or holds it."""
        if self.interval is None:
            return "undecided"
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else "undecided"


class Provenance(Resource):
    """How the values behind a trust report came about: reports that differ in it are not to be compared."""

    truth: str = Field(description="What the rankers are held against.")
    rule: str = Field(description="By which rule the networks were chosen.")
    populations: dict[PopulationName, str] = Field(
        default_factory=dict, description="Which architectures each population holds, and how some were drawn."
    )
    context: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="Of the ranker's values: normalisation (bn), eval_batch, split, device ..."
    )
    wall_seconds: float | None = Field(None, description="Wall time of the job's work so far.")
    passes: dict[str, int] = Field(
        default_factory=dict, description="What was run: training steps, passes over a split, epochs of the audit."
    )


class TrustReport(Resource):
    """How far the ranking of a job can be trusted."""

    audited: int = Field(description="Number of networks with a true value.")
    verdict: str = Field(description="In words: too few, better or worse than the free baselines.")
    populations: tuple[Population, ...] = Field(
        (), description="What the figures of `rankers` are of (the first), and what `near_front` is."
    )
    truth: str = Field(description="What the rankers are held against.")
    rankers: tuple[Correlation, ...]
    comparisons: tuple[Comparison, ...] = Field((), description="With live-edge FLOPs, and the best free baseline.")
    best: str | None = Field(
        None, description="The ranker whose interval lies highest: what is best trusted here, free or not."
    )
    notes: tuple[str, ...] = Field((), description="What is missing, and why.")
    provenance: Provenance | None = None
