"""Early stopping: a seed takes no more steps once its validation score has not improved for some epochs.

A stopped seed keeps its place among the others and is masked there, so that their numbers do not depend on it. The
learning rate follows the schedule of all epochs.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Waiting(NamedTuple):
    """How long a seed has waited for a better validation score.

    Attributes:
        best: its best score so far.
        epochs: evaluations since then; -1 before the first.
    """

    best: Float[Array, ""]
    epochs: Int[Array, ""]


def begin_waiting() -> Waiting:
    """Returns the state of a seed before its first evaluation."""
    return Waiting(jnp.float32(-jnp.inf), jnp.int32(-1))


def wait(waiting: Waiting, score: Float[Array | np.ndarray, ""]) -> Waiting:
    """Returns the state after one more evaluation. A score that is equal to the best, or NaN, is no improvement."""
    better = score > waiting.best
    return Waiting(jnp.where(better, score, waiting.best), jnp.where(better, 0, waiting.epochs + 1))


def has_stopped(waiting: Waiting, patience: int) -> Bool[Array, ""]:
    """Returns whether the seed takes no more steps."""
    return waiting.epochs >= patience


def last_epochs(scores: Float[np.ndarray, "S E"], patience: int | None) -> Int[np.ndarray, " S"]:
    """Returns the epoch after which each seed stops, counted from 1: the rule of `wait` on all scores so far.

    Args:
        scores: [S, E] validation scores; those after a seed's stop do not matter, unless they are better.
        patience: epochs without a better score after which a seed stops; None for no stop.

    Returns:
        [S]; beyond E for seeds that have not stopped yet.
    """
    count, epochs = scores.shape
    if patience is None or epochs == 0:
        return np.full(count, epochs + 1)
    return np.where(np.isnan(scores), -np.inf, scores).argmax(axis=1) + 1 + patience
