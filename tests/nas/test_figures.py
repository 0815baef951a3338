"""Figures are plotly's, readable on any page, and say what the resources say."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas import figures
from nas.plugins import registry
from nas.resources import Candidate, Event, FrontPoint, JsonObject, Objective, ParetoFront
from nas.streams import stream
from searchspaces import drawing

ACCURACY = Objective(metric="accuracy", level="supernet", direction="max")
PARAMS = Objective(metric="params", level="cost", direction="min")
LATENCY = Objective(metric="latency_ms", level="cost", direction="min")


def candidate(number: int, *values: float, feasible: bool = True) -> Candidate:
    keys = [objective.key for objective in (ACCURACY, PARAMS, LATENCY)]
    named = dict(zip(keys, values, strict=False))
    return Candidate(
        job_id="j", digest=f"{number:016x}", text=f"|conv<{number}>&~0|", number=number, values=named, feasible=feasible
    )


def front_of(points: list[Candidate], objectives: tuple[Objective, ...]) -> ParetoFront:
    kept = tuple(FrontPoint(digest=c.digest, text=c.text, number=c.number, values=c.values) for c in points)
    return ParetoFront(job_id="j", objectives=objectives, points=kept)


def events(kind: str, rows: list[JsonObject]) -> list[Event]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return [Event(sequence=i + 1, job_id="j", type=kind, at=at, data=row) for i, row in enumerate(rows)]


def epoch(number: int, **more: Any) -> JsonObject:
    speed = {"seconds": 1.5, "images_per_second": 700.0, "step_ms": 88.0}
    return {"epoch": number, "epochs": 9, "loss": 2.0 - number / 10, **speed, **more}


def noise(share: float, error: float) -> JsonObject:
    side = {"variance": 9 * share, "variance_error": 9 * error, "noise_share": share, "noise_share_error": error}
    return {"data": side, "paths": {**side, "noise_share": share / 2}, "pairs": 5, "seconds": 0.1}


def example_space() -> Any:
    return registry("spaces")["nasbench201"]({})


def every_figure() -> list[JsonObject]:
    space = example_space()
    drawn = {"0->1": {"none": 0.25, "conv": 0.75}}
    told = [epoch(n, distinct_share=0.5, distribution=drawn, gradient=noise(0.5, 0.1)) for n in range(3)]
    done = [{"done": n, "hypervolume": n / 3, "front_size": n} for n in range(3)]
    two = (ACCURACY, PARAMS)
    points = [candidate(0, 0.9, 100.0), candidate(1, 0.8, 50.0)]
    return [
        figures.pareto(front_of(points, two), [*points, candidate(2, 0.1, 200.0)], two),
        figures.hypervolume(events("evaluations", done)),
        figures.training(events("epoch", told)),
        figures.paths(events("epoch", told)),
        figures.architecture(drawing(space, space.sample(stream(0, "figures")))),
    ]


def named(figure: JsonObject, name: str) -> JsonObject:
    (trace,) = (trace for trace in figure["data"] if trace["name"] == name)
    return dict(trace)


def test_every_figure_is_plain_json_that_plotly_draws() -> None:
    for figure in every_figure():
        again = json.loads(json.dumps(figure, allow_nan=False))
        assert len(go.Figure(again).data) == len(figure["data"]) > 0
        assert "bdata" not in json.dumps(figure)


def test_every_figure_lets_the_page_show_through() -> None:
    for figure in every_figure():
        assert figure["layout"]["paper_bgcolor"] == figure["layout"]["plot_bgcolor"] == "rgba(0,0,0,0)"


@pytest.mark.parametrize("background", [(255, 255, 255), (13, 17, 23)])
def test_text_and_marks_stand_out_from_light_and_dark_pages(background: tuple[int, int, int]) -> None:
    colours = {figure["layout"]["font"]["color"] for figure in every_figure()}
    for trace in every_figure()[0]["data"]:
        colours.add(trace["marker"]["color"])
    assert all(contrast(colour, background) >= 2.5 for colour in colours), colours


def contrast(colour: str, background: tuple[int, int, int]) -> float:
    """WCAG 2 contrast of `#rrggbb` against a background."""
    channels = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
    light, dark = sorted((luminance(channels), luminance(background)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(channels: tuple[int, ...]) -> float:
    scaled = [c / 255 for c in channels]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in scaled]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_point_holds_its_digest_its_text_and_all_its_values() -> None:
    point = candidate(7, 0.5, 1234.0, 2.5)
    figure = figures.pareto(front_of([point], (ACCURACY, PARAMS)), [point], (ACCURACY, PARAMS))
    trace = named(figure, "Pareto front")
    assert trace["customdata"] == [point.digest]
    assert "#7" in trace["text"][0]
    assert "|conv&lt;7&gt;&amp;~0|" in trace["text"][0]
    for key, shown in (("accuracy@supernet", "0.5"), ("params@cost", "1,234"), ("latency_ms@cost", "2.5")):
        assert f"{key}: <b>{shown}</b>" in trace["text"][0]


def test_candidates_off_the_front_are_drawn_apart_from_those_outside_the_constraints() -> None:
    best, worse, out = candidate(0, 0.9, 10.0), candidate(1, 0.1, 20.0), candidate(2, 0.95, 99.0, feasible=False)
    unmeasured = candidate(3)
    figure = figures.pareto(front_of([best], (ACCURACY, PARAMS)), [best, worse, out, unmeasured], (ACCURACY, PARAMS))
    drawn = {trace["name"]: trace["customdata"] for trace in figure["data"]}
    assert drawn == {
        "evaluated": [worse.digest],
        "outside the constraints": [out.digest],
        "Pareto front": [best.digest],
    }


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 1e9)), min_size=1, max_size=20, unique=True))
def test_the_first_objective_is_drawn_upwards_and_the_second_to_the_right(rows: list[tuple[float, float]]) -> None:
    points = [candidate(i, *row) for i, row in enumerate(rows)]
    trace = named(figures.pareto(front_of(points, (ACCURACY, PARAMS)), [], (ACCURACY, PARAMS)), "Pareto front")
    assert sorted(zip(trace["y"], trace["x"], strict=True)) == sorted(rows)
    assert trace["x"] == sorted(trace["x"])


def test_other_values_are_drawn_where_axes_name_them_and_candidates_without_them_are_left_out() -> None:
    best, worse, partial = candidate(0, 0.9, 10.0, 3.0), candidate(1, 0.1, 20.0, 4.0), candidate(2, 0.05, 30.0)
    two = (ACCURACY, PARAMS)
    front = front_of([best], two)
    figure = figures.pareto(front, [best, worse, partial], two, x="latency_ms@cost", y="params@cost")
    assert named(figure, "evaluated") | {"x": [4.0], "y": [20.0]} == named(figure, "evaluated")
    assert (named(figure, "Pareto front")["x"], named(figure, "Pareto front")["mode"]) == ([3.0], "markers")
    assert figure["layout"]["xaxis"]["title"]["text"] == "latency (ms) @ cost"
    numbered = figures.pareto(front, [best, worse], two, x=figures.NUMBER)
    assert (named(numbered, "evaluated")["x"], named(numbered, "evaluated")["y"]) == ([1], [0.1])
    units = {"latency_ms": "ms", "params": "parameters", "accuracy": "fraction", "energy_fpga": "mJ"}
    told = figures.pareto(front, [best], two, x="energy_fpga@cost", units=units)["layout"]
    assert told["xaxis"]["title"]["text"] == "energy_fpga (mJ) @ cost"
    assert told["yaxis"]["title"]["text"] == "accuracy @ supernet · higher is better"
    nowhere = figures.pareto(front, [best], two, y="accuracy@full")
    assert nowhere["data"] == []
    assert "both values" in nowhere["layout"]["annotations"][0]["text"]


def test_a_single_objective_is_drawn_over_the_proposals_and_a_third_as_colour() -> None:
    points = [candidate(i, 0.1 * i, 10.0 * i, 3.0 * i) for i in range(1, 4)]
    single = named(figures.pareto(front_of(points, (ACCURACY,)), [], (ACCURACY,)), "Pareto front")
    assert single["x"] == [1, 2, 3]
    three = (ACCURACY, PARAMS, LATENCY)
    coloured = named(figures.pareto(front_of(points, three), [], three), "Pareto front")
    assert coloured["marker"]["color"] == [3.0, 6.0, 9.0]


@pytest.mark.parametrize(("direction", "shape"), [("min", "hv"), ("max", "vh")])
def test_the_fronts_line_runs_where_no_better_point_can_lie(direction: Any, shape: str) -> None:
    cost = Objective(metric="params", level="cost", direction=direction)
    front = front_of([candidate(0, 0.9, 1.0), candidate(1, 0.8, 2.0)], (ACCURACY, cost))
    assert named(figures.pareto(front, [], front.objectives), "Pareto front")["line"]["shape"] == shape


def test_hypervolume_is_drawn_over_the_evaluations_done() -> None:
    rows: list[JsonObject] = [{"done": 8, "hypervolume": None, "front_size": 1}]
    rows += [{"done": 8 * n, "hypervolume": n / 4, "front_size": n} for n in (2, 3)]
    figure = figures.hypervolume([*events("evaluations", rows), *events("epoch", [epoch(0)])])
    assert (named(figure, "hypervolume")["x"], named(figure, "hypervolume")["y"]) == ([16, 24], [0.5, 0.75])
    assert named(figure, "points on the front")["y"] == [2, 3]


def test_an_epoch_that_was_run_again_counts_once_with_its_newest_loss() -> None:
    rows = [epoch(0, loss=9.0), epoch(1, loss=8.0), epoch(1, loss=5.0), epoch(2, loss=4.0)]
    trace = named(figures.training(events("epoch", rows)), "loss")
    assert (trace["x"], trace["y"]) == ([0, 1, 2], [9.0, 5.0, 4.0])


def test_gradient_noise_is_drawn_with_its_errors_where_it_was_measured() -> None:
    rows = [epoch(0, gradient=None), epoch(1, gradient=noise(0.8, 0.05)), epoch(2)]
    figure = figures.training(events("epoch", rows))
    data, paths = (named(figure, f"gradient noise from {side}") for side in ("data", "paths"))
    assert (data["x"], data["y"], data["error_y"]["array"]) == ([1], [0.8], [0.05])
    assert (paths["x"], paths["y"]) == ([1], [0.4])
    assert data["text"] == ["variance 7.2 ± 0.45"]
    assert named(figure, "step time")["y"] == [88.0] * 3
    rows_of = {trace["name"]: trace.get("yaxis", "y") for trace in figure["data"]}
    assert len({rows_of["loss"], rows_of["gradient noise from data"], rows_of["images per second"]}) == 3
    assert figures.training(events("epoch", rows[:1]))["layout"]["annotations"]


def test_paths_are_one_row_for_each_option_of_each_decision() -> None:
    rows = [epoch(n, distribution={"a": {"x": 0.1 * n, "y": 1 - 0.1 * n}, "b": {"x": 1.0}}) for n in range(2)]
    (heat,) = figures.paths(events("epoch", rows))["data"]
    assert heat["y"] == ["a · x", "a · y", "b · x"]
    assert heat["z"] == [[0.0, 0.1], [1.0, 0.9], [1.0, 1.0]]


def test_long_histories_are_thinned_with_their_last_value_kept() -> None:
    rows = [{"done": n, "hypervolume": float(n), "front_size": 1} for n in range(12_500)]
    trace = named(figures.hypervolume(events("evaluations", rows)), "hypervolume")
    assert len(trace["x"]) <= 1001
    assert trace["x"][-1] == 12_499


@pytest.mark.parametrize("figure", [figures.hypervolume, figures.training, figures.paths])
def test_a_figure_without_data_says_why(figure: Callable[[list[Event]], JsonObject]) -> None:
    drawn = figure([])
    assert drawn["data"] == []
    assert drawn["layout"]["annotations"][0]["text"].endswith(".")


@given(st.integers(0, 2**32 - 1))
def test_every_architecture_is_drawn_with_an_arc_for_every_edge(seed: int) -> None:
    space = example_space()
    drawn = drawing(space, space.sample(stream(seed, "figures")))
    figure = figures.architecture(drawn)
    arcs = [trace for trace in figure["data"] if trace["name"] != "nodes"]
    assert [arc["name"] for arc in arcs] == [edge["option"] for edge in drawn["edges"]]
    assert len([arc for arc in arcs if arc["showlegend"]]) == len({arc["name"] for arc in arcs})
    dotted = [arc["line"]["dash"] == "dot" for arc in arcs]
    assert dotted == [not edge["live"] for edge in drawn["edges"]]
    places = {node["id"]: (node["x"], node["y"]) for node in drawn["nodes"]}
    for arc, edge in zip(arcs, drawn["edges"], strict=True):
        assert (arc["x"][0], arc["y"][0]) == pytest.approx(places[edge["source"]])
        assert (arc["x"][-1], arc["y"][-1]) == pytest.approx(places[edge["target"]])


def test_edges_without_an_option_are_drawn_in_grey_and_not_listed() -> None:
    space = registry("spaces")["nasbench101"]({})
    figure = figures.architecture(drawing(space, space.sample(stream(0, "figures"))))
    wires = [trace for trace in figure["data"] if trace["name"] == ""]
    assert wires
    assert {trace["line"]["color"] for trace in wires}.isdisjoint(
        trace["line"]["color"] for trace in figure["data"] if trace["name"] not in ("", "nodes")
    )
    assert not any(trace["showlegend"] or "<b>" in trace["hovertemplate"] for trace in wires)


def test_of_many_nodes_off_one_line_only_the_ends_are_written_and_all_are_told() -> None:
    space = registry("spaces")["nasbench101"]({})
    largest = drawing(space, space.extremes().largest)
    nodes = next(trace for trace in figures.architecture(largest)["data"] if trace["name"] == "nodes")
    assert sorted(filter(None, nodes["text"])) == ["input", "output"]
    assert nodes["hovertext"] == [node["label"] for node in largest["nodes"]]
    chain = drawing(registry("spaces")["macro"]({}), registry("spaces")["macro"]({}).extremes().largest)
    assert all(next(t for t in figures.architecture(chain)["data"] if t["name"] == "nodes")["text"])
