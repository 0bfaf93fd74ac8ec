"""Scores of predicted numbers against labels that are numbers."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from jaxstab.measures.arrays import AnyArray, namespace

BLOCK = 256  # examples whose removal changes all ranks, in one matrix


def number_score(metric: str, predictions: Shaped[AnyArray, " N"], labels: Shaped[AnyArray, " N"]) -> AnyArray:
    """Computes a score of one seed's predicted numbers. Of all of them more is better.

    Args:
        metric: `pearson` and `spearman`, the correlations with the labels, 0 if all predictions are the same;
            `neg_rmse`, minus the root of the mean squared error; `r2`, the share of the labels' variance that is
            explained, 0 for always predicting their mean.
        predictions: [N], in numpy or JAX like `labels`. What is not finite counts as 0.
        labels: [N].

    Returns:
        A scalar; float64 of numpy arrays, float32 of JAX arrays. NaN if all labels are the same, but for `neg_rmse`.
    """
    xp = namespace(predictions)
    predictions, labels = (one.astype(xp.float32 if xp is jnp else np.float64) for one in (predictions, labels))
    predictions = xp.where(xp.isfinite(predictions), predictions, 0)
    if metric == "neg_rmse":
        return -xp.sqrt(xp.mean((predictions - labels) ** 2))
    varies = xp.any(labels != labels[0])
    if metric == "r2":
        spread = xp.where(varies, ((labels - labels.mean()) ** 2).sum(), 1)
        return xp.where(varies, 1 - ((predictions - labels) ** 2).sum() / spread, xp.nan)
    if metric == "spearman":
        predictions, labels = ranks(predictions), ranks(labels)
    x, y = standardised(predictions), standardised(labels)
    return xp.where(varies, xp.mean(x * y), xp.nan)


def ranks(values: Float[AnyArray, " N"]) -> Float[AnyArray, " N"]:
    """Returns ranks from 1; equal values have the mean of theirs."""
    xp = namespace(values)
    ordered = xp.sort(values)
    below, not_above = (xp.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return (below + not_above + 1).astype(values.dtype) / 2


def standardised(values: Float[AnyArray, " N"]) -> Float[AnyArray, " N"]:
    """Returns values less their mean, divided by their standard deviation; zeros if all are the same."""
    xp = namespace(values)
    varies = xp.any(values != values[0])
    # Twice, because the mean of large float32 numbers is rounded.
    values = values - values.mean()
    values = values - values.mean()
    return xp.where(varies, values / xp.sqrt(xp.where(varies, xp.mean(values**2), 1)), 0)


def number_scores_without_each(
    metric: str, predictions: Float[np.ndarray, " N"], labels: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Returns a seed's score without each example in turn; see `number_score`.

    In order N, of `spearman` in order N^2, because an example's removal changes the ranks of all others.
    """
    x, y = (np.asarray(one, np.float64) for one in (predictions, labels))
    if metric == "spearman":
        return _spearman_without_each(x, y)
    left = len(x) - 1
    squares = np.maximum(((x - y) ** 2).sum() - (x - y) ** 2, 0)
    if metric == "neg_rmse":
        return np.asarray(-np.sqrt(squares / left))
    x, y = x - x.mean(), y - y.mean()
    xx, yy, xy = (_sum_without_each(one) for one in (x * x, y * y, x * y))
    if metric == "r2":
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(yy > 0, 1 - squares / yy, np.nan))
    return _correlation(xx, yy, xy)


def _sum_without_each(products: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    """Sums products of deviations from the mean, without each example in turn, which also moves the mean."""
    total, count = products.sum(), len(products)
    left = total - products * count / (count - 1)
    return np.asarray(np.where(np.abs(left) > 1e-12 * abs(total), left, 0))


def _correlation(
    xx: Float[np.ndarray, " N"], yy: Float[np.ndarray, " N"], xy: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Correlations from sums of products: 0 for constant predictions x, NaN for constant labels y."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(yy > 0, np.where(xx > 0, xy / np.sqrt(xx * yy), 0), np.nan))


def _spearman_without_each(x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    count = len(x)
    ranked = [(one, ranks(one) - count / 2) for one in (x, y)]
    found = []
    for start in range(0, count, BLOCK):
        removed = np.arange(start, min(start + BLOCK, count))
        others = np.arange(count) != removed[:, None]
        # A removed example lowers the ranks of those above it by 1, and of those equal to it by a half.
        a, b = ((rank - (one > one[removed, None]) - (one == one[removed, None]) / 2) * others for one, rank in ranked)
        found.append(_correlation((a * a).sum(1), (b * b).sum(1), (a * b).sum(1)))
    return np.concatenate(found)
