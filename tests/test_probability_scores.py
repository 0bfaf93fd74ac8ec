"""Scores of probabilities against scikit-learn, and through the measures, comparisons and training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import softmax
from sklearn import metrics

import jaxstab
from jaxstab import measures
from jaxstab.analysis import failures
from jaxstab.analysis.joint_power import joint_power
from jaxstab.errors import InputError
from jaxstab.measures.joint import joint_difference, joint_mean

RNG = np.random.default_rng(0)
AREAS = {"auroc": metrics.roc_auc_score, "average_precision": metrics.average_precision_score}
METRICS = [*AREAS, "neg_log_loss", "neg_brier"]


def _sample(classes, examples=40, seeds=3, signal=1.0, rounded=False):
    labels = RNG.integers(classes, size=examples)
    logits = RNG.normal(size=(seeds, examples, classes)) + signal * np.eye(classes)[labels]
    return (np.round(logits) if rounded else logits).astype(np.float32), labels


def _sklearn(metric, logits, labels):
    classes = logits.shape[-1]
    p = softmax(logits.astype(np.float64), axis=-1)
    if metric == "neg_log_loss":
        return -metrics.log_loss(labels, p, labels=range(classes))
    if metric == "neg_brier":
        # scikit-learn's, which halves it for two classes only.
        return -((p - np.eye(classes)[labels]) ** 2).sum(1).mean() / 2
    if classes == 2:
        return AREAS[metric](labels, logits[:, 1] - logits[:, 0])
    return np.mean([AREAS[metric](labels == c, p[:, c]) for c in range(classes)])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("classes", "rounded"), [(2, False), (2, True), (4, False)])
def test_scores_agree_with_scikit_learn(metric, classes, rounded):
    logits, labels = _sample(classes, rounded=rounded)
    expected = [_sklearn(metric, one, labels) for one in logits]
    np.testing.assert_allclose(measures.scores(metric, logits, labels, classes), expected, atol=1e-12)
    on_device = jax.jit(jax.vmap(lambda one: measures.score_of_logits(metric, one, jnp.asarray(labels))))
    np.testing.assert_allclose(on_device(jnp.asarray(logits)), expected, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("classes", "rounded"), [(2, False), (2, True), (4, False)])
def test_contributions_against_delete_one_scores(metric, classes, rounded):
    logits, labels = _sample(classes, rounded=rounded)
    found = measures.contributions_of_examples(metric, logits, labels, classes)
    for row, one in zip(found, logits, strict=True):
        without = [_sklearn(metric, np.delete(one, n, axis=0), np.delete(labels, n)) for n in range(40)]
        expected = _sklearn(metric, one, labels) + 39 * (np.mean(without) - without)
        np.testing.assert_allclose(row, expected, atol=1e-10)
    np.testing.assert_allclose(found.mean(1), measures.scores(metric, logits, labels, classes), atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_adding_a_number_to_all_logits_of_an_example_changes_nothing(metric):
    logits, labels = _sample(3)
    moved = logits.astype(np.float64) + RNG.normal(size=(1, 40, 1))
    found = measures.scores(metric, moved, labels, 3)
    np.testing.assert_allclose(found, measures.scores(metric, logits.astype(np.float64), labels, 3), atol=1e-12)


def test_brier_of_two_classes_is_that_of_scikit_learn():
    logits, labels = _sample(2)
    expected = [-metrics.brier_score_loss(labels, softmax(one.astype(np.float64), axis=-1)[:, 1]) for one in logits]
    np.testing.assert_allclose(measures.scores("neg_brier", logits, labels, 2), expected, atol=1e-12)


def test_degenerate_scores():
    logits, labels = _sample(3)
    assert np.isnan(measures.scores("auroc", logits[:, :, :2], np.zeros(40, int), 2)).all()
    # A class that no label has is not judged.
    two = np.where(labels == 2, 0, labels)
    p = softmax(logits[0].astype(np.float64), axis=-1)
    expected = np.mean([metrics.roc_auc_score(two == c, p[:, c]) for c in range(2)])
    assert measures.scores("auroc", logits, two, 3)[0] == pytest.approx(expected)
    diverged = np.full((1, 40, 2), np.nan, np.float32)
    assert measures.scores("auroc", diverged, two, 2) == 0.5
    assert measures.scores("neg_log_loss", diverged, two, 2) == pytest.approx(-np.log(2))


@pytest.mark.parametrize("metric", METRICS)
def test_the_score_of_a_guess(metric):
    labels = np.asarray([1, 1, 1, 0, 2])
    shares = np.array([0.2, 0.6, 0.2])
    expected = {
        "auroc": 0.5,
        "average_precision": 1 / 3,
        "neg_log_loss": -stats.entropy(shares),
        "neg_brier": -(1 - (shares**2).sum()) / 2,
    }
    assert measures.majority_score(metric, labels, 3) == pytest.approx(expected[metric])
    assert measures.majority_score(metric, labels, 4) == pytest.approx(expected[metric])


def test_a_seed_that_is_too_sure_of_itself_has_not_failed():
    labels = np.repeat([0, 1], 20)
    sure = 100 * np.eye(2, dtype=np.float32)[labels]
    sure[0] = sure[0, ::-1]
    assert measures.scores("neg_log_loss", sure[None], labels, 2) < measures.majority_score("neg_log_loss", labels, 2)
    assert failures.failures(sure[None], labels, "neg_log_loss") == [None]
    assert failures.failures(sure[None, :, ::-1], labels, "neg_log_loss") == [failures.MAJORITY]
    assert failures.failures(sure[None, :, ::-1], labels, "auroc") == [failures.MAJORITY]


def test_the_interval_of_a_loss_is_symmetric_in_logarithms_and_stays_negative():
    logits, labels = _sample(2, seeds=5)
    low, high = joint_mean("neg_log_loss", logits, labels, 2)
    mean = measures.scores("neg_log_loss", logits, labels, 2).mean()
    assert low < mean < high < 0
    assert low * high == pytest.approx(mean**2)
    ends = joint_difference(
        "neg_log_loss", logits, logits + 1e-3 * RNG.normal(size=logits.shape), labels, 2, paired=True
    )
    assert ends[0] < ends[1]


@pytest.mark.parametrize("metric", METRICS)
def test_all_measures(metric):
    logits, labels = _sample(2, seeds=6, examples=80)
    found = measures.all(logits=logits, labels=labels, metric=metric)
    assert found.scores["mean"] == pytest.approx(np.mean([_sklearn(metric, one, labels) for one in logits]))
    assert found["sd"]["value"] == pytest.approx(np.std(found.scores["per_seed"], ddof=1))
    low, high = found.scores["joint_interval"]
    assert low < found.scores["mean"] < high
    together = np.log(softmax(logits.astype(np.float64), axis=-1).mean(0))
    gain = _sklearn(metric, together, labels) - found.scores["mean"]
    assert found["ensemble_gain"]["value"] == pytest.approx(gain, abs=1e-5)
    with pytest.raises(ValueError, match=f"{metric} needs logits: predictions do not say how sure a seed is"):
        measures.all(predictions=logits.argmax(-1), labels=labels, metric=metric)


def test_a_rare_class():
    logits, _ = _sample(2, seeds=6, examples=60)
    once = np.eye(1, 60, dtype=int)[0]
    sample = jaxstab.Sample.from_arrays("rare", logits=logits, labels=once, metric="auroc")
    found = jaxstab.measure(sample)
    assert found.scores["mean"] == pytest.approx(np.mean([_sklearn("auroc", one, once) for one in logits]))
    assert found.scores["joint_interval"] is None
    assert found.scores["remaining_sd"] is None
    assert jaxstab.study_seeds(sample).joint is None
    assert jaxstab.validity(sample).to_frame().notna().any().any()
    assert np.isnan(measures.remaining_sd("auroc", logits, once, 2).remaining)
    with pytest.raises(ValueError, match="not defined without one of the test examples"):
        joint_power("auroc", logits, once, 2, delta=0.1)
    for metric in AREAS:
        with pytest.raises(InputError, match=f"{metric} needs examples of two classes; all labels are the same"):
            jaxstab.Sample.from_arrays("same", logits=logits, labels=np.ones(60, int), metric=metric)


def test_methods_are_compared_by_it():
    logits, labels = _sample(2, seeds=8, examples=80)
    better = logits + 0.5 * np.eye(2, dtype=np.float32)[labels]
    samples = [
        jaxstab.Sample.from_arrays(name, logits=one, labels=labels, metric="auroc", task="toy")
        for name, one in (("standard", logits), ("better", better))
    ]
    found = jaxstab.compare(samples)
    means = [np.mean([_sklearn("auroc", one, labels) for one in some]) for some in (logits, better)]
    assert [sample.scores.mean() for sample in samples] == pytest.approx(means)
    assert "higher auroc" in str(found) or "better" in str(found)
    assert jaxstab.study_seeds(samples[0], delta=0.05).joint is not None
    with pytest.raises(InputError, match="auroc needs logits"):
        jaxstab.Sample.from_arrays("votes", predictions=logits.argmax(-1), labels=labels, metric="auroc")


@pytest.mark.optimiser
@pytest.mark.parametrize("metric", ["auroc", "neg_log_loss"])
def test_a_run_trains_and_chooses_by_it(settings, metric):
    settings["task"]["metric"] = metric
    run = jaxstab.run(settings)
    expected = [_sklearn(metric, one, run.labels) for one in run.logits]
    np.testing.assert_allclose(run.scores, expected, atol=1e-6)
    history = run.history
    best = history[history["best"]].set_index("seed")["validation_score"]
    assert (best == history.groupby("seed")["validation_score"].max()).all()
    if metric == "neg_log_loss":
        np.testing.assert_allclose(history["validation_score"], -history["validation_loss"], rtol=1e-5)
