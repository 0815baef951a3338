"""Any sampler of Optuna, by the name of its class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from nas.resources import Objective
from nas.searchers._optuna import OptunaSearcher, experimental
from nas.searchers._warm_up import WARM_UP, WarmUp
from searchspaces import Config, ConfigError, Plugin, SearchSpace, Violation, one_of

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

_WARM_UPS = frozenset({"n_startup_trials", "population_size"})
_OURS = ("seed", "constraints_func")  # arguments that the job decides


class OptunaConfig(Config):
    """Settings of `optuna`: {sampler: GPSampler, kwargs: {n_startup_trials: 20}}."""

    sampler: str = Field(
        "TPESampler",
        pattern=r"^[A-Z]\w*Sampler$",
        examples=["GPSampler"],
        max_length=100,
        description="Name of a class in optuna.samplers, such as GPSampler, NSGAIIISampler, TPESampler.",
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Arguments of that class; seed and constraints come from the job."
    )

    def warm_ups(self) -> Iterator[WarmUp]:
        """The arguments of the sampler that say how long its beginning is."""
        from optuna import samplers

        known = signature(getattr(samplers, self.sampler)).parameters
        for name in _WARM_UPS & known.keys():
            size, share = self.kwargs.get(name, known[name].default), WARM_UP["warm_up"]
            if isinstance(size, int) and isinstance(share, float):
                yield WarmUp(f"kwargs.{name}", size, share, name in self.kwargs)

    @model_validator(mode="after")
    def _can_be_made(self) -> OptunaConfig:
        ours = sorted(set(_OURS) & set(self.kwargs))
        if ours:
            raise ValueError(f"no {' or '.join(ours)} in kwargs, the job gives them")
        _make(self, seed=0)
        return self


def create(config: OptunaConfig, space: SearchSpace, objectives: Sequence[Objective]) -> OptunaSearcher:
    """The searcher on this space.

    Raises:
        ConfigError: the sampler needs a library that is not installed, or cannot handle these objectives.
    """
    _check_asks(config, space, objectives)
    return OptunaSearcher(lambda seed: _make(config, seed), space, objectives)


def _make(config: OptunaConfig, seed: int) -> BaseSampler:
    from optuna import samplers

    found = getattr(samplers, config.sampler, None)
    if not isinstance(found, type) or not issubclass(found, samplers.BaseSampler):
        names = [name for name in samplers.__all__ if name.endswith("Sampler") and name != "BaseSampler"]
        raise ValueError(f"sampler as {one_of(config.sampler, names)}")
    with experimental():
        try:
            sampler: BaseSampler = found(**{"seed": seed, **config.kwargs})
        except TypeError as error:
            raise ValueError(f"kwargs that {config.sampler} accepts ({error})") from error
    return sampler


def _check_asks(config: OptunaConfig, space: SearchSpace, objectives: Sequence[Objective]) -> None:
    """Draw once from an empty study: some samplers refuse several objectives, or miss a library, only then."""
    from nas.history import History
    from nas.streams import stream

    searcher = OptunaSearcher(lambda seed: _make(config, seed), space, objectives)
    try:
        searcher.ask(History(objectives), 1, stream(0, "probe"))
    except (ImportError, ValueError) as error:
        allowed = f"a sampler that works for {len(objectives)} objective(s) ({error})"
        raise ConfigError([Violation("sampler", config.sampler, allowed)]) from error


PLUGIN = Plugin(
    name="optuna",
    description="Any sampler of Optuna by the name of its class, with its arguments",
    source="Akiba, Sano, Yanase, Ohta and Koyama (2019), Optuna, arXiv 1907.10902",
    create=create,
    Config=OptunaConfig,
    flags={"multi_objective": True, "replicates": False},
)
