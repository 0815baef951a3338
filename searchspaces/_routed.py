"""A supernet in parts: each part has weights of its own for a sub-space; every architecture runs in one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from torch import Tensor, nn

from searchspaces._architecture import Architecture
from searchspaces._errors import InvalidArchitecture
from searchspaces._space import SearchSpace, Split
from searchspaces._supernet import Choice, Mixture, Supernet, Tapped


class RoutedSupernet(Supernet):
    """Supernets over the parts of an exact partition of one space, and the way from an architecture to its part.

    Zhao et al. (2021), Few-shot Neural Architecture Search, arXiv 2006.06863. It begins as one part, the whole; `split`
    replaces a part by several that inherit its weights. An architecture runs in the part that holds its *live* form:
    architectures that differ only in what cannot reach the output are one function and have one value. So an
    architecture may run in another part than the one whose sub-space names its dead options.

    Attributes:
        splits: how the parts came about, in order.
    """

    def __init__(self, space: SearchSpace, parts: Sequence[Supernet], splits: Sequence[Split] = ()) -> None:
        super().__init__(space)
        self._options = {decision.name: decision.options for decision in space.decisions}
        self._hold(parts, splits)
        self.train(parts[0].training)

    @classmethod
    def of(cls, whole: Supernet) -> RoutedSupernet:
        """The supernet as the one part of itself; its weights are not copied."""
        return cls(whole.space, [whole])

    @classmethod
    def arranged(cls, space: SearchSpace, splits: Sequence[Split]) -> RoutedSupernet:
        """Parts with fresh weights, for a state that is loaded next.

        Raises:
            InvalidArchitecture: a split does not divide its part exactly.
        """
        made = cls.of(space.supernet())
        for split in splits:
            made.split(split)
        return made

    def _hold(self, parts: Sequence[Supernet], splits: Sequence[Split]) -> None:
        self.held = nn.ModuleList(parts)
        self.splits = tuple(splits)
        self._limits = [
            {d.name: frozenset(d.options) for d in part.space.decisions if d.options != self._options[d.name]}
            for part in parts
        ]

    @property
    def parts(self) -> list[Supernet]:
        """The parts, in order; their spaces split this one's exactly."""
        return [cast(Supernet, part) for part in self.held]

    # --- structure ---------------------------------------------------------------------------------------------------

    def split(self, split: Split) -> dict[nn.Parameter, nn.Parameter]:
        """Replace a part, in place, by one part for every group of options of a decision.

        Each new part has copies of the weights that it still needs, so that every architecture computes what it did
        before, bit for bit.

        Returns:
            Every new parameter with the one that it was copied from.

        Raises:
            InvalidArchitecture: the groups do not split the options exactly, or not every architecture of the part has
                the decision, so that it would be in several parts.
        """
        parts = self.parts
        old = parts[split.part]
        decision = next((d for d in old.space.decisions if d.name == split.decision), None)
        if decision is None or not old.space.is_always_active(decision):
            raise InvalidArchitecture(f"{split.decision!r} is not a decision of every architecture of its part.")
        new = [old.restrict(space) for space in old.space.partition(split.decision, split.groups)]
        self._hold([*parts[: split.part], *new, *parts[split.part + 1 :]], [*self.splits, split])
        origins = dict(old.named_parameters())
        return {parameter: origins[name] for part in new for name, parameter in part.named_parameters()}

    def arrange(self, splits: Sequence[Split]) -> None:
        """Take another structure, in place, with fresh weights on the CPU, for a state that is loaded next.

        Raises:
            InvalidArchitecture: a split does not divide its part exactly.
        """
        made = RoutedSupernet.arranged(self.space, splits)
        self._hold(made.parts, made.splits)
        self.train(self.training)

    # --- routes ------------------------------------------------------------------------------------------------------

    def part_of(self, choice: Choice) -> int:
        """The number of the part that runs this choice.

        Raises:
            InvalidArchitecture: a mixture has weight on options of several parts.
        """
        if isinstance(choice, Mixture):
            return self._part_of_mixture(choice)
        if len(self.held) == 1:
            return 0
        live = self.space.live(choice)
        for number, limits in enumerate(self._limits):
            if all(self._allows(live, decision, allowed) for decision, allowed in limits.items()):
                return number
        raise InvalidArchitecture(f"{choice.text!r} is in no part of {self.space.name}.")

    def _allows(self, live: Architecture, decision: str, allowed: frozenset[str]) -> bool:
        """In a sub-space, a dead decision's live option may be none of its own: then the first part takes it."""
        return decision not in live or live[decision] in allowed or live[decision] not in self._options[decision]

    def _part_of_mixture(self, mixture: Mixture) -> int:
        """A mixture of one architecture runs where that does; another, in the one part that holds all it has weight on.

        Reads the weights on the host.
        """
        support = {
            name: [option for option, weight in zip(self._options[name], weights.tolist(), strict=True) if weight]
            for name, weights in mixture.weights.items()
        }
        if all(len(options) == 1 for options in support.values()):
            options: dict[str, str] = {}
            while (decision := self.space.next_decision(options)) is not None and decision.name in support:
                options[decision.name] = support[decision.name][0]
            return self.part_of(self.space.architecture(options))
        for number, limits in enumerate(self._limits):
            if all(set(support.get(decision, ())) <= allowed for decision, allowed in limits.items()):
                return number
        raise InvalidArchitecture(
            f"the mixture has weight on options of several of the {len(self.held)} parts, which share no weights; "
            "set all but one part's to zero."
        )

    def _routed(self, choice: Choice) -> tuple[Supernet, Choice]:
        """The part, and the choice in its words."""
        part = self.parts[self.part_of(choice)]
        if isinstance(choice, Mixture):
            return part, _narrowed(choice, self.space, part.space)
        return part, choice if not part.space.validate(choice) else self.space.live(choice)

    # --- what every supernet does ------------------------------------------------------------------------------------

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """x: one batch of inputs -> logits, `batch x classes`, of the part that the choice belongs to.

        Raises:
            InvalidArchitecture: a mixture has weight on options of several parts.
        """
        part, own = self._routed(choice)
        logits: Tensor = part(x, own)
        return logits

    def forward_many(self, x: Tensor, architectures: Sequence[Architecture]) -> Iterator[tuple[int, Tensor]]:
        """As in `Supernet`, part after part; architectures of one part share what they can."""
        places: dict[int, list[int]] = {}
        for place, architecture in enumerate(architectures):
            places.setdefault(self.part_of(architecture), []).append(place)
        for number in sorted(places):
            part = self.parts[number]
            own = [cast(Architecture, self._routed(architectures[place])[1]) for place in places[number]]
            for within, logits in part.forward_many(x, own):
                yield places[number][within], logits

    def taps(self, x: Tensor, architecture: Architecture) -> Tapped:
        """As in `Supernet`, of the part that the architecture belongs to."""
        part, own = self._routed(architecture)
        return part.taps(x, cast(Architecture, own))

    def extract(self, architecture: Architecture) -> nn.Module:
        """The stand-alone network with copies of its weights: what is live from the part that it runs in.

        Dead options come from the part whose sub-space names them; nothing depends on their weights.
        """
        self.space.check(architecture)
        part, own = self._routed(architecture)
        if own is architecture:
            return part.extract(architecture)
        home = next(part for part in self.parts if not part.space.validate(architecture))
        network = home.extract(architecture)
        network.load_state_dict(part.extract(cast(Architecture, own)).state_dict(), strict=False)
        return network

    def restrict(self, space: SearchSpace) -> RoutedSupernet:
        """The same over a sub-space: parts that do not meet it are left out, the others are restricted to it."""
        if not space.is_within(self.space):
            raise InvalidArchitecture(f"{space.name} is not a sub-space of the supernet's; take one from `partition`.")
        allowed = {decision.name: decision.options for decision in space.decisions}
        numbers: list[int | None] = [0]  # of the parts so far: their numbers in the sub-space
        splits: list[Split] = []
        for split in self.splits:
            number, kept = numbers[split.part], 0
            groups = [tuple(o for o in group if o in allowed[split.decision]) for group in split.groups]
            new: list[int | None] = []
            for group in groups:
                new.append(number + kept if number is not None and group else None)
                kept += bool(group)
            if number is not None and kept > 1:
                splits.append(Split(number, split.decision, tuple(filter(None, groups))))
                numbers = [n + kept - 1 if n is not None and n > number else n for n in numbers]
            numbers[split.part : split.part + 1] = new
        meeting = [part for part, number in zip(self.parts, numbers, strict=True) if number is not None]
        return RoutedSupernet(space, [part.restrict(_meet(part.space, space)) for part in meeting], splits)

    def parameters_of(self, decision: str, option: str) -> Iterator[nn.Parameter]:
        """The weights that only this option of this decision uses, in all parts that have it."""
        for part in self.parts:
            if any(d.name == decision and option in d.options for d in part.space.decisions):
                yield from part.parameters_of(decision, option)


def _narrowed(mixture: Mixture, whole: SearchSpace, part: SearchSpace) -> Mixture:
    """The mixture over the options that the part still has."""
    rows = {decision.name: decision.options for decision in whole.decisions}
    return Mixture(
        {
            decision.name: mixture.weights[decision.name][[rows[decision.name].index(o) for o in decision.options]]
            for decision in part.decisions
            if decision.name in mixture.weights
        }
    )


def _meet(space: SearchSpace, other: SearchSpace) -> SearchSpace:
    """The architectures of `space` that are in `other` too; every decision must have an option in both."""
    allowed = {decision.name: decision.options for decision in other.decisions}
    for decision in space.decisions:
        inside = [option for option in decision.options if option in allowed[decision.name]]
        outside = [option for option in decision.options if option not in inside]
        if outside:
            space = space.partition(decision.name, [inside, outside])[0]
    return space
