"""R-Drop: two passes with other dropout masks shall agree."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxstab.data.batches import Batch
from jaxstab.data.targets import cross_entropy
from jaxstab.mitigation.method import Context, LogitsOf, Method


def r_drop() -> Method:
    """Returns the method: the mean of two passes' cross-entropies, plus alpha times their mean divergence both ways.

    Settings:
        alpha: weight of the divergence between two passes.
    """

    def loss(logits_of: LogitsOf, batch: Batch, key: PRNGKeyArray, context: Context) -> Float[Array, ""]:
        first, second = (jax.nn.log_softmax(logits_of(jax.random.fold_in(key, number))) for number in range(2))
        alpha = context.hyper["mitigation.r_drop.alpha"]
        # The sum over classes of (P - Q)(log P - log Q) is the divergence one way plus the other.
        divergences = jnp.sum((jnp.exp(first) - jnp.exp(second)) * (first - second), axis=1) / 2
        if context.targets is not None:
            apart = jnp.sum(divergences * batch.weights) / jnp.sum(batch.weights)
            return alpha * apart + cross_entropy((first + second) / 2, batch, context.targets)
        likelihoods = jnp.take_along_axis((first + second) / 2, batch.labels[:, None], axis=1)[:, 0]
        losses = alpha * divergences - likelihoods
        return jnp.sum(losses * batch.weights) / jnp.sum(batch.weights)

    return Method(
        about="two passes with different dropout masks are made to agree",
        source="Wu et al. (2021), eq. 4, cross-entropy halved as in the authors' code",
        loss=loss,
    )
