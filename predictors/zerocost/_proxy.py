"""What every proxy is: a number about an untrained network, from passes that proxies share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from searchspaces import Flag, ProxyUndefined

if TYPE_CHECKING:
    from torch import Tensor

    from predictors.zerocost._passes import Passes

Record = Literal["gradients", "channels", "jacobian", "codes", "variances"]
"""What a proxy may want of the labelled pass; see `predictors.zerocost._labelled`."""

Need = Literal["numbers", "images", "weights", "convolutions", "no_attention", "batch_norms"]
"""What a network must have for a formula to apply to it.

- `numbers`: its inputs are real numbers, which can be varied, or differentiated by.
- `images`: an input is `channels x height x width`.
- `weights`: all weights of two axes or more are those of convolutions (Conv2d) and linear layers.
- `convolutions`: it runs a convolution (Conv2d).
- `no_attention`: it runs no attention, and no softmax but a classifier's.
- `batch_norms`: of normalisations it runs BatchNorm2d or none.
"""


class Batch(NamedTuple):
    """Inputs as the network takes them, `batch x channels x height x width`, and their classes, `batch`."""

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ProxyContext:
    """What all proxies of a comparison have in common.

    Attributes:
        batches: labelled batches of equal size, on the device that everything runs on. Most proxies read all of them,
            those that compare batches need two.
        loss: (logits, labels) -> the mean loss of the batch.
        seed: of initial weights and random inputs.
        low_precision: whether proxies that allow it run in bf16.
    """

    batches: tuple[Batch, ...]
    loss: Callable[[Tensor, Tensor], Tensor]
    seed: int = 0
    low_precision: bool = False

    @property
    def inputs(self) -> Tensor:
        """All images, `images x channels x height x width`."""
        import torch

        return torch.cat([batch.inputs for batch in self.batches])

    @property
    def labels(self) -> Tensor:
        """All classes, `images`."""
        import torch

        return torch.cat([batch.labels for batch in self.batches])

    @property
    def example(self) -> Tensor:
        """One image, for its shape and device: `1 x channels x height x width`."""
        return self.batches[0].inputs[:1]


class Score(NamedTuple):
    """A proxy's value, higher better, and where it has one its statistic of every layer with weights, by name."""

    value: float
    layers: Mapping[str, float] = {}


@dataclass(frozen=True)
class Scored:
    """What came of one proxy on one network: a value, or why there is none.

    Attributes:
        value: higher better; None where it is undefined.
        seconds: of the proxy's own work and of all passes it reads, whoever asked for them first.
        layers: the statistic of every layer with weights, by name; empty for proxies without one.
        error: why there is no value.
        is_fault: whether that is because the proxy failed, and not because it says that it has none.
    """

    value: float | None
    seconds: float
    layers: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    is_fault: bool = False


class Proxy(ABC):
    """A score of an untrained network; higher is better.

    Attributes:
        records: what it reads of the labelled pass, so that one pass can record it for all.
        needs: what a network must have for its formula to apply; without, it is not asked, and has no score.
        runs: whether it runs the network, so that one without a way from input to output has no score.
    """

    records: frozenset[Record] = frozenset()
    needs: frozenset[Need] = frozenset()
    runs = True

    @abstractmethod
    def score(self, passes: Passes) -> Score:
        """The score of the network behind `passes`.

        Raises:
            ProxyUndefined: it has none; the message is the reason. Whatever ranks networks by scores puts those without
                one last, where a published code gives minus infinity, too. Any other error is a fault of the proxy; it
                costs this score and no other.
        """


class Vote(Proxy):
    """A proxy that ranks several networks by what other proxies and costs say of them.

    Attributes:
        parts: names of those, all higher better; `predictors.ranking.rank_vote` makes the score of their values.
    """

    parts: tuple[str, ...] = ()

    def score(self, passes: Passes) -> Score:
        raise ProxyUndefined(f"is a rank among several networks by {', '.join(self.parts)}; score more than one.")


def finite(value: object, reason: str) -> float:
    """The value as a number.

    Raises:
        ProxyUndefined: it is not finite, for this reason.
    """
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ProxyUndefined(f"{reason}: {number}.")
    return number


def properties(
    *, data: bool = False, labels: bool = False, second_order: bool = False, layers: bool = False, fails: str = ""
) -> dict[str, Flag]:
    """The flags of a proxy: whether it reads images and their classes, takes second derivatives, has a statistic of
    every layer (see `Score.layers`), and where it is known to fail."""
    return {
        "data": data or labels,
        "labels": labels,
        "second_order": second_order,
        "layers": layers,
        "direction": "max",
        "fails": fails,
    }
