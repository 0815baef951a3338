"""What proxies of untrained networks cost, on NAS-Bench-201 networks of full size and real CIFAR-10 images.

`--speed`: GradSign on 128 images against a loop of forward and backward passes over one image each, on the same
networks in the same run. Sides take turns on every architecture; a speed-up is the ratio of the summed times. The floor
is one batched forward and backward pass in the same precision. Memory is that of the largest network, each side in a
process of its own.

    python -m benchmarks.proxies --speed [--json] [--quick]
"""

from __future__ import annotations

import json

from benchmarks import _proxies_speed
from benchmarks._report import Value, arguments, report


def main() -> None:
    given = arguments(
        __doc__,
        ("speed", bool, False, "only what GradSign costs"),
        ("memory-of", str, "", "only the peak memory of this side, in MiB"),
    )
    if given.memory_of:
        print(json.dumps(_proxies_speed.measure_memory(given.memory_of)))
        return
    figures: dict[str, Value] = _proxies_speed.figures(quick=given.quick)
    report(figures, as_json=given.json)


if __name__ == "__main__":
    main()
