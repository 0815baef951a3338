"""Linear regions: into how many pieces a network cuts the lines between images."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pydantic import Field

from predictors.zerocost._proxy import Proxy, Score, properties
from searchspaces import Config, Plugin, ProxyUndefined

if TYPE_CHECKING:
    from torch import Tensor

    from predictors.zerocost._passes import Passes


class LinearRegionsConfig(Config):
    """Settings of `linear_regions`."""

    lines: int = Field(2, ge=1, le=1024, description="Lines, each between two images.")
    points: int = Field(12, ge=2, le=4096, description="Points looked at on each line, its ends included.")


class LinearRegions(Proxy):
    """Mean number of linear regions on a line between two images, counted by changes of activity between its points.

    TE-NAS counts the distinct codes of random inputs, which for networks wider than a few channels is just the number
    of inputs. Along a line every unit that switches ends a region, and they can be counted (Hanin and Rolnick, 2019,
    arXiv 1901.09021); units that switch twice between two points are missed.
    """

    needs = frozenset({"numbers", "no_attention", "batch_norms"})

    def __init__(self, config: LinearRegionsConfig) -> None:
        self.config = config

    def score(self, passes: Passes) -> Score:
        import torch

        from predictors.zerocost._labelled import Rectifications

        images, lines = passes.context.inputs, self.config.lines
        if len(images) < 2 * lines:
            raise ProxyUndefined(f"{lines} lines need {2 * lines} images, there are {len(images)}.")
        starts, ends = images[:lines, None], images[lines : 2 * lines, None]
        along = torch.linspace(0, 1, self.config.points, device=images.device).view(1, -1, *[1] * (images.ndim - 1))
        switches: list[Tensor] = []

        def seen(rectified: Tensor) -> None:
            active = (rectified > 0).reshape(lines, self.config.points, -1)
            switches.append((active[:, 1:] != active[:, :-1]).sum())

        with torch.no_grad(), Rectifications(seen):
            passes.as_initialised()((starts + along * (ends - starts)).flatten(0, 1))
        if not switches:
            raise ProxyUndefined(
                "the network runs no rectification (ReLU and its like) whose activity could be counted."
            )
        return Score(1.0 + float(torch.stack(switches).sum()) / lines)


def _create(config: Config) -> LinearRegions:
    return LinearRegions(cast(LinearRegionsConfig, config))


PLUGIN = Plugin(
    name="linear_regions",
    description="Linear regions on lines between images",
    source="Chen, Gong and Wang (2021), TE-NAS, arXiv 2102.11535; Hanin and Rolnick (2019), arXiv 1901.09021",
    create=_create,
    Config=LinearRegionsConfig,
    flags=properties(data=True, fails="follows the number of rectified units"),
)
