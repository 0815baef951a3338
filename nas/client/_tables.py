"""Candidates as a table, figures as plotly figures: the heavy libraries load here, when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nas.resources import Candidate
from searchspaces import ServiceError

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects

_FIRST, _LAST = ("number",), ("on_front", "feasible", "digest", "text")
"""Long texts come last: pandas shows the first and the last columns, and hides those between."""


def frame(candidates: Sequence[Candidate]) -> pandas.DataFrame:
    """One row per candidate, in the order given: number, every metric@level, on_front, feasible, digest, text."""
    pandas = _library("pandas", "pandas")
    metrics = sorted({key for candidate in candidates for key in candidate.values})
    columns: dict[str, list[object]] = {
        **{name: [getattr(candidate, name) for candidate in candidates] for name in _FIRST},
        **{key: [candidate.values.get(key) for candidate in candidates] for key in metrics},
        **{name: [getattr(candidate, name) for candidate in candidates] for name in _LAST},
    }
    return pandas.DataFrame(columns)


def plotly_figure(content: dict[str, Any]) -> plotly.graph_objects.Figure:
    """The figure that the service drew; keys that an older plotly does not know are left out."""
    return _library("plotly.graph_objects", "train").Figure(content, skip_invalid=True)


def _library(name: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        raise ServiceError(
            f"{package} is not installed; `pip install {package}`, or install nas-service[{extra}].",
            code="MISSING_LIBRARY",
        ) from error
