"""Networks and supernets of the NAS-Bench-201 macro skeleton: one residual-stage trunk, one cell repeated in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from searchspaces._architecture import Architecture
from searchspaces._errors import InvalidArchitecture
from searchspaces._kernels import Signal, average_3x3, is_fused, node
from searchspaces._layers import ReLUConvNorm, Style, inherit
from searchspaces._supernet import Choice, Mixture, Supernet, Tapped
from searchspaces.nasbench201 import NONE, POOL, SKIP, NASBench201, Plan, operation

if TYPE_CHECKING:
    from searchspaces._space import SearchSpace

Weighted = Sequence[Sequence[tuple[int, Sequence[tuple[str, Tensor]]]]]
"""For nodes 1, 2, 3: every incoming edge as (source, ((operation, weight), ...)) without `none`."""


class Wanted(NamedTuple):
    """What will be read of a signal: the value (by skip, pooling, a sum), its positive part (by convolutions)."""

    value: bool
    rectified: bool


_BOTH = Wanted(value=True, rectified=True)
_VALUE = Wanted(value=True, rectified=False)
_RECTIFIED = Wanted(value=False, rectified=True)


def wanted(plan: Plan, output: Wanted) -> list[Wanted]:
    """What a cell that runs `plan` reads of each of its nodes, when `output` will be read of the last one."""
    reads = [Wanted(value=False, rectified=False) for _ in plan] + [output]
    for target in range(len(plan), 0, -1):
        terms = plan[target - 1]
        for source, name in terms:
            if name not in (SKIP, POOL):
                reads[source] = reads[source]._replace(rectified=True)
            else:
                is_same = name == SKIP and len(terms) == 1
                reads[source] = Wanted(True, reads[source].rectified or (is_same and reads[target].rectified))
    return reads if plan[-1] else [_VALUE, *reads[1:]]


class Cell(nn.Module):
    """Four nodes joined by operations; holds the convolutions in `held` (name -> kernel size).

    Args:
        plan: of the cell of a stand-alone network, what it runs. In a supernet the plan comes with every call.
    """

    def __init__(self, channels: int, held: Mapping[str, int], style: Style, plan: Plan | None = None) -> None:
        super().__init__()
        self.plan = plan
        convs = {name: ReLUConvNorm(channels, channels, kernel, style) for name, kernel in held.items()}
        self.operations = nn.ModuleDict(convs)

    def operate(self, name: str, x: Tensor) -> Tensor:
        """One operation on `x`, `batch x channels x height x width`; same shape."""
        if name == SKIP:
            return x
        if name == POOL:
            return average_3x3(x)
        result: Tensor = self.operations[name](x)
        return result

    def forward(self, x: Tensor) -> Tensor:
        """Runs the cell's own plan, x: `batch x channels x height x width`; the same shape comes back."""
        assert self.plan is not None, "the cell of a supernet is given its plan: see `run`"
        return self.run(Signal(x), self.plan, _VALUE).value()

    def run(self, x: Signal, plan: Plan, output: Wanted) -> Signal:
        """Runs the operations of `plan` and no other; a cell that ends in no operation gives zeros.

        x: `batch x channels x height x width`; the same shape comes back. `output` says what will be read of it.
        """
        states, reads = [x], wanted(plan, output)
        for terms, read in zip(plan, reads[1:], strict=True):
            states.append(self._node(states, terms, read) if terms else x)  # an empty node is never read: it is live
        return states[-1] if plan[-1] else Signal(torch.zeros_like(x.value()))

    def _node(self, states: Sequence[Signal], terms: Sequence[tuple[int, str]], read: Wanted) -> Signal:
        if [name for _, name in terms] == [SKIP]:
            return states[terms[0][0]]
        convolved, called, plain = [], [], []
        calls = self.plan is not None and not is_fused()  # then each operation is a module that hooks can see
        for source, name in terms:
            if name == SKIP:
                plain.append(states[source].value())
            elif name == POOL:
                plain.append(states[source].pooled())
            elif calls:
                called.append(self.operations[name](states[source].value()))
            else:
                convolved.append(cast(ReLUConvNorm, self.operations[name]).convolved(states[source]))
        return node(convolved, [*called, *plain], value=read.value, rectified=read.rectified)

    def tapped(self, x: Tensor, plan: Plan, empty: Collection[str], outputs: dict[str, list[Tensor]]) -> Tensor:
        """`forward` by plain operations. `outputs` takes what every live edge puts out; zeros for those in `empty`."""
        states = [x]
        for target, terms in enumerate(plan, start=1):
            out = {f"{source}->{target}": self.operate(name, states[source]).view_as(x) for source, name in terms}
            if out:
                zeros = [edge for source in range(target) if (edge := f"{source}->{target}") in empty]
                out |= {edge: x.new_zeros(()).requires_grad_().expand_as(x) for edge in zeros}
            for edge, y in out.items():
                outputs.setdefault(edge, []).append(y)
            states.append(sum(list(out.values())[1:], start=next(iter(out.values()))) if out else x)
        return states[-1] if plan[-1] else torch.zeros_like(x)

    def mix(self, x: Tensor, edges: Weighted) -> Tensor:
        """The weighted sum of all operations, x: `batch x channels x height x width`; the same shape comes back.

        What comes from a node that no weight reaches counts as zero, as in `forward`: a convolution of zeros is not.
        """
        states, reached = [x], [torch.ones((), dtype=x.dtype, device=x.device)]
        for incoming in edges:
            total, reach = torch.zeros_like(x), torch.zeros((), dtype=x.dtype, device=x.device)
            for source, options in incoming:
                for name, weight in options:
                    total = total + weight * reached[source] * self.operate(name, states[source])
                    reach = torch.maximum(reach, (weight.detach() != 0).to(x.dtype) * reached[source])
            states.append(total)
            reached.append(reach)
        return states[-1]


class Reduction(nn.Module):
    """A residual block that halves the image: `batch x inputs x H x W` -> `batch x outputs x ceil(H/2) x ceil(W/2)`."""

    def __init__(self, inputs: int, outputs: int, style: Style) -> None:
        super().__init__()
        self.halve = ReLUConvNorm(inputs, outputs, 3, style, stride=2)
        self.refine = ReLUConvNorm(outputs, outputs, 3, style)
        self.shortcut = style.frame_conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The halved image."""
        y: Tensor = self.refine(self.halve(x))
        return y + self._shortened(x)

    def run(self, x: Signal, output: Wanted) -> Signal:
        """The same by fused operations, where there are any; `output` says what will be read of it."""
        shortcut = self._shortened(x.value())
        halved = node([self.halve.convolved(x)], value=False)
        return node([self.refine.convolved(halved)], [shortcut], value=output.value, rectified=output.rectified)

    def _shortened(self, x: Tensor) -> Tensor:
        # ceil_mode only matters for odd sizes, where the strided convolution rounds up as well
        halved: Tensor = self.shortcut(F.avg_pool2d(x, kernel_size=2, stride=2, ceil_mode=True))
        return halved


class Trunk(nn.Module):
    """Stem, three stages of cells with two reductions between them, pooling, classifier.

    Args:
        plan: of a stand-alone network, what every cell runs.
    """

    def __init__(self, space: NASBench201, held: Mapping[str, int], style: Style, plan: Plan | None = None) -> None:
        super().__init__()
        self.plan, config = plan, space.settings
        width = config.channels
        self.stem = nn.Sequential(style.frame_conv(config.shape[0], width, 3), style.norm(width))
        self.blocks = nn.ModuleList()
        for stage in range(3):
            if stage:
                self.blocks.append(Reduction(width, 2 * width, style))
                width *= 2
            self.blocks.extend(Cell(width, held, style, plan) for _ in range(config.cells_per_stage))
        self.norm = style.norm(width)
        self.classifier = nn.Linear(width, config.classes)

    def cells(self) -> Iterator[Cell]:
        """All cells, from input to output."""
        yield from (block for block in self.blocks if isinstance(block, Cell))

    def forward(self, x: Tensor) -> Tensor:
        """x: `batch x channels x height x width` -> logits, `batch x classes`.

        By modules that give each other tensors, so that hooks see what each of them does; inside `fused()` as `run`.
        """
        assert self.plan is not None, "the trunk of a supernet is given its plan: see `run`"
        if is_fused():
            return self.run(x, self.plan)
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def run(self, x: Tensor, plan: Plan) -> Tensor:
        """The same with every cell running `plan`, by fused operations where there are any."""
        in_cell, blocks = wanted(plan, _BOTH)[0], list(self.blocks)
        reads = [in_cell if isinstance(block, Cell) else _BOTH for block in blocks] + [_VALUE]
        signal = self._stemmed(x, reads[0])
        for block, read in zip(blocks, reads[1:], strict=True):
            signal = block.run(signal, plan, read) if isinstance(block, Cell) else _run(block, signal, read)
        return self.head(signal.value())

    def tapped(self, x: Tensor, plan: Plan, empty: Collection[str], outputs: dict[str, list[Tensor]]) -> Tensor:
        """The same, with what every edge puts out (see `Cell.tapped`)."""
        x = self._stemmed(x, _BOTH).value()
        for block in self.blocks:
            x = (
                block.tapped(x, plan, empty, outputs)
                if isinstance(block, Cell)
                else _run(block, Signal(x), _BOTH).value()
            )
        return self.head(x)

    def mix(self, x: Tensor, edges: Weighted) -> Tensor:
        """The same with every cell a weighted sum of its operations."""
        x = self._stemmed(x, _BOTH).value()
        for block in self.blocks:
            x = block.mix(x, edges) if isinstance(block, Cell) else _run(block, Signal(x), _BOTH).value()
        return self.head(x)

    def head(self, x: Tensor) -> Tensor:
        """x: `batch x width x height x width` -> logits, `batch x classes`."""
        logits: Tensor = self.classifier(node([(x, self.norm)], value=False).rectified().mean(dim=(2, 3)))
        return logits

    def _stemmed(self, x: Tensor, read: Wanted) -> Signal:
        conv, norm = self.stem
        assert isinstance(norm, nn.BatchNorm2d)
        return node([(conv(x), norm)], value=read.value, rectified=read.rectified)


def _run(block: nn.Module, x: Signal, output: Wanted) -> Signal:
    return cast(Reduction, block).run(x, output)


class CellNetwork(nn.Module):
    """The stand-alone network of one architecture.

    It holds the weights of every operation that the architecture names, as the public benchmark counts them, and runs
    those that the input reaches and that reach the output.
    """

    def __init__(self, space: NASBench201, architecture: Architecture, style: Style) -> None:
        super().__init__()
        self.plan = space.plan(architecture)
        self.trunk = Trunk(space, space.convolutions(architecture.options), style, self.plan)

    def blocks(self) -> list[nn.Module]:
        """The cells and reductions that `forward` runs one after the other."""
        return list(self.trunk.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """x: `batch x channels x height x width` -> logits, `batch x classes`."""
        logits: Tensor = self.trunk(x)
        return logits


class CellSupernet(Supernet):
    """Shared weights: every cell holds every convolution that an edge may choose."""

    space: NASBench201

    def __init__(self, space: NASBench201) -> None:
        super().__init__(space)
        pairs = [(decision.name, option) for decision in space.decisions for option in decision.options]
        self.trunk = Trunk(space, space.convolutions(pairs), space.settings.style(supernet=True))

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """x: `batch x channels x height x width`, a choice -> logits, `batch x classes`."""
        if isinstance(choice, Architecture):
            return self.trunk.run(x, self.space.plan(choice))
        return self.trunk.mix(x, self._weighted(choice))

    def taps(self, x: Tensor, architecture: Architecture) -> Tapped:
        """As in `Supernet`; an edge without operation puts out zeros where other edges reach its node."""
        outputs: dict[str, list[Tensor]] = {}
        empty = [decision for decision, option in architecture if option == NONE]
        return Tapped(self.trunk.tapped(x, self.space.plan(architecture), empty, outputs), outputs)

    def extract(self, architecture: Architecture) -> CellNetwork:
        """The stand-alone network with copies of its weights, in the supernet's style."""
        self.space.check(architecture)
        with torch.device("meta"):
            network = CellNetwork(self.space, architecture, self.space.settings.style(supernet=True))
        return inherit(network, self)

    def restrict(self, space: SearchSpace) -> CellSupernet:
        """A supernet over a sub-space with copies of the weights that it still needs."""
        if not isinstance(space, NASBench201) or not space.is_within(self.space):
            raise InvalidArchitecture(f"{space.name} is not a sub-space of the supernet's; take one from `partition`.")
        with torch.device("meta"):
            supernet = CellSupernet(space)
        return inherit(supernet, self)

    def parameters_of(self, decision: str, option: str) -> Iterator[nn.Parameter]:
        """The weights that only this option of this edge uses, in all cells."""
        name = operation(decision, option)
        for cell in self.trunk.cells():
            if name in cell.operations:
                yield from cell.operations[name].parameters()

    def _weighted(self, choice: Mixture) -> Weighted:
        edges: list[list[tuple[int, list[tuple[str, Tensor]]]]] = [[], [], []]
        for decision in self.space.decisions:
            weights, (source, target) = choice.weights[decision.name], map(int, decision.name.split("->"))
            named = enumerate(operation(decision.name, option) for option in decision.options)
            terms = [(name, weights[k]) for k, name in named if name != NONE]
            edges[target - 1].append((source, terms))
        return edges
