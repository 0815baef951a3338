"""The job that `nas run` is about: the unfinished one of the same spec, with what was edited since, or a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nas.client import Client, JobHandle
from nas.paths import with_absolute_paths
from nas.resources import Job, JobState
from nas.spec import Budget, JobSpec, PluginRef
from searchspaces import InvalidState, SpecError


class Run(NamedTuple):
    """A job, and what the user should know of how it came to be this one."""

    handle: JobHandle
    notes: tuple[str, ...] = ()


def begin_or_go_on(client: Client, written: JobSpec) -> Run:
    """The newest job of this spec that has not ended; one that was paused goes on. Else a new job.

    Name, labels and budget are no part of what tells specs apart: what was edited in them since the job was submitted
    is changed on the job. Where it cannot be, a new job begins.

    Raises:
        SpecError: the spec is wrong. ServiceError: nothing answers.
    """
    spec = _resolved(client, with_absolute_paths(written))
    same = [handle for handle in client.jobs() if handle.job.spec_digest == spec.digest()]
    found = next((handle for handle in same if not handle.state.is_terminal), None)
    if found is None:
        ended = f"job {same[0].job_id} of the same spec has ended ({same[0].state.value})" if same else ""
        return Run(client.submit(written), (f"{ended}; this is a new one",) if ended else ())
    edited, kept = _edits(found.job, spec)
    try:
        told = _changed(found, edited)
    except (SpecError, InvalidState) as error:
        why = "; ".join(str(error).splitlines())
        goes_on = f"job {found.job_id} of the same spec cannot take what was edited ({why}), so this is a new one; "
        return Run(client.submit(written), (f"{goes_on}the other goes on, too: nas cancel {found.job_id}",))
    if found.state is JobState.PAUSED:
        found.resume()
    return Run(found, ("it goes on where it was", *told, *kept))


def _resolved(client: Client, spec: JobSpec) -> JobSpec:
    """With the data set as the service resolves it."""
    ref = spec.dataset
    known = next((info for info in client.datasets() if ref and info.name == ref.name), None)
    if known is None or ref is None or ref.config:
        return spec
    return spec.model_copy(update={"dataset": PluginRef(name=known.plugin, config=known.config)})


def _edits(job: Job, spec: JobSpec) -> tuple[dict[str, Any], list[str]]:
    """What the file says otherwise than the job, by field; and what was changed on the job alone, which stays so."""
    submitted = JobSpec.from_mapping(job.spec)
    fields = [("name", job.name, submitted.name, spec.name), ("labels", job.labels, submitted.labels, spec.labels)]
    fields += [
        (f"budget.{name}", getattr(job.budget, name), getattr(submitted.budget, name), getattr(spec.budget, name))
        for name in Budget.model_fields
    ]
    edited, kept = dict[str, Any](), list[str]()
    for field, now, before, wanted in fields:
        if wanted == now:
            continue
        if wanted == before:
            kept.append(
                f"{field} stays {_shown(now)}, to which the job was changed since; the file says {_shown(wanted)}"
            )
        else:
            edited[field] = wanted
    return edited, kept


def _changed(handle: JobHandle, edited: Mapping[str, Any]) -> list[str]:
    """Change the job so; what was changed, in words."""
    if not edited:
        return []
    budget = {field.removeprefix("budget."): value for field, value in edited.items() if field.startswith("budget.")}
    before = {f"budget.{name}": getattr(handle.job.budget, name) for name in budget}
    before |= {"name": handle.job.name, "labels": handle.job.labels}
    handle.change(budget=budget or None, name=edited.get("name"), labels=edited.get("labels"))
    return [
        f"{field} is {_shown(value)} now, as edited; it was {_shown(before[field])}" for field, value in edited.items()
    ]


def _shown(value: object) -> str:
    return "none" if value is None or value == {} else f"{value:g}" if isinstance(value, float) else str(value)
