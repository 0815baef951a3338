"""All plug-in registries by kind; loads no plug-in."""

from __future__ import annotations

import importlib
from typing import Any

from nas.resources import PluginInfo
from searchspaces import BrokenPlugin, Registry

_FOLDERS = {
    "spaces": "searchspaces",
    "tables": "searchspaces.tables",
    "costs": "predictors.costs",
    "proxies": "predictors.zerocost",
    "predictors": "predictors.surrogates",
    "tasks": "nas.tasks",
    "datasets": "nas.datasets",
    "recipes": "nas.recipes",
    "searchers": "nas.searchers",
    "evaluators": "nas.evaluators",
}

KINDS = tuple(_FOLDERS)


def registry(kind: str) -> Registry[Any]:
    """The registry of one kind (one of KINDS)."""
    found: Registry[Any] = importlib.import_module(_FOLDERS[kind]).REGISTRY
    return found


def describe(kind: str, name: str) -> PluginInfo:
    """A plug-in as the API lists it; one that does not load is described by its error."""
    try:
        plugin = registry(kind)[name]
    except BrokenPlugin as error:
        return PluginInfo(kind=kind, name=name, description="does not load", source="", error=str(error))
    return PluginInfo(
        kind=kind,
        name=name,
        description=plugin.description,
        source=plugin.source,
        flags=dict(plugin.flags),
        config_schema=plugin.Config.model_json_schema(),
    )
