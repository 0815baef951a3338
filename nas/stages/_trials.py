"""How a plug-in of somebody else is tried before anything is spent, by kind: as the job will use it, on a small scale.

The contract's own checks are used where they are quick. Each trial raises what the plug-in raises, or
`ContractViolation` where it answers what no stage could go on with.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from nas.admission import can_train
from nas.plugins import registry
from nas.spec import JobSpec, PluginRef
from nas.streams import stream
from searchspaces import Architecture, ContractViolation, TrainingDiverged

if TYPE_CHECKING:
    from nas.datasets import Dataset
    from nas.evaluators import Evaluator, Outcome, Request
    from nas.workbench import Workbench

_SAMPLES = 4
_EVALUATIONS = 24  # enough for a beginning of a quarter, and for what a searcher does when it has learnt
_LEARNED = 12
_BATCH = 8
_MEASURED = 8
_SECONDS = 30.0
"""How long an evaluator is tried: what takes longer for one network has shown by then that it works."""


def _try_space(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.testing import check_pass, check_reading

    space = bench.whole
    check_reading(space, seed=spec.seed, samples=_SAMPLES)
    if not can_train(spec):
        return
    check_pass(space.reduced(), space.extremes().smallest, bench.dataset.num_classes)
    if spec.deliver.networks:
        _try_export(spec, bench)


def _try_export(spec: JobSpec, bench: Workbench) -> None:
    """Write the smallest network as a delivery does, hours later."""
    from nas.export import write_formats

    dataset, network = bench.dataset, bench.space.build(bench.space.extremes().smallest, seed=spec.seed)
    with tempfile.TemporaryDirectory() as folder:
        write_formats(
            network.eval(),
            dataset.valid.images[:_BATCH],
            Path(folder),
            formats=spec.deliver.formats,
            mean=dataset.mean,
            std=dataset.std,
            class_names=dataset.class_names,
            card={},
        )


def _try_proxy(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.scoring import is_scored
    from nas.stages._score import scored_space, scoring_context
    from predictors.zerocost import score_architecture

    if not is_scored(ref):
        return
    space, context = scored_space(bench), scoring_context(bench)
    proxy = registry("proxies")[ref.name](ref.config)
    for architecture in bench.space.extremes():
        found = score_architecture(space, architecture, {ref.name: proxy}, context)[ref.name]
        if found.is_fault:
            raise ContractViolation(f"a network has a score, or ProxyUndefined says why; got {found.error}.")
        if found.layers and not registry("proxies")[ref.name].flags["layers"]:
            raise ContractViolation("a proxy that gives statistics of layers has the flag layers.")


def _try_searcher(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.searchers import within
    from nas.testing import check_searcher

    plugin, quick = registry("searchers")[ref.name], {"with_few": False, "to_the_end": False}
    config = within(ref, _EVALUATIONS).config
    check_searcher(plugin, bench.space, config, evaluations=_EVALUATIONS, **quick)


def _try_predictor(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    import numpy as np

    from predictors.encoding import SpaceEncoder, every_block

    space, rng = bench.space, stream(spec.seed, "preflight", "predictor")
    drawn = list(dict.fromkeys(space.sample(rng) for _ in range(4 * _LEARNED)))[:_LEARNED]
    plugin = registry("predictors")[ref.name]
    predictor = plugin(ref.config, SpaceEncoder(space, every_block(space)))
    uses = plugin.flags["uses"]
    if len(drawn) < max(2, predictor.min_labels) or (isinstance(uses, tuple) and {"scores", "layers"} >= set(uses)):
        return  # what it reads, or too few of them, are not known yet
    found = predictor.fit(drawn, rng.normal(size=len(drawn)), rng=rng).predict(drawn)
    if not (np.isfinite(found.mean).all() and (found.std >= 0).all()):
        raise ContractViolation("predictions are finite and deviations not negative; got others.")


def _try_recipe(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.training import Setting

    if not can_train(spec):
        return
    space, epochs = bench.measurable, spec.budget.epochs
    setting = Setting.of(space, bench.dataset, spec.supernet, num_epochs=epochs, seed=spec.seed)
    recipe = registry("recipes")[ref.name](ref.config, setting)
    for step in {0, epochs * setting.num_steps_per_epoch - 1}:
        for child in recipe.paths.plan(step):
            if isinstance(child.choice, Architecture):
                space.check(child.choice)
    for epoch in {0, epochs - 1}:
        size = len(recipe.data.order(epoch))
        if size != setting.num_samples:
            raise ContractViolation(
                f"an epoch has as many samples as the data set, {setting.num_samples}; got {size} in epoch {epoch}."
            )
    try:
        _train_a_little(ref, spec, bench)
    except TrainingDiverged:
        return  # of so few samples that says nothing


def _train_a_little(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    """Two epochs of two steps, broken off and gone on with in fresh objects."""
    from nas.training import MemoryCheckpoints, Setting, train_supernet

    dataset = _part_of(bench.dataset, 2 * _BATCH, seed=spec.seed)
    options = spec.supernet.model_copy(update={"batch_size": min(_BATCH, spec.supernet.batch_size)})
    checkpoints = MemoryCheckpoints()
    setting = Setting.of(bench.measurable, dataset, options, num_epochs=2, seed=spec.seed)
    for most in (1, setting.num_steps_per_epoch, None):
        recipe = registry("recipes")[ref.name](ref.config, setting)
        train_supernet(
            recipe.prepare(bench.measurable.supernet(seed=spec.seed)),
            recipe,
            dataset,
            bench.task,
            options,
            num_epochs=setting.num_epochs,
            seed=spec.seed,
            device=bench.device,
            precision=bench.precision,
            checkpoints=checkpoints,
            should_stop=partial(_counted_down, [most]),
        )


def _counted_down(left: list[int | None]) -> bool:
    """Whether the steps that were left are done; None: there is no end."""
    if left[0] is None:
        return False
    left[0] -= 1
    return left[0] < 0


def _part_of(dataset: Dataset, size: int, *, seed: int) -> Dataset:
    """The data set with so many samples of its train split."""
    rows = stream(seed, "preflight", "part").permutation(len(dataset.train))[:size]
    train = dataset.train
    return replace(
        dataset, train=replace(train, images=train.images[rows], labels=train.labels[rows], ids=train.ids[rows])
    )


def _try_cost(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.testing import check_cost

    metric = next((name for name, given in spec.costs.items() if given == ref), ref.name)
    tried = [*bench.space.extremes(), bench.space.sample(stream(spec.seed, "preflight", "priced"))]
    check_cost(bench.costs([metric])[metric], registry("costs")[ref.name].flags, tried)


def _try_task(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.testing import check_task

    if spec.dataset is not None:
        check_task(bench.task, registry("tasks")[ref.name].flags, num_classes=bench.dataset.num_classes)


def _try_dataset(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.testing import check_split

    for name in ("train", "valid"):
        check_split(name, getattr(bench.dataset, name), bench.dataset)
    check_split("test", bench.dataset.load_test(), bench.dataset)
    again = registry("datasets")[ref.name](ref.config)
    if again.digest != bench.dataset.digest:
        raise ContractViolation(
            "made again, the digest is the same, by which a job sees that its data changed; got "
            f"{bench.dataset.digest} and {again.digest}."
        )


def _try_table(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    from nas.testing import check_table

    check_table(registry("tables")[ref.name](ref.config), seed=spec.seed)


# --- evaluators -------------------------------------------------------------------------------------------------------


def _try_evaluator(ref: PluginRef, spec: JobSpec, bench: Workbench) -> None:
    """Make it as the search does and have it measure a few networks, with untrained weights where it reads shared ones.

    A call of two, and one of one; where none of these could be measured, more, until one is.
    """
    from nas.evaluators import Evaluator, digests_of, needs_supernet

    if (first := digests_of(spec, ref)) != (second := digests_of(spec, ref)):
        raise ContractViolation(f"the digest of what did not change is the same; got {first} and {second}.")
    shared = needs_supernet(ref)
    made = registry("evaluators")[ref.name](ref.config, bench.untrained() if shared else bench)
    if not isinstance(made, Evaluator):
        raise ContractViolation(f"create makes an Evaluator; got {type(made).__name__}.")
    rng, until, errors = stream(spec.seed, "preflight", "evaluated"), time.monotonic() + _SECONDS, list[str | None]()
    drawn = list(dict.fromkeys(bench.space.sample(rng) for _ in range(_MEASURED)))
    for number, call in enumerate([drawn[:2], *([architecture] for architecture in drawn[2:])]):
        if time.monotonic() > until or (number > 1 and not all(errors)):
            break
        outcomes = _outcomes(made, _requests(spec, ref, call, number), spec, until=until)
        if outcomes is None:
            return  # it takes long, and works as far as that can be seen
        errors += [_fault(outcome, spec, ref) for outcome in outcomes]
    if errors and all(errors) and not shared:  # untrained weights may be beyond what it can measure
        raise ContractViolation(f"some network can be measured; of {len(errors)} none was, the last: {errors[-1]}.")


def _requests(spec: JobSpec, ref: PluginRef, architectures: Sequence[Architecture], call: int) -> list[Request]:
    """As the search asks, but for the shortest training where the evaluator can spend less."""
    from nas.evaluators import Request, epochs_of, level_of
    from nas.resources import Fidelity

    spends, known = registry("evaluators")[ref.name].flags.get("spends"), epochs_of(_by(spec, ref))
    least = known[0] if len(known) > 1 else 1.0
    resources = {"epochs": least} if isinstance(spends, tuple) and "epochs" in spends else {}
    fidelity = Fidelity(level=level_of(spec, ref), resources=resources)
    return [Request(f"trial-{call}-{i}", architecture, fidelity) for i, architecture in enumerate(architectures)]


def _outcomes(
    evaluator: Evaluator, requests: Sequence[Request], spec: JobSpec, *, until: float
) -> list[Outcome] | None:
    """What a call answers; None where it had to be broken off.

    Raises:
        ContractViolation: it answers what was not asked, twice, or not at all.
    """
    from nas.evaluators import EvaluationContext, Outcome
    from nas.testing import Devices
    from nas.training import MemoryCheckpoints

    context = EvaluationContext(
        seed=spec.seed,
        should_stop=lambda: time.monotonic() > until,
        checkpoints=MemoryCheckpoints(),
        exchange=Devices(),
    )
    outcomes = list[Outcome]()
    with _broken_off(until - time.monotonic() + _SECONDS) as is_over:
        outcomes.extend(evaluator.evaluate(requests, context))
    if is_over:
        return None
    if wrong := [type(outcome).__name__ for outcome in outcomes if not isinstance(outcome, Outcome)]:
        raise ContractViolation(f"evaluate gives outcomes; got {wrong[0]}.")
    answered, asked = [outcome.evaluation_id for outcome in outcomes], {r.evaluation_id for r in requests}
    is_whole = set(answered) == asked or time.monotonic() > until
    if len(set(answered)) < len(answered) or not is_whole or not asked.issuperset(answered):
        raise ContractViolation(f"every request is answered once; of {sorted(asked)} it answered {answered}.")
    return outcomes


def _fault(outcome: Outcome, spec: JobSpec, ref: PluginRef) -> str | None:
    """Why an outcome is a failure of its evaluation; None where it is none.

    Raises:
        ContractViolation: it is measured, but not what the job needs, so that no evaluation would count.
    """
    from nas.evaluators import level_of, metrics_of, writable

    outcome, level = writable(outcome), level_of(spec, ref)
    if outcome.error:
        return outcome.error
    levels = {m.fidelity.level for m in outcome.measurements} - {"cost", "proxy", level}
    if levels:
        raise ContractViolation(f"what is asked for at level {level} is measured there; got {', '.join(levels)}.")
    named = {*spec.objectives, *(bound.metric for bound in spec.bounds())}
    promised = {metric for metric, at in metrics_of(_by(spec, ref)).items() if at == level}
    measured = {m.metric for m in outcome.measurements}
    if missing := (named & promised) - measured:
        raise ContractViolation(
            f"the metrics that it says it measures are measured; got {', '.join(sorted(measured)) or 'none'}, without "
            f"{', '.join(sorted(missing))}."
        )
    return None


def _by(spec: JobSpec, ref: PluginRef) -> JobSpec:
    """The spec with this evaluator: that of an audit is asked what that of a search is."""
    return spec.model_copy(update={"evaluator": ref})


@contextmanager
def _broken_off(seconds: float) -> Iterator[list[bool]]:
    """Ends what runs in it after so long; the list is not empty when it did. In the main thread of a process only."""
    is_over: list[bool] = []

    def ring(number: int, frame: FrameType | None) -> None:
        is_over.append(True)
        raise KeyboardInterrupt  # which no plug-in catches by `except Exception`

    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield is_over  # should_stop has to do, and the limits of the process
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield is_over
    except KeyboardInterrupt:
        if not is_over:
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


TRIALS: Mapping[str, Callable[[PluginRef, JobSpec, Any], None]] = {
    "spaces": _try_space,
    "proxies": _try_proxy,
    "searchers": _try_searcher,
    "predictors": _try_predictor,
    "recipes": _try_recipe,
    "costs": _try_cost,
    "tasks": _try_task,
    "datasets": _try_dataset,
    "evaluators": _try_evaluator,
    "tables": _try_table,
}
