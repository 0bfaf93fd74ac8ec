"""How much seeds differ in what they predict. Larger is less stable; 0 when all seeds agree."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def example_disagreement(predictions: Int[Array, "S N"], classes: int) -> Float[Array, " N"]:
    """Returns, for each example, the share of pairs of different seeds that predict different classes.

    Args:
        predictions: [S, N] class indices.
        classes: C.

    Returns:
        [N] shares in [0, 1]; NaN for one seed.
    """
    seeds = predictions.shape[0]
    votes = jnp.stack([(predictions == c).sum(axis=0, dtype=jnp.float32) for c in range(classes)])
    return 1 - (votes * (votes - 1)).sum(axis=0) / (seeds * (seeds - 1))


def pairwise_disagreement(predictions: Int[Array, "S N"], classes: int) -> Float[Array, ""]:
    """Returns the share of examples on which two seeds predict different classes, averaged over pairs of seeds.

    Args:
        predictions: [S, N] class indices.
        classes: C.

    Returns:
        A share in [0, 1]; NaN for one seed. Source: Milani Fard et al. (2016), churn.
    """
    return example_disagreement(predictions, classes).mean()


def fleiss_kappa(predictions: Int[Array, "S N"], classes: int) -> Float[Array, ""]:
    """Returns 1 - Fleiss' kappa: pairwise disagreement relative to that of votes cast by the overall class shares.

    Args:
        predictions: [S, N] class indices.
        classes: C.

    Returns:
        0 for full agreement (also if only one class is ever predicted), 1 for chance; can exceed 1; NaN for one seed.
        Source: Fleiss (1971).
    """
    disagreement = pairwise_disagreement(predictions, classes)
    shares = jnp.stack([jnp.mean(predictions == c, dtype=jnp.float32) for c in range(classes)])
    expected = jnp.sum(shares * (1 - shares))
    return jnp.where(expected > 0, disagreement / jnp.where(expected > 0, expected, 1), disagreement)


def jsd(logits: Float[Array, "S N C"]) -> Float[Array, ""]:
    """Returns the Jensen-Shannon divergence of two seeds' class probabilities, averaged over pairs and examples.

    Args:
        logits: [S, N, C].

    Returns:
        Nats in [0, ln 2]; NaN for one seed. Source: Lin (1991).
    """
    seeds = logits.shape[0]
    if seeds < 2:
        return jnp.float32(jnp.nan)
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))

    def against_all(one: Float[Array, "N C"]) -> Float[Array, ""]:
        log_mean = jnp.logaddexp(one, log_p) - jnp.log(2.0)
        divergence = _weighted(one, one - log_mean) + _weighted(log_p, log_p - log_mean)
        return jnp.maximum(divergence / 2, 0).mean(axis=-1).sum()

    return jax.lax.map(against_all, log_p).sum() / (seeds * (seeds - 1))


def _weighted(log_p: Array, ratio: Array) -> Array:
    """Sum over classes of p * ratio, 0 where p is 0."""
    p = jnp.exp(log_p)
    return jnp.sum(jnp.where(p > 0, p * ratio, 0), axis=-1)
