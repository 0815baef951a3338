"""Registered data sets: a name for a format and its files, so that specs need no paths."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import ADMIN, READ, Name, ServiceDep, StoreDep
from api.errors import Refusal
from api.idempotency import IdempotentRoute
from api.openapi import problems
from db import Store, name_taken
from nas.paths import unreachable, with_absolute_settings
from nas.plugins import registry
from nas.resources import DatasetInfo, Page
from searchspaces import ConfigError, Conflict, DataError, NotFound, UnknownPlugin, Violation, one_of

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=IdempotentRoute)


class DatasetRequest(BaseModel):
    """A data set to register."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", examples=["pets", "pets-v2"], description="What specs call it."
    )
    plugin: str = Field(min_length=1, max_length=200, description="Its format, one of /v1/dataset_plugins.")
    config: dict[str, Any] = Field(default_factory=dict, description="Settings of the format, such as its path.")
    replace: bool = Field(False, description="Whether a data set of this name, if there is one, gives way.")


@router.get("", operation_id="list_datasets", dependencies=[READ])
def datasets(store: StoreDep) -> Page[DatasetInfo]:
    """All registered data sets, by name."""
    return Page[DatasetInfo](items=tuple(store.datasets()))


@router.post(
    "",
    status_code=201,
    operation_id="add_dataset",
    dependencies=[ADMIN],
    responses={201: {"headers": {"Location": {"schema": {"type": "string"}}}}, **problems(403, 409, 422)},
)
def add(wanted: DatasetRequest, service: ServiceDep, response: Response) -> DatasetInfo:
    """Load a data set once, to see that it is whole, and register it. In embedded mode only.

    A name that is taken is refused, unless `replace` is true.
    """
    if not service.settings.embedded:
        raise Refusal(
            403, "EMBEDDED_ONLY", "data sets of a shared service are registered on its machine: nas data add NAME PATH."
        )
    _refuse_taken(service.store, wanted)
    config = with_absolute_settings(wanted.plugin, wanted.config)
    if wrong := unreachable({"name": wanted.plugin, "config": config}):
        raise ConfigError(wrong)
    info = service.store.add_dataset(_loaded(wanted.name, wanted.plugin, config), replace=wanted.replace)
    response.headers["Location"] = f"/v1/datasets/{info.name}"
    return info


@router.get("/{name}", operation_id="get_dataset", dependencies=[READ], responses=problems(404))
def dataset(name: Name, store: StoreDep) -> DatasetInfo:
    """One registered data set."""
    return store.dataset(name)


@router.delete("/{name}", status_code=204, operation_id="remove_dataset", dependencies=[ADMIN], responses=problems(404))
def remove(name: Name, store: StoreDep) -> None:
    """Forget a data set. Its files stay, and so do the jobs that were made of it."""
    store.remove_dataset(name)


@router.post("/{name}/check", operation_id="check_dataset", dependencies=[READ], responses=problems(404))
def check(name: Name, store: StoreDep) -> DatasetInfo:
    """Load a data set again: whether its files are there, and still what they were when it was registered."""
    known = _known(store, name)
    try:
        found = _loaded(name, known.plugin, known.config)
    except DataError as error:
        return known.model_copy(update={"available": False, "error": str(error)})
    if known.digest is not None and found.digest != known.digest:
        return found.model_copy(update={"available": False, "error": _CHANGED})
    return found


def _refuse_taken(store: Store, wanted: DatasetRequest) -> None:
    """Before anything is read: the store looks again when it writes.

    Raises:
        Conflict: the name is that of a data set, or of another format than the one that is registered.
    """
    if not wanted.replace and any(info.name == wanted.name for info in store.datasets()):
        raise name_taken(wanted.name)
    if wanted.name != wanted.plugin and wanted.name in registry("datasets"):
        raise Conflict(
            f"{wanted.name!r} is a data set of this software, and specs that name it mean that one; choose another name"
        )


_CHANGED = (
    "its content changed since it was registered; remove it and add it again to take the new content, or put the old "
    "files back."
)


def _known(store: Store, name: str) -> DatasetInfo:
    try:
        return store.dataset(name)
    except NotFound:
        if name not in registry("datasets"):
            raise
        return DatasetInfo(name=name, plugin=name)  # a spec may name a format that needs no settings, too


def _loaded(name: str, plugin: str, config: dict[str, Any]) -> DatasetInfo:
    """What a data set is, from its files. The test split is only counted.

    Raises:
        ConfigError: the settings are wrong, or there is no such format.
        DataError: a file is missing, broken or not what it should be.
    """
    try:
        loaded = registry("datasets")[plugin](config)
    except UnknownPlugin as error:
        raise ConfigError([Violation("plugin", repr(plugin), one_of(plugin, registry("datasets")))]) from error
    except ConfigError as error:
        raise ConfigError([Violation(f"config.{v.field}", v.value, v.allowed) for v in error.violations]) from error
    sizes = {"train": len(loaded.train), "valid": len(loaded.valid), "test": len(loaded.load_test())}
    return DatasetInfo(
        name=name,
        plugin=plugin,
        config=config,
        digest=loaded.digest,
        num_classes=loaded.num_classes,
        input_shape=loaded.input_shape,
        sizes=sizes,
        notes=loaded.notes,
    )
