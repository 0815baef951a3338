"""One network's passes: each is run when the first proxy asks for it, and once."""

from __future__ import annotations

import copy
import time
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from predictors.zerocost._applies import Survey, survey
from predictors.zerocost._labelled import Labelled, labelled_pass, weights
from predictors.zerocost._per_sample import gradient_signs
from predictors.zerocost._proxy import ProxyContext, Record
from searchspaces import ProxyUndefined

Made = TypeVar("Made")
_COPIES = ("copy", "copy to reinitialise")


class Passes:
    """What proxies may read of one network. The network is only read: every pass runs on a copy of it.

    Args:
        network: freshly initialised, on the context's device.
        context: what all proxies have in common.
        records: what the labelled pass is to record: all that will be asked for.
    """

    def __init__(self, network: nn.Module, context: ProxyContext, records: frozenset[Record]) -> None:
        self.network, self.context = network, context
        self._records = records
        self._made: dict[str, object] = {}
        self._seconds: dict[str, float] = {}
        self._read: set[str] = set()
        self.seconds = 0.0

    # --- passes ------------------------------------------------------------------------------------------------------

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The initial weights of all convolutions and linear layers, by layer."""
        return weights(self.network)

    @property
    def labelled(self) -> Labelled:
        """All labelled batches, in training mode."""
        return self._once("labelled", self._labelled)

    @property
    def survey(self) -> Survey:
        """What the network runs, seen on two inputs: what formulas apply to it depends on that."""
        return self._once("survey", lambda: survey(self.copy(), self.context.inputs[:2]))

    @property
    def signs(self) -> dict[str, Tensor]:
        """Sum over images of the sign of each image's own gradient, by parameter name."""
        return self._once("signs", self._signs)

    def shared(self, name: str, make: Callable[[], Made]) -> Made:
        """What a family of proxies makes once: `make()` when the first of them asks for `name`."""
        return self._once(name, make)

    # --- for passes of their own -------------------------------------------------------------------------------------

    def copy(self) -> nn.Module:
        """A copy in training mode, but for what draws at random; to be changed at will."""
        network = copy.deepcopy(self.network).train()
        for module in network.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        return network

    def as_initialised(self) -> nn.Module:
        """A copy that passes share: its weights stay; hooks are to be removed."""
        return self._once(_COPIES[0], self.copy)

    def to_reinitialise(self) -> nn.Module:
        """A copy that passes share which draw all its weights anew first; hooks are to be removed."""
        return self._once(_COPIES[1], self.copy)

    def forget_copies(self) -> None:
        """Whoever asks for a shared copy next gets a fresh one: what held them failed."""
        for name in _COPIES:
            self._made.pop(name, None)

    def generator(self, name: str) -> torch.Generator:
        """The stream `name` of the context's seed, on the CPU."""
        text = f"{self.context.seed}/{name}".encode()  # a checksum, since torch reads 32 bits of a seed
        return torch.Generator().manual_seed(zlib.crc32(text))

    def noise(self, name: str, *shape: int) -> Tensor:
        """Standard normal inputs, `shape`, on the device."""
        drawn = torch.randn(*shape, generator=self.generator(name))
        return drawn.to(self.context.example)

    def blocks(self, network: nn.Module) -> list[nn.Module]:
        """The modules that the network runs one after the other.

        Raises:
            ProxyUndefined: the network does not say which they are.
        """
        blocks = getattr(network, "blocks", None)
        if not callable(blocks):
            raise ProxyUndefined("needs the blocks of the network; give it a method `blocks`.")
        found: Sequence[nn.Module] = blocks()
        return list(found)

    # --- time --------------------------------------------------------------------------------------------------------

    def timed(self, work: Callable[[], Made]) -> Made:
        """What `work` gives; `seconds` then holds its time and that of all passes it read, whoever asked first."""
        self._read = set()
        before, began = sum(self._seconds.values()), time.perf_counter()
        try:
            return work()
        finally:
            own = time.perf_counter() - began - (sum(self._seconds.values()) - before)
            self.seconds = own + sum(self._seconds[name] for name in self._read)

    def _once(self, name: str, make: Callable[[], Made]) -> Made:
        if name not in self._made:
            inner, began = sum(self._seconds.values()), time.perf_counter()
            self._made[name] = make()
            self._seconds[name] = time.perf_counter() - began - (sum(self._seconds.values()) - inner)
        self._read.add(name)
        return self._made[name]  # type: ignore[return-value]

    def _labelled(self) -> Labelled:
        return labelled_pass(self.as_initialised(), self.context.batches, self.context.loss, self._records)

    def _signs(self) -> dict[str, Tensor]:
        context = self.context
        dtype = torch.bfloat16 if context.low_precision else torch.float32
        return gradient_signs(self.network, context.inputs, context.labels, context.loss, dtype=dtype)
