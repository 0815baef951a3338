"""Randomness is an argument: nothing draws from, seeds or saves a process-wide generator."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.rules._sources import dotted, files, name, tree

# The one place that may touch torch's global generator: it seeds it, lets modules initialise, and puts it back.
ALLOWED = {"searchspaces/_layers.py"}
# The contracts compare the states of the global generators before and after a call.
READS = {"random.getstate", "numpy.random.get_state", "torch.get_rng_state"}
NUMPY_ALLOWED = {"default_rng", "Generator", "BitGenerator", "SeedSequence", "PCG64", "PCG64DXSM", "Philox", "SFC64"}
TORCH_GLOBAL = {"manual_seed", "seed", "initial_seed", "get_rng_state", "set_rng_state", "fork_rng", "manual_seed_all"}
TORCH_GLOBAL |= {"get_rng_state_all", "set_rng_state_all"}
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like"}
TORCH_DRAWS |= {"bernoulli", "multinomial", "normal", "poisson", "gumbel_softmax"}
TENSOR_DRAWS = {"normal_", "uniform_", "bernoulli_", "random_", "exponential_", "geometric_", "cauchy_", "log_normal_"}


def global_randomness(syntax: ast.AST, *, initialises: bool = False, reads: bool = False) -> list[str]:
    """Uses of a process-wide generator; `initialises` allows `nn.init`, which `build` and `supernet` wrap."""
    aliases = _aliases(syntax)
    findings = []
    for node in ast.walk(syntax):
        if isinstance(node, ast.Attribute | ast.Name):
            path = _resolved(dotted(node), aliases)
            if _is_global_state(path) and not (reads and path in READS):
                findings.append(f"line {node.lineno}: {path}")
        if isinstance(node, ast.Call):
            path = _resolved(dotted(node.func), aliases)
            if _is_undirected_draw(path, node, initialises=initialises):
                findings.append(f"line {node.lineno}: {path}(...) without a generator")
    return findings


def _aliases(syntax: ast.AST) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names if alias.asname}
            found |= {alias.name.split(".")[0]: alias.name.split(".")[0] for alias in node.names if not alias.asname}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _resolved(path: str, aliases: dict[str, str]) -> str:
    head, _, rest = path.partition(".")
    return ".".join(filter(None, (aliases.get(head, "?" if head == "random" else head), rest)))


def _is_global_state(path: str) -> bool:
    parts = path.split(".")
    if parts[0] == "random" and len(parts) == 2:
        return parts[1] not in {"Random", "SystemRandom"}
    if parts[:2] == ["numpy", "random"] and len(parts) == 3:
        return parts[2] not in NUMPY_ALLOWED
    return parts[0] == "torch" and parts[-1] in TORCH_GLOBAL


def _is_undirected_draw(path: str, call: ast.Call, *, initialises: bool) -> bool:
    parts = path.split(".")
    if path == "numpy.random.default_rng":
        return not call.args and not call.keywords
    if parts[0] == "torch" and "init" in parts[1:-1]:
        draws = parts[-1] not in {"zeros_", "ones_", "constant_", "eye_", "dirac_"}
        return draws and not initialises and not _has_generator(call)
    if parts[0] == "torch" and parts[-1] in TORCH_DRAWS:
        return not _has_generator(call)
    return len(parts) > 1 and parts[-1] in TENSOR_DRAWS and not initialises and not _has_generator(call)


def _has_generator(call: ast.Call) -> bool:
    return any(keyword.arg == "generator" for keyword in call.keywords)


def _is_in(path: Path, folder: str) -> bool:
    return name(path).startswith(folder + "/")


def test_nothing_uses_a_global_random_generator() -> None:
    findings = [
        f"{name(f)} {finding}"
        for f in files()
        if name(f) not in ALLOWED
        for finding in global_randomness(tree(f), initialises=_is_in(f, "searchspaces"), reads=_is_in(f, "nas/testing"))
    ]
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize(
    "bad",
    [
        "import random\nrandom.shuffle(x)",
        "from random import choice\nchoice(x)",
        "import numpy as np\nnp.random.seed(0)",
        "import numpy as np\nrng = np.random.default_rng()",
        "from numpy.random import rand\nrand(3)",
        "import torch\ntorch.manual_seed(0)",
        "import torch\ntorch.cuda.manual_seed_all(0)",
        "import torch\nx = torch.rand(3)",
        "def f(x):\n    import torch.nn.functional as F\n    return F.gumbel_softmax(x)",
        "x.normal_(0, 1)",
        "from torch import nn\nnn.init.kaiming_normal_(w)",
    ],
)
def test_the_randomness_rule_sees_a_global_generator(bad: str) -> None:
    assert global_randomness(ast.parse(bad))


@pytest.mark.parametrize(
    "good",
    [
        "import numpy as np\nrng = np.random.default_rng(3)\nrng.random(4)",
        "import torch\nx = torch.rand(3, generator=g)",
        "import numpy as np\ndef f(rng: np.random.Generator): return rng.choice(3)",
        "def f(random): return random.pick(3)",
    ],
)
def test_the_randomness_rule_allows_a_given_generator(good: str) -> None:
    assert not global_randomness(ast.parse(good))
