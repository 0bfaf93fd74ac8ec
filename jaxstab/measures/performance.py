"""Scores of one seed's predictions, and their spread over seeds."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def score(metric: str, predictions: Int[Array, " N"], labels: Int[Array, " N"], classes: int) -> Float[Array, ""]:
    """Computes a task score.

    Args:
        metric: `accuracy`; `f1`, of class 1; `matthews`, the correlation coefficient in its form for any number of
            classes (Gorodkin 2004), 0 where a margin is constant; `macro_f1`, the unweighted mean of F1 over classes
            that occur in labels or predictions. An F1 without true positives is 0.
        predictions: [N] class indices.
        labels: [N] class indices.
        classes: C.

    Returns:
        A float32 scalar; 1 is perfect.

    Raises:
        ValueError: unknown metric.
    """
    if metric == "accuracy":
        return jnp.mean(predictions == labels, dtype=jnp.float32)
    predicted, actual = jax.nn.one_hot(predictions, classes), jax.nn.one_hot(labels, classes)
    hits, guesses, truths = (predicted * actual).sum(0), predicted.sum(0), actual.sum(0)
    if metric == "matthews":
        n = labels.shape[0]
        # Divided by n before the products, which would otherwise leave float32's exact integers.
        shares = guesses / n, truths / n
        covariance = hits.sum() / n - shares[0] @ shares[1]
        spread = (1 - shares[0] @ shares[0]) * (1 - shares[1] @ shares[1])
        return jnp.where(spread > 0, covariance / jnp.sqrt(jnp.where(spread > 0, spread, 1)), 0)
    f1 = 2 * hits / jnp.maximum(guesses + truths, 1)
    if metric == "f1":
        return f1[1]
    if metric == "macro_f1":
        return f1.sum() / jnp.sum(guesses + truths > 0, dtype=jnp.float32)
    raise ValueError(f"unknown metric {metric!r}; use accuracy, f1, matthews or macro_f1")


def majority_score(metric: str, labels: Int[Array, " N"], classes: int) -> Float[Array, ""]:
    """Returns the score of always predicting the most frequent label: a run at or below it has failed."""
    majority = jnp.argmax(jnp.bincount(labels, length=classes))
    return score(metric, jnp.full_like(labels, majority), labels, classes)


def sd(scores: Float[Array, " S"]) -> Float[Array, ""]:
    """Returns the standard deviation of the S scores with denominator S - 1; NaN for one seed."""
    return jnp.std(scores, ddof=1)
