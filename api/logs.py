"""What the processes log: as it is, but for characters that a terminal would obey."""

from __future__ import annotations

import logging

from nas.plain import visible


class PlainFormatter(logging.Formatter):
    """Names in a message may be anybody's: only the lines of a traceback are kept as lines."""

    def format(self, record: logging.LogRecord) -> str:
        """The message on one line, and a traceback below it."""
        message = visible(record.getMessage())
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        return "\n".join([message, *(visible(line) for line in trace.splitlines())])


def log_to_terminal() -> None:
    """Warnings and errors of this process to standard error, unless somebody has set up another place."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter())
    root.addHandler(handler)
