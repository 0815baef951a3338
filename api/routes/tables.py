"""Tables of measurements: which can be looked up here, and what they hold."""

from __future__ import annotations

from fastapi import APIRouter

from api.dependencies import READ, Name
from api.openapi import problems
from nas.plugins import registry
from nas.resources import Page, TableInfo
from searchspaces import ConfigError, DataError, NotFound, one_of
from searchspaces.tables import Table

router = APIRouter(prefix="/v1/tables", tags=["tables"])


@router.get("", operation_id="list_tables", dependencies=[READ])
def tables() -> Page[TableInfo]:
    """Every table that needs no settings, read as far as its files are there."""
    found = registry("tables")
    ready = [name for name in found if not any(f.is_required() for f in found[name].Config.model_fields.values())]
    return Page[TableInfo](items=tuple(_described(name) for name in ready))


@router.get("/{name}", operation_id="get_table", dependencies=[READ], responses=problems(404))
def table(name: Name) -> TableInfo:
    """One table, read again: whether its files are there and whole."""
    if name not in registry("tables"):
        raise NotFound(f"there is no table {name!r}; it is {one_of(name, registry('tables'))}")
    return _described(name)


def _described(name: str) -> TableInfo:
    plugin = registry("tables")[name]
    known = TableInfo(name=name, space=str(plugin.flags["space"]), files=plugin.flags["files"])
    try:
        read: Table = plugin()
    except (DataError, ConfigError) as error:
        return known.model_copy(update={"available": False, "error": str(error)})
    held = {
        "digest": read.digest,
        "architectures": len(read),
        "metrics": tuple(read.measured),
        "epochs": read.epochs,
        "costs": tuple(read.costs),
    }
    return known.model_copy(update=held)
