"""Plug-ins: one file each, found by themselves.

A plug-in folder is a package with `REGISTRY = Registry(...)` in its `__init__`. Each plain-named module in it holds one
module-level `PLUGIN` whose name is the file's name. Third-party packages add theirs as entry points of the same group.
Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from searchspaces._errors import BrokenPlugin, ConfigError, DuplicatePlugin, UnknownPlugin
from searchspaces._violations import did_you_mean, violations

T = TypeVar("T")
# What a broken file raises when it is imported; pydantic's and our own errors are ValueErrors.
_LOADING_ERRORS = (ImportError, AttributeError, SyntaxError, NameError, TypeError, ValueError, LookupError)
Flag = bool | int | float | str | tuple[str, ...]


LOCAL_PATH: JsonDict = {"format": "path"}
"""`json_schema_extra` of a setting that names a file or folder of the machine that the service runs on.

A service for others refuses such settings in a spec. A relative one begins where the program runs that submits it.
"""
DATA_PATH: JsonDict = {**LOCAL_PATH, "or_in": "NAS_DATA"}
"""`LOCAL_PATH` of a setting whose file, where a relative path leads nowhere, is looked for in `$NAS_DATA`."""


class Config(BaseModel):
    """Settings of a plug-in: frozen, unknown keys refused; every field is described and bounded."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def names_path(cls, field: str) -> bool:
        """Whether a setting is marked as `LOCAL_PATH`."""
        return marks_path(cls.model_fields[field])


def marks_path(field: FieldInfo) -> bool:
    """Whether a field, of whatever model, is marked as `LOCAL_PATH`."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.items() >= LOCAL_PATH.items()


def marks_data_path(field: FieldInfo) -> bool:
    """Whether a field is marked as `DATA_PATH`."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.items() >= DATA_PATH.items()


_Config = Config  # inside Plugin the name means the field


@dataclass(frozen=True)
class Plugin(Generic[T]):
    """A registered record: what it is, where it is from, its settings and what it can do.

    `create(config, *context)` makes the object; what the context is, the folder's `__init__` says.
    """

    name: str
    description: str
    source: str
    create: Callable[..., T]
    Config: type[Config] = Config
    flags: Mapping[str, Flag] = field(default_factory=dict)

    def configure(self, settings: Mapping[str, object] | _Config | None = None) -> _Config:
        """The plug-in's checked settings.

        Raises:
            ConfigError: with one violation for every field that is wrong.
        """
        if isinstance(settings, _Config):
            settings = settings.model_dump()
        try:
            return self.Config.model_validate(dict(settings or {}))
        except ValidationError as error:
            raise ConfigError(violations(error, model=self.Config)) from error

    def __call__(self, settings: Mapping[str, object] | _Config | None = None, *context: object) -> T:
        return self.create(self.configure(settings), *context)


class Registry(Mapping[str, Plugin[T]]):
    """Name -> plug-in of one kind; files of a folder and entry points of a group, loaded when asked for."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self.package, self.group = kind, package, f"nas.{kind}"

    @cached_property
    def _targets(self) -> dict[str, str]:
        folder = importlib.import_module(self.package)
        files = [module.name for module in pkgutil.iter_modules(folder.__path__) if not module.ispkg]
        targets = {name: f"{self.package}.{name}:PLUGIN" for name in files if not name.startswith("_")}
        for point in entry_points(group=self.group):
            if point.name in targets:
                raise DuplicatePlugin(
                    f"{self.kind} {point.name!r} is both {targets[point.name]} and {point.value}; rename one of them."
                )
            targets[point.name] = point.value
        return dict(sorted(targets.items()))

    def __getitem__(self, name: str) -> Plugin[T]:
        if name not in self._targets:
            there = f"there are {', '.join(self._targets) or 'none'}{did_you_mean(name, self._targets)}"
            raise UnknownPlugin(f"no {self.kind} is called {name!r}; {there if there.endswith('?') else there + '.'}")
        module_name, _, attribute = self._targets[name].partition(":")
        try:
            plugin = getattr(importlib.import_module(module_name), attribute or "PLUGIN")
        except _LOADING_ERRORS as error:
            raise BrokenPlugin(f"{self.kind} {name!r} ({self._targets[name]}) does not load: {error}.") from error
        if not isinstance(plugin, Plugin) or plugin.name != name:
            raise BrokenPlugin(f"{self._targets[name]} is not a Plugin named {name!r}.")
        return plugin

    def module_of(self, name: str) -> str:
        """The module that holds the plug-in's record; one that is put into the registry by hand is its creator's."""
        target = self._targets.get(name)
        return target.partition(":")[0] if target else self[name].create.__module__

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets
