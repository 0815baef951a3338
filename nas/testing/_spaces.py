"""The contract of a search space as plain functions; every one raises `ContractViolation` with the example it found."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nas.testing._networks import check_networks, check_scores, check_supernet
from searchspaces import (
    REGISTRY,
    Architecture,
    ContractViolation,
    InfeasibleSpace,
    InvalidArchitecture,
    MeasurementError,
    NASError,
    Plugin,
    SearchSpace,
)

if TYPE_CHECKING:
    import networkx

ENUMERABLE = 20_000
"""Spaces up to this size are walked whole."""


def check_space(space: SearchSpace, *, seed: int = 0, samples: int = 6) -> None:
    """Checks everything that a space promises on architectures drawn from `seed`.

    Networks are built and run at the space's own input shape and width, so check a small configuration; the time grows
    with `samples`.

    Raises:
        ContractViolation: the first promise that is broken, and for which architecture.
    """
    check_decisions(space)
    drawn = drawn_architectures(space, seed=seed, samples=samples)
    check_texts(space, drawn)
    check_walks(space, drawn, seed=seed)
    check_sameness(space, drawn)
    check_size(space)
    check_reduced(space, drawn)
    check_views(space, drawn)
    if not space.has_networks:
        check_without_networks(space, drawn)
        return
    check_networks(space, drawn, seed=seed)
    check_scores(space, space.extremes().largest)
    check_supernet(space, drawn, seed=seed)


def check_reading(space: SearchSpace, *, seed: int = 0, samples: int = 4) -> None:
    """Checks what all that reads a space relies on: decisions, texts, sameness, drawings, encodings. Builds nothing.

    Raises:
        ContractViolation: the first promise that is broken, and for which architecture.
    """
    check_decisions(space)
    drawn = drawn_architectures(space, seed=seed, samples=samples)
    check_texts(space, drawn)
    check_sameness(space, drawn)
    check_views(space, drawn)


def check_offer(plugin: Plugin[SearchSpace], space: SearchSpace) -> None:
    """What a space's record says fits the space: flags, and settings that a job fills in from its data set.

    Raises:
        ContractViolation: it does not.
    """
    for flag, has in (("networks", space.has_networks), ("counts", space.has_counts)):
        said = bool(plugin.flags.get(flag, True))
        require(said == has, f"the flag {flag} is {has}, as the space's has_{flag}", plugin.flags.get(flag, "not set"))
    fields = {"input_shape", "num_classes"} & plugin.Config.model_fields.keys()
    promise = "Config has input_shape and num_classes, which a job fills in from its data set"
    require(len(fields) == 2 or not space.has_networks, promise, sorted(plugin.Config.model_fields))


def spaces_with(*flags: str) -> list[str]:
    """The registered spaces that have what these flags name (`networks`, `counts`), by name; a plug-in has what it does
    not deny."""
    return [name for name, plugin in REGISTRY.sound().items() if all(plugin.flags.get(flag, True) for flag in flags)]


def drawn_architectures(space: SearchSpace, *, seed: int = 0, samples: int = 6) -> list[Architecture]:
    """The two extremes and architectures drawn from `seed`, every one once."""
    rng = np.random.default_rng(seed)
    return list(dict.fromkeys([*space.extremes(), *(space.sample(rng) for _ in range(samples))]))


def require(holds: bool, promise: str, *examples: object) -> None:
    """Raises unless the promise holds.

    Raises:
        ContractViolation: it does not; the message is the promise and the examples.
    """
    if not holds:
        raise ContractViolation(f"{promise}; got {', '.join(map(str, examples))}.")


def check_decisions(space: SearchSpace) -> None:
    """Names and options are unique, `parametric` goes with the options, conditions name earlier decisions."""
    names = [decision.name for decision in space.decisions]
    require(len(names) > 0 and len(set(names)) == len(names), "decisions have unique names", names)
    for place, decision in enumerate(space.decisions):
        options = decision.options
        require(0 < len(options) == len(set(options)), f"options of {decision.name} are unique", options)
        require(len(decision.parametric) == len(options), f"{decision.name} says of each option if it has weights")
        if decision.active_if is not None:
            require(decision.active_if[0] in names[:place], f"{decision.name} depends on an earlier decision")


def check_texts(space: SearchSpace, drawn: Sequence[Architecture]) -> None:
    """A text is read back as the same architecture; nonsense is refused."""
    for architecture in drawn:
        require(space.validate(architecture) == [], "what is drawn is in the space", architecture)
        again = space.parse(architecture.text)
        require(again == architecture and again.options == architecture.options, "a text reads back", architecture)
        require(space.architecture(dict(architecture.options)) == architecture, "options give it again", architecture)
    for text in ("", "no architecture", drawn[0].text + drawn[0].text):
        try:
            space.parse(text)
        except InvalidArchitecture:
            continue
        raise ContractViolation(f"parse refuses what is no architecture with InvalidArchitecture; got {text!r}.")


def check_walks(space: SearchSpace, drawn: Sequence[Architecture], *, seed: int = 0) -> None:
    """Drawing, mutation, crossover and neighbours stay in the space and depend on the generator alone."""
    first, second = ([space.sample(np.random.default_rng(seed + k)) for k in range(5)] for _ in range(2))
    require(first == second, "equal generators draw equal architectures", first, second)
    rng = np.random.default_rng(seed)
    for one, other in itertools.pairwise([*drawn, drawn[0]]):
        mutant, child = space.mutate(one, rng), space.cross(one, other, rng)
        require(space.validate(mutant) == [], "a mutant is in the space", one, mutant)
        require(mutant != one or space.size() == 1, "a mutant differs from its parent", one)
        require(space.validate(child) == [], "a child of two is in the space", one, other, child)
        foreign = [(n, o) for n, o in child if n in one and n in other and o not in (one[n], other[n])]
        require(not foreign, "a child takes each decision from a parent", one, other, child)
        around = list(space.neighbours(one))
        require(len(set(around)) == len(around) and one not in around, "neighbours are others, each once", one)
        wrong = [neighbour for neighbour in around if space.validate(neighbour)]
        require(not wrong, "neighbours are in the space", *wrong)
        complete = space.next_decision(dict(one.options))
        require(complete is None, "a complete architecture leaves no decision open", one, complete)
        require(space.complete(dict(one.options), rng) == one, "what is complete is completed as it is", one)
        mixed = space.complete({**dict(one.options), **dict(other.options[::2])}, rng)
        require(space.validate(mixed) == [], "any options are completed within the space", one, other, mixed)


def check_sameness(space: SearchSpace, drawn: Sequence[Architecture]) -> None:
    """`canonical` and `live` are idempotent, stay in the space, and what is live costs no more."""
    for architecture in drawn:
        canonical, live = space.canonical(architecture), space.live(architecture)
        require(space.validate(canonical) == [], "the canonical form is in the space", architecture, canonical)
        require(space.validate(live) == [], "the live form is in the space", architecture, live)
        require(space.canonical(canonical) == canonical, "canonical twice is canonical once", architecture)
        require(space.live(live) == live, "live twice is live once", architecture)
        if not space.has_counts:
            continue
        full, part = space.counts(architecture), space.counts(architecture, live=True)
        require(part == space.counts(live), "live counts are those of the live form", architecture, part)
        require(part.params <= full.params and part.flops <= full.flops, "what is live costs no more", architecture)


def check_size(space: SearchSpace) -> None:
    """`iterate` gives every architecture once; `partition` splits the space exactly."""
    decision = max(space.decisions, key=lambda decision: len(decision.options))
    groups = [decision.options[:1], decision.options[1:]] if len(decision.options) > 1 else [decision.options]
    parts = space.partition(decision.name, groups)
    size = space.size()
    require(sum(part.size() for part in parts) == size, "the parts of a partition add up to the space", size)
    require(all(part.is_within(space) for part in parts), "the parts of a partition lie in the space")
    if size <= ENUMERABLE:
        everything = list(space.iterate())
        require(len(set(everything)) == len(everything) == size, "iterate gives every architecture once", size)
        split = [architecture for part in parts for architecture in part.iterate()]
        require(sorted(a.text for a in split) == sorted(a.text for a in everything), "a partition is exact", decision)
    try:
        space.partition(decision.name, [decision.options, decision.options])
    except InvalidArchitecture:
        return
    raise ContractViolation(f"partition refuses overlapping groups with InvalidArchitecture; got {decision.options}.")


def check_reduced(space: SearchSpace, drawn: Sequence[Architecture]) -> None:
    """The reduced space holds the same architectures, with networks that are no larger."""
    small = space.reduced()
    require(small.decisions == space.decisions, "a reduced space has the same decisions", small.decisions)
    for architecture in drawn:
        require(small.validate(architecture) == [], "a reduced space has the same architectures", architecture)
        if not space.has_counts:
            continue
        fits = small.counts(architecture).params <= space.counts(architecture).params
        require(fits, "networks of the reduced space are no larger", architecture)


def check_views(space: SearchSpace, drawn: Sequence[Architecture]) -> None:
    """The encoding tells canonical forms apart; the graph is acyclic and can be drawn."""
    import networkx

    from searchspaces import drawing

    codes = [space.encode(architecture) for architecture in drawn]
    canonical = {space.canonical(architecture) for architecture in drawn}
    width = sum(len(decision.options) for decision in space.decisions)
    require(all(code.ndim == 1 and np.isfinite(code).all() for code in codes), "an encoding is a finite vector")
    lengths = {len(code) for code in codes}
    require(lengths == {width}, f"an encoding has a number for every option of every decision, {width}", lengths)
    together = space.encode_all([architecture.text for architecture in drawn])
    require(np.array_equal(together, np.stack(codes)), "many texts are encoded as each architecture alone", *drawn[:1])
    require(len({code.tobytes() for code in codes}) >= len(canonical), "encodings tell canonical forms apart")
    check_extremes(space, drawn)
    for architecture in drawn:
        graph = space.graph(architecture)
        _check_graph(graph, architecture)
        require(networkx.is_directed_acyclic_graph(graph), "a graph has no cycle", architecture)
        drawn_edges = drawing(space, architecture)["edges"]
        forward = all(graph.nodes[s]["layer"] < graph.nodes[t]["layer"] for s, t in graph.edges())
        require(forward and len(drawn_edges) == graph.number_of_edges(), "edges lead to later layers", architecture)
    _check_encodings(space, drawn)


def _check_graph(graph: networkx.MultiDiGraph, architecture: Architecture) -> None:
    """Nodes and edges say what they are; an edge with an option is that of a decision, as it was made."""
    for node, data in graph.nodes(data=True):
        require(
            {"label", "layer"} <= data.keys(), "a node of a graph has a label and a layer", architecture, node, data
        )
    chosen = dict(architecture.options)
    for source, target, data in graph.edges(data=True):
        edge = f"{source} -> {target} with {data}"
        has_all = {"option", "live", "decision"} <= data.keys()
        require(has_all, "an edge of a graph has an option, a decision, and says if it is live", architecture, edge)
        promise = "an edge's option is the one chosen of its decision, and empty where nothing is chosen"
        require(not data["option"] or chosen.get(data["decision"]) == data["option"], promise, architecture, edge)


def _check_encodings(space: SearchSpace, drawn: Sequence[Architecture]) -> None:
    """Predictors and searchers can read the space: its ways are of decisions, all its encodings can be made."""
    from predictors.encoding import SpaceEncoder, every_block

    names = {decision.name for decision in space.decisions}
    unknown = {name for way in space.ways() for name in way} - names
    require(not unknown, "the ways through a space are made of its decisions", unknown)
    encoded = SpaceEncoder(space, every_block(space))(drawn)
    require(len(encoded.matrix()) == len(drawn), "every architecture can be encoded", len(drawn))


def check_extremes(space: SearchSpace, drawn: Sequence[Architecture]) -> None:
    """The extremes enclose every architecture's parameters; a space that cannot count says so."""
    smallest, largest = space.extremes()
    if not space.has_counts:
        _require_refusal(lambda: space.counts(largest), MeasurementError, "a space without counts refuses to count")
        return
    low, high = space.counts(smallest).params, space.counts(largest).params
    counted = space.params_all([architecture.text for architecture in drawn]).tolist()
    for architecture, params in zip(drawn, counted, strict=True):
        require(params == space.counts(architecture).params, "many texts are counted as each alone", architecture)
        require(low <= params <= high, "the extremes enclose every architecture's parameters", architecture, params)


def check_without_networks(space: SearchSpace, drawn: Sequence[Architecture]) -> None:
    """A space that has no networks refuses to build them."""
    for build in (lambda: space.build(drawn[0]), space.supernet):
        _require_refusal(build, InfeasibleSpace, "a space without networks refuses to build them")


def _require_refusal(what: Callable[[], object], error: type[NASError], promise: str) -> None:
    try:
        what()
    except error:
        return
    raise ContractViolation(f"{promise} with {error.__name__}.")
