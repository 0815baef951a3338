"""PA&DA: paths and training samples drawn by importance.

Lu et al. (2023), PA&DA: Jointly Sampling PAth and DAta for Consistent NAS, CVPR, arXiv 2302.14772. One path per step,
its options drawn in proportion to the norm of their gradient, and samples in proportion to a bound of theirs
(Katharopoulos and Fleuret, 2018, arXiv 1803.00942). Both distributions start uniform and move towards importance over
the epochs.

Deviations, each a setting, and all of them undone by `released: true`: norms are read before the gradient is clipped,
and averaged truly over the epoch; paths keep a share of uniform to the end, so that options without weights, which have
no norm, never starve; drawn samples are re-weighted, so that the batch is an unbiased estimate of the whole, at less
variance than uniform draws; a sample or an option that was not drawn keeps its norm; an option that cannot reach the
output has no norm rather than 0; idle weights stand still (they moved in the release because its framework left zeros
in their gradients). One is left: the second epoch is a shuffle too, which the release draws with replacement.

The release does not re-weight losses, so that it trains on hard samples. Paths are not re-weighted here: training
convolutions more often, and more so towards the end, is what raises the rank correlation (see
`benchmarks.supernet_rank` and its control with fixed probabilities). Exact weights of paths are products over decisions
and grow beyond use, 1/(1 - path_cap) to the number of decisions; `clipped` cuts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from nas.training import DataSampler, PathSampler, Recipe, Reweighting, Setting

RELEASED: Mapping[str, object] = {
    "path_importance": True,
    "data_importance": True,
    "path_schedule": "linear",
    "data_schedule": "linear",
    "path_cap": 1.0,
    "data_cap": 1.0,
    "path_distribution": "shared",
    "memory": "half_mean",
    "norms": "after_clip",
    "parameter_free": "zero",
    "dead": "zero",
    "undrawn": "forget",
    "path_reweighting": "none",
    "data_reweighting": "none",
    "idle": "decay",
}


class PADAConfig(Config):
    """Settings of `pada`."""

    released: bool = Field(
        False, strict=True, description="As the published code does it; settings that say otherwise are refused."
    )
    path_importance: bool = Field(True, description="Draw options by importance; otherwise uniformly.")
    data_importance: bool = Field(True, description="Draw samples by importance; otherwise each once per epoch.")
    path_schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="How the share of importance among options grows over the epochs; constant: the cap."
    )
    data_schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="How the share of importance among samples grows over the epochs; constant: the cap."
    )
    path_cap: float = Field(
        0.95, ge=0, le=1, description="Largest share of importance in the distribution of options; the rest is uniform."
    )
    data_cap: float = Field(
        0.9, ge=0, le=1, description="Largest share of importance in the distribution of samples; the rest is uniform."
    )
    path_distribution: Literal["shared", "per_decision"] = Field(
        "shared", description="One distribution for all decisions with the same options, or one for each decision."
    )
    memory: Literal["mean", "half_mean"] = Field(
        "mean", description="How norms are averaged over an epoch: truly, or halving what was before at each new one."
    )
    norms: Literal["before_clip", "after_clip"] = Field(
        "before_clip", description="Whether options are judged by the step's gradient before or after it is clipped."
    )
    parameter_free: Literal["mean", "zero", "output"] = Field(
        "zero",
        description="Norm of options without weights: zero, the mean of the others', or that mean times how their "
        "output's gradient compares (slower: networks then run plain operations).",
    )
    dead: Literal["skip", "zero"] = Field(
        "skip",
        description="Drawn options that cannot reach the output: no observation, or norm zero in the mean over the "
        "decisions that took the option, unless all of these are dead.",
    )
    undrawn: Literal["keep", "forget"] = Field(
        "keep", description="Norm of what an epoch left out: the last one (of samples, moving to the mean), or zero."
    )
    undrawn_decay: float = Field(
        0.05, ge=0, le=1, description="With `keep`: how far a sample's last norm moves to the mean per epoch."
    )
    path_reweighting: Literal["none", "exact", "clipped"] = Field(
        "none",
        description="Weight of a path's loss: 1, the product of (1/K)/q over its decisions, or that with factors and "
        "product at most `largest_path_weight`.",
    )
    data_reweighting: Literal["none", "exact", "clipped"] = Field(
        "exact", description="Weight of a drawn sample's loss: 1, 1/(Np), or that but at most `largest_data_weight`."
    )
    largest_path_weight: float = Field(3.0, gt=0, le=1e6, description="Where `clipped` cuts the weights of paths.")
    largest_data_weight: float = Field(3.0, gt=0, le=1e6, description="Where `clipped` cuts the weights of samples.")
    idle: Literal["freeze", "decay"] = Field(
        "freeze", description="Weights outside the path: left alone, or moved by momentum and weight decay."
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_released(cls, given: object) -> object:
        if isinstance(given, Mapping) and given.get("released") is True:
            return {**RELEASED, **given}
        return given

    @field_validator(*RELEASED)
    @classmethod
    def _agrees_with_released(cls, value: object, info: ValidationInfo) -> object:
        released = RELEASED[str(info.field_name)]
        if info.data.get("released") and value != released:
            raise ValueError(f"{released!r}, which `released: true` stands for, or `released: false`")
        return value


def create(config: PADAConfig, setting: Setting) -> Recipe:
    """The recipe for this setting."""
    from nas.training import Accumulate, Recipe

    return Recipe(
        paths=_paths(config, setting),
        data=_data(config, setting),
        reweighting=_reweighting(config),
        gradients=Accumulate(idle=config.idle),
    )


def _paths(config: PADAConfig, setting: Setting) -> PathSampler:
    from nas.training import ImportancePaths, UniformPaths

    if not config.path_importance:
        return UniformPaths(setting)
    return ImportancePaths(
        setting,
        cap=config.path_cap,
        schedule=config.path_schedule,
        shared=config.path_distribution == "shared",
        memory=config.memory,
        parameter_free=config.parameter_free,
        undrawn=config.undrawn,
        after_clip=config.norms == "after_clip",
        count_dead=config.dead == "zero",
        weights=config.path_reweighting,
        largest_weight=config.largest_path_weight,
    )


def _data(config: PADAConfig, setting: Setting) -> DataSampler:
    from nas.training import ImportanceData, ShuffledData

    if not config.data_importance:
        return ShuffledData(setting)
    return ImportanceData(
        setting,
        cap=config.data_cap,
        schedule=config.data_schedule,
        memory=config.memory,
        undrawn=config.undrawn,
        decay=config.undrawn_decay,
    )


def _reweighting(config: PADAConfig) -> Reweighting:
    from nas.training import PlainMean, Unbiased

    if config.data_reweighting == "none":
        return PlainMean()
    return Unbiased(config.largest_data_weight if config.data_reweighting == "clipped" else None)


PLUGIN = Plugin(
    name="pada",
    description="Paths and samples drawn in proportion to their gradient norms",
    source="Lu et al. (2023), PA&DA: Jointly Sampling PAth and DAta for Consistent NAS, CVPR, arXiv 2302.14772",
    create=create,
    Config=PADAConfig,
)
