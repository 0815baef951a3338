"""Ids that sort by time, and page tokens."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from typing import Any

from searchspaces import SpecError, Violation

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
MAX_PAGE = 10_000


def new_id(prefix: str) -> str:
    """`prefix_` and 16 letters: ten of the time in milliseconds, six at random."""
    return f"{prefix}_{_base32(time.time_ns() // 1_000_000, 10)}{_base32(secrets.randbits(30), 6)}"


def page_limit(page_size: int) -> int:
    """A page size within bounds."""
    return max(1, min(page_size, MAX_PAGE))


def token_of(*values: Any) -> str:
    """An opaque page token that holds `values`."""
    return base64.urlsafe_b64encode(json.dumps(values, separators=(",", ":")).encode()).decode().rstrip("=")


def values_of(token: str, *types: type | tuple[type, ...]) -> list[Any]:
    """What a page token holds.

    Raises:
        SpecError: it is none of ours.
    """
    try:
        values = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError) as error:
        raise _not_ours(token) from error
    is_ours = isinstance(values, list) and len(values) == len(types)
    if not is_ours or not all(isinstance(value, kind) for value, kind in zip(values, types, strict=True)):
        raise _not_ours(token)
    return list(values)


def _not_ours(token: str) -> SpecError:
    allowed = "the next_page_token of the page before, with the same order and filters"
    return SpecError([Violation("page_token", repr(token), allowed)])


def _base32(number: int, width: int) -> str:
    return "".join(_LETTERS[(number >> (5 * place)) & 31] for place in reversed(range(width)))
