"""How far a ranking can be trusted: every ranker against true values, beside the baselines that cost nothing.

Where the true values come from does not matter: networks that a job trained (see the AUDIT stage), or a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nas.reports import (
    Comparison,
    Correlation,
    NearFront,
    Population,
    PopulationName,
    Provenance,
    TopNetworks,
    TrustReport,
)
from nas.streams import stream

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from predictors.ranking import Agreement, Design

    Floats = npt.NDArray[np.float64]

ENOUGH = 30
"""Fewer true values than this say nothing about a ranking."""
_TOP_DECILE = 100
_CHANCE = "random"
_WHERE: dict[PopulationName, str] = {"space": "in the whole space", "near_front": "near the front", "audited": ""}


class Stratum(NamedTuple):
    """One of the parts of a population that networks are drawn from, each by itself."""

    number: int
    size: int


class Drawn(NamedTuple):
    """How a network came into the audit: out of which stratum of which population; None where it did not."""

    space: Stratum | None = None
    near_front: Stratum | None = None


class _Sample(NamedTuple):
    """The rows of the audited networks that were drawn from a population, and how; no design: all of them alike."""

    name: PopulationName
    rows: npt.NDArray[np.intp]
    design: Design | None


def trust_report(
    truth: Floats,
    rankers: Mapping[str, Floats],
    free: Mapping[str, Floats],
    *,
    seed: int,
    provenance: Provenance,
    drawn: Sequence[Drawn] | None = None,
    bin_width: float = 0.001,
    baseline: str = "live_flops",
) -> TrustReport:
    """The report over architectures whose true value is known.

    An audit draws some networks from the whole space and some near the front. Their mix is neither: its tau may lie
    far above that of the space. So each figure is of one population, from the networks that were drawn from it.

    Args:
        truth: the true values, `n`, larger is better.
        rankers: what is examined, name -> scores, `n` each, larger is better; the first is what the job ranks by.
        free: the baselines that need no training (costs as they are: larger networks are taken to be better), `n` each.
        seed: of the bootstrap, of ties, and of the baseline `random`.
        drawn: how each came into the audit, `n`; None: the figures are those of the `n` architectures as they are.
        baseline: the free one that every comparison is made with, and that partial tau is given. Published supernets
            rank worse than live-edge FLOPs.
        bin_width: true values that round to the same multiple of it are ties in sparse tau; 0.001 for fractions.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    baselines = {**free, _CHANCE: stream(seed, "trust", _CHANCE).random(len(truth))}
    samples = _samples(len(truth), drawn)
    given = free.get(baseline)
    correlations = tuple(
        _correlation(name, truth, scores, samples, given=given, seed=seed, bin_width=bin_width).model_copy(
            update={"is_free": name in baselines}
        )
        for name, scores in {**rankers, **baselines}.items()
    )
    comparisons = tuple(
        comparison
        for sample in samples
        for comparison in _comparisons(truth, rankers, free, sample, baseline=baseline, seed=seed)
    )
    return TrustReport(
        audited=len(truth),
        verdict=_verdict(len(truth), samples, comparisons),
        populations=tuple(_population(sample, provenance) for sample in samples),
        truth=provenance.truth,
        rankers=correlations,
        comparisons=comparisons,
        best=_best(correlations),
        notes=_notes(len(samples[0].rows)),
        provenance=provenance,
    )


def _samples(n: int, drawn: Sequence[Drawn] | None) -> tuple[_Sample, ...]:
    """What can be said of: the space and the networks near the front, else the audited networks themselves."""
    import numpy as np

    from predictors.ranking import Design

    names: tuple[tuple[PopulationName, int], ...] = (("space", 0), ("near_front", 1))
    found = []
    for name, field in names:
        strata = {row: stratum for row, how in enumerate(drawn or ()) if (stratum := how[field]) is not None}
        if strata:
            design = Design(tuple(s.number for s in strata.values()), tuple(s.size for s in strata.values()))
            found.append(_Sample(name, np.array(list(strata)), design))
    return tuple(found) or (_Sample("audited", np.arange(n), None),)


def _population(sample: _Sample, provenance: Provenance) -> Population:
    rule = provenance.populations.get(sample.name, provenance.rule)
    return Population(name=sample.name, networks=len(sample.rows), rule=rule)


def _best(correlations: Sequence[Correlation]) -> str | None:
    """The ranker with the highest lower end of its interval."""
    ends = {c.ranker: c.interval[0] for c in correlations if c.interval is not None and c.ranker != _CHANCE}
    return max(ends, key=ends.__getitem__) if ends else None


def _correlation(
    name: str,
    truth: Floats,
    scores: Floats,
    samples: Sequence[_Sample],
    *,
    given: Floats | None,
    seed: int,
    bin_width: float,
) -> Correlation:
    """Agreement of one ranker in the first population, beside that near the front; its best among all."""
    from predictors.ranking import agreement, kendall, kendall_interval

    first, *others = samples
    rows = first.rows
    found = agreement(
        truth[rows],
        scores[rows],
        given=None if given is None else given[rows],
        rng=stream(seed, "trust", name),
        bin_width=bin_width,
        design=first.design,
    )
    near = next((s for s in others if s.name == "near_front"), None)
    near_front = near and NearFront(
        networks=len(near.rows),
        kendall=kendall(truth[near.rows], scores[near.rows], design=near.design),
        interval=kendall_interval(
            truth[near.rows], scores[near.rows], rng=stream(seed, "trust", name, near.name), design=near.design
        ),
    )
    all_of_them = found if len(rows) == len(truth) else agreement(truth, scores, rng=stream(seed, "trust", name, "top"))
    return Correlation(
        ranker=name,
        kendall=found.kendall,
        interval=found.interval,
        near_front=near_front,
        sparse_kendall=found.sparse_kendall,
        spearman=found.spearman,
        kendall_top_decile=found.kendall_top_decile,
        partial_kendall=found.partial_kendall,
        partial_interval=found.partial_interval,
        top=_top(all_of_them),
    )


def _top(found: Agreement) -> TopNetworks | None:
    if found.top is None or found.regret is None:
        return None
    return TopNetworks(
        k=found.k,
        mean=found.top.mean,
        best=found.top.best,
        regret=found.regret,
        beats_random=found.beats_random,
        relative_improvement=found.relative_improvement,
    )


def _comparisons(
    truth: Floats,
    rankers: Mapping[str, Floats],
    free: Mapping[str, Floats],
    sample: _Sample,
    *,
    baseline: str,
    seed: int,
) -> list[Comparison]:
    """The first ranker against the baseline, and against the best free one when that is another."""
    from predictors.ranking import kendall, kendall_difference_interval

    used, rows, design = next(iter(rankers), None), sample.rows, sample.design
    scored = {**free, **({used: rankers[used]} if used is not None else {})}
    found = {name: kendall(truth[rows], scores[rows], design=design) for name, scores in scored.items()}
    taus = {name: tau for name, tau in found.items() if tau is not None}
    known = [name for name in free if name in taus]
    if used is None or used not in taus or not known:
        return []
    chosen = dict.fromkeys([baseline] * (baseline in known) + [max(known, key=taus.__getitem__)])
    return [
        Comparison(
            ranker=used,
            baseline=name,
            population=sample.name,
            ranker_kendall=taus[used],
            baseline_kendall=taus[name],
            difference=taus[used] - taus[name],
            interval=kendall_difference_interval(
                truth[rows],
                rankers[used][rows],
                free[name][rows],
                rng=stream(seed, "trust", "difference", sample.name, name),
                design=design,
            ),
        )
        for name in chosen
    ]


def _verdict(num_networks: int, samples: Sequence[_Sample], comparisons: Sequence[Comparison]) -> str:
    if num_networks < ENOUGH:
        return (
            f"too few: {num_networks} audited networks, {ENOUGH} are needed to say how far the ranking can be trusted"
        )
    if not comparisons:
        return "undefined: the true values, or the scores, do not differ"
    said = []
    for sample in samples:
        mine = "; ".join(_compared(c) for c in comparisons if c.population == sample.name)
        where = f"{_WHERE[sample.name]} ({len(sample.rows)} networks): " if _WHERE[sample.name] else ""
        said.append(f"{where}{mine or 'undefined, as the true values, or the scores, do not differ'}")
    return f"{'; '.join(said)} (Kendall tau on {num_networks} networks, 95 % intervals of the paired difference)"


def _compared(comparison: Comparison) -> str:
    how = {
        "better": "better than",
        "worse": "worse than",
        "undecided": "neither clearly better nor worse than",
    }[comparison.outcome]
    ours, theirs = comparison.ranker_kendall, comparison.baseline_kendall
    said = f"{comparison.ranker} ranks {how} counting {comparison.baseline}: {ours:.2f} against {theirs:.2f}"
    if comparison.interval is None:
        return f"{said}, by how much is not known"
    low, high = comparison.interval
    return f"{said}, difference {low:+.2f} to {high:+.2f}"


def _notes(num_networks: int) -> tuple[str, ...]:
    if num_networks >= _TOP_DECILE:
        return ()
    return (f"no tau in the top decile: it needs {_TOP_DECILE} networks, there are {num_networks}",)
