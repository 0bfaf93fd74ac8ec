"""Mixout: weights are replaced by their pre-trained values at random."""

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxstab.mitigation.method import Context, Method, Params, Path, map_drawn, pretrained_or
from jaxstab.models.operations import DROPOUT_LEVELS, random_levels


def mixout() -> Method:
    """Returns the method.

    A weight w of a linear layer becomes (m u + (1 - m) w - p u) / (1 - p), u its pre-trained value and m = 1 with
    probability p, so that its expectation is w and its gradient carries 1 / (1 - p). Biases, embeddings, LayerNorm and
    what has no pre-trained value stay; dropout is off.

    Settings:
        p: probability that a weight is replaced by its pre-trained value; rounded to a multiple of 1/256.
    """

    def mix(params: Params, key: PRNGKeyArray | None, context: Context) -> Params:
        if key is None:
            return params
        levels = jnp.round(context.hyper["mitigation.mixout.p"] * DROPOUT_LEVELS)
        p = levels / DROPOUT_LEVELS

        def one(path: Path, key: PRNGKeyArray, value: Array, pretrained: Array) -> Array:
            if path[-1] != "kernel" or pretrained is value:
                return value
            replaced = random_levels(key, value.shape).astype(jnp.float32) < levels
            return (jnp.where(replaced, pretrained, value) - p * pretrained) / (1 - p)

        return map_drawn(one, key, params, pretrained_or(params, context))

    return Method(
        about="weights of linear layers are replaced by their pre-trained values at random; dropout is off",
        source="Lee et al. (2020), eq. 6",
        train={"dropout": 0.0},
        weights=mix,
        needs_pretrained=True,
    )
