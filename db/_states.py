"""What may become of a job: every transition has a name, and no state changes but by one of them.

A verb of the user may need workers to let go first: pause -> PAUSING, and when no unit is leased `paused` -> PAUSED.
A worker that finds that nothing can go on until somebody does something interrupts: the same, with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from nas.resources import JobState
from searchspaces import InvalidState


class Transition(NamedTuple):
    """From which states it may be taken, and where it leads."""

    sources: tuple[JobState, ...]
    target: JobState


_LIVE = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSING, JobState.PAUSED, JobState.STOPPING)

WORKABLE = (JobState.QUEUED, JobState.RUNNING, JobState.STOPPING)
"""States in which stage units are planned and leased."""

TRANSITIONS: Mapping[str, Transition] = MappingProxyType(
    {
        "start": Transition((JobState.QUEUED,), JobState.RUNNING),
        "pause": Transition((JobState.QUEUED, JobState.RUNNING), JobState.PAUSING),
        "interrupt": Transition(WORKABLE, JobState.PAUSING),
        "paused": Transition((JobState.PAUSING,), JobState.PAUSED),
        "resume": Transition((JobState.PAUSING, JobState.PAUSED), JobState.RUNNING),
        "requeue": Transition((JobState.PAUSING, JobState.PAUSED), JobState.QUEUED),
        "stop": Transition(_LIVE[:-1], JobState.STOPPING),
        "cancel": Transition(_LIVE, JobState.CANCELLING),
        "cancelled": Transition((JobState.CANCELLING,), JobState.CANCELLED),
        "finish": Transition((JobState.QUEUED, JobState.RUNNING, JobState.STOPPING), JobState.SUCCEEDED),
        "fail": Transition(_LIVE, JobState.FAILED),
        "reopen": Transition((JobState.SUCCEEDED,), JobState.RUNNING),
    }
)

VERBS = ("pause", "resume", "stop", "cancel")

STOPPED_BY_USER = "STOPPED_BY_USER"


def target_of(name: str, state: JobState) -> JobState:
    """Where transition `name` leads from `state`.

    Raises:
        InvalidState: it may not be taken from there; the message names the verbs that may.
    """
    transition = TRANSITIONS.get(name)
    if transition is None or state not in transition.sources:
        raise InvalidState(
            f"cannot {name} a job that is {state}; allowed now: {', '.join(allowed_verbs(state)) or 'none'}"
        )
    return transition.target


def allowed_verbs(state: JobState) -> tuple[str, ...]:
    """What a user may ask of a job in `state`."""
    return tuple(verb for verb in VERBS if state in TRANSITIONS[verb].sources)
