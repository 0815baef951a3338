"""Who proposes architectures. PLUG-IN FOLDER: one searcher per file.

A plug-in's `create(config, space, objectives)` gives a `Searcher`. Flags: `multi_objective`, `replicates` (it may ask
for a known architecture again).
"""

from nas.searchers._searcher import Searcher, proposal, unseen
from searchspaces import Registry

REGISTRY: Registry[Searcher] = Registry("searchers", "nas.searchers")

__all__ = ["REGISTRY", "Searcher", "proposal", "unseen"]
