"""Traced values, calls and modules as Python expressions."""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from searchspaces import ExportError

_INFIX: Mapping[Callable[..., Any], str] = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.floordiv: "//",
    operator.mod: "%",
    operator.pow: "**",
    operator.matmul: "@",
    operator.iadd: "+",
    operator.isub: "-",
    operator.imul: "*",
    operator.itruediv: "/",
}
_PLACEMENT = ("device", "dtype")


class Expressions:
    """Writes the arguments and calls of a graph, given the names of its values; notes which modules the text needs."""

    def __init__(self, values: Mapping[fx.Node, str]) -> None:
        self.values = values
        self.used: set[str] = set()

    def call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """An argument list."""
        return ", ".join([*map(self.argument, args), *(f"{key}={self.argument(kwargs[key])}" for key in kwargs)])

    def method(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """A call of a method of the first argument."""
        return f"{self.argument(args[0])}.{name}({self.call(args[1:], kwargs)})"

    def function(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """A call of a function of torch, `operator` or `math`.

        Raises:
            ExportError: the function is none of these.
        """
        if function in _INFIX and len(args) == 2 and not kwargs:
            return f"{self.argument(args[0])} {_INFIX[function]} {self.argument(args[1])}"
        if function is operator.getitem:
            return f"{self.argument(args[0])}[{self._index(args[1])}]"
        if function is getattr and isinstance(args[1], str) and args[1].isidentifier():
            return f"{self.argument(args[0])}.{args[1]}"
        return f"{self._function_name(function)}({self.call(args, kwargs)})"

    def argument(self, value: Any) -> str:
        """A value as an expression.

        Raises:
            ExportError: it has no exact expression.
        """
        if isinstance(value, fx.Node):
            return self.values[value]
        if isinstance(value, slice):
            return f"slice({', '.join(map(self.argument, (value.start, value.stop, value.step)))})"
        if isinstance(value, tuple):
            inside = ", ".join(map(self.argument, value))
            return f"({inside},)" if len(value) == 1 else f"({inside})"
        if isinstance(value, list):
            return f"[{', '.join(map(self.argument, value))}]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key!r}: {self.argument(inner)}" for key, inner in value.items()) + "}"
        return literal(value)

    def _index(self, value: Any) -> str:
        if isinstance(value, slice):
            ends = ["" if end is None else self.argument(end) for end in (value.start, value.stop)]
            return ":".join(ends) + ("" if value.step is None else f":{self.argument(value.step)}")
        if isinstance(value, tuple) and value:
            return ", ".join(map(self._index, value)) + ("," if len(value) == 1 else "")
        return self.argument(value)

    def _function_name(self, function: Callable[..., Any]) -> str:
        for prefix, namespace in (("F", F), ("torch", torch), ("operator", operator), ("math", math)):
            for name, found in vars(namespace).items():
                if found is function and not name.startswith("_"):
                    self.used.add(prefix)
                    return f"{prefix}.{name}"
        name = f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"
        raise ExportError(f"the network calls {name}, which is not a public function of torch, operator or math.")


def constructor(module: nn.Module) -> str:
    """The expression that makes a `torch.nn` module anew, without its weights; settings at their default are left out.

    Raises:
        ExportError: the module is not public in `torch.nn`, or a setting of it cannot be read back.
    """
    kind = type(module)
    if getattr(nn, kind.__name__, None) is not kind:
        raise ExportError(
            f"{kind.__module__}.{kind.__name__} is not a public module of torch.nn, so it cannot be written."
        )
    written, keywords = [], False
    for parameter in inspect.signature(kind).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.name in _PLACEMENT:
            continue
        value = _setting(module, parameter)
        if parameter.default is not parameter.empty and _same(value, parameter.default):
            continue
        keywords = keywords or parameter.default is not parameter.empty
        written.append(f"{parameter.name}={literal(value)}" if keywords else literal(value))
    return f"nn.{kind.__name__}({', '.join(written)})"


def literal(value: Any) -> str:
    """A plain value as an expression.

    Raises:
        ExportError: it has no exact expression.
    """
    if value is None or value is Ellipsis or isinstance(value, bool | str):
        return "..." if value is Ellipsis else repr(value)
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)
    if type(value) is float:
        return f'float("{value}")'
    if isinstance(value, tuple | list | torch.Size):
        inside = ", ".join(map(literal, value))
        brackets = "[]" if isinstance(value, list) else "()"
        return f"{brackets[0]}{inside}{',' if len(value) == 1 and brackets == '()' else ''}{brackets[1]}"
    if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
        return str(value)
    if isinstance(value, torch.device):
        return f'torch.device("{value}")'
    raise ExportError(f"{value!r} ({type(value).__name__}) has no exact expression in Python source.")


def _setting(module: nn.Module, parameter: inspect.Parameter) -> Any:
    value = getattr(module, parameter.name, parameter.default)
    if value is parameter.empty:
        raise ExportError(
            f"{type(module).__name__} does not keep its argument {parameter.name!r}; it cannot be written."
        )
    is_flag = isinstance(parameter.default, bool)
    if is_flag and (value is None or isinstance(value, Tensor)):  # `bias=True` is kept as the bias itself
        return value is not None
    return value


def _same(value: Any, default: Any) -> bool:
    if value == default and type(value) is type(default):
        return True
    return isinstance(value, tuple) and isinstance(default, int) and all(item == default for item in value)
