"""DELIVER: train the chosen networks, look at the test split once, export, and check every export."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from nas.admission import can_train
from nas.ports import JobView
from nas.resources import (
    Delivery,
    EvaluationState,
    Fidelity,
    FrontPoint,
    JsonObject,
    Measurement,
    Objective,
    ParetoFront,
    Phase,
    Proposal,
    Settlement,
    UnitPlan,
)
from nas.spec import ExportFormat, JobSpec, Level
from nas.stages._context import UnitContext
from nas.streams import stream_seed
from searchspaces import Architecture

if TYPE_CHECKING:
    from torch import nn

Weights = Literal["trained", "inherited"]
_PARITY_IMAGES = 64
_WEIGHTS = "weights"


class DeliverStage:
    """One unit for each delivered network."""

    def plan(self, spec: JobSpec, view: JobView) -> list[UnitPlan]:
        if not can_train(spec):
            return []
        points = delivered(view.front(), spec.deliver.networks)
        return [
            UnitPlan(key=f"deliver-{number:04d}", payload={"text": point.text, "weights": "trained"})
            for number, point in enumerate(points)
        ]

    def run(self, context: UnitContext) -> JsonObject:
        payload = context.unit.payload
        architecture = context.bench.space.parse(payload["text"])
        formats: Sequence[ExportFormat] = payload.get("formats") or context.spec.deliver.formats
        weights: Weights = payload["weights"]
        delivery = deliver(context, architecture, weights, formats)
        if weights == "trained":
            context.journal.report(delivery)
            context.journal.progress(delivered=len(context.journal.job().deliveries))
        return {"delivery": delivery.model_dump(mode="json")}


def delivered(front: ParetoFront, num_networks: int) -> list[FrontPoint]:
    """The best point by the first objective, then points spread evenly over the rest of the front."""
    if not front.points or not num_networks:
        return []
    first: Objective = front.objectives[0]
    sign = 1 if first.direction == "min" else -1
    ranked = sorted(front.points, key=lambda point: (sign * point.values[first.key], point.number))
    chosen = np.unique(np.linspace(0, len(ranked) - 1, min(num_networks, len(ranked))).round().astype(int))
    return [ranked[i] for i in chosen]


def deliver(
    context: UnitContext, architecture: Architecture, weights: Weights, formats: Sequence[ExportFormat]
) -> Delivery:
    """One network with trained or inherited weights, exported and checked.

    Raises:
        ExportError: a format cannot be made, or differs from the network by more than 1e-4.
        Cancelled: the unit has to be given back.
    """
    known = _delivered_before(context, architecture, weights)
    if known:
        network = _load(context, architecture, known)
    elif weights == "trained":
        network, known = _train(context, architecture)
    else:
        network, known = _inherit(context, architecture)
    parity, artifacts = _export(context, network, formats, _card(context, known))
    return known.model_copy(
        update={"parity": {**known.parity, **parity}, "artifacts": {**known.artifacts, **artifacts}}
    )


def _delivered_before(context: UnitContext, architecture: Architecture, weights: Weights) -> Delivery | None:
    """What this job delivered of this architecture, so that nothing is trained, or looked at, twice."""
    deliveries = context.journal.job().deliveries
    return next((d for d in deliveries if d.digest == architecture.digest and d.weights == weights), None)


def _load(context: UnitContext, architecture: Architecture, known: Delivery) -> nn.Module:
    """The delivered network, from its kept weights."""
    from safetensors.torch import load_file

    from nas.training import to_device, track_statistics

    network = track_statistics(context.bench.space.build(architecture))
    network.load_state_dict(load_file(context.artifacts.path(known.artifacts[_WEIGHTS])))
    return to_device(network, context.bench.device).eval()


def _inherit(context: UnitContext, architecture: Architecture) -> tuple[nn.Module, Delivery]:
    """The network with the supernet's weights and fixed statistics, without training."""
    from nas.training import recalibrate

    bench = context.bench
    network = bench.supernet().extract(architecture)
    recalibrate(network, bench.dataset, device=bench.device, seed=context.spec.seed)
    return network, Delivery(digest=architecture.digest, text=architecture.text, weights="inherited")


def _train(context: UnitContext, architecture: Architecture) -> tuple[nn.Module, Delivery]:
    """The network trained on train + valid, its weights kept, and what it does on the test split."""
    from safetensors.torch import save_file

    from nas.training import evaluate_network, train_network

    spec, bench = context.spec, context.bench
    fidelity = Fidelity(level="full", resources={"epochs": spec.deliver.training.epochs})
    began = time.monotonic()
    context.journal.propose(
        [Proposal(text=architecture.text, digest=architecture.digest, fidelity=fidelity, reason="deliver")]
    )
    network = bench.space.build(architecture, seed=stream_seed(spec.seed, "deliver", architecture.digest) % 2**32)
    summary = train_network(
        network,
        np.concatenate([bench.dataset.train.images, bench.dataset.valid.images]),
        np.concatenate([bench.dataset.train.labels, bench.dataset.valid.labels]),
        bench.dataset,
        bench.task,
        spec.deliver.training,
        seed=spec.seed,
        device=bench.device,
        precision=bench.precision,
        checkpoints=context.checkpoints,
        should_stop=context.must_leave,
        on_epoch=_EpochTeller(context, spec.deliver.training.epochs),
    )
    if not summary.finished:
        raise context.leave()
    file = context.scratch / f"{architecture.digest}.safetensors"
    save_file({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}, file)
    artifact = context.artifacts.put(file, kind=_WEIGHTS, name=file.name, meta={"digest": architecture.digest})
    test = bench.dataset.load_test()
    metrics = evaluate_network(network, test.images, test.labels, bench.dataset, bench.task, device=bench.device)
    measured = {f"test_{name}": value for name, value in metrics.items()}
    _settle(context, architecture, measured, fidelity, time.monotonic() - began)
    return network, Delivery(
        digest=architecture.digest,
        text=architecture.text,
        weights="trained",
        metrics=measured,
        artifacts={_WEIGHTS: artifact.artifact_id},
    )


def _settle(
    context: UnitContext, architecture: Architecture, measured: dict[str, float], fidelity: Fidelity, seconds: float
) -> None:
    from nas.training import code_version

    place = {"device": context.bench.device.type, "split": "test", "code": code_version()}
    measurements = tuple(
        Measurement(metric=name, value=value, fidelity=fidelity, context=place) for name, value in measured.items()
    )
    mine = [e for e in context.journal.pending("full") if e.proposal.digest == architecture.digest]
    context.journal.settle(
        [
            Settlement(
                evaluation_id=evaluation.evaluation_id,
                state=EvaluationState.FINISHED,
                measurements=measurements,
                seconds=seconds,
            )
            for evaluation in mine
        ]
    )


def _export(
    context: UnitContext, network: nn.Module, formats: Sequence[ExportFormat], card: dict[str, Any]
) -> tuple[dict[str, float], dict[str, str]]:
    from nas.export import archive, export_network

    dataset = context.bench.dataset
    digest = card["architecture"]["digest"]
    folder = context.scratch / digest
    parity = export_network(
        network,
        dataset.valid.images[:_PARITY_IMAGES],
        folder,
        formats=formats,
        mean=dataset.mean,
        std=dataset.std,
        class_names=dataset.class_names,
        card=card,
    )
    artifacts: dict[str, str] = {}
    for name in formats:
        meta = {"digest": digest, "format": name, "weights": card["weights"]}
        file = archive(folder, name)
        artifacts[name] = context.artifacts.put(file, kind=name, name=file.name, meta=meta).artifact_id
    return parity, artifacts


def _card(context: UnitContext, delivery: Delivery) -> dict[str, Any]:
    """What the model card says of a network: everything that is known, with its level."""
    from nas.training import code_version

    spec = context.spec
    architecture = context.bench.space.parse(delivery.text)
    found = context.view.candidate(delivery.digest)
    known: dict[str, float] = dict(found.values) if found else {}
    levels: tuple[Level, ...] = get_args(Level)
    evaluations = sorted(found.evaluations if found else (), key=lambda e: levels.index(e.proposal.fidelity.level))
    return {
        "architecture": architecture.to_json(),
        "space": spec.space.model_dump(mode="json"),
        "weights": delivery.weights,
        "metrics": {**known, **{f"{name}@full": value for name, value in delivery.metrics.items()}},
        "measurements": [m.model_dump(mode="json") for evaluation in evaluations for m in evaluation.measurements],
        "dataset": {"name": context.bench.dataset.name, "digest": context.bench.dataset.digest},
        "training": spec.deliver.training.model_dump(mode="json") if delivery.weights == "trained" else None,
        "job": {"id": context.job.job_id, "name": context.job.name, "spec": spec.to_mapping()},
        "code": code_version(),
    }


class _EpochTeller:
    """Progress of a final training."""

    def __init__(self, context: UnitContext, epochs: int) -> None:
        self.context, self.epochs, self.began = context, epochs, time.monotonic()
        self.first: int | None = None

    def __call__(self, epoch: int, epochs: int, loss: float) -> None:
        self.first = epoch - 1 if self.first is None else self.first
        done, total = len(self.context.journal.job().deliveries), self.context.spec.deliver.networks
        each = (time.monotonic() - self.began) / (epoch - self.first)
        self.context.journal.progress(
            phase=Phase.DELIVER,
            fraction=min(1.0, (done + epoch / epochs) / max(1, total)),
            message=f"final training, epoch {epoch} of {epochs}, loss {loss:.3f}",
            seconds_left=each * (epochs - epoch + epochs * max(0, total - done - 1)),
            delivered=done,
            deliveries_total=total,
        )
