"""Scores of probabilities against labels: how well seeds rank examples, and how right they are about being sure."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import log_softmax

from jaxstab.measures.arrays import AnyArray, namespace


def probability_score(metric: str, logits: Float[AnyArray, "N C"], labels: Int[AnyArray, " N"]) -> Float[AnyArray, ""]:
    """Computes a score of one seed's probabilities. Of all of them more is better, as in scikit-learn's scorers.

    Args:
        metric: `auroc`, the area under the ROC curve, ties counting half; `average_precision`, the sum of precisions
            weighted by the increase in recall; `neg_log_loss`, minus the cross-entropy in nats; `neg_brier`, minus half
            of the mean squared distance between probabilities and the label, from -1 to 0. The first two are of class 1
            where there are two classes; otherwise the unweighted mean over classes, each against the rest, of those
            that some labels have and others do not.
        logits: [N, C], in numpy or JAX like `labels`.
        labels: [N] class indices.

    Returns:
        A scalar; float64 of numpy arrays, float32 of JAX arrays. NaN for an area if all labels are the same. Logits
        that are not finite count as 0, so a seed that diverged guesses.
    """
    xp = namespace(logits)
    logits = xp.where(xp.isfinite(logits), logits, 0)
    if metric in OF_EXAMPLES:
        return score_of_examples(metric, logits, labels).mean()
    areas, judged = [], []
    for values, positive in _each_class(logits, labels):
        areas.append(_AREAS[metric](values, positive))
        judged.append(xp.any(positive) & ~xp.all(positive))
    count = xp.sum(xp.stack(judged), dtype=areas[0].dtype)
    total = xp.where(xp.stack(judged), xp.stack(areas), 0).sum()
    return xp.where(count > 0, total / xp.maximum(count, 1), xp.nan)


def score_of_examples(
    metric: str, logits: Float[AnyArray, "N C"], labels: Int[AnyArray, " N"]
) -> Float[AnyArray, " N"]:
    """Returns each example's `neg_log_loss` or `neg_brier`."""
    xp = namespace(logits)
    log_p = _log_softmax(logits)
    actual = (labels[:, None] == xp.arange(log_p.shape[-1])).astype(log_p.dtype)
    if metric == "neg_log_loss":
        return (log_p * actual).sum(-1)
    return -((xp.exp(log_p) - actual) ** 2).sum(-1) / 2


def areas_without_each(
    metric: str, logits: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Returns a seed's `auroc` or `average_precision` without each example in turn, in order N log N.

    NaN where without the example all labels are the same.
    """
    total, count = np.zeros(len(labels)), np.zeros(len(labels))
    for values, positive in _each_class(logits, labels):
        positives, negatives = positive.sum() - positive, (~positive).sum() - ~positive
        mixed = (positives > 0) & (negatives > 0)
        if mixed.any():
            total += np.where(mixed, _WITHOUT_EACH[metric](values, positive), 0)
            count += mixed
    with np.errstate(invalid="ignore"):
        return total / count


def _log_softmax(logits: AnyArray) -> AnyArray:
    if isinstance(logits, jax.Array):
        return jax.nn.log_softmax(logits.astype(jnp.float32))
    return np.asarray(log_softmax(np.asarray(logits, np.float64), axis=-1))


def _each_class(logits: AnyArray, labels: AnyArray) -> list[tuple[AnyArray, AnyArray]]:
    """For each class that is judged: what examples are ranked by [N], and which have it as label [N]."""
    log_p = _log_softmax(logits)
    if log_p.shape[-1] == 2:
        logits = logits.astype(log_p.dtype)
        return [(logits[:, 1] - logits[:, 0], labels == 1)]
    return [(log_p[:, c], labels == c) for c in range(log_p.shape[-1])]


def _counts(values: AnyArray, among: AnyArray) -> tuple[AnyArray, AnyArray]:
    """For each value, how many of the chosen values are below it, and how many are not above it."""
    xp = namespace(values)
    others = xp.sort(xp.where(among, values, xp.inf))
    below, not_above = (xp.searchsorted(others, values, side=side) for side in ("left", "right"))
    return below.astype(values.dtype), not_above.astype(values.dtype)


def _auroc(values: AnyArray, positive: AnyArray) -> AnyArray:
    xp = namespace(values)
    below, not_above = _counts(values, ~positive)
    positives, negatives = (xp.sum(one, dtype=values.dtype) for one in (positive, ~positive))
    # Divided twice, because float32 does not hold the number of all pairs.
    shares = xp.where(positive, (below + not_above) / 2, 0) / xp.maximum(negatives, 1)
    return shares.sum() / xp.maximum(positives, 1)


def _hits_and_guesses(values: AnyArray, positive: AnyArray) -> tuple[AnyArray, AnyArray]:
    """For each value, how many positive examples have it or a higher one, and how many examples."""
    xp = namespace(values)
    positives = xp.sum(positive, dtype=values.dtype)
    return positives - _counts(values, positive)[0], len(values) - _counts(values, xp.ones_like(positive))[0]


def _average_precision(values: AnyArray, positive: AnyArray) -> AnyArray:
    xp = namespace(values)
    right, count = _hits_and_guesses(values, positive)
    return xp.where(positive, right / count, 0).sum() / xp.maximum(xp.sum(positive, dtype=values.dtype), 1)


def _auroc_without_each(values: Float[np.ndarray, " N"], positive: Bool[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    def half_ties(among: Bool[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        below, not_above = _counts(values, among)
        return np.asarray((below + not_above) / 2)

    positives, negatives = positive.sum(), (~positive).sum()
    beaten = half_ties(~positive)
    lost = np.where(positive, beaten, positives - half_ties(positive))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((beaten[positive].sum() - lost) / ((positives - positive) * (negatives - ~positive)))


def _average_precision_without_each(
    values: Float[np.ndarray, " N"], positive: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    right, count = _hits_and_guesses(values, positive)
    order = np.argsort(values, kind="stable")
    ranked = values[order]

    def up_to(terms: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """Sums terms over examples whose value is not above that of each."""
        sums = np.append(0.0, np.cumsum(terms[order]))
        return sums[np.searchsorted(ranked, values, side="right")]

    # Without an example, precision changes at the examples that are not above it: one fewer is counted there.
    precision = positive * right / count
    fewer = np.maximum(count - 1, 1)
    kept = precision.sum() - up_to(precision)
    changed = up_to(positive * right / fewer) - positive * right / fewer
    lost = (up_to(positive / fewer) - positive / fewer) * positive
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((kept + changed - lost) / (positive.sum() - positive))


OF_EXAMPLES = ("neg_log_loss", "neg_brier")  # a mean over examples
_AREAS = {"auroc": _auroc, "average_precision": _average_precision}
_WITHOUT_EACH = {"auroc": _auroc_without_each, "average_precision": _average_precision_without_each}
