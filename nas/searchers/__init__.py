"""Who proposes architectures. PLUG-IN FOLDER: one searcher per file.

A plug-in's `create(config, space, objectives)` gives a `Searcher`. Flags: `multi_objective`, `replicates` (it may ask
for a known architecture again), `fidelities` (it may ask for one at another fidelity), `decisions` (the kind of
decisions that a space must have some of), `ranks` (it ranks candidates before they are measured: `create` takes a
`nas.scoring.Scores` as well, and makes do with costs where it is None), `pool` (it chooses from a pool of them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nas.resources import Objective
from nas.searchers._searcher import Searcher, proposal, unseen
from nas.spec import PluginRef
from searchspaces import ConfigError, Registry, SearchSpace, Violation

if TYPE_CHECKING:
    from nas.scoring import Scores

REGISTRY: Registry[Searcher] = Registry("searchers", "nas.searchers")

__all__ = ["REGISTRY", "Searcher", "make_searcher", "proposal", "unseen"]


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
