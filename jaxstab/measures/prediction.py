"""How much the predictions of seeds differ.

A measure of pairs returns a matrix [S, S] of distances with a zero diagonal; its value is the mean over pairs of
different seeds (`jaxstab.measures.mean_over_pairs`). A measure of the whole set of seeds takes `mask` [S], 1 for seeds
that count and 0 for others, and returns a scalar; those in numpy take many such sets at once.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxstab.measures.arrays import AnyArray
from jaxstab.measures.performance import SCORES, of_numbers, score_of_logits

COMPETING_MARGIN = 0.01


def example_disagreement(predictions: Int[np.ndarray, "S N"], classes: int) -> Float[np.ndarray, " N"]:
    """Returns, for each example, the share of pairs of different seeds that predict different classes.

    Args:
        predictions: [S, N] class indices.
        classes: C.

    Returns:
        [N] shares in [0, 1]; NaN for one seed.
    """
    seeds = len(predictions)
    votes = np.stack([(predictions == c).sum(axis=0) for c in range(classes)])
    pairs = seeds * (seeds - 1) or np.nan
    return np.asarray((pairs - (votes * (votes - 1)).sum(axis=0)) / pairs)


@jax.jit
def pairwise_disagreement(predictions: Int[Array, "S N"]) -> Float[Array, "S S"]:
    """Returns, for each pair of seeds, the share of examples on which they predict different classes.

    Args:
        predictions: [S, N] class indices.

    Returns:
        [S, S] in [0, 1]. Source: Milani Fard et al. (2016), churn.
    """
    return _disagreements(predictions) / predictions.shape[1]


@partial(jax.jit, static_argnames="classes")
def cohen_kappa(predictions: Int[Array, "S N"], classes: int) -> Float[Array, "S S"]:
    """Returns 1 - Cohen's kappa: disagreement relative to that of two independent seeds with the same class shares.

    Args:
        predictions: [S, N] class indices.
        classes: C.

    Returns:
        [S, S] in [0, 2]; 1 is chance; 0 where both seeds predict one and the same class throughout.
        Source: Cohen (1960).
    """
    shares = _shares(predictions, classes)
    expected = 1 - jnp.matmul(shares, shares.T, precision="highest")
    return _ratio(pairwise_disagreement(predictions), expected)


@partial(jax.jit, static_argnames="classes")
def normalised_disagreement(
    predictions: Int[Array, "S N"], labels: Int[Array, " N"], classes: int
) -> Float[Array, "S S"]:
    """Returns disagreement, scaled so that 0 and 1 are the least and the most that the two accuracies allow.

    Two seeds with error rates e and f disagree on at least |e - f| of the examples, and on at most min(e + f, 1). With
    two classes two wrong seeds agree, so the upper bound is min(e + f, 2 - e - f).

    Args:
        predictions: [S, N] class indices.
        labels: [N] class indices.
        classes: C.

    Returns:
        [S, S] in [0, 1]; 0 if the errors of one seed contain those of the other, 1 if they overlap as little as
        possible, 0 if the accuracies allow only one value.
    """
    examples = labels.shape[0]
    wrong = jnp.sum(predictions != labels, axis=1, dtype=jnp.float32)
    least = jnp.abs(wrong[:, None] - wrong)
    both = wrong[:, None] + wrong
    most = jnp.minimum(both, 2 * examples - both if classes == 2 else examples)
    return _ratio(_disagreements(predictions) - least, most - least)


@jax.jit
def jsd(logits: Float[Array, "S N C"]) -> Float[Array, "S S"]:
    """Returns the Jensen-Shannon divergence of two seeds' class probabilities, averaged over examples.

    Args:
        logits: [S, N, C].

    Returns:
        [S, S] nats in [0, ln 2]. Source: Lin (1991).
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))

    def against_all(one: Float[Array, "N C"]) -> Float[Array, " S"]:
        log_mean = jnp.logaddexp(one, log_p) - jnp.log(2.0)
        divergence = _weighted(one, one - log_mean) + _weighted(log_p, log_p - log_mean)
        return jnp.maximum(divergence / 2, 0).mean(axis=-1)

    return _symmetric(jax.lax.map(against_all, log_p))


def fleiss_kappa(
    predictions: Int[AnyArray, "S N"], classes: int, mask: Shaped[AnyArray, "*R S"] | None = None
) -> Float[np.ndarray, "*R"]:
    """Returns 1 - Fleiss' kappa: pairwise disagreement relative to that of random votes with the overall class shares.

    Args:
        predictions: [S, N] class indices.
        classes: C.
        mask: [..., S] which seeds count; all by default.

    Returns:
        [...] float64: 0 for full agreement (also if only one class is ever predicted), 1 for chance; can exceed 1; NaN
        for one seed. Source: Fleiss (1971).
    """
    disagreement, chance, _ = _split_votes(predictions, classes, mask)
    return np.asarray(np.where(chance > 0, disagreement / np.where(chance > 0, chance, 1), disagreement))


def krippendorff_alpha(
    predictions: Int[AnyArray, "S N"], classes: int, mask: Shaped[AnyArray, "*R S"] | None = None
) -> Float[np.ndarray, "*R"]:
    """Returns 1 - Krippendorff's alpha for nominal data: like `fleiss_kappa`, with pairs drawn without replacement.

    Args:
        predictions: [S, N] class indices.
        classes: C.
        mask: [..., S] which seeds count; all by default.

    Returns:
        [...] float64: 0 for full agreement, 1 for chance; can exceed 1; NaN for one seed. Source: Krippendorff (2011).
    """
    disagreement, chance, votes = _split_votes(predictions, classes, mask)
    chance = chance * votes / np.maximum(votes - 1, 1)
    return np.asarray(np.where(chance > 0, disagreement / np.where(chance > 0, chance, 1), disagreement))


def stable_fraction(
    predictions: Int[AnyArray, "S N"], mask: Shaped[AnyArray, "*R S"] | None = None
) -> Float[np.ndarray, "*R"]:
    """Returns the share of examples on which all seeds agree: smaller is less stable, and it falls with more seeds.

    Args:
        predictions: [S, N] class indices.
        mask: [..., S] which seeds count; all by default.

    Returns:
        [...] float64 in [0, 1].
    """
    predictions, weights = _votes(predictions, mask)
    count = weights.sum(-1)[..., None]
    unanimous = [weights @ (predictions == c).astype(np.float32) == count for c in np.unique(predictions)]
    return np.asarray(np.any(unanimous, axis=0).mean(-1))


def ambiguity(
    predictions: Int[AnyArray, "S N"], labels: Int[AnyArray, " N"], mask: Shaped[AnyArray, "*R S"] | None = None
) -> Float[np.ndarray, "*R"]:
    """Returns the share of examples on which some competing seed disagrees with the baseline, averaged over baselines.

    Every seed is the baseline in turn. Seeds with an accuracy at most 0.01 below the baseline's compete with it.

    Args:
        predictions: [S, N] class indices.
        labels: [N] class indices.
        mask: [..., S] which seeds count; all by default.

    Returns:
        [...] float64, shares in [0, 1] that grow with more seeds. Source: Marx et al. (2020), definition 2.
    """
    predictions, weights = _votes(predictions, mask)
    total = np.zeros(weights.shape[:-1])
    for baseline, competes in enumerate(_competes(predictions, np.asarray(labels))):
        # How many competing seeds of each set disagree, on each example: one product for all sets.
        against = weights[..., competes] @ (predictions[competes] != predictions[baseline]).astype(np.float32)
        total += weights[..., baseline] * (against > 0).mean(-1)
    return _mean_over_baselines(total, weights)


def discrepancy(
    predictions: Int[AnyArray, "S N"], labels: Int[AnyArray, " N"], mask: Shaped[AnyArray, "*R S"] | None = None
) -> Float[np.ndarray, "*R"]:
    """Returns the largest disagreement of a baseline with a competing seed, averaged over baselines; see `ambiguity`.

    Args:
        predictions: [S, N] class indices.
        labels: [N] class indices.
        mask: [..., S] which seeds count; all by default.

    Returns:
        [...] float64, shares in [0, 1] that grow with more seeds. Source: Marx et al. (2020), definition 3.
    """
    predictions, weights = _votes(predictions, mask)
    total = np.zeros(weights.shape[:-1])
    for baseline, competes in enumerate(_competes(predictions, np.asarray(labels))):
        disagreement = (predictions != predictions[baseline]).mean(-1)
        # A seed competes with itself, so where the baseline is in the set there is at least one.
        order = np.flatnonzero(competes)[np.argsort(-disagreement[competes])]
        largest = disagreement[order[(weights[..., order] > 0).argmax(-1)]]
        total += weights[..., baseline] * largest
    return _mean_over_baselines(total, weights)


@jax.jit
def generalised_jsd(logits: Float[Array, "S N C"], mask: Float[Array, " S"] | None = None) -> Float[Array, ""]:
    """Returns the Jensen-Shannon divergence of all seeds at once: entropy of their mean minus mean of their entropies.

    Args:
        logits: [S, N, C].
        mask: [S] which seeds count; all by default.

    Returns:
        Nats in [0, ln min(S, C)], averaged over examples: the mutual information of seed and prediction. Grows with
        more seeds. Source: Lin (1991), eq. 5.1.
    """
    mask = _all(logits, mask)
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    mean = jnp.tensordot(mask / mask.sum(), jnp.exp(log_p), 1, precision="highest")
    # Computed as the mean divergence from the mean: a difference of entropies would cancel where seeds agree.
    divergence = _weighted(log_p, log_p - jnp.log(jnp.where(mean > 0, mean, 1))).mean(axis=-1)
    return jnp.maximum((mask * divergence).sum() / mask.sum(), 0)


@partial(jax.jit, static_argnames="metric")
def ensemble_gain(
    logits: Float[Array, "S N C"], labels: Shaped[Array, " N"], metric: str, mask: Float[Array, " S"] | None = None
) -> Float[Array, ""]:
    """Returns what averaging the seeds' probabilities, or predicted numbers, gains over the mean of their scores.

    Args:
        logits: [S, N, C]; numbers [S, N, 1].
        labels: [N] class indices, or numbers.
        metric: the score (`SCORES`).
        mask: [S] which seeds count; all by default.

    Returns:
        A scalar in units of the score; 0 if all seeds agree, negative if the ensemble is worse.
        Source: Lakshminarayanan et al. (2017).
    """
    mask, logits = _all(logits, mask), logits.astype(jnp.float32)
    alone: Array = jax.vmap(lambda one: score_of_logits(metric, one, labels))(logits)
    averaged = logits if of_numbers(metric) else jax.nn.softmax(logits)
    mean = jnp.tensordot(mask, averaged, 1, precision="highest")
    if of_numbers(metric):
        mean = mean / mask.sum()
    elif SCORES[metric].of == "logits":
        mean = jnp.log(jnp.maximum(mean / mask.sum(), np.finfo(np.float32).tiny))
    together: Array = score_of_logits(metric, mean, labels)
    return together - (mask * alone).sum() / mask.sum()


def _all(per_seed: Array, mask: Array | None) -> Array:
    return jnp.ones(per_seed.shape[0]) if mask is None else mask


def _disagreements(predictions: Int[Array, "S N"]) -> Float[Array, "S S"]:
    """Counts the examples on which each pair of seeds disagrees."""
    counts: Array = jax.lax.map(lambda one: jnp.sum(one != predictions, axis=1, dtype=jnp.float32), predictions)
    return counts


def _shares(predictions: Int[Array, "S N"], classes: int) -> Float[Array, "S C"]:
    """How often each seed predicts each class."""
    shares: Array = jax.lax.map(lambda c: jnp.mean(predictions == c, axis=1, dtype=jnp.float32), jnp.arange(classes))
    return shares.T


def _split_votes(
    predictions: Int[AnyArray, "S N"], classes: int, mask: Shaped[AnyArray, "*R S"] | None
) -> tuple[Float[AnyArray, "*R"], Float[AnyArray, "*R"], Float[AnyArray, "*R"]]:
    """The share of pairs of seeds that disagree, that of random votes with the same class shares, and all votes."""
    predictions = np.asarray(predictions)
    weights = np.ones(len(predictions)) if mask is None else np.asarray(mask, np.float64)
    of_class = [(predictions == c).astype(np.float32) for c in range(classes)]
    agreeing = np.sum([one @ one.T for one in of_class], axis=0, dtype=np.float64) / predictions.shape[1]
    count = weights.sum(-1)
    pairs = np.where(count > 1, count * (count - 1), np.nan)
    agreement = (((weights @ agreeing) * weights).sum(-1) - count) / pairs
    shares = np.stack([weights @ one.mean(axis=1, dtype=np.float64) for one in of_class], axis=-1)
    shares = shares / np.maximum(count, 1)[..., None]
    return 1 - agreement, 1 - (shares**2).sum(-1), count * predictions.shape[1]


def _votes(predictions: AnyArray, mask: AnyArray | None) -> tuple[np.ndarray, Float[np.ndarray, "*R S"]]:
    """Predictions, and which seeds count as 0 and 1, in numpy."""
    predictions = np.asarray(predictions)
    return predictions, np.ones(len(predictions), np.float32) if mask is None else np.asarray(mask, np.float32)


def _mean_over_baselines(total: Float[np.ndarray, "*R"], weights: Float[np.ndarray, "*R S"]) -> Float[np.ndarray, "*R"]:
    count = weights.sum(-1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _competes(predictions: Int[np.ndarray, "S N"], labels: Int[np.ndarray, " N"]) -> Bool[np.ndarray, "S S"]:
    """Whether the accuracy of the second seed is at most the margin below that of the first."""
    wrong = (predictions != labels).sum(axis=1)
    # Slightly more than the margin, so that rounding does not change a comparison of whole examples.
    return np.asarray(wrong <= wrong[:, None] + COMPETING_MARGIN * len(labels) + 1e-3)


def _ratio(part: Array, whole: Array) -> Array:
    """Divides part by whole; 0 where the whole is 0."""
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), part)


def _symmetric(distances: Float[Array, "S S"]) -> Float[Array, "S S"]:
    """The mean with the transpose, and an exact 0 on the diagonal."""
    return (distances + distances.T) / 2 * (1 - jnp.eye(distances.shape[0]))


def _weighted(log_p: Array, ratio: Array) -> Array:
    """Sum over classes of p * ratio, 0 where p is 0."""
    p = jnp.exp(log_p)
    return jnp.sum(jnp.where(p > 0, p * ratio, 0), axis=-1)
