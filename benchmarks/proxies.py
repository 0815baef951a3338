"""What proxies of untrained networks cost and how they rank, on NAS-Bench-201 networks and real CIFAR-10 images.

`--speed`: GradSign on 128 images against a loop of forward and backward passes over one image each, on the same
networks of full size in the same run. Sides take turns on every architecture, five times; a ratio is the median of
those of the five rounds, each within one round, so that what else the machine does meets both sides. The floor is one
batched forward and backward pass in the same precision. Memory is that of the largest network, each side in a process
of its own. Then all proxies together, from shared passes, over the sum of each alone.

`--rank`: every proxy on 300 seeded ones of the 725 architectures with stored scores: Spearman with the true accuracy of
all, of those with a way from input to output, of the best fifth, and given live parameters; agreement with the stored
scores; and the vote of size and separability, here and with stored scores on NAS-Bench-101 and the DARTS space, where
it fails. What is scored is kept in the user's cache folder, and a stopped run goes on.

Without either, both.

    python -m benchmarks.proxies [--speed] [--rank] [--json] [--quick] [--architectures 300] [--images 128] [--reduced]
                                 [--workers 2]
"""

from __future__ import annotations

import json
import os

from benchmarks import _proxies_bundle, _proxies_rank, _proxies_speed
from benchmarks._proxies_rank import Setting
from benchmarks._report import Value, arguments, report

QUIET = {"architectures": 4, "images": 128, "rounds": 5}


def main() -> None:
    """Print the figures."""
    given = arguments(
        __doc__,
        ("speed", bool, False, "only what proxies cost"),
        ("rank", bool, False, "only how they rank"),
        ("architectures", int, 300, "how many are ranked"),
        ("images", int, 128, "how many images a proxy reads when it ranks"),
        ("reduced", bool, False, "rank by networks of one cell a stage and 8 channels"),
        ("workers", int, os.cpu_count() or 1, "processes that score"),
        ("memory-of", str, "", "only the peak memory of this side, in MiB"),
    )
    if given.memory_of:
        print(json.dumps(_proxies_speed.measure_memory(given.memory_of)))
        return
    figures: dict[str, Value] = {}
    if given.speed or not given.rank:
        figures |= _proxies_speed.figures(quick=given.quick)
        size = {"architectures": 1, "images": 32, "rounds": 1} if given.quick else QUIET
        figures |= _proxies_bundle.figures(**size)
    if given.rank or not given.speed:
        setting = Setting(given.architectures, given.images, given.reduced, given.workers)
        figures |= _proxies_rank.figures(Setting(40, 32, True, given.workers) if given.quick else setting)
        figures |= _proxies_rank.elsewhere()
    report(figures, as_json=given.json)


if __name__ == "__main__":
    main()
