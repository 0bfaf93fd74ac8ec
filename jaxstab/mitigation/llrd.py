"""Layer-wise learning rate decay: the lower a layer, the smaller its learning rate."""

import jax.numpy as jnp
from jaxtyping import Array

from jaxstab.mitigation.method import Context, Method, Params, Path, by_layer, map_named, number_of_layers

TOP = "final_norm"  # of encoders that end with one


def llrd() -> Method:
    """Returns the method: the head's rate is that of the schedule, each layer's `rate` times that of the layer above.

    So the top layer has depth 1, and the embeddings one more than the bottom layer.

    Settings:
        rate: factor on the learning rate from each layer to the one below.
    """

    def slower(updates: Params, context: Context) -> Params:
        rate = context.hyper["mitigation.llrd.rate"]
        depth = number_of_layers(updates)

        def one(path: Path, update: Array) -> Array:
            if path[0] in (*context.head, TOP):
                return update
            if path[0] != "layers":
                return update * rate ** (depth + 1)
            return update * by_layer(rate ** jnp.arange(depth, 0, -1, dtype=jnp.float32), update)

        return map_named(one, updates)

    return Method(
        about="the lower a layer, the smaller its learning rate",
        source="Howard & Ruder (2018), section 3.2; Zhang et al. (2021)",
        rates=slower,
    )
