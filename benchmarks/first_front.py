"""The first search, end to end, through the real server and worker over HTTP, and the search itself against chance.

Runs examples/digits.yaml with three seeds. Then evaluates all architectures of the space on the last supernet and
replays the job's searcher against random sampling on those numbers, over 20 search seeds: the ratio of mean
hypervolumes, measured from (median accuracy, largest cost).

    python -m benchmarks.first_front [--json] [--quick]
"""

from __future__ import annotations

import statistics
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from api.serving import running
from api.settings import Settings
from benchmarks._data import ROOT
from benchmarks._report import Value, arguments, report
from nas.client import Client
from nas.evaluators import REGISTRY as EVALUATORS
from nas.evaluators import EvaluationContext, Request
from nas.history import History, Record
from nas.pareto import hypervolume, hypervolume_reference, nondominated
from nas.resources import EvaluationState, Fidelity, Job, Objective
from nas.searchers import REGISTRY as SEARCHERS
from nas.spec import JobSpec, PluginRef
from nas.streams import stream
from nas.workbench import Workbench
from searchspaces import Architecture, SearchSpace

SPEC = ROOT / "examples" / "digits.yaml"
QUERIES = 200


@dataclass(frozen=True)
class Scale:
    """How much is run: all of it, or what ends within a minute."""

    seeds: tuple[int, ...]
    search_seeds: int
    reference_architectures: int | None
    overrides: Mapping[str, object]


FULL = Scale(seeds=(0, 1, 2), search_seeds=20, reference_architectures=None, overrides={})
QUICK = Scale(
    seeds=(0,),
    search_seeds=2,
    reference_architectures=200,
    overrides={
        "budget": {"evaluations": 200, "epochs": 20},
        "audit": {"networks": 4, "training": {"epochs": 2}},
        "deliver": {"networks": 1, "training": {"epochs": 10}},
    },
)


def main() -> None:
    """Print the figures."""
    options = arguments(__doc__)
    scale = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="first-front-") as folder:
        settings = Settings.load(folder=Path(folder), port=0)
        with running(settings) as url, Client(url) as client:
            runs = [run_job(client, seed, scale, Path(folder)) for seed in scale.seeds]
            supernet = download_supernet(client, runs[-1].job, Path(folder))
        figures = summary(runs)
        ratio = searcher_over_random(runs[-1].job, supernet, scale)
    report({**figures, "hypervolume_over_random": ratio}, as_json=options.json)


# --- the job, as a user runs it --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What one job showed."""

    job: Job
    seconds: float
    candidates: int
    cost_levels: int
    test_accuracy: float
    export_difference: float


def run_job(client: Client, seed: int, scale: Scale, folder: Path) -> Run:
    """Submit the example with a seed, wait, and look at what came out."""
    spec = {**yaml.safe_load(SPEC.read_text(encoding="utf-8")), **scale.overrides, "seed": seed}
    handle = client.submit(spec)
    job = handle.wait(progress=False, raise_on_failure=True)
    assert job.finished_at is not None
    costs = [objective.key for objective in job.objectives if objective.level == "cost"]
    points = handle.pareto().points
    best = job.deliveries[0]
    download = folder / f"delivered-{seed}"
    for name in best.parity:
        client.download(best.artifacts[name], download / f"{name}.zip")
    return Run(
        job=job,
        seconds=(job.finished_at - job.created_at).total_seconds(),
        candidates=sum(1 for _ in handle.candidates()),
        cost_levels=min(len({point.values[key] for point in points}) for key in costs),
        test_accuracy=best.metrics["test_accuracy"],
        export_difference=export_difference(download, job),
    )


def export_difference(folder: Path, job: Job) -> float:
    """Largest difference of logits between ONNX, torch.export and the PyTorch source, over the whole test split."""
    import importlib.util

    import onnxruntime
    import torch

    for file in folder.glob("*.zip"):
        zipfile.ZipFile(file).extractall(folder / file.stem)
    images = Workbench(JobSpec.from_mapping(job.spec)).dataset.load_test().images.astype(np.float32) / 255
    source = next((folder / "pytorch").rglob("model.py"))
    module_spec = importlib.util.spec_from_file_location(f"delivered_{folder.name}", source)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    with torch.inference_mode():
        expected = module.load(source.parent / "weights.safetensors")(torch.from_numpy(images)).numpy()
        exported = torch.export.load(str(next((folder / "torch_export").rglob("*.pt2")))).module()
        from_export = exported(torch.from_numpy(images)).numpy()
    session = onnxruntime.InferenceSession(str(next((folder / "onnx").rglob("*.onnx"))))
    from_onnx = session.run(None, {session.get_inputs()[0].name: images})[0]
    return float(max(np.abs(from_onnx - expected).max(), np.abs(from_export - expected).max()))


def download_supernet(client: Client, job: Job, folder: Path) -> Path:
    """The trained supernet of a job."""
    artifact = next(a for a in client.job(job.job_id).artifacts() if a.kind == "supernet")
    return client.download(artifact.artifact_id, folder / "supernet.safetensors")


def summary(runs: Sequence[Run]) -> dict[str, Value]:
    """The figures of the jobs: the worst of each, means where a mean is asked for."""
    reports = [run.job.trust for run in runs if run.job.trust]
    taus = [[r.kendall for r in report.rankers if r.kendall is not None][:1] for report in reports]
    free: dict[str, list[float]] = {}
    for trust in reports:
        for ranker in trust.rankers[1:]:
            if ranker.kendall is not None:
                free.setdefault(ranker.ranker, []).append(ranker.kendall)
    return {
        "seconds": max(run.seconds for run in runs),
        "candidates": min(run.candidates for run in runs),
        "cost_levels": min(run.cost_levels for run in runs),
        "test_accuracy": statistics.fmean(run.test_accuracy for run in runs),
        "export_max_difference": max(run.export_difference for run in runs),
        "tau": statistics.fmean(tau for found in taus for tau in found) if any(taus) else None,
        "tau_free_baselines": {name: statistics.fmean(values) for name, values in free.items()},
        "audited": min(report.audited for report in reports) if reports else 0,
    }


# --- the searcher against chance, on the numbers of the real supernet ------------------------------------------------


def searcher_over_random(job: Job, supernet: Path, scale: Scale) -> float:
    """Ratio of mean hypervolumes at 200 evaluations: the job's searcher over random sampling."""
    spec = JobSpec.from_mapping(job.spec)
    scores = Scores(Workbench(spec, supernet_file=supernet), spec, job.objectives)
    space = scores.bench.space
    architectures = list(space.iterate())
    if scale.reference_architectures:
        chosen = stream(spec.seed, "benchmark").permutation(len(architectures))[: scale.reference_architectures]
        architectures = [architectures[i] for i in chosen]
    signs = np.array([1.0 if o.direction == "min" else -1.0 for o in job.objectives])
    reference = hypervolume_reference(np.array(scores.of(architectures)) * signs, job.objectives)
    means = {}
    for name, ref in (("searcher", spec.searcher), ("random", PluginRef(name="random"))):
        found = [replay(ref, space, job.objectives, scores, spec.batch, seed) for seed in range(scale.search_seeds)]
        volumes = [hypervolume(points[nondominated(points)], reference) for points in (f * signs for f in found)]
        means[name] = statistics.fmean(volumes)
        print(f"# {name} ({ref.name}): hypervolume {means[name]:.6g}, spread {statistics.stdev(volumes):.2g}")
    return means["searcher"] / means["random"]


class Scores:
    """Objective values of architectures on the trained supernet, by the job's own evaluator and costs; each once."""

    def __init__(self, bench: Workbench, spec: JobSpec, objectives: Sequence[Objective]) -> None:
        plugin = EVALUATORS[spec.evaluator.name]
        self.bench, self.seed, self.objectives = bench, spec.seed, objectives
        self._fidelity = Fidelity.model_validate({"level": plugin.flags["level"]})
        self._evaluator = plugin(spec.evaluator.config, bench)
        self._costs = bench.costs([o.metric for o in objectives if o.level == "cost"])
        self._known: dict[str, tuple[float, ...]] = {}

    def of(self, architectures: Sequence[Architecture]) -> list[tuple[float, ...]]:
        """One number per objective for each architecture."""
        missing = {a.text: a for a in architectures if a.text not in self._known}
        requests = [Request(text, a, self._fidelity) for text, a in missing.items()]
        for outcome in self._evaluator.evaluate(requests, EvaluationContext(seed=self.seed)):
            values = {m.metric: m.value for m in outcome.measurements}
            values |= {name: cost.measure(missing[outcome.evaluation_id]).value for name, cost in self._costs.items()}
            self._known[outcome.evaluation_id] = tuple(values[o.metric] for o in self.objectives)
        return [self._known[a.text] for a in architectures]


def replay(
    ref: PluginRef, space: SearchSpace, objectives: Sequence[Objective], scores: Scores, batch: int, seed: int
) -> np.ndarray:
    """`evaluations x objectives` that a searcher finds in 200 evaluations."""
    history = History(objectives)
    searcher = SEARCHERS[ref.name](ref.config, space, objectives)
    found: list[tuple[float, ...]] = []
    while len(found) < QUERIES:
        rng = stream(seed, "searcher", history.num_proposals)
        proposals = searcher.ask(history, min(batch, QUERIES - len(found)), rng)
        architectures = [space.parse(proposal.text) for proposal in proposals]
        for proposal, architecture, values in zip(proposals, architectures, scores.of(architectures), strict=True):
            number = history.num_proposals
            history.add(Record(number, architecture, EvaluationState.FINISHED, values, memo=proposal.memo))
            found.append(values)
    return np.array(found)


if __name__ == "__main__":
    main()
