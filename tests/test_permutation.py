"""Permutation tests against scipy, hand-worked cases and simulations with known truth."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from jaxstab.analysis.differences import p_values_of
from jaxstab.analysis.permutation import (
    holm,
    make_exchange,
    mean_differences,
    p_value,
    p_values,
    pseudo_values,
    sd_differences,
    sizes,
    spread_differences,
    value_differences,
)

rng = np.random.default_rng(0)


def _p(*differences):
    return p_values(sizes(differences)[:, None])[0][0]


def test_paired_p_is_that_of_scipy_over_all_flips():
    first, second = rng.normal(size=(2, 7))
    expected = stats.permutation_test(
        (first, second),
        lambda x, y, axis: np.abs((x - y).mean(axis)),
        permutation_type="samples",
        alternative="greater",
    )
    assert expected.null_distribution.size == 2**7
    assert _p(mean_differences(make_exchange(7, 7, True), first, second)) == pytest.approx(expected.pvalue)


def test_unpaired_statistic_is_welchs_and_p_that_of_scipy():
    first, second = rng.normal(size=8), rng.normal(0.8, 2, size=5)
    found = mean_differences(make_exchange(8, 5, False), first, second)
    assert sizes([found])[0] == pytest.approx(abs(stats.ttest_ind(first, second, equal_var=False).statistic))

    def welch(x, y, axis):
        return np.abs(stats.ttest_ind(x, y, axis=axis, equal_var=False).statistic)

    expected = stats.permutation_test((first, second), welch, permutation_type="independent", alternative="greater")
    assert expected.null_distribution.size == 1287
    assert _p(found) == pytest.approx(expected.pvalue)


def test_too_few_seeds_reject_nothing():
    exchange = make_exchange(4, 4, True)
    assert exchange.smallest_p == 2 / 16
    assert make_exchange(3, 3, False).smallest_p == 2 / 20
    assert make_exchange(3, 4, False).smallest_p == pytest.approx(1 / 35)
    assert _p(mean_differences(exchange, np.zeros(4), np.full(4, 100.0))) == 2 / 16


def test_equal_groups_do_not_differ():
    values = rng.normal(size=9)
    for paired in (True, False):
        exchange = make_exchange(9, 9, paired)
        assert _p(mean_differences(exchange, values, values)) == 1
        assert _p(spread_differences(exchange, values, values)) == 1
        assert _p(mean_differences(exchange, np.ones(9), np.ones(9))) == 1


def test_a_constant_or_a_scale_in_both_groups_changes_nothing():
    first, second = rng.normal(size=(2, 10))
    exchange = make_exchange(10, 10, False)
    plain = sizes([mean_differences(exchange, first, second)])
    np.testing.assert_allclose(
        sizes([mean_differences(exchange, 7 + 3 * first, 7 + 3 * second)]), plain, rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(
        spread_differences(exchange, 7 + 3 * first, 5 + 3 * second).differences,
        spread_differences(exchange, first, second).differences,
        rtol=1e-6,
        atol=1e-9,
    )


def test_adjusted_p_is_step_down_min_p_by_its_definition():
    given = rng.random((50, 4))
    given[:, 1] = given[:, 0]
    p, adjusted = p_values(given)
    each = np.array([[(given[:, m] >= given[r, m]).mean() for m in range(4)] for r in range(50)])
    np.testing.assert_allclose(p, each[0])
    order, largest = np.argsort(each[0], kind="stable"), 0
    for place, m in enumerate(order):
        largest = max(largest, (each[:, order[place:]].min(axis=1) <= each[0, m]).mean())
        assert adjusted[m] == pytest.approx(largest)
    assert (adjusted >= p - 1e-12).all()


def test_standard_deviations_are_computed_again_after_every_exchange():
    first, second = rng.normal(size=6), rng.normal(1, 2, size=4)
    exchange = make_exchange(6, 4, False)
    values = np.concatenate([first, second])
    expected = [np.log(values[~inside].std(ddof=1) / values[inside].std(ddof=1)) for inside in exchange.members]
    np.testing.assert_allclose(sd_differences(exchange, first, second).differences, expected, atol=1e-9)


def test_half_of_a_few_seeds_failed_is_no_clear_difference_of_spreads():
    first, second = rng.normal(0.80, 0.01, 6), np.r_[rng.normal(0.80, 0.01, 3), rng.normal(0.5, 0.01, 3)]
    exchange = make_exchange(6, 6, False)
    again, aligned = (sizes([one(exchange, first, second)]) for one in (sd_differences, spread_differences))
    assert p_value(aligned) == 2 / 924
    assert p_value(again) > 0.05
    of_each, aligned_too = {"sd": again}, {"sd": aligned}
    assert p_values_of(of_each, {})[0]["sd"] == p_value(again)
    assert p_values_of(of_each, aligned_too)[0]["sd"] == p_value(again)


def test_a_difference_of_means_is_none_of_spreads():
    # With the means far apart, groups that are exchanged unevenly have a larger spread.
    first, second = np.arange(8) / 100, 0.9 + np.arange(8) / 101
    exchange = make_exchange(8, 8, False)
    again, aligned = (sizes([one(exchange, first, second)]) for one in (sd_differences, spread_differences))
    assert p_values_of({"sd": again}, {"sd": aligned})[1]["sd"] == max(p_value(again), p_value(aligned)) > 0.5


def test_p_values_are_no_smaller_than_those_of_a_second_test():
    given = rng.random((60, 3))
    plain, adjusted = p_values(given)
    both, with_second = p_values(given, [0, plain[1] + 0.3, 0])
    np.testing.assert_allclose(both, plain + np.array([0, 0.3, 0]))
    assert (with_second >= adjusted - 1e-12).all()
    assert with_second[1] >= plain[1] + 0.3


def test_pseudo_values_of_a_mean_are_the_observations():
    x = rng.normal(size=6)
    np.testing.assert_allclose(pseudo_values(x.mean(), (x.sum() - x) / 5), x)


def _mean_distance(distances):
    def values(masks):
        count = masks.sum(1)
        return ((masks @ distances) * masks).sum(1) / (count * (count - 1))

    return values


def test_a_measure_is_computed_again_after_every_exchange():
    points = rng.normal(size=(9, 3))
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    exchange = make_exchange(5, 4, False)
    found = value_differences(exchange, _mean_distance(distances)).differences
    for row in (0, 1, 77):
        inside = exchange.members[row]
        groups = [distances[np.ix_(chosen, chosen)] for chosen in (inside, ~inside)]
        means = [one[np.triu_indices(len(one), 1)].mean() for one in groups]
        assert found[row] == pytest.approx(means[1] - means[0])
    truncated = value_differences(exchange, lambda masks: masks.sum(1).astype(float), at_most=4)
    assert (truncated.differences == 0).all()


def test_one_seed_that_differs_is_a_tie_in_every_exchange():
    # Fifteen equal seeds and one other: whichever group has it, the difference is the same.
    distances = np.zeros((16, 16))
    distances[3, :] = distances[:, 3] = 1 / 139
    distances[3, 3] = 0
    for paired in (True, False):
        assert _p(value_differences(make_exchange(8, 8, paired), _mean_distance(distances))) == 1


def test_over_tasks_differences_add_up():
    exchange = make_exchange(8, 8, True)
    tasks = [mean_differences(exchange, *rng.normal(size=(2, 8))) for _ in range(3)]
    total = np.sum([one.differences for one in tasks], axis=0)
    # Differences of pairs are not standardised: each has variance 1.
    np.testing.assert_allclose(sizes(tasks), np.abs(total) / np.sqrt(3))
    halved = tasks[0].at(np.arange(4), 0.5)
    np.testing.assert_allclose(sizes([halved]), sizes(tasks[:1])[:4])


def test_holm_against_statsmodels():
    for count in (1, 2, 7):
        p = rng.random(count)
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
