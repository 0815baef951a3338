"""One adapter for every Optuna sampler.

The history is the only state. From it an in-memory study is rebuilt in which a trial stands for every proposal; what a
sampler keeps beside parameters and values (NSGA-II: the generation of a trial, the parents of a generation) comes back
in the proposals' memos. For each draw the sampler is made afresh with a seed from `rng`, so that a proposal depends on
history and `rng` alone. The result is, proposal for proposal, what plain ask and tell give with the same seeds, where a
trial that repeats a known architecture is told as failed and asked again.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nas.history import History, Record
from nas.pareto import Front
from nas.resources import EvaluationState, JsonObject, Objective, Proposal
from nas.searchers._searcher import Searcher, proposal, unseen
from searchspaces import Architecture, Rng, SearchSpace

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.search_space import IntersectionSearchSpace
    from optuna.trial import FrozenTrial

MakeSampler = Callable[[int], "BaseSampler"]

_ASKS = 8
"""Draws for one proposal before a mutant of the last one is taken. Two equal draws end it too: TPE over several
objectives draws the same again whatever its seed."""


class OptunaSearcher(Searcher):
    """Proposes what a sampler draws.

    A draw that was proposed before is told as failed and drawn again, a few times; then a mutant of it is proposed, and
    in a space nearly used up any unseen architecture. One that the space rules out is told as failed as well, and what
    the space makes of it is proposed. Conditional decisions are asked one by one, in the space's order.

    Args:
        make_sampler: seed -> sampler.
        space: what is searched.
        objectives: what for.
        ordinal: whether the sampler sees ordinal decisions as integers, in place of categories.
        window: most settled records that the sampler sees, the front and the newest; None: all.
    """

    def __init__(
        self,
        make_sampler: MakeSampler,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        ordinal: bool = False,
        window: int | None = None,
    ) -> None:
        super().__init__(space, objectives)
        self._make_sampler, self._window = make_sampler, _Window(window)
        self._study = _Study(space, objectives, ordinal=ordinal)

    def ask(self, history: History, n: int, rng: Rng) -> list[Proposal]:
        """Up to `n` new architectures; see `Searcher.ask`."""
        self._study.follow(self._window(history))
        taken: set[str] = set()
        proposals: list[Proposal] = []
        while len(proposals) < n:
            found = self._draw(history, taken, rng)
            if found is None:
                break
            taken.add(found.digest)
            proposals.append(found)
        return proposals

    def _draw(self, history: History, taken: set[str], rng: Rng) -> Proposal | None:
        known, drawn, discarded = self._study.attributes(), list[Architecture](), 0
        while len(drawn) < _ASKS and len(drawn) == len(set(drawn)):
            options = self._study.ask(self._make_sampler(int(rng.integers(2**31))))
            found, reason = self.space.complete(options, rng), "drawn by the sampler"
            is_new = not history.has_seen(found) and found.digest not in taken
            if not is_new or dict(found.options) != options:
                self._study.discard()
                discarded += 1
            if is_new:
                if dict(found.options) != options:
                    self._study.substitute(found)
                    reason = "the space's nearest to a draw"
                return self._proposal(found, reason, known, discarded)
            drawn.append(found)
        repeated = drawn[-1]
        mutant = unseen(self.space, history, taken, rng, lambda: self.space.mutate(repeated, rng))
        if mutant is None:
            self._study.forget()
            return None
        self._study.substitute(mutant)
        return self._proposal(mutant, "mutant of a repeated draw", known, discarded)

    def _proposal(self, found: Architecture, reason: str, known: JsonObject, discarded: int) -> Proposal:
        memo = self._study.memo(known, discarded)
        self._study.expect(found)
        return proposal(found, reason=reason, memo=memo)


@contextmanager
def experimental() -> Iterator[None]:
    """Where samplers are made of which Optuna says that they may change later: no news in every single draw."""
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@contextmanager
def _infinite_values() -> Iterator[None]:
    """Where samplers meet trials without values: no news that the infinite is clipped, or of what all lack."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Clip non-finite values", category=UserWarning)
        warnings.filterwarnings("ignore", message="All-NaN slice|invalid value", category=RuntimeWarning)
        yield


class _Window:
    """What a sampler sees of a history: all of it, or `size` records, the front and the newest, and what is under way.

    Costs what is new, and the size.
    """

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._history: History | None = None
        self._cursor = 0
        self._front: Front[int] = Front()

    def __call__(self, history: History) -> History:
        if self._size is None or len(history) <= self._size:
            return history
        if self._history is not history:
            self._history, self._cursor, self._front = history, 0, Front()
        for place, record in enumerate(history.since(self._cursor), self._cursor):
            loss = history.loss(record)
            if record.state is EvaluationState.FINISHED and loss is not None:
                self._front.add(place, loss)
        self._cursor = len(history)
        front = sorted(self._front)[-(self._size // 2) :]
        newest = range(len(history) + len(front) - self._size, len(history))
        part = History(history.objectives)
        for place in (*(place for place in front if place < newest.start), *newest):
            part.add(history.settled[place])
        for record in history.pending.values():
            part.add(record)
        return part


class _Study:
    """The in-memory study that stands for a history; `follow` brings it up to date at a cost of what is new."""

    def __init__(self, space: SearchSpace, objectives: Sequence[Objective], *, ordinal: bool) -> None:
        self._space, self._objectives = space, tuple(objectives)
        self._integers = {d.name: d.options for d in space.decisions if ordinal and d.kind == "ordinal"}
        self._history: History | None = None
        self._constrained, self._cursor, self._last = False, 0, -1
        self._trials: dict[int, int] = {}  # proposal number -> trial
        self._expected: list[tuple[str, int]] = []  # asked here, not yet in the history: digest, trial
        self._unknown = tuple(math.inf if o.direction == "min" else -math.inf for o in objectives)

    # --- following the history ---------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Build the study anew next time."""
        self._history = None

    def follow(self, history: History) -> None:
        """Bring the study to the state of `history`; built anew when it does not go on from what is here."""
        if history is not self._history or not self._go_on(history):
            self._rebuild(history)

    def _go_on(self, history: History) -> bool:
        new = history.since(self._cursor)
        if not self._constrained and any(record.violation > 0 for record in new):
            return False  # from now on every trial carries a constraint, the finished ones too
        fresh = sorted(
            (r for r in (*new, *history.pending.values()) if r.number not in self._trials), key=lambda r: r.number
        )
        if [record.architecture.digest for record in fresh] != [digest for digest, _ in self._expected]:
            return False  # something asked here was not proposed, or something else was
        self._trials |= {r.number: trial for r, (_, trial) in zip(fresh, self._expected, strict=True)}
        self._expected = []
        for record in new:
            self._settle(record)
        return True

    def _rebuild(self, history: History) -> None:
        self._start(history, constrained=any(record.violation > 0 for record in history.settled))
        outcomes = {record.number: self._outcome(record) for record in history.settled}
        for record in sorted((*history.settled, *history.pending.values()), key=lambda r: r.number):
            kept = record.memo.get("optuna", {})
            for _ in range(kept.get("discarded", 0)):
                self._storage.create_new_trial(self._study_id, template_trial=self._frozen("FAIL"))
            for key, value in kept.get("study", {}).items():
                self._storage.set_study_system_attr(self._study_id, key, value)
            state, values, constraints = outcomes.get(record.number, ("RUNNING", None, None))
            self._add(state, record.architecture, values, constraints, kept.get("trial", {}))
            self._trials[record.number] = self._last
        self._cursor = len(history)

    def _start(self, history: History, *, constrained: bool) -> None:
        import optuna

        self._storage = optuna.storages.InMemoryStorage()
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # a study announces itself; nobody asked for this one
        try:
            self._study = optuna.create_study(
                storage=self._storage,
                directions=["maximize" if o.direction == "max" else "minimize" for o in self._objectives],
            )
        finally:
            optuna.logging.set_verbosity(verbosity)
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
        self._distributions = {
            decision.name: optuna.distributions.IntDistribution(0, len(decision.options) - 1)
            if decision.name in self._integers
            else optuna.distributions.CategoricalDistribution(decision.options)
            for decision in self._space.decisions
        }
        self._history, self._constrained, self._cursor, self._last = history, constrained, 0, -1
        self._trials, self._expected = {}, []
        self._common: dict[str, IntersectionSearchSpace] = {}

    def _settle(self, record: Record) -> None:
        from optuna.trial import TrialState

        state, values, constraints = self._outcome(record)
        trial = self._trials[record.number]
        if constraints is not None:
            for key, value in self._frozen("FAIL", constraints=constraints).system_attrs.items():
                self._storage.set_trial_system_attr(trial, key, value)
        self._storage.set_trial_state_values(trial, TrialState[state], values)
        self._cursor += 1

    def _outcome(self, record: Record) -> tuple[str, tuple[float, ...] | None, dict[str, float] | None]:
        """State, values and constraints of a settled record's trial; called once for each, in commit order.

        An infeasible architecture may have no values (its costs alone ruled it out), yet a sampler can only learn from
        a completed trial. Its values are infinitely bad: behind whatever there is or will be, and no claim of a number.
        Samplers rank infeasible trials by violation; one that models values leaves infinite ones to Optuna's own rule,
        which takes them for the worst that was measured.
        """
        constraints = {"violation": record.violation} if self._constrained else None
        if record.state is EvaluationState.FAILED:
            return "FAIL", None, None
        if record.values is not None:
            return "COMPLETE", record.values, constraints
        if record.violation > 0:
            return "COMPLETE", self._unknown, constraints
        return "FAIL", None, None

    # --- asking ------------------------------------------------------------------------------------------------------

    def ask(self, sampler: BaseSampler) -> dict[str, str]:
        """The option of every active decision that the sampler draws, as a running trial."""
        self._hand_on_what_is_common(sampler)
        self._study.sampler = sampler
        options: dict[str, str] = {}
        with _infinite_values():
            trial = self._study.ask()
            while decision := self._space.next_decision(options):
                if levels := self._integers.get(decision.name):
                    options[decision.name] = levels[trial.suggest_int(decision.name, 0, len(levels) - 1)]
                else:
                    options[decision.name] = trial.suggest_categorical(decision.name, decision.options)
        self._last = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)
        return options

    def _hand_on_what_is_common(self, sampler: BaseSampler) -> None:
        """Let a new sampler go on from what those before it found of all trials: which parameters they have in common.

        That follows from the trials alone, and found anew in each draw it would cost 90 % of the time at 500 trials.
        """
        from optuna.search_space import IntersectionSearchSpace

        for name, held in list(vars(sampler).items()):
            if isinstance(held, IntersectionSearchSpace):
                setattr(sampler, name, self._common.setdefault(name, held))

    def discard(self) -> None:
        """End the last trial as failed."""
        from optuna.trial import TrialState

        self._storage.set_trial_state_values(self._last, TrialState.FAIL)

    def substitute(self, architecture: Architecture) -> None:
        """Run another architecture with what the sampler keeps of the last trial."""
        self._add("RUNNING", architecture, None, None, self._storage.get_trial_system_attrs(self._last))

    def attributes(self) -> JsonObject:
        """What samplers keep in the study."""
        return dict(self._storage.get_study_system_attrs(self._study_id))

    def memo(self, known: JsonObject, discarded: int) -> JsonObject:
        """What is needed to rebuild the last trial: its attributes, what changed in the study, draws thrown away."""
        changed = {key: value for key, value in self.attributes().items() if known.get(key) != value}
        kept = {
            "trial": dict(self._storage.get_trial_system_attrs(self._last)),
            "study": changed,
            "discarded": discarded,
        }
        return {"optuna": {key: value for key, value in kept.items() if value}}

    def expect(self, architecture: Architecture) -> None:
        """Wait for the last trial to turn up in the history."""
        self._expected.append((architecture.digest, self._last))

    # --- trials ------------------------------------------------------------------------------------------------------

    def _add(
        self,
        state: str,
        architecture: Architecture,
        values: Sequence[float] | None,
        constraints: dict[str, float] | None,
        attributes: JsonObject,
    ) -> None:
        params: dict[str, str | int] = {
            name: self._integers[name].index(option) if name in self._integers else option
            for name, option in architecture
        }
        distributions = {name: self._distributions[name] for name in params}
        trial = self._frozen(
            state,
            values=values,
            constraints=constraints,
            params=params,
            distributions=distributions,
            system_attrs=dict(attributes),
        )
        self._last = self._storage.create_new_trial(self._study_id, template_trial=trial)

    @staticmethod
    def _frozen(state: str, **fields: Any) -> FrozenTrial:
        from optuna.trial import TrialState, create_trial

        return create_trial(state=TrialState[state], **fields)
