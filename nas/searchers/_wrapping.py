"""What searchers that hold another one have in common."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, field_validator

from nas.resources import Objective
from nas.scoring import Scores
from nas.searchers import REGISTRY, make_searcher
from nas.searchers._outlook import Outlook, OutlookConfig
from nas.searchers._searcher import Searcher
from nas.spec import PluginRef, Ref
from searchspaces import ConfigError, SearchSpace, UnknownPlugin


class WrappingConfig(OutlookConfig):
    """Settings of every searcher that holds another one."""

    searcher: Ref = Field(
        PluginRef(name="regularized_evolution"), description="The searcher, with its settings, that is held."
    )

    @field_validator("searcher")
    @classmethod
    def _is_a_searcher(cls, searcher: PluginRef) -> PluginRef:
        try:
            REGISTRY[searcher.name].configure(searcher.config)
        except (UnknownPlugin, ConfigError) as error:
            raise ValueError(str(error)) from error
        return searcher


class Wrapper(Searcher):
    """Holds another searcher, and an outlook on what it proposes."""

    def __init__(
        self, config: WrappingConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None
    ) -> None:
        super().__init__(space, objectives)
        self.outlook = Outlook(config, space, objectives, scores)
        self.inner = make_searcher(config.searcher, space, objectives, scores)
