"""Intervals: each formula, and how often the intervals cover a known truth."""

import numpy as np
import pytest
from scipy import stats

from jaxstab import measures

RNG = np.random.default_rng(0)


def _distances(seeds=6, layers=3):
    points = RNG.normal(size=(layers, seeds, 4))
    return ((points[:, :, None] - points[:, None]) ** 2).sum(-1)


def test_means_over_pairs_and_without_each_seed():
    matrices = _distances()
    pairs = np.triu_indices(6, 1)
    np.testing.assert_allclose(measures.mean_over_pairs(matrices), [one[pairs].mean() for one in matrices])
    without = measures.leave_one_out(matrices)
    for seed in range(6):
        rest = np.delete(np.delete(matrices, seed, 1), seed, 2)
        np.testing.assert_allclose(without[:, seed], measures.mean_over_pairs(rest))
    assert np.isnan(measures.mean_over_pairs(np.zeros((1, 1))))
    assert np.isnan(measures.leave_one_out(np.zeros((2, 2)))).all()


def test_the_jackknife_by_its_formula():
    without, value = np.array([0.2, 0.3, 0.25, 0.4]), 0.3
    for low, transform, back in ((0, np.log, np.exp), (-np.inf, np.asarray, np.asarray)):
        around = transform(without)
        error = np.sqrt(3 / 4 * sum((one - around.mean()) ** 2 for one in around))
        ends = transform(value) + stats.t.ppf(0.975, 3) * error * np.array([-1, 1])
        np.testing.assert_allclose(measures.jackknife_interval(value, without, low), back(ends))


def test_the_jackknife_of_a_mean_is_students_interval():
    scores = RNG.normal(size=8)
    without = (scores.sum() - scores) / 7
    expected = stats.t.interval(0.95, 7, scores.mean(), stats.sem(scores))
    np.testing.assert_allclose(measures.jackknife_interval(scores.mean(), without), expected)


def test_intervals_stay_in_the_range_and_vanish_where_nothing_varies():
    same = measures.jackknife_interval(0.5, np.full(5, 0.5), 0, 1)
    np.testing.assert_array_equal(same, [0.5, 0.5])
    np.testing.assert_array_equal(measures.jackknife_interval(0, np.zeros(5), 0, 1), [0, 0])
    wide = measures.jackknife_interval(0.9, np.array([0.2, 0.9, 0.99, 0.95]), 0, 1)
    assert wide[1] == 1
    # One leave-one-out value is 0, so the scale is not logarithmic.
    linear = measures.jackknife_interval(0.1, np.array([0, 0.1, 0.12, 0.13]), 0, 1)
    assert linear[0] == 0
    assert np.isnan(measures.jackknife_interval(np.nan, np.full(2, np.nan))).all()


def test_chi_square_interval_against_scipy():
    low, high = measures.chi_square_interval(0.02, 9)
    assert low == pytest.approx(0.02 * np.sqrt(9 / stats.chi2.ppf(0.975, 9)))
    assert high == pytest.approx(0.02 * np.sqrt(9 / stats.chi2.ppf(0.025, 9)))


def _coverage(draw, truth, seeds, replicates=600):
    matrices = draw(replicates, seeds)
    intervals = measures.jackknife_interval(measures.mean_over_pairs(matrices), measures.leave_one_out(matrices), 0)
    return np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))


def _votes(replicates, seeds):
    """Disagreement on 139 examples between seeds with shared margins and deviations in a few directions."""
    fixed = np.random.default_rng(1)
    margins, directions = fixed.normal(1, 2, 139), fixed.normal(size=(3, 139))
    own = RNG.normal(size=(replicates, seeds, 139)) + 0.7 * RNG.normal(size=(replicates, seeds, 3)) @ directions
    positive = (margins + own > 0).astype(np.float64)
    both = positive @ positive.swapaxes(1, 2)
    count = positive.sum(-1)
    return (count[:, :, None] + count[:, None] - 2 * both) / 139


def _squares(replicates, seeds):
    points = RNG.normal(size=(replicates, seeds, 5)) * np.exp(-np.arange(5) / 2)
    return ((points[:, :, None] - points[:, None]) ** 2).sum(-1)


@pytest.mark.parametrize("seeds", [10, 20])
@pytest.mark.parametrize("draw", [_votes, _squares])
def test_intervals_of_means_over_pairs_cover_the_truth(draw, seeds):
    truth = measures.mean_over_pairs(draw(2000, 20)).mean()
    # The standard error with 600 replicates is .009.
    assert 0.92 <= _coverage(draw, truth, seeds) <= 0.98


@pytest.mark.parametrize("seeds", [10, 20])
def test_the_chi_square_interval_covers_the_sd_of_normal_scores(seeds):
    found = np.array(
        [measures.chi_square_interval(one.std(ddof=1), seeds - 1) for one in RNG.normal(size=(2000, seeds))]
    )
    assert np.mean((found[:, 0] <= 1) & (found[:, 1] >= 1)) == pytest.approx(0.95, abs=0.015)
