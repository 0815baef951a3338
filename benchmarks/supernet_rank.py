"""Which recipe ranks architectures best at equal compute: NAS-Bench-201 on CIFAR-10, every training image.

A supernet is trained with every recipe and seed on all 50,000 training images, made smaller (`--side`), in a small form
of the network (`--channels`, `--cells`). Then 500 fixed random architectures are scored with the shared weights on test
images, and their order is held against the table's test accuracy: Kendall tau by accuracy and by loss, and the partial
tau given live-edge FLOPs, so that a recipe gains nothing there by preferring convolutions.

Every recipe spends the same compute: as many multiply-accumulates of trained paths as single uniform paths take in
`--steps` steps of `--batch`. How many a recipe's own paths take is read off a pilot on 3 % of the images; what was
really spent is printed (but for the gradients that `gm_fewshot` compares, at most a tenth more). Minutes are printed,
not used. A paired difference is a recipe's tau less that of spos on the same architectures and seeds; its interval
comes from drawing both anew, 2,000 times.

`default` is what a job uses that names no recipe; `pada` is PA&DA as published; `conv_biased` is the control: fixed
path probabilities, equal to the mean ones of `pada` with the same seed, and nothing else of it. With `--keep FOLDER`
finished runs are kept there and read again: not across changes of the code.

    python -m benchmarks.supernet_rank [--json] [--quick] [--recipes spos,default,pada,conv_biased] [--seeds 3]
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from benchmarks._data import data_file
from benchmarks._report import Value, arguments, report
from nas.datasets import REGISTRY as DATASETS
from nas.datasets import Dataset, Split
from nas.recipes import REGISTRY as RECIPES
from nas.spec import JobSpec, PluginRef
from nas.spec import Supernet as Options
from nas.streams import stream
from nas.tasks import REGISTRY as TASKS
from nas.training import (
    Child,
    DeviceData,
    EpochReport,
    PathSampler,
    Recipe,
    Setting,
    StepReport,
    batch_statistics,
    choose_device,
    choose_dtype,
    evaluate_batches,
    train_supernet,
)
from predictors.ranking import kendall, partial_kendall
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, SearchSpace, Supernet

Floats = npt.NDArray[np.float64]
Distribution = Mapping[str, Mapping[str, float]]

BASE, CONTROL = "spos", "conv_biased"
PILOT = 0.03
DRAWS = 2000


@dataclass(frozen=True)
class Plan:
    """What is trained, and how it is scored."""

    steps: int
    batch: int
    channels: int
    cells: int
    side: int
    learning_rate: float
    architectures: int
    images: int
    train_images: int | None = None
    eval_batch: int = 1000


@dataclass(frozen=True)
class Run:
    """One trained and scored supernet.

    Attributes:
        accuracy, loss: of every architecture, by inherited weights.
        macs: multiply-accumulates per image of all trained paths, summed over the steps.
        distribution: decision -> option -> mean probability over the training.
    """

    recipe: str
    seed: int
    epochs: int
    minutes: float
    macs: float
    accuracy: tuple[float, ...]
    loss: tuple[float, ...]
    distribution: Distribution


@dataclass(frozen=True)
class Bench:
    """Space, images, the fixed architectures and the table's accuracy of each."""

    plan: Plan
    space: SearchSpace
    dataset: Dataset
    architectures: Sequence[Architecture]
    truth: Floats

    @classmethod
    def of(cls, plan: Plan) -> Bench:
        config = {
            "channels": plan.channels,
            "cells_per_stage": plan.cells,
            "input_shape": [3, plan.side, plan.side],
            "num_classes": 10,
            "supernet_bias": True,
            "supernet_track_running_stats": False,
        }
        space = SPACES["nasbench201"](config)
        with np.load(data_file("nasbench201.npz"), allow_pickle=False) as table:
            rows = np.sort(stream(0, "architectures").permutation(len(table["arch_str"]))[: plan.architectures])
            texts, truth = table["arch_str"][rows], table["cifar10_test_acc"][rows].astype(np.float64)
        return cls(
            plan, space, small_cifar10(plan.side, plan.train_images), [space.parse(str(text)) for text in texts], truth
        )

    def costs(self, *, live: bool) -> Floats:
        """FLOPs of the architectures in the benchmark's full-size network."""
        full = SPACES["nasbench201"]({})
        return np.array(
            [full.counts(full.parse(a.text), live=live).flops for a in self.architectures], dtype=np.float64
        )


def small_cifar10(side: int, limit: int | None = None) -> Dataset:
    """All training images, and the test images in place of valid ones, averaged down to `side x side`.

    limit: largest number of training images of each of the plug-in's two splits of them; None takes all.
    """
    found = DATASETS["cifar10"]({"path": str(data_file("cifar10_jpeg.npz")), "limit": limit})
    test = found.load_test()
    train = [np.concatenate(both) for both in zip(parts(found.train), parts(found.valid), strict=True)]
    images, factor = train[0], 32 // side

    def smaller(split: Sequence[npt.NDArray[np.generic]]) -> Split:
        whole = np.asarray(split[0])
        blocks = whole.reshape(len(whole), 3, side, factor, side, factor)
        mean = np.rint(blocks.mean(axis=(3, 5), dtype=np.float32)).astype(np.uint8)
        return Split(mean, np.asarray(split[1], dtype=np.int64), np.asarray(split[2], dtype=np.int64))

    pixels = images.reshape(len(images), 3, -1)
    return replace(
        found,
        train=smaller(train),
        valid=smaller(parts(test)),
        digest=f"{found.digest}-{side}",
        mean=tuple(float(m) / 255 for m in pixels.mean(axis=(0, 2))),
        std=tuple(float(s) / 255 for s in pixels.std(axis=(0, 2), dtype=np.float64)),
        max_shift=max(1, found.max_shift * side // 32),
    )


def parts(split: Split) -> tuple[npt.NDArray[np.generic], ...]:
    """Images, labels, ids."""
    return split.images, split.labels, split.ids


class FixedPaths(PathSampler):
    """One path per step, its options drawn independently from fixed probabilities: the control."""

    def __init__(self, setting: Setting, distribution: Distribution) -> None:
        self._space, self._seed, self._distribution = setting.space, setting.seed, distribution

    def plan(self, step: int) -> Sequence[Child]:
        rng = stream(self._seed, "paths", step)
        options = {}
        for decision in self._space.decisions:
            given = np.array([self._distribution[decision.name][option] for option in decision.options])
            options[decision.name] = decision.options[int(rng.choice(len(given), p=given / given.sum()))]
        return [Child(self._space.architecture(options))]

    def probability(self, architecture: Architecture) -> float:
        return float(np.prod([self._distribution[decision][option] for decision, option in architecture]))

    def distribution(self) -> dict[str, dict[str, float]]:
        return {name: dict(options) for name, options in self._distribution.items()}


class Counting(PathSampler):
    """The recipe's own sampler; adds up what its paths cost."""

    def __init__(self, inner: PathSampler, space: SearchSpace) -> None:
        self._inner, self._space = inner, space
        self.num_children, self.reads_outputs = inner.num_children, inner.reads_outputs
        self.macs = 0.0

    def plan(self, step: int) -> Sequence[Child]:
        return self._inner.plan(step)

    def probability(self, architecture: Architecture) -> float:
        return self._inner.probability(architecture)

    def distribution(self) -> dict[str, dict[str, float]]:
        return self._inner.distribution()

    def observe(self, report: StepReport) -> None:
        for child in report.children:
            if isinstance(child.choice, Architecture):
                self.macs += self._space.counts(child.choice, live=True).flops
        self._inner.observe(report)

    def end_epoch(self, epoch: int) -> None:
        self._inner.end_epoch(epoch)

    def state_dict(self) -> dict[str, Tensor]:
        return self._inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._inner.load_state_dict(state)


def recipe_of(name: str) -> PluginRef:
    """The plug-in behind a name of this benchmark."""
    if name == "default":
        return JobSpec.from_mapping({"dataset": "digits"}).supernet.recipe
    return PluginRef(name="pada", config={"released": True}) if name == "pada" else PluginRef(name=name)


def trained(
    bench: Bench, name: str, seed: int, epochs: int, dataset: Dataset, control: Distribution | None
) -> tuple[Supernet, float, Distribution, float]:
    """Supernet, MACs per image, mean distribution, and seconds."""
    options = Options(batch_size=bench.plan.batch, learning_rate=bench.plan.learning_rate, diagnosis=0)
    setting = Setting.of(bench.space, dataset, options, num_epochs=epochs, seed=seed)
    ref = PluginRef(name=BASE) if control else recipe_of(name)
    made: Recipe = RECIPES[ref.name](ref.config, setting)
    paths = Counting(FixedPaths(setting, control) if control else made.paths, bench.space)
    seen: list[Distribution] = []

    def keep(told: EpochReport) -> None:
        seen.append(told.distribution)

    supernet = made.prepare(bench.space.supernet(seed=seed))
    began = time.monotonic()
    task = TASKS["classification"]({}, dataset)
    recipe = replace(made, paths=paths)
    train_supernet(supernet, recipe, dataset, task, options, num_epochs=epochs, seed=seed, on_epoch=keep)
    mean = {
        decision.name: {o: float(np.mean([each[decision.name][o] for each in seen])) for o in decision.options}
        for decision in bench.space.decisions
    }
    return supernet, paths.macs, mean, time.monotonic() - began


def epochs_for(bench: Bench, name: str, seed: int, control: Distribution | None) -> int:
    """How many epochs of this recipe cost as much as `plan.steps` steps of single uniform paths."""
    rng = stream(seed, "uniform")
    uniform = np.mean([bench.space.counts(bench.space.sample(rng), live=True).flops for _ in range(2000)])
    per_epoch = len(bench.dataset.train) / bench.plan.batch
    wanted = bench.plan.steps / per_epoch
    if name == BASE:
        return max(1, round(wanted))
    chosen = stream(seed, "pilot").permutation(len(bench.dataset.train))[: int(PILOT * len(bench.dataset.train))]
    few = replace(bench.dataset, train=Split(*(part[chosen] for part in parts(bench.dataset.train))))  # type: ignore[arg-type]
    pilot_epochs = max(4, round(wanted))
    _, macs, _, _ = trained(bench, name, seed, pilot_epochs, few, control)
    steps = pilot_epochs * -(-len(few.train) // bench.plan.batch)
    return max(1, round(wanted * uniform / (macs / steps)))


def scored(bench: Bench, supernet: Supernet) -> tuple[Floats, Floats]:
    """Accuracy and loss of every architecture by inherited weights, by batch statistics."""
    device = choose_device()
    dtype = choose_dtype("auto", device, bench.dataset.input_shape)
    chosen = stream(0, "images").permutation(len(bench.dataset.valid))[: bench.plan.images]
    split = Split(*(part[chosen] for part in parts(bench.dataset.valid)))  # type: ignore[arg-type]
    batches = DeviceData.of(split, bench.dataset, device).batches(bench.plan.eval_batch)
    task = TASKS["classification"]({}, bench.dataset)
    known: dict[Architecture, dict[str, float]] = {}
    with batch_statistics(supernet):
        for architecture in map(bench.space.live, bench.architectures):
            if architecture not in known:
                forward: Callable[..., object] = lambda images, path=architecture: supernet(images, path)  # noqa: E731
                known[architecture] = evaluate_batches(forward, batches, task, dtype=dtype)  # type: ignore[arg-type]
    found = [known[bench.space.live(architecture)] for architecture in bench.architectures]
    return np.array([f["accuracy"] for f in found]), np.array([f["loss"] for f in found])


def run(bench: Bench, name: str, seed: int, control: Distribution | None, folder: Path | None) -> Run:
    """Train and score, unless it was done before."""
    ref = recipe_of(name)
    settings = control or [ref.name, RECIPES[ref.name].configure(ref.config).model_dump(mode="json")]
    key = json.dumps([asdict(bench.plan), name, settings, seed])
    file = folder / f"{name}-{seed}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json" if folder else None
    if file and file.exists():
        return Run(**json.loads(file.read_text(encoding="utf-8")))
    epochs = epochs_for(bench, name, seed, control)
    supernet, macs, distribution, seconds = trained(bench, name, seed, epochs, bench.dataset, control)
    accuracy, loss = scored(bench, supernet)
    made = Run(name, seed, epochs, seconds / 60, macs, tuple(accuracy), tuple(loss), distribution)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(made)), encoding="utf-8")
    return made


def difference_interval(truth: Floats, ours: Sequence[Floats], base: Sequence[Floats]) -> tuple[float, float]:
    """95 % interval of the mean difference in tau, over architectures and seeds drawn anew together."""
    rng, differences = stream(0, "paired"), []
    for _ in range(DRAWS):
        rows = rng.integers(0, len(truth), len(truth))
        seeds = rng.integers(0, len(ours), len(ours))
        each = [tau(truth[rows], ours[k][rows]) - tau(truth[rows], base[k][rows]) for k in seeds]
        differences.append(float(np.mean(each)))
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def tau(truth: Floats, predicted: Floats) -> float:
    """Kendall tau-b; 0 where it is undefined."""
    return kendall(truth, predicted) or 0.0


def summary(bench: Bench, runs: Mapping[str, Sequence[Run]]) -> dict[str, Value]:
    """The figures of all recipes."""
    live = bench.costs(live=True)
    figures: dict[str, Value] = {}
    scores = {
        name: {
            "": [np.array(one.accuracy) for one in each],
            "_by_loss": [-np.array(one.loss) for one in each],
        }
        for name, each in runs.items()
    }
    for name, kinds in scores.items():
        for suffix, each in kinds.items():
            figures[f"tau{suffix}.{name}"] = float(np.mean([tau(bench.truth, one) for one in each]))
            figures[f"partial_tau{suffix}.{name}"] = float(
                np.mean([partial_kendall(bench.truth, one, live) or 0.0 for one in each])
            )
            if name != BASE and BASE in scores:
                low, high = difference_interval(bench.truth, each, scores[BASE][suffix])
                figures |= {f"paired{suffix}.{name}.low": low, f"paired{suffix}.{name}.high": high}
        budget = np.mean([one.macs for one in runs.get(BASE, runs[name])])
        figures[f"compute.{name}"] = float(np.mean([one.macs for one in runs[name]]) / budget)
        figures[f"minutes.{name}"] = float(np.mean([one.minutes for one in runs[name]]))
        figures[f"epochs.{name}"] = float(np.mean([one.epochs for one in runs[name]]))
        figures[f"accuracy.{name}"] = float(np.mean([max(one.accuracy) for one in runs[name]]))
    figures["baselines.flops"] = tau(bench.truth, bench.costs(live=False))
    figures["baselines.live_flops"] = tau(bench.truth, live)
    return figures


def main() -> None:
    given = arguments(
        __doc__,
        ("recipes", str, "spos,default,pada,conv_biased", "names with commas, or `all`"),
        ("seeds", int, 3, "supernets of each recipe"),
        ("steps", int, 11_700, "steps of single uniform paths that set the budget"),
        ("batch", int, 256, "images per step"),
        ("rate", float, 0.15, "peak learning rate of every recipe"),
        ("channels", int, 16, "channels of the first stage"),
        ("cells", int, 1, "cells per stage"),
        ("side", int, 16, "pixels: 32, 16 or 8"),
        ("keep", str, "", "folder in which finished runs are kept"),
    )
    names = given.recipes.split(",")
    if given.recipes == "all":
        names = [BASE, "default", "pada", CONTROL, *sorted(set(RECIPES.names()) - {BASE, "pada"})]
    size = (given.steps, given.batch, given.channels, given.cells, given.side)
    plan, seeds = Plan(*size, learning_rate=given.rate, architectures=500, images=2000), given.seeds
    if given.quick:
        plan = replace(plan, steps=600, batch=64, channels=4, side=8, architectures=100, images=500, train_images=1500)
        seeds = 1
    bench, folder = Bench.of(plan), Path(given.keep) if given.keep else None
    runs: dict[str, list[Run]] = {}
    for seed in range(seeds):
        for name in sorted(names, key=lambda name: name == CONTROL):
            control = run(bench, "pada", seed, None, folder).distribution if name == CONTROL else None
            made = run(bench, name, seed, control, folder)
            runs.setdefault(name, []).append(made)
            by_loss, by_accuracy = tau(bench.truth, -np.array(made.loss)), tau(bench.truth, np.array(made.accuracy))
            print(
                f"{name:<14} seed {seed}  tau {by_accuracy:.3f}  by loss {by_loss:.3f}  {made.minutes:.1f} min",
                flush=True,
            )
    report(summary(bench, runs), as_json=given.json)


if __name__ == "__main__":
    main()
