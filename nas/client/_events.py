"""The event stream of a job (SSE), read line by line, and where to go on when it breaks."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from nas.resources import Event, Job, JsonObject
from searchspaces import NASError, ServiceError

_PATIENCE_SECONDS = 60.0
_DELAYS = (0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Message:
    """One message of the stream. `progress` and `end` are no stored events and have no sequence."""

    type: str
    sequence: int | None
    data: JsonObject


class Feed:
    """Lines in, messages out; knows the last event seen, and how long nothing has come."""

    def __init__(self, after: int = 0) -> None:
        self.after = after
        self._type, self._id = "message", ""
        self._data: list[str] = []
        self._failures, self._alive_at = 0, time.monotonic()

    def message(self, line: str) -> Message | None:
        """The message that `line` ends, if it ends one."""
        if line:
            self._field(line)
            return None
        type_, data, id_ = self._type, "\n".join(self._data), self._id
        self._type, self._data, self._id = "message", [], ""
        if not data and type_ != "end":
            return None
        self._failures, self._alive_at = 0, time.monotonic()
        sequence = int(id_) if id_.isdecimal() else None
        if sequence is not None:
            self.after = max(self.after, sequence)
        return Message(type_, sequence, _object(data))

    def pause(self, error: NASError | None) -> float:
        """The stream broke: seconds to wait before the next try.

        Raises:
            NASError: `error`, when it will not pass, or has lasted for a minute.
        """
        self._type, self._data, self._id = "message", [], ""
        will_pass = error is None or (isinstance(error, ServiceError) and (error.status == 0 or error.status >= 500))
        if error is not None and (not will_pass or time.monotonic() - self._alive_at > _PATIENCE_SECONDS):
            raise error
        self._failures += 1
        return _DELAYS[min(self._failures, len(_DELAYS)) - 1]

    def _field(self, line: str) -> None:
        if line.startswith(":"):  # a ping
            self._alive_at = time.monotonic()
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._type = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value


def stored_event(message: Message) -> Event | None:
    """The stored event that a message carries; None for `progress` and `end`."""
    return None if message.sequence is None else Event.model_validate(message.data)


def changed_job(message: Message, job: Job) -> Job:
    """`job` as a `progress` message tells it; the message leaves out the spec, which never changes."""
    return Job.model_validate({**message.data, "spec": job.spec}) if message.type == "progress" else job


def _object(text: str) -> JsonObject:
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise ServiceError("the service sent an event that is no JSON.", code="UNREADABLE") from error
    return found if isinstance(found, dict) else {"value": found}
