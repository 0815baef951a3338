"""Runs the contract of its kind on any plug-in: a registered one, or one in a module that is being written."""

from __future__ import annotations

import importlib
import inspect
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nas.plugins import KINDS, registry
from searchspaces import BrokenPlugin, NASError, NotFound, Plugin, one_of

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
    """A plug-in, and of what kind it is."""

    kind: str
    plugin: Plugin[Any]


def find(reference: str) -> list[Found]:
    """The plug-ins that are meant by `kind:name`, by a kind, or by a module with a PLUGIN.

    Raises:
        NotFound: there is no such module.
        BrokenPlugin: the module does not load or holds no PLUGIN, or the kind cannot be told.
        UnknownPlugin: the kind has no plug-in of that name.
    """
    kind, _, name = reference.partition(":")
    if kind in KINDS:
        return [Found(kind, registry(kind)[each]) for each in ([name] if name else registry(kind))]
    try:
        module = importlib.import_module(reference)
    except ModuleNotFoundError as error:
        if error.name != reference and not reference.startswith(f"{error.name}."):
            raise BrokenPlugin(f"{reference} does not load: {error}.") from error
        raise NotFound(
            f"there is no module {reference!r} on the Python path; give one, KIND:NAME, or {one_of(kind, KINDS)}"
        ) from error
    except Exception as error:  # whatever a module that is being written may raise
        raise BrokenPlugin(f"{reference} does not load: {type(error).__name__}: {error}.") from error
    plugin = getattr(module, "PLUGIN", None)
    if not isinstance(plugin, Plugin):
        raise BrokenPlugin(f"{reference} holds no PLUGIN = Plugin(...).")
    return [Found(_kind(plugin), plugin)]


def check(found: Found, settings: Mapping[str, object]) -> str | None:
    """Runs the contract with these settings; what breaks it, or None when all holds."""
    from nas.testing import check_record

    try:
        check_record(found.plugin, found.kind)
        _CONTRACTS[found.kind](found.plugin, settings)
    except NASError as error:
        return str(error)
    except Exception as error:  # a plug-in may raise anything, and that breaks its contract
        return f"{type(error).__name__}: {error}"
    return None


def _kind(plugin: Plugin[Any]) -> str:
    """Told from what `create` makes: the class it is, or the return type it declares."""
    made = plugin.create
    if not inspect.isclass(made):
        try:
            made = typing.get_type_hints(made).get("return", object)
        except NameError:
            made = object
    for kind, (module, name) in _MADE.items():
        if inspect.isclass(made) and issubclass(made, getattr(importlib.import_module(module), name)):
            return kind
    names = ", ".join(name for _, name in _MADE.values())
    raise BrokenPlugin(
        f"{plugin.name}: cannot tell its kind; let `create` be a class, or a function that declares to return, "
        f"one of {names}."
    )


def _spaces(*flags: str) -> Iterator[Any]:
    """Every registered space that has what these flags name, small."""
    from nas.testing import spaces_with

    for name in spaces_with(*flags):
        yield registry("spaces")[name](_SMALL)


def _check_space(plugin: Plugin[Any], settings: Mapping[str, object]) -> None:
    from nas.testing import check_space

    check_space(plugin({**settings, **_SMALL}))


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
    from nas.testing import check_predictor

    for space in _spaces():
        check_predictor(plugin, space, settings or None)


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
