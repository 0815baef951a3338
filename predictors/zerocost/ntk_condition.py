"""Condition of the neural tangent kernel: how evenly a network can be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pydantic import Field

from predictors.zerocost._proxy import Proxy, Score, finite, properties
from searchspaces import Config, Plugin, ProxyUndefined

if TYPE_CHECKING:
    from predictors.zerocost._passes import Passes


class NtkConditionConfig(Config):
    """Settings of `ntk_condition`."""

    images: int = Field(16, ge=2, le=1024, description="Images that the kernel is taken over.")


class NtkCondition(Proxy):
    """Minus the largest over the smallest eigenvalue of the tangent kernel of the summed logits.

    Every image is normalised by its own statistics, so that its gradient is its own.
    """

    needs = frozenset({"weights"})

    def __init__(self, config: NtkConditionConfig) -> None:
        self.config = config

    def score(self, passes: Passes) -> Score:
        import torch

        from predictors.zerocost._per_sample import gradient_gram

        try:
            gram = gradient_gram(passes.network, passes.context.inputs[: self.config.images])
        except ValueError as error:  # of torch, which cannot normalise one value
            raise ProxyUndefined(f"a sample alone cannot be normalised: {error}.") from error
        eigenvalues = torch.linalg.eigvalsh(gram.double().cpu())
        if not bool(eigenvalues[0] > 0):
            raise ProxyUndefined("the tangent kernel is singular; give fewer images.")
        return Score(finite(-eigenvalues[-1] / eigenvalues[0], "the tangent kernel is not finite"))


def _create(config: Config) -> NtkCondition:
    return NtkCondition(cast(NtkConditionConfig, config))


PLUGIN = Plugin(
    name="ntk_condition",
    description="Condition number of the neural tangent kernel, negative",
    source="Chen, Gong and Wang (2021), TE-NAS, arXiv 2102.11535",
    create=_create,
    Config=NtkConditionConfig,
    flags=properties(data=True, fails="weak on NAS-Bench-201"),
)
