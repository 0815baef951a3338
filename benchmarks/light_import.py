"""What `import nas`, the client and the command line's help cost: time and modules, against a bare interpreter.

Each is run in fresh interpreters, turn by turn with the bare one, and the fastest of all rounds counts: the noise of a
shared machine only ever adds. The ratio is the figure; `*_heavy` names every heavy library that was loaded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks._report import Value, arguments, report

HEAVY = ("torch", "sqlalchemy", "optuna", "scipy", "sklearn", "pandas", "plotly", "networkx")
PROGRAMS = {
    "bare": "pass",
    "nas": "import nas",
    "client": "import nas.client",
    "help": "import contextlib, io, runpy, sys\nsys.argv = ['nas', '--help']\n"
    "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
    "    runpy.run_module('api', run_name='__main__')",
    "torch": "import torch",
}


def seconds(program: str) -> float:
    """How long a fresh interpreter takes for `program`, start and end included."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", program], check=True)
    return time.perf_counter() - start


def modules(program: str) -> tuple[int, list[str]]:
    """How many modules are loaded after `program`, and which of the heavy libraries are among them."""
    tail = f"\nimport json, sys\nprint(json.dumps([len(sys.modules), [m for m in {HEAVY!r} if m in sys.modules]]))"
    command = [sys.executable, "-P", "-c", program + tail]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    count, heavy = json.loads(done.stdout.splitlines()[-1])
    return count, heavy


def main() -> None:
    options = arguments(__doc__)
    rounds = 3 if options.quick else 15
    fastest = {name: float("inf") for name in PROGRAMS}
    for _ in range(rounds):
        for name, program in PROGRAMS.items():
            fastest[name] = min(fastest[name], seconds(program))
    figures: dict[str, Value] = {"rounds": rounds, "bare_seconds": fastest["bare"]}
    for name in ("nas", "client", "help"):
        count, heavy = modules(PROGRAMS[name])
        figures |= {
            f"{name}_seconds": fastest[name],
            f"{name}_over_bare": fastest[name] / fastest["bare"],
            f"{name}_modules": count,
            f"{name}_heavy": list[Value](heavy),
        }
    figures["torch_over_nas"] = fastest["torch"] / fastest["nas"]
    report(figures, as_json=options.json)


if __name__ == "__main__":
    main()
