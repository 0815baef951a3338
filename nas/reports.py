"""What a job says of its networks: how far its ranking can be trusted, what it puts first; and of what it does.

As the service answers it and the store keeps it: part of the output contract.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from nas.spec import Direction, Level


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


class Estimate(Resource):
    """What one candidate is believed to be worth, from all there is."""

    digest: str
    text: str
    number: int
    mean: float = Field(description="Expected value of the choice's metric.")
    std: float | None = Field(None, description="Its standard deviation; None where nothing says how sure it is.")
    basis: Literal["audited", "predicted", "measured", "unchecked"] = Field(
        description="Audited: trained for real. Predicted: by a ranking that the audit bears out. Measured: what the "
        "search itself measured of it. Unchecked: that, by a ranking that nothing was held against."
    )
    on_front: bool = Field(False, description="No other candidate is better in every objective, by this evidence.")
    values: dict[str, float] = Field(default_factory=dict, description="The other objectives: `metric@level` -> value.")


class Choice(Resource):
    """Which candidates a job puts first, and by what evidence."""

    metric: str = Field(
        description="What the estimates are of: the first objective that is no cost, or what audits it."
    )
    level: Level
    direction: Direction
    ranker: str | None = Field(None, description="What ranks the candidates that were not audited.")
    explained: float | None = Field(None, description="Share of the audited variance that the ranker explains.")
    audited: int = Field(0, description="Number of audited networks behind the estimates.")
    reason: str = Field(description="What chose, in words.")
    warning: str | None = Field(None, description="Why that is not to be trusted; None where it is.")
    estimates: tuple[Estimate, ...] = Field(
        description="Best first: the front by this evidence, the audited candidates, and the most promising others."
    )
    contests: tuple[tuple[str, ...], ...] = Field(
        (), description="For each network to deliver, the digests that are trained in rungs; the point itself first."
    )

    @property
    def best(self) -> Estimate:
        """The feasible candidate with the best expected value."""
        return self.estimates[0]


class Contender(Resource):
    """A network that was trained in rungs to be delivered, on train alone, and what it reached on valid."""

    digest: str
    text: str
    epochs: int = Field(description="Length of its longest rung.")
    value: float | None = Field(description="What it measured there; None where its training failed.")
    mean: float | None = Field(None, description="Expected value with all evidence; None unless it ran the last rung.")
    won: bool = False


class Speeds(Resource):
    """Seconds that the parts of a job take where it runs, as they were measured; 0 where a part costs nothing."""

    supernet_epoch: float = 0.0
    evaluation: float = 0.0
    audit_epoch: float = Field(0.0, description="Of one network over the train split.")
    audit_network: float = Field(0.0, description="Of one network, whatever its epochs.")
    delivery_epoch: float = Field(0.0, description="Of the final training, with its share of the contest before it.")
    delivery: float = Field(0.0, description="Of one delivered network, whatever its epochs: export and checks.")


class Plan(Resource):
    """How much of everything a job does: as planned while it runs, as it was done at its end."""

    promises: Literal["time", "numbers"] = Field(
        "numbers", description="time: the numbers follow from `budget.wall_time`; numbers: they are those of the spec."
    )
    given: tuple[str, ...] = Field((), description="The numbers that the spec gives, which are never exceeded.")
    epochs: int | None = Field(None, description="Of the supernet.")
    evaluations: int | None = None
    audit_networks: int | None = None
    audit_epochs: int | None = None
    delivery_epochs: int | None = Field(None, description="Of the final training; its contest is planned by it.")
    final_epochs: int | None = Field(None, description="Of the final training as it was, by the time left after that.")
    contenders: int | None = Field(None, description="Networks that contend for each place of the delivery.")
    contested: dict[str, int] = Field(
        default_factory=dict, description="By the unit that delivers: trainings of its contest, over all its rungs."
    )
    seconds: dict[str, float] = Field(default_factory=dict, description="Expected of each stage that is left.")
    pace: float = Field(1.0, description="What training took, over what preflight measured.")
    notes: tuple[str, ...] = Field((), description="What was left out or made shorter, and why.")
    proposals: int | None = Field(None, description="Architectures that the searcher proposed.")
    audited: tuple[str, ...] = Field((), description="The architectures that the audit measured.")
    threads: int | None = None
    precision: Literal["fp32", "bf16"] | None = None
    fixed: bool = Field(False, description="Whether it is the plan of another job, which is done again as it was.")
    extended: bool = Field(
        False, description="Whether the search went on after its end, for a raised budget; then it is not done again."
    )
