"""How long a searcher draws at random before it learns, held against the evaluations that a job may spend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from pydantic import JsonValue
from pydantic.config import JsonDict

from nas.searchers._searcher import Searcher
from nas.spec import PluginRef
from searchspaces import Config, ConfigError, Plugin

WARM_UP: JsonDict = {"warm_up": 0.25}
"""`json_schema_extra` of a setting that says how many evaluations come first, random ones or one generation: the share
of a job's evaluations that it takes at most where nobody set it."""
FEWEST = 4
"""So many evaluations it takes at least."""


class WarmUp(NamedTuple):
    """A setting that says how many evaluations come first.

    Attributes:
        field: its name in the searcher's settings; with a dot, a key within one.
        size: how many evaluations it takes.
        share: of a job's evaluations that it takes at most where nobody set it.
        is_given: whether it was set in the spec.
    """

    field: str
    size: int
    share: float
    is_given: bool


@runtime_checkable
class Warming(Protocol):
    """Settings that say themselves what warms up, since it stands in no field of theirs."""

    def warm_ups(self) -> Iterator[WarmUp]: ...


def warm_ups(config: Config) -> Iterator[WarmUp]:
    """The settings of a searcher that carry the mark and have a size, and those that it says itself."""
    if isinstance(config, Warming):
        yield from config.warm_ups()
    for name, field in type(config).model_fields.items():
        extra, size = field.json_schema_extra, getattr(config, name)
        share = extra.get("warm_up") if isinstance(extra, dict) else None
        if isinstance(share, float) and isinstance(size, int):
            yield WarmUp(name, size, share, name in config.model_fields_set)


def with_short_warm_up(plugin: Plugin[Searcher], ref: PluginRef, evaluations: int) -> PluginRef:
    """The searcher with every warm-up that nobody set cut down to its share of the evaluations.

    What the spec sets stays as it is, and so does a setting that the others do not allow to be less.
    """
    for found in warm_ups(plugin.configure(ref.config)):
        most = max(FEWEST, int(found.share * evaluations))
        if found.is_given or found.size <= most:
            continue
        config = _with(ref.config, found.field, most)
        try:
            plugin.configure(config)
        except ConfigError:
            continue
        ref = PluginRef(name=ref.name, config=config)
    return ref


def _with(config: Mapping[str, JsonValue], field: str, value: JsonValue) -> dict[str, JsonValue]:
    """Settings with one changed."""
    name, _, key = field.partition(".")
    if not key:
        return {**config, name: value}
    held = config.get(name)
    return {**config, name: _with(held if isinstance(held, dict) else {}, key, value)}


def warm_up_notes(plugin: Plugin[Searcher], ref: PluginRef, evaluations: int, *, at: str) -> Iterator[str]:
    """What is to be said of a searcher's warm-up beside these evaluations: that it is cut down, or takes them all."""
    after = {
        found.field: found.size
        for found in warm_ups(plugin.configure(with_short_warm_up(plugin, ref, evaluations).config))
    }
    for found in warm_ups(plugin.configure(ref.config)):
        size, field = after[found.field], f"{at}.config.{found.field}"
        if size >= max(1, 2 * found.share) * evaluations:
            few = max(1, int(found.share * evaluations))
            yield (
                f"{field} is {size} and budget.evaluations {evaluations}: {ref.name} does not get beyond its beginning "
                f"and learns nothing; give at most {few}, or more evaluations"
            )
        elif size < found.size:
            yield (
                f"{field} of {ref.name} is {size} and not {found.size}, as budget.evaluations is {evaluations}; "
                "one that is set stays"
            )
