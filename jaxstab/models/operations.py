"""The encoder's hot operations besides attention, as pure functions: look-up, normalisation, activations, dropout."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped, UInt8

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


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def normalise(epsilon: float, x: Array, scale: Array, bias: Array | None) -> Array:
    """Normalises the last axis (LayerNorm), computed in float32; the result has the dtype of `x`.

    The backward pass is written out: it needs `x` and two numbers for each row. Automatic differentiation would store
    three float32 arrays of the size of `x`.

    Args:
        epsilon: added to the variance.
        x: [..., D].
        scale: [D] float32.
        bias: [D] float32, or None.

    Source: Ba et al. (2016), eq. 4.
    """
    return _normalise_forward(epsilon, x, scale, bias)[0]


def _normalise_forward(epsilon: float, x: Array, scale: Array, bias: Array | None) -> tuple[Array, tuple]:
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(wide), axis=-1, keepdims=True) - jnp.square(mean)
    inverse = jax.lax.rsqrt(jnp.maximum(variance, 0.0) + epsilon)
    found = (wide - mean) * (inverse * scale)
    found = found if bias is None else found + bias
    return found.astype(x.dtype), (x, mean, inverse, scale, bias)


def _normalise_backward(epsilon: float, residuals: tuple, cotangent: Array) -> tuple:
    x, mean, inverse, scale, bias = residuals
    cotangent = cotangent.astype(jnp.float32)
    normal = (x.astype(jnp.float32) - mean) * inverse
    scaled = cotangent * scale
    along = jnp.mean(scaled * normal, axis=-1, keepdims=True)
    for_x = inverse * (scaled - jnp.mean(scaled, axis=-1, keepdims=True) - normal * along)
    rows = tuple(range(x.ndim - 1))
    for_bias = None if bias is None else jnp.sum(cotangent, axis=rows)
    return for_x.astype(x.dtype), jnp.sum(cotangent * normal, axis=rows), for_bias


normalise.defvjp(_normalise_forward, _normalise_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def normalise_rms(epsilon: float, x: Array, scale: Array) -> Array:
    """Divides the last axis by its root mean square (RMSNorm), in float32; the result has the dtype of `x`.

    The backward pass is written out for the same reason as that of `normalise`.

    Args:
        epsilon: added to the mean square.
        x: [..., D].
        scale: [D] float32.

    Source: Zhang & Sennrich (2019), eq. 4.
    """
    return _normalise_rms_forward(epsilon, x, scale)[0]


def _normalise_rms_forward(epsilon: float, x: Array, scale: Array) -> tuple[Array, tuple]:
    wide = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + epsilon)
    return (wide * (inverse * scale)).astype(x.dtype), (x, inverse, scale)


def _normalise_rms_backward(epsilon: float, residuals: tuple, cotangent: Array) -> tuple:
    x, inverse, scale = residuals
    cotangent = cotangent.astype(jnp.float32)
    normal = x.astype(jnp.float32) * inverse
    scaled = cotangent * scale
    along = jnp.mean(scaled * normal, axis=-1, keepdims=True)
    for_x = inverse * (scaled - normal * along)
    return for_x.astype(x.dtype), jnp.sum(cotangent * normal, axis=tuple(range(x.ndim - 1)))


normalise_rms.defvjp(_normalise_rms_forward, _normalise_rms_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def look_up(ordered: bool, table: Shaped[Array, "V D"], indices: Int[Array, "..."]) -> Shaped[Array, "... D"]:
    """Returns the rows of a table at some indices: [..., D].

    Args:
        ordered: whether the gradient adds up rows with equal indices in a fixed order, by matrix products. Otherwise
            they are added in place, which is cheaper on a CPU, slow on a TPU, and on a GPU in a random order, so that
            two runs differ in the last bits.
        table: of any dtype; the gradient is for float32 or bfloat16.
        indices: of rows.
    """
    return jnp.take(table, indices, axis=0)


def _look_up_forward(ordered: bool, table: Array, indices: Array) -> tuple[Array, tuple]:
    return look_up(ordered, table, indices), (table, indices)


def _look_up_backward(ordered: bool, residuals: tuple, cotangent: Array) -> tuple:
    table, indices = residuals
    rows, indices = cotangent.reshape(-1, table.shape[1]), indices.reshape(-1)
    if not ordered:
        return jnp.zeros_like(table).at[indices].add(rows), None
    if len(table) <= len(indices):  # a product with all rows of the table is cheap
        summed = _select_and_add(jnp.arange(len(table))[:, None] == indices, rows)
        return summed.astype(table.dtype), None
    # The sum over all places with the same index, at each of them, but written from the first alone.
    same = indices[:, None] == indices
    first = jnp.argmax(same, axis=1) == jnp.arange(len(indices))
    nowhere = len(table) + jnp.arange(len(indices))
    summed = _select_and_add(same, rows).astype(table.dtype)
    written = jnp.zeros_like(table).at[jnp.where(first, indices, nowhere)]
    return written.set(summed, mode="drop", unique_indices=True), None


look_up.defvjp(_look_up_forward, _look_up_backward)


def _select_and_add(selected: Bool[Array, "M N"], rows: Float[Array, "N D"]) -> Float[Array, "M D"]:
    """For each m the sum of the selected rows, as exact as sums in float32, by fast products of bfloat16.

    A float32 number is the sum of three of bfloat16, and a choice of rows has no rounding.
    """
    parts, rest = [], rows.astype(jnp.float32)
    for _ in range(3):
        parts.append(rest.astype(jnp.bfloat16))
        rest = rest - parts[-1].astype(jnp.float32)
    chosen = selected.astype(jnp.bfloat16)
    products = jnp.matmul(chosen, jnp.concatenate(parts, axis=1), preferred_element_type=jnp.float32)
    return products.reshape(len(selected), 3, -1).sum(axis=1)


def from_memory(stored: Shaped[Array, "..."], dtype: Any) -> Float[Array, "..."]:
    """Returns values in a dtype; uint16 are the bits of bfloat16 (`jaxstab.training.recipe.to_memory`)."""
    if stored.dtype != jnp.uint16:
        return stored.astype(dtype)
    if dtype == jnp.bfloat16:
        return jax.lax.bitcast_convert_type(stored, jnp.bfloat16)
    return jax.lax.bitcast_convert_type(stored.astype(jnp.uint32) << 16, jnp.float32).astype(dtype)


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
