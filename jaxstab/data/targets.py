"""What training asks of the outputs: the squared error of numbers, class weights and label smoothing."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Shaped

from jaxstab.config import TrainConfig
from jaxstab.data.batches import Batch
from jaxstab.errors import InputError


class Targets(NamedTuple):
    """How a training loss differs from the plain cross-entropy.

    Attributes:
        weights: [C] float32 weight of each class.
        smoothing: share of the target that is spread evenly over all classes.
    """

    weights: Float[np.ndarray, " C"]
    smoothing: float


def make_targets(config: TrainConfig, classes: tuple[str, ...], labels: Shaped[np.ndarray, " N"]) -> Targets | None:
    """Returns the targets that a config asks for; None for the plain cross-entropy.

    Args:
        config: `[train]`.
        classes: names of the classes; none of a regression.
        labels: [N] class indices of the training examples, for balanced weights N / (C x examples of the class).

    Raises:
        InputError: weights that do not name every class once.
    """
    given = config.class_weights
    if given is None and config.label_smoothing == 0:
        return None
    if not classes:
        key = "label_smoothing" if given is None else "class_weights"
        raise InputError(f"train.{key} needs classes, which a regression does not have; leave it out")
    weights = np.ones(len(classes))
    if given == "balanced":
        weights = len(labels) / (len(classes) * np.maximum(np.bincount(labels, minlength=len(classes)), 1))
    elif given is not None:
        if set(given) != set(classes):
            raise InputError(
                f"train.class_weights names {', '.join(given) or 'nothing'}; the classes are {', '.join(classes)}; "
                'give each of them a weight, or "balanced"'
            )
        weights = np.array([given[name] for name in classes])
    return Targets(weights.astype(np.float32), config.label_smoothing)


def losses_of_examples(outputs: Float[Array, "B C"], labels: Shaped[Array, " B"]) -> Float[Array, " B"]:
    """Returns the loss of each example: its cross-entropy in nats, or the squared error of a regression (C = 1).

    The latter is that of torch.nn.MSELoss, with labels as they are, as in transformers.

    Args:
        outputs: [B, C] logits, or predicted numbers [B, 1].
        labels: [B] class indices, or numbers.
    """
    if outputs.shape[1] == 1:
        return (outputs[:, 0] - labels) ** 2
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels)


def cross_entropy(log_p: Float[Array, "B C"], batch: Batch, targets: Targets) -> Float[Array, ""]:
    """Returns the mean loss of a batch in nats, as torch.nn.CrossEntropyLoss defines it.

    With weights w and smoothing e the loss of an example of class y is -(1 - e) w_y log p_y - e/C sum_c w_c log p_c.
    Their sum is divided by the sum of w_y.

    Args:
        log_p: [B, C] logarithms of probabilities.
        batch: the batch; its padding counts for nothing.
        targets: weights and smoothing.
    """
    weights, smoothing = jnp.asarray(targets.weights), targets.smoothing
    of_examples = weights[batch.labels]
    right = jnp.take_along_axis(log_p, batch.labels[:, None], axis=1)[:, 0]
    losses = -(1 - smoothing) * of_examples * right - smoothing * (log_p * weights).mean(axis=1)
    return jnp.sum(losses * batch.weights) / jnp.sum(of_examples * batch.weights)


def loss_of_a_guess(targets: Targets, labels: Int[np.ndarray, " N"]) -> float:
    """Returns the smallest loss of the same probabilities for all examples, nats.

    Args:
        targets: weights and smoothing.
        labels: [N] class indices.
    """
    shares = np.bincount(labels, minlength=len(targets.weights)) / len(labels)
    weights = targets.weights.astype(np.float64)
    total = (shares * weights).sum()
    wanted = ((1 - targets.smoothing) * shares + targets.smoothing / len(weights)) * weights
    p = wanted / wanted.sum()
    return float(-(wanted * np.log(np.where(p > 0, p, 1))).sum() / total)
