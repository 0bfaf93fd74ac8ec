"""Permutation tests against scipy, hand-worked cases and simulations with known truth."""

import itertools

import numpy as np
import pytest
from scipy import stats

from jaxstab.analysis.permutation import (
    difference_interval,
    make_exchange,
    mean_ratio_interval,
    mean_sizes,
    p_values,
    pseudo_values,
    spread_ratio_interval,
    spread_sizes,
)

rng = np.random.default_rng(0)


def _p(sizes):
    return p_values(sizes[:, None])[0][0]


def test_paired_p_is_that_of_scipy_over_all_flips():
    first, second = rng.normal(size=(2, 7))
    expected = stats.permutation_test(
        (first, second),
        lambda x, y, axis: np.abs((x - y).mean(axis)),
        permutation_type="samples",
        alternative="greater",
    )
    assert expected.null_distribution.size == 2**7
    assert _p(mean_sizes(make_exchange(7, 7, True), first, second)) == pytest.approx(expected.pvalue)


def test_unpaired_statistic_is_welchs_and_p_that_of_scipy():
    first, second = rng.normal(size=8), rng.normal(0.8, 2, size=5)
    sizes = mean_sizes(make_exchange(8, 5, False), first, second)
    assert sizes[0] == pytest.approx(abs(stats.ttest_ind(first, second, equal_var=False).statistic))

    def welch(x, y, axis):
        return np.abs(stats.ttest_ind(x, y, axis=axis, equal_var=False).statistic)

    expected = stats.permutation_test((first, second), welch, permutation_type="independent", alternative="greater")
    assert expected.null_distribution.size == 1287
    assert _p(sizes) == pytest.approx(expected.pvalue, abs=0.02)


def test_paired_interval_is_bounded_by_means_of_subsets():
    # Hartigan (1969): the means of all subsets divide the real line into equally likely intervals.
    first, second = rng.normal(size=8), rng.normal(1, 1, size=8)
    differences = second - first
    means = sorted(
        np.mean([differences[i] for i in chosen]) for n in range(1, 9) for chosen in itertools.combinations(range(8), n)
    )
    low, high = difference_interval(make_exchange(8, 8, True), first, second)
    assert means[5] <= low + 1e-3
    assert low <= means[6] + 1e-3
    assert means[-7] - 1e-3 <= high <= means[-6] + 1e-3


def test_too_few_seeds_reject_nothing():
    exchange = make_exchange(4, 4, True)
    assert difference_interval(exchange, np.zeros(4), np.arange(1, 5.0)) == (-np.inf, np.inf)
    assert _p(mean_sizes(exchange, np.zeros(4), np.full(4, 100.0))) == 2 / 16


def test_equal_groups_do_not_differ():
    values = rng.normal(size=9)
    for paired in (True, False):
        exchange = make_exchange(9, 9, paired)
        assert _p(mean_sizes(exchange, values, values)) == 1
        assert _p(spread_sizes(exchange, values, values)) == 1
        assert _p(mean_sizes(exchange, np.ones(9), np.ones(9))) == 1
    assert difference_interval(make_exchange(9, 9, True), values, values + 2) == pytest.approx((2, 2), abs=1e-3)


def test_a_constant_or_a_scale_in_both_groups_changes_nothing():
    first, second = rng.normal(size=(2, 10))
    exchange = make_exchange(10, 10, False)
    plain = mean_sizes(exchange, first, second)
    np.testing.assert_allclose(mean_sizes(exchange, 7 + 3 * first, 7 + 3 * second), plain, rtol=1e-6)
    np.testing.assert_allclose(
        spread_sizes(exchange, 7 + 3 * first, 5 + 3 * second),
        spread_sizes(exchange, first, second),
        rtol=1e-6,
        atol=1e-9,
    )


def test_adjusted_p_is_step_down_min_p_by_its_definition():
    sizes = rng.random((50, 4))
    sizes[:, 1] = sizes[:, 0]
    p, adjusted = p_values(sizes)
    each = np.array([[(sizes[:, m] >= sizes[r, m]).mean() for m in range(4)] for r in range(50)])
    np.testing.assert_allclose(p, each[0])
    order, largest = np.argsort(each[0], kind="stable"), 0
    for place, m in enumerate(order):
        largest = max(largest, (each[:, order[place:]].min(axis=1) <= each[0, m]).mean())
        assert adjusted[m] == pytest.approx(largest)
    assert (adjusted >= p - 1e-12).all()


def test_pseudo_values_of_a_mean_are_the_observations():
    x = rng.normal(size=6)
    np.testing.assert_allclose(pseudo_values(x.mean(), (x.sum() - x) / 5), x)


def _outcome(seeds, failing, scale=1.0):
    """Scores with some failed seeds, and contributions to a mean squared distance between random points."""
    scores = np.where(rng.random(seeds) < failing, -8, rng.normal(size=seeds)) * scale
    points = rng.normal(size=(seeds, 30)) * (1 + 0.5 * rng.gamma(2, 1, (seeds, 1))) * scale
    distances = ((points[:, None] - points) ** 2).sum(-1)
    total, count = distances.sum(), seeds
    left_out = (total - 2 * distances.sum(1)) / ((count - 1) * (count - 2))
    return scores, pseudo_values(total / (count * (count - 1)), left_out)


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0.0, 0.15])
@pytest.mark.parametrize("paired", [True, False])
def test_false_positives_are_near_5_percent(paired, failing):
    trials, exchange = 400, make_exchange(10, 10, paired)
    found = np.zeros(4)
    for _ in range(trials):
        first, second = _outcome(10, failing), _outcome(10, failing)
        sizes = [mean_sizes(exchange, a, b) for a, b in zip(first, second, strict=True)]
        p, adjusted = p_values(np.stack([*sizes, spread_sizes(exchange, first[0], second[0])], axis=1))
        found += [*(p <= 0.05), (adjusted <= 0.05).any()]
    # Three standard errors with 400 trials are .033.
    assert (found / trials <= 0.05 + 0.034).all(), found / trials
    assert (found[:3] / trials >= 0.05 - 0.034).all(), found / trials


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
def test_intervals_cover_the_truth(paired):
    trials, exchange, scale = 100, make_exchange(10, 10, paired), 1.5
    covered = np.zeros(3)
    for _ in range(trials):
        (scores, contributions), (others, other) = _outcome(10, 0), _outcome(10, 0, scale)
        ends = [
            difference_interval(exchange, scores, others + 1),
            spread_ratio_interval(exchange, scores, others),
            mean_ratio_interval(exchange, contributions, other),
        ]
        covered += [low <= truth <= high for (low, high), truth in zip(ends, (1, scale, scale**2), strict=True)]
    assert (covered / trials >= 0.95 - 0.066).all(), covered / trials
