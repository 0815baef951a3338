"""What shared passes save: all proxies of one network together, over the sum of each alone; votes cost nothing."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import searchspaces
from benchmarks._data import data_file
from benchmarks._proxies_speed import ratio
from benchmarks._report import Value
from nas.datasets import REGISTRY as DATASETS
from nas.scoring import proxy_context
from nas.streams import stream
from nas.tasks import REGISTRY as TASKS
from nas.training import choose_device, choose_dtype
from predictors.zerocost import REGISTRY, ProxyContext, Vote, score_architecture
from searchspaces import Architecture, SearchSpace

SEED = 0
_TOGETHER = "together"


def figures(*, architectures: int, images: int, rounds: int) -> dict[str, Value]:
    """Seconds summed over seeded architectures of full size; networks are built anew each time.

    In each round every proxy runs alone, and half of them before what runs all together; a ratio is the median over the
    rounds of the ratio within one, which meets the same load.
    """
    space = searchspaces.REGISTRY["nasbench201"]({"input_shape": (3, 32, 32), "num_classes": 10})
    dataset = DATASETS["cifar10"]({"path": str(data_file("cifar10_small.npz")), "variant": "small"})
    task = TASKS["classification"]({}, dataset)
    device = choose_device("auto")
    in_bf16 = choose_dtype("auto", device, space.input_shape) == torch.bfloat16
    context = proxy_context(dataset, task, images=images, seed=SEED, device=device, low_precision=in_bf16)
    proxies = {name: proxy for name in REGISTRY if not isinstance(proxy := REGISTRY[name](), Vote)}
    passes, together = 0.0, [0.0] * rounds
    alone = {name: [0.0] * rounds for name in proxies}
    for number, architecture in enumerate(_connected(space, architectures), 1):
        sides: dict[str, Callable[[], object]] = {
            name: partial(score_architecture, space, architecture, {name: proxy}, context)
            for name, proxy in proxies.items()
        }
        sides[_TOGETHER] = partial(score_architecture, space, architecture, proxies, context)
        sides[_TOGETHER]()  # warm-up: kernels and allocations
        names = list(proxies)
        for turn in range(rounds):
            half = len(names) // 2
            for name in (*names[:half], _TOGETHER, *names[half:]):
                spent = together if name == _TOGETHER else alone[name]
                spent[turn] += _seconds(sides[name])
            names = names[1:] + names[:1]
        passes += _batched_pass(space, architecture, context)
        print(f"{number} of {architectures} architectures timed", file=sys.stderr)
    each = {name: statistics.median(seconds) / architectures for name, seconds in alone.items()}
    for name, seconds in sorted(each.items(), key=lambda pair: -pair[1]):
        print(f"{name:18}{seconds:8.3f} s alone")
    bundle = statistics.median(together) / architectures
    print(f"{'together':18}{bundle:8.3f} s, one batched pass {passes / architectures:.3f} s")
    return {
        "bundle_over_sum": ratio(together, [sum(turn) for turn in zip(*alone.values(), strict=True)]),
        "bundle_over_batched_pass": bundle * architectures / passes,
        "bundle_proxies": len(proxies),
        "bundle_seconds": bundle,
    }


def _batched_pass(space: SearchSpace, architecture: Architecture, context: ProxyContext) -> float:
    """Median seconds of one plain forward and backward pass over the batch."""
    network = space.build(architecture).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]

    inputs, labels = context.inputs.contiguous(memory_format=torch.channels_last), context.labels

    def run() -> None:
        loss: Tensor = context.loss(network(inputs), labels)
        torch.autograd.backward(loss)

    run()
    return statistics.median(_seconds(run) for _ in range(3))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _connected(space: SearchSpace, number: int) -> list[Architecture]:
    rng = stream(SEED, "proxies", "bundle")
    found: list[Architecture] = []
    while len(found) < number:
        drawn = space.sample(rng)
        if space.is_connected(drawn):
            found.append(drawn)
    return found
