"""NSGA-III, by Optuna."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from nas.resources import Objective
from nas.searchers._optuna import OptunaSearcher, experimental
from nas.searchers._warm_up import WARM_UP
from searchspaces import Config, Plugin, SearchSpace


class Nsga3Config(Config):
    """Settings of `nsga3`; Optuna's defaults, but a smaller population, as for `nsga2`."""

    population_size: int = Field(
        10,
        ge=2,
        le=10_000,
        json_schema_extra=WARM_UP,
        description="Evaluated architectures in a generation; few suit a few hundred evaluations.",
    )
    mutation_prob: float | None = Field(
        None, ge=0, le=1, description="Chance that a decision is drawn anew; None: one over the number of decisions."
    )
    crossover_prob: float = Field(0.9, ge=0, le=1, description="Chance that a child has two parents.")
    swapping_prob: float = Field(0.5, ge=0, le=1, description="Chance that a decision comes from the second parent.")
    dividing_parameter: int = Field(
        3, ge=1, le=50, description="Steps between two corners of the plane on which the reference points lie."
    )


def create(config: Nsga3Config, space: SearchSpace, objectives: Sequence[Objective]) -> OptunaSearcher:
    """The searcher on this space."""
    from optuna.samplers import NSGAIIISampler

    def make(seed: int) -> NSGAIIISampler:
        with experimental():
            return NSGAIIISampler(seed=seed, **config.model_dump())

    return OptunaSearcher(make, space, objectives)


PLUGIN = Plugin(
    name="nsga3",
    description="NSGA-III: nsga2 whose survivors lie near evenly spread directions; for three objectives or more",
    source="Deb and Jain (2014), An Evolutionary Many-Objective Optimization Algorithm Using Reference-Point-Based "
    "Nondominated Sorting; Optuna's NSGAIIISampler",
    create=create,
    Config=Nsga3Config,
    flags={"multi_objective": True, "replicates": False},
)
