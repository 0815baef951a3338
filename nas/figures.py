"""Plots as plotly figures, the same for notebook, report and page.

Pure functions of resources; each gives the figure's JSON (`plotly.graph_objects.Figure(figure)` draws it). Papers are
transparent and texts mid-grey, so that a figure is readable on light and on dark pages. A point's `customdata` is the
digest of its candidate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from nas.resources import Candidate, Event, FrontPoint, JsonObject, Objective, ParetoFront
from searchspaces import Drawing

_TEXT, _GRID = "#858d9a", "rgba(133,141,154,0.22)"
_FRONT, _POINTS, _OUTSIDE, _SECOND = "#e8590c", "#4285d6", "#9aa1ac", "#2b9e77"
_WIRE_COLOUR = "#8a929c"
_OPTION_COLOURS = ("#4285d6", "#e8590c", "#2b9e77", "#a259c4", "#c99a06", "#d6457c", "#0fa3b1", "#7a7f3a")
_MOST_STEPS = 1000
_RIGHT = ("y2", "y6")  # axes at the right, whose lines are dotted
NUMBER = "number"
"""The axis on which candidates lie in the order of their proposals."""
_UNITS = {"latency_ms": "ms", "seconds": "s"}
_SAY_NO_MORE = {"", "fraction", "parameters", "FLOPs"}  # than the name of what has them
_Point = tuple[float, float]
_FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"


def pareto(
    front: ParetoFront,
    sample: Sequence[Candidate],
    objectives: Sequence[Objective],
    *,
    x: str | None = None,
    y: str | None = None,
    units: Mapping[str, str] | None = None,
) -> JsonObject:
    """The front over a sample of the candidates.

    The first objective is drawn upwards, the second to the right, a third as colour; further ones are in the hover.
    With a single objective the number of the proposal is drawn to the right. `x` and `y` draw other values
    (`metric@level`, or `number`) instead; candidates without them are left out. `units`: metric ->
    its unit, for the axes.
    """
    units = units or {}
    own = _Axes(objectives[1].key if len(objectives) > 1 else NUMBER, objectives[0].key)
    axes = _Axes(x or own.x, y or own.y)
    on_front = {point.digest for point in front.points}
    drawn = [c for c in sample if c.digest not in on_front and axes.has(c)]
    traces = [
        _points("evaluated", [c for c in drawn if c.feasible], axes, color=_POINTS, size=6, opacity=0.5),
        _points("outside the constraints", [c for c in drawn if not c.feasible], axes, color=_OUTSIDE, symbol="x"),
        _front_trace(front.points, objectives, axes, is_own=axes == own, units=units),
    ]
    layout = _layout(x=_axis_title(axes.x, objectives, units), y=_axis_title(axes.y, objectives, units))
    layout["hovermode"] = "closest"
    empty = "No candidate has been evaluated yet." if axes == own else "No candidate drawn here has both values."
    return _figure([trace for trace in traces if trace["y"]], layout, empty=empty)


def hypervolume(events: Sequence[Event]) -> JsonObject:
    """Hypervolume of the front and number of its points over the evaluations done, from `evaluations` events."""
    rows = _thinned([e.data for e in events if e.type == "evaluations" and e.data.get("hypervolume") is not None])
    x = [row.get("done") for row in rows]
    traces = [
        _line("hypervolume", x, [row["hypervolume"] for row in rows], color=_FRONT, shape="hv"),
        _line("points on the front", x, [row.get("front_size") for row in rows], color=_POINTS, shape="hv", axis="y2"),
    ]
    layout = _layout(x="evaluations", y="hypervolume", y2="points on the front")
    return _figure(traces if rows else [], layout, empty="The search has not begun yet.")


def training(events: Sequence[Event]) -> JsonObject:
    """How the supernet's training goes, over the epochs, from `epoch` events: three rows of one figure.

    Loss, and the share of distinct samples; the share of a gradient's mean square that is noise, from the data and from
    the paths, with standard errors (see `nas.training.GradientVariance`), where it was measured; images per second, and
    time of a step.
    """
    every = _epochs(events)
    rows, measured = _thinned(every), _thinned([row for row in every if row.get("gradient")])
    x = [row["epoch"] for row in rows]
    loss = _line("loss", x, [row.get("loss") for row in rows], color=_FRONT)
    loss["hovertemplate"] = "epoch %{x}<br>loss %{y:.4g}<extra></extra>"
    traces = [
        loss,
        _line("distinct samples", x, [row.get("distinct_share") for row in rows], color=_POINTS, axis="y2"),
        *(_noise(side, measured) for side in ("data", "paths") if measured),
        _line("images per second", x, [row.get("images_per_second") for row in rows], color=_SECOND, axis="y5"),
        _line("step time", x, [row.get("step_ms") for row in rows], color=_OUTSIDE, axis="y6"),
    ]
    layout = _layout(x="epoch", y="loss", y2="distinct samples")
    layout["yaxis"]["domain"] = [0.72, 1.0]
    layout["yaxis3"] = _axis("noise share") | {"domain": [0.36, 0.64], "rangemode": "tozero"}
    layout["yaxis5"] = _axis("images/s") | {"domain": [0.0, 0.28], "rangemode": "tozero"}
    layout["yaxis6"] = _right("step, ms", over="y5")
    layout["xaxis"] |= {"anchor": "y5"}
    if rows and not measured:
        text = "The variance of the gradient has not been measured yet."
        place = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
        layout["annotations"] = [{"text": text, "font": {"color": _TEXT, "size": 12}, **place}]
    return _figure(traces if rows else [], layout, empty="The supernet's training has not begun yet.")


def _noise(side: str, rows: Sequence[JsonObject]) -> JsonObject:
    """Share of one side's noise in the gradient, with its standard error; the variance itself in the hover."""
    name = f"gradient noise from {side}"
    found = [row["gradient"][side] for row in rows]
    trace = _line(name, [row["epoch"] for row in rows], [f["noise_share"] for f in found], color=_POINTS, axis="y3")
    colour = _FRONT if side == "paths" else _POINTS
    return trace | {
        "mode": "lines+markers",
        "line": {"color": colour, "width": 1},
        "marker": {"size": 6, "color": colour},
        "error_y": {
            "type": "data",
            "array": [f["noise_share_error"] for f in found],
            "color": colour,
            "thickness": 1.2,
            "width": 3,
        },
        "text": [f"variance {f['variance']:.3g} ± {f['variance_error']:.2g}" for f in found],
        "hovertemplate": "epoch %{x}<br>share %{y:.3f} ± %{error_y.array:.3f}<br>%{text}<extra>" + name + "</extra>",
    }


def paths(events: Sequence[Event]) -> JsonObject:
    """Probability of every option of every decision over the epochs, as a heat map, from `epoch` events."""
    rows = _thinned([row for row in _epochs(events) if row.get("distribution")])
    names: dict[tuple[str, str], None] = {}
    for row in rows:
        names.update({(str(d), str(o)): None for d, options in row["distribution"].items() for o in options})
    z = [[row["distribution"].get(d, {}).get(o) for row in rows] for d, o in names]
    heat = {
        "type": "heatmap",
        "x": [row["epoch"] for row in rows],
        "y": [f"{decision} · {option}" for decision, option in names],
        "z": z,
        "zmin": 0,
        "colorscale": "Viridis",
        "colorbar": {"title": {"text": "probability"}, "thickness": 12, "outlinewidth": 0},
        "hovertemplate": "epoch %{x}<br>%{y}<br>probability %{z:.3f}<extra></extra>",
    }
    layout = _layout(x="epoch", y=None)
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False}
    layout["height"] = max(320, 15 * len(names) + 90)
    return _figure([heat] if z else [], layout, empty="This recipe records no distribution of paths.")


def architecture(drawing: Drawing) -> JsonObject:
    """The graph of one architecture, from `searchspaces.drawing(space, architecture)`.

    An edge's colour is its option, grey where it has none; one that does not reach the output is dotted and faint.
    """
    nodes = {node["id"]: (node["x"], node["y"]) for node in drawing["nodes"]}
    names = {node["id"]: escape(node["label"], quote=False) for node in drawing["nodes"]}
    options = list(dict.fromkeys(edge["option"] for edge in drawing["edges"] if edge["option"]))
    colours = {option: _OPTION_COLOURS[i % len(_OPTION_COLOURS)] for i, option in enumerate(options)}
    colours[""] = _WIRE_COLOUR
    traces: list[JsonObject] = []
    heads: list[JsonObject] = []
    seen: dict[tuple[str, str], int] = {}
    shown = {""}
    for edge in drawing["edges"]:
        ends, option, is_live = (edge["source"], edge["target"]), edge["option"], edge["live"]
        curve = _curve(nodes, *ends, lane=seen.get(ends, 0))
        seen[ends] = seen.get(ends, 0) + 1
        tip = f"{names[ends[0]]} → {names[ends[1]]}" + (f"<br><b>{escape(option, quote=False)}</b>" if option else "")
        traces.append(_edge_trace(curve, option, colours[option], tip, is_live=is_live, is_first=option not in shown))
        shown.add(option)
        heads.append(_arrow(curve, colours[option], is_live=is_live))
    traces += [_node_trace(nodes, names)] if nodes else []
    layout = _layout(x=None, y=None)
    hidden = {"visible": False, "showgrid": False, "zeroline": False}
    layout |= {"xaxis": hidden, "yaxis": hidden, "annotations": heads, "hovermode": "closest", "dragmode": "pan"}
    return _figure(traces, layout, empty="This architecture has no graph.")


# --- parts -----------------------------------------------------------------------------------------------------------


class _Axes(NamedTuple):
    """What is drawn to the right and upwards: keys of values, or `number`."""

    x: str
    y: str

    def has(self, point: Candidate | FrontPoint) -> bool:
        return all(key == NUMBER or key in point.values for key in self)

    def of(self, point: Candidate | FrontPoint) -> tuple[float, float]:
        across, up = (point.number if key == NUMBER else point.values[key] for key in self)
        return across, up


def _points(
    name: str,
    points: Sequence[Candidate | FrontPoint],
    axes: _Axes,
    *,
    color: str,
    size: int = 6,
    opacity: float = 1.0,
    symbol: str = "circle",
) -> JsonObject:
    places = [axes.of(point) for point in points]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [across for across, _ in places],
        "y": [up for _, up in places],
        "customdata": [p.digest for p in points],
        "text": [_hover(p) for p in points],
        "hovertemplate": "%{text}<extra>" + name + "</extra>",
        "marker": {"color": color, "size": size, "opacity": opacity, "symbol": symbol, "line": {"width": 0}},
    }


def _front_trace(
    points: Sequence[FrontPoint],
    objectives: Sequence[Objective],
    axes: _Axes,
    *,
    is_own: bool,
    units: Mapping[str, str],
) -> JsonObject:
    keys = [objective.key for objective in objectives[:3]]
    kept = [p for p in points if axes.has(p) and all(key in p.values for key in keys)]
    ordered = sorted(kept, key=lambda p: [p.values[k] for k in keys[::-1]] if is_own else axes.of(p))
    trace = _points("Pareto front", ordered, axes, color=_FRONT, size=10)
    trace["marker"]["line"] = {"width": 1, "color": "rgba(255,255,255,0.7)"}
    if is_own and len(objectives) == 2:
        # A step goes right first where the cheaper point is dominated by nothing on the way: less cost is better.
        trace |= {"mode": "lines+markers", "line": {"color": _FRONT, "width": 1.5, "shape": _step(objectives)}}
    if is_own and len(objectives) > 2:
        trace["marker"] |= {
            "color": [p.values[keys[2]] for p in ordered],
            "colorscale": "Viridis",
            "colorbar": {
                "title": {"text": _axis_title(keys[2], objectives, units)},
                "thickness": 12,
                "outlinewidth": 0,
            },
        }
    return trace


def _step(objectives: Sequence[Objective]) -> str:
    return "hv" if objectives[1].direction == "min" else "vh"


def _hover(point: Candidate | FrontPoint) -> str:
    values = "".join(f"<br>{escape(key)}: <b>{value:,.6g}</b>" for key, value in sorted(point.values.items()))
    return f"<b>#{point.number}</b> {escape(point.text, quote=False)}{values}"


def _axis_title(key: str, objectives: Sequence[Objective], units: Mapping[str, str]) -> str:
    if key == NUMBER:
        return "proposal"
    metric, _, level = key.rpartition("@")
    unit = _UNITS.get(metric) or ("" if units.get(metric, "") in _SAY_NO_MORE else units[metric])
    directions = {objective.key: objective.direction for objective in objectives}
    said = {"max": " · higher is better", "min": " · lower is better"}.get(directions.get(key, ""), "")
    return f"{metric.replace('_ms', '')}{f' ({unit})' if unit else ''} @ {level}{said}"


def _line(
    name: str, x: Sequence[object], y: Sequence[object], *, color: str, shape: str = "linear", axis: str = "y"
) -> JsonObject:
    trace: JsonObject = {
        "type": "scatter",
        "mode": "lines+markers" if len(x) <= 60 else "lines",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"color": color, "width": 2, "shape": shape},
        "marker": {"size": 4},
        "hovertemplate": "%{x}: %{y:.5g}<extra>" + name + "</extra>",
    }
    if axis in _RIGHT:
        trace["line"] = {"color": color, "width": 1.5, "shape": shape, "dash": "dot"}
    return trace | ({"yaxis": axis} if axis != "y" else {})


def _epochs(events: Sequence[Event]) -> list[JsonObject]:
    # After a crash or a divergence epochs are run again: the newest event of an epoch is the one that counts.
    newest: dict[int, JsonObject] = {}
    for event in events:
        if event.type == "epoch" and "epoch" in event.data:
            newest[int(event.data["epoch"])] = event.data
    return [newest[epoch] for epoch in sorted(newest)]


def _thinned(rows: Sequence[JsonObject]) -> list[JsonObject]:
    """At most `_MOST_STEPS` rows, evenly spaced, with the last one: a screen shows no more."""
    step = -(-len(rows) // _MOST_STEPS) or 1
    return [row for i, row in enumerate(rows) if i % step == 0 or i == len(rows) - 1]


def _curve(nodes: Mapping[str, _Point], source: str, target: str, *, lane: int) -> list[_Point]:
    """A line between two nodes, bent where it would run through a third one or over an edge of the same ends."""
    (x0, y0), (x1, y1) = nodes[source], nodes[target]
    length = math.hypot(x1 - x0, y1 - y0) or 1.0
    across = (-(y1 - y0) / length, (x1 - x0) / length)
    is_blocked = any(
        _distance(place, (x0, y0), (x1, y1)) < 0.1 for node, place in nodes.items() if node not in (source, target)
    )
    bend = length * (0.5 * is_blocked + 0.3 * lane)
    x, y = (x0 + x1) / 2 + bend * across[0], (y0 + y1) / 2 + bend * across[1]
    steps = [i / 16 for i in range(17)] if bend else [0.0, 0.5, 1.0]
    return [
        ((1 - t) ** 2 * x0 + 2 * t * (1 - t) * x + t**2 * x1, (1 - t) ** 2 * y0 + 2 * t * (1 - t) * y + t**2 * y1)
        for t in steps
    ]


def _distance(place: _Point, start: _Point, end: _Point) -> float:
    """From a place to the line between two others."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = ((place[0] - start[0]) * dx + (place[1] - start[1]) * dy) / ((dx * dx + dy * dy) or 1.0)
    along = min(1.0, max(0.0, along))
    return math.hypot(place[0] - start[0] - along * dx, place[1] - start[1] - along * dy)


def _edge_trace(
    curve: Sequence[_Point], option: str, color: str, tip: str, *, is_live: bool, is_first: bool
) -> JsonObject:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": option,
        "legendgroup": option,
        "showlegend": is_first,
        "x": [x for x, _ in curve],
        "y": [y for _, y in curve],
        "line": {"color": color, "width": 3 if is_live else 1.5, "dash": "solid" if is_live else "dot"},
        "opacity": 1.0 if is_live else 0.55,
        "hovertemplate": tip + ("" if is_live else "<br>does not reach the output") + "<extra></extra>",
    }


def _arrow(curve: Sequence[_Point], color: str, *, is_live: bool) -> JsonObject:
    """A head at the middle of an edge, where no node hides it."""
    middle = len(curve) // 2
    (x0, y0), (x1, y1) = curve[max(0, middle - 1)], curve[middle]
    x0, y0 = x1 + (x0 - x1) * 0.25, y1 + (y0 - y1) * 0.25
    axes = {"xref": "x", "yref": "y", "axref": "x", "ayref": "y"}
    head = {"showarrow": True, "arrowhead": 2, "arrowsize": 1.4, "arrowwidth": 1.6, "arrowcolor": color}
    return {"text": "", "x": x1, "y": y1, "ax": x0, "ay": y0, "opacity": 1.0 if is_live else 0.55, **axes, **head}


def _node_trace(nodes: Mapping[str, _Point], names: Mapping[str, str]) -> JsonObject:
    """Circles with their labels: of a long chain above and below in turn, of many others those of the two ends."""
    is_many, is_chain = len(nodes) > 6, len({y for _, y in nodes.values()}) == 1  # many labels would touch
    ends = {min(nodes, key=lambda node: nodes[node]), max(nodes, key=lambda node: nodes[node])}
    written = [name if is_chain or not is_many or node in ends else "" for node, name in names.items()]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": "nodes",
        "showlegend": False,
        "x": [x for x, _ in nodes.values()],
        "y": [y for _, y in nodes.values()],
        "text": written,
        "textposition": [
            "top center" if is_many and is_chain and i % 2 else "bottom center" for i in range(len(nodes))
        ],
        "hovertext": list(names.values()),
        "textfont": {"color": _TEXT, "size": 12},
        "cliponaxis": False,
        "marker": {"size": 18, "color": _TEXT, "line": {"width": 2, "color": "rgba(255,255,255,0.6)"}},
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _axis(title: str | None) -> JsonObject:
    axis: JsonObject = {
        "gridcolor": _GRID,
        "linecolor": _GRID,
        "zeroline": False,
        "automargin": True,
        "tickfont": {"color": _TEXT},
    }
    return axis | {"title": {"text": title, "font": {"color": _TEXT}}} if title else axis


def _layout(*, x: str | None, y: str | None, y2: str | None = None) -> JsonObject:
    layout: JsonObject = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": _TEXT, "family": _FONT, "size": 12},
        "margin": {"l": 56, "r": 24, "t": 36, "b": 48},
        "xaxis": _axis(x),
        "yaxis": _axis(y),
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": _TEXT}},
        "hoverlabel": {"bgcolor": "#1f2733", "bordercolor": "#1f2733", "font": {"color": "#f3f5f8"}, "align": "left"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": _GRID, "activecolor": _TEXT},
        "uirevision": "keep",
    }
    if y2:
        layout["yaxis2"] = _right(y2, over="y")
    return layout


def _right(title: str, *, over: str) -> JsonObject:
    """A second axis of a row, at its right."""
    place = {"overlaying": over, "side": "right", "showgrid": False, "rangemode": "tozero", "tickmode": "auto"}
    return _axis(title) | place


def _figure(traces: Sequence[JsonObject], layout: JsonObject, *, empty: str) -> JsonObject:
    from plotly.graph_objects import Figure

    if not traces:
        place = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
        layout = layout | {"annotations": [{"text": empty, "font": {"color": _TEXT, "size": 14}, **place}]}
    # An empty template: plotly's default one is several kilobytes in every figure, and paints white.
    checked = Figure(data=list(traces), layout=layout | {"template": {}})
    figure: JsonObject = json.loads(checked.to_json(engine="json", remove_uids=True))
    return figure
