"""BANANAS: an ensemble of networks over paths and options, Thompson samples, mutants of the best."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from nas.resources import Objective
from nas.scoring import Scores
from nas.searchers._searcher import Searcher
from nas.searchers._warm_up import WARM_UP
from nas.searchers.model_based import ModelBased, ModelBasedConfig
from nas.spec import PluginRef, Ref
from predictors.encoding import SpaceEncoder
from searchspaces import Plugin, SearchSpace


class BananasConfig(ModelBasedConfig):
    """Settings of `bananas`."""

    predictor: Ref = Field(PluginRef(name="mlp_ensemble"), description="The ensemble, or another predictor.")
    labels: int = Field(
        10,
        ge=2,
        le=100_000,
        json_schema_extra=WARM_UP,
        description="Measured architectures from which on the predictor ranks.",
    )
    refit: int = Field(10, ge=1, le=100_000, description="New measurements after which the predictor is fitted again.")
    voted: float = Field(0.0, ge=0, le=1, description="Share of the first proposals that a vote of scores chooses.")
    samples: int = Field(100, ge=0, le=100_000, description="Uniform candidates beside the neighbours of incumbents.")


def create(
    config: BananasConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None = None
) -> Searcher:
    """The searcher on this space: `model_based` on the published encoding and ensemble.

    White, Neiswanger and Savani (2021), BANANAS, AAAI, arXiv 1910.11858: ten random architectures, then after every ten
    an ensemble of five networks, independent Thompson samples, and mutants of the best as candidates. Deviations: the
    options beside the paths, since paths alone are equal for different architectures; 100 uniform candidates beside
    the mutants, which starve in one search of ten; what is asked for between two fits is drawn from the same ensemble.
    """
    return ModelBased(config, space, objectives, scores, SpaceEncoder(space, ("onehot", "paths")))


PLUGIN = Plugin(
    name="bananas",
    description="Ensemble of networks over paths and options, Thompson samples of mutants; any number of objectives",
    source="White, Neiswanger and Savani (2021), BANANAS, arXiv 1910.11858",
    create=create,
    Config=BananasConfig,
    flags={"multi_objective": True, "replicates": False, "ranks": True},
)
