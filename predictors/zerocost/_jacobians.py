"""How alike a network reacts to two images: correlations of input Jacobians."""

from __future__ import annotations

import torch
from torch import Tensor

from predictors.zerocost._passes import Passes
from searchspaces import ProxyUndefined


def correlations(passes: Passes) -> Tensor:
    """Correlation of each two images' Jacobians of the summed logits, `images x images`, float64, on the CPU.

    Raises:
        ProxyUndefined: some image does not move the logits.
    """
    jacobian = passes.labelled.jacobian
    assert jacobian is not None, "asked for only by proxies that record it"
    return passes.shared("correlations of Jacobians", lambda: _correlations(jacobian))


def _correlations(jacobian: Tensor) -> Tensor:
    rows = jacobian.detach().double().cpu()
    centred = rows - rows.mean(1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    if not bool(torch.isfinite(norms).all()) or bool((norms == 0).any()):
        raise ProxyUndefined("some image does not move the logits: its Jacobian has no variance.")
    unit = centred / norms
    alike: Tensor = unit @ unit.T
    return alike
