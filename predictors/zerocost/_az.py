"""The pass that AZ-NAS takes its parts from: random input through random weights, block by block.

Lee and Ham (2024), AZ-NAS, arXiv 2403.19232. As in the released code, what goes into the first block counts as what a
block before it puts out. Deviation: 32 random inputs for 64, at half the cost; on 60 cells of NAS-Bench-201 the parts
rank by .999, .998 and .993 (Spearman; expressivity, progressivity, trainability) as with 64.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from predictors.zerocost._networks import kaiming_weights, watched
from predictors.zerocost._passes import Passes
from searchspaces import ProxyUndefined

_IMAGES = 32
_SMALL = 1e-6


def entropies(passes: Passes) -> list[float]:
    """Of every block that ran, the entropy of the spectrum of its features."""
    return passes.shared("az_nas entropies", lambda: [_entropy(feature.detach()) for feature in _features(passes)])


def trainabilities(passes: Passes) -> list[float]:
    """Of every block 2 - s - 1 / (s + 1e-6), s the largest singular value of its Jacobian.

    Raises:
        ProxyUndefined: a block has the identity for a Jacobian, for which the release says minus infinity.
    """
    return passes.shared("az_nas trainabilities", lambda: _trainabilities(passes))


def _features(passes: Passes) -> list[Tensor]:
    """What goes into the first block, then what all put out, for standard normal inputs and Kaiming's weights."""
    return passes.shared("az_nas features", lambda: _run(passes))


def _run(passes: Passes) -> list[Tensor]:
    # a copy of its own: the graph is kept, which another proxy's new weights in a shared one would make useless
    network = kaiming_weights(passes.copy(), passes.generator("az_nas weights"))
    features: list[Tensor] = []
    inputs = passes.noise("az_nas input", _IMAGES, *passes.context.example.shape[1:])
    with torch.enable_grad(), watched(passes.blocks(network), features.append, and_before=True):
        network(inputs)
    if not features:
        raise ProxyUndefined("the network runs no block.")
    if any(feature.ndim != 4 for feature in features):
        raise ProxyUndefined("its formula is one of blocks that put out channels x height x width, and others do not.")
    return features[not features[0].requires_grad :]  # without a stem it is the input, of which nothing is asked


def _trainabilities(passes: Passes) -> list[float]:
    generator, features = passes.generator("az_nas probe"), _features(passes)
    most = max(feature.numel() for feature in features)
    signs = torch.randint(0, 2, (most,), generator=generator, dtype=torch.int8) * 2 - 1
    probes = signs.to(features[0])  # drawn once: every block has its own Jacobian
    return [_trainability(before, after, probes) for before, after in itertools.pairwise(features)]


def _entropy(feature: Tensor) -> float:
    """Entropy of the normalised spectrum of the covariance of channels, `batch x channels x height x width`."""
    rows = feature.transpose(0, 1).flatten(1)
    rows = rows - rows.mean(1, keepdim=True)
    spectrum = torch.linalg.eigvalsh((rows @ rows.T / rows.shape[1]).double()).clamp(min=0)
    shares = spectrum / spectrum.sum().clamp(min=1e-300)
    return float(-(shares * (shares + 1e-8).log()).sum())


def _trainability(before: Tensor, after: Tensor, probes: Tensor) -> float:
    """2 - s - 1 / (s + 1e-6), s the largest singular value of the block's Jacobian between channels.

    Estimated by a probe of random signs; where a block halves the image, each pixel of a patch is a channel.
    """
    probe = probes[: after.numel()].view_as(after)
    given = torch.autograd.grad(after, before, probe, retain_graph=True, allow_unused=True)[0]
    if given is None:
        raise ProxyUndefined("a block's output does not depend on the block before it.")
    if given.shape == probe.shape and torch.equal(given, probe):
        raise ProxyUndefined(
            "a block hands every gradient on as it is: the published score is minus infinity, the network ranks last."
        )
    given = _patches(given, after)
    left, right = (g.transpose(0, 1).flatten(1) for g in (given, probe))
    largest = float(torch.linalg.matrix_norm(left @ right.T / right.shape[1], 2))
    return 2.0 - largest - 1.0 / (largest + _SMALL)


def _patches(given: Tensor, after: Tensor) -> Tensor:
    """The gradient with each patch of pixels that became one as channels of that one; where `after` is smaller.

    Sizes that do not divide have border patches that are cut off: what is missing there has no gradient.
    """
    (height, width), (rows, columns) = given.shape[2:], after.shape[2:]
    if rows > height or columns > width:
        raise ProxyUndefined("a block enlarges images; the formula knows blocks that keep or shrink them.")
    shrinks = max(-(-height // rows), -(-width // columns))
    if shrinks == 1:
        return given
    return F.pixel_unshuffle(F.pad(given, (0, columns * shrinks - width, 0, rows * shrinks - height)), shrinks)
