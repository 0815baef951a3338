"""A training step of the supernet against plain PyTorch: the same network, batches and sequence of paths, one run.

The network is NAS-Bench-201's with 16 channels and 5 cells per stage, on 64 images of 32 x 32. Two references are
written here, as most one-shot code is written: *plain* (NCHW, fp32) and *eager* (channels_last, bf16 autocast where
the device has it). Both run only the operations of the path that reach the output, skip idle parameters and set
gradients to None, so what differs is the layout, the number format and the fused operations. Ours is the service's own
loop, in its default mode and in fp32. Every path is timed in all modes in turn, in changing order; a speed-up is the
ratio of the summed times.

PA&DA is timed against SPOS on the same paths and batches, step by step; the figure is the median of the paired ratios.

    python -m benchmarks.supernet_step [--json] [--quick]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._data import ROOT
from benchmarks._report import Value, arguments, report
from nas.datasets import Dataset, Split
from nas.recipes import REGISTRY as RECIPES
from nas.spec import Supernet as Options
from nas.streams import stream
from nas.tasks import REGISTRY as TASKS
from nas.training import Child, PathSampler, Recipe, Setting, StepReport, choose_device, choose_dtype, dtype_name
from nas.training._supernet import SupernetStepper
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, SearchSpace, kernel_mode

BATCH, CHANNELS, CELLS, SIDE = 64, 16, 5, 32
MODES = ("plain", "eager", "ours", "ours_fp32")
CONFIG = {"channels": CHANNELS, "cells_per_stage": CELLS, "input_shape": [3, SIDE, SIDE], "num_classes": 10}
MIB = 2**20


class ReferenceCell(nn.Module):
    """The convolutions of a cell, each with its own rectification and normalisation, one operation at a time."""

    def __init__(self, space: SearchSpace, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleDict()
        for decision in space.decisions:
            for option, kernel in (("nor_conv_1x1", 1), ("nor_conv_3x3", 3)):
                self.convs[f"{option}_{decision.name}"] = conv_norm(channels, channels, kernel)

    def forward(self, x: Tensor, edges: Sequence[Sequence[tuple[int, str, str]]]) -> Tensor:
        """x: `batch x channels x height x width`; edges: for nodes 1, 2, 3 the (source, option, decision) to sum."""
        states = [x]
        for incoming in edges:
            terms = [self._operate(states[source], option, decision) for source, option, decision in incoming]
            states.append(sum(terms[1:], start=terms[0]) if terms else torch.zeros_like(x))
        return states[-1]

    def _operate(self, x: Tensor, option: str, decision: str) -> Tensor:
        if option == "skip_connect":
            return x
        if option == "avg_pool_3x3":
            return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        result: Tensor = self.convs[f"{option}_{decision}"](x)
        return result


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU, convolution, batch normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(outputs, affine=False))


class ReferenceSupernet(nn.Module):
    """The same network, written plainly: as many parameters, and the same operations on every path."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space, width = space, CHANNELS
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width, affine=False))
        self.blocks = nn.ModuleList()
        for stage in range(3):
            if stage:
                first, second = conv_norm(width, 2 * width, 3, 2), conv_norm(2 * width, 2 * width, 3)
                shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(width, 2 * width, 1, bias=False))
                self.blocks.append(nn.ModuleList([nn.Sequential(first, second), shortcut]))
                width *= 2
            self.blocks.extend(ReferenceCell(space, width) for _ in range(CELLS))
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.classifier = nn.Linear(width, 10)

    def forward(self, x: Tensor, path: Architecture) -> Tensor:
        """x: `batch x 3 x height x width` -> logits, `batch x 10`."""
        edges = live_edges(self.space, path)
        x = self.stem(x)
        for block in self.blocks:
            if isinstance(block, nn.ModuleList):
                main, shortcut = block
                x = main(x) + shortcut(x)
            else:
                x = block(x, edges)
        logits: Tensor = self.classifier(F.relu(self.norm(x)).mean((2, 3)))
        return logits


def live_edges(space: SearchSpace, path: Architecture) -> list[list[tuple[int, str, str]]]:
    """For nodes 1, 2, 3 the incoming edges that the input reaches and that reach the output."""
    edges: list[list[tuple[int, str, str]]] = [[], [], []]
    for decision, option in space.live(path):
        source, target = map(int, decision.split("->"))
        if option != "none":
            edges[target - 1].append((source, option, decision))
    return edges if edges[2] else [[], [], []]


class Reference:
    """SGD steps of the reference network."""

    def __init__(
        self, space: SearchSpace, device: torch.device, dtype: torch.dtype, layout: torch.memory_format
    ) -> None:
        torch.manual_seed(0)
        self.network = ReferenceSupernet(space).to(device, memory_format=layout).train()
        self.device, self.dtype, self.layout = device, dtype, layout
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.01, 0.9, weight_decay=2.5e-4)

    def step(self, images: Tensor, targets: Tensor, path: Architecture) -> None:
        """images: `batch x 3 x height x width`, targets: `batch`."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            logits = self.network(images.contiguous(memory_format=self.layout), path)
        F.cross_entropy(logits.float(), targets).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([p for p in self.network.parameters() if p.grad is not None], 5.0)
        self.optimizer.step()


class GivenPaths(PathSampler):
    """A given sequence of paths, whatever the wrapped sampler would draw; what it learns from steps it still learns."""

    def __init__(self, paths: Sequence[Architecture], inner: PathSampler) -> None:
        self._paths, self._inner = paths, inner
        self.reads_outputs = inner.reads_outputs

    def plan(self, step: int) -> Sequence[Child]:
        return [Child(self._paths[step % len(self._paths)])]

    def probability(self, architecture: Architecture) -> float:
        return self._inner.probability(architecture)

    def distribution(self) -> dict[str, dict[str, float]]:
        return self._inner.distribution()

    def observe(self, report: StepReport) -> None:
        self._inner.observe(report)

    def end_epoch(self, epoch: int) -> None:
        self._inner.end_epoch(epoch)


@dataclass(frozen=True)
class Ground:
    """What all modes share."""

    space: SearchSpace
    dataset: Dataset
    paths: Sequence[Architecture]
    device: torch.device

    @classmethod
    def made(cls, num_paths: int) -> Ground:
        """Noise for images: no mode looks at them."""
        rng = stream(0, "images")
        images = rng.integers(0, 256, (num_paths * BATCH, 3, SIDE, SIDE), dtype=np.uint8)
        split = Split(images, rng.integers(0, 10, len(images)), np.arange(len(images)))

        def no_test() -> Split:
            raise NotImplementedError

        names = tuple(map(str, range(10)))
        dataset = Dataset("noise", split, split, names, "noise", (0.5,) * 3, (0.25,) * 3, False, 0, no_test)
        space = SPACES["nasbench201"](CONFIG)
        return cls(space, dataset, [space.sample(stream(0, "paths", k)) for k in range(num_paths)], choose_device())

    def ours(self, recipe: str, precision: str) -> Callable[[int], None]:
        """Steps of the service's own loop."""
        options = Options(batch_size=BATCH, augment=False)
        setting = Setting.of(self.space, self.dataset, options, num_epochs=10, seed=0)
        made: Recipe = RECIPES[recipe]({}, setting)
        stepper = SupernetStepper(
            self.space.supernet(seed=0),
            replace(made, paths=GivenPaths(self.paths, made.paths)),
            self.dataset,
            TASKS["classification"]({}, self.dataset),
            options,
            num_epochs=10,
            seed=0,
            device=self.device,
            precision="fp32" if precision == "fp32" else "auto",
        )
        stepper.begin_epoch(0)
        return lambda step: finish(stepper.step(step, 1.0))

    def reference(self, mode: str) -> Callable[[int], None]:
        """Steps of a reference."""
        is_plain = mode == "plain"
        dtype = torch.float32 if is_plain else choose_dtype("auto", self.device, (3, SIDE, SIDE))
        made = Reference(self.space, self.device, dtype, torch.contiguous_format if is_plain else torch.channels_last)
        images = torch.from_numpy(self.dataset.train.images).to(self.device)
        targets = torch.from_numpy(self.dataset.train.labels).to(self.device)

        def step(number: int) -> None:
            rows = slice(number * BATCH, (number + 1) * BATCH)
            made.step((images[rows].float() - 127.5) / 63.75, targets[rows], self.paths[number])
            finish(None)

        return step

    def steps_of(self, mode: str) -> Callable[[int], None]:
        """Steps of a mode."""
        if mode in ("plain", "eager"):
            return self.reference(mode)
        return self.ours("spos", "fp32" if mode == "ours_fp32" else "auto")


def finish(_: object) -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(step: Callable[[int], None], number: int) -> float:
    """Seconds of one step."""
    began = time.perf_counter()
    step(number)
    return time.perf_counter() - began


def speeds(ground: Ground, num_rounds: int) -> dict[str, float]:
    """Mean seconds per step of every mode."""
    steps = {mode: ground.steps_of(mode) for mode in MODES}
    for mode in MODES:
        steps[mode](0)
    seconds = dict.fromkeys(MODES, 0.0)
    for number in range(num_rounds):
        first = number % len(MODES)
        for mode in MODES[first:] + MODES[:first]:
            seconds[mode] += timed(steps[mode], number % len(ground.paths))
    return {mode: total / num_rounds for mode, total in seconds.items()}


def paired(ground: Ground, num_steps: int) -> float:
    """Median ratio of a PA&DA step to an SPOS step on the same path and batch."""
    spos, pada = ground.ours("spos", "auto"), ground.ours("pada", "auto")
    ratios = []
    for number in range(-4, num_steps):
        step = number % len(ground.paths)
        if number % 2:
            first = timed(spos, step)
            second = timed(pada, step)
        else:
            second = timed(pada, step)
            first = timed(spos, step)
        if number >= 0:
            ratios.append(second / first)
    return statistics.median(ratios)


def peak_memory(mode: str) -> float:
    """MiB that steps of a mode need above the process before its network is made; in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.supernet_step", "--memory-of", mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure_memory(mode: str) -> float:
    """What `peak_memory` asks its process for."""
    ground = Ground.made(4)
    if ground.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = resident("VmRSS")
    step = ground.steps_of(mode)
    for number in range(len(ground.paths)):
        step(number)
    return torch.cuda.max_memory_allocated() / MIB if ground.device.type == "cuda" else resident("VmHWM") - before


def resident(field: str) -> float:
    """Resident memory of this process in MiB: now (`VmRSS`), or at most so far (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def main() -> None:
    given = arguments(__doc__, ("memory-of", str, "", "only the peak memory of this mode, in MiB"))
    if given.memory_of:
        print(json.dumps(measure_memory(given.memory_of)))
        return
    ground = Ground.made(10 if given.quick else 50)
    seconds = speeds(ground, 10 if given.quick else 50)
    memory = {mode: peak_memory(mode) for mode in MODES}
    dtype = dtype_name(choose_dtype("auto", ground.device, (3, SIDE, SIDE)))
    for mode in MODES:
        print(f"{mode:<10} {BATCH / seconds[mode]:8.1f} images/s  peak {memory[mode]:6.0f} MiB")
    figures: dict[str, Value] = {
        "speedup_over_eager": seconds["eager"] / seconds["ours"],
        "speedup_over_plain": seconds["plain"] / seconds["ours"],
        "speedup_fp32": seconds["plain"] / seconds["ours_fp32"],
        "pada_over_spos": paired(ground, 40 if given.quick else 200),
        "peak_memory_mb": memory["ours"],
        "peak_memory_mb_eager": memory["eager"],
        "peak_memory_mb_plain": memory["plain"],
        "mode": f"{ground.device.type}, channels_last, {dtype}, {kernel_mode(ground.device)}",
        "threads": torch.get_num_threads(),
    }
    report(figures, as_json=given.json)


if __name__ == "__main__":
    main()
