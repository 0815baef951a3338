"""ParZC: a small network that learns to weigh statistics of layers, alone or inside a graph transformer.

Dong et al. (2025), ParZC: Parametric Zero-Cost Proxies for Efficient NAS, AAAI, arXiv 2402.02105. Written from the
paper's description, not from its code (GPL). Zero-cost statistics of every layer go through a mixer over segments
whose ends are Bayesian linear layers (MABN); its embedding is added to every node of a graph transformer; the loss is a
differentiable Kendall tau (see `predictors.ranking_loss`). Without graphs, or with `stand_alone`, the mixer is alone.

`published` is the setting of the paper's NAS-Bench-201 figures: width 512 and the transformer that was found for it,
300 epochs in batches of 10. What the defaults do otherwise, because it ranks better from few labels:

- Statistics keep their absolute size, as logarithms, and their place: the same edge of the cell is the same column. The
  paper scales them from 0 to 1 within an architecture and packs them to the front.
- The mixer mixes segments and starts silent, its embedding grows as it proves to be of use, and half of the statistics
  are left out in every step. Without both, statistics of small networks cost .02 of tau at 78 labels and .03 at 20
  instead of gaining .02 and .01 (NAS-Bench-201, four seeds, 1,000 others, beside five scores).
- What else is known (scores, counts of operations, what lies on paths) is one more token of the transformer.
- The loss counts the sign of a pair, not its gap. Targets are normal scores.
- Several narrow networks are trained at once and averaged, with several draws of their Bayesian weights.

Deviation in both: what nodes are to each other (before, after, neither) adds a learned number to their attention; the
trunk of the paper has an encoding of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from predictors.encoding import Encoded, Encoder
from predictors.surrogates._predictor import Floats, Prediction, Predictor, PredictorConfig, Told
from searchspaces import CheckpointError, Plugin, Rng

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from predictors.surrogates._mixer import Inputs, Network, Sizes
    from predictors.surrogates._mixer_inputs import MixerInputs

PUBLISHED: Mapping[str, object] = {
    "target": "standardised",
    "statistics": ("grad_norm", "snip", "synflow"),
    "scaling": "min_max",
    "facts": False,
    "segment_mixing": False,
    "mixer_gain": 1.0,
    "mixer_width": 512,
    "mixer_depth": 4,
    "width": 765,
    "depth": 4,
    "heads": 6,
    "head_width": 100,
    "inner": 338,
    "members": 1,
    "pairs": "soft",
    "alpha": 0.5,
    "epochs": 300,
    "batch_size": 10,
    "learning_rate": 1e-4,
    "weight_decay": 1e-3,
    "dropout": 0.1,
    "statistics_dropout": 0.0,
}
_FORMAT = "parzc 1"
_CHUNK = 1_000  # architectures of one pass: bounds the memory of a prediction


class ParZCConfig(PredictorConfig):
    """Settings of `parzc`."""

    published: bool = Field(False, strict=True, description="As in the paper; settings that say otherwise are refused.")
    stand_alone: bool = Field(False, description="The mixer alone, without the graph transformer.")
    statistics: tuple[str, ...] = Field((), description="Which statistics of layers are read; none named means all.")
    scaling: Literal["log", "min_max"] = Field(
        "log",
        description="Statistics as logarithms, every place of the network in its own column, or from 0 to 1 over the "
        "layers of each architecture, packed.",
    )
    facts: bool = Field(True, description="Read scores and blocks as well.")
    blocks: tuple[str, ...] = Field(
        ("counts",), description="Which blocks are read beside graphs, which tell the others; without graphs all are."
    )
    segments: int = Field(16, ge=1, le=1024, description="Segments that the statistics are cut into.")
    segment_width: int = Field(16, ge=1, le=1024, description="Numbers of a segment.")
    segment_mixing: bool = Field(True, description="Every other half-block mixes segments; in the release none does.")
    mixer_gain: float = Field(
        0.0,
        ge=0,
        le=10,
        description="How much of the mixer's embedding is added to the nodes of a graph at the start of training.",
    )
    mixer_width: int = Field(32, ge=1, le=4096, description="Units of a segment inside the mixer.")
    mixer_depth: int = Field(1, ge=1, le=64, description="Blocks of the mixer.")
    width: int = Field(32, ge=2, le=4096, description="Units of a node in the graph transformer.")
    depth: int = Field(2, ge=1, le=64, description="Layers of the graph transformer.")
    heads: int = Field(4, ge=1, le=64, description="Attention heads of a layer.")
    head_width: int = Field(8, ge=1, le=1024, description="Units of a head.")
    inner: int = Field(64, ge=1, le=16384, description="Hidden units of a layer's MLP.")
    members: int = Field(4, ge=1, le=64, description="Networks that are trained and averaged.")
    draws: int = Field(4, ge=1, le=1000, description="Draws of the Bayesian weights that a prediction averages.")
    pairs: Literal["sign", "soft"] = Field(
        "sign", description="What the loss takes of a pair of targets: who is better, or softly by how much."
    )
    alpha: float = Field(2.0, gt=0, le=1e3, description="Steepness of the loss: how far apart two outputs must be.")
    epochs: int = Field(100, ge=1, le=100_000, description="Passes over the examples.")
    batch_size: int = Field(32, ge=2, le=100_000, description="Examples of a step, about.")
    learning_rate: float = Field(3e-3, gt=0, le=1, description="Of Adam at the start; it falls to 0 as a cosine.")
    weight_decay: float = Field(1e-3, ge=0, le=1, description="Of Adam.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of units left out in training.")
    statistics_dropout: float = Field(0.5, ge=0, lt=1, description="Share of statistics left out in training.")

    @model_validator(mode="before")
    @classmethod
    def _fill_published(cls, given: object) -> object:
        if isinstance(given, Mapping) and given.get("published") is True:
            return {**PUBLISHED, **given}
        return given

    @model_validator(mode="after")
    def _agrees_with_published(self) -> Self:
        other = [name for name, value in PUBLISHED.items() if getattr(self, name) != value]
        if self.published and other:
            raise ValueError(f"`published: false`, or no other {', '.join(other)} than the published")
        return self


class ParZC(Predictor):
    """Networks over layers, graph and facts; mean and spread over members and draws of Bayesian weights."""

    def __init__(self, config: ParZCConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self._settings = config
        self._inputs: MixerInputs | None = None
        self._network: Network | None = None
        self._seed = 0

    # --- learning ----------------------------------------------------------------------------------------------------

    def _fit(self, known: Encoded, targets: Floats, rng: Rng, progress: Told) -> None:
        import torch

        from predictors.surrogates._mixer import Network
        from predictors.surrogates._mixer_inputs import with_paths

        self._fitted = with_paths(known)
        self._inputs = self._inputs_for(self._fitted)
        inputs, wanted = self._inputs(self._fitted), torch.from_numpy(targets).float()
        noise, self._seed = _generator(rng), int(rng.integers(2**63))
        self._network = Network(self._sizes(inputs), noise)
        with torch.enable_grad():
            self._train(self._network, inputs, wanted, noise, progress)
        self._network.eval().requires_grad_(False)
        outputs = self._outputs(inputs)  # passes x n
        self._center = outputs.mean(dim=1, keepdim=True)
        spread = outputs.std(dim=1, keepdim=True, correction=0)
        # Outputs have no unit. Where all are equal there is nothing to stretch.
        self._stretch = torch.where(spread > 1e-6, targets.std() / spread.clamp(min=1e-6), 0.0)

    def _inputs_for(self, fitted: Encoded) -> MixerInputs:
        from predictors.surrogates._mixer_inputs import MixerInputs

        config = self._settings
        return MixerInputs(
            fitted,
            statistics=config.statistics,
            scaling=config.scaling,
            blocks=config.blocks,
            reads_graphs=not config.stand_alone,
            reads_facts=config.facts,
        )

    def _sizes(self, inputs: Inputs) -> Sizes:
        from predictors.surrogates._mixer import Sizes

        config = self._settings
        return Sizes(
            members=config.members,
            statistics=inputs.statistics.shape[1],
            facts=inputs.facts.shape[1],
            nodes=inputs.labels.shape[1],
            labels=self._inputs.num_labels if self._inputs else 0,
            segments=config.segments,
            segment_width=config.segment_width,
            mixer_width=config.mixer_width,
            mixer_depth=config.mixer_depth,
            mixes_segments=config.segment_mixing,
            mixer_gain=config.mixer_gain,
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            head_width=config.head_width,
            inner=config.inner,
            dropout=config.dropout,
            statistics_dropout=config.statistics_dropout,
        )

    def _train(self, network: Network, inputs: Inputs, wanted: Tensor, noise: torch.Generator, progress: Told) -> None:
        import torch

        from predictors.ranking_loss import diff_kendall

        config, n = self._settings, len(wanted)
        batches = max(1, min(round(n / config.batch_size), n // 2))  # no batch without a pair
        optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=batches * config.epochs)
        network.train()
        for epoch in range(config.epochs):
            order = torch.stack([torch.randperm(n, generator=noise) for _ in range(config.members)])
            for batch in order.tensor_split(batches, dim=1):  # members x batch
                taus = diff_kendall(
                    network(inputs.at(batch), noise), wanted[batch], alpha=config.alpha, pairs=config.pairs
                )
                optimizer.zero_grad()
                (-taus.sum()).backward()  # type: ignore[no-untyped-call]  # a sum: no member sees another's gradient
                optimizer.step()
                cosine.step()
            progress((epoch + 1) / config.epochs)

    # --- predicting --------------------------------------------------------------------------------------------------

    def _predict(self, asked: Encoded) -> Prediction:
        from predictors.surrogates._mixer_inputs import with_paths

        if self._inputs is None:
            raise RuntimeError("nothing was fitted yet; call `fit` first.")
        outputs = (self._outputs(self._inputs(with_paths(asked))) - self._center) * self._stretch
        return Prediction(outputs.mean(dim=0).numpy(), outputs.std(dim=0, correction=0).numpy())

    def _outputs(self, inputs: Inputs) -> Tensor:
        """`(draws members) x n`, in no unit; the draws are the same at every call."""
        import torch

        network, settings, n = self._network, self._settings, len(inputs.labels)
        if network is None:
            raise RuntimeError("nothing was fitted yet; call `fit` first.")
        parts = []
        with torch.no_grad():
            for start in range(0, max(1, n), _CHUNK):
                part = inputs.at(slice(start, start + _CHUNK)).for_all(settings.members)
                noise = torch.Generator().manual_seed(self._seed)
                parts.append(torch.cat([network(part, noise) for _ in range(settings.draws)]))
        return torch.cat(parts, dim=1).double()

    # --- keeping -----------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Writes what was learned to a safetensors file, settings as JSON in its header.

        Raises:
            RuntimeError: nothing was fitted yet.
        """
        from safetensors.torch import save_file

        from predictors.surrogates._mixer_inputs import as_tensors

        if self._network is None:
            raise RuntimeError("nothing was fitted yet; call `fit` first.")
        fitted, plain = as_tensors(self._fitted)
        tensors = {f"network.{name}": tensor for name, tensor in self._network.state_dict().items()}
        tensors |= {f"fitted.{name}": tensor for name, tensor in fitted.items()}
        tensors |= {"center": self._center, "stretch": self._stretch}
        settings = self._settings.model_dump(mode="json")
        about = {"settings": json.dumps(settings), "fitted": json.dumps(plain), "seed": str(self._seed)}
        save_file(tensors, path, metadata={"format": _FORMAT, **about})

    @classmethod
    def load(cls, path: Path, encoder: Encoder) -> Self:
        """What `save` wrote; it predicts the same, bit for bit.

        Args:
            encoder: must give what the one that it was fitted with gave.

        Raises:
            CheckpointError: the file is cut short, or is something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); save the predictor again.") from error
        if about.get("format") != _FORMAT:
            raise CheckpointError(f"{path} is {about.get('format', 'no predictor')}, expected {_FORMAT}.")
        loaded = cls(ParZCConfig.model_validate_json(about["settings"]), encoder)
        loaded._restore(tensors, json.loads(about["fitted"]), int(about["seed"]))
        return loaded

    def _restore(self, tensors: Mapping[str, Tensor], plain: Mapping[str, object], seed: int) -> None:
        from predictors.surrogates._mixer import Network
        from predictors.surrogates._mixer_inputs import from_tensors

        self._fitted = from_tensors(_under("fitted.", tensors), plain)
        self._inputs = self._inputs_for(self._fitted)
        self._network = Network(self._sizes(self._inputs(self._fitted)), _generator(np.random.default_rng(seed)))
        self._network.load_state_dict(_under("network.", tensors))
        self._network.eval().requires_grad_(False)
        self._center, self._stretch, self._seed = tensors["center"], tensors["stretch"], seed
        self.is_fitted = True


def _generator(rng: Rng) -> torch.Generator:
    import torch

    return torch.Generator().manual_seed(int(rng.integers(2**63)))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


PLUGIN = Plugin(
    name="parzc",
    description="Mixer over statistics of layers inside a graph transformer, trained by a differentiable Kendall tau",
    source="Dong et al. (2025), ParZC: Parametric Zero-Cost Proxies for Efficient NAS, AAAI, arXiv 2402.02105",
    create=ParZC,
    Config=ParZCConfig,
    flags={
        "uses": ("blocks", "scores", "graphs", "layers"),
        "min_labels": ParZC.min_labels,
        "exact": False,
        "quick": ("epochs=40", "members=2", "draws=2", "segments=4", "segment_width=8", "mixer_width=8", "depth=1"),
    },
)
