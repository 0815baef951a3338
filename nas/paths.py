"""Where relative paths begin: in the folder where the program runs that hands a spec over.

One rule for data sets, tables and every other setting that is marked as a path. The client makes them whole before it
sends a spec, and admission what is left, so that a job means the same files wherever its service is started again. What
a setting may also find in `$NAS_DATA` stays relative where nothing of that name is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from nas.plugins import KINDS, registry
from nas.spec import JobSpec
from searchspaces import BrokenPlugin, marks_data_path, marks_path


def with_absolute_paths(spec: JobSpec) -> JobSpec:
    """The spec with every relative path made absolute; `~` is the home folder."""
    mapping = spec.to_mapping()
    absolute = _walked(mapping)
    return spec if absolute == mapping else JobSpec.from_mapping(absolute)


def with_absolute_settings(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a plug-in with every relative path made absolute."""
    found: dict[str, Any] = _walked({"name": name, "config": dict(config)})["config"]
    return found


def _walked(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_walked(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    name, config = value.get("name"), value.get("config")
    if isinstance(name, str) and isinstance(config, Mapping):
        return {**value, "config": {key: _setting(name, key, held) for key, held in config.items()}}
    return {key: _walked(item) for key, item in value.items()}


def _setting(name: str, key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return _walked(value)
    for info in _fields(name, key):
        if marks_path(info):
            return _absolute(value, may_lie_in_data=marks_data_path(info))
    return value


def _fields(name: str, key: str) -> Iterator[FieldInfo]:
    """The settings called `key` of the plug-ins called `name`: of which kind, a spec does not say everywhere."""
    for kind in KINDS:
        try:
            if name in registry(kind) and key in registry(kind)[name].Config.model_fields:
                yield registry(kind)[name].Config.model_fields[key]
        except BrokenPlugin:
            continue  # refused where it is used


def _absolute(text: str, *, may_lie_in_data: bool) -> str:
    path = Path(text).expanduser() if text.startswith("~") else Path(text)
    if path.is_absolute() or not text or (may_lie_in_data and not path.exists()):
        return text if path == Path(text) else str(path)
    return str(path.absolute())
