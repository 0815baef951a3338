"""Small networks that proxies were not made for, each with the inputs that it takes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from predictors.zerocost import Batch, ProxyContext
from searchspaces import initialised

CLASSES = 3


class Blocks(nn.Module):
    """A stem, three blocks one after the other, a mean over places, a classifier."""

    def __init__(self, stem: nn.Module, block: Callable[[], nn.Module], width: int) -> None:
        super().__init__()
        self.stem, self.body = stem, nn.ModuleList(block() for _ in range(3))
        self.head = nn.Linear(width, CLASSES)

    def blocks(self) -> list[nn.Module]:
        return list(self.body)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.body:
            x = block(x)
        x = x.mean((2, 3)) if x.ndim == 4 else x.mean(1)
        logits: Tensor = self.head(x)
        return logits


class Patches(nn.Module):
    """Images `batch x 3 x 8 x 8` -> four tokens, `batch x 4 x width`, by a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """A transformer's layer of linear layers alone, `batch x tokens x width`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.before(x)).chunk(3, dim=-1)
        x = x + self.out(F.scaled_dot_product_attention(query, key, value))
        y: Tensor = x + self.mlp(self.after(x))
        return y


class Heads(nn.Module):
    """torch's own attention, whose weights are no linear layer's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.attention(self.norm(x), x, x, need_weights=False)[0]
        return y


def conv(width: int, norm: nn.Module, activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), norm, activation)


def images(number: int = 8) -> Tensor:
    return torch.randn(number, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def tokens(number: int = 8) -> Tensor:
    return torch.randint(20, (number, 5), generator=torch.Generator().manual_seed(0))


def _stem(width: int = 6) -> nn.Module:
    return nn.Conv2d(3, width, 3, padding=1, bias=False)


def _layer(inputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Linear(inputs, 16), nn.ReLU()


ZOO: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "language": (lambda: Blocks(nn.Embedding(20, 8), lambda: Attention(8), 8), tokens),
    "heads": (lambda: Blocks(Patches(8), lambda: Heads(8), 8), images),
    "vision": (lambda: Blocks(Patches(8), lambda: Attention(8), 8), images),
    "mlp": (lambda: nn.Sequential(nn.Flatten(), *_layer(192), *_layer(16), nn.Linear(16, CLASSES)), images),
    "group_norm": (lambda: Blocks(_stem(), lambda: conv(6, nn.GroupNorm(2, 6), nn.ReLU()), 6), images),
    "gelu": (lambda: Blocks(_stem(), lambda: conv(6, nn.BatchNorm2d(6), nn.GELU()), 6), images),
    "bare": (lambda: Blocks(_stem(), lambda: conv(6, nn.Identity(), nn.ReLU()), 6), images),
    "batch_norm": (lambda: Blocks(_stem(), lambda: conv(6, nn.BatchNorm2d(6), nn.ReLU()), 6), images),
}
"""Name -> how the network is made, and eight inputs."""


def zoo_network(name: str) -> tuple[nn.Module, ProxyContext]:
    """A network of the zoo with weights of a fixed seed, and two batches of what it takes, in three classes."""
    make, inputs = ZOO[name]
    with initialised(0):
        network = make()
    x, labels = inputs(), torch.arange(4) % CLASSES
    return network, ProxyContext((Batch(x[:4], labels), Batch(x[4:], labels)), F.cross_entropy)
