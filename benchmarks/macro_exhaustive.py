"""All 6,561 sub-networks of `macro` with inherited weights: in one call, against one by one.

A briefly trained supernet, real CIFAR-10 images that it was not trained on. One by one is timed on 100 seeded
architectures, between those of the call, and scaled to all; their accuracies and losses are compared. `--quick` takes
the 729 that begin with two small residuals, and a quarter of the width.

    python -m benchmarks.macro_exhaustive [--json] [--quick] [--device auto] [--images 256] [--width 1.0]
                                          [--begin ""] [--bn batch]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._data import data_file
from benchmarks._report import arguments, report
from nas.evaluators import REGISTRY as EVALUATORS
from nas.evaluators import EvaluationContext, Request
from nas.recipes import REGISTRY as RECIPES
from nas.resources import Fidelity
from nas.spec import JobSpec
from nas.spec import Supernet as Training
from nas.streams import stream
from nas.workbench import Workbench, save_supernet
from searchspaces import Architecture

SEED = 0
ONE_BY_ONE = 100
QUICK = {"images": 512, "width": 0.25, "begin": "11"}
TRAINING = Training(batch_size=64)
EPOCHS = 5


def main() -> None:
    """Print the figures."""
    options = arguments(
        __doc__,
        ("device", str, "auto", "where all runs"),
        ("images", int, 256, "images that each sub-network is measured on, and number that the supernet is trained on"),
        ("width", float, 1.0, "factor on the channels"),
        ("begin", str, "", "only the architectures whose text begins so"),
        ("bn", str, "batch", "normalisation: batch or recalibrated"),
    )
    if options.quick:
        vars(options).update(QUICK)
    with tempfile.TemporaryDirectory(prefix="macro-exhaustive-") as folder:
        bench = trained(options, Path(folder))
        race = Race(bench, options.bn, options.begin)
        race.run()
    report(
        {
            "time_ratio": race.seconds_together / race.seconds_one_by_one(),
            "max_difference": race.largest_difference(),
            "seconds_together": race.seconds_together,
            "seconds_one_by_one": race.seconds_one_by_one(),
            "architectures": len(race.together),
            "compared": len(race.alone),
            "images": len(bench.dataset.valid),
            "width": options.width,
            "bn": options.bn,
            "dtype": str(bench.dtype).removeprefix("torch."),
            "best_accuracy": max(values["accuracy"] for values in race.together.values()),
        },
        as_json=options.json,
    )


def trained(options: argparse.Namespace, folder: Path) -> Workbench:
    """A bench with a supernet that has seen the training images a few times."""
    from nas.training import Setting, train_supernet

    dataset = {"path": str(data_file("cifar10_small.npz")), "variant": "small", "limit": options.images}
    spec = JobSpec.from_mapping(
        {
            "space": {"name": "macro", "config": {"width": options.width}},
            "dataset": {"name": "cifar10", "config": dataset},
            "device": options.device,
            "seed": SEED,
        }
    )
    bench = Workbench(spec)
    supernet = bench.space.supernet(seed=SEED)
    setting = Setting.of(bench.space, bench.dataset, TRAINING, num_epochs=EPOCHS, seed=SEED)
    train_supernet(
        supernet,
        RECIPES["spos"](None, setting),
        bench.dataset,
        bench.task,
        TRAINING,
        num_epochs=EPOCHS,
        seed=SEED,
        device=bench.device,
        precision=bench.precision,
    )
    file = folder / "supernet.safetensors"
    save_supernet(supernet, file)
    return Workbench(spec, supernet_file=file)


@dataclass
class Race:
    """Both ways over the same images, interleaved."""

    bench: Workbench
    bn: str
    begin: str
    together: dict[str, dict[str, float]] = field(default_factory=dict)
    alone: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds_together: float = 0.0
    seconds_alone: float = 0.0

    def run(self) -> None:
        """Evaluate everything in one call, and every now and then one architecture by itself."""
        plain = Plain(self.bench, self.bn)
        evaluator = EVALUATORS["supernet"]({"bn": self.bn, "eval_batch": plain.eval_batch}, self.bench)
        architectures = [a for a in self.bench.space.iterate() if a.text.startswith(self.begin)]
        requests = [Request(a.text, a, Fidelity(level="supernet")) for a in architectures]
        drawn = stream(SEED, "benchmark").permutation(len(architectures))[:ONE_BY_ONE]
        waiting = [architectures[i] for i in drawn]
        for _ in evaluator.evaluate(requests[:1], EvaluationContext(seed=SEED)):  # loads weights and images
            plain.measure(waiting[0])
        every, began = len(requests) // len(waiting), time.perf_counter()
        for number, outcome in enumerate(evaluator.evaluate(requests, EvaluationContext(seed=SEED)), 1):
            if outcome.error is not None:
                raise SystemExit(f"{outcome.evaluation_id}: {outcome.error}")
            self.together[outcome.evaluation_id] = {m.metric: m.value for m in outcome.measurements}
            if number % every == 0 and waiting:
                self.seconds_together += time.perf_counter() - began
                architecture, began = waiting.pop(), time.perf_counter()
                self.alone[architecture.text] = plain.measure(architecture)
                self.seconds_alone += time.perf_counter() - began
                began = time.perf_counter()
        self.seconds_together += time.perf_counter() - began

    def seconds_one_by_one(self) -> float:
        """What all would take one by one."""
        return self.seconds_alone / len(self.alone) * len(self.together)

    def largest_difference(self) -> float:
        """Between the accuracies or losses of an architecture in both ways."""
        return max(
            abs(self.together[text][m] - value) for text, found in self.alone.items() for m, value in found.items()
        )


class Plain:
    """One architecture at a time, as one would write it: a forward pass of its path, or of its extracted network."""

    def __init__(self, bench: Workbench, bn: str) -> None:
        from nas.training import DeviceData, calibration_images

        self._bench, self._bn, self._supernet = bench, bn, bench.supernet()
        self.eval_batch = len(bench.dataset.valid)
        self._batches = DeviceData.of(bench.dataset.valid, bench.dataset, bench.device).batches(self.eval_batch)
        train = DeviceData.of(bench.dataset.train, bench.dataset, bench.device)
        self._calibration = calibration_images(train, seed=SEED, num_batches=2)

    def measure(self, architecture: Architecture) -> dict[str, float]:
        """Accuracy and loss."""
        from nas.training import batch_statistics, evaluate_batches, set_statistics

        bench, supernet = self._bench, self._supernet
        if self._bn == "recalibrated":
            network = set_statistics(supernet.extract(architecture), self._calibration, dtype=bench.dtype)
            return evaluate_batches(network, self._batches, bench.task, dtype=bench.dtype)
        with batch_statistics(supernet):
            return evaluate_batches(lambda x: supernet(x, architecture), self._batches, bench.task, dtype=bench.dtype)


if __name__ == "__main__":
    main()
