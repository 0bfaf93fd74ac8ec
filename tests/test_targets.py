"""Class weights and label smoothing against PyTorch and their definition; what a guess loses; a run with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import optimize
from scipy.special import log_softmax
from sklearn.utils.class_weight import compute_class_weight

import jaxstab
from jaxstab.analysis.failures import FLAT, failures
from jaxstab.config import TrainConfig, make_config
from jaxstab.data.batches import Batch
from jaxstab.data.targets import Targets, cross_entropy, loss_of_a_guess, make_targets
from jaxstab.errors import InputError

RNG = np.random.default_rng(0)
CLASSES = ("no", "perhaps", "yes")


def _batch(labels, weights):
    values = dict.fromkeys(Batch._fields) | {"labels": jnp.asarray(labels), "weights": jnp.asarray(weights)}
    return Batch(**values)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.2, 3.0, 1.5]])
def test_the_loss_is_that_of_pytorch(smoothing, weights):
    logits, labels = RNG.normal(size=(10, 3)).astype(np.float32), RNG.integers(3, size=10).astype(np.int32)
    loss = torch.nn.CrossEntropyLoss(torch.tensor(weights), label_smoothing=smoothing)
    expected = loss(torch.tensor(logits[:8]), torch.tensor(labels[:8]).long())
    here = np.repeat([1, 0], [8, 2]).astype(np.float32)  # two rows of padding
    targets = Targets(np.array(weights, np.float32), smoothing)
    found = cross_entropy(jax.nn.log_softmax(jnp.asarray(logits)), _batch(labels, here), targets)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_the_loss_of_a_guess_is_the_smallest_of_a_constant():
    labels = np.repeat([0, 1, 2], [5, 2, 13]).astype(np.int32)
    targets = Targets(np.array([0.5, 2.0, 1.0], np.float32), 0.2)

    def loss(logits):
        log_p = np.tile(log_softmax(logits), (20, 1))
        return float(cross_entropy(jnp.asarray(log_p, jnp.float32), _batch(labels, np.ones(20, np.float32)), targets))

    found = optimize.minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-8})
    assert loss_of_a_guess(targets, labels) == pytest.approx(found.fun, abs=1e-5)
    plain = Targets(np.ones(3, np.float32), 0.0)
    shares = np.array([5, 2, 13]) / 20
    assert loss_of_a_guess(plain, labels) == pytest.approx(-(shares * np.log(shares)).sum())


def test_balanced_weights_are_those_of_scikit_learn():
    labels = RNG.choice(3, 50, p=[0.1, 0.2, 0.7])
    found = make_targets(TrainConfig(class_weights="balanced"), CLASSES, labels)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(found.weights, expected, rtol=1e-6)
    given = make_targets(TrainConfig(class_weights={"yes": 3.0, "no": 1.0, "perhaps": 2.0}), CLASSES, labels)
    assert given.weights.tolist() == [1, 2, 3]
    assert make_targets(TrainConfig(), CLASSES, labels) is None
    assert make_targets(TrainConfig(label_smoothing=0.1), CLASSES, labels).weights.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"label_smoothing": 1.0}, "train.label_smoothing = 1.0: must be at least 0 and less than 1"),
        ({"class_weights": {"a": 0.0}}, "train.class_weights.a = 0.0: must be greater than 0"),
        ({"class_weights": "even"}, "train.class_weights"),
    ],
)
def test_impossible_values(settings, train, message):
    with pytest.raises(InputError, match=message):
        make_config(settings | {"train": settings["train"] | train})


@pytest.mark.optimiser
def test_weights_must_name_the_classes(settings):
    settings["train"]["class_weights"] = {"yes": 1.0}
    with pytest.raises(
        InputError, match=r"train.class_weights names yes; the classes are .*; give each of them a weight"
    ):
        jaxstab.run(settings)


@pytest.mark.optimiser
@pytest.mark.parametrize("methods", [[], ["r_drop"]])
def test_a_run_with_weights_and_smoothing(settings, methods):
    plain = jaxstab.run(settings)
    settings["train"] |= {"class_weights": "balanced", "label_smoothing": 0.1, "learning_rate": 1e-30}
    settings["mitigation"] = {"methods": methods}
    settings["output"]["dir"] += "-weighted"
    run = jaxstab.run(settings)
    assert run.info.guess_loss > 0
    assert plain.info.guess_loss is None
    # A model that learns nothing loses what a guess does, or more.
    assert (run.history["train_loss"] > 0.99 * run.info.guess_loss).all()
    assert len(run.info.failed_seeds) == 4


def test_a_flat_loss_is_judged_by_the_loss_of_a_guess():
    labels = np.repeat([0, 1], 10)
    logits = np.eye(2)[None, labels]
    losses = np.array([[0.9, 0.8]])
    assert failures(logits, labels, "accuracy", losses) == [FLAT]
    assert failures(logits, labels, "accuracy", losses, 1.0) == [None]
