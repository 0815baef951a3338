"""The adapter proposes what plain Optuna proposes, and its history is all it needs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from nas.history import History, Record
from nas.resources import EvaluationState, Objective
from nas.searchers import REGISTRY
from nas.searchers._optuna import OptunaSearcher
from nas.streams import stream
from nas.testing._searchers import landscape
from searchspaces import Architecture, ConfigError, Decision, SearchSpace
from tests.nas.conditional import Perceptrons

OBJECTIVES = (
    Objective(metric="accuracy", level="supernet", direction="max"),
    Objective(metric="params", level="cost", direction="min"),
)
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

MakeSampler = Callable[[int], BaseSampler]
Outcome = tuple[str, tuple[float, ...] | None, float]

SAMPLERS: dict[str, tuple[MakeSampler, tuple[Objective, ...]]] = {
    "nsga2": (lambda seed: NSGAIISampler(population_size=8, seed=seed), OBJECTIVES),
    "nsga3": (lambda seed: NSGAIIISampler(population_size=8, seed=seed), OBJECTIVES),
    "tpe": (lambda seed: TPESampler(n_startup_trials=6, seed=seed), OBJECTIVES),
    "tpe, one objective": (lambda seed: TPESampler(n_startup_trials=6, seed=seed), OBJECTIVES[:1]),
    "random": (lambda seed: RandomSampler(seed=seed), OBJECTIVES),
}


def outcome(space: SearchSpace, architecture: Architecture, objectives: tuple[Objective, ...]) -> Outcome:
    """What becomes of an architecture, from its digest: one in nine fails, two in nine break a constraint."""
    values, fate = landscape(space, architecture, objectives), int(architecture.digest, 16) % 9
    if fate == 0:
        return "FAILED", None, 0.0
    return ("INFEASIBLE", values, 0.3 + fate) if fate < 3 else ("FINISHED", values, 0.0)


def feasible(space: SearchSpace, architecture: Architecture, objectives: tuple[Objective, ...]) -> Outcome:
    """What becomes of an architecture when nothing fails and nothing is forbidden."""
    return "FINISHED", landscape(space, architecture, objectives), 0.0


def by_plain_optuna(
    make: MakeSampler,
    space: SearchSpace,
    objectives: tuple[Objective, ...],
    count: int,
    *,
    batch: int = 1,
    judge: Callable[..., Outcome] = feasible,
) -> list[str]:
    """Ask and tell as a user of Optuna writes it.

    A repeated architecture is told as failed and asked again; after eight, or two equal ones, a mutant is run.
    """
    study = optuna.create_study(directions=["maximize" if o.direction == "max" else "minimize" for o in objectives])
    distributions = {d.name: CategoricalDistribution(d.options) for d in space.decisions}
    texts: list[str] = []
    while len(texts) < count:
        rng, asked = stream(0, "search", len(texts)), []
        for _ in range(batch):
            drawn: list[str] = []
            while len(drawn) < 8 and len(drawn) == len(set(drawn)):
                study.sampler = make(int(rng.integers(2**31)))
                trial = study.ask(fixed_distributions=distributions)
                architecture = space.architecture(trial.params)
                if architecture.text not in texts:
                    break
                study.tell(trial, state=TrialState.FAIL)
                drawn.append(architecture.text)
            else:
                while architecture.text in texts:
                    architecture = space.mutate(space.architecture(trial.params), rng)
                same_generation = study.trials[-1].system_attrs
                params = dict(architecture.options)
                study.add_trial(
                    create_trial(
                        state=TrialState.RUNNING,
                        params=params,
                        distributions={name: distributions[name] for name in params},
                        system_attrs=same_generation,
                    )
                )
            texts.append(architecture.text)
            asked.append((len(study.trials) - 1, architecture))
        for number, architecture in asked:
            state, values, violation = judge(space, architecture, objectives)
            if state == "FAILED":
                study.tell(number, state=TrialState.FAIL)
                continue
            if judge is outcome:  # Trial.set_constraint, for a trial that may have been added and not asked
                study._storage.set_trial_system_attr(number, "constraints:violation", violation)
            study.tell(number, list(values or ()))
    return texts


def by_adapter(
    make: MakeSampler,
    space: SearchSpace,
    objectives: tuple[Objective, ...],
    count: int,
    *,
    batch: int = 1,
    judge: Callable[..., Outcome] = feasible,
    fresh_every: int = 10**9,
) -> list[str]:
    """The same search by the adapter; every so many batches by a fresh object, from a history through JSON."""
    searcher, history, texts = OptunaSearcher(make, space, objectives), History(objectives), list[str]()
    while len(texts) < count:
        if len(texts) // batch % fresh_every == fresh_every - 1:
            searcher, kept = OptunaSearcher(make, space, objectives), history.settled
            history = History(objectives)
            for r in kept:
                memo = json.loads(json.dumps(r.memo))
                history.add(Record(r.number, r.architecture, r.state, r.values, r.violation, memo=memo))
        first = len(texts)
        proposals = searcher.ask(history, batch, stream(0, "search", first))
        texts += [proposal.text for proposal in proposals]
        for number, proposal in enumerate(proposals, first):
            history.add(Record(number, space.parse(proposal.text), EvaluationState.PENDING, None, memo=proposal.memo))
        for number, proposal in enumerate(proposals, first):
            architecture = space.parse(proposal.text)
            state, values, violation = judge(space, architecture, objectives)
            history.add(Record(number, architecture, EvaluationState[state], values, violation, memo=proposal.memo))
    return texts


class Words(Perceptrons):
    """Words of 16 letters out of 5: so many that a sampler seldom repeats one."""

    def __init__(self) -> None:
        super().__init__()
        self.decisions = tuple(Decision(f"letter{i:02}", tuple("abcde"), (True,) * 5) for i in range(16))

    def text(self, options: Mapping[str, str]) -> str:
        return "".join(options[decision.name] for decision in self.decisions)

    def read(self, text: str) -> dict[str, str]:
        return {decision.name: letter for decision, letter in zip(self.decisions, text, strict=True)}


@pytest.fixture
def space() -> SearchSpace:
    return Words()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("batch", [1, 4])
def test_the_adapter_equals_plain_optuna_proposal_for_proposal(name: str, batch: int, space: SearchSpace) -> None:
    make, objectives = SAMPLERS[name]
    plain = by_plain_optuna(make, space, objectives, 48, batch=batch)
    assert by_adapter(make, space, objectives, 48, batch=batch) == plain


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_fresh_adapter_goes_on_as_plain_optuna_does(name: str, space: SearchSpace) -> None:
    make, objectives = SAMPLERS[name]
    plain = by_plain_optuna(make, space, objectives, 48, batch=4)
    assert by_adapter(make, space, objectives, 48, batch=4, fresh_every=3) == plain


@pytest.mark.parametrize("name", ["nsga2", "tpe"])
def test_the_adapter_equals_plain_optuna_when_evaluations_fail_or_break_constraints(
    name: str, space: SearchSpace
) -> None:
    make, objectives = SAMPLERS[name]
    plain = by_plain_optuna(make, space, objectives, 48, batch=4, judge=outcome)
    assert by_adapter(make, space, objectives, 48, batch=4, judge=outcome) == plain
    assert by_adapter(make, space, objectives, 48, batch=4, judge=outcome, fresh_every=2) == plain


def test_nsga2_without_its_memos_is_another_search(space: SearchSpace) -> None:
    make, _ = SAMPLERS["nsga2"]
    whole, bare = History(OBJECTIVES), History(OBJECTIVES)
    for number, text in enumerate(by_adapter(make, space, OBJECTIVES, 24)):
        values = landscape(space, space.parse(text), OBJECTIVES)
        bare.add(Record(number, space.parse(text), EvaluationState.FINISHED, values))
    searcher = OptunaSearcher(make, space, OBJECTIVES)
    while len(whole) < 24:
        (found,) = searcher.ask(whole, 1, stream(0, "search", len(whole)))
        architecture = space.parse(found.text)
        values = landscape(space, architecture, OBJECTIVES)
        whole.add(Record(len(whole), architecture, EvaluationState.FINISHED, values, memo=found.memo))
    assert [r.architecture for r in whole.settled] == [r.architecture for r in bare.settled]
    with_memos, without = (
        OptunaSearcher(make, space, OBJECTIVES).ask(h, 4, stream(0, "search", 24)) for h in (whole, bare)
    )
    assert [p.text for p in with_memos] != [p.text for p in without]


def test_generations_are_counted_in_the_memos(space: SearchSpace) -> None:
    make, _ = SAMPLERS["nsga2"]
    searcher, history = OptunaSearcher(make, space, OBJECTIVES), History(OBJECTIVES)
    generations = []
    while len(history) < 32:
        (found,) = searcher.ask(history, 1, stream(0, "search", len(history)))
        generations.append(found.memo["optuna"]["trial"]["NSGAIISampler:generation"])
        architecture = space.parse(found.text)
        values = landscape(space, architecture, OBJECTIVES)
        history.add(Record(len(history), architecture, EvaluationState.FINISHED, values, memo=found.memo))
    assert generations == [i // 8 for i in range(32)]


def test_an_answer_that_was_never_used_leaves_no_trace(space: SearchSpace) -> None:
    make, _ = SAMPLERS["tpe"]
    searcher, history = OptunaSearcher(make, space, OBJECTIVES), History(OBJECTIVES)
    for number in range(12):
        searcher.ask(history, 3, stream(1, "thrown away", number))
        (found,) = searcher.ask(history, 1, stream(0, "search", number))
        (expected,) = OptunaSearcher(make, space, OBJECTIVES).ask(history, 1, stream(0, "search", number))
        assert found == expected
        architecture = space.parse(found.text)
        values = landscape(space, architecture, OBJECTIVES)
        history.add(Record(number, architecture, EvaluationState.FINISHED, values, memo=found.memo))


def test_a_repeated_draw_is_asked_again_then_mutated_and_said_so() -> None:
    small, seen = Perceptrons(2), History(OBJECTIVES)
    searcher = OptunaSearcher(lambda seed: RandomSampler(seed=1), small, OBJECTIVES)  # always draws the same
    found = searcher.ask(seen, 2, stream(0))
    assert found[0].reason == "drawn by the sampler"
    assert found[1].reason == "mutant of a repeated draw"
    assert found[1].memo["optuna"]["discarded"] == 2


def test_infeasible_architectures_without_values_still_guide_the_sampler(space: SearchSpace) -> None:
    def hard(space: SearchSpace, architecture: Architecture, objectives: tuple[Objective, ...]) -> Outcome:
        excess = max(0.0, 6.0 - architecture.text.count("a"))
        values = landscape(space, architecture, objectives)
        return ("INFEASIBLE", None, excess) if excess else ("FINISHED", values, 0.0)

    make: MakeSampler = lambda seed: NSGAIISampler(population_size=10, seed=seed)  # noqa: E731
    texts = by_adapter(make, space, OBJECTIVES, 120, batch=4, judge=hard)
    met = [hard(space, space.parse(text), OBJECTIVES)[0] == "FINISHED" for text in texts]
    # Of all words 8 % have six a's, so random sampling expects 3 of 40 and finds 12 with a probability of 3e-5.
    assert sum(met[:20]) <= 6
    assert sum(met[-40:]) >= 12


@pytest.mark.parametrize("sampler", ["NSGAIISampler", "NSGAIIISampler", "TPESampler", "GPSampler", "RandomSampler"])
@pytest.mark.parametrize("number", [1, 2])
def test_an_infeasible_first_trial_without_values_is_given_no_number(
    space: SearchSpace, sampler: str, number: int
) -> None:
    asked, history = OBJECTIVES[:number], History(OBJECTIVES[:number])
    config = {"sampler": sampler, "kwargs": {"population_size": 4}} if "NSGA" in sampler else {"sampler": sampler}
    searcher = REGISTRY["optuna"](config, space, asked)
    for place in range(16):  # the first six break a bound by their costs alone
        made = searcher.ask(history, 1, stream(0, "search", place))[0]
        architecture = space.parse(made.text)
        state = EvaluationState.INFEASIBLE if place < 6 else EvaluationState.FINISHED
        values = None if place < 6 else landscape(space, architecture, asked)
        history.add(Record(place, architecture, state, values, violation=float(place < 6), memo=made.memo))
    searcher.ask(history, 1, stream(0))
    trials = [t for t in searcher._study._study.trials if t.state.name == "COMPLETE"]
    worst = [math.inf if o.direction == "min" else -math.inf for o in asked]
    assert [list(t.values) for t in trials if not math.isfinite(t.values[0])] == [worst] * 6
    assert len(trials) == 16


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"sampler": "GeneticSampler"}, "one of .*TPESampler"),
        ({"sampler": "TPESampler", "kwargs": {"n_startups": 3}}, "kwargs that TPESampler accepts"),
        ({"sampler": "NSGAIISampler", "kwargs": {"population_size": 1}}, "greater than or equal to 2"),
        ({"kwargs": {"seed": 3}}, "no seed in kwargs"),
    ],
)
def test_a_wrong_sampler_is_refused_with_what_is_allowed(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        REGISTRY["optuna"].configure(settings)


def test_a_sampler_that_cannot_handle_the_objectives_is_refused_at_once(space: SearchSpace) -> None:
    with pytest.raises(ConfigError, match=r"sampler: got CmaEsSampler; expected .*2 objective"):
        REGISTRY["optuna"]({"sampler": "CmaEsSampler"}, space, OBJECTIVES)


def test_optunas_verbosity_is_left_as_found(space: SearchSpace, capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    REGISTRY["nsga2"](None, space, OBJECTIVES).ask(History(OBJECTIVES), 2, stream(0))
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_a_draw_does_not_look_at_every_trial_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new sampler for every draw would compare the parameters of all trials, each time."""
    space, compared = Perceptrons(widths=8), 0
    equal = CategoricalDistribution.__eq__

    def counted(self: CategoricalDistribution, other: object) -> bool:
        nonlocal compared
        compared += 1
        return equal(self, other)

    monkeypatch.setattr(CategoricalDistribution, "__eq__", counted)
    searcher = OptunaSearcher(SAMPLERS["nsga2"][0], space, OBJECTIVES)
    history, spent = History(OBJECTIVES), list[int]()
    while history.num_proposals < 160:
        before = compared
        for made in searcher.ask(history, 4, stream(0, "searcher", history.num_proposals)):
            architecture = space.parse(made.text)
            values = landscape(space, architecture, OBJECTIVES)
            history.add(Record(history.num_proposals, architecture, EvaluationState.FINISHED, values, memo=made.memo))
        spent.append(compared - before)
    assert sum(spent[-10:]) < 2 * sum(spent[5:15])
