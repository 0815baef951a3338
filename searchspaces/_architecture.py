"""An architecture: one option for every active decision of a space."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, eq=False)
class Architecture:
    """A frozen, hashable value with a canonical text; two are equal when their texts are.

    `options` holds one (decision, option) pair for every active decision, in the order of the space's decisions.
    Made by a space (`sample`, `parse`, `architecture`), never by hand: only the space knows the text.
    """

    options: tuple[tuple[str, str], ...]
    text: str

    @cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the text's SHA-256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @cached_property
    def _by_decision(self) -> dict[str, str]:
        return dict(self.options)

    def __getitem__(self, decision: str) -> str:
        return self._by_decision[decision]

    def __contains__(self, decision: object) -> bool:
        return decision in self._by_decision

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.options)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict[str, object]:
        """`{text, digest, options}`: what the store, the API and a model card hold."""
        return {"text": self.text, "digest": self.digest, "options": dict(self.options)}
