"""Networks of `parzc`: a mixer over segments of layer statistics, and a graph transformer that it feeds.

All members of an ensemble are trained at once: every tensor has the members as its first axis, every product is a
batched one, and no member sees another. `noise` is the generator that dropout and Bayesian weights draw from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_RELATIONS = 6
UNRELATED, PARENT, CHILD, ANCESTOR, DESCENDANT, FACTS = range(NUM_RELATIONS)
_LEFT_OUT = -1e9  # as an attention score; minus infinity gives NaN where a graph has no node at all


class Inputs(NamedTuple):
    """What the network sees of `n` architectures, or of `members x n`, each member's own.

    Attributes:
        statistics: `n x features`, of layers; zero columns where none are known.
        facts: `n x columns`, what else is known.
        labels: `n x V`, operation of every node, -1 where there is none; V is 0 without graphs.
        relations: `n x V x V`, what the second node is to the first.
    """

    statistics: Tensor
    facts: Tensor
    labels: Tensor
    relations: Tensor

    def at(self, index: Tensor | slice) -> Inputs:
        """Those of these architectures; an index of `members x batch` gives each member its own."""
        return Inputs(*(part[index] for part in self))

    def for_all(self, members: int) -> Inputs:
        """The same for all members, `members x n`."""
        return Inputs(*(part.expand(members, *part.shape) for part in self))


@dataclass(frozen=True)
class Sizes:
    """Shape of the network.

    Attributes:
        members: networks of the ensemble.
        statistics, facts, nodes, labels: of the inputs; 0 where there are none.
        segments, segment_width: the statistics are first brought to `segments x segment_width`.
        mixer_width, mixer_depth, mixes_segments: of the mixer; if asked, its first half-blocks run over segments.
        mixer_gain: at the start, how much of the mixer's embedding reaches the nodes of a graph.
        width, depth, heads, head_width, inner: of the transformer.
        dropout, statistics_dropout: share of units, and of statistics, that are left out in training.
    """

    members: int
    statistics: int
    facts: int
    nodes: int
    labels: int
    segments: int
    segment_width: int
    mixer_width: int
    mixer_depth: int
    mixes_segments: bool
    mixer_gain: float
    width: int
    depth: int
    heads: int
    head_width: int
    inner: int
    dropout: float
    statistics_dropout: float


class Linear(nn.Module):
    """x: `members x ... x inputs` -> `members x ... x outputs`."""

    def __init__(self, members: int, inputs: int, outputs: int, rng: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(max(1, inputs))
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound, generator=rng))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound, generator=rng))

    def scale(self, gain: float) -> None:
        """Makes what comes out that much larger."""
        with torch.no_grad():
            self.weight.mul_(gain)
            self.bias.mul_(gain)

    def forward(self, x: Tensor) -> Tensor:
        return _product(x, self.weight, self.bias)


class BayesianLinear(nn.Module):
    """`Linear` with weights drawn anew at every call: mean + softplus(rho) * standard normal; mean and rho are learned.

    No Kullback-Leibler term pulls them to a prior, as in the release of ParZC, so it is weight noise of learned size.
    """

    def __init__(self, members: int, inputs: int, outputs: int, rng: torch.Generator) -> None:
        super().__init__()
        self.mean = Linear(members, inputs, outputs, rng)
        self.rho_weight = nn.Parameter(torch.full((members, inputs, outputs), -5.0))
        self.rho_bias = nn.Parameter(torch.full((members, 1, outputs), -5.0))

    def forward(self, x: Tensor, noise: torch.Generator) -> Tensor:
        weight = _drawn(self.mean.weight, self.rho_weight, noise)
        return _product(x, weight, _drawn(self.mean.bias, self.rho_bias, noise))


class LayerNorm(nn.Module):
    """x: `members x ... x width`, same shape; every member has its own scale and shift."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(members, 1, width))
        self.shift = nn.Parameter(torch.zeros(members, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        rows = F.layer_norm(x, x.shape[-1:]).flatten(1, -2)
        return (rows * self.scale + self.shift).view_as(x)


class Dropout(nn.Module):
    """Dropout that draws from a given generator."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, noise: torch.Generator) -> Tensor:
        if not self.training or self.share == 0:
            return x
        kept = torch.rand(x.shape, generator=noise, device=x.device) >= self.share
        return x * kept / (1 - self.share)


class Residual(nn.Module):
    """x + MLP(norm(x)), over the last axis, or over the one before it; x: `members x ... x tokens x width`."""

    def __init__(
        self, sizes: Sizes, width: int, inner: int, rng: torch.Generator, *, tokens: int | None = None
    ) -> None:
        super().__init__()
        self.norm = LayerNorm(sizes.members, width)
        mixed = width if tokens is None else tokens
        self.expand = Linear(sizes.members, mixed, inner, rng)
        self.contract = Linear(sizes.members, inner, mixed, rng)
        self.dropout = Dropout(sizes.dropout)
        self.over_tokens = tokens is not None

    def forward(self, x: Tensor, noise: torch.Generator) -> Tensor:
        y = self.norm(x)
        y = y.transpose(-1, -2) if self.over_tokens else y
        y = self.contract(self.dropout(F.gelu(self.expand(y)), noise))
        more: Tensor = self.dropout(y.transpose(-1, -2) if self.over_tokens else y, noise)
        return x + more


class Mixer(nn.Module):
    """MABN of ParZC: statistics, `members x n x features` -> embedding, `members x n x mixer_width`."""

    def __init__(self, sizes: Sizes, rng: torch.Generator) -> None:
        super().__init__()
        members, width = sizes.members, sizes.mixer_width
        self.shape = (sizes.segments, sizes.segment_width)
        self.dropout = Dropout(sizes.statistics_dropout)
        self.cut = Linear(members, sizes.statistics, sizes.segments * sizes.segment_width, rng)
        self.embed = BayesianLinear(members, sizes.segment_width, width, rng)
        tokens, first = (sizes.segments, 4 * sizes.segments) if sizes.mixes_segments else (None, 4 * width)
        second = 4 * width if sizes.mixes_segments else width // 2
        self.blocks = nn.ModuleList()
        for _ in range(sizes.mixer_depth):
            self.blocks.append(Residual(sizes, width, first, rng, tokens=tokens))
            self.blocks.append(Residual(sizes, width, second, rng))
        self.norm = LayerNorm(members, width)

    def forward(self, statistics: Tensor, noise: torch.Generator) -> Tensor:
        x = self.cut(self.dropout(statistics, noise)).unflatten(
            -1, self.shape
        )  # members x n x segments x segment_width
        x = self.embed(x, noise)
        for block in self.blocks:
            x = block(x, noise)
        embedding: Tensor = self.norm(x).mean(dim=-2)  # members x n x width
        return embedding


class Attention(nn.Module):
    """x + attention between the nodes of a graph, x: `members x n x V x width`.

    What two nodes are to each other adds a learned number to their score, one per head (Ying et al., 2021, Do
    Transformers Really Perform Bad for Graph Representation?, NeurIPS, arXiv 2106.05234).
    """

    def __init__(self, sizes: Sizes, rng: torch.Generator) -> None:
        super().__init__()
        self.heads, inner = sizes.heads, sizes.heads * sizes.head_width
        self.norm = LayerNorm(sizes.members, sizes.width)
        self.query_key_value = Linear(sizes.members, sizes.width, 3 * inner, rng)
        self.out = Linear(sizes.members, inner, sizes.width, rng)
        self.relation = nn.Parameter(torch.zeros(sizes.members, NUM_RELATIONS, sizes.heads))
        self.dropout = Dropout(sizes.dropout)

    def forward(self, x: Tensor, relations: Tensor, there: Tensor, noise: torch.Generator) -> Tensor:
        parts = self.query_key_value(self.norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(3, 0, 1, 4, 2, 5)  # members x n x heads x V x head_width
        bias = _rows(self.relation, relations).permute(0, 1, 4, 2, 3)  # members x n x heads x V x V
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + bias
        scores = scores.masked_fill(~there[:, :, None, None, :], _LEFT_OUT)
        mixed = (scores.softmax(dim=-1) @ value).transpose(2, 3).flatten(-2)  # members x n x V x inner
        more: Tensor = self.dropout(self.out(mixed), noise)
        return x + more


class GraphTransformer(nn.Module):
    """Nodes of graphs, with more tokens beside them, to one embedding: the mean over nodes and tokens."""

    def __init__(self, sizes: Sizes, rng: torch.Generator) -> None:
        super().__init__()
        shape = (sizes.members, sizes.labels, sizes.width)
        self.label = nn.Parameter(0.3 * torch.randn(shape, generator=rng))
        self.place = nn.Parameter(0.3 * torch.randn(sizes.members, sizes.nodes, sizes.width, generator=rng))
        self.attention = nn.ModuleList(Attention(sizes, rng) for _ in range(sizes.depth))
        self.mlp = nn.ModuleList(Residual(sizes, sizes.width, sizes.inner, rng) for _ in range(sizes.depth))
        self.norm = LayerNorm(sizes.members, sizes.width)

    def forward(self, inputs: Inputs, added: Tensor | None, tokens: Sequence[Tensor], noise: torch.Generator) -> Tensor:
        """Embedding of every graph, `members x n x width`.

        inputs: labels `members x n x V`. added: `members x n x width`, to every node. tokens: of the same shape, nodes
        that are related to all.
        """
        there = inputs.labels >= 0
        x = _rows(self.label, inputs.labels.clamp(min=0)) + self.place[:, None]
        x = x if added is None else x + added.unsqueeze(2)
        x = torch.cat([x, *(token.unsqueeze(2) for token in tokens)], dim=2)
        more = len(tokens)
        there = F.pad(there, (0, more), value=True)
        relations = F.pad(inputs.relations, (0, more, 0, more), value=FACTS)
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            x = mlp(attention(x, relations, there, noise), noise)
        share = there / there.sum(dim=-1, keepdim=True).clamp(min=1)
        normal: Tensor = self.norm(x)
        return (normal * share.unsqueeze(-1)).sum(dim=2)


class Network(nn.Module):
    """Statistics of layers, graph and facts of architectures -> a number each, by every member.

    With statistics and graphs, the mixer's embedding is added to that of every node.
    """

    def __init__(self, sizes: Sizes, rng: torch.Generator) -> None:
        super().__init__()
        members, width = sizes.members, sizes.width
        self.mixer = Mixer(sizes, rng) if sizes.statistics else None
        self.mixed = Linear(members, sizes.mixer_width, width, rng) if sizes.statistics else None
        if self.mixed is not None and sizes.nodes:
            self.mixed.scale(sizes.mixer_gain)
        self.facts = Linear(members, sizes.facts, width, rng) if sizes.facts else None
        self.facts_mlp = Residual(sizes, width, 2 * width, rng) if sizes.facts else None
        self.graph = GraphTransformer(sizes, rng) if sizes.nodes else None
        self.norm = LayerNorm(members, width) if self.graph is None else None  # a transformer ends in one
        self.hidden = Linear(members, width, max(1, width // 2), rng)
        self.dropout = Dropout(sizes.dropout)
        self.head = BayesianLinear(members, max(1, width // 2), 1, rng)

    def forward(self, inputs: Inputs, noise: torch.Generator) -> Tensor:
        """inputs: `members x n`; gives `members x n`, larger better, in no unit."""
        added, tokens = None, []
        if self.mixer is not None and self.mixed is not None:
            added = self.mixed(self.mixer(inputs.statistics, noise))
        if self.facts is not None and self.facts_mlp is not None:
            tokens.append(self.facts_mlp(self.facts(inputs.facts), noise))
        if self.graph is not None:
            x = self.graph(inputs, added, tokens, noise)
        else:
            x = sum(tokens, start=torch.zeros(()) if added is None else added)
        x = x if self.norm is None else self.norm(x)
        x = self.dropout(F.gelu(self.hidden(x)), noise)
        outputs: Tensor = self.head(x, noise)
        return outputs.squeeze(-1)


def relations(adjacency: Tensor) -> Tensor:
    """What the second node is to the first, `n x V x V`, a number below `NUM_RELATIONS`; a node is unrelated to itself.

    adjacency: `n x V x V`, True where the first node feeds the second.
    """
    reaches = adjacency.clone()
    for _ in range(int(math.log2(max(1, adjacency.shape[-1]))) + 1):  # lengths of ways double each time
        reaches = reaches | (reaches.float() @ reaches.float() > 0)
    found = torch.full(adjacency.shape, UNRELATED)
    for related, code in ((reaches, DESCENDANT), (adjacency, CHILD)):
        found[related] = code
    for related, code in ((reaches, ANCESTOR), (adjacency, PARENT)):
        found[related.transpose(1, 2)] = code
    return found


def _product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.baddbmm(bias, x.flatten(1, -2), weight).view(*x.shape[:-1], weight.shape[-1])


def _drawn(mean: Tensor, rho: Tensor, noise: torch.Generator) -> Tensor:
    return mean + F.softplus(rho) * torch.randn(mean.shape, generator=noise, device=mean.device)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """table: `members x rows x width`, index: `members x ...`; gives `members x ... x width`."""
    offset = torch.arange(len(table), device=index.device).view(-1, *[1] * (index.dim() - 1)) * table.shape[1]
    return F.embedding(index + offset, table.flatten(0, 1))
