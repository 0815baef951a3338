"""SUPERNET: train the shared weights, or take those of a job that trained the same before."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nas.evaluators import needs_supernet
from nas.ports import Control, JobView
from nas.resources import JsonObject, Phase, SupernetOrigin, UnitPlan
from nas.spec import JobSpec
from nas.stages._context import UnitContext
from nas.stages._keys import SupernetKey, output_key
from nas.stages._pacing import Pace
from nas.streams import stream_seed
from searchspaces import NotFound

if TYPE_CHECKING:
    from nas.training import EpochReport, TrainingSummary
    from searchspaces import Supernet

_FILE = "supernet.safetensors"
_NAME = "supernet"
_BEGUN = "begun"  # the checkpoint that says what the training was begun with


class SupernetStage:
    """One unit; none when the evaluator needs no shared weights."""

    def plan(self, spec: JobSpec, view: JobView) -> list[UnitPlan]:
        return [UnitPlan(key="supernet")] if needs_supernet(spec.evaluator) else []

    def run(self, context: UnitContext) -> JsonObject:
        result = self._run(context)
        context.journal.plan(epochs=result["epochs"], precision=context.bench.precision)
        return result

    def _run(self, context: UnitContext) -> JsonObject:
        spec, plan = context.spec, context.job.plan
        promises_time = plan is not None and plan.promises == "time"
        follows = promises_time or (plan is not None and plan.fixed and plan.epochs)
        epochs = spec.budget.epochs if follows else int(context.view.results(Phase.PREFLIGHT)[-1]["epochs"])
        if spec.supernet.from_job:
            known = context.view.find_output(Phase.SUPERNET, job_id=spec.supernet.from_job)
            if known is None:
                raise NotFound(f"job {spec.supernet.from_job} has no trained supernet; name one that has.")
            return self._reuse(context, known)
        key = _agreed(context, output_key(spec, context.bench, epochs))
        may_reuse = spec.reuse == "auto" and not key.changed
        last = key.longest if promises_time else key.text  # a job that promises time takes any that is as long
        known = context.view.find_output(Phase.SUPERNET, output_key=key.text, last_key=last) if may_reuse else None
        return self._reuse(context, known) if known else self._train(context, epochs, key)

    def _reuse(self, context: UnitContext, known: JsonObject) -> JsonObject:
        import torch

        origin = SupernetOrigin(
            job_id=known["trained_by"],
            taken_over=True,
            trained_at=known.get("trained_at"),
            torch=known.get("torch"),
            torch_here=str(torch.__version__),
            epochs=known["epochs"],
        )
        # The job's own from now on: that of the other job goes when it is deleted.
        file = context.artifacts.path(known["artifact_id"])
        context.artifacts.put(file, kind="supernet", name=_FILE, meta={"output_key": known.get("output_key")})
        message = f"{origin.words}; no training needed"
        context.journal.report(origin)
        context.journal.event("log", {"level": "info", "message": message})
        context.journal.progress(phase=Phase.SUPERNET, fraction=1.0, message=message)
        return known

    def _train(self, context: UnitContext, epochs: int, key: SupernetKey) -> JsonObject:
        import torch

        from nas.training import code_version
        from nas.workbench import save_supernet

        supernet, summary, key = _trained(context, epochs, key)
        if not summary.finished and context.control() is not Control.STOP:
            raise context.leave()
        for note in summary.notes:
            context.journal.event("log", {"level": "warning", "message": note})
        file = context.scratch / _FILE
        save_supernet(supernet, file)
        may_share = summary.finished and not key.changed
        meta: JsonObject = {"output_key": key.text} if may_share else {}
        artifact = context.artifacts.put(file, kind="supernet", name=_FILE, meta=meta)
        origin = SupernetOrigin(
            job_id=context.job.job_id,
            taken_over=False,
            trained_at=datetime.now(UTC),
            torch=str(torch.__version__),
            epochs=summary.epochs,
        )
        context.journal.report(origin)
        return {
            **meta,
            "artifact_id": artifact.artifact_id,
            "trained_by": context.job.job_id,
            "trained_at": origin.model_dump(mode="json")["trained_at"],
            "torch": origin.torch,
            "epochs": summary.epochs,
            "steps": summary.steps,
            "loss": summary.losses[-1] if summary.losses else None,
            "edits": list(summary.edits),
            "code": code_version(),
        }


def _trained(context: UnitContext, epochs: int, key: SupernetKey) -> tuple[Supernet, TrainingSummary, SupernetKey]:
    """A supernet after its training, and its key; begun once more where it takes another time than was planned."""
    from nas.recipes import REGISTRY as RECIPES
    from nas.training import Setting, train_supernet

    spec, bench = context.spec, context.bench
    is_open = context.checkpoints.load(_NAME) is None  # a training that is taken up again keeps its length
    while True:
        setting = Setting.of(bench.space, bench.dataset, spec.supernet, num_epochs=epochs, seed=spec.seed)
        recipe = RECIPES[spec.supernet.recipe.name](spec.supernet.recipe.config, setting)
        supernet = recipe.prepare(bench.space.supernet(seed=stream_seed(spec.seed, "supernet") % 2**32))
        pace = Pace(context, setting.num_steps_per_epoch, is_open=is_open)
        summary = train_supernet(
            supernet,
            recipe,
            bench.dataset,
            bench.task,
            spec.supernet,
            num_epochs=epochs,
            seed=spec.seed,
            device=bench.device,
            precision=bench.precision,
            checkpoints=context.checkpoints,
            checkpoint_name=_NAME,
            should_stop=pace,
            on_step=_StepTeller(context, epochs * setting.num_steps_per_epoch),
            on_epoch=lambda report: _tell(context, report),
        )
        if pace.epochs is None:
            if summary.finished:
                pace.end()
            break
        context.checkpoints.drop(_NAME)
        epochs, is_open = pace.epochs, False
        key = key._replace(epochs=epochs)
    return supernet, summary, key


def _agreed(context: UnitContext, key: SupernetKey) -> SupernetKey:
    """The key, with what was changed since an attempt before began the training, or since this worker loaded it."""
    begun = context.checkpoints.load(_BEGUN)
    if begun is None:
        context.checkpoints.save(_BEGUN, {}, {"family": key.family})
    elif begun.meta["family"] != key.family:
        key = key._replace(changed=(*key.changed, "what the training was begun with"))
    if key.changed:
        named = ", ".join(key.changed[:3]) + (" and others" if len(key.changed) > 3 else "")
        message = f"{named} changed meanwhile: no other job takes this supernet over; restart the workers"
        context.journal.event("log", {"level": "warning", "message": message})
    return key


def _tell(context: UnitContext, report: EpochReport) -> None:
    context.journal.event("epoch", report.to_json())
    for edit in report.edits:
        context.journal.event("log", {"level": "info", "message": edit})


class _StepTeller:
    """Progress of the training, with the time left from the speed so far."""

    def __init__(self, context: UnitContext, num_steps: int) -> None:
        self.context, self.num_steps = context, num_steps
        self.began: tuple[int, float] | None = None
        self.epochs_told = context.journal.job().progress.epochs_done

    def __call__(self, step: int, epoch: int, epochs: int) -> None:
        now = time.monotonic()
        if self.began is None:
            self.began = (step - 1, now)
        first, since = self.began
        left = (self.num_steps - step) * (now - since) / (step - first)
        if epoch > self.epochs_told:
            self.context.journal.spend(epochs=epoch - self.epochs_told)
            self.epochs_told = epoch
        self.context.journal.progress(
            phase=Phase.SUPERNET,
            fraction=step / self.num_steps,
            message="training the shared weights",
            seconds_left=left + self.context.seconds_after(Phase.SUPERNET),
            epochs_done=epoch,
            epochs_total=epochs,
        )
