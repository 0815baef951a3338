"""Meta-learning as gradient policy: each child trains weights of its own for a few steps; the shared ones follow."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.training._gradients import GradientNorms, LazyPathParameters, clear_gradients
from nas.training._recipe import Child, GradientPolicy, Step


class Displacement(GradientPolicy):
    """Every child goes `inner_steps` of SGD from the shared weights; these then go `outer_rate` times the mean way.

    Reptile (Nichol et al., 2018, arXiv 1803.02999) as SUMNAS uses it: with w the shared weights and w_k where child k
    ended, the outer gradient is the mean over all children of w - w_k (zero outside a child's path), its step is plain
    SGD with weight decay, at a rate that follows the schedule. Inner gradients are clipped, the outer one is not. What
    is outside all paths is not touched. `StepReport` and the returned norm show the outer gradient.

    Args:
        inner_rate: None is the job's learning rate; it does not follow the schedule, but restarts halve it too.
        inner_momentum: None is the job's.
        outer_rate: before the schedule.
        outer_weight_decay: of the outer step; the inner ones have none.
        fresh: an inner optimizer of its own for every child. Otherwise momentum runs on from child to child and from
            step to step.
    """

    def __init__(
        self,
        *,
        inner_steps: int = 2,
        inner_rate: float | None = None,
        inner_momentum: float | None = None,
        outer_rate: float = 1.0,
        outer_weight_decay: float = 4e-5,
        fresh: bool = True,
    ) -> None:
        self.passes_per_child = inner_steps
        self._inner_rate, self._inner_momentum, self._fresh = inner_rate, inner_momentum, fresh
        self._outer_rate, self._outer_weight_decay = outer_rate, outer_weight_decay
        self._parameters = LazyPathParameters()

    def run(self, step: Step) -> Tensor:
        mine = self._parameters(step.supernet).of(child.choice for child in step.children)
        clear_gradients(mine)
        moved: dict[nn.Parameter, Tensor] = {}
        for child in step.children:
            for parameter, way in self._ways(step, child).items():
                moved[parameter] = moved[parameter].add_(way) if parameter in moved else way
        for parameter, way in moved.items():
            parameter.grad = way.div_(len(step.children))
        norms = GradientNorms.of(moved)
        step.observe(norms)
        rate = self._outer_rate * step.rate_factor
        torch.optim.SGD(list(moved), lr=rate, weight_decay=self._outer_weight_decay, foreach=True).step()
        clear_gradients(moved)
        return norms.total

    def _ways(self, step: Step, child: Child) -> dict[nn.Parameter, Tensor]:
        """Start minus end of the child's inner steps, for all that it touches; the weights are back at the start."""
        mine = self._parameters(step.supernet).of([child.choice])
        step.backward(child)
        touched = [parameter for parameter in mine if parameter.grad is not None]
        start = [parameter.detach().clone() for parameter in touched]
        optimizer = self._optimizer(step, touched)
        for inner in range(self.passes_per_child):
            if inner:
                step.backward(child)
            GradientNorms.of(touched, step.clip_norm).clip()
            optimizer.step()
            clear_gradients(touched)
        weights: list[Tensor] = list(touched)
        with torch.no_grad():
            ways = torch._foreach_sub(start, weights)
            torch._foreach_copy_(weights, start)
        return dict(zip(touched, ways, strict=True))

    def _optimizer(self, step: Step, touched: list[nn.Parameter]) -> torch.optim.Optimizer:
        rate = step.learning_rate if self._inner_rate is None else self._inner_rate
        momentum = step.optimizer.defaults["momentum"] if self._inner_momentum is None else self._inner_momentum
        inner = torch.optim.SGD(touched, lr=rate * step.restart_factor, momentum=momentum, foreach=True)
        if not self._fresh:
            inner.state = step.optimizer.state  # checkpoints hold it there
        return inner
