"""Re-initialisation of the pooler and the top layers."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PRNGKeyArray

from jaxstab.mitigation.method import Context, Method, Params, Path, by_layer, map_drawn


def reinit() -> Method:
    """Returns the method: kernels from N(0, initializer_range), LayerNorm 1 and 0, biases 0; drawn for each seed.

    Settings:
        layers: how many of the top encoder layers start anew; the pooler always does.
    """

    def forgets(path: Path, value: Array, context: Context) -> Bool[Array, "..."]:
        if path[0] != "layers":
            return jnp.asarray(path[0] == "pooler")
        depth = value.shape[0]
        return by_layer(jnp.arange(depth) >= depth - context.hyper["mitigation.reinit.layers"], value)

    def initial(params: Params, key: PRNGKeyArray, context: Context) -> Params:
        def one(path: Path, key: PRNGKeyArray, value: Array) -> Array:
            if path[0] not in ("layers", "pooler"):
                return value
            if path[-1] == "kernel":
                new = context.initializer_range * jax.random.normal(key, value.shape, value.dtype)
            else:
                new = jnp.full_like(value, 1.0 if path[-1] == "scale" else 0.0)
            return jnp.where(forgets(path, value, context), new, value)

        return map_drawn(one, key, params)

    return Method(
        about="pooler and top layers start from new random values",
        source="Zhang et al. (2021), section 5",
        initial=initial,
        forgets=forgets,
    )
