"""What searchers that hold another one have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field

from nas.resources import Objective
from nas.scoring import Scores
from nas.searchers import REGISTRY, make_searcher
from nas.searchers._outlook import Outlook, OutlookConfig
from nas.searchers._searcher import Searcher
from nas.spec import PluginRef, Ref
from searchspaces import ConfigError, SearchSpace, UnknownPlugin


def _checked(searcher: PluginRef) -> PluginRef:
    try:
        REGISTRY[searcher.name].configure(searcher.config)
    except (UnknownPlugin, ConfigError) as error:
        raise ValueError(str(error)) from error
    return searcher


SearcherRef = Annotated[Ref, AfterValidator(_checked)]
"""A searcher with its settings, which are checked."""


class WrappingConfig(OutlookConfig):
    """Settings of every searcher that holds another one."""

    searcher: SearcherRef = Field(
        PluginRef(name="regularized_evolution"), description="The searcher, with its settings, that is held."
    )


class Wrapper(Searcher):
    """Holds another searcher, and an outlook on what it proposes."""

    def __init__(
        self, config: WrappingConfig, space: SearchSpace, objectives: Sequence[Objective], scores: Scores | None
    ) -> None:
        super().__init__(space, objectives)
        self.outlook = Outlook(config, space, objectives, scores)
        self.inner = make_searcher(config.searcher, space, objectives, scores)
