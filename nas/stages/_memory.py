"""What a batch takes of the memory, and whether a machine has that much.

A CUDA device says when it has no more, and the batch is halved. A CPU does not: the system gives more than there is,
and ends the process that uses it, hours later. So a batch that cannot fit is refused before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.admission import can_train
from nas.evaluators import REGISTRY as EVALUATORS
from nas.evaluators import needs_data, needs_supernet
from nas.spec import JobSpec
from nas.stages._trust import audits
from searchspaces import SpecError, Violation

if TYPE_CHECKING:
    import torch

    from nas.workbench import Workbench

_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_FEWEST = 2  # what batch normalisation needs


def whole_bytes() -> int:
    """All memory that a process of this machine can ever have: what is built in, within its control group's limit."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in _GROUPS:
        try:
            found.append(int(Path(file).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return min(found)


def free_bytes() -> int:
    """Memory that a new process may use: what the machine has free, within the limit of its control group."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        free = min(free, limit - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no such group, or "max"
        pass
    return max(free, 0)


class Needs(NamedTuple):
    """What the largest path takes at the least, in bytes.

    `step`: for each sample of a training step, what its forward pass keeps for the backward one. `forward`: for each
    sample of an evaluation, what its widest operation reads and writes. `weights`: the shared weights.
    """

    step: float
    forward: float
    weights: int


def needs_of(spec: JobSpec, bench: Workbench) -> Needs:
    """What the largest path takes, as a few samples say."""
    import torch

    from nas.training import SMALLEST_MICRO_BATCH, DeviceData, accelerated, to_device

    few = min(SMALLEST_MICRO_BATCH, len(bench.dataset.train))
    supernet = to_device(bench.measurable.supernet(seed=spec.seed), bench.device).train()
    largest = bench.measurable.extremes().largest
    x, _ = DeviceData.of(bench.dataset.train, bench.dataset, bench.device).batch(torch.arange(few))
    held = Held()
    with torch.autograd.graph.saved_tensors_hooks(held.count, lambda t: t), accelerated(bench.device, bench.dtype):
        logits = supernet(x, largest)
    del logits
    with torch.no_grad(), accelerated(bench.device, bench.dtype):
        forward = _widest(lambda: supernet(x, largest), supernet)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in supernet.parameters())
    return Needs(held.num_bytes / few, forward / few, weights)


class Held:
    """Counts what a forward pass keeps for the backward one, each storage once."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._seen: set[int] = set()

    def count(self, tensor: torch.Tensor) -> torch.Tensor:
        """Note a tensor that is kept; it is given back as it is, so that its storage stays until the backward pass."""
        from torch import nn

        storage = tensor.untyped_storage()
        if not isinstance(tensor, nn.Parameter) and storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())  # weights are there once, however many samples
            self.num_bytes += storage.nbytes()
        return tensor


def _widest(run: Callable[[], object], network: torch.nn.Module) -> int:
    """The most bytes that one operation of a call reads and writes, without the network's own tensors."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    own = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}

    class Widest(TorchDispatchMode):  # type: ignore[no-untyped-call]
        most = 0

        def __torch_dispatch__(
            self, func: Any, types: object, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
        ) -> object:
            made = func(*args, **(kwargs or {}))
            tensors = [t for t in tree_leaves((args, kwargs, made)) if isinstance(t, torch.Tensor)]
            storages = {s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in tensors)}
            self.most = max(self.most, sum(size for place, size in storages.items() if place not in own))
            return made

    with Widest() as seen:  # type: ignore[no-untyped-call]
        run()
    return int(seen.most)


class _Batch(NamedTuple):
    """A setting that says how many samples run at once, and what each of them, and all of it, take."""

    field: str
    size: int
    num_samples: int
    each: float
    once: int = 0

    @property
    def num_bytes(self) -> float:
        return self.once + self.each * min(self.size, self.num_samples)


def refuse_batches(spec: JobSpec, bench: Workbench) -> list[str]:
    """Refuse batches that no memory of this machine can hold; a note for each that what is free now does not.

    Raises:
        SpecError: with every such setting and the largest batch that fits.
    """
    if bench.device.type != "cpu":
        return []  # it says so itself, and the batch is halved
    whole, free = whole_bytes(), free_bytes()
    batches = list(_batches(spec, bench, needs_of(spec, bench)))
    if too_large := [batch for batch in batches if batch.num_bytes > whole]:
        raise SpecError([_violation(batch, whole) for batch in too_large])
    return [
        f"{batch.field}: {batch.size} samples at once take {_gigabytes(batch.num_bytes)} or more, and "
        f"{_gigabytes(free)} are free now"
        for batch in batches
        if batch.num_bytes > free
    ]


def _batches(spec: JobSpec, bench: Workbench, needs: Needs) -> Iterator[_Batch]:
    """Every batch of the job."""
    num_train, num_valid = len(bench.dataset.train), len(bench.dataset.valid)
    if needs_supernet(spec.evaluator) and not spec.supernet.from_job:
        # weights, gradients, momentum
        yield _Batch("supernet.batch_size", spec.supernet.batch_size, num_train, needs.step, 3 * needs.weights)
    for field, ref in (("evaluator", spec.evaluator), ("audit.evaluator", spec.audit.evaluator)):
        if ref is None or not needs_data(ref):
            continue
        config = EVALUATORS[ref.name].configure(ref.config)
        if (training := getattr(config, "training", None)) is not None:
            yield _Batch(f"{field}.config.training.batch_size", training.batch_size, num_train, needs.step)
        if isinstance(size := getattr(config, "eval_batch", None), int):
            yield _Batch(f"{field}.config.eval_batch", size, num_valid, needs.forward, needs.weights)
    if audits(spec) and spec.audit.networks and spec.audit.evaluator is None:
        yield _Batch("audit.training.batch_size", spec.audit.training.batch_size, num_train, needs.step)
    if can_train(spec) and spec.deliver.networks:
        yield _Batch("deliver.training.batch_size", spec.deliver.training.batch_size, num_train + num_valid, needs.step)


def _violation(batch: _Batch, whole: int) -> Violation:
    fits = int((whole - batch.once) // batch.each)
    said = (
        f"{min(batch.size, batch.num_samples)} samples of the largest network at once take "
        f"{_gigabytes(batch.num_bytes)} or more, and this machine has {_gigabytes(whole)}"
    )
    way = f"at most {fits}" if fits >= _FEWEST else "a smaller space or smaller samples, of which two fit"
    return Violation(batch.field, str(batch.size), f"{way}: {said}")


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.3g} GB"
