"""A network as plain PyTorch source, generated from its traced graph; knows no space.

Every leaf module of `torch.nn` becomes a line of the constructor, every operation a line of a straight `forward`.
"""

from __future__ import annotations

import itertools
import json
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, fx, nn

from nas.export._expressions import Expressions, constructor
from nas.export._template import TEMPLATE
from searchspaces import ExportError

_RESERVED = frozenset({"F", "nn", "operator", "math", "self", "torch", "images"})


class Source(NamedTuple):
    """The text of `model.py`, and the weights it loads by the names it gives them."""

    text: str
    weights: dict[str, Tensor]


def network_source(
    deliverable: nn.Module, input_shape: tuple[int, ...], class_names: Sequence[str], card: Mapping[str, object]
) -> Source:
    """Source for a module that takes `images`; what cannot reach its output is left out.

    Raises:
        ExportError: the network has control flow that depends on its input, or holds something that cannot be written.
    """
    try:
        traced = fx.symbolic_trace(deliverable)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, NameError) as error:
        raise ExportError(f"the network cannot be written as straight-line source: {error}") from error
    traced.graph.eliminate_dead_code()
    return _Writer(traced).source(input_shape, class_names, card)


class _Writer:
    """Names the modules and values of one traced graph and writes its lines."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced = traced
        self.trunk = _trunk(traced)
        self.attributes: dict[str, str] = {}
        self.weights: dict[str, Tensor] = {}
        self.constructors: list[str] = []
        self.values: dict[fx.Node, str] = {}
        self.expressions = Expressions(self.values)

    def source(self, input_shape: tuple[int, ...], class_names: Sequence[str], card: Mapping[str, object]) -> Source:
        lines = self._forward()
        channels, height, width = input_shape
        text = TEMPLATE.format(
            architecture=_one_line(_named(card, "architecture", "text")),
            space=_one_line(_named(card, "space", "name")),
            weights=_one_line(card.get("weights", "given")),
            class_names=_wrapped(class_names),
            channels=channels,
            height=height,
            width=width,
            constructors="\n".join(f"        {line}" for line in self.constructors),
            forward="\n".join(f"        {line}" for line in lines),
            imports="".join(f"import {name}\n" for name in sorted(self.expressions.used & {"math", "operator"})),
            functional="import torch.nn.functional as F\n" if "F" in self.expressions.used else "",
        )
        return Source(text, self.weights)

    def _forward(self) -> list[str]:
        lines: list[str] = []
        last_use = _last_uses(self.traced.graph)
        place, built, fresh = "", "", 0
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = "images" if not self.values else node.name
                continue
            if node.op == "output":
                lines.append(f"return {self.expressions.argument(node.args[0])}")
                continue
            found = self._place(node)
            if node.op == "call_module" and found not in ("", built) and str(node.target) not in self.attributes:
                built = found
                self.constructors.append(f"# {built}")
            expression = self._expression(node)
            if node.op == "get_attr":
                self.values[node] = expression
                continue
            if found != place:
                place = found
                lines.append(f"# {place or 'top level'}")
            reused = next((self.values[a] for a in node.all_input_nodes if _ends(a, node, last_use)), None)
            if reused is None:
                fresh += 1
                reused = f"x{fresh}"
            self.values[node] = reused
            lines.append(f"{reused} = {expression}")
        return lines

    def _expression(self, node: fx.Node) -> str:
        match node.op:
            case "call_module":
                return f"self.{self._module(str(node.target))}({self.expressions.call(node.args, node.kwargs)})"
            case "get_attr":
                return f"self.{self._tensor(str(node.target))}"
            case "call_method":
                return self.expressions.method(str(node.target), node.args, node.kwargs)
            case _:
                function: Callable[..., Any] = node.target  # type: ignore[assignment]
                return self.expressions.function(function, node.args, node.kwargs)

    def _module(self, target: str) -> str:
        if target not in self.attributes:
            name = self.attributes[target] = self._attribute(target)
            module = self.traced.get_submodule(target)
            self.constructors.append(f"self.{name} = {constructor(module)}")
            self.weights |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        return self.attributes[target]

    def _tensor(self, target: str) -> str:
        if target not in self.attributes:
            name = self.attributes[target] = self._attribute(target)
            owner, _, attribute = target.rpartition(".")
            value = getattr(self.traced.get_submodule(owner), attribute)
            if not isinstance(value, Tensor):
                raise ExportError(f"{target} of the network is a {type(value).__name__}; only tensors can be written.")
            empty = f"torch.empty({tuple(value.shape)}, dtype={value.dtype})"
            if isinstance(value, nn.Parameter):
                self.constructors.append(f"self.{name} = nn.Parameter({empty})")
            else:
                self.constructors.append(f'self.register_buffer("{name}", {empty})')
            self.weights[name] = value
        return self.attributes[target]

    def _place(self, node: fx.Node) -> str:
        """Where in the network an operation stands: the path of the module around it."""
        if node.op == "call_module":
            path = str(node.target).rpartition(".")[0]
        else:
            path = next(reversed(node.meta.get("nn_module_stack") or {"": None}), "")
        return _one_line(f"{path}.".removeprefix(self.trunk).rstrip("."))

    def _attribute(self, target: str) -> str:
        plain = re.sub(r"\W", "_", target.removeprefix(self.trunk)).strip("_") or "module"
        if plain[0].isdigit() or keyword.iskeyword(plain) or hasattr(nn.Module, plain) or plain in _RESERVED:
            plain = f"m_{plain}"
        name, count = plain, 1
        while name in self.attributes.values():
            count += 1
            name = f"{plain}_{count}"
        return name


def _last_uses(graph: fx.Graph) -> dict[fx.Node, fx.Node]:
    return {used: node for node in graph.nodes for used in node.all_input_nodes}


def _ends(argument: fx.Node, node: fx.Node, last_use: Mapping[fx.Node, fx.Node]) -> bool:
    """Whether `argument` is needed for the last time by `node`, so that its name may be used again."""
    return argument.op not in ("get_attr", "placeholder") and last_use[argument] is node


def _trunk(traced: fx.GraphModule) -> str:
    """The path that all modules lie below, with a dot at its end: it tells nothing, so names leave it out."""
    paths = [str(node.target).split(".")[:-1] for node in traced.graph.nodes if node.op == "call_module"]
    shared = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
    return "".join(f"{parts[0]}." for parts in shared)


def _named(card: Mapping[str, object], part: str, key: str) -> object:
    found = card.get(part)
    return found.get(key, "not stated") if isinstance(found, Mapping) else "not stated"


def _one_line(value: object) -> str:
    """Text that cannot end a comment or a docstring."""
    return " ".join(str(value).split()).replace("\\", "/").replace('"', "'")


def _wrapped(names: Sequence[str]) -> str:
    return "(" + "".join(f"{json.dumps(name)}, " for name in names).rstrip() + ")"
