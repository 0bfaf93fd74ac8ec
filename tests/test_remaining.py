"""The part of the spread over seeds that a finite test set causes: definitions, extremes and a known truth."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from jaxstab.measures.performance import contributions_of_examples
from jaxstab.measures.remaining import (
    remaining_sd,
    remaining_sd_of_difference,
    variance_components,
)

RNG = np.random.default_rng(0)
SKLEARN = {
    "accuracy": metrics.accuracy_score,
    "f1": lambda y, p: metrics.f1_score(y, p, labels=[1], average="macro", zero_division=0),
    "macro_f1": lambda y, p: metrics.f1_score(y, p, average="macro", zero_division=0),
    "matthews": metrics.matthews_corrcoef,
    "balanced_accuracy": metrics.balanced_accuracy_score,
    "weighted_f1": lambda y, p: metrics.f1_score(y, p, average="weighted", zero_division=0),
}


def _votes(seeds=5, examples=40, classes=3, accuracy=0.7):
    labels = RNG.integers(0, classes, examples)
    right = RNG.random((seeds, examples)) < accuracy
    return np.where(right, labels, RNG.integers(0, classes, (seeds, examples))), labels


@pytest.mark.parametrize("metric", SKLEARN)
def test_contributions_against_delete_one_scores_of_sklearn(metric):
    predictions, labels = _votes()
    found = contributions_of_examples(metric, predictions, labels, 3)
    scored = SKLEARN[metric]
    for row, guessed in zip(found, predictions, strict=True):
        without = np.array([scored(np.delete(labels, n), np.delete(guessed, n)) for n in range(40)])
        np.testing.assert_allclose(row, scored(labels, guessed) + 39 * (without.mean() - without), atol=1e-12)


def test_the_remaining_variance_is_the_mean_covariance_of_different_examples():
    predictions, labels = _votes(seeds=6, examples=30)
    right = (predictions == labels).astype(float)
    covariances = np.cov(right.T)
    between = covariances[~np.eye(30, dtype=bool)].mean()
    found = variance_components(right)
    assert found.seeds == pytest.approx(between, abs=1e-15)
    assert found.residual == pytest.approx(np.diag(covariances).mean() - between)
    # The formula of Jordan (2023).
    variance = right.mean(1).var(ddof=1)
    assert found.seeds == pytest.approx(30 / 29 * (variance - right.var(0, ddof=1).mean() / 30), abs=1e-15)
    assert found.seeds + found.residual / 30 == pytest.approx(variance)
    without = [variance_components(np.delete(right, n, axis=1)).seeds for n in range(30)]
    error = np.sqrt(29 / 30 * ((without - np.mean(without)) ** 2).sum())
    assert found.seeds_error == pytest.approx(error)


def test_the_interval_by_its_formula():
    right = RNG.random((8, 60)) < RNG.beta(8, 4, 8)[:, None]
    found = remaining_sd("accuracy", right.astype(int), np.ones(60, int), 2)
    variance, parts = right.mean(1).var(ddof=1), variance_components(right.astype(float))
    low, high = (7 * variance / stats.chi2.ppf(p, 7) for p in (0.975, 0.025))
    error = 1.959964 * parts.seeds_error
    expected = [
        parts.seeds - np.sqrt((60 / 59 * (variance - low)) ** 2 + error**2),
        parts.seeds + np.sqrt((60 / 59 * (high - variance)) ** 2 + error**2),
    ]
    np.testing.assert_allclose(found.interval, np.sqrt(np.maximum(expected, 0)), rtol=1e-6)
    assert found.sd == pytest.approx(np.sqrt(variance))


@pytest.mark.parametrize("metric", SKLEARN)
def test_extremes_have_no_nan_and_stay_in_range(metric):
    labels = np.tile([0, 1], 10)
    equal = np.tile(labels, (4, 1))
    opposite = np.stack([labels, labels, 1 - labels, 1 - labels])
    constant = np.stack([np.zeros(20, int), np.ones(20, int), labels, 1 - labels])
    assert remaining_sd(metric, equal, labels, 2) == (0, 0, None)
    for predictions in (opposite, constant, opposite[1:3]):
        found = remaining_sd(metric, predictions, labels, 2)
        most = 1.0 if metric == "matthews" else 0.5
        assert 0 <= found.interval.low <= found.interval.high <= most
        assert 0 <= found.remaining <= most


def test_equal_scores_of_seeds_that_err_on_different_examples():
    found = remaining_sd("accuracy", 1 - np.eye(6, dtype=int), np.ones(6, int), 2)
    assert found == (0, 0, None)


def test_nothing_remains_of_the_difference_where_one_method_always_errs_more_on_the_same_examples():
    predictions, labels = _votes(seeds=6, examples=50)
    worse = predictions.copy()
    worse[:, :5] = (labels[:5] + 1) % 3
    predictions[:, :5] = labels[:5]
    assert remaining_sd_of_difference("accuracy", predictions, worse, labels, 3) == (0, 0, None)


def test_a_shift_of_some_pairs_remains_in_the_difference():
    # In half of the pairs the second method is right everywhere, in the others it equals the first.
    labels = np.ones(2000, int)
    first = (RNG.random((20, 2000)) < 0.8).astype(int)
    second = np.where(np.arange(20)[:, None] < 10, labels, first)
    found = remaining_sd_of_difference("accuracy", first, second, labels, 2)
    assert found.remaining == pytest.approx(0.1 * np.sqrt(20 / 19), rel=0.05)
    assert found.interval.low < found.remaining < found.interval.high


def test_bad_input():
    labels = np.array([0, 1, 1])
    with pytest.raises(ValueError, match="1 seeds and 3 test examples; variances need at least 2 seeds"):
        remaining_sd("accuracy", labels[None], labels, 2)
    with pytest.raises(ValueError, match="1 test examples; the contribution"):
        remaining_sd("f1", labels[:, None], labels[:1], 2)
    with pytest.raises(ValueError, match="unknown metric 'bleu'"):
        remaining_sd("bleu", np.stack([labels, labels]), labels, 2)
    with pytest.raises(ValueError, match="2 and 3 seeds; a pair needs"):
        remaining_sd_of_difference("accuracy", np.zeros((2, 3), int), np.zeros((3, 3), int), labels, 2)


@pytest.mark.parametrize("seeds", [5, 20])
@pytest.mark.parametrize("spread", [0.0, 0.03])
def test_the_estimate_is_unbiased_and_its_interval_covers(seeds, spread):
    # An example is right with probability p_n + a_s, so the remaining variance is that of a.
    squares, covered = [], []
    for _ in range(300):
        chance = RNG.choice([0.4, 0.7, 0.85], 100) + spread * RNG.choice([-1, 1], (seeds, 1))
        right = (RNG.random((seeds, 100)) < chance).astype(int)
        squares.append(variance_components(right.astype(float)).seeds)
        found = remaining_sd("accuracy", right, np.ones(100, int), 2)
        covered.append(found.interval is None or found.interval.low <= spread + 1e-12 <= found.interval.high + 2e-12)
    assert np.mean(squares) == pytest.approx(spread**2, abs=4 * np.std(squares) / np.sqrt(300))
    assert np.mean(covered) >= 0.93
