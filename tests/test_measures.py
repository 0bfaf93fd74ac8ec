import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_kappa

from jaxstab import measures

RNG = np.random.default_rng(0)


def _predictions(seeds=7, examples=60, classes=3):
    truth = RNG.integers(0, classes, examples)
    noise = RNG.integers(0, classes, (seeds, examples))
    return np.where(RNG.random((seeds, examples)) < 0.6, truth, noise), truth


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_scores_agree_with_sklearn(classes):
    predictions, labels = _predictions(classes=classes)
    expected = {
        "accuracy": accuracy_score,
        "matthews": matthews_corrcoef,
        "macro_f1": lambda y, p: f1_score(y, p, average="macro"),
        "f1": lambda y, p: f1_score(y, p, labels=[1], average="macro"),
    }
    for one in predictions:
        for metric, function in expected.items():
            value = measures.score(metric, jnp.asarray(one), jnp.asarray(labels), classes)
            assert float(value) == pytest.approx(function(labels, one), abs=1e-6)


def test_degenerate_scores():
    labels, constant = jnp.asarray([0, 0, 1, 0]), jnp.zeros(4, jnp.int32)
    assert float(measures.score("matthews", constant, labels, 2)) == 0
    assert float(measures.score("f1", constant, labels, 2)) == 0
    assert float(measures.score("macro_f1", constant, labels, 2)) == pytest.approx(3 / 7)
    with pytest.raises(ValueError, match="unknown metric"):
        measures.score("auc", constant, labels, 2)


def test_majority_score():
    labels = jnp.asarray([1, 1, 1, 0, 2])
    assert float(measures.majority_score("accuracy", labels, 3)) == pytest.approx(0.6)
    assert float(measures.majority_score("matthews", labels, 3)) == 0
    assert float(measures.majority_score("f1", jnp.asarray([1, 1, 1, 0]), 2)) == pytest.approx(6 / 7)


def test_matthews_of_a_large_split_keeps_its_digits():
    labels = RNG.integers(0, 2, 200_000)
    predictions = np.where(RNG.random(200_000) < 0.9, labels, 1 - labels)
    value = measures.score("matthews", jnp.asarray(predictions), jnp.asarray(labels), 2)
    assert float(value) == pytest.approx(matthews_corrcoef(labels, predictions), abs=1e-5)


def test_sd_by_hand():
    assert float(measures.sd(jnp.asarray([1.0, 2.0, 3.0]))) == pytest.approx(1.0)
    assert np.isnan(measures.sd(jnp.asarray([1.0])))


def test_pairwise_disagreement_by_definition():
    predictions, _ = _predictions()
    pairs = [(a != b).mean() for i, a in enumerate(predictions) for b in predictions[:i]]
    assert float(measures.pairwise_disagreement(jnp.asarray(predictions), 3)) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_example_disagreement_by_hand():
    predictions = jnp.asarray([[0, 0, 0], [0, 1, 1], [0, 1, 2], [0, 1, 2]])
    np.testing.assert_allclose(measures.example_disagreement(predictions, 3), [0, 3 / 6, 5 / 6], atol=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_fleiss_kappa_agrees_with_statsmodels(classes):
    predictions, _ = _predictions(classes=classes)
    table, _ = aggregate_raters(predictions.T, n_cat=classes)
    value = measures.fleiss_kappa(jnp.asarray(predictions), classes)
    assert float(value) == pytest.approx(1 - statsmodels_kappa(table), abs=1e-5)


def test_fleiss_kappa_worked_by_hand():
    # Two seeds, two examples: one agreement on 0, one split. P = 1/2, shares 3/4 and 1/4, Pe = 10/16.
    value = measures.fleiss_kappa(jnp.asarray([[0, 0], [0, 1]]), 2)
    assert float(value) == pytest.approx(1 - (0.5 - 0.625) / (1 - 0.625), abs=1e-6)


def test_jsd_agrees_with_scipy():
    logits = RNG.normal(size=(5, 20, 4)) * 3
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    pairs = [jensenshannon(p[i], p[j], axis=-1) ** 2 for i in range(5) for j in range(i)]
    assert float(measures.jsd(jnp.asarray(logits, jnp.float32))) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_jsd_of_certain_and_opposite_seeds_is_ln_2():
    logits = jnp.asarray([[[1e4, -1e4]], [[-1e4, 1e4]]])
    assert float(measures.jsd(logits)) == pytest.approx(np.log(2), abs=1e-6)


def test_equal_seeds_are_stable_and_one_seed_has_no_measure():
    logits = jnp.broadcast_to(jnp.asarray(RNG.normal(size=(30, 3)), jnp.float32), (4, 30, 3))
    predictions = logits.argmax(-1)
    assert float(measures.pairwise_disagreement(predictions, 3)) == 0
    assert float(measures.fleiss_kappa(predictions, 3)) == 0
    assert float(measures.fleiss_kappa(jnp.zeros((4, 30), jnp.int32), 3)) == 0
    assert float(measures.jsd(logits)) == pytest.approx(0, abs=1e-7)
    assert np.isnan(measures.pairwise_disagreement(predictions[:1], 3))
    assert np.isnan(measures.fleiss_kappa(predictions[:1], 3))
    assert np.isnan(measures.jsd(logits[:1]))


def test_order_of_seeds_and_constants_in_logits_do_not_matter():
    logits = jnp.asarray(RNG.normal(size=(6, 40, 3)), jnp.float32)
    order, shift = RNG.permutation(6), jnp.asarray(RNG.normal(size=(6, 40, 1)), jnp.float32)
    assert float(measures.jsd(logits[order] + shift)) == pytest.approx(float(measures.jsd(logits)), abs=1e-6)
    for measure in (measures.pairwise_disagreement, measures.fleiss_kappa):
        same = measure((logits[order] + shift).argmax(-1), 3)
        assert float(same) == pytest.approx(float(measure(logits.argmax(-1), 3)), abs=1e-6)


def test_measures_import_without_transformers_and_datasets():
    code = (
        "import sys; from jaxstab import measures; "
        "print([m for m in ('transformers', 'datasets', 'flax') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"
