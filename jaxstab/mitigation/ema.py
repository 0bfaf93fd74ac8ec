"""Exponential moving average of the weights over steps."""

import jax

from jaxstab.mitigation.method import Context, Method, Params


def ema() -> Method:
    """Returns the method: training stays as it is; the average, which starts at the initial weights, is evaluated.

    Settings:
        decay: share of the average so far in the next one.
    """

    def average(so_far: Params, params: Params, context: Context) -> Params:
        decay = context.hyper["mitigation.ema.decay"]
        return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, so_far, params)

    return Method(about="weights averaged over steps are evaluated", source="Polyak & Juditsky (1992)", average=average)
