"""What GradSign costs: one batched pass against a loop of batches of one, on networks of full size, one run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._data import ROOT, data_file
from benchmarks._report import Value
from benchmarks.supernet_step import MIB, resident
from nas.datasets import REGISTRY as DATASETS
from nas.scoring import proxy_context
from nas.streams import stream
from nas.tasks import REGISTRY as TASKS
from nas.training import choose_device, choose_dtype, dtype_name
from predictors.ranking import spearman
from predictors.zerocost._per_sample import gradient_signs
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, SearchSpace, fused, kernel_mode

BATCH, SEED = 128, 0
SHAPE = (3, 32, 32)
SIDES = ("default", "fp32", "pass", "pass_fp32", "loop")


class Ground:
    """NAS-Bench-201 with its own settings, seeded architectures with an output, one batch of real images."""

    def __init__(self, num_architectures: int) -> None:
        self.device = choose_device("auto")
        self.dtype = choose_dtype("auto", self.device, SHAPE)
        self.space: SearchSpace = SPACES["nasbench201"]({"input_shape": SHAPE, "num_classes": 10})
        self.architectures = connected(self.space, num_architectures)
        dataset = DATASETS["cifar10"]({"path": str(data_file("cifar10_small.npz")), "variant": "small"})
        task = TASKS["classification"]({}, dataset)
        context = proxy_context(dataset, task, images=BATCH, seed=SEED, device=self.device)
        self.inputs = context.inputs.contiguous(memory_format=torch.channels_last)
        self.labels = context.labels

    def network(self, architecture: Architecture) -> nn.Module:
        """As proxies get it."""
        network = self.space.build(architecture, seed=SEED).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        made: nn.Module = network.to(self.device).train()
        return made

    def sides(self) -> dict[str, Callable[[nn.Module], float | None]]:
        """What is timed, each on one network; GradSign's own sides give its score."""
        fp32 = torch.float32
        return {
            "default": lambda network: self.score(network, self.dtype),
            "fp32": lambda network: self.score(network, fp32),
            "pass": lambda network: self.batched_pass(network, self.dtype),
            "pass_fp32": lambda network: self.batched_pass(network, fp32),
            "loop": self.score_by_loop,
        }

    def score(self, network: nn.Module, dtype: torch.dtype) -> float:
        """GradSign."""
        totals = gradient_signs(network, self.inputs, self.labels, F.cross_entropy, dtype=dtype)
        return sum(float(total.abs().double().sum()) for total in totals.values())

    def score_by_loop(self, network: nn.Module) -> float:
        """The reference: forward and backward of every image alone, in fp32, signs of gradients added up."""
        weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        totals = [torch.zeros_like(weight) for weight in weights]
        for image, label in zip(self.inputs.split(1), self.labels.split(1), strict=True):
            gradients = torch.autograd.grad(F.cross_entropy(network(image), label), weights, allow_unused=True)
            for total, gradient in zip(totals, gradients, strict=True):
                if gradient is not None:
                    total.add_(gradient.sign())
        return sum(float(total.abs().double().sum()) for total in totals)

    def batched_pass(self, network: nn.Module, dtype: torch.dtype) -> None:
        """The floor: one forward and backward pass over the batch, with fused operations."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16), fused():
            loss: Tensor = F.cross_entropy(network(self.inputs).float(), self.labels)
        loss.backward()  # type: ignore[no-untyped-call]


def connected(space: SearchSpace, number: int) -> list[Architecture]:
    """The first `number` seeded architectures that have an output."""
    found: list[Architecture] = []
    place = 0
    while len(found) < number:
        drawn = space.sample(stream(SEED, "gradsign", place))
        found += [drawn] if space.is_connected(drawn) else []
        place += 1
    return found


def seconds_of(work: Callable[[], float | None]) -> tuple[float, float | None]:
    """Seconds until the device has done it, and what comes of it."""
    began = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, result


def times(ground: Ground, rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds of every side in every round, summed over the architectures, and the scores of those that have one.

    In a round the sides run one after the other, in changing order, so that what else a machine does meets all alike.
    """
    sides = ground.sides()
    seconds = {side: [0.0] * rounds for side in SIDES}
    scores: dict[str, list[float]] = {"default": [], "fp32": [], "loop": []}
    for side in SIDES:
        sides[side](ground.network(ground.architectures[0]))  # kernels are built, memory is taken
    for number, architecture in enumerate(ground.architectures):
        found: dict[str, float] = {}
        for turn in range(rounds):
            first = (number + turn) % len(SIDES)
            for side in SIDES[first:] + SIDES[:first]:
                network = ground.network(architecture)
                once, score = seconds_of(lambda: sides[side](network))  # noqa: B023
                seconds[side][turn] += once
                found |= {} if score is None else {side: score}
        for side, score in found.items():
            scores[side].append(score)
        print(f"{number + 1} of {len(ground.architectures)} architectures timed", file=sys.stderr)
    return seconds, scores


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median, over the rounds, of the ratio of two sides in one round.

    Not the ratio of two medians: under a load that comes and goes, the median of a short side's times lies where the
    machine was quiet, and that of a long side's does not.
    """
    return statistics.median(long / short for long, short in zip(above, below, strict=True))


def rank_agreement(ground: Ground, number: int) -> float | None:
    """Spearman of the scores in the default precision and in fp32."""
    networks = [ground.network(architecture) for architecture in connected(ground.space, number)]
    default, fp32 = ([ground.score(network, dtype) for network in networks] for dtype in (ground.dtype, torch.float32))
    return spearman(default, fp32)


def peak_memory(side: str) -> float:
    """MiB that one side takes above the process before it, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.proxies", "--memory-of", side]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure_memory(side: str) -> float:
    """What `peak_memory` asks its process for: the largest network, twice."""
    ground = Ground(0)
    largest, work = ground.network(ground.space.extremes().largest), ground.sides()[side]
    if ground.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = resident("VmRSS")
    for _ in range(2):
        work(largest)
    return torch.cuda.max_memory_allocated() / MIB if ground.device.type == "cuda" else resident("VmHWM") - before


def figures(*, quick: bool) -> dict[str, Value]:
    """All that `--speed` reports of GradSign."""
    ground = Ground(3 if quick else 8)
    seconds, scores = times(ground, rounds=2 if quick else 5)
    for side in SIDES:
        print(f"{side:<10} {statistics.median(seconds[side]) / len(ground.architectures):7.3f} s per architecture")
    apart = [abs(a - b) / b for a, b in zip(scores["fp32"], scores["loop"], strict=True)]
    mode = f"{ground.device.type}, {dtype_name(ground.dtype)}, {kernel_mode(ground.device)}"
    return {
        "gradsign_speedup": ratio(seconds["loop"], seconds["default"]),
        "gradsign_speedup_fp32": ratio(seconds["loop"], seconds["fp32"]),
        "gradsign_over_batched_pass": ratio(seconds["default"], seconds["pass"]),
        "gradsign_over_batched_pass_fp32": ratio(seconds["fp32"], seconds["pass_fp32"]),
        "gradsign_largest_difference": max(apart),
        "gradsign_memory_ratio": peak_memory("default") / peak_memory("pass"),
        "gradsign_memory_ratio_fp32": peak_memory("fp32") / peak_memory("pass_fp32"),
        "gradsign_rank_agreement": rank_agreement(ground, 12 if quick else 100),
        "mode": mode,
        "threads": torch.get_num_threads(),
    }
