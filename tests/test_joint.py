"""The interval of a difference for other seeds and other examples: its formula, its limits and its coverage."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from jaxstab import measures
from jaxstab.measures.joint import joint_difference, joint_mean
from jaxstab.measures.performance import contributions_of_examples

RNG = np.random.default_rng(0)
METRICS = ["accuracy", "f1", "macro_f1", "matthews"]


def _votes(seeds, labels, accuracy):
    return np.where(RNG.random((seeds, len(labels))) < accuracy, labels, 1 - labels)


def _mean_squares(values):
    """Of seeds, examples and the rest, by statsmodels."""
    seeds, examples = values.shape
    frame = pd.DataFrame(
        {"value": values.ravel(), "s": np.repeat(np.arange(seeds), examples), "n": np.tile(np.arange(examples), seeds)}
    )
    return anova_lm(ols("value ~ C(s) + C(n)", frame).fit())["mean_sq"].to_numpy()


@pytest.mark.parametrize("metric", METRICS)
def test_paired_against_an_analysis_of_variance(metric):
    labels = RNG.integers(0, 2, 30)
    first, second = _votes(6, labels, 0.7), _votes(6, labels, 0.8)
    one, other = (contributions_of_examples(metric, some, labels, 2) for some in (first, second))
    of_seeds, of_examples, rest = _mean_squares(other - one) / (6 * 30)
    variance = of_seeds + max(of_examples - rest, 0)
    freedom = max(variance**2 / (of_seeds**2 / 5 + of_examples**2 / 29), 5)
    expected = (other - one).mean() + stats.t.ppf([0.025, 0.975], freedom) * np.sqrt(variance)
    found = joint_difference(metric, first, second, labels, 2, paired=True)
    np.testing.assert_allclose(found, np.clip(expected, -1, 1) if metric != "matthews" else expected)


@pytest.mark.parametrize("metric", METRICS)
def test_a_mean_against_an_analysis_of_variance(metric):
    labels = RNG.integers(0, 2, 30)
    predictions = _votes(6, labels, 0.8)
    of_seeds, of_examples, rest = _mean_squares(contributions_of_examples(metric, predictions, labels, 2)) / (6 * 30)
    variance = of_seeds + max(of_examples - rest, 0)
    freedom = max(variance**2 / (of_seeds**2 / 5 + of_examples**2 / 29), 5)
    width = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    mean = measures.scores(metric, predictions, labels, 2).mean()
    # On the logit scale, which is 2 artanh for a score from -1 to 1.
    if metric == "matthews":
        expected = np.tanh(np.arctanh(mean) + np.array([-1, 1]) * width / (1 - mean**2))
    else:
        odds = mean / (1 - mean) * np.exp(np.array([-1, 1]) * width / (mean * (1 - mean)))
        expected = odds / (1 + odds)
    np.testing.assert_allclose(joint_mean(metric, predictions, labels, 2), expected)


@pytest.mark.parametrize("metric", METRICS)
def test_a_mean_of_extremes(metric):
    labels = np.tile([0, 1], 5)
    np.testing.assert_array_equal(joint_mean(metric, np.tile(labels, (3, 1)), labels, 2), [1, 1])
    wrong = np.tile(1 - labels, (3, 1))
    least = -1 if metric == "matthews" else 0
    np.testing.assert_array_equal(joint_mean(metric, wrong, labels, 2), [least, least])
    wrong[0, 1] = labels[1]
    low, high = joint_mean(metric, wrong, labels, 2)
    assert least <= low < high <= 1
    with pytest.raises(ValueError, match="1 seeds, 10 test examples; an interval needs 2 of each"):
        joint_mean(metric, wrong[:1], labels, 2)


def test_the_mean_is_covered():
    covered = 0
    for _ in range(500):
        right = 0.6 + RNG.choice([-0.3, 0.0, 0.3], 100) + RNG.choice([-0.04, 0.04], (6, 1))
        votes = (RNG.random((6, 100)) < right).astype(int)
        low, high = joint_mean("accuracy", votes, np.ones(100, int), 2)
        covered += low <= 0.6 <= high
    assert covered / 500 >= 0.925


def test_unpaired_against_an_analysis_of_variance():
    labels = np.ones(40, int)
    first, second = _votes(5, labels, 0.7), _votes(8, labels, 0.75)
    (seeds_1, _, rest_1), (seeds_2, _, rest_2) = _mean_squares(first), _mean_squares(second)
    parts = np.array([seeds_1 / 200, seeds_2 / 320, (second.mean(0) - first.mean(0)).var(ddof=1) / 40])
    variance = parts[:2].sum() + max(parts[2] - rest_1 / 200 - rest_2 / 320, 0)
    freedom = max(variance**2 / (parts**2 / [4, 7, 39]).sum(), 4)
    expected = second.mean() - first.mean() + stats.t.ppf([0.025, 0.975], freedom) * np.sqrt(variance)
    np.testing.assert_allclose(joint_difference("accuracy", first, second, labels, 2, paired=False), expected)


@pytest.mark.parametrize("paired", [True, False])
def test_exchanging_the_methods_changes_the_sign(paired):
    labels = RNG.integers(0, 2, 30)
    first, second = _votes(6, labels, 0.7), _votes(6, labels, 0.8)
    one = joint_difference("f1", first, second, labels, 2, paired=paired)
    np.testing.assert_allclose(one, -joint_difference("f1", second, first, labels, 2, paired=paired)[::-1], atol=1e-14)


def test_without_variation_over_seeds_it_is_students_interval_over_examples():
    labels = np.ones(50, int)
    first, second = (np.tile(_votes(1, labels, share), (4, 1)) for share in (0.6, 0.8))
    change = (second - first)[0]
    expected = stats.t.interval(0.95, 49, change.mean(), stats.sem(change))
    for paired in (True, False):
        np.testing.assert_allclose(joint_difference("accuracy", first, second, labels, 2, paired=paired), expected)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("metric", METRICS)
def test_extremes(metric, paired):
    labels = np.tile([0, 1], 5)
    right, wrong = np.tile(labels, (3, 1)), np.tile(1 - labels, (3, 1))
    np.testing.assert_array_equal(joint_difference(metric, right, right, labels, 2, paired=paired), [0, 0])
    most = 2 if metric == "matthews" else 1
    np.testing.assert_allclose(joint_difference(metric, wrong, right, labels, 2, paired=paired), [most, most])
    mixed = np.stack([labels, 1 - labels, np.zeros(10, int)])
    low, high = joint_difference(metric, mixed, right, labels, 2, paired=paired)
    assert -most <= low <= high <= most


def test_bad_input():
    labels = np.array([0, 1, 1])
    three = np.tile(labels, (3, 1))
    with pytest.raises(ValueError, match="2 and 3 seeds; a pair needs a seed of either method"):
        joint_difference("accuracy", three[:2], three, labels, 2, paired=True)
    with pytest.raises(ValueError, match="1 and 3 seeds, 3 test examples; an interval needs 2"):
        joint_difference("accuracy", three[:1], three, labels, 2, paired=False)
    with pytest.raises(ValueError, match="unknown metric 'bleu'"):
        joint_difference("bleu", three, three, labels, 2, paired=True)


@pytest.mark.parametrize(
    ("seeds", "other", "paired"), [(10, 10, True), (20, 20, True), (10, 10, False), (20, 20, False), (5, 20, False)]
)
def test_it_covers_the_true_difference(seeds, other, paired):
    truth, replicates = 0.1, 500
    covered = 0
    for _ in range(replicates):
        # Right with a probability that depends on the example and the seed; paired seeds share theirs.
        example = RNG.choice([-0.3, 0.0, 0.2], 100)
        of_first = RNG.choice([-0.04, 0.04], (seeds, 1))
        of_second = of_first if paired else RNG.choice([-0.04, 0.04], (other, 1))
        change = truth + RNG.choice([-0.1, 0.1], 100)
        first = (RNG.random((seeds, 100)) < 0.5 + example + of_first).astype(int)
        second = (RNG.random((other, 100)) < 0.5 + example + of_second + change).astype(int)
        low, high = joint_difference("accuracy", first, second, np.ones(100, int), 2, paired=paired)
        covered += low <= truth <= high
    # The standard error with 500 replicates is .01.
    assert covered / replicates >= 0.925
