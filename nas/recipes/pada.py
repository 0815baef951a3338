"""PA&DA: paths and training samples drawn by importance.

Lu et al. (2023), PA&DA: Jointly Sampling PAth and DAta for Consistent NAS, CVPR, arXiv 2302.14772. One path per step,
its options drawn in proportion to the norm of their gradient, and samples in proportion to a bound of theirs
(Katharopoulos and Fleuret, 2018, arXiv 1803.00942). Both distributions start uniform and move towards importance,
linearly over the epochs.

Deviations, each a setting: norms are read before the gradient is clipped, and averaged truly over the epoch
(`memory: half_mean` is the release); options never stay undrawn for good (`path_cap: 1, parameter_free: zero` is the
release); a sample that was not drawn keeps its norm (`undrawn: forget` is the release); idle weights stand still
(`idle: decay` is what the release's framework did). The release does not re-weight the loss, so that it is biased
towards hard samples; `reweighting: exact` makes the batch an unbiased estimate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from nas.training import DataSampler, PathSampler, Recipe, Reweighting, Setting


class PADAConfig(Config):
    """Settings of `pada`."""

    path_importance: bool = Field(True, description="Draw options by importance; otherwise uniformly.")
    data_importance: bool = Field(True, description="Draw samples by importance; otherwise each once per epoch.")
    path_cap: float = Field(
        0.9, ge=0, le=1, description="Largest share of importance in the distribution of options; the rest is uniform."
    )
    data_cap: float = Field(
        1.0, ge=0, le=1, description="Largest share of importance in the distribution of samples; the rest is uniform."
    )
    path_distribution: Literal["shared", "per_decision"] = Field(
        "shared", description="One distribution for all decisions with the same options, or one for each decision."
    )
    memory: Literal["mean", "half_mean"] = Field(
        "mean", description="How norms are averaged over an epoch: truly, or halving what was before at each new one."
    )
    parameter_free: Literal["mean", "zero"] = Field(
        "mean", description="Norm of options without weights: the mean of the others', or zero."
    )
    undrawn: Literal["keep", "forget"] = Field(
        "keep", description="Norm of samples that an epoch left out: the last one, moving to the mean, or zero."
    )
    undrawn_decay: float = Field(
        0.05, ge=0, le=1, description="With `keep`: how far the last norm moves to the mean per epoch."
    )
    reweighting: Literal["none", "exact", "clipped"] = Field(
        "none", description="Weight of a drawn sample's loss: 1, 1/(Np), or that but at most `largest_weight`."
    )
    largest_weight: float = Field(3.0, gt=0, le=1e6, description="Where `clipped` cuts the weights.")
    idle: Literal["freeze", "decay"] = Field(
        "freeze", description="Weights outside the path: left alone, or moved by momentum and weight decay."
    )


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
        shared=config.path_distribution == "shared",
        memory=config.memory,
        parameter_free=config.parameter_free,
    )


def _data(config: PADAConfig, setting: Setting) -> DataSampler:
    from nas.training import ImportanceData, ShuffledData

    if not config.data_importance:
        return ShuffledData(setting)
    return ImportanceData(
        setting, cap=config.data_cap, memory=config.memory, undrawn=config.undrawn, decay=config.undrawn_decay
    )


def _reweighting(config: PADAConfig) -> Reweighting:
    from nas.training import PlainMean, Unbiased

    if config.reweighting == "none":
        return PlainMean()
    return Unbiased(config.largest_weight if config.reweighting == "clipped" else None)


PLUGIN = Plugin(
    name="pada",
    description="Paths and samples drawn in proportion to their gradient norms",
    source="Lu et al. (2023), PA&DA: Jointly Sampling PAth and DAta for Consistent NAS, CVPR, arXiv 2302.14772",
    create=create,
    Config=PADAConfig,
)
