"""A space whose flags promise that it counts, which it does not."""

from __future__ import annotations

from searchspaces import Config as Settings
from searchspaces import Plugin
from searchspaces.nasbench201 import Config, NASBench201


class Uncounted(NASBench201):
    has_counts = False


def make(config: Settings) -> Uncounted:
    assert isinstance(config, Config)
    return Uncounted(config)


PLUGIN = Plugin("offering", "A cell that nobody counts.", "nobody", make, Config)
