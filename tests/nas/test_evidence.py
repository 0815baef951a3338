"""One expected value a candidate: what is drawn to what, by how much, and what is never made up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from nas.evidence import Audits, Belief, believed, measured_noise, updated

Floats = npt.NDArray[np.float64]


def space(tau: float, *, seed: int, noise: float = 0.01, n: int = 400, m: int = 30) -> tuple[Floats, Floats, Audits]:
    """True values, scores that correlate with them, and audits: half of the best by score, half anywhere."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0.9, 0.03, n)
    scores = tau * (truth - 0.9) / 0.03 + np.sqrt(1 - tau**2) * rng.normal(size=n)
    rows = np.unique(np.r_[np.argsort(-scores)[: m // 2], rng.choice(n, m // 2, replace=False)])
    return truth, scores, Audits(rows, truth[rows] + noise * rng.normal(size=len(rows)), np.full(len(rows), noise))


def belief_of(scores: Floats, audits: Audits) -> Belief:
    return believed(scores, scores[audits.rows], audits)


@pytest.mark.parametrize("tau", [0.0, 0.5, 0.9])
def test_deviations_are_as_large_as_the_errors(tau: float) -> None:
    errors = []
    for seed in range(20):
        truth, scores, audits = space(tau, seed=seed)
        belief = belief_of(scores, audits)
        errors.append((belief.mean - truth) / belief.std)
    within = np.mean(np.abs(np.concatenate(errors)) < 1.96)
    assert 0.9 < within < 0.99  # nominally 0.95


def test_the_believed_best_is_better_than_the_one_ranked_first_where_the_ranking_is_poor() -> None:
    gains = []
    for seed in range(30):
        truth, scores, audits = space(0.3, seed=seed)
        gains.append(truth[belief_of(scores, audits).mean.argmax()] - truth[scores.argmax()])
    assert np.mean(gains) > 0.01  # a third of the space's deviation; its standard error is 0.005


def test_a_noisy_audit_is_drawn_to_the_others_and_an_exact_one_is_not() -> None:
    _, scores, audits = space(0.9, seed=1)
    exact = belief_of(scores, audits._replace(noise=np.zeros(len(audits.rows))))
    assert exact.mean[audits.rows] == pytest.approx(audits.values)
    assert exact.std[audits.rows] == pytest.approx(0.0)
    some = belief_of(np.zeros(len(scores)), audits).mean[audits.rows]  # a ranking that says nothing: to their mean
    middle = np.median(some - audits.values + audits.values.mean())
    assert np.ptp(some) < np.ptp(audits.values)
    assert np.corrcoef(some, audits.values)[0, 1] == pytest.approx(1.0)
    assert middle == pytest.approx(audits.values.mean(), abs=0.005)


def test_a_ranking_that_says_nothing_leaves_all_that_was_not_audited_alike() -> None:
    _, scores, audits = space(0.0, seed=3)
    values = audits.values - audits.values.mean()
    against = -np.sign(np.corrcoef(scores[audits.rows], values)[0, 1]) * scores  # the wrong way round, if anything
    belief = belief_of(against, audits)
    rest = np.setdiff1d(np.arange(len(scores)), audits.rows)
    assert belief.explained == pytest.approx(0.0, abs=1e-12)
    assert np.ptp(belief.mean[rest]) == pytest.approx(0.0, abs=1e-12)


def test_ties_in_the_ranking_are_ties_in_belief_and_equal_calls_give_equal_beliefs() -> None:
    _, scores, audits = space(0.7, seed=4)
    tied = np.round(scores, 1)
    first, second = belief_of(tied, audits), belief_of(tied, audits)
    assert np.array_equal(first.mean, second.mean)
    rest = np.setdiff1d(np.arange(len(scores)), audits.rows)
    for value in np.unique(tied[rest])[:5]:
        assert np.ptp(first.mean[rest][tied[rest] == value]) == pytest.approx(0.0, abs=1e-12)
    flat = belief_of(np.zeros(len(scores)), audits)
    assert np.ptp(flat.mean[rest]) == 0.0


def test_what_lies_far_beyond_the_audited_is_not_believed_to_be_far_better() -> None:
    _, scores, audits = space(0.9, seed=5)
    beyond = scores.copy()
    outside = int(np.setdiff1d(np.arange(len(scores)), audits.rows)[0])
    beyond[outside] = 1e6
    belief = belief_of(beyond, audits)
    assert belief.mean[outside] < audits.values.max() + 3 * np.std(audits.values)


def test_too_few_audits_and_what_is_not_finite_are_refused() -> None:
    _, scores, audits = space(0.9, seed=6)
    few = Audits(audits.rows[:2], audits.values[:2], audits.noise[:2])
    with pytest.raises(ValueError, match="2 audits; 3 are needed"):
        belief_of(scores, few)
    with pytest.raises(ValueError, match="not finite"):
        belief_of(np.where(scores > 0, np.nan, scores), audits)


def test_noise_is_that_of_the_split_and_of_another_seed() -> None:
    split = np.sqrt(0.9 * 0.1 / 1000)
    measured = measured_noise([0.9, 0.9], 1000, [np.nan, 0.004])
    assert measured == pytest.approx([np.sqrt(2) * split, np.hypot(split, 0.004)], rel=0.02)
    assert measured_noise([1.0], 100)[0] > 0.005  # all right is not certain
    assert measured_noise([0.9, 3.0], None).tolist() == [0.0, 0.0]
    assert measured_noise([3.0], 100).tolist() == [0.0]  # a loss is no fraction


def test_a_new_measurement_weighs_by_its_precision_and_only_differences_count() -> None:
    means, stds = np.array([0.90, 0.80]), np.array([0.01, 0.01])
    close = updated(means, stds, np.array([0.97, 0.98]), np.array([0.05, 0.05]))
    assert close.mean[0] > close.mean[1]
    sharp = updated(means, stds, np.array([0.97, 0.98]), np.array([1e-4, 1e-4]))
    assert sharp.mean[0] < sharp.mean[1]
    unknown = updated(means, np.full(2, np.nan), np.array([0.97, 0.98]), np.array([0.05, 0.05]))
    assert unknown.mean == pytest.approx([0.97, 0.98])
