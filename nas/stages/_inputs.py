"""What a job stands on: its data and the files that its settings name, as digests.

Preflight keeps them with its result, after reading whatever a later stage will read, so that nothing is spent on a job
that would end there. They are looked at again whenever a unit of work begins: half the candidates of a job that was
paused must not come of other data than the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from nas.admission import can_train
from nas.datasets import digest_of_splits
from nas.evaluators import REGISTRY as EVALUATORS
from nas.evaluators import digests_of, space_of
from nas.paths import named_files
from nas.resources import Phase
from nas.sources import content_digest
from nas.spec import JobSpec, PluginRef
from nas.streams import stream
from searchspaces import ConfigError, DataError, InfeasibleSpace, InputsChanged, Violation

if TYPE_CHECKING:
    from nas.stages._context import UnitContext
    from nas.workbench import Workbench

INPUTS = "inputs"
"""The key of the digests in the result of the preflight."""

_DRAWN = 200

_WAY_OUT = "put the old content back and resume the job, or submit it again for the new one"
_DATA, _TEST = "dataset", "dataset's test split"


def inputs_of(spec: JobSpec, bench: Workbench, *, with_test: bool = True) -> dict[str, str]:
    """What the job reads from elsewhere -> SHA-256 of what it says now.

    Args:
        with_test: whether the test split is read, too.

    Raises:
        DataError: some of it is missing or broken.
        ConfigError: what would measure the audit does not fit.
    """
    found = dict[str, str]()
    if spec.dataset is not None:
        found[_DATA] = bench.dataset.digest
        _refuse_single_samples(spec, bench)
        if with_test:
            found[_TEST] = digest_of_splits(bench.dataset.load_test())
    for field, ref in _evaluators(spec):
        EVALUATORS[ref.name](ref.config, bench)
        found |= {f"{field}: {name}": digest for name, digest in digests_of(spec, ref).items()}
    known_otherwise = ("dataset", *(field for field, ref in _evaluators(spec) if digests_of(spec, ref)))
    for field, path in named_files(spec):
        if not field.startswith(known_otherwise):
            found[f"{field}: {path}"] = content_digest(path)
    return found


def audit_gaps(spec: JobSpec, bench: Workbench) -> list[str]:
    """A note where what measures the audit knows but a part of the space that is searched.

    Raises:
        ConfigError: of the architectures that were drawn it knows none, so that the audit would say nothing.
    """
    ref = spec.audit.evaluator
    if ref is None or not spec.audit.networks:
        return []
    measured = space_of(spec.model_copy(update={"evaluator": ref}), bench.space)
    if measured is bench.space:
        return []
    rng = stream(spec.seed, "preflight", "audited")
    drawn = [bench.space.sample(rng) for _ in range(_DRAWN)]
    known = sum(not measured.validate(architecture) for architecture in drawn)
    if not known:
        allowed = f"an evaluator that knows architectures of the search; of {_DRAWN} that were drawn it knows none"
        raise ConfigError([Violation("audit.evaluator", str(ref), allowed)])
    if known == _DRAWN:
        return []
    return [
        f"audit.evaluator, {ref.name}, knows {known} of {_DRAWN} architectures that were drawn; what it does not know "
        "is not audited"
    ]


def refuse_replaced(context: UnitContext, inputs: Mapping[str, str]) -> None:
    """Compare the data with what they were when they were registered, where they are.

    Raises:
        DataError: they are others.
    """
    ref = context.spec.dataset
    known = context.view.registered(ref.name, ref.config) if ref is not None else None
    if known is not None and known.digest is not None and known.digest != inputs[_DATA]:
        raise DataError(
            f"the content of data set {known.name!r} changed since it was registered; put the old files back, or take "
            "the new content with `nas data add --replace`, then submit again."
        )


def refuse_changed(context: UnitContext) -> None:
    """Compare what a unit is about to read with what preflight read.

    Raises:
        InputsChanged: some of it is missing, broken, or another than it was.
    """
    results = context.view.results(Phase.PREFLIGHT)
    known: dict[str, str] = results[-1].get(INPUTS, {}) if results else {}
    if not known:
        return  # preflight itself, or that of an earlier version
    bench = context.bench
    try:
        now = inputs_of(context.spec, bench, with_test=context.unit.stage is Phase.DELIVER)
    except (DataError, ConfigError, InfeasibleSpace) as error:  # preflight read it, so somebody changed it since
        raise InputsChanged(f"{error} It was read when this job began; {_WAY_OUT}.") from error
    changed = [name for name, digest in now.items() if known.get(name, digest) != digest]
    if changed:
        raise InputsChanged(
            f"{' and '.join(changed)} changed since this job began, and what it found stands on the old content; "
            f"{_WAY_OUT}."
        )


def _refuse_single_samples(spec: JobSpec, bench: Workbench) -> None:
    """A network that ends at one pixel cannot normalise a batch of one, whatever the batch size."""
    parts = {"train": len(bench.dataset.train), "valid": len(bench.dataset.valid)}
    single = [name for name, size in parts.items() if size < 2]
    if single and can_train(spec):
        raise DataError(
            f"there is one sample in {' and in '.join(single)}, and batch normalisation needs two at a time; "
            "give more, or another split."
        )


def _evaluators(spec: JobSpec) -> Iterator[tuple[str, PluginRef]]:
    yield "evaluator", spec.evaluator
    if spec.audit.evaluator is not None:
        yield "audit.evaluator", spec.audit.evaluator
