"""What a spec can name: spaces, recipes, searchers and the other plug-ins, with the schemas of their settings."""

from __future__ import annotations

from fastapi import APIRouter

from api.dependencies import READ, Name
from api.openapi import problems
from nas.plugins import KINDS, describe, registry
from nas.resources import Page, PluginInfo

router = APIRouter(prefix="/v1", tags=["plug-ins"])

# /v1/datasets are the registered data sets, the formats that they can be in are plug-ins; /v1/tables what is there.
_NOUNS = {"datasets": "dataset_plugins", "tables": "table_plugins"}


def _add(kind: str) -> None:
    noun = _NOUNS.get(kind, kind)

    def plugins() -> Page[PluginInfo]:
        return Page[PluginInfo](items=tuple(describe(kind, name) for name in registry(kind)))

    def plugin(name: Name) -> PluginInfo:
        return describe(kind, name)

    router.add_api_route(
        f"/{noun}",
        plugins,
        operation_id=f"list_{noun}",
        summary=f"List {noun.replace('_', ' ')}",
        description="All plug-ins of this kind; one that does not load says why in `error`.",
        dependencies=[READ],
    )
    router.add_api_route(
        f"/{noun}/{{name}}",
        plugin,
        operation_id=f"get_{noun}",
        summary=f"Get one of the {noun.replace('_', ' ')}",
        description="One plug-in, with the JSON schema of its settings.",
        dependencies=[READ],
        responses=problems(404),
    )


for _kind in KINDS:
    _add(_kind)
