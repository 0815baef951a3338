"""Where relative paths begin: in the folder where the program runs that hands a spec over.

One rule for data sets, tables and every other setting that is marked as a path. The client makes them whole before it
sends a spec, and admission what is left, so that a job means the same files wherever its service is started again. What
a setting may also find in `$NAS_DATA` stays relative where nothing of that name is here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from nas.plugins import KINDS, registry
from nas.spec import JobSpec
from searchspaces import BrokenPlugin, Violation, marks_data_path, marks_path, whole_path, why_unreachable


def with_absolute_paths(spec: JobSpec) -> JobSpec:
    """The spec with every relative path made absolute; `~` is the home folder. What was not given stays so."""
    mapping = spec.to_mapping(only_given=True)
    absolute = _walked(mapping)
    return spec if absolute == mapping else JobSpec.from_mapping(absolute)


def with_absolute_settings(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a plug-in with every relative path made absolute."""
    found: dict[str, Any] = _walked({"name": name, "config": dict(config)})["config"]
    return found


def unreachable(mapping: Mapping[str, Any], at: str = "") -> list[Violation]:
    """Every path in a spec, or in settings, that nobody can look at or read here: too long, no permission, a loop.

    Where nothing is at a path, that is said by what reads it.
    """
    return [
        Violation(field, repr(text), f"a path that can be reached ({reason})")
        for field, text, info in _named(mapping, at)
        for place in _places(text, may_lie_in_data=marks_data_path(info))
        if (reason := why_unreachable(place))
    ]


def absent(mapping: Mapping[str, Any]) -> list[Violation]:
    """Every path in a spec at which nothing is."""
    return [
        Violation(
            field, repr(text), f"a file or folder that is there; nothing is at {' or at '.join(map(str, places))}"
        )
        for field, text, info in _named(mapping, "")
        if not any(map(_is_there, places := _places(text, may_lie_in_data=marks_data_path(info))))
    ]


def _named(value: Any, at: str) -> Iterator[tuple[str, str, FieldInfo]]:
    """Every setting that is marked as a path: where it stands, and what it says."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, held in items:
        field = f"{at}.{key}" if at else str(key)
        name = value.get("name") if isinstance(value, Mapping) else None
        if key == "config" and isinstance(name, str) and isinstance(held, Mapping):
            for setting, text in held.items():
                marked = [info for info in _fields(name, setting) if isinstance(text, str) and marks_path(info)]
                yield from ((f"{field}.{setting}", text, info) for info in marked[:1])
        yield from _named(held, field)


def _places(text: str, *, may_lie_in_data: bool) -> list[Path]:
    folder = os.environ.get("NAS_DATA")
    in_data = may_lie_in_data and folder and text[:1] not in ("~", "/")
    return [whole_path(text), *([whole_path(Path(folder or "", text))] if in_data else [])]


def named_files(spec: JobSpec) -> Iterator[tuple[str, Path]]:
    """Every path that the settings of a spec name: where it stands, and where it leads."""
    for field, text, info in _named(spec.to_mapping(), ""):
        places = _places(text, may_lie_in_data=marks_data_path(info))
        yield field, next((place for place in places if place.exists()), places[0])


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
    if not text or (may_lie_in_data and text[0] not in "~/" and not _is_there(Path(text))):
        return text
    path = whole_path(text)
    return text if path == Path(text) else str(path)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or a folder that nobody may look into
        return False
