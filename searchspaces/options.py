"""A space by its decisions alone: for networks that somebody else builds and measures.

Your own model on your own device (evaluator `external`), or your own measurements (evaluator `table`): the decisions
and options are all that a searcher needs. A decision may exist only under options of an earlier one:

decisions:
  depth: [1, 2]
  width_1: [32, 64]
  width_2: {options: [32, 64], when: {depth: [2]}}

Or the columns of your table say it: `file: mine.parquet`, see `searchspaces/tables/file.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import BeforeValidator, Field, model_validator

from searchspaces._architecture import Architecture
from searchspaces._errors import InvalidArchitecture
from searchspaces._images import InputConfig
from searchspaces._registry import LOCAL_PATH, Config, Plugin
from searchspaces._space import Decision, Extremes, SearchSpace

if TYPE_CHECKING:
    import networkx

_EXAMPLE = {"depth": ["1", "2", "3"], "width": ["16", "32", "64"]}
_OPTION = r"^[^=,\x00-\x1f\x7f]+$"
_LONGEST = 200
OPTION_RULE = f"a text of 1 to {_LONGEST} printed characters without = and ,"


def _text(value: object) -> object:
    if value is None or isinstance(value, bool):
        raise ValueError("a text: in quotes, since YAML reads true, yes, no and null as something else")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Option = Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=_LONGEST, pattern=_OPTION)]


def is_option(text: str) -> bool:
    """Whether a decision or an option may be written so."""
    return len(text) <= _LONGEST and re.match(_OPTION, text) is not None


class Choices(Config):
    """The options of one decision, and when there is one at all."""

    options: tuple[Option, ...] = Field(min_length=1, max_length=10_000, description="The values it may take.")
    ordered: bool = Field(False, description="Whether the options go from small to large.")
    when: dict[str, tuple[Option, ...]] = Field(
        default_factory=dict, max_length=1, description="An earlier decision, and its options under which this exists."
    )


def _choices(value: object) -> object:
    return {"options": value} if isinstance(value, list | tuple) else value


class OptionsConfig(InputConfig):
    """Settings of `options`."""

    file: str | None = Field(
        None,
        max_length=4096,
        json_schema_extra=LOCAL_PATH,
        description="A table whose columns `decision.NAME` give the decisions instead.",
    )
    decisions: dict[Option, Annotated[Choices, BeforeValidator(_choices)]] = Field(
        default_factory=lambda: {name: Choices(options=tuple(options)) for name, options in _EXAMPLE.items()},
        min_length=1,
        max_length=1_000,
        description="Decision: its options, or {options, ordered, when}.",
    )

    @model_validator(mode="after")
    def _is_a_space(self) -> OptionsConfig:
        earlier: dict[str, Choices] = {}
        for name, choices in self.decisions.items():
            if len(set(choices.options)) < len(choices.options):
                raise ValueError(f"every option of {name} once")
            for parent, needed in choices.when.items():
                if parent not in earlier or not set(needed) <= set(earlier[parent].options):
                    raise ValueError(f"{name}.when as an earlier decision and some of its options")
            earlier[name] = choices
        return self


class OptionsSpace(SearchSpace):
    """What the decisions span. Its architectures have no networks and no costs on paper here."""

    has_networks = has_counts = False

    def __init__(self, config: OptionsConfig) -> None:
        decisions = [_decision(name, choices) for name, choices in config.decisions.items()]
        if config.file is not None:
            from searchspaces.tables import decisions_of

            decisions = decisions_of(config.file)
        super().__init__("options", config, decisions)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return cast(OptionsConfig, self.config).input_shape or ()

    def text(self, options: Mapping[str, str]) -> str:
        return ",".join(f"{d.name}={options[d.name]}" for d in self.decisions if d.name in options)

    def read(self, text: str) -> dict[str, str]:
        pairs = [part.partition("=") for part in text.split(",")]
        found = {name: option for name, _, option in pairs}
        if not all(equals for _, equals, _ in pairs) or self.text(found) != text:
            names = ", ".join(decision.name for decision in self.decisions)
            raise InvalidArchitecture(f"{text!r} is not decision=option,decision=option in the order {names}.")
        return found

    def canonical(self, architecture: Architecture) -> Architecture:
        return architecture

    def live(self, architecture: Architecture) -> Architecture:
        return architecture

    def graph(self, architecture: Architecture) -> networkx.MultiDiGraph:
        """A chain with an edge for every decision, into a node of its name."""
        import networkx

        graph = networkx.MultiDiGraph()
        for place, name in enumerate(("start", *(name for name, _ in architecture.options))):
            graph.add_node(str(place), label=name, layer=place)
        for place, (name, option) in enumerate(architecture.options):
            graph.add_edge(str(place), str(place + 1), option=option, live=True, decision=name)
        return graph

    def extremes(self) -> Extremes:
        """The first and the last option of every decision."""
        return Extremes(self._with_option(0), self._with_option(-1))


def _decision(name: str, choices: Choices) -> Decision:
    parent = next(iter(choices.when.items()), None)
    return Decision(
        name,
        choices.options,
        (True,) * len(choices.options),
        "ordinal" if choices.ordered else "op",
        parent and (parent[0], frozenset(parent[1])),
    )


PLUGIN = Plugin(
    name="options",
    description="Decisions and options as you name them, for networks that you build and measure yourself.",
    source="Negrinho and Gordon (2017), DeepArchitect, arXiv 1704.08792 (spaces as decisions)",
    create=OptionsSpace,
    Config=OptionsConfig,
    flags={"networks": False, "counts": False},
)
