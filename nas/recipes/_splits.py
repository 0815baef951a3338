"""What recipes that split the supernet have in common: when, and how it is trained between."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from nas.recipes import REGISTRY
from nas.spec import PluginRef, Ref
from searchspaces import Config, ConfigError, UnknownPlugin

if TYPE_CHECKING:
    from nas.training import Recipe, Setting, SplitRule

Share = Annotated[float, Field(gt=0, lt=1)]


class SplitConfig(Config):
    """Settings of every recipe that splits."""

    at: tuple[Share, ...] = Field(
        (0.5,), max_length=8, description="Shares of the training after which every part is split; none: never."
    )
    base: Ref = Field(
        PluginRef(name="spos"),
        description="The recipe, with its settings, that trains the parts: any that does not split.",
    )
    restart: bool = Field(
        False, description="The learning rate falls to zero up to the last split and again after it, in place of once."
    )

    @field_validator("base")
    @classmethod
    def _is_a_recipe(cls, base: PluginRef) -> PluginRef:
        try:
            plugin = REGISTRY[base.name]
            settings = plugin.configure(base.config)
        except (UnknownPlugin, ConfigError) as error:
            raise ValueError(str(error)) from error
        if isinstance(settings, SplitConfig):
            raise ValueError(f"a recipe that does not split; {base.name} does")
        return base


def split_recipe(config: SplitConfig, setting: Setting, rule: SplitRule) -> Recipe:
    """The base recipe, with a supernet that is split by `rule`."""
    from nas.training import Splitting

    base = REGISTRY[config.base.name](config.base.config, setting)
    return replace(base, structure=Splitting(setting, rule, at=config.at, restart=config.restart))
