"""What a trained supernet is known by: everything that its weights depend on.

Settings with the content of the files that they name, the samples, and the sources of all that takes part. Another
version of torch, another device or number of threads makes other roundings, not another supernet: that is told where
one is taken over.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from nas.plugins import KINDS, registry
from nas.sources import changed_since_loaded, content_digest, library_versions, source_digest, sources_of
from nas.spec import JobSpec, JsonValue, PluginRef, digest_of
from searchspaces import marks_path

if TYPE_CHECKING:
    from nas.workbench import Workbench

_DIGITS = 7


class SupernetKey(NamedTuple):
    """`family`: of all but the length; `text`: of the length too. Lengths of a family sort as texts do.

    `changed`: sources that this process had loaded before they were changed. What it trains is then not what the key
    says, so nobody else may take it over, and it may take over nothing.
    """

    family: str
    epochs: int
    changed: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return f"{self.family}-{self.epochs:0{_DIGITS}d}"

    @property
    def longest(self) -> str:
        """The last text of the family."""
        return f"{self.family}-{'9' * _DIGITS}"


def output_key(spec: JobSpec, bench: Workbench, epochs: int) -> SupernetKey:
    """The key of the supernet that a job with this spec trains for so many epochs."""
    modules = [module for kind, ref in _taking_part(spec) for module in modules_of(kind, ref)]
    sources = sources_of(modules)
    dataset = bench.dataset
    parts: dict[str, Any] = {
        "plugins": [[kind, settings_of(kind, ref)] for kind, ref in _taking_part(spec)],
        "supernet": spec.supernet.model_dump(mode="json", exclude={"recipe", "from_job", "diagnosis"}),
        "precision": bench.precision,
        "seed": spec.seed,
        "samples": dataset.digest,
        "images": [dataset.mean, dataset.std, dataset.flips, dataset.max_shift, dataset.num_classes],
        "sources": {source.label: source_digest(source.path) for source in sources},
        "libraries": library_versions(sources),
    }
    return SupernetKey(digest_of(parts)[:48], epochs, tuple(changed_since_loaded(sources)))


def _taking_part(spec: JobSpec) -> Iterator[tuple[str, PluginRef]]:
    """The plug-ins that make the weights: the evaluator too where it says which part of the space there is."""
    yield "spaces", spec.space
    if spec.dataset is not None:
        yield "datasets", spec.dataset
    yield "tasks", spec.task
    yield "recipes", spec.supernet.recipe
    if hasattr(registry("evaluators")[spec.evaluator.name].Config, "offered_space"):
        yield "evaluators", spec.evaluator


def settings_of(kind: str, ref: PluginRef) -> dict[str, JsonValue]:
    """A plug-in's settings, with the defaults, in plain values; beside a path what lies there.

    A data set's files are left out: its samples have a digest of their own, wherever they lie.
    """
    config = registry(kind)[ref.name].configure(ref.config)
    return {"name": ref.name, "config": _fields(kind, config)}


def _fields(kind: str, model: BaseModel) -> dict[str, JsonValue]:
    fields = type(model).model_fields
    return {name: _plain(kind, getattr(model, name), is_path=marks_path(info)) for name, info in fields.items()}


def _plain(kind: str, value: object, *, is_path: bool) -> JsonValue:
    if isinstance(value, PluginRef):
        return [settings_of(each, value) for each in _kinds(kind, value)]
    if isinstance(value, BaseModel):
        return _fields(kind, value)
    if isinstance(value, Mapping):
        return {str(key): _plain(kind, each, is_path=is_path) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(kind, each, is_path=is_path) for each in value]
    if is_path and isinstance(value, str | Path):
        # The path too: a supernet's file holds the settings of its space, and fits no other ones.
        return "samples" if kind == "datasets" else [str(value), content_digest(Path(value).expanduser())]
    return to_jsonable_python(value, fallback=repr)


def modules_of(kind: str, ref: PluginRef) -> set[str]:
    """The modules of a plug-in, and of those in its settings: of its record, of what makes it, of its settings."""
    plugin = registry(kind)[ref.name]
    maker: Any = plugin.create
    while isinstance(maker, functools.partial):
        maker = maker.func
    made_by = maker if hasattr(maker, "__module__") else type(maker)
    found = {registry(kind).module_of(ref.name), made_by.__module__, plugin.Config.__module__}
    held = list(_held(plugin.configure(ref.config)))
    return found.union(*(modules_of(each, inner) for inner in held for each in _kinds(kind, inner)))


def _held(value: object) -> Iterator[PluginRef]:
    if isinstance(value, PluginRef):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _held(getattr(value, name))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _held(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _held(each)


def _kinds(kind: str, ref: PluginRef) -> list[str]:
    """Of which kind a held plug-in is: that of its holder, else any that knows the name; no setting says it."""
    return [kind] if ref.name in registry(kind) else [each for each in KINDS if ref.name in registry(each)]
