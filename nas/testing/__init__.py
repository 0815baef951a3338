"""The contracts of all plug-in kinds as plain functions, for our tests and for those of third-party plug-ins.

Each raises `ContractViolation` when a plug-in breaks its contract. They are loaded when first used: a check of a space
needs torch, one of a searcher does not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.testing._costs import check_cost as check_cost
    from nas.testing._datasets import check_dataset as check_dataset
    from nas.testing._datasets import check_split as check_split
    from nas.testing._datasets import check_task as check_task
    from nas.testing._evaluators import Devices as Devices
    from nas.testing._evaluators import check_evaluator as check_evaluator
    from nas.testing._evaluators import small_bench as small_bench
    from nas.testing._networks import check_pass as check_pass
    from nas.testing._plugins import check_plugin as check_plugin
    from nas.testing._plugins import check_record as check_record
    from nas.testing._predictors import check_predictor as check_predictor
    from nas.testing._predictors import quick_settings as quick_settings
    from nas.testing._recipes import check_recipe as check_recipe
    from nas.testing._searchers import check_searcher as check_searcher
    from nas.testing._spaces import check_offer as check_offer
    from nas.testing._spaces import check_reading as check_reading
    from nas.testing._spaces import check_space as check_space
    from nas.testing._spaces import spaces_with as spaces_with
    from nas.testing._tables import check_table as check_table

_HOMES = {
    "Devices": "_evaluators",
    "check_reading": "_spaces",
    "check_pass": "_networks",
    "check_split": "_datasets",
    "check_cost": "_costs",
    "check_dataset": "_datasets",
    "check_evaluator": "_evaluators",
    "check_offer": "_spaces",
    "check_plugin": "_plugins",
    "check_leaves_network": "_proxies",
    "check_predictor": "_predictors",
    "check_proxy": "_proxies",
    "check_recipe": "_recipes",
    "check_record": "_plugins",
    "check_searcher": "_searchers",
    "check_space": "_spaces",
    "check_table": "_tables",
    "check_task": "_datasets",
    "quick_settings": "_predictors",
    "small_bench": "_evaluators",
    "spaces_with": "_spaces",
}

__all__ = [
    "Devices",
    "check_cost",
    "check_dataset",
    "check_evaluator",
    "check_leaves_network",
    "check_offer",
    "check_pass",
    "check_plugin",
    "check_predictor",
    "check_proxy",
    "check_reading",
    "check_recipe",
    "check_record",
    "check_searcher",
    "check_space",
    "check_split",
    "check_table",
    "check_task",
    "quick_settings",
    "small_bench",
    "spaces_with",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
