"""Whose fault an error is: the line of a plug-in's own source that raised it, or that called what did."""

from __future__ import annotations

import functools
import inspect
import traceback
from typing import Any

_OURS = ("searchspaces", "predictors", "nas", "db", "api")


def module_of(made: object) -> str:
    """The module in which a callable or an object was defined: a class, a function, a partial, a bound method ..."""
    while isinstance(made, functools.partial):
        made = made.func
    named: Any = made if hasattr(made, "__module__") else type(made)
    return str(named.__module__)


def defined_at(made: object) -> str:
    """`file:line` where a callable or the class of an object begins; its module where no source is known."""
    while isinstance(made, functools.partial):
        made = made.func
    named: Any = made if inspect.isroutine(made) or inspect.isclass(made) else type(made)
    try:
        return f"{inspect.getsourcefile(named)}:{inspect.getsourcelines(named)[1]}"
    except (OSError, TypeError):
        return module_of(made)


def own_frame(error: BaseException, *modules: str) -> tuple[int, str] | None:
    """How deep the innermost frame in the packages of these modules lies, and its `file:line`; None: there is none.

    Of our own packages only the module itself counts: a plug-in is one file of them.
    """
    frames = enumerate(traceback.walk_tb(error.__traceback__))
    own = [
        (depth, f"{frame.f_code.co_filename}:{number}")
        for depth, (frame, number) in frames
        if any(_is_of(frame.f_globals.get("__name__", ""), module) for module in modules)
    ]
    return own[-1] if own else None


def own_line(error: BaseException, *modules: str) -> str | None:
    """`file:line` of the innermost frame in the packages of these modules; None where the error never was there."""
    found = own_frame(error, *modules)
    return found[1] if found else None


def raised_at(error: BaseException, *makers: object) -> str:
    """`file:line` of the innermost frame in the sources of these; without one, of the innermost frame of all."""
    found = own_line(error, *map(module_of, makers))
    if found is not None:
        return found
    places = [(frame.f_code.co_filename, number) for frame, number in traceback.walk_tb(error.__traceback__)]
    shown = [f"{file}:{number}" for file, number in places if not file.startswith("<frozen importlib")]
    return shown[-1] if shown else "nowhere"


def _is_of(name: str, own: str) -> bool:
    top = own.partition(".")[0]
    return name == own or (top not in _OURS and name.partition(".")[0] == top)
