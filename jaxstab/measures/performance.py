"""Scores of predictions against labels, their spread over seeds, and calibration."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped
from scipy.special import softmax

CALIBRATION_BINS = 15
METRICS = ("accuracy", "f1", "matthews", "macro_f1")
if TYPE_CHECKING:
    AnyArray = Any  # numpy in, numpy out; JAX in, JAX out
else:
    AnyArray = np.ndarray | np.generic | Array


def score(
    metric: str, predictions: Int[AnyArray, "*S N"], labels: Int[AnyArray, " N"], classes: int
) -> Float[AnyArray, "*S"]:
    """Computes a task score.

    Args:
        metric: see `score_of_confusion`.
        predictions: [..., N] class indices, in numpy or JAX like `labels`.
        labels: [N] class indices.
        classes: C.

    Returns:
        [...]; 1 is perfect. float64 of numpy arrays, float32 of JAX arrays, also in compiled functions.

    Raises:
        ValueError: unknown metric.
    """
    xp, float_type = (jnp, jnp.float32) if isinstance(predictions, jax.Array) else (np, np.float64)
    right = predictions == labels
    if metric == "accuracy":
        rights, wrongs = (xp.sum(one, axis=-1, dtype=float_type) for one in (right, ~right))
        # Not divided by a constant: XLA would multiply by its rounded inverse and give .79999995 for 40 of 50.
        return rights / (rights + wrongs)
    predicted, actual = (one[..., None] == xp.arange(classes) for one in (predictions, labels))
    counts = (right[..., None] & actual, predicted, actual)
    return score_of_confusion(metric, *(xp.sum(one, axis=-2, dtype=float_type) for one in counts))


def scores(
    metric: str, predictions: Int[AnyArray, "S N"], labels: Int[AnyArray, " N"], classes: int
) -> Float[np.ndarray, " S"]:
    """Computes the score of every seed in float64, see `score`."""
    labels = np.asarray(labels)
    return np.array([score(metric, np.asarray(one), labels, classes) for one in predictions])


def score_of_confusion(
    metric: str, hits: Float[AnyArray, "... C"], guesses: Float[AnyArray, "... C"], truths: Float[AnyArray, "... C"]
) -> Float[AnyArray, "..."]:
    """Computes a task score from counts in numpy or JAX, which need not be integers.

    Args:
        metric: `accuracy`; `f1`, of class 1; `matthews`, the correlation coefficient in its form for any number of
            classes (Gorodkin 2004), 0 where a margin is constant; `macro_f1`, the unweighted mean of F1 over classes
            that occur in labels or predictions. An F1 without true positives is 0.
        hits: for each class, the number of examples that have it as label and as prediction.
        guesses: for each class, the number of predictions.
        truths: for each class, the number of labels.

    Raises:
        ValueError: unknown metric.
    """
    xp: Any = jnp if isinstance(hits, jax.Array) else np
    count = truths.sum(-1)
    if metric == "accuracy":
        return hits.sum(-1) / count
    if metric == "matthews":
        # Divide before multiplying: products of counts would exceed the integers that float32 represents exactly.
        predicted, actual = guesses / count[..., None], truths / count[..., None]
        covariance = hits.sum(-1) / count - (predicted * actual).sum(-1)
        spread = (1 - (predicted**2).sum(-1)) * (1 - (actual**2).sum(-1))
        return xp.where(spread > 0, covariance / xp.sqrt(xp.where(spread > 0, spread, 1)), 0)
    involved = guesses + truths
    f1 = xp.where(involved > 0, 2 * hits / xp.where(involved > 0, involved, 1), 0)
    if metric == "f1":
        return f1[..., 1]
    if metric == "macro_f1":
        return f1.sum(-1) / xp.sum(involved > 0, axis=-1, dtype=hits.dtype)
    raise ValueError(f"unknown metric {metric!r}; use accuracy, f1, matthews or macro_f1")


def majority_score(metric: str, labels: Int[np.ndarray, " N"], classes: int) -> float:
    """Returns the score of always predicting the most frequent label: a run at or below it has failed."""
    majority = np.bincount(labels, minlength=classes).argmax()
    return float(score(metric, np.full_like(labels, majority), labels, classes))


def sd(values: Float[AnyArray, " S"], mask: Shaped[AnyArray, "*R S"] | None = None) -> Float[np.ndarray, "*R"]:
    """Returns the standard deviation of a number of each seed, with denominator S - 1; NaN for one seed. float64.

    Args:
        values: [S], such as scores.
        mask: [..., S] which seeds count; all by default.
    """
    values = np.asarray(values, np.float64)
    weights = np.ones(values.shape) if mask is None else np.asarray(mask, np.float64)
    count = weights.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviations = weights * (values - ((weights * values).sum(-1) / count)[..., None])
        return np.where(count > 1, np.sqrt((deviations**2).sum(-1) / (count - 1)), np.nan)


def calibration_error(logits: Float[AnyArray, "S N C"], labels: Int[AnyArray, " N"]) -> Float[np.ndarray, " S"]:
    """Returns each seed's expected calibration error: mean |accuracy - confidence| over bins of confidence.

    Args:
        logits: [S, N, C].
        labels: [N] class indices.

    Returns:
        [S] float64 in [0, 1], with 15 bins of equal width, weighted by their examples.
        Source: Guo et al. (2017), eq. 3.
    """
    labels = np.asarray(labels)

    def one_seed(logits: Float[np.ndarray, "N C"]) -> float:
        confidence = softmax(logits.astype(np.float64), axis=-1).max(axis=-1)
        gap = (logits.argmax(axis=-1) == labels) - confidence
        # Bins are closed on the right, as in the source.
        bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
        return float(np.abs(np.bincount(bins, gap, CALIBRATION_BINS)).sum() / len(labels))

    return np.array([one_seed(np.asarray(one)) for one in logits])


def calibration_spread(
    logits: Float[AnyArray, "S N C"], labels: Int[AnyArray, " N"], mask: Shaped[AnyArray, "*R S"] | None = None
) -> Float[np.ndarray, "*R"]:
    """Returns the standard deviation over seeds (`sd`) of the expected calibration error (`calibration_error`).

    Args:
        logits: [S, N, C].
        labels: [N] class indices.
        mask: [..., S] which seeds count; all by default.
    """
    return sd(calibration_error(logits, labels), mask)
