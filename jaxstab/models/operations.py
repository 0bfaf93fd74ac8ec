"""What an encoder spends its time in, as pure functions: dropout, attention, activations.

Attention and activations have written-out backward passes that store less than automatic differentiation would.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

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
    """Applies an activation; the forward pass leaves its derivative, so that the backward pass is one product."""
    return ACTIVATIONS[name](x)


activate.defvjp(
    lambda name, x: jax.jvp(ACTIVATIONS[name], (x,), (jnp.ones_like(x),)),
    lambda name, derivative, cotangent: (cotangent * derivative,),
)


def dropout(x: Array, rate: float, key: PRNGKeyArray | None) -> Array:
    """Zeroes elements with probability `rate` and rescales the rest; without a key, returns `x`.

    Four elements share one 32-bit random word, so the rate is rounded to a multiple of 1/256 (0.1 becomes 0.1016);
    the scale is that of the rounded rate, so that the expectation of the result is exactly `x`.
    """
    if key is None or _dropped(rate) == 0:
        return x
    return jnp.where(random_levels(key, x.shape) >= _dropped(rate), x * _scale(rate), jnp.zeros_like(x))


def _dropped(rate: float) -> int:
    return round(rate * DROPOUT_LEVELS)


def _scale(rate: float) -> float:
    return DROPOUT_LEVELS / (DROPOUT_LEVELS - _dropped(rate))


def random_levels(key: PRNGKeyArray, shape: tuple[int, ...]) -> UInt8[Array, "..."]:
    """Random bytes, four from each word: drawing 8 bits at a time would cost a word for each."""
    size = math.prod(shape)
    words = jax.random.bits(key, (-(-size // 4),), jnp.uint32)
    return jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:size].reshape(shape)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def attend(
    query: Float[Array, "R H T d"],
    keys: Float[Array, "R H T d"],
    values: Float[Array, "R H T d"],
    mask: Float[Array, "R 1 T T"],
    levels: UInt8[Array, "R H T T"] | None,
    rate: float,
    bias: Float[Array, "1 H T T"] | None = None,
) -> Float[Array, "R T D"]:
    """Attention with dropout on the probabilities, which are normalised in float32; no gradient for the mask.

    The backward pass is written out, because the derivative of a softmax needs the sum over s of P dP only, which is
    the sum of O dO over features: two passes over [T, T] instead of the nine of automatic differentiation. The signs
    of the probabilities say which are dropped, so that it needs one array of that size.

    Args:
        query: scaled by d ** -0.5.
        keys: of the same tokens.
        values: of the same tokens.
        mask: added to the scores; very negative where there is nothing to attend to.
        levels: random bytes for dropout, None if nothing is dropped.
        rate: of dropout, 0 if nothing is dropped.
        bias: learned, added to the scores of every row.

    Source: Vaswani et al. (2017), eq. 1; Dao et al. (2022), appendix B.2, for the gradient.
    """
    return _attend_forward(query, keys, values, mask, levels, rate, bias)[0]


def _attend_forward(
    query: Array, keys: Array, values: Array, mask: Array, levels: Array | None, rate: float, bias: Array | None
) -> tuple[Array, tuple]:
    scores = jnp.einsum("rhtd,rhsd->rhts", query, keys, preferred_element_type=jnp.float32) + mask
    scores = scores if bias is None else scores + bias
    exponentials = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    probabilities = (exponentials / jnp.sum(exponentials, axis=-1, keepdims=True)).astype(values.dtype)
    if levels is not None:
        probabilities = jnp.where(levels >= _dropped(rate), probabilities, -probabilities)
    mixed = jnp.einsum("rhts,rhsd->rhtd", _kept(probabilities, rate), values)
    mixed = mixed.swapaxes(1, 2).reshape(mixed.shape[0], mixed.shape[2], -1)
    return mixed, (query, keys, values, probabilities, mixed, bias)


def _attend_backward(rate: float, residuals: tuple, cotangent: Array) -> tuple:
    query, keys, values, probabilities, mixed, bias = residuals
    by_head = (*mixed.shape[:2], values.shape[1], -1)
    along = jnp.sum((cotangent * mixed).astype(jnp.float32).reshape(by_head), axis=-1).swapaxes(1, 2)[..., None]
    cotangent = cotangent.reshape(by_head).swapaxes(1, 2)
    kept = _kept(probabilities, rate)
    for_kept = jnp.einsum("rhtd,rhsd->rhts", cotangent, values, preferred_element_type=jnp.float32)
    for_scores = kept.astype(jnp.float32) * for_kept - jnp.abs(probabilities).astype(jnp.float32) * along
    for_bias = None if bias is None else jnp.sum(for_scores, axis=0, keepdims=True)
    for_scores = for_scores.astype(values.dtype)
    for_query = jnp.einsum("rhts,rhsd->rhtd", for_scores, keys)
    for_keys = jnp.einsum("rhts,rhtd->rhsd", for_scores, query)
    for_values = jnp.einsum("rhts,rhtd->rhsd", kept, cotangent)
    return for_query, for_keys, for_values, None, None, for_bias


def _kept(signed: Array, rate: float) -> Array:
    return jnp.maximum(signed, 0) * _scale(rate)


attend.defvjp(_attend_forward, _attend_backward)
