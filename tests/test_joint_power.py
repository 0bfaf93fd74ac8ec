"""Seeds and examples needed: against simple cases, and against simulated experiments with those numbers."""

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.power import TTestIndPower, TTestPower

from jaxstab.analysis.joint_power import difference_power, examples_needed, joint_power
from jaxstab.measures import joint_difference

RNG = np.random.default_rng(0)
PILOT = (RNG.random((10, 200)) < RNG.beta(4, 1, 200) + RNG.normal(0, 0.02, (10, 1))).astype(int)
ONES = np.ones(200, int)


def test_without_variation_over_seeds_it_is_the_paired_t_test_over_examples():
    expected = TTestPower().power(0.1 / np.sqrt(0.2), nobs=150, alpha=0.05)
    assert difference_power(10, 150, 0, 0, 0.2, delta=0.1) == pytest.approx(expected, abs=0.01)
    assert difference_power(np.inf, 150, 0.3, 0.1, 0.2, delta=0.1) == pytest.approx(expected, abs=0.01)


def test_with_unlimited_examples_it_is_the_t_test_over_seeds():
    expected = TTestIndPower().power(0.02 / 0.015, nobs1=8, alpha=0.05)
    found = difference_power(8, 10**12, 0.015**2, 0.05, 0.1, delta=0.02)
    assert found == pytest.approx(expected, abs=0.01)


def test_with_many_seeds_and_examples_it_is_the_normal_formula():
    variance = (0.02 / (norm.ppf(0.975) + norm.ppf(0.8))) ** 2
    expected = (0.15 + 2 * 0.05 / 50) / (variance - 2 * 0.01**2 / 50)
    assert examples_needed(50, 0.01**2, 0.05, 0.15, delta=0.02, power=0.8) == pytest.approx(expected, rel=0.02)


def test_too_few_seeds_cannot_be_made_up_for_by_examples():
    assert examples_needed(3, 0.02**2, 0.05, 0.02, delta=0.02, power=0.8) is None
    assert examples_needed(50, 0.02**2, 0.05, 0.02, delta=0.02, power=0.8) < 10_000


def test_the_table_of_a_pilot():
    found = joint_power("accuracy", PILOT, ONES, 2, delta=0.05)
    assert [one.seeds for one in found.rows] == [3, 5, 10, 20, 50, None]
    disagreement = np.mean([(PILOT[i] != PILOT[j]).mean() for i in range(10) for j in range(i)])
    np.testing.assert_allclose(found.apart, np.sqrt([0.05 * 0.95, disagreement - 0.05**2]))
    for one in found.rows:
        assert one.low is None or one.high is None or one.low <= one.high
        expected = "yes" if (one.high or 1e9) <= 200 else "perhaps" if (one.low or 1e9) <= 200 else "no"
        assert one.enough == expected
    needed = [one.high or np.inf for one in found.rows]
    assert needed == sorted(needed, reverse=True)
    last = found.rows[-1]
    variance = (0.05 / (norm.ppf(0.975) + norm.ppf(0.8))) ** 2
    assert last.low == pytest.approx(0.05 * 0.95 / variance, rel=0.03)
    assert last.high == pytest.approx((disagreement - 0.05**2) / variance, rel=0.03)


@pytest.mark.parametrize("metric", ["f1", "macro_f1", "matthews"])
def test_other_scores(metric):
    labels = RNG.integers(0, 2, 200)
    found = joint_power(metric, np.where(PILOT == 1, labels, 1 - labels), labels, 2, delta=0.05)
    assert found.rows[-1].high > found.rows[-1].low > 0


def test_equal_seeds_leave_the_examples():
    found = joint_power("accuracy", np.tile(PILOT[:1], (5, 1)), ONES, 2, delta=0.05)
    assert (found.remaining, found.residual) == (0, 0)
    assert len({(one.low, one.high) for one in found.rows}) == 1
    assert found.rows[0].low == found.rows[0].high


def test_as_a_frame_and_as_json():
    found = joint_power("accuracy", PILOT, ONES, 2, delta=0.05)
    frame = found.to_frame()
    assert frame["seeds"].tolist() == [3, 5, 10, 20, 50, np.inf]
    assert frame["low"].dropna().tolist() == [one.low for one in found.rows if one.low is not None]
    assert found.as_json()["rows"][-1]["seeds"] is None
    assert "perhaps" in repr(found) or "no" in repr(found)


@pytest.mark.parametrize("wrong", [{"delta": 0}, {"delta": 1.5}, {"delta": 0.1, "power": 1}])
def test_bad_input(wrong):
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        joint_power("accuracy", PILOT, ONES, 2, **wrong)
    with pytest.raises(ValueError, match="1 seeds and 200 test examples"):
        joint_power("accuracy", PILOT[:1], ONES, 2, delta=0.1)


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.0), (3, 0.015), (5, 0.03), (20, 0.06)])
def test_experiments_of_the_size_it_names_have_the_power(seeds, spread):
    # An example is right with probability p + a seed's effect (+ the method's effect on this example).
    delta, replicates = 0.08, 500
    chances, effects = np.array([0.3, 0.5, 0.6]), np.array([-0.04, 0.2])
    every = np.r_[np.repeat(chances, 2), np.add.outer(chances, effects).ravel()]  # equally many of either method
    residual = (every * (1 - every)).mean() - spread**2
    needed = examples_needed(seeds, spread**2, residual, effects.var(), delta=delta, power=0.8)
    seen = 0
    for _ in range(replicates):
        chance, effect = RNG.choice(chances, needed), RNG.choice(effects, needed)
        first, second = (
            (RNG.random((seeds, needed)) < one + RNG.normal(0, spread, (seeds, 1))).astype(int)
            for one in (chance, chance + effect)
        )
        low, high = joint_difference("accuracy", first, second, np.ones(needed, int), 2, paired=False)
        seen += not low <= 0 <= high
    # The standard error is .018.
    assert seen / replicates == pytest.approx(0.8, abs=0.05)
