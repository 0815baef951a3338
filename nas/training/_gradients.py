"""Which parameters a step touches, and how long their gradients are. Nothing here waits for the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from searchspaces import Architecture, Choice, Supernet

Pair = tuple[str, str]
"""A decision and one of its options."""


class PathParameters:
    """The parameters of a supernet by the option that owns them: a step then asks only for those of its path."""

    def __init__(self, supernet: Supernet) -> None:
        self.supernet, self._splits = supernet, supernet.splits
        self.of_pair: dict[Pair, list[nn.Parameter]] = {
            (decision.name, option): list(supernet.parameters_of(decision.name, option))
            for decision in supernet.space.decisions
            for option in decision.options
        }
        self.owner: dict[int, Pair] = {id(p): pair for pair, owned in self.of_pair.items() for p in owned}
        self.all = list(supernet.parameters())
        self.shared = [p for p in self.all if id(p) not in self.owner]

    def are_those_of(self, supernet: Supernet) -> bool:
        """Whether they are this supernet's, which has not been split, or taken another structure, since."""
        is_same = self.supernet is supernet and self._splits == supernet.splits
        return is_same and self.all[0] is next(supernet.parameters())

    def of(self, choices: Iterable[Choice]) -> list[nn.Parameter]:
        """All that these choices may touch, each once: the shared ones and their options'; all for a mixture."""
        chosen = list(choices)
        if not all(isinstance(choice, Architecture) for choice in chosen):
            return self.all
        pairs = dict.fromkeys(pair for choice in chosen if isinstance(choice, Architecture) for pair in choice)
        return [*self.shared, *(parameter for pair in pairs for parameter in self.of_pair[pair])]


class LazyPathParameters:
    """The `PathParameters` of whatever supernet is trained now; made when it is first asked for, or another one."""

    def __init__(self) -> None:
        self._held: PathParameters | None = None

    def __call__(self, supernet: Supernet) -> PathParameters:
        if self._held is None or not self._held.are_those_of(supernet):
            self._held = PathParameters(supernet)
        return self._held


@dataclass(frozen=True)
class GradientNorms:
    """The lengths of a step's gradients before clipping, and what clipping multiplies them by.

    Attributes:
        parameters: those with a gradient.
        norms: of each, `len(parameters)`, on the device.
        total: of all together, 0-dim.
        clip_factor: at most 1, 0-dim.
    """

    parameters: Sequence[nn.Parameter]
    norms: Tensor
    total: Tensor
    clip_factor: Tensor

    @classmethod
    def of(cls, parameters: Iterable[nn.Parameter], clip_norm: float = float("inf")) -> GradientNorms:
        """Of those that have a gradient; without any, `total` is 0."""
        touched = [parameter for parameter in parameters if parameter.grad is not None]
        if not touched:
            return cls((), torch.zeros(0), torch.zeros(()), torch.ones(()))
        norms = torch.stack(torch._foreach_norm([p.grad for p in touched if p.grad is not None]))
        total = torch.linalg.vector_norm(norms)
        return cls(touched, norms, total, (clip_norm / (total + 1e-6)).clamp(max=1.0))

    def clip(self) -> None:
        """Scale the gradients in place; the same numbers as torch's `clip_grad_norm_`."""
        if self.parameters:
            torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], self.clip_factor)


def clear_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Afterwards they have none."""
    for parameter in parameters:
        parameter.grad = None


def step_only(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> None:
    """A step of an optimizer of one group that looks at these parameters and no others; its state keeps all."""
    (group,) = optimizer.param_groups
    held = group["params"]
    group["params"] = list(parameters)
    try:
        optimizer.step()
    finally:
        group["params"] = held
