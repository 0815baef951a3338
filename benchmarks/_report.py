"""The command line that all benchmarks share, and how they report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

Value = float | int | str | bool | None | list["Value"] | dict[str, "Value"]


def arguments(description: str | None, *extra: tuple[str, type, object, str]) -> argparse.Namespace:
    """`--json`, `--quick`, and the benchmark's own options, each (name, type, default, help); a bool is a switch."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    parser.add_argument("--quick", action="store_true", help="ends within a minute: the same keys, fewer seeds")
    for name, kind, default, text in extra:
        if kind is bool:
            parser.add_argument(f"--{name}", action="store_true", help=text)
        else:
            parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} (default: {default})")
    return parser.parse_args()


def hardware() -> str:
    """The machine in a line: what a figure is worth nothing without."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, Python {platform.python_version()}, {platform.system()}"


def report(figures: Mapping[str, Value], *, as_json: bool) -> None:
    """Print the figures, one a line with the hardware above them; with `as_json` also as one JSON object at the end."""
    print(f"# {hardware()}")
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:.4g}" if isinstance(value, float) else f"{name:<{width}}  {value}")
    if as_json:
        print(json.dumps(dict(figures), allow_nan=False))
    sys.stdout.flush()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
