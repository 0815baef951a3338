"""Plug-ins: one file each, found by themselves.

A plug-in folder is a package with `REGISTRY = Registry(...)` in its `__init__`. Each plain-named module in it holds one
module-level `PLUGIN` whose name is the file's name. Third-party packages add theirs as entry points of the same group.
Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from searchspaces._blame import module_of, own_line, raised_at
from searchspaces._errors import BrokenPlugin, ConfigError, DuplicatePlugin, NASError, UnknownPlugin
from searchspaces._violations import did_you_mean, violations

T = TypeVar("T")
_FAULTS = (TypeError, AttributeError, LookupError, NameError, ArithmeticError, AssertionError, NotImplementedError)
"""What only a mistake in a program raises."""
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
        """What `create` makes of the settings and this context.

        Raises:
            ConfigError: settings are wrong.
            BrokenPlugin: `create` fails in a way that no setting explains, or cannot be called like this.
        """
        config = self.configure(settings)
        try:
            return self.create(config, *context)
        except _FAULTS as error:
            if isinstance(error, NASError):
                raise
            said = f"{type(error).__name__}: {error}"
            raise BrokenPlugin(f"{self.name} cannot be made: {said} ({raised_at(error, self.create)}).") from error


class Registry(Mapping[str, Plugin[T]]):
    """Name -> plug-in of one kind; files of a folder and entry points of a group, loaded when asked for.

    What is wrong with one is said when that one is asked for; the others are none the worse.

    Args:
        flags: those that every plug-in of the kind must have, and of which type.
    """

    def __init__(self, kind: str, package: str, flags: Mapping[str, type] | None = None) -> None:
        self.kind, self.package, self.group = kind, package, f"nas.{kind}"
        self._flags, self._duplicates = dict(flags or {}), dict[str, str]()

    @cached_property
    def _targets(self) -> dict[str, str]:
        folder = importlib.import_module(self.package)
        files = [module.name for module in pkgutil.iter_modules(folder.__path__) if not module.ispkg]
        targets = {name: f"{self.package}.{name}:PLUGIN" for name in files if not name.startswith("_")}
        for point in entry_points(group=self.group):
            if targets.get(point.name, point.value) != point.value:
                both = f"{targets[point.name]} and {point.value}"
                self._duplicates[point.name] = f"{self.kind} {point.name!r} is both {both}; rename one of them."
            targets.setdefault(point.name, point.value)
        return dict(sorted(targets.items()))

    def __getitem__(self, name: str) -> Plugin[T]:
        if name not in self._targets:
            there = f"there are {', '.join(self._targets) or 'none'}{did_you_mean(name, self._targets)}"
            raise UnknownPlugin(f"no {self.kind} is called {name!r}; {there if there.endswith('?') else there + '.'}")
        if name in self._duplicates:
            raise DuplicatePlugin(self._duplicates[name])
        target = self._targets[name]
        module_name, _, attribute = target.partition(":")
        try:
            plugin = getattr(importlib.import_module(module_name), attribute or "PLUGIN")
        except (Exception, SystemExit) as error:  # the edge of a file that somebody else wrote
            said, line = f"{type(error).__name__}: {error}", own_line(error, module_name)
            where = target if line is None else f"{target}, {line}"
            raise BrokenPlugin(f"{self.kind} {name!r} ({where}) does not load: {said}.") from error
        if not isinstance(plugin, Plugin) or plugin.name != name:
            raise BrokenPlugin(f"{target} is not a Plugin named {name!r}.")
        for wrong in self.wrong_flags(plugin):
            raise BrokenPlugin(f"{self.kind} {name!r} ({target}): {wrong}.")
        return plugin

    def wrong_flags(self, plugin: Plugin[T]) -> Iterator[str]:
        """What is wrong with the flags that every plug-in of the kind must have."""
        for flag, kind in self._flags.items():
            if flag not in plugin.flags:
                yield f"it lacks the flag {flag} ({kind.__name__})"
            elif type(plugin.flags[flag]) is not kind:
                yield f"its flag {flag} is {plugin.flags[flag]!r}, and not of type {kind.__name__}"

    def own(self) -> dict[str, Plugin[T]]:
        """Those of the folder itself, which tests hold to their contracts, without what others brought."""
        return {name: self[name] for name, target in self._targets.items() if target.startswith(f"{self.package}.")}

    def sound(self) -> dict[str, Plugin[T]]:
        """All that load; what is wrong with the others is said where they are asked for."""
        found = {}
        for name in self:
            with suppress(BrokenPlugin):
                found[name] = self[name]
        return found

    def module_of(self, name: str) -> str:
        """The module that holds the plug-in's record; one that is put into the registry by hand is its creator's."""
        target = self._targets.get(name)
        return target.partition(":")[0] if target else module_of(self[name].create)

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets
