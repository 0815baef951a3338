"""How far a ranking can be trusted: every ranker against true values, beside the baselines that cost nothing.

Where the true values come from does not matter: networks that a job trained (see the AUDIT stage), or a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nas.resources import Comparison, Correlation, Provenance, TopNetworks, TrustReport
from nas.streams import stream

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from predictors.ranking import Agreement

    Floats = npt.NDArray[np.float64]

ENOUGH = 30
"""Fewer true values than this say nothing about a ranking."""
_TOP_DECILE = 100
_CHANCE = "random"


def trust_report(
    truth: Floats,
    rankers: Mapping[str, Floats],
    free: Mapping[str, Floats],
    *,
    seed: int,
    provenance: Provenance,
    bin_width: float = 0.001,
    baseline: str = "live_flops",
) -> TrustReport:
    """The report over architectures whose true value is known.

    Args:
        truth: the true values, `n`, larger is better.
        rankers: what is examined, name -> scores, `n` each, larger is better; the first is what the job ranks by.
        free: the baselines that need no training (costs as they are: larger networks are taken to be better), `n` each.
        seed: of the bootstrap, of ties, and of the baseline `random`.
        baseline: the free one that every comparison is made with, and that partial tau is given. Published supernets
            rank worse than live-edge FLOPs.
        bin_width: true values that round to the same multiple of it are ties in sparse tau; 0.001 for fractions.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    from predictors.ranking import agreement

    baselines = {**free, _CHANCE: stream(seed, "trust", _CHANCE).random(len(truth))}
    correlations = tuple(
        _correlation(
            name,
            agreement(truth, scores, given=free.get(baseline), rng=stream(seed, "trust", name), bin_width=bin_width),
            is_free=name in baselines,
        )
        for name, scores in {**rankers, **baselines}.items()
    )
    comparisons = _comparisons(truth, rankers, free, correlations, baseline=baseline, seed=seed)
    return TrustReport(
        audited=len(truth),
        verdict=_verdict(len(truth), correlations, comparisons),
        truth=provenance.truth,
        rankers=correlations,
        comparisons=comparisons,
        best=_best(correlations),
        notes=_notes(len(truth)),
        provenance=provenance,
    )


def _best(correlations: Sequence[Correlation]) -> str | None:
    """The ranker with the highest lower end of its interval."""
    ends = {c.ranker: c.interval[0] for c in correlations if c.interval is not None and c.ranker != _CHANCE}
    return max(ends, key=ends.__getitem__) if ends else None


def _correlation(name: str, found: Agreement, *, is_free: bool) -> Correlation:
    top = None
    if found.top is not None and found.regret is not None:
        top = TopNetworks(
            k=found.k,
            mean=found.top.mean,
            best=found.top.best,
            regret=found.regret,
            beats_random=found.beats_random,
            relative_improvement=found.relative_improvement,
        )
    return Correlation(
        ranker=name,
        kendall=found.kendall,
        interval=found.interval,
        sparse_kendall=found.sparse_kendall,
        spearman=found.spearman,
        kendall_top_decile=found.kendall_top_decile,
        partial_kendall=found.partial_kendall,
        partial_interval=found.partial_interval,
        top=top,
        is_free=is_free,
    )


def _comparisons(
    truth: Floats,
    rankers: Mapping[str, Floats],
    free: Mapping[str, Floats],
    correlations: Sequence[Correlation],
    *,
    baseline: str,
    seed: int,
) -> tuple[Comparison, ...]:
    """The first ranker against the baseline, and against the best free one when that is another."""
    from predictors.ranking import kendall_difference_interval

    taus = {c.ranker: c.kendall for c in correlations if c.kendall is not None}
    used = next(iter(rankers), None)
    known = [name for name in free if name in taus]
    if used is None or used not in taus or not known:
        return ()
    chosen = dict.fromkeys([baseline] * (baseline in known) + [max(known, key=taus.__getitem__)])
    return tuple(
        Comparison(
            ranker=used,
            baseline=name,
            difference=taus[used] - taus[name],
            interval=kendall_difference_interval(
                truth, rankers[used], free[name], rng=stream(seed, "trust", "difference", name)
            ),
        )
        for name in chosen
    )


def _verdict(num_networks: int, correlations: Sequence[Correlation], comparisons: Sequence[Comparison]) -> str:
    if num_networks < ENOUGH:
        return (
            f"too few: {num_networks} audited networks, {ENOUGH} are needed to say how far the ranking can be trusted"
        )
    if not comparisons:
        return "undefined: the true values, or the scores, do not differ"
    taus = {c.ranker: c.kendall for c in correlations if c.kendall is not None}
    said = "; ".join(_compared(comparison, taus) for comparison in comparisons)
    return f"{said} (Kendall tau on {num_networks} networks, 95 % intervals of the paired difference)"


def _compared(comparison: Comparison, taus: Mapping[str, float]) -> str:
    how = {
        "better": "better than",
        "worse": "worse than",
        "undecided": "neither clearly better nor worse than",
    }[comparison.outcome]
    ours, theirs = taus[comparison.ranker], taus[comparison.baseline]
    said = f"{comparison.ranker} ranks {how} counting {comparison.baseline}: {ours:.2f} against {theirs:.2f}"
    if comparison.interval is None:
        return f"{said}, by how much is not known"
    low, high = comparison.interval
    return f"{said}, difference {low:+.2f} to {high:+.2f}"


def _notes(num_networks: int) -> tuple[str, ...]:
    if num_networks >= _TOP_DECILE:
        return ()
    return (f"no tau in the top decile: it needs {_TOP_DECILE} networks, there are {num_networks}",)
