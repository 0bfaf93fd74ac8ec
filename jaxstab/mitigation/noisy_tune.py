"""NoisyTune: a little noise on every pre-trained matrix before fine-tuning."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxstab.mitigation.method import Context, Method, Params, Path, map_drawn


def noisy_tune() -> Method:
    """Returns the method: adds U(-strength / 2, strength / 2) times the standard deviation of the matrix.

    Settings:
        strength: width of the uniform noise, in standard deviations of the matrix it is added to.
    """

    def initial(params: Params, key: PRNGKeyArray, context: Context) -> Params:
        strength = context.hyper["mitigation.noisy_tune.strength"]

        def one(path: Path, key: PRNGKeyArray, value: Array) -> Array:
            if path[0] in context.missing:
                return value
            # Layers are stacked, and each has a standard deviation of its own.
            axes = tuple(range(1 if path[0] == "layers" else 0, value.ndim))
            deviation = jnp.std(value, axis=axes, keepdims=True, ddof=1)
            return value + strength * deviation * (jax.random.uniform(key, value.shape) - 0.5)

        return map_drawn(one, key, params)

    return Method(
        about="uniform noise on every pre-trained matrix, in proportion to its spread",
        source="Wu et al. (2022), eq. 1",
        initial=initial,
    )
