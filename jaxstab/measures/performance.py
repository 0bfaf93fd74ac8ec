"""Scores of predictions against labels, their spread over seeds, and calibration."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

CALIBRATION_BINS = 15
METRICS = ("accuracy", "f1", "matthews", "macro_f1")


def score(metric: str, predictions: Int[Array, " N"], labels: Int[Array, " N"], classes: int) -> Float[Array, ""]:
    """Computes a task score.

    Args:
        metric: see `score_of_confusion`.
        predictions: [N] class indices.
        labels: [N] class indices.
        classes: C.

    Returns:
        A float32 scalar; 1 is perfect.

    Raises:
        ValueError: unknown metric.
    """
    if metric == "accuracy":
        right, wrong = (jnp.sum(one, dtype=jnp.float32) for one in (predictions == labels, predictions != labels))
        # Not divided by a constant: XLA would multiply by its rounded inverse and give .79999995 for 40 of 50.
        return right / (right + wrong)
    predicted, actual = jax.nn.one_hot(predictions, classes), jax.nn.one_hot(labels, classes)
    return score_of_confusion(metric, (predicted * actual).sum(0), predicted.sum(0), actual.sum(0))


@partial(jax.jit, static_argnames=("metric", "classes"))  # without jit, the map would be compiled on every call
def scores(metric: str, predictions: Int[Array, "S N"], labels: Int[Array, " N"], classes: int) -> Float[Array, " S"]:
    """Computes the score of every seed, see `score`."""
    per_seed: Array = jax.lax.map(lambda one: score(metric, one, labels, classes), predictions)
    return per_seed


def score_of_confusion(
    metric: str, hits: Float[Array, "... C"], guesses: Float[Array, "... C"], truths: Float[Array, "... C"]
) -> Float[Array, "..."]:
    """Computes a task score from counts, which need not be integers.

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
    count = truths.sum(-1)
    if metric == "accuracy":
        return hits.sum(-1) / count
    if metric == "matthews":
        # Divide before multiplying: products of counts would exceed the integers that float32 represents exactly.
        predicted, actual = guesses / count[..., None], truths / count[..., None]
        covariance = hits.sum(-1) / count - (predicted * actual).sum(-1)
        spread = (1 - (predicted**2).sum(-1)) * (1 - (actual**2).sum(-1))
        return jnp.where(spread > 0, covariance / jnp.sqrt(jnp.where(spread > 0, spread, 1)), 0)
    involved = guesses + truths
    f1 = jnp.where(involved > 0, 2 * hits / jnp.where(involved > 0, involved, 1), 0)
    if metric == "f1":
        return f1[..., 1]
    if metric == "macro_f1":
        return f1.sum(-1) / jnp.sum(involved > 0, axis=-1, dtype=jnp.float32)
    raise ValueError(f"unknown metric {metric!r}; use accuracy, f1, matthews or macro_f1")


def majority_score(metric: str, labels: Int[Array, " N"], classes: int) -> Float[Array, ""]:
    """Returns the score of always predicting the most frequent label: a run at or below it has failed."""
    majority = jnp.argmax(jnp.bincount(labels, length=classes))
    return score(metric, jnp.full_like(labels, majority), labels, classes)


def sd(scores: Float[Array, " S"], mask: Float[Array, " S"] | None = None) -> Float[Array, ""]:
    """Returns the standard deviation of the scores with denominator S - 1; NaN for one seed.

    Args:
        scores: [S].
        mask: [S], 1 for seeds that count and 0 for others; all by default.
    """
    mask = jnp.ones_like(scores) if mask is None else mask
    count = mask.sum()
    deviations = (scores - (mask * scores).sum() / count) * mask
    return jnp.sqrt((deviations**2).sum() / jnp.where(count > 1, count - 1, jnp.nan))


def calibration_error(logits: Float[Array, "S N C"], labels: Int[Array, " N"]) -> Float[Array, " S"]:
    """Returns each seed's expected calibration error: mean |accuracy - confidence| over bins of confidence.

    Args:
        logits: [S, N, C].
        labels: [N] class indices.

    Returns:
        [S] in [0, 1], with 15 bins of equal width, weighted by their examples. Source: Guo et al. (2017), eq. 3.
    """

    def one_seed(logits: Float[Array, "N C"]) -> Float[Array, ""]:
        confidence = jax.nn.softmax(logits).max(axis=-1)
        gap = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32) - confidence
        # Bins are closed on the right, as in the source.
        bins = jnp.clip(jnp.ceil(confidence * CALIBRATION_BINS).astype(jnp.int32) - 1, 0, CALIBRATION_BINS - 1)
        return jnp.abs(jax.ops.segment_sum(gap, bins, CALIBRATION_BINS)).sum() / labels.shape[0]

    per_seed: Array = jax.lax.map(one_seed, logits.astype(jnp.float32))
    return per_seed
