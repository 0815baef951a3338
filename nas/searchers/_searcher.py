"""What every searcher is: a function of history."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from nas.history import History
from nas.resources import Fidelity, JsonObject, Objective, Proposal
from searchspaces import Architecture, Rng, SearchSpace

_TRIES = 64


class Searcher(ABC):
    """Proposes architectures of one space.

    Holds nothing that it could not rebuild from the history: a fresh object with the same history and `rng` proposes
    the same. A cache keyed on `len(history)` keeps `ask` at O(new).
    """

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective]) -> None:
        self.space, self.objectives = space, tuple(objectives)

    @abstractmethod
    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` proposals, all different and never proposed before; fewer, or none, when the space is used up.

        Args:
            history: all that was proposed in this job so far.
            n: how many are wanted.
            rng: the stream of the job's seed and the number of proposals so far.
        """

    def filled(self, proposals: list[Proposal], history: History, n: int, rng: Rng) -> list[Proposal]:
        """The proposals, filled up to `n` with uniform samples; fewer when the space is used up."""
        taken = {made.digest for made in proposals}
        while len(proposals) < n:
            found = unseen(self.space, history, taken, rng, lambda: live_form(self.space, self.space.sample(rng)))
            if found is None:
                break
            taken.add(found.digest)
            proposals.append(proposal(found, reason="uniform sample"))
        return proposals


def proposal(
    architecture: Architecture, *, level: str = "supernet", reason: str = "", memo: JsonObject | None = None
) -> Proposal:
    """A proposal of one architecture."""
    return Proposal(
        text=architecture.text,
        digest=architecture.digest,
        fidelity=Fidelity.model_validate({"level": level}),
        reason=reason,
        memo=memo or {},
    )


def live_form(space: SearchSpace, architecture: Architecture) -> Architecture:
    """The architecture without what cannot reach the output, where the (sub-)space holds that; it computes the same."""
    live = space.live(architecture)
    return architecture if space.validate(live) else live


def unseen(
    space: SearchSpace,
    history: History,
    taken: set[str],
    rng: Rng,
    draw: Callable[[], Architecture],
) -> Architecture | None:
    """An architecture from `draw` that was not proposed before and is not in `taken` (digests).

    Tries `draw` a bounded number of times, then uniform samples, then takes the first unseen one in the space's order:
    a used-up space ends the search instead of looping.
    """
    for attempt in range(2 * _TRIES):
        found = draw() if attempt < _TRIES else space.sample(rng)
        if not history.has_seen(found) and found.digest not in taken:
            return found
    return history.first_unseen(space, taken)
