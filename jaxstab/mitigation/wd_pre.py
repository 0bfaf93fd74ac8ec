"""Weight decay towards the pre-trained values."""

import jax
import jax.numpy as jnp

from jaxstab.mitigation.method import Context, Method, Params, pretrained_or


def wd_pre() -> Method:
    """Returns the method: `train.weight_decay` pulls to pre-trained values instead of 0, what has none to 0."""

    def target(params: Params, context: Context) -> Params:
        return pretrained_or(jax.tree.map(jnp.zeros_like, params), context)

    return Method(
        about="weight decay pulls to the pre-trained values instead of 0",
        source="Wiese et al. (2017); Lee et al. (2020), section 5",
        decay_target=target,
        needs_pretrained=True,
    )
