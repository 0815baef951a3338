"""Who proposes architectures. PLUG-IN FOLDER: one searcher per file.

A plug-in's `create(config, space, objectives)` gives a `Searcher`. Flags: `multi_objective`, `replicates` (it may ask
for a known architecture again), `fidelities` (it may ask for one at another fidelity), `decisions` (the kind of
decisions that a space must have some of), `ranks` (it ranks candidates before they are measured: `create` takes a
`nas.scoring.Scores` as well, and makes do with costs where it is None), `pool` (it chooses from a pool of them).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nas.resources import Objective
from nas.searchers._searcher import Searcher, proposal, unseen
from nas.searchers._warm_up import warm_up_notes, with_short_warm_up
from nas.spec import PluginRef
from searchspaces import ConfigError, Registry, SearchSpace, Violation

if TYPE_CHECKING:
    from nas.scoring import Scores

REGISTRY: Registry[Searcher] = Registry("searchers", "nas.searchers")

__all__ = [
    "REGISTRY",
    "Searcher",
    "make_searcher",
    "proposal",
    "unseen",
    "warm_up_notes",
    "with_short_warm_up",
    "within",
    "within_notes",
]


def make_searcher(
    ref: PluginRef, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None = None
) -> Searcher:
    """The searcher of this name and settings; one whose flag `ranks` is set is given the scores.

    Raises:
        ConfigError: there are several objectives and its flag `multi_objective` is not set, or it cannot search this
            space.
    """
    plugin = REGISTRY[ref.name]
    if len(objectives) > 1 and not plugin.flags.get("multi_objective"):
        raise ConfigError([Violation("searcher", ref.name, f"one that takes {len(objectives)} objectives")])
    given = (scores,) if plugin.flags.get("ranks") else ()
    return plugin(ref.config, space, objectives, *given)


def within(ref: PluginRef, evaluations: int) -> PluginRef:
    """The searcher, and those that it holds, with beginnings that fit a budget.

    What is random or one generation long before a searcher learns takes at most a quarter of the evaluations, where
    the spec does not say otherwise: with 20 evaluations a population of 50 would be random search by another name.
    The budget that a job was admitted with counts, so that raising it later changes nothing that has begun.
    """
    plugin = REGISTRY[ref.name]
    held = getattr(plugin.configure(ref.config), "searcher", None)
    ref = with_short_warm_up(plugin, ref, evaluations)
    if not isinstance(held, PluginRef):
        return ref
    inner = within(held, evaluations)
    if inner == held:
        return ref
    return PluginRef(name=ref.name, config={**ref.config, "searcher": inner.model_dump(mode="json")})


def within_notes(ref: PluginRef, evaluations: int, *, at: str = "searcher") -> Iterator[str]:
    """What a user should know of what `within` changes, and of what it must leave: one sentence each."""
    plugin = REGISTRY[ref.name]
    yield from warm_up_notes(plugin, ref, evaluations, at=at)
    held = getattr(plugin.configure(ref.config), "searcher", None)
    if isinstance(held, PluginRef):
        yield from within_notes(held, evaluations, at=f"{at}.config.searcher")
