"""A recipe whose paths end with the first epoch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nas.recipes import REGISTRY
from searchspaces import Config, Plugin

if TYPE_CHECKING:
    from nas.training import Recipe, Setting


class Planning:
    """A maker that is neither a class to be made nor a function."""

    def make(self, config: Config, setting: Setting) -> Recipe:
        from nas.training import UniformPaths

        class Listed(UniformPaths):
            def plan(self, step):  # type: ignore[no-untyped-def]
                return [[]][step + 1]

        made: Recipe = REGISTRY["spos"](None, setting)
        return replace(made, paths=Listed(setting))


PLUGIN = Plugin("planning", "Paths of a list.", "nobody", Planning().make)
