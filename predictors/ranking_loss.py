"""A rank correlation that gradients flow through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Pairs = Literal["sign", "soft"]


def diff_kendall(predicted: Tensor, truth: Tensor, *, alpha: float = 0.5, pairs: Pairs = "soft") -> Tensor:
    """A smooth Kendall tau, in [-1, 1]; a loss is its negative.

    Zheng et al. (2023), DiffKendall: A Novel Approach for Few-Shot Learning with Differentiable Kendall's Rank
    Correlation, NeurIPS, arXiv 2307.15317. Over pairs i < j of n examples

        2 / (n (n - 1)) * sum tanh(alpha (x_i - x_j) / 2) * tanh(alpha (y_i - y_j) / 2)

    Deviations: each pair counts once (the release of ParZC sums over i != j with the same factor, which is twice a
    tau); with `sign` the second factor is the sign of y_i - y_j, so that a pair of close values counts as much as one
    of distant values. For large alpha it is the tau of x and y (tau-a: a tie counts zero).

    Args:
        predicted: `... x n`, n at least 2; gradients flow.
        truth: `... x n`, larger better.
        alpha: steepness, in 1 / units of the values.

    Returns:
        `...`: one tau per row.
    """
    import torch

    n = predicted.shape[-1]
    gaps = truth.unsqueeze(-1) - truth.unsqueeze(-2)  # ... x n x n
    wanted = torch.sign(gaps) if pairs == "sign" else torch.tanh(alpha / 2 * gaps)
    said = torch.tanh(alpha / 2 * (predicted.unsqueeze(-1) - predicted.unsqueeze(-2)))
    return (said * wanted).sum(dim=(-1, -2)) / (n * (n - 1))
