"""SWAP: how many different patterns of activity the units of a network show over a few images."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pydantic import Field

from predictors.zerocost._proxy import Proxy, Score, properties
from searchspaces import Config, Plugin, ProxyUndefined

if TYPE_CHECKING:
    from torch import Tensor

    from predictors.zerocost._passes import Passes


_COUNTED = 20  # images whose patterns are counted in a table: beyond, sorting takes less memory


class SwapConfig(Config):
    """Settings of `swap`; the published one repeats 32 times."""

    images: int = Field(16, ge=2, le=52, description="Images that patterns are taken over.")
    repeats: int = Field(2, ge=1, le=1024, description="Draws of Gaussian weights; the score is their mean.")


class Swap(Proxy):
    """Number of distinct rows of (units x images), 1 where a rectification is on; weights are standard normal."""

    needs = frozenset({"weights"})

    def __init__(self, config: SwapConfig) -> None:
        self.config = config

    def score(self, passes: Passes) -> Score:
        counts = [self._count(passes, repeat) for repeat in range(self.config.repeats)]
        return Score(sum(counts) / len(counts))

    def _count(self, passes: Passes, repeat: int) -> int:
        import torch

        from predictors.zerocost._labelled import Rectifications, activity
        from predictors.zerocost._networks import gaussian_weights

        images = passes.context.inputs[: self.config.images]
        dtype = torch.float32 if len(images) <= 24 else torch.float64  # which add these powers up exactly
        bits = 2.0 ** torch.arange(len(images), device=images.device, dtype=dtype)
        network = gaussian_weights(passes.to_reinitialise(), passes.generator(f"swap {repeat}"))
        patterns: list[Tensor] = []

        def seen(rectified: Tensor) -> None:
            active = activity(rectified).to(dtype)  # images x units
            patterns.append(bits @ active)

        with torch.no_grad(), Rectifications(seen):
            network(images)
        if not patterns:
            raise ProxyUndefined(
                "the network runs no rectification (ReLU and its like) whose activity could be counted."
            )
        codes = torch.cat(patterns).long()
        if len(images) > _COUNTED:
            return len(torch.unique(codes))
        return int(torch.bincount(codes, minlength=1).count_nonzero())


def _create(config: Config) -> Swap:
    return Swap(cast(SwapConfig, config))


PLUGIN = Plugin(
    name="swap",
    description="Distinct patterns of activity of units over a few images",
    source="Peng et al. (2024), SWAP-NAS, arXiv 2403.04161",
    create=_create,
    Config=SwapConfig,
    flags=properties(data=True, fails="saturates for wide networks and few images"),
)
