"""How noisy a supernet's gradient is: the part that comes from the data and the part that comes from the paths."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nas.streams import stream
from nas.training._device import is_out_of_memory
from searchspaces import Supernet

Gradient = Sequence[Tensor | None]
"""One tensor for every parameter of the supernet; None, which is zero, for those outside the path."""

_FEWEST, _MOST = 3, 5  # pairs of steps at an epoch's end: below there is no error to speak of, above it hardly shrinks
_GRADIENTS = 3  # of each pair


@dataclass(frozen=True)
class Variance:
    """Variance of a gradient, summed over all weights (the trace of its covariance), and what it is held against.

    Attributes:
        variance: `E ||g - E g||^2`, squared units of the gradient.
        variance_error: standard error of it.
        noise_share: `variance / E ||g||^2`: 0 when every draw gives the same gradient, 1 when their mean is zero.
        noise_share_error: standard error of it, of first order.
    """

    variance: float
    variance_error: float
    noise_share: float
    noise_share_error: float

    @classmethod
    def of(cls, variances: npt.NDArray[np.float64], squares: npt.NDArray[np.float64]) -> Variance:
        """From independent unbiased estimates of the variance and of the mean square, one of each per pair of steps."""
        mean, square, root = variances.mean(), squares.mean(), np.sqrt(len(variances))
        share = mean / square if square > 0 else 0.0
        deviations = (variances - share * squares) / square if square > 0 else np.zeros(len(squares))
        errors = (variances.std(ddof=1) / root, deviations.std(ddof=1) / root)
        return cls(float(mean), float(errors[0]), float(share), float(errors[1]))


@dataclass(frozen=True)
class GradientVariance:
    """Variance of a step's gradient at the weights of an epoch's end.

    Let g(a, b) be the gradient, with respect to all shared weights, of what a step with the children a and the batch b
    minimises: the recipe's losses, re-weighted as it re-weights them, summed over the children, before clipping. Both
    are taken from steps of the epoch, drawn without replacement: so they follow the recipe's own distributions,
    augmentation included. Each pair of steps (a, b), (a', b') gives

        data:  ||g(a, b) - g(a, b')||^2 / 2, unbiased for E_a Var_b g;
        paths: ||g(a, b) - g(a', b)||^2 / 2, unbiased for E_b Var_a g;

    and the mean square of those three gradients for `E ||g||^2`. Estimates of different pairs are independent (but for
    an epoch's batches having no sample in common when it is a shuffle), so the standard error is that of their mean.

    Attributes:
        pairs: how many pairs of steps were compared; three gradients each.
        seconds: what that took.
    """

    data: Variance
    paths: Variance
    pairs: int
    seconds: float


def num_pairs(epoch: int, num_steps: int, share: float) -> int:
    """How many pairs of steps to compare at the end of `epoch` (from 0) of `num_steps` steps; 0 for none.

    At most `share` of all gradients of the training up to here are spent: five pairs at the end of every epoch where an
    epoch is long, else three at the end of some.
    """
    affordable = share * num_steps / _GRADIENTS
    if affordable >= _FEWEST:
        return min(_MOST, int(affordable), num_steps // 2)
    is_due = int((epoch + 1) * affordable / _FEWEST) > int(epoch * affordable / _FEWEST)
    return _FEWEST if is_due and num_steps >= 2 * _FEWEST else 0


def gradient_variance(
    supernet: Supernet, backward: Callable[[int, int], None], *, num_steps: int, pairs: int, seed: int, epoch: int
) -> GradientVariance | None:
    """Measure it. Weights, gradients, buffers and random streams are left as they were found.

    Args:
        backward: adds to `.grad` the gradient of the children of one step of the epoch on the batch of another, both
            from 0 to `num_steps` - 1.

    Returns:
        None when a gradient is not finite (the training is about to say so itself), and when three of them do not fit
        into the memory beside the training.
    """
    began = time.monotonic()
    drawn = stream(seed, "diagnosis", epoch).permutation(num_steps)[: 2 * pairs].reshape(pairs, 2)
    rows: list[Tensor] = []
    try:
        with _put_back(supernet):
            rows = [_compared(supernet, backward, one, other) for one, other in drawn.tolist()]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    data, paths, square = torch.stack(rows).cpu().numpy().T  # each: pairs
    if not np.isfinite([data, paths, square]).all():
        return None
    seconds = time.monotonic() - began
    return GradientVariance(Variance.of(data, square), Variance.of(paths, square), pairs, seconds)


def _compared(supernet: Supernet, backward: Callable[[int, int], None], one: int, other: int) -> Tensor:
    """Estimates of one pair of steps, 3 fp64 on the device: variance from data, variance from paths, mean square."""

    def gradient(paths: int, data: int) -> Gradient:
        for parameter in supernet.parameters():
            parameter.grad = None
        backward(paths, data)
        return [parameter.grad for parameter in supernet.parameters()]

    here, other_data, other_paths = gradient(one, one), gradient(one, other), gradient(other, one)
    square = torch.stack([_square(g) for g in (here, other_data, other_paths)]).mean()
    return torch.stack([*(_square(_difference(here, g)) / 2 for g in (other_data, other_paths)), square])


@contextmanager
def _put_back(supernet: Supernet) -> Iterator[None]:
    """Inside, gradients and buffers may change; afterwards they are what they were, bit for bit."""
    gradients = [(parameter, parameter.grad) for parameter in supernet.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in supernet.buffers()]
    try:
        yield
    finally:
        for parameter, kept in gradients:
            parameter.grad = kept
        for buffer, copy in buffers:
            buffer.copy_(copy)


def _difference(first: Gradient, second: Gradient) -> Gradient:
    return [one if two is None else -two if one is None else one - two for one, two in zip(first, second, strict=True)]


def _square(gradient: Gradient) -> Tensor:
    """Squared norm, 0-dim fp64 on the device."""
    held = [part for part in gradient if part is not None]
    return torch.stack(torch._foreach_norm(held)).double().square().sum()  # a classifier is in every path
