"""Plug-ins of others: tried before anything is spent on a job, and named where they fail later.

Our own are held to their contracts by tests. A stranger may break its in ways that come to light when a supernet is
trained already: what can be tried in seconds is tried at preflight (`nas.stages._trials`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel

from nas.admission import references
from nas.plugins import KINDS, registry
from nas.spec import JobSpec, PluginRef
from nas.stages._trials import TRIALS
from searchspaces import (
    BrokenPlugin,
    CheckpointError,
    ContractViolation,
    ExportError,
    InvalidArchitecture,
    MeasurementError,
    NASError,
    SpecError,
    Violation,
    defined_at,
    module_of,
    own_frame,
    raised_at,
)

if TYPE_CHECKING:
    from nas.workbench import Workbench

_BROKEN = (ContractViolation, BrokenPlugin, InvalidArchitecture, MeasurementError, ExportError, CheckpointError)
_OURS = ("searchspaces", "predictors", "nas")


def refuse_broken(spec: JobSpec, bench: Workbench) -> None:
    """Try what others brought to this job.

    Raises:
        SpecError: with a violation for every plug-in that breaks its contract, which names the promise and the line.
    """
    from nas.training import is_out_of_memory

    broken = []
    for kind, field, ref in named(spec):
        if not _is_strange(kind, ref):
            continue
        create = registry(kind)[ref.name].create
        try:
            TRIALS[kind](ref, spec, bench)
            continue
        except _BROKEN as error:
            said = f"{error} ({defined_at(create)})"
        except NASError:
            raise  # of settings, data, bounds: what it is meant to say
        except Exception as error:  # the edge of what somebody else wrote
            if is_out_of_memory(error):
                raise  # the limit of the process that measures is no promise that it broke
            said = f"it raised {type(error).__name__}: {error} ({raised_at(error, create)})"
        broken.append(Violation(field, repr(ref.name), f"a plug-in that keeps its contract: {said}"))
    if broken:
        raise SpecError(broken)


def blamed(spec: JobSpec, error: BaseException) -> str:
    """What an error says, with the plug-in of the job in whose source it arose last, and the line there."""
    said, found = f"{type(error).__name__}: {error}", list[tuple[int, str]]()
    for kind, _, ref in named(spec):
        try:
            modules = registry(kind).module_of(ref.name), module_of(registry(kind)[ref.name].create)
        except NASError:
            continue
        frame = own_frame(error, *modules)
        if frame is not None:
            one = kind[:-3] + "y" if kind.endswith("ies") else kind[:-1]
            found.append((frame[0], f"{one} {ref.name!r} raised {said} ({frame[1]})"))
    return max(found)[1] if found else said


def named(spec: JobSpec) -> Iterator[tuple[str, str, PluginRef]]:
    """Every plug-in of a spec with its kind and field, those in the settings of others too."""
    for kind, field, ref in references(spec):
        yield kind, field, ref
        yield from _held(kind, field, ref)


def _held(kind: str, field: str, ref: PluginRef) -> Iterator[tuple[str, str, PluginRef]]:
    if ref.name not in registry(kind):
        return
    for name, value in _fields(registry(kind)[ref.name].configure(ref.config)):
        for inner in value if isinstance(value, tuple | list) else (value,):
            if isinstance(inner, PluginRef):
                kinds = [kind] if inner.name in registry(kind) else [k for k in KINDS if inner.name in registry(k)]
                for each in kinds[:1]:
                    yield each, f"{field}.config.{name}", inner
                    yield from _held(each, f"{field}.config.{name}", inner)


def _fields(config: BaseModel) -> Iterator[tuple[str, object]]:
    return ((name, getattr(config, name)) for name in type(config).model_fields)


def _is_strange(kind: str, ref: PluginRef) -> bool:
    if ref.name not in registry(kind):
        return False
    made_by = registry(kind).module_of(ref.name), module_of(registry(kind)[ref.name].create)
    return any(name.partition(".")[0] not in _OURS for name in made_by)
