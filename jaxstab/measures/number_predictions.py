"""How much the predicted numbers of seeds differ, in a regression; see `prediction.py` for pairs, sets and masks."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxstab.measures.arrays import AnyArray
from jaxstab.measures.number_scores import ranks, standardised

BLOCK = 64  # subsets of seeds whose deviations [*, N] are in memory at once


def example_spread(predictions: Shaped[np.ndarray, "S N"]) -> Float[np.ndarray, " N"]:
    """Returns, for each example, the standard deviation of the predictions over seeds (S - 1); NaN for one seed."""
    if len(predictions) < 2:
        return np.full(predictions.shape[1], np.nan)
    return np.asarray(np.std(predictions, axis=0, ddof=1, dtype=np.float64))


def prediction_sd(
    predictions: Shaped[AnyArray, "S N"], mask: Shaped[AnyArray, "*R S"] | None = None
) -> Float[np.ndarray, "*R"]:
    """Returns the standard deviation over seeds of an example's prediction, averaged over examples.

    Args:
        predictions: [S, N] numbers.
        mask: [..., S] which seeds count; all by default.

    Returns:
        [...] float64 in units of the label, with denominator S - 1; NaN for one seed.
    """
    values, masks = _of_seeds(predictions, mask)
    values = values - values.mean(0)
    found = []
    for start in range(0, len(masks), BLOCK):
        weights = masks[start : start + BLOCK]
        count = weights.sum(1, keepdims=True)
        squares = weights @ values**2 - (weights @ values) ** 2 / np.maximum(count, 1)
        variances = np.maximum(squares, 0) / np.where(count > 1, count - 1, np.nan)
        found.append(np.sqrt(variances).mean(1))
    return np.concatenate(found).reshape(_shape(mask))


def icc(predictions: Shaped[AnyArray, "S N"], mask: Shaped[AnyArray, "*R S"] | None = None) -> Float[np.ndarray, "*R"]:
    """Returns 1 - the intraclass correlation ICC(2,1): the share of variance that is not the examples'.

    Seeds are a random sample of raters, each of whom rates every example once, and agreement is absolute: a seed whose
    predictions are all higher disagrees. With mean squares of examples (B), seeds (J) and the rest (E), S seeds and
    N examples, ICC(2,1) = (B - E) / (B + (S - 1) E + S (J - E) / N).

    Args:
        predictions: [S, N] numbers.
        mask: [..., S] which seeds count; all by default.

    Returns:
        [...] float64: 0 for full agreement (also if all predictions are one number), 1 for unrelated seeds; can exceed
        1; NaN for one seed. Source: Shrout & Fleiss (1979).
    """
    values, masks = _of_seeds(predictions, mask)
    examples, count = values.shape[1], masks.sum(1)
    values = values - values.mean()
    products, totals = values @ values.T, values.sum(1)
    divisor = np.maximum(count, 1)
    correction = (masks @ totals) ** 2 / (divisor * examples)
    of_examples = np.maximum(((masks @ products) * masks).sum(1) / divisor - correction, 0)
    of_seeds = np.maximum(masks @ totals**2 / examples - correction, 0)
    rest = np.maximum(masks @ np.diag(products) - correction - of_examples - of_seeds, 0)
    freedom = np.where(count > 1, count - 1, np.nan)
    between = of_examples / max(examples - 1, 1)
    error = rest / (freedom * max(examples - 1, 1))
    seeds = count * (of_seeds / freedom - error) / examples
    whole = between + freedom * error + seeds
    found = np.where(whole > 0, (count * error + seeds) / np.where(whole > 0, whole, 1), whole)
    return np.asarray(found.reshape(_shape(mask)))


@jax.jit
def mean_absolute_disagreement(predictions: Float[Array, "S N"]) -> Float[Array, "S S"]:
    """Returns the absolute difference between the predictions of two seeds, averaged over examples.

    Args:
        predictions: [S, N] numbers.

    Returns:
        [S, S] in units of the label.
    """
    distances: Array = jax.lax.map(lambda one: jnp.abs(one - predictions).mean(axis=1), predictions)
    return distances


@jax.jit
def rank_disagreement(predictions: Float[Array, "S N"]) -> Float[Array, "S S"]:
    """Returns 1 - Spearman's rank correlation between the predictions of two seeds.

    Args:
        predictions: [S, N] numbers.

    Returns:
        [S, S] in [0, 2]; 0: the same order, 1: unrelated. A seed that predicts one number throughout is at distance 1
        from others, and 0 from another such seed. Source: Spearman (1904).
    """
    constant = (predictions == predictions[:, :1]).all(axis=1)
    ordered = jax.lax.map(lambda one: standardised(ranks(one)), predictions)

    def against_all(one: Float[Array, " N"]) -> Float[Array, " S"]:
        # Half the squared distance, because 1 - r would cancel where seeds agree.
        halves: Array = ((ordered - one) ** 2).mean(axis=1) / 2
        return halves

    distances = jax.lax.map(against_all, ordered)
    apart: Array = jnp.where(constant[:, None] != constant, 1.0, distances)
    return apart


def _shape(mask: Shaped[AnyArray, "*R S"] | None) -> tuple[int, ...]:
    """The shape of results."""
    return () if mask is None else np.shape(mask)[:-1]


def _of_seeds(
    predictions: Shaped[AnyArray, "S N"], mask: Shaped[AnyArray, "*R S"] | None
) -> tuple[Float[np.ndarray, "S N"], Float[np.ndarray, "Q S"]]:
    """Predictions and masks [Q, S] in float64."""
    values = np.asarray(predictions, np.float64)
    masks = np.ones((1, len(values))) if mask is None else np.asarray(mask, np.float64).reshape(-1, len(values))
    return values, masks
