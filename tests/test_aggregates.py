"""Scores over tasks: against statsmodels, scipy and definitions."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.nonparametric import rank_compare_2indep

from jaxstab.analysis.aggregates import aggregate, performance_profile, probability_of_improvement

RNG = np.random.default_rng(0)


def test_the_probability_of_improvement_against_statsmodels():
    first, second = RNG.integers(60, 80, 9) / 100, RNG.integers(65, 85, 12) / 100
    found = probability_of_improvement([first], [second])
    theirs = rank_compare_2indep(second, first)
    assert found.value == pytest.approx(theirs.prob1)
    # Their interval is not on the logit scale.
    p = theirs.prob1
    width = stats.t.ppf(0.975, theirs.df) * np.sqrt(theirs.var_prob) / (p * (1 - p))
    odds = p / (1 - p) * np.exp(np.array([-1, 1]) * width)
    assert found.interval == pytest.approx(odds / (1 + odds))


def test_over_tasks_it_is_the_mean_of_the_tasks():
    tasks = [(RNG.normal(size=5), RNG.normal(0.5, 1, 8)), (RNG.normal(size=12), RNG.normal(size=6))]
    first, second = zip(*tasks, strict=True)
    found = probability_of_improvement(first, second)
    each = [stats.mannwhitneyu(other, one).statistic / one.size / other.size for one, other in tasks]
    assert found.value == pytest.approx(np.mean(each))
    back = probability_of_improvement(second, first)
    assert back.value == pytest.approx(1 - found.value)
    assert back.interval == pytest.approx((1 - found.interval.high, 1 - found.interval.low))
    # What it says of the same tasks twice is known better.
    twice = probability_of_improvement([*first, *first], [*second, *second])
    assert twice.value == pytest.approx(found.value)
    assert twice.interval.high - twice.interval.low < found.interval.high - found.interval.low


def test_where_every_seed_is_better_others_may_still_not_be():
    found = probability_of_improvement([[0.1, 0.2, 0.3]], [[0.5, 0.6, 0.7, 0.8]])
    assert found.value == 1
    assert found.interval == pytest.approx((0.05 ** (1 / 3), 1))
    assert probability_of_improvement([[0.5] * 4], [[0.5] * 4]).value == 0.5


def test_aggregates_by_their_definitions():
    scores = RNG.normal(0.7, 0.05, (3, 8)) + np.array([[0], [0.1], [-0.3]])
    found = aggregate(list(scores))
    assert found["mean"].value == pytest.approx(scores.mean())
    assert found["median"].value == pytest.approx(np.median(scores.mean(1)))
    assert found["interquartile_mean"].value == pytest.approx(stats.trim_mean(scores.ravel(), 0.25))
    # The bootstrap of the mean agrees with the interval of a stratified mean.
    width = stats.t.ppf(0.975, 21) * np.sqrt((scores.var(1, ddof=1) / 8).sum()) / 3
    low, high = found["mean"].interval
    assert (low, high) == pytest.approx((scores.mean() - width, scores.mean() + width), abs=0.15 * width)
    for name, one in aggregate(list(scores[::-1, ::-1])).items():
        assert one.value == pytest.approx(found[name].value)
        assert one.interval == pytest.approx(found[name].interval, abs=0.2 * width)


def test_numbers_of_rliable():
    rng = np.random.default_rng(0)
    ours = rng.normal(0.7, 0.05, (10, 4)) + np.array([0, 0.1, -0.2, 0.05])
    other = ours[:8] + rng.normal(0.02, 0.03, (8, 4))
    # rliable 1.2.0 with 5,000 resamples (arch 8.0.0).
    values, intervals = [0.68447779, 0.71998539, 0.71427655], [(0.672, 0.696), (0.703, 0.736), (0.698, 0.731)]
    for one, value, (low, high) in zip(aggregate(list(ours.T)).values(), values, intervals, strict=True):
        assert one.value == pytest.approx(value, abs=1e-8)
        # Expanded percentiles are a little wider.
        assert low - 0.003 < one.interval.low < low + 0.001
        assert high - 0.001 < one.interval.high < high + 0.003
    assert probability_of_improvement(list(ours.T), list(other.T)).value == pytest.approx(0.678125)
    profile = performance_profile(list(ours.T), np.linspace(0.4, 1, 7))
    np.testing.assert_allclose(profile.shares, [1, 0.875, 0.725, 0.55, 0.175, 0, 0])
    np.testing.assert_allclose(profile.band[:, 0], [1, 0.8, 0.675, 0.5, 0.075, 0, 0], atol=0.03)


def test_tasks_weigh_the_same_whatever_their_numbers_of_seeds():
    few, many = RNG.normal(0.5, 0.01, 4), RNG.normal(0.9, 0.01, 40)
    found = aggregate([few, many])
    assert found["mean"].value == pytest.approx((few.mean() + many.mean()) / 2)
    # Half of the weight at either place: the upper half of the low scores, and the lower half of the high ones.
    expected = (np.sort(few)[2:].mean() + np.sort(many)[:20].mean()) / 2
    assert found["interquartile_mean"].value == pytest.approx(expected)


def test_equal_scores_say_nothing_about_other_seeds():
    assert {one.interval for one in aggregate([[0.5, 0.5, 0.5]]).values()} == {None}


def test_a_profile_counts_scores_above_each_threshold():
    tasks = [RNG.normal(size=10), RNG.normal(1, 1, 5)]
    thresholds = np.linspace(-3, 4, 20)
    found = performance_profile(tasks, thresholds)
    expected = [np.mean([(task > limit).mean() for task in tasks]) for limit in thresholds]
    np.testing.assert_allclose(found.shares, expected)
    assert (np.diff(found.shares) <= 0).all()
    assert ((found.band[:, 0] <= found.shares) & (found.shares <= found.band[:, 1])).all()
    assert found.band.min() >= 0
    assert found.band.max() <= 1


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], "no task; give a list"),
        ([[0.5]], r"task 0: scores of shape \(1,\); expected \[S\], of at least 2 seeds"),
        ([[0.5, 0.6], [0.5, np.nan]], "task 1: a score is not finite"),
    ],
)
def test_bad_input(tasks, message):
    with pytest.raises(ValueError, match=message):
        aggregate(tasks)
    with pytest.raises(ValueError, match="1 and 2 tasks"):
        probability_of_improvement([[1, 2]], [[1, 2], [1, 2]])
