"""What can be written as JSON and kept in every store: finite numbers, text without NUL, and nothing but plain values.

SQLite, PostgreSQL and JSON each refuse something else, and only when it is written, which may be long after it arose.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath

from searchspaces import Violation, shortened

_DEEPEST = 64
# Control characters, halves of pairs, and marks that turn the direction of what follows.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LARGEST = 2**63  # what a column of whole numbers holds


def unwritable(value: object, at: str = "") -> list[Violation]:
    """Everything in plain values that some store could not keep: where it is, and what is allowed there."""
    return [Violation(where or "(whole)", shortened(what), allowed) for where, what, allowed in _faults(value, at, 0)]


def clean_text(text: str) -> str:
    r"""Text that can be kept: NUL and halves of characters are written as `\x00` and `\udc80`."""
    return text.replace("\0", r"\x00").encode(errors="backslashreplace").decode()


def visible(text: str) -> str:
    r"""Text for a terminal: what would move its cursor, colour it or turn its direction stands there as `\x1b`.

    Names come from anybody; new lines are escaped too, so that nobody adds a line of his own.
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _faults(value: object, at: str, depth: int) -> Iterator[tuple[str, object, str]]:
    if isinstance(value, str):
        if value != clean_text(value):
            yield at, value, "text without NUL and without halves of characters"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield at, value, "a finite number"
    elif isinstance(value, int):
        if not -_LARGEST <= value < _LARGEST:
            yield at, "a very large number", "a whole number of at most 64 bits"
    elif isinstance(value, Mapping | list | tuple):
        if depth == _DEEPEST:
            yield at, "a deep nest", f"at most {_DEEPEST} levels"
            return
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, held in items:
            if isinstance(value, Mapping):
                yield from _faults(key, f"{at}.{clean_text(str(key))}" if at else clean_text(str(key)), depth + 1)
            yield from _faults(held, f"{at}.{clean_text(str(key))}" if at else clean_text(str(key)), depth + 1)
    elif value is not None and not isinstance(value, PurePath):
        yield at, value, "text, a number, true, false, a list or a mapping (a date in quotes)"
