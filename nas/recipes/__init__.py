"""How a supernet is trained. PLUG-IN FOLDER: one paper per file, all through the one loop in `nas.training`.

A plug-in's `create(config, setting)` gives a `nas.training.Recipe`; `setting` is a `nas.training.Setting` (space,
number of samples, steps per epoch, epochs, seed).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from searchspaces import Registry

if TYPE_CHECKING:
    from nas.training import Recipe

REGISTRY: Registry[Recipe] = Registry("recipes", "nas.recipes")

__all__ = ["REGISTRY"]
