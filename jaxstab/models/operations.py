"""The encoder's hot operations besides attention: dropout and activations, as pure functions."""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, UInt8

DROPOUT_LEVELS = 256

ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5)),
    "gelu_new": jax.nn.gelu,
    "gelu_pytorch_tanh": jax.nn.gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def activate(name: str, x: Array) -> Array:
    """Applies an activation. The forward pass computes the derivative too, so that the backward pass is one product."""
    return ACTIVATIONS[name](x)


activate.defvjp(
    lambda name, x: jax.jvp(ACTIVATIONS[name], (x,), (jnp.ones_like(x),)),
    lambda name, derivative, cotangent: (cotangent * derivative,),
)


def fold(key: PRNGKeyArray | None, site: int | Array) -> PRNGKeyArray | None:
    """Returns the key of one place in the model where dropout is applied, None without a key."""
    return None if key is None else jax.random.fold_in(key, site)


def dropout(x: Array, rate: float, key: PRNGKeyArray | None) -> Array:
    """Zeroes elements with probability `rate` and rescales the rest; without a key, returns `x`.

    Four elements share one 32-bit random word, so the rate is rounded to a multiple of 1/256 (0.1 becomes 0.1016).
    The scale is that of the rounded rate, so that the expectation of the result is exactly `x`.
    """
    if key is None or dropped_levels(rate) == 0:
        return x
    retained = random_levels(key, x.shape) >= dropped_levels(rate)
    return jnp.where(retained, x * scale_after_dropout(rate), jnp.zeros_like(x))


def dropped_levels(rate: float) -> int:
    """Returns how many of the 256 values of a random byte mean that an element is dropped."""
    return round(rate * DROPOUT_LEVELS)


def scale_after_dropout(rate: float) -> float:
    """Returns the factor on elements that are not dropped: 1 / (1 - rate), for the rounded rate."""
    return DROPOUT_LEVELS / (DROPOUT_LEVELS - dropped_levels(rate))


def random_levels(key: PRNGKeyArray, shape: tuple[int, ...]) -> UInt8[Array, "..."]:
    """Returns random bytes, four from each 32-bit word; JAX itself would draw a word for each byte."""
    size = math.prod(shape)
    words = jax.random.bits(key, (-(-size // 4),), jnp.uint32)
    return jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:size].reshape(shape)
