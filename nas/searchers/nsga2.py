"""NSGA-II, by Optuna."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from nas.resources import Objective
from nas.searchers._optuna import OptunaSearcher
from nas.searchers._warm_up import WARM_UP
from searchspaces import Config, Plugin, SearchSpace


class Nsga2Config(Config):
    """Settings of `nsga2`; Optuna's defaults, but a smaller population.

    At 200 evaluations a population of 10 beats 20 and 50 on six tables (NAS-Bench-201 and NAS-Bench-Macro).
    """

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


def create(config: Nsga2Config, space: SearchSpace, objectives: Sequence[Objective]) -> OptunaSearcher:
    """The searcher on this space."""
    from optuna.samplers import NSGAIISampler

    return OptunaSearcher(lambda seed: NSGAIISampler(seed=seed, **config.model_dump()), space, objectives)


PLUGIN = Plugin(
    name="nsga2",
    description="NSGA-II: crossover and mutation among the best by rank and crowding; for several objectives",
    source="Deb, Pratap, Agarwal and Meyarivan (2002), A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II; "
    "Optuna's NSGAIISampler",
    create=create,
    Config=Nsga2Config,
    flags={"multi_objective": True, "replicates": False},
)
