"""Bodies of requests: JSON that means one thing, and that every store can keep."""

from __future__ import annotations

import json
from collections.abc import Sequence

from nas.plain import unwritable
from searchspaces import Violation


def body_violations(body: bytes) -> list[Violation]:
    """What is wrong with a JSON body before anything asks what it is for; empty where it is no JSON, which others say.

    Python reads more than JSON is (NaN, Infinity), and of a key that is written twice it keeps the last.
    """
    twice: list[str] = []

    def unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                twice.append(key)
            found[key] = value
        return found

    try:
        read = json.loads(body, object_pairs_hook=unique)
    except RecursionError:
        return [Violation("(body)", "a deep nest", "a JSON document of at most 64 levels")]
    except ValueError:
        return []
    return [Violation(key, "a key that is there twice", "every key once") for key in twice] + unwritable(read)
