"""Scores and measures of predicted numbers against scipy, scikit-learn, float64 definitions and a published table."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from jaxstab import measures
from jaxstab.analysis.failures import FLAT, MEAN_LABEL, failures
from jaxstab.measures.number_scores import number_score, number_scores_without_each

RNG = np.random.default_rng(0)
LABELS = np.round(RNG.normal(2, 1, 60), 1)  # with ties
PREDICTIONS = np.round(LABELS + RNG.normal(0, 0.7, (5, 1)) + RNG.normal(0, 0.8, (5, 60)), 1)
DEFINITIONS = {
    "pearson": lambda x, y: stats.pearsonr(x, y)[0],
    "spearman": lambda x, y: stats.spearmanr(x, y)[0],
    "neg_rmse": lambda x, y: -metrics.root_mean_squared_error(y, x),
    "r2": lambda x, y: metrics.r2_score(y, x),
}
# Shrout & Fleiss (1979), table 2: six targets by four judges; their ICC(2,1) is .29.
JUDGED = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]).T


@pytest.mark.parametrize("metric", DEFINITIONS)
def test_scores_and_those_without_each_example(metric):
    wanted, x = DEFINITIONS[metric], PREDICTIONS[0]
    assert number_score(metric, x, LABELS) == pytest.approx(wanted(x, LABELS), abs=1e-12)
    found = number_score(metric, *(jnp.asarray(one, jnp.float32) for one in (x, LABELS)))
    assert float(found) == pytest.approx(wanted(x, LABELS), abs=1e-6)
    without = [wanted(np.delete(x, i), np.delete(LABELS, i)) for i in range(len(x))]
    np.testing.assert_allclose(number_scores_without_each(metric, x, LABELS), without, atol=1e-12)


def test_scores_where_nothing_varies():
    same = np.full(60, 0.1)
    assert [number_score(metric, same, LABELS) for metric in ("pearson", "spearman")] == [0, 0]
    assert number_score("r2", np.full(60, LABELS.mean()), LABELS) == pytest.approx(0, abs=1e-12)
    assert measures.majority_score("neg_rmse", LABELS, 1) == pytest.approx(-LABELS.std())
    assert all(np.isnan(number_score(metric, LABELS, same)) for metric in ("pearson", "spearman", "r2"))
    with pytest.raises(ValueError, match="pearson needs labels that differ; all labels are the same"):
        measures.all(predictions=PREDICTIONS, labels=same)
    almost = np.append(np.zeros(59), 1.0)  # without its last example, predictions are constant
    assert number_scores_without_each("pearson", almost, LABELS)[-1] == 0
    assert number_scores_without_each("spearman", almost, LABELS)[-1] == 0
    assert np.isnan(number_scores_without_each("r2", LABELS, almost)[-1])


def test_contributions_average_to_the_score():
    for metric, wanted in DEFINITIONS.items():
        found = measures.contributions_of_examples(metric, PREDICTIONS, LABELS, 1)
        np.testing.assert_allclose(found.mean(1), [wanted(one, LABELS) for one in PREDICTIONS], atol=1e-12)


def test_icc_of_a_published_table():
    assert 1 - measures.icc(JUDGED) == pytest.approx(0.29, abs=0.005)
    rows = JUDGED - JUDGED.mean()
    n, k = 6, 4
    between = k * (rows.mean(0) ** 2).sum() / (n - 1)
    judges = n * (rows.mean(1) ** 2).sum() / (k - 1)
    rest = ((rows - rows.mean(0) - rows.mean(1, keepdims=True)) ** 2).sum() / ((n - 1) * (k - 1))
    wanted = (between - rest) / (between + (k - 1) * rest + k * (judges - rest) / n)
    assert 1 - measures.icc(JUDGED) == pytest.approx(wanted, abs=1e-12)


def test_definitions():
    found = measures.all(predictions=PREDICTIONS)
    pairs = [(i, j) for i in range(5) for j in range(i)]
    wanted = {
        "prediction_sd": PREDICTIONS.std(0, ddof=1).mean(),
        "mean_absolute_disagreement": np.mean([np.abs(PREDICTIONS[i] - PREDICTIONS[j]).mean() for i, j in pairs]),
        "rank_disagreement": np.mean([1 - stats.spearmanr(PREDICTIONS[i], PREDICTIONS[j])[0] for i, j in pairs]),
        "icc": float(measures.icc(PREDICTIONS)),
    }
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name]["value"] == pytest.approx(value, rel=1e-5)
        assert found[name]["interval"].low < value < found[name]["interval"].high
        assert found[name]["null_shuffled"] > value
    assert found["rank_disagreement"]["null_shuffled"] == pytest.approx(1, abs=0.2)
    assert found["icc"]["null_shuffled"] == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("name", ["prediction_sd", "icc"])
def test_masks_choose_seeds(name):
    measure = getattr(measures, name)
    masks = RNG.random((70, 5)) < 0.7
    wanted = [measure(PREDICTIONS[mask]) if mask.sum() > 1 else np.nan for mask in masks]
    np.testing.assert_allclose(measure(PREDICTIONS, masks), wanted, atol=1e-12)


def test_equal_seeds_and_invariances():
    equal = np.repeat(PREDICTIONS[:1], 4, axis=0)
    found = measures.all(predictions=equal, labels=LABELS)
    for name in ("prediction_sd", "mean_absolute_disagreement", "rank_disagreement", "icc"):
        assert found[name]["value"] == pytest.approx(0, abs=1e-12)
        assert found[name]["reason"] == "no difference seen"
    assert measures.icc(np.full((3, 5), 0.1)) == pytest.approx(0, abs=1e-12)
    assert measures.icc(3 * PREDICTIONS + 7) == pytest.approx(float(measures.icc(PREDICTIONS)))
    shifted = jnp.asarray(np.stack([LABELS, 2 * LABELS + 5, np.ones(60), np.zeros(60)]), jnp.float32)
    wanted = [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
    np.testing.assert_allclose(measures.rank_disagreement(shifted), wanted, atol=1e-6)


def test_gain_of_the_ensemble():
    found = measures.all(logits=PREDICTIONS[..., None], labels=LABELS, metric="neg_rmse")
    each = [DEFINITIONS["neg_rmse"](one, LABELS) for one in PREDICTIONS]
    wanted = DEFINITIONS["neg_rmse"](PREDICTIONS.mean(0), LABELS) - np.mean(each)
    assert found["ensemble_gain"]["value"] == pytest.approx(wanted, abs=1e-6)
    low, high = found.scores["joint_interval"]
    assert low < found.scores["mean"] < high < 0


def test_what_numbers_are():
    whole = np.round(LABELS).astype(int)
    assert "icc" in measures.all(predictions=np.round(PREDICTIONS), labels=LABELS)
    assert "icc" in measures.all(predictions=whole[None].repeat(3, 0), labels=whole, metric="r2")
    assert "fleiss_kappa" in measures.all(predictions=np.abs(whole)[None].repeat(3, 0), labels=np.abs(whole))
    found = measures.all(predictions=PREDICTIONS, only=["icc", "jsd", "fleiss_kappa"])
    assert found.left_out == {"fleiss_kappa": "needs classes", "jsd": "needs classes"} | found.left_out
    assert measures.all(predictions=whole[None].repeat(3, 0) > 1, only=["icc"]).left_out == {"icc": "needs numbers"}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"predictions": PREDICTIONS, "labels": LABELS > 2},
            "predictions are no whole numbers, but labels are 0 and 1",
        ),
        (
            {"logits": PREDICTIONS[..., None], "labels": LABELS > 2},
            "one logit for each example, but labels are 0 and 1",
        ),
        (
            {"logits": PREDICTIONS[..., None], "labels": LABELS, "metric": "f1"},
            "f1 does not apply: predictions are num",
        ),
        ({"logits": np.stack([PREDICTIONS] * 2, -1), "labels": LABELS > 2, "metric": "r2"}, "r2 does not apply"),
        ({"predictions": np.where(LABELS > 3, np.nan, PREDICTIONS)}, "predictions: nan at seed 0, example"),
        ({"predictions": PREDICTIONS, "labels": np.append(LABELS[1:], np.inf)}, "labels: inf at example 59"),
    ],
)
def test_wrong_arrays(arrays, message):
    with pytest.raises(ValueError, match=message):
        measures.all(**arrays)


def test_failed_seeds():
    good, upside_down, same = LABELS + 0.1, -LABELS, np.full(60, LABELS.mean() - 1e-3)
    nothing = np.where(np.arange(60) == 3, np.nan, LABELS)
    outputs = np.stack([good, upside_down, same, nothing])[..., None]
    reasons = failures(outputs, LABELS, "pearson")
    assert reasons[:3] == [None, MEAN_LABEL, MEAN_LABEL]
    assert reasons[3] == "logits are not finite"
    losses = np.full((1, 2), LABELS.var())
    assert failures(outputs[:1], LABELS, "pearson", losses) == [FLAT]
