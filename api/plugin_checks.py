"""Runs the contract of its kind on any plug-in: a registered one, or one in a module or file that is being written."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from nas.plugins import KINDS, registry
from searchspaces import (
    BrokenPlugin,
    NASError,
    NotFound,
    Plugin,
    UnknownPlugin,
    defined_at,
    module_of,
    one_of,
    raised_at,
)

_MADE: dict[str, tuple[str, str]] = {
    "spaces": ("searchspaces", "SearchSpace"),
    "tables": ("searchspaces.tables", "Table"),
    "costs": ("predictors.costs", "Cost"),
    "proxies": ("predictors.zerocost", "Proxy"),
    "predictors": ("predictors.surrogates", "Predictor"),
    "tasks": ("nas.tasks", "Task"),
    "datasets": ("nas.datasets", "Dataset"),
    "recipes": ("nas.training", "Recipe"),
    "searchers": ("nas.searchers", "Searcher"),
    "evaluators": ("nas.evaluators", "Evaluator"),
}
_SMALL = {"input_shape": (1, 8, 8), "num_classes": 4}


class Found(NamedTuple):
    """A plug-in that is meant, and of what kind it is; `plugin` is the error where there is none to check."""

    kind: str
    name: str
    plugin: Plugin[Any] | NASError


def find(reference: str, kind: str | None = None) -> list[Found]:
    """The plug-ins that are meant by `kind:name`, by a kind, by a module with a PLUGIN, or by a file with one.

    One that does not load is found with its error: the others of its kind are checked all the same.

    Args:
        kind: of the plug-in of a module or file, where `create` does not tell it.

    Raises:
        NotFound: there is no such module or file.
        BrokenPlugin: the module does not load or holds no PLUGIN, or its kind cannot be told.
        UnknownPlugin: the kind has no plug-in of that name.
    """
    named, _, name = reference.partition(":")
    if named in KINDS:
        return [Found(named, each, _registered(named, each)) for each in ([name] if name else registry(named))]
    module = _module(reference)
    plugin = getattr(module, "PLUGIN", None)
    if not isinstance(plugin, Plugin):
        raise BrokenPlugin(f"{reference} holds no PLUGIN = Plugin(...).")
    return [Found(kind or _kind(plugin, module), plugin.name, plugin)]


def _registered(kind: str, name: str) -> Plugin[Any] | NASError:
    try:
        found: Plugin[Any] = registry(kind)[name]
    except UnknownPlugin:
        raise
    except NASError as error:
        return error
    return found


def check(found: Found, settings: Mapping[str, object]) -> str | None:
    """Runs the contract with these settings; what breaks it, or None when all holds."""
    from nas.testing import check_record

    plugin = found.plugin
    if isinstance(plugin, NASError):
        return str(plugin)
    try:
        check_record(plugin, found.kind)
        _CONTRACTS[found.kind](plugin, settings)
    except NASError as error:
        return f"{error} ({defined_at(plugin.create)})"
    except Exception as error:  # a plug-in may raise anything, and that breaks its contract
        return f"raised {type(error).__name__}: {error} ({raised_at(error, plugin.create)})"
    return None


# --- which module, and of which kind ---------------------------------------------------------------------------------


def _module(reference: str) -> ModuleType:
    path = Path(reference)
    try:
        if path.suffix == ".py" and path.is_file():
            return _loaded(path.absolute())
        return importlib.import_module(reference)
    except ModuleNotFoundError as error:
        if error.name is not None and (error.name == reference or reference.startswith(f"{error.name}.")):
            raise NotFound(
                f"there is no module {reference!r} on the Python path and no such file; "
                f"give {one_of(reference, ('FILE.py', 'KIND:NAME', *KINDS))}."
            ) from error
        raise BrokenPlugin(f"{reference} does not load: {error} ({raised_at(error)}).") from error
    except (Exception, SystemExit) as error:  # whatever a module that is being written may raise
        said = f"{type(error).__name__}: {error}"
        raise BrokenPlugin(f"{reference} does not load: {said} ({raised_at(error)}).") from error


def _loaded(path: Path) -> ModuleType:
    """The module of a file: a part of the package that it lies in, else one by itself that finds its neighbours."""
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        root, parts = root.parent, [root.name, *parts]
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    if len(parts) > 1:
        return importlib.import_module(".".join(parts))
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_in_a_file"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a file that ends in .py can be loaded"
    assert spec.loader is not None, "and has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import does: classes are looked up there
    spec.loader.exec_module(module)
    return module


def _kind(plugin: Plugin[Any], module: ModuleType) -> str:
    """Told by what `create` declares to make, by an entry point that names the module, or by making one."""
    for told in (_declared(plugin.create), _entered(plugin, module), _made(plugin)):
        if told is not None:
            return told
    names = ", ".join(name for _, name in _MADE.values())
    raise BrokenPlugin(
        f"{plugin.name}: cannot tell its kind; give --kind, or let `create` be a class, or a callable that declares to "
        f"return, one of {names}."
    )


def _declared(made: Any) -> str | None:
    """From a class, or from the return type of whatever else can be called."""
    while isinstance(made, functools.partial):
        made = made.func
    if not inspect.isclass(made):
        called = made if inspect.isroutine(made) else type(made).__call__
        try:
            made = typing.get_type_hints(called).get("return", object)
        except (NameError, TypeError, AttributeError):  # a name that only a type checker knows
            return None
    made = typing.get_origin(made) or made
    return _of_class(made) if inspect.isclass(made) else None


def _of_class(made: type) -> str | None:
    for kind, (module, name) in _MADE.items():
        if issubclass(made, getattr(importlib.import_module(module), name)):
            return kind
    return None


def _entered(plugin: Plugin[Any], module: ModuleType) -> str | None:
    for kind in KINDS:
        for point in entry_points(group=registry(kind).group):
            if point.name == plugin.name and point.value.partition(":")[0] in (
                module.__name__,
                module_of(plugin.create),
            ):
                return kind
    return None


def _made(plugin: Plugin[Any]) -> str | None:
    """From what comes of it with default settings, of a kind that needs nothing else."""
    try:
        return _of_class(type(plugin()))
    except NASError:
        return None


# --- the contracts ---------------------------------------------------------------------------------------------------


def _spaces(*flags: str) -> Iterator[Any]:
    """Every space of ours that has what these flags name, small: faults of others' would be taken for the plug-in's."""
    for plugin in registry("spaces").own().values():
        if all(plugin.flags.get(flag, True) for flag in flags):
            yield plugin(_SMALL)


def _check_space(plugin: Plugin[Any], settings: Mapping[str, object]) -> None:
    from nas.testing import check_offer, check_space

    small = {name: value for name, value in _SMALL.items() if name in plugin.Config.model_fields}
    space = plugin({**small, **settings})
    check_offer(plugin, space)
    check_space(space)


def _check_table(plugin: Plugin[Any], settings: Mapping[str, object]) -> None:
    from nas.testing import check_table

    check_table(plugin(settings))


def _check_cost(plugin: Plugin[Any], settings: Mapping[str, object]) -> None:
    import numpy as np

    from nas.testing import check_cost

    for space in _spaces("networks" if plugin.flags.get("measured") else "counts"):
        rng = np.random.default_rng(0)
        check_cost(plugin(settings, space, "cpu"), plugin.flags, [*space.extremes(), space.sample(rng)])


def _check_proxy(plugin: Plugin[Any], settings: Mapping[str, object]) -> None:
    from nas.testing import check_leaves_network, check_proxy

    configured = replace(plugin, create=lambda config: plugin(settings))
    for space in _spaces("networks"):
        largest = space.extremes().largest
        check_proxy(configured, space, largest)
        check_leaves_network(configured, space, largest)


def _check_predictor(plugin: Plugin[Any], settings: Mapping[str, object]) -> None:
    from nas.testing import check_predictor, quick_settings

    for space in _spaces():
        check_predictor(plugin, space, {**quick_settings(plugin), **settings})


def _check_searcher(plugin: Plugin[Any], settings: Mapping[str, object]) -> None:
    from nas.testing import check_searcher

    for space in _spaces():
        check_searcher(plugin, space, settings)


def _check_evaluator(plugin: Plugin[Any], settings: Mapping[str, object]) -> None:
    from nas.testing import check_evaluator, small_bench

    with tempfile.TemporaryDirectory() as folder:
        check_evaluator(plugin, small_bench(Path(folder)), settings=dict(settings))


def _check_recipe(plugin: Plugin[Any], settings: Mapping[str, object]) -> None:
    from nas.testing import check_recipe

    check_recipe(plugin, settings)


def _check_dataset(plugin: Plugin[Any], settings: Mapping[str, object]) -> None:
    from nas.testing import check_dataset

    check_dataset(plugin, settings)


def _check_task(plugin: Plugin[Any], settings: Mapping[str, object]) -> None:
    from nas.testing import check_task

    digits = registry("datasets")["digits"]()
    check_task(plugin(settings, digits), plugin.flags, num_classes=digits.num_classes)


_CONTRACTS: dict[str, Callable[[Plugin[Any], Mapping[str, object]], None]] = {
    "spaces": _check_space,
    "tables": _check_table,
    "costs": _check_cost,
    "proxies": _check_proxy,
    "predictors": _check_predictor,
    "tasks": _check_task,
    "datasets": _check_dataset,
    "recipes": _check_recipe,
    "searchers": _check_searcher,
    "evaluators": _check_evaluator,
}
