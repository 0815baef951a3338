"""Tree-structured Parzen estimator, by Optuna."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from nas.resources import Objective
from nas.searchers._optuna import OptunaSearcher
from nas.searchers._warm_up import WARM_UP
from searchspaces import Config, Plugin, SearchSpace


class TpeConfig(Config):
    """Settings of `tpe`; the defaults are Optuna's."""

    n_startup_trials: int = Field(
        10, ge=1, le=100_000, json_schema_extra=WARM_UP, description="Random architectures before the model is used."
    )
    n_ei_candidates: int = Field(24, ge=1, le=100_000, description="Draws of which the most promising is proposed.")
    multivariate: bool | None = Field(
        None, description="Whether decisions are modelled together; None: for one objective yes, for several no."
    )
    constant_liar: bool = Field(True, description="Whether evaluations under way count as bad, to spread a batch.")


def create(config: TpeConfig, space: SearchSpace, objectives: Sequence[Objective]) -> OptunaSearcher:
    """The searcher on this space."""
    from optuna.samplers import TPESampler

    return OptunaSearcher(lambda seed: TPESampler(seed=seed, **config.model_dump()), space, objectives)


PLUGIN = Plugin(
    name="tpe",
    description="Tree-structured Parzen estimator: draws where good architectures are dense and bad ones are not",
    source="Bergstra, Bardenet, Bengio and Kegl (2011), Algorithms for Hyper-Parameter Optimization; "
    "Ozaki et al. (2020), Multiobjective TPE; Optuna's TPESampler",
    create=create,
    Config=TpeConfig,
    flags={"multi_objective": True, "replicates": False},
)
