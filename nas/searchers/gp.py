"""Gaussian process with expected improvement, by Optuna."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from nas.resources import Objective
from nas.searchers._optuna import OptunaSearcher
from nas.searchers._warm_up import WARM_UP
from searchspaces import Config, Plugin, SearchSpace


class GpConfig(Config):
    """Settings of `gp`."""

    n_startup_trials: int = Field(
        10, ge=1, le=100_000, json_schema_extra=WARM_UP, description="Random architectures before the model is used."
    )
    fitted: int = Field(
        300,
        ge=16,
        le=2_000,
        description="Most evaluations that a model is fitted on, the front and the newest; time grows with the cube.",
    )


def create(config: GpConfig, space: SearchSpace, objectives: Sequence[Objective]) -> OptunaSearcher:
    """The searcher on this space.

    Matern kernel of smoothness 5/2 with a length for every decision; log expected improvement for one objective, log
    expected hypervolume improvement for several; ordinal decisions are integers, others categories. Conditional
    decisions that some architectures lack are drawn uniformly, the sampler does not model them.
    """
    from optuna.samplers import GPSampler

    def make(seed: int) -> GPSampler:
        startup = config.n_startup_trials
        return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)

    return OptunaSearcher(make, space, objectives, ordinal=True, window=config.fitted)


PLUGIN = Plugin(
    name="gp",
    description="Gaussian process with expected (hypervolume) improvement; for a few hundred evaluations, slow beyond",
    source="Ament et al. (2023), Unexpected Improvements to Expected Improvement, arXiv 2310.20708; Optuna's GPSampler",
    create=create,
    Config=GpConfig,
    flags={"multi_objective": True, "replicates": False},
)
