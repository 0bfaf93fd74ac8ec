"""Scores and measures of predictions against sklearn, statsmodels, scipy, krippendorff and their definitions."""

import itertools

import jax
import jax.numpy as jnp
import krippendorff
import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    matthews_corrcoef,
)
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_kappa

from jaxstab import measures

RNG = np.random.default_rng(0)


def _predictions(seeds=7, examples=60, classes=3):
    truth = RNG.integers(0, classes, examples)
    noise = RNG.integers(0, classes, (seeds, examples))
    return np.where(RNG.random((seeds, examples)) < 0.6, truth, noise), truth


def _softmax(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def _pairs(function, rows):
    return np.array([[function(a, b) if i != j else 0 for j, b in enumerate(rows)] for i, a in enumerate(rows)])


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_scores_agree_with_sklearn(classes):
    predictions, labels = _predictions(classes=classes)
    expected = {
        "accuracy": accuracy_score,
        "matthews": matthews_corrcoef,
        "macro_f1": lambda y, p: f1_score(y, p, average="macro"),
        "balanced_accuracy": balanced_accuracy_score,
        "weighted_f1": lambda y, p: f1_score(y, p, average="weighted"),
        "f1": lambda y, p: f1_score(y, p, labels=[1], average="macro"),
    }
    for metric, function in expected.items():
        found = measures.scores(metric, predictions, labels, classes)
        assert found.tolist() == pytest.approx([function(labels, one) for one in predictions], abs=1e-12)


def test_accuracy_is_the_nearest_float32():
    labels = jnp.zeros(50, jnp.int32)
    predictions = (jnp.arange(50) >= jnp.arange(51)[:, None]).astype(jnp.int32)
    found = jax.jit(lambda p: measures.score("accuracy", p, labels, 2))(predictions)
    np.testing.assert_array_equal(found, np.float32(np.arange(51) / 50))


def test_degenerate_scores():
    labels, constant = jnp.asarray([0, 0, 1, 0]), jnp.zeros(4, jnp.int32)
    assert float(measures.score("matthews", constant, labels, 2)) == 0
    assert float(measures.score("f1", constant, labels, 2)) == 0
    assert float(measures.score("macro_f1", constant, labels, 2)) == pytest.approx(3 / 7)
    with pytest.raises(ValueError, match="unknown metric"):
        measures.score("auc", constant, labels, 2)


def test_majority_score():
    labels = np.asarray([1, 1, 1, 0, 2])
    assert float(measures.majority_score("accuracy", labels, 3)) == pytest.approx(0.6)
    assert float(measures.majority_score("matthews", labels, 3)) == 0
    assert float(measures.majority_score("f1", np.asarray([1, 1, 1, 0]), 2)) == pytest.approx(6 / 7)


def test_matthews_of_a_large_split_keeps_its_digits():
    labels = RNG.integers(0, 2, 200_000)
    predictions = np.where(RNG.random(200_000) < 0.9, labels, 1 - labels)
    value = measures.score("matthews", jnp.asarray(predictions), jnp.asarray(labels), 2)
    assert float(value) == pytest.approx(matthews_corrcoef(labels, predictions), abs=1e-5)


def test_calibration_error_by_its_definition():
    logits, labels = (2 * RNG.normal(size=(3, 200, 4))).astype(np.float32), RNG.integers(0, 4, 200)
    expected = []
    for p in _softmax(logits.astype(np.float64)):
        confidence, right = p.max(-1), p.argmax(-1) == labels
        edges = np.linspace(0, 1, 16)
        inside = [(confidence > a) & (confidence <= b) for a, b in itertools.pairwise(edges)]
        expected.append(sum(abs(right[i].mean() - confidence[i].mean()) * i.mean() for i in inside if i.any()))
    found = measures.calibration_error(jnp.asarray(logits), jnp.asarray(labels))
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_pairs_by_their_definitions():
    predictions, _ = _predictions()
    given = jnp.asarray(predictions)
    disagreement = _pairs(lambda a, b: (a != b).mean(), predictions)
    np.testing.assert_allclose(measures.pairwise_disagreement(given), disagreement, atol=1e-6)
    kappa = _pairs(lambda a, b: 1 - cohen_kappa_score(a, b), predictions)
    np.testing.assert_allclose(measures.cohen_kappa(given, 3), kappa, atol=1e-5)
    logits = RNG.normal(size=(5, 20, 4)) * 3
    jsd = _pairs(lambda a, b: (jensenshannon(a, b, axis=-1) ** 2).mean(), _softmax(logits))
    np.testing.assert_allclose(measures.jsd(jnp.asarray(logits, jnp.float32)), jsd, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_bounds_of_normalised_disagreement_by_trying_all_predictions(classes):
    """Over all pairs of predictions for four examples with given accuracies, the extremes are 0 and 1."""
    labels = np.array([0, 1, 1, 0])
    every = np.array(list(itertools.product(range(classes), repeat=4)))
    found = np.asarray(measures.normalised_disagreement(jnp.asarray(every), jnp.asarray(labels), classes))
    disagreement = (every[:, None] != every).sum(-1)
    errors = (every != labels).sum(-1)
    for e, f in itertools.product(range(5), repeat=2):
        chosen = np.ix_(errors == e, errors == f)
        least, most = disagreement[chosen].min(), disagreement[chosen].max()
        expected = (disagreement[chosen] - least) / max(most - least, 1)
        np.testing.assert_allclose(found[chosen], expected, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_sets_agree_with_statsmodels_and_krippendorff(classes):
    predictions, _ = _predictions(classes=classes)
    table, _ = aggregate_raters(predictions.T, n_cat=classes)
    assert float(measures.fleiss_kappa(predictions, classes)) == pytest.approx(1 - statsmodels_kappa(table), abs=1e-12)
    alpha = krippendorff.alpha(predictions, level_of_measurement="nominal")
    assert float(measures.krippendorff_alpha(predictions, classes)) == pytest.approx(1 - alpha, abs=1e-12)


def test_sets_by_their_definitions():
    predictions, labels = _predictions()
    logits = RNG.normal(size=(7, 60, 3)) + np.eye(3)[labels]
    given, truth, as_logits = jnp.asarray(predictions), jnp.asarray(labels), jnp.asarray(logits, jnp.float32)
    stable = np.mean([len(set(column)) == 1 for column in predictions.T])
    assert float(measures.stable_fraction(given)) == pytest.approx(stable)
    accuracy = (predictions == labels).mean(1)
    ambiguity, discrepancy = [], []
    for i, own in enumerate(predictions):
        rivals = [predictions[j] for j in range(7) if accuracy[j] >= accuracy[i] - 0.01 - 1e-9]
        ambiguity.append(np.mean(np.any([own != rival for rival in rivals], axis=0)))
        discrepancy.append(max(np.mean(own != rival) for rival in rivals))
    assert float(measures.ambiguity(given, truth)) == pytest.approx(np.mean(ambiguity))
    assert float(measures.discrepancy(given, truth)) == pytest.approx(np.mean(discrepancy))
    p = _softmax(logits)
    generalised = (entropy(p.mean(0), axis=-1) - entropy(p, axis=-1).mean(0)).mean()
    assert float(measures.generalised_jsd(as_logits)) == pytest.approx(generalised, abs=1e-6)
    calibration = float(np.std(measures.calibration_error(as_logits, truth), ddof=1))
    assert float(measures.calibration_spread(as_logits, truth)) == pytest.approx(calibration, abs=1e-6)
    gain = (p.mean(0).argmax(-1) == labels).mean() - (p.argmax(-1) == labels).mean()
    assert float(measures.ensemble_gain(as_logits, truth, "accuracy")) == pytest.approx(gain, abs=1e-6)


LN2 = np.log(2)
SURE, EVEN, RIGHT, WRONG = [20.0, -20.0], [0.0, 0.0], [2.0, 0.0], [0.0, 1.0]


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("pairwise_disagreement", ([[0, 0, 1, 1], [0, 1, 0, 1]],), 2 / 4),
        ("pairwise_disagreement", ([[0, 0], [0, 1], [1, 2]],), (1 / 2 + 1 + 1) / 3),
        # One split of two examples; shares 2/2 against 1/2 and 1/2, so chance disagreement is 1/2.
        ("cohen_kappa", ([[0, 0], [0, 1]], 2), 0.5 / 0.5),
        # Shares 1/2, 1/2 each: chance disagreement 1/2; they differ on 1 of 4.
        ("cohen_kappa", ([[0, 0, 1, 1], [0, 0, 1, 0]], 2), 0.25 / 0.5),
        # One error of 4 each, on different examples: the most disagreement possible. Then on the same: the least.
        ("normalised_disagreement", ([[1, 0, 0, 0], [0, 1, 0, 0]], [0, 0, 0, 0], 2), 1),
        ("normalised_disagreement", ([[1, 1, 0, 0], [1, 0, 1, 0]], [0, 0, 0, 0], 2), 2 / 4),
        # Two confident opposites: ln 2. Confident against uniform: H(3/4, 1/4) - H(1/2, 1/2) / 2.
        ("jsd", ([[SURE], [SURE[::-1]]],), LN2),
        ("jsd", ([[SURE], [EVEN]],), -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) - LN2 / 2),
        # One agreement on 0, one split: P = 1/2, shares 3/4 and 1/4, Pe = 10/16.
        ("fleiss_kappa", ([[0, 0], [0, 1]], 2), 1 - (0.5 - 0.625) / (1 - 0.625)),
        # Votes 2:1 and 3:0: disagreement (2/3 + 0) / 2 against 2 (5/6)(1/6).
        ("fleiss_kappa", ([[0, 0], [0, 0], [1, 0]], 2), (1 / 3) / (10 / 36)),
        # As above, with pairs of votes drawn without replacement: 3/8 becomes 3/8 * 4/3, 10/36 becomes 10/36 * 6/5.
        ("krippendorff_alpha", ([[0, 0], [0, 1]], 2), 0.5 / 0.5),
        ("krippendorff_alpha", ([[0, 0], [0, 0], [1, 0]], 2), (1 / 3) / (1 / 3)),
        ("stable_fraction", ([[0, 0, 1], [0, 1, 1], [0, 1, 1]],), 2 / 3),
        ("stable_fraction", ([[0, 1], [1, 0]],), 0),
        # Equally accurate seeds that disagree on 2 of 4. Then only the better seed competes with the worse one, not the
        # reverse: (0 + 1/4) / 2.
        ("ambiguity", ([[1, 0, 0, 0], [0, 1, 0, 0]], [0, 0, 0, 0]), 0.5),
        ("ambiguity", ([[0, 0, 0, 0], [0, 1, 0, 0]], [0, 0, 0, 0]), 0.125),
        # Equally accurate seeds that disagree on 2 of 4. With 0, 1 and 2 errors only better seeds compete: 0, 1/4, 1/2.
        ("discrepancy", ([[1, 0, 0, 0], [0, 1, 0, 0]], [0, 0, 0, 0]), 0.5),
        ("discrepancy", ([[0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]], [0, 0, 0, 0]), (0 + 1 / 4 + 1 / 2) / 3),
        # Two opposite: ln 2. Two of three agree: H(2/3, 1/3).
        ("generalised_jsd", ([[SURE], [SURE[::-1]]],), LN2),
        ("generalised_jsd", ([[SURE], [SURE], [SURE[::-1]]],), np.log(3) - 2 / 3 * LN2),
        # Calibration errors |1 - 1| and |0 - 1|: the SD of 0 and 1. Uniform logits predict class 0 with 1/2: |1 - 1/2|.
        ("calibration_spread", ([[SURE], [SURE[::-1]]], [0]), np.sqrt(0.5)),
        ("calibration_spread", ([[SURE], [EVEN]], [0]), np.sqrt(0.125)),
        # Each seed is right on 2 of 3 examples and surer there than the wrong seed: the ensemble is right on all.
        ("ensemble_gain", ([[RIGHT, RIGHT, WRONG], [RIGHT, WRONG, RIGHT], [WRONG, RIGHT, RIGHT]], [0] * 3, "accuracy"),
         1 / 3),
        ("ensemble_gain", ([[SURE], [SURE]], [1], "accuracy"), 0),
    ],
)  # fmt: skip
def test_cases_worked_by_hand(name, arguments, expected):
    array = arguments[0]
    first = jnp.asarray(array, jnp.float32) if np.ndim(array) == 3 else jnp.asarray(array)
    others = [jnp.asarray(one) if isinstance(one, list) else one for one in arguments[1:]]
    found = np.asarray(getattr(measures, name)(first, *others))
    value = measures.mean_over_pairs(found) if found.ndim else found
    assert float(value) == pytest.approx(expected, abs=1e-6)


def test_sd_by_hand():
    assert float(measures.sd(np.array([1.0, 2.0, 3.0]))) == pytest.approx(1.0)
    assert float(measures.sd(np.array([0.5, 0.7]))) == pytest.approx(0.2 / np.sqrt(2))
    assert np.isnan(measures.sd(np.array([1.0])))


def test_example_disagreement_by_hand():
    predictions = np.asarray([[0, 0, 0], [0, 1, 1], [0, 1, 2], [0, 1, 2]])
    np.testing.assert_allclose(measures.example_disagreement(predictions, 3), [0, 3 / 6, 5 / 6], atol=1e-6)


def _values(logits, labels):
    found = measures.all(logits=logits, labels=labels)
    return {name: row["value"] for name, row in found.measures.items()}


def test_equal_seeds_are_stable():
    labels = RNG.integers(0, 3, 30)
    logits = np.broadcast_to(RNG.normal(size=(30, 3)), (4, 30, 3)).astype(np.float32)
    values = _values(logits, labels)
    assert values.pop("stable_fraction") == 1
    assert list(values.values()) == pytest.approx([0] * len(values), abs=1e-6)
    one_class = _values(np.broadcast_to(np.float32([9, 0, 0]), (4, 30, 3)), labels)
    assert one_class["fleiss_kappa"] == one_class["cohen_kappa"] == one_class["krippendorff_alpha"] == 0


def test_invariances_of_all_measures():
    """Order of seeds, constants added to logits, and (except for scores of one class) names of classes."""
    logits, labels = RNG.normal(size=(6, 40, 3)).astype(np.float32), RNG.integers(0, 3, 40)
    order, shift, names = RNG.permutation(6), RNG.normal(size=(6, 40, 1)).astype(np.float32), np.array([2, 0, 1])
    values = _values(logits, labels)
    for other in (_values(logits[order] + shift, labels), _values(logits[:, :, np.argsort(names)], names[labels])):
        assert list(other.values()) == pytest.approx(list(values.values()), abs=1e-5)


def test_leaving_seeds_out_equals_never_having_had_them():
    logits = jnp.asarray(RNG.normal(size=(6, 40, 3)), jnp.float32)
    predictions, labels = logits.argmax(-1), jnp.asarray(RNG.integers(0, 3, 40))
    mask, rows = jnp.asarray([0.0, 1, 1, 0, 1, 1]), np.array([1, 2, 4, 5])
    calls = {
        measures.fleiss_kappa: (predictions, 3),
        measures.krippendorff_alpha: (predictions, 3),
        measures.stable_fraction: (predictions,),
        measures.ambiguity: (predictions, labels),
        measures.discrepancy: (predictions, labels),
        measures.generalised_jsd: (logits,),
        measures.calibration_spread: (logits, labels),
        measures.ensemble_gain: (logits, labels, "macro_f1"),
    }
    for function, (first, *others) in calls.items():
        kept = function(first[rows], *others)
        assert float(function(first, *others, mask=mask)) == pytest.approx(float(kept), abs=1e-6), function.__name__
