"""What lies beside a delivered network: the model card, for people and for programs, and the script that remakes it."""

from __future__ import annotations

import json
import platform
import pprint
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TypedDict, cast

_LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime", "safetensors")
_WEIGHTS = {
    "trained": (
        "**trained**: this network was trained by itself, from fresh weights, after the search had chosen it. "
        "Its metrics at level `full` are those of exactly these weights."
    ),
    "inherited": (
        "**inherited**: the weights were cut out of the supernet that the search shared, and the batch-norm statistics "
        "fixed for this network. It was never trained by itself; trained weights are usually better."
    ),
}
_USE = {
    "onnx": """### model.onnx

    import numpy, onnxruntime
    session = onnxruntime.InferenceSession("model.onnx")
    logits = session.run(["logits"], {"images": images})[0]        # images: numpy float32""",
    "torch_export": """### model.pt2

    import torch
    network = torch.export.load("model.pt2").module()
    logits = network(images)                                       # images: torch float32""",
    "pytorch": """### model.py and weights.safetensors

    from model import load                                         # needs torch and safetensors only
    logits = load()(images)                                        # images: torch float32

or, from the command line, `python model.py image.npy`. It is ordinary source: read it, change it, train it further.""",
}
_REPRODUCE = '''"""Remakes this network: the same search, from the same seed, then the same training and export.

Needs the search service (its client finds it by NAS_URL, or starts one) and the data set {dataset}.
Equal numbers need the same library versions, device kind and thread count, see card.json; a search that ended by wall
time may end elsewhere.
"""

from nas.client import Client

ARCHITECTURE = {architecture}
SPEC = {spec}

if __name__ == "__main__":
    with Client() as client:
        job = client.submit(SPEC)
        job.wait(raise_on_failure=True)
        job.candidate({digest}).export("reproduced", format="{format}", weights="{weights}")
'''


class CardArchitecture(TypedDict, total=False):
    """What `Architecture.to_json` gives."""

    text: str
    digest: str
    options: Mapping[str, str]


class CardJob(TypedDict, total=False):
    """The search that found the network."""

    id: str
    name: str
    spec: Mapping[str, object]


class Card(TypedDict, total=False):
    """What is known of a delivered network. Whatever is missing is left out of the card.

    Attributes:
        space: name and config.
        chosen: what chose it, in words; empty where somebody asked for it.
        contenders: against whom it won, as `nas.resources.Contender` holds them.
        metrics: `metric@level` -> value.
        measured_with: what ran the network for its metrics on the test split.
        measurements: the same with unit, spread and context, as `nas.resources.Measurement` holds them.
        dataset: name, digest and whatever else tells which data it was.
        training: settings of the final training.
        code: version of this software.
    """

    architecture: CardArchitecture
    space: Mapping[str, object]
    weights: Literal["trained", "inherited"]
    chosen: str
    contenders: Sequence[Mapping[str, object]]
    measured_with: str
    metrics: Mapping[str, float]
    measurements: Sequence[Mapping[str, object]]
    dataset: Mapping[str, object]
    training: Mapping[str, object] | None
    job: CardJob
    code: str


def card_files(
    card: Mapping[str, object],
    input_shape: Sequence[int],
    *,
    class_names: Sequence[str],
    parity: Mapping[str, float],
    tolerance: float,
    num_images: int,
) -> dict[str, str]:
    """`README.md`, `card.json` and `reproduce.py`. `input_shape` is `channels x height x width`."""
    known = cast(Card, dict(card))
    complete = {
        **json.loads(json.dumps(card, default=str)),
        "input": {"name": "images", "dtype": "float32", "range": [0, 1], "shape": ["batch", *input_shape]},
        "output": {"name": "logits", "dtype": "float32", "shape": ["batch", len(class_names)]},
        "class_names": list(class_names),
        "parity": {"largest_difference": dict(parity), "tolerance": tolerance, "images": num_images},
        "made_with": _made_with(),
    }
    return {
        "README.md": _readme(known, complete),
        "card.json": json.dumps(complete, indent=2, sort_keys=True, ensure_ascii=False) + "\n",
        "reproduce.py": _reproduce(known, next(iter(parity), "pytorch")),
    }


def _readme(card: Card, complete: Mapping[str, Any]) -> str:
    batch, *shape = complete["input"]["shape"]
    names = complete["class_names"]
    parity = complete["parity"]
    made_with = ", ".join(f"{name} {number}" for name, number in complete["made_with"].items())
    parts = [
        _origin(card),
        f"## Weights\n\n{_WEIGHTS.get(card.get('weights', ''), 'Not stated.')}",
        _chosen(card),
        _metrics(card),
        _listed("Final training", card.get("training") if card.get("weights") == "trained" else None),
        _listed("Data", card.get("dataset")),
        "## Input and output\n\n"
        f"- `images`: float32, 0 to 1, `{batch} x {' x '.join(map(str, shape))}` (channels, height, width); "
        "any batch size. The normalisation is inside the model.\n"
        f"- `logits`: float32, `{batch} x {len(names)}`, one per class; softmax gives probabilities.\n"
        f"- classes, in order: {', '.join(f'`{name}`' for name in names)}",
        "## Parity\n\n"
        f"Largest absolute difference of a logit to the PyTorch network, on {parity['images']} real images at once "
        f"and on the first alone (at most {parity['tolerance']:g} is accepted):\n\n"
        + _table(("format", "difference"), ((k, f"{v:.2g}") for k, v in parity["largest_difference"].items())),
        "## How to use it\n\n" + "\n\n".join(_USE[name] for name in parity["largest_difference"]),
        "## How to reproduce it\n\n`python reproduce.py` submits the same search with the same seed and exports the "
        f"same architecture. Made with {made_with}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _origin(card: Card) -> str:
    job, architecture = card.get("job", {}), card.get("architecture", {})
    by_job = f" by job `{job['id']}`" if "id" in job else ""
    return (
        f"# {job.get('name', 'search')}: network {architecture.get('digest', '')}\n\n"
        "An image classifier found by neural architecture search"
        f"{by_job} in the space {_space(card)}.\n\nArchitecture:\n\n    {architecture.get('text', 'not stated')}"
    )


def _space(card: Card) -> str:
    space = card.get("space", {})
    config = json.dumps(space.get("config") or {}, sort_keys=True, default=str)
    return f"`{space.get('name', 'not stated')}` (`{config}`)"


def _chosen(card: Card) -> str:
    """What chose it, and how those that it won against did."""
    said = card.get("chosen", "")
    rows = [
        (
            f"**{row['digest']}** (this network)" if row.get("won") else str(row["digest"]),
            str(row["epochs"]),
            f"{row['value']:.6g}" if row.get("value") is not None else "failed",
            f"{row['mean']:.6g}" if row.get("mean") is not None else "",
        )
        for row in card.get("contenders", ())
    ]
    if not said and not rows:
        return ""
    head = ("network", "epochs on train", "on valid", "expected, with all evidence")
    return "\n\n".join(
        ["## How it was chosen", *([f"By {said}."] if said else []), *([_table(head, rows)] if rows else [])]
    )


def _metrics(card: Card) -> str:
    # What the final training measured is true of the trained weights alone.
    hidden = "full" if card.get("weights") == "inherited" else ""
    how = "" if hidden else card.get("measured_with", "")
    rows = [_measured(measurement) for measurement in card.get("measurements", ())]
    shown = {f"{row[0]}@{row[2]}" for row in rows}
    rows += [
        (metric, f"{value:.6g}", level, _split_of(metric, level), "")
        for (metric, _, level), value in ((k.partition("@"), v) for k, v in card.get("metrics", {}).items())
        if f"{metric}@{level}" not in shown
    ]
    rows = [row for row in rows if row[2] != hidden]
    if not rows:
        return "## Metrics\n\nNone were recorded."
    return (
        "## Metrics\n\n" + _table(("metric", "value", "level", "split", "measured with"), rows) + "\n\n"
        "Levels: `cost` is known without training; `supernet` is measured with shared weights; `short` after a short "
        "training, `contender` after a rung of the contest on train alone, and `full` after the final training. "
        "Numbers of different levels or contexts are not comparable."
        + (f" The test split was measured once, on what is delivered: {how}." if how else "")
    )


def _measured(measurement: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    metric, level = str(measurement["metric"]), str(measurement["fidelity"]["level"])
    context = dict(measurement.get("context") or {})
    split = str(context.pop("split", _split_of(metric, level)))
    spread = f" ± {measurement['std']:.2g}" if measurement.get("std") is not None else ""
    value = f"{measurement['value']:.6g}{spread} {measurement.get('unit') or ''}".strip()
    return metric, value, level, split, ", ".join(f"{key}: {item}" for key, item in context.items())


def _split_of(metric: str, level: str) -> str:
    """Only the final report may see the test split, and it says so in the metric's name."""
    if level == "cost":
        return ""
    return "test" if metric.startswith("test_") else "valid"


def _listed(title: str, facts: Mapping[str, object] | None) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {key}: `{value}`" for key, value in facts.items()) if facts else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _reproduce(card: Card, format: str) -> str:
    architecture = card.get("architecture", {})
    spec = json.loads(json.dumps(card.get("job", {}).get("spec", {}), default=str))
    dataset = json.dumps(card.get("dataset", {}), default=str, sort_keys=True)
    return _REPRODUCE.format(
        dataset=dataset.replace('"', "'").replace("\\", "/"),
        architecture=repr(architecture.get("text", "")),
        spec=pprint.pformat(spec, width=110, sort_dicts=False),
        digest=repr(architecture.get("digest", "best")),
        format=format,
        weights=card.get("weights", "trained"),
    )


def _made_with() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
