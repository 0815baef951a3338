"""DELIVER: train the chosen networks, export them, check every export, and look at the test split once."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from nas.admission import can_train
from nas.ports import JobView
from nas.reports import Contender
from nas.resources import Delivery, EvaluationState, Fidelity, JsonObject, Measurement, Proposal, Settlement, UnitPlan
from nas.spec import ExportFormat, JobSpec, Level
from nas.stages._choice import choose, in_words
from nas.stages._contending import DeliveryTeller, Outcome, contend
from nas.stages._contest import rungs_of
from nas.stages._context import UnitContext
from nas.stages._dear_costs import of_file
from nas.stages._pacing import fix_final_training
from nas.streams import stream_seed
from searchspaces import Architecture

if TYPE_CHECKING:
    from torch import nn

Weights = Literal["trained", "inherited"]
_PARITY_IMAGES = 64
_TEST_BATCH = 256
_WEIGHTS = "weights"


class DeliverStage:
    """One unit for each delivered network, with those that contend for its place."""

    def plan(self, spec: JobSpec, view: JobView) -> list[UnitPlan]:
        if not can_train(spec):
            return []
        choice = view.job().choice or choose(view, spec, None, num_samples=None)
        texts = {estimate.digest: estimate.text for estimate in choice.estimates} if choice else {}
        contests = choice.contests if choice else ()
        return [
            UnitPlan(
                key=f"deliver-{number:04d}",
                payload={"text": texts[contest[0]], "contenders": [texts[d] for d in contest], "weights": "trained"},
            )
            for number, contest in enumerate(contests)
        ]

    def run(self, context: UnitContext) -> JsonObject:
        payload, space = context.unit.payload, context.bench.space
        formats: Sequence[ExportFormat] = payload.get("formats") or context.spec.deliver.formats
        weights: Weights = payload["weights"]
        epochs = context.spec.deliver.training.epochs
        contenders = [space.parse(text) for text in payload.get("contenders", ())]
        passes = sum(rung.num_networks * rung.epochs for rung in rungs_of(len(contenders), epochs))
        teller = DeliveryTeller(context, passes + epochs)
        if contenders:
            outcome = contend(context, contenders, teller)
            fix_final_training(context, outcome.winner)
            teller.total = teller.done + context.spec.deliver.training.epochs
            delivery = deliver(context, outcome.winner, weights, formats, teller, why=_why(context, outcome))
        else:
            delivery = deliver(context, space.parse(payload["text"]), weights, formats, teller)
        if weights == "trained":
            context.journal.report(delivery)
            context.journal.progress(delivered=len(context.journal.job().deliveries))
        return {"delivery": delivery.model_dump(mode="json")}


class Why(NamedTuple):
    """What chose a network, and against whom it won; empty where somebody asked for it."""

    chosen: str = ""
    contenders: tuple[Contender, ...] = ()


def _why(context: UnitContext, outcome: Outcome) -> Why:
    job = context.journal.job()
    choice = job.choice
    estimate = next((e for e in choice.estimates if e.digest == outcome.winner.digest), None) if choice else None
    said = in_words(estimate, choice.metric, choice.ranker, job.objectives) if choice and estimate else ""
    if choice is not None and choice.warning:
        said += f"; warning: {choice.warning}"
    if outcome.contenders:
        won = next(c for c in outcome.contenders if c.won)
        said += (
            f"; then first of {len(outcome.contenders)} that were trained in rungs on train alone and compared on "
            f"valid ({won.value:.4g} after {won.epochs} epochs)"
        )
    return Why(said.removeprefix("; "), outcome.contenders)


def deliver(
    context: UnitContext,
    architecture: Architecture,
    weights: Weights,
    formats: Sequence[ExportFormat],
    teller: DeliveryTeller,
    *,
    why: Why = Why(),
) -> Delivery:
    """One network with trained or inherited weights, exported, checked, and measured as it is handed out.

    Raises:
        ExportError: a format cannot be made, or differs from the network by more than 1e-4.
        Cancelled: the unit has to be given back.
    """
    began = time.monotonic()
    known = _delivered_before(context, architecture, weights)
    if known:
        network = _load(context, architecture, known)
    elif weights == "trained":
        network, known = _train(context, architecture, teller)
        known = known.model_copy(update=why._asdict())
    else:
        network, known = _inherit(context, architecture)
    folder = context.scratch / architecture.digest
    parity = _write(context, network, formats, folder, _card(context, known))
    if weights == "trained" and not known.metrics:
        measured, how = _test(context, network, folder if "onnx" in formats else None)
        _settle(context, architecture, measured, how, time.monotonic() - began)
        metrics = {f"test_{name}": value for name, value in measured.items()}
        known = known.model_copy(update={"metrics": metrics, "measured_with": how})
    if "onnx" in formats:
        known = known.model_copy(update={"timed": of_file(context, folder / "model.onnx")})
    artifacts = _pack(context, formats, folder, _card(context, known), parity)
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
    # What is handed out computes in fp32, whatever the search computed in.
    recalibrate(network, bench.dataset, device=bench.device, seed=context.spec.seed, precision="fp32")
    return network, Delivery(digest=architecture.digest, text=architecture.text, weights="inherited")


def _train(context: UnitContext, architecture: Architecture, teller: DeliveryTeller) -> tuple[nn.Module, Delivery]:
    """The network trained on train + valid, with its weights kept."""
    from safetensors.torch import save_file

    from nas.training import train_network

    spec, bench = context.spec, context.bench
    fidelity = Fidelity(level="full", resources={"epochs": spec.deliver.training.epochs})
    context.journal.propose(
        [Proposal(text=architecture.text, digest=architecture.digest, fidelity=fidelity, reason="deliver")]
    )
    network = bench.space.build(architecture, seed=stream_seed(spec.seed, "deliver", architecture.digest) % 2**32)
    images = np.concatenate([bench.dataset.train.images, bench.dataset.valid.images])
    summary = train_network(
        network,
        images,
        np.concatenate([bench.dataset.train.labels, bench.dataset.valid.labels]),
        bench.dataset,
        bench.task,
        spec.deliver.training,
        seed=spec.seed,
        device=bench.device,
        precision=bench.precision,
        statistics="fp32",
        checkpoints=context.checkpoints,
        should_stop=context.must_leave,
        on_epoch=lambda epoch, epochs, loss: teller.tell(
            f"final training, epoch {epoch} of {epochs}, loss {loss:.3f}", epoch
        ),
    )
    if not summary.finished:
        raise context.leave()
    file = context.scratch / f"{architecture.digest}.safetensors"
    save_file({name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}, file)
    artifact = context.artifacts.put(file, kind=_WEIGHTS, name=file.name, meta={"digest": architecture.digest})
    return network, Delivery(
        digest=architecture.digest,
        text=architecture.text,
        weights="trained",
        artifacts={_WEIGHTS: artifact.artifact_id},
    )


def _test(context: UnitContext, network: nn.Module, exported: Path | None) -> tuple[dict[str, float], str]:
    """What the delivered network does on the test split, and what ran it: its ONNX file, or PyTorch in fp32."""
    import onnxruntime
    import torch

    from nas.export import run_onnx
    from nas.training import evaluate_network

    bench = context.bench
    test = bench.dataset.load_test()
    if exported is None:
        values = evaluate_network(
            network, test.images, test.labels, bench.dataset, bench.task, device=bench.device, precision="fp32"
        )
        return values, f"PyTorch {torch.__version__}, fp32, on {bench.device.type}"
    starts = range(0, len(test), _TEST_BATCH)
    logits = run_onnx(exported / "model.onnx", (test.images[start : start + _TEST_BATCH] for start in starts))
    values = bench.task.metrics(torch.cat(logits), torch.from_numpy(test.labels))
    return values, f"onnxruntime {onnxruntime.__version__}, model.onnx, fp32, on cpu"


def _settle(
    context: UnitContext, architecture: Architecture, measured: dict[str, float], how: str, seconds: float
) -> None:
    from nas.training import code_version

    fidelity = Fidelity(level="full", resources={"epochs": context.spec.deliver.training.epochs})
    place = {"split": "test", "dtype": "fp32", "measured_with": how, "code": code_version()}
    measurements = tuple(
        Measurement(metric=f"test_{name}", value=value, fidelity=fidelity, context=place)
        for name, value in measured.items()
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


def _write(
    context: UnitContext, network: nn.Module, formats: Sequence[ExportFormat], folder: Path, card: dict[str, Any]
) -> dict[str, float]:
    """The network in every format, in a folder; how far each is from it."""
    from nas.export import write_formats

    dataset = context.bench.dataset
    return write_formats(
        network,
        dataset.valid.images[:_PARITY_IMAGES],
        folder,
        formats=formats,
        mean=dataset.mean,
        std=dataset.std,
        class_names=dataset.class_names,
        card=card,
    )


def _pack(
    context: UnitContext,
    formats: Sequence[ExportFormat],
    folder: Path,
    card: dict[str, Any],
    parity: dict[str, float],
) -> dict[str, str]:
    """Each format with the card as an archive that is kept; format -> artifact id."""
    from nas.export import archive, write_card

    dataset = context.bench.dataset
    num_images = min(_PARITY_IMAGES, len(dataset.valid))
    write_card(folder, card, dataset.input_shape, class_names=dataset.class_names, parity=parity, num_images=num_images)
    artifacts: dict[str, str] = {}
    for name in formats:
        meta = {"digest": card["architecture"]["digest"], "format": name, "weights": card["weights"]}
        called = download_name(context.job.name, meta["digest"], name)
        artifacts[name] = context.artifacts.put(archive(folder, name), kind=name, name=called, meta=meta).artifact_id
    return artifacts


def download_name(job: str, digest: str, format: ExportFormat) -> str:
    """What a browser saves an archive as: the job's name in letters that every system takes, the network, the format.

    >>> download_name("Pets, small!", "0123456789abcdef", "onnx")
    'pets-small-01234567-onnx.zip'
    """
    plain = re.sub(r"[^a-z0-9]+", "-", job.lower()).strip("-")[:60]
    return "-".join(filter(None, (plain, digest[:8], format.replace("_", "-")))) + ".zip"


def _card(context: UnitContext, delivery: Delivery) -> dict[str, Any]:
    """What the model card says of a network: everything that is known, with its level."""
    from nas.training import code_version

    spec = context.spec
    architecture = context.bench.space.parse(delivery.text)
    found = context.view.candidate(delivery.digest)
    known: dict[str, float] = dict(found.values) if found else {}
    levels: tuple[Level, ...] = get_args(Level)
    evaluations = sorted(found.evaluations if found else (), key=lambda e: levels.index(e.proposal.fidelity.level))
    measured = [m for evaluation in evaluations for m in evaluation.measurements]
    return {
        "architecture": architecture.to_json(),
        "space": spec.space.model_dump(mode="json"),
        "weights": delivery.weights,
        "chosen": delivery.chosen,
        "contenders": [contender.model_dump(mode="json") for contender in delivery.contenders],
        "metrics": {**known, **{f"{name}@full": value for name, value in delivery.metrics.items()}},
        "measured_with": delivery.measured_with,
        "measurements": [m.model_dump(mode="json") for m in (*measured, *delivery.timed)],
        "dataset": {"name": context.bench.dataset.name, "digest": context.bench.dataset.digest},
        "training": spec.deliver.training.model_dump(mode="json") if delivery.weights == "trained" else None,
        "job": {"id": context.job.job_id, "name": context.job.name, "spec": spec.to_mapping()},
        "code": code_version(),
    }
