"""The trust report over plain arrays: what it says in words, and its figures on a real table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas.reports import Provenance, TrustReport
from nas.resources import Candidate
from nas.stages._trust import _proxies
from nas.trust import ENOUGH, trust_report
from predictors.costs import REGISTRY as COSTS
from predictors.ranking import agreement, kendall
from searchspaces import REGISTRY as SPACES

PROVENANCE = Provenance(truth="a table", rule="all", context={"bn": "batch", "eval_batch": 512})


def report(
    truth: np.ndarray, used: np.ndarray, live_flops: np.ndarray, *, params: np.ndarray | None = None
) -> TrustReport:
    free = {"live_flops": live_flops} | ({} if params is None else {"params": params})
    return trust_report(truth, {"accuracy@supernet": used}, free, seed=0, provenance=PROVENANCE)


def noisy(truth: np.ndarray, noise: float, seed: int) -> np.ndarray:
    return truth + noise * np.random.default_rng(seed).normal(size=len(truth))


TRUTH = np.random.default_rng(9).normal(0.7, 0.05, size=120)


def test_a_ranker_worse_than_counting_flops_is_said_to_be() -> None:
    found = report(TRUTH, noisy(TRUTH, 0.5, 1), noisy(TRUTH, 0.02, 2))
    assert "accuracy@supernet ranks worse than counting live_flops" in found.verdict
    (only,) = found.comparisons
    assert (only.baseline, only.outcome) == ("live_flops", "worse")
    assert only.interval is not None
    assert only.interval[0] < only.difference < only.interval[1] < 0


def test_a_better_one_too_and_one_that_cannot_be_told_apart() -> None:
    good, middling = noisy(TRUTH, 0.02, 1), noisy(TRUTH, 0.1, 2)
    assert "ranks better than counting live_flops" in report(TRUTH, good, middling).verdict
    assert "neither clearly better nor worse than" in report(TRUTH, middling, noisy(TRUTH, 0.1, 3)).verdict


def test_the_best_free_baseline_is_named_beside_live_flops() -> None:
    found = report(TRUTH, noisy(TRUTH, 0.05, 1), noisy(TRUTH, 0.5, 2), params=noisy(TRUTH, 0.005, 3))
    assert [(c.baseline, c.outcome) for c in found.comparisons] == [("live_flops", "better"), ("params", "worse")]
    assert "better than counting live_flops" in found.verdict
    assert "worse than counting params" in found.verdict


def test_few_networks_are_said_to_be_too_few() -> None:
    few = TRUTH[: ENOUGH - 1]
    found = report(few, few, few)
    assert found.verdict.startswith(f"too few: {ENOUGH - 1} audited networks")
    assert found.rankers[0].kendall == pytest.approx(1.0)
    none = report(few[:0], few[:0], few[:0])
    assert (none.audited, none.comparisons) == (0, ())


def test_a_top_decile_that_is_missing_is_said() -> None:
    assert report(TRUTH, TRUTH, TRUTH).notes == ()
    (note,) = report(TRUTH[:99], TRUTH[:99], TRUTH[:99]).notes
    assert "100 networks" in note


def test_scores_that_do_not_differ_give_no_comparison() -> None:
    found = report(TRUTH, np.ones(120), noisy(TRUTH, 0.1, 1))
    assert found.verdict.startswith("undefined")
    assert found.rankers[0].kendall is None


def test_equal_seeds_give_equal_reports_and_chance_is_beside_them() -> None:
    first, second = (report(TRUTH, noisy(TRUTH, 0.1, 1), noisy(TRUTH, 0.1, 2)) for _ in range(2))
    assert first == second
    assert [(c.ranker, c.is_free) for c in first.rankers] == [
        ("accuracy@supernet", False), ("live_flops", True), ("random", True),
    ]  # fmt: skip
    assert abs(first.rankers[-1].kendall or 0) < 0.2
    assert first.provenance == PROVENANCE
    assert TrustReport.model_validate_json(first.model_dump_json()) == first


def test_on_a_real_table_the_report_gives_the_published_figures(data_folder: Path) -> None:
    """500 of NAS-Bench-201: the spread of tau at that size is 0.024."""
    with np.load(data_folder / "nasbench201.npz", allow_pickle=False) as table:
        texts, truth = table["arch_str"], table["cifar10_test_acc"].astype(float) / 100
        short = table["cifar10_valid_acc_12ep"].astype(float)
    rows = np.random.default_rng(0).choice(15_625, size=500, replace=False)
    space = SPACES["nasbench201"]()
    costs = {name: COSTS[name](None, space, "cpu") for name in ("flops", "live_flops")}
    free = {
        name: np.array([cost.measure(space.parse(str(texts[i]))).value for i in rows]) for name, cost in costs.items()
    }
    found = trust_report(truth[rows], {"12 epochs": short[rows]}, free, seed=0, provenance=PROVENANCE)
    taus = {c.ranker: c.kendall for c in found.rankers}
    assert taus["live_flops"] == pytest.approx(0.654, abs=3 * 0.024)
    assert taus["flops"] == pytest.approx(0.578, abs=3 * 0.024)
    assert taus["12 epochs"] == pytest.approx(kendall(truth, short), abs=3 * 0.024)
    used = found.rankers[0]
    direct = agreement(truth[rows], short[rows], given=free["live_flops"], rng=np.random.default_rng(0))
    assert used.kendall_top_decile == direct.kendall_top_decile is not None
    assert used.partial_kendall == direct.partial_kendall is not None
    assert {c.ranker: c.partial_kendall for c in found.rankers}["live_flops"] is None
    assert used.top is not None
    assert used.top.k == 10
    assert used.top.mean > truth[rows].mean()
    assert 0.5 < (used.top.beats_random or 0) <= 1


def test_a_network_without_a_score_shares_the_last_place_and_gets_no_score() -> None:
    scores = [3.0, None, -1e300, None, 0.5, 7.0]
    rows = [
        Candidate(job_id="job", digest=f"{i}", text=f"{i}", number=i, values={} if s is None else {"zen@proxy": s})
        for i, s in enumerate(scores)
    ]
    assert _proxies(rows)["zen@proxy"].tolist() == [5.0, 1.5, 3.0, 1.5, 4.0, 6.0]
    assert _proxies(rows[1:4]) == {}
