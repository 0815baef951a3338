"""The score of an untrained network: a search that trains nothing until its front is audited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from nas.evaluators._evaluator import EvaluationContext, Evaluator, Outcome, Request
from nas.resources import Fidelity, Measurement
from nas.spec import PluginRef, Ref
from predictors.zerocost import REGISTRY, Vote
from searchspaces import Config, ConfigError, NASError, Plugin, UnknownPlugin

if TYPE_CHECKING:
    from nas.workbench import Workbench
    from predictors.zerocost import Proxy, ProxyContext


class ProxyConfig(Config):
    """Settings of `proxy`."""

    proxy: Ref = Field(PluginRef(name="gradsign"), description="The proxy, with its settings, that gives the score.")
    images: int = Field(64, ge=2, le=8192, description="Training images of its batch.")
    reduced: bool = Field(False, description="Score smaller networks of the same cells or layers, which is cheaper.")

    @field_validator("proxy")
    @classmethod
    def _is_a_proxy(cls, proxy: PluginRef) -> PluginRef:
        try:
            made = REGISTRY[proxy.name](proxy.config)
        except (UnknownPlugin, ConfigError) as error:
            raise ValueError(str(error)) from error
        if isinstance(made, Vote):
            raise ValueError(f"a proxy of single networks; {proxy.name} ranks several")
        return proxy


class ProxyEvaluator(Evaluator):
    """One score for each architecture, higher better; weights and images are those of the seed, the same for all."""

    def __init__(self, config: ProxyConfig, bench: Workbench) -> None:
        self._config, self._bench = config, bench
        self._made: tuple[int, ProxyContext] | None = None

    def evaluate(self, requests: Sequence[Request], context: EvaluationContext) -> Iterator[Outcome]:
        from predictors.zerocost import score_architecture

        space, name = self._bench.space, self._config.proxy.name
        scored = space.reduced() if self._config.reduced else space
        for number, request in enumerate(requests, 1):
            if context.should_stop():
                return
            try:
                found = score_architecture(
                    scored, space.check(request.architecture), {name: self._proxy}, self._context(context.seed)
                )[name]
            except (NASError, RuntimeError, ValueError) as error:
                yield Outcome(request.evaluation_id, error=f"{type(error).__name__}: {error}")
            else:
                if found.value is None:
                    yield Outcome(request.evaluation_id, error=f"{name}: {found.error}", seconds=found.seconds)
                else:
                    yield Outcome(request.evaluation_id, (self._measurement(found.value),), seconds=found.seconds)
            context.progress(number / len(requests))

    @cached_property
    def _proxy(self) -> Proxy:
        return REGISTRY[self._config.proxy.name](self._config.proxy.config)

    def _context(self, seed: int) -> ProxyContext:
        from nas.scoring import proxy_context

        if self._made is None or self._made[0] != seed:
            bench, images = self._bench, self._config.images
            made = proxy_context(
                bench.dataset,
                bench.task,
                images=images,
                seed=seed,
                device=bench.device,
                low_precision=bench.precision == "bf16",
            )
            self._made = (seed, made)
        return self._made[1]

    def _measurement(self, value: float) -> Measurement:
        from nas.training import code_version, device_name, dtype_name

        bench, config = self._bench, self._config
        context: dict[str, str | int | float | bool] = {
            "proxy": str(config.proxy),
            "images": config.images,
            "reduced": config.reduced,
            "split": "train",
            "dataset": bench.dataset.digest[:16],
            "dtype": dtype_name(bench.dtype),
            "device": device_name(bench.device),
            "code": code_version(),
        }
        return Measurement(metric="score", value=value, fidelity=Fidelity(level="proxy"), context=context)


PLUGIN = Plugin(
    name="proxy",
    description="Score of an untrained network by a zero-cost proxy; nothing is trained",
    source="Abdelfattah et al. (2021), Zero-Cost Proxies for Lightweight NAS, arXiv 2101.08134",
    create=ProxyEvaluator,
    Config=ProxyConfig,
    flags={
        "level": "proxy",
        "metrics": ("score",),
        "needs_supernet": False,
        "stateful": False,
        "batched": False,
        "resumable": False,
    },
)
