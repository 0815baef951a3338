"""Scores of untrained networks, from at most two batches. PLUG-IN FOLDER: one proxy per file.

A plug-in's `create(config)` gives a `Proxy`; flags: `data`, `labels`, `second_order` (what it needs), `layers` (whether
it has a statistic of every layer), `direction` (always `max`), `fails` (where it is known to).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from predictors.zerocost._proxy import Batch, Proxy, ProxyContext, Score, Scored, Vote
from searchspaces import Registry

if TYPE_CHECKING:
    from predictors.zerocost._harness import score_architecture, score_network
    from predictors.zerocost._passes import Passes

REGISTRY: Registry[Proxy] = Registry(
    "proxies",
    "predictors.zerocost",
    {"data": bool, "labels": bool, "second_order": bool, "layers": bool, "direction": str, "fails": str},
)

__all__ = [
    "REGISTRY",
    "Batch",
    "Passes",
    "Proxy",
    "ProxyContext",
    "Score",
    "Scored",
    "Vote",
    "score_architecture",
    "score_network",
]

_WITH_TORCH = {"Passes": "_passes", "score_architecture": "_harness", "score_network": "_harness"}


def __getattr__(name: str) -> object:
    """The names that need torch, loaded when they are asked for."""
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"predictors.zerocost.{_WITH_TORCH[name]}"), name)
