"""Results by class, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from jaxstab.measures import by_class, confusion, pairwise_disagreement
from jaxstab.report.matrices import confusion_map

SEEDS, CLASSES = [3, 1, 4, 5], 4


@pytest.fixture
def votes():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES - 1, 60)  # nothing has the last class as its label
    wrong = rng.random((len(SEEDS), 60)) < 0.3
    return np.where(wrong, rng.integers(0, CLASSES, wrong.shape), labels), labels


def test_confusions_and_qualities_are_those_of_scikit_learn(votes):
    predictions, labels = votes
    counts, found = confusion(*votes, CLASSES), by_class(*votes, CLASSES, SEEDS)
    expected = []
    for one, count in zip(predictions, counts, strict=True):
        assert (count == confusion_matrix(labels, one, labels=range(CLASSES))).all()
        expected.append(precision_recall_fscore_support(labels, one, labels=range(CLASSES), zero_division=0)[:3])
    precision, recall, f1 = np.moveaxis(np.array(expected), 1, 0)
    assert list(found) == [0, 1, 2]
    for c, one in found.items():
        assert one.examples == (labels == c).sum()
        for row, values in ((one.recall, recall), (one.precision, precision), (one.f1, f1)):
            assert row["value"] == pytest.approx(values[:, c].mean())
            low, high = row["interval"]
            half = 3.182446 * values[:, c].std(ddof=1) / 2  # Student's t of 3 degrees of freedom, four seeds
            assert (low, high) == pytest.approx((row["value"] - half, min(row["value"] + half, 1)))
        assert one.recall_sd == pytest.approx(recall[:, c].std(ddof=1))
        pairs = np.asarray(pairwise_disagreement(predictions[:, labels == c]))
        assert one.disagreement == pytest.approx(pairs[np.triu_indices(4, 1)].mean(), rel=1e-6)


def test_seeds_that_agree_have_a_reason_instead_of_an_interval():
    labels = np.array([0, 0, 1, 1])
    one = by_class(np.array([[0, 0, 1, 0]] * 3), labels, 2, [0, 1, 2])[1]
    assert one.recall == {"value": 0.5, "interval": None, "reason": "no difference seen"}
    assert (one.precision["value"], one.recall_sd, one.disagreement) == (1.0, 0.0, 0.0)


def test_one_seed_and_a_class_that_is_never_predicted():
    found = by_class(np.zeros((1, 3), int), np.array([0, 1, 1]), 2, [7])
    assert found[0].precision["value"] == pytest.approx(1 / 3)
    assert found[1].precision == found[1].f1 == {"value": 0.0, "interval": None}
    assert found[1].recall_sd is None


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("classes", [2, 12])
def test_the_map_shows_shares_of_each_label(seeds, classes):
    counts = np.zeros((seeds, classes, classes))
    counts[:, 0, 0], counts[:, 0, 1] = 3, 1
    (axes, *_) = confusion_map(counts, names=[f"a class with number {c}" for c in range(classes)]).axes
    assert np.asarray(axes.images[0].get_array())[0, :2].tolist() == [75, 25]
    assert [text.get_text() for text in axes.texts] == (["75", "25"] if classes == 2 else [])
