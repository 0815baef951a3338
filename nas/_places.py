"""Where a key that stands at the wrong place of a spec belongs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from pydantic import BaseModel

from searchspaces import NASError, Violation, elsewhere

_NO_KEY = "no such key"
_PLUGINS = (
    ("spaces", "space"),
    ("datasets", "dataset"),
    ("tasks", "task"),
    ("recipes", "supernet.recipe"),
    ("evaluators", "evaluator"),
    ("evaluators", "audit.evaluator"),
    ("searchers", "searcher"),
)


def with_places(found: Sequence[Violation], mapping: Mapping[str, object], defaults: BaseModel) -> list[Violation]:
    """Violations, those of unknown keys with the plug-in whose setting each is, or the section of the spec.

    Args:
        found: what is wrong.
        mapping: what the user wrote.
        defaults: a spec of which the user wrote nothing, for the plug-ins that he did not name.
    """
    return [
        replace(violation, allowed=f"{_NO_KEY} here; {place}")
        if violation.allowed.startswith(_NO_KEY) and (place := _place(violation, mapping, defaults))
        else violation
        for violation in found
    ]


def _place(violation: Violation, mapping: Mapping[str, object], defaults: BaseModel) -> str:
    section, _, key = violation.field.rpartition(".")
    of_plugins = {f"{field}.config": name for name, field in _settings_named(key, mapping, defaults)}
    of_plugins.pop(section, None)
    settings = " or ".join(f"{name}, {at}.{key}" for at, name in of_plugins.items())
    said = [elsewhere(key, section, type(defaults)), f"{key} is a setting of {settings}" if settings else ""]
    return "; ".join(filter(None, said))


def _settings_named(key: str, mapping: Mapping[str, object], defaults: object) -> Iterator[tuple[str, str]]:
    """The plug-ins of a spec that have a setting of this name, and their fields."""
    from nas.plugins import registry

    for kind, field in _PLUGINS:
        name = _name_at(field, mapping, defaults)
        try:
            if name in registry(kind) and key in registry(kind)[name].Config.model_fields:
                yield name, field
        except NASError:
            continue  # a plug-in that does not load here has no settings to tell of


def _name_at(field: str, mapping: Mapping[str, object], defaults: object) -> str:
    given: object = mapping
    for part in field.split("."):
        given = given.get(part) if isinstance(given, Mapping) else None
        defaults = getattr(defaults, part, None)
    name = given.get("name") if isinstance(given, Mapping) else given
    return name if isinstance(name, str) else str(getattr(defaults, "name", ""))
