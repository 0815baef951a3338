"""What every plug-in's record promises, of whatever kind."""

from __future__ import annotations

import json
from collections.abc import Mapping

from nas.plugins import registry
from searchspaces import Config, ConfigError, ContractViolation, Plugin

_PATHS = {"path", "file", "folder"}  # what settings are called that name files


def check_plugin(kind: str, name: str) -> None:
    """Checks the record of one plug-in: `kind` is one of `nas.plugins.KINDS`, `name` that of its file.

    It is described in one line, names its source, and its Config is frozen, refuses unknown keys, describes every
    field, bounds every number and marks every path; its defaults are valid, and its flags and settings survive JSON.

    Raises:
        ContractViolation: a promise is broken.
    """
    plugin = registry(kind)[name]
    _require(plugin.name == name, f"the name is the file's, {name}", plugin.name)
    check_record(plugin, kind)


def check_record(plugin: Plugin[object], kind: str) -> None:
    """Checks what `check_plugin` does on a record that need not be registered.

    Raises:
        ContractViolation: a promise is broken.
    """
    name = plugin.name
    for what, text in (("description", plugin.description), ("source", plugin.source)):
        _require(bool(text.strip()) and "\n" not in text, f"{kind} {name} has a {what} of one line", text)
    _check_config(plugin, f"{kind} {name}")
    _require(callable(plugin.create), f"{kind} {name}: create can be called", plugin.create)
    for wrong in registry(kind).wrong_flags(plugin):
        raise ContractViolation(f"{kind} {name} has the flags of its kind; {wrong}.")
    for flag, value in plugin.flags.items():
        plain = all(isinstance(item, str) for item in value) if isinstance(value, tuple) else True
        _require(plain and isinstance(value, bool | int | float | str | tuple), f"flag {flag} is plain", value)


def _check_config(plugin: Plugin[object], what: str) -> None:
    config = plugin.Config
    _require(issubclass(config, Config), f"{what}: Config is a searchspaces.Config", config)
    _require(config.model_config.get("frozen") is True, f"{what}: Config is frozen", config)
    _require(config.model_config.get("extra") == "forbid", f"{what}: Config refuses unknown keys", config)
    for field, info in config.model_fields.items():
        _require(bool(info.description), f"{what}: setting {field} is described", info)
        is_path = field.rpartition("_")[2] in _PATHS
        _require(not is_path or config.names_path(field), f"{what}: setting {field} is marked as LOCAL_PATH", info)
    for field, schema in config.model_json_schema().get("properties", {}).items():
        for part in schema.get("anyOf", [schema]):
            _require(_is_bounded(part), f"{what}: setting {field} has a smallest and a largest value", part)
    if any(info.is_required() for info in config.model_fields.values()):
        return
    defaults = plugin.configure()
    _require(
        plugin.configure(json.loads(defaults.model_dump_json())) == defaults, f"{what}: defaults survive JSON", defaults
    )
    try:
        plugin.configure({"no_such_setting": 1})
    except ConfigError as error:
        _require(error.violations[0].field == "no_such_setting", f"{what}: a violation names its field", error)
    else:
        raise ContractViolation(f"{what}: an unknown setting was not refused.")


def _is_bounded(schema: Mapping[str, object]) -> bool:
    if schema.get("type") not in ("integer", "number") or "enum" in schema or "const" in schema:
        return True
    low, high = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
    return bool(low & set(schema)) and bool(high & set(schema))


def _require(holds: bool, promise: str, got: object) -> None:
    if not holds:
        raise ContractViolation(f"{promise}; got {got!r}.")
