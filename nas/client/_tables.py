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

_COLUMNS = ("number", "digest", "text", "feasible", "on_front")


def frame(candidates: Sequence[Candidate]) -> pandas.DataFrame:
    """One row per candidate, in the order given: number, digest, text, feasible, on_front, and every metric@level."""
    pandas = _library("pandas", "pandas")
    metrics = sorted({key for candidate in candidates for key in candidate.values})
    rows = [
        [getattr(candidate, name) for name in _COLUMNS] + [candidate.values.get(key) for key in metrics]
        for candidate in candidates
    ]
    return pandas.DataFrame(rows, columns=[*_COLUMNS, *metrics])


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
