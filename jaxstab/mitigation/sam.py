"""Sharpness-aware minimisation: the gradient is taken a step uphill."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxstab.mitigation.method import Context, Method, Params, ValueAndGrad


def sam() -> Method:
    """Returns the method: the gradient at w + rho g / |g|, g that at w; two passes per step, with the same dropout.

    Settings:
        rho: length of the step to where the gradient is taken.
    """

    def uphill(value_and_grad: ValueAndGrad, context: Context) -> ValueAndGrad:
        def there(params: Params) -> tuple[Float[Array, ""], Params]:
            loss, gradient = value_and_grad(params)
            length = context.hyper["mitigation.sam.rho"] / jnp.maximum(optax.tree.norm(gradient), 1e-12)
            moved = jax.tree.map(lambda value, slope: value + length * slope, params, gradient)
            return loss, value_and_grad(moved)[1]

        return there

    return Method(
        about="the gradient is taken a step uphill, so that flat minima are preferred",
        source="Foret et al. (2021), eq. 3",
        gradient=uphill,
    )
