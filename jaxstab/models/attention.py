"""Attention of every family, in one function, and the choice between its implementations.

Attention stays within an example (`Batch.owners`), so that short examples can share a row. The tokens of an example are
neighbours in a row: the distance between two of its columns is the distance between their positions.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from jaxstab.errors import InputError
from jaxstab.models.fused_attention import WIDEST, fused_attention
from jaxstab.models.operations import dropped_levels, random_levels, scale_after_dropout


def attend(
    query: Float[Array, "R T H d"],
    keys: Float[Array, "R T H d"],
    values: Float[Array, "R T H d"],
    owners: Int[Array, "R T"],
    window: Int[Array, ""] | int | None = None,
    bias: Float[Array, "#R H T T"] | None = None,
    key: PRNGKeyArray | None = None,
    rate: float = 0.0,
    implementation: str = "reference",
    causal: bool = False,
) -> Float[Array, "R T D"]:
    """Multi-head attention within each example, with dropout on the probabilities.

    Scores and softmax are float32, matrix products have the dtype of the inputs. The result of all heads is side by
    side, D = H d. All arguments but `owners`, `window` and `key` have gradients.

    Args:
        query: for R rows, T columns, H heads and d features of a head; scaled by the caller, usually by d ** -0.5.
        keys: of the same shape and dtype.
        values: of the same shape and dtype.
        owners: which example each token belongs to. Columns without a token share a number of their own.
        window: the farthest distance in columns that is attended to; may be traced. None for any distance.
        bias: float32, added to the scores; one for all rows or one for each row.
        key: draws what is dropped; None drops nothing.
        rate: of dropout, rounded to a multiple of 1/256. At 0 nothing random is drawn.
        implementation: one of `IMPLEMENTATIONS`, see `choose_attention`.
        causal: whether a token attends only to itself and to tokens before it.

    Raises:
        InputError: no such implementation.

    Source: Vaswani et al. (2017), eq. 1.
    """
    if implementation not in IMPLEMENTATIONS:
        raise InputError(f"attention {implementation!r} is not one of {', '.join(IMPLEMENTATIONS)}")
    return IMPLEMENTATIONS[implementation](query, keys, values, owners, window, bias, key, rate, causal)


def choose_attention(platform: str, precision: str) -> str:
    """Returns the name of the implementation that is used on a kind of device.

    Args:
        platform: of the device, as JAX calls it: `cpu`, `gpu` or `tpu`.
        precision: of `[train]`.
    """
    return "fused" if platform == "gpu" and precision == "bfloat16" else "reference"


def _mask(owners: Int[Array, "R T"], window: Int[Array, ""] | int | None, causal: bool) -> Float[Array, "R 1 T T"]:
    """Zero where a query (third axis) may attend to a key (last axis), very negative elsewhere.

    It is finite, so that columns without a token have something to attend to: each other.
    """
    hidden = owners[:, None, :, None] != owners[:, None, None, :]
    columns = jnp.arange(owners.shape[1])
    if window is not None:
        hidden |= jnp.abs(columns[:, None] - columns) > window
    if causal:
        hidden |= columns[:, None] < columns
    return jnp.where(hidden, jnp.finfo(jnp.float32).min, 0.0)


def _draw(key: PRNGKeyArray | None, rate: float, shape: tuple[int, ...]) -> UInt8[Array, "R H T T"] | None:
    """Random bytes for dropout of the probabilities, None if nothing is dropped; `shape` is (R, H, T)."""
    if key is None or dropped_levels(rate) == 0:
        return None
    return random_levels(key, (*shape, shape[-1]))


def _heads_first(*arrays: Float[Array, "R T H d"]) -> tuple[Float[Array, "R H T d"], ...]:
    return tuple(array.swapaxes(1, 2) for array in arrays)


def _scores(query: Array, keys: Array, mask: Array, bias: Array | None) -> Float[Array, "R H T T"]:
    scores = jnp.einsum("rhtd,rhsd->rhts", query, keys, preferred_element_type=jnp.float32) + mask
    return scores if bias is None else scores + bias


def _side_by_side(mixed: Float[Array, "R H T d"]) -> Float[Array, "R T D"]:
    mixed = mixed.swapaxes(1, 2)
    return mixed.reshape(*mixed.shape[:2], -1)


def _automatic(
    query: Array,
    keys: Array,
    values: Array,
    owners: Array,
    window: Array | int | None,
    bias: Array | None,
    key: PRNGKeyArray | None,
    rate: float,
    causal: bool,
) -> Array:
    """The definition, differentiated by JAX; for tests and comparisons."""
    query, keys, values = _heads_first(query, keys, values)
    probabilities = jax.nn.softmax(_scores(query, keys, _mask(owners, window, causal), bias)).astype(values.dtype)
    levels = _draw(key, rate, query.shape[:3])
    if levels is not None:
        probabilities *= jnp.where(levels >= dropped_levels(rate), scale_after_dropout(rate), 0).astype(values.dtype)
    return _side_by_side(jnp.einsum("rhts,rhsd->rhtd", probabilities, values))


def _reference(
    query: Array,
    keys: Array,
    values: Array,
    owners: Array,
    window: Array | int | None,
    bias: Array | None,
    key: PRNGKeyArray | None,
    rate: float,
    causal: bool,
) -> Array:
    """Attention with the written-out gradient of `_with_gradient`."""
    query, keys, values = _heads_first(query, keys, values)
    levels = _draw(key, rate, query.shape[:3])
    mask = _mask(owners, window, causal)
    return _with_gradient(0.0 if levels is None else rate, query, keys, values, mask, levels, bias)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _with_gradient(
    rate: float, query: Array, keys: Array, values: Array, mask: Array, levels: Array | None, bias: Array | None
) -> Array:
    """Attention whose backward pass is written out; mask and levels have no gradient.

    The derivative of a softmax needs only the sum over s of P dP, which equals the sum of O dO over features: two
    passes over [T, T] instead of the nine of automatic differentiation. The sign of a stored probability says whether
    it was dropped, so that the backward pass needs one array of that size.

    Source: Dao et al. (2022), appendix B.2, for the gradient.
    """
    return _forward(rate, query, keys, values, mask, levels, bias)[0]


def _forward(
    rate: float, query: Array, keys: Array, values: Array, mask: Array, levels: Array | None, bias: Array | None
) -> tuple[Array, tuple]:
    scores = _scores(query, keys, mask, bias)
    exponentials = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    signed = (exponentials / jnp.sum(exponentials, axis=-1, keepdims=True)).astype(values.dtype)
    if levels is not None:
        signed = jnp.where(levels >= dropped_levels(rate), signed, -signed)
    mixed = _side_by_side(jnp.einsum("rhts,rhsd->rhtd", _after_dropout(signed, rate), values))
    return mixed, (query, keys, values, signed, mixed, bias)


def _backward(rate: float, residuals: tuple, cotangent: Array) -> tuple:
    query, keys, values, signed, mixed, bias = residuals
    by_head = (*mixed.shape[:2], values.shape[1], -1)
    along = jnp.sum((cotangent * mixed).astype(jnp.float32).reshape(by_head), axis=-1).swapaxes(1, 2)[..., None]
    cotangent = cotangent.reshape(by_head).swapaxes(1, 2)
    probabilities = _after_dropout(signed, rate)
    for_probabilities = jnp.einsum("rhtd,rhsd->rhts", cotangent, values, preferred_element_type=jnp.float32)
    for_scores = probabilities.astype(jnp.float32) * for_probabilities - jnp.abs(signed).astype(jnp.float32) * along
    for_bias = None if bias is None else _for_bias(for_scores, bias)
    for_scores = for_scores.astype(values.dtype)
    for_query = jnp.einsum("rhts,rhsd->rhtd", for_scores, keys)
    for_keys = jnp.einsum("rhts,rhtd->rhsd", for_scores, query)
    for_values = jnp.einsum("rhts,rhtd->rhsd", probabilities, cotangent)
    return for_query, for_keys, for_values, None, None, for_bias


def _for_bias(for_scores: Array, bias: Array) -> Array:
    return for_scores if bias.shape[0] == for_scores.shape[0] else jnp.sum(for_scores, axis=0, keepdims=True)


def _after_dropout(signed: Array, rate: float) -> Array:
    return jnp.maximum(signed, 0) * scale_after_dropout(rate)


_with_gradient.defvjp(_forward, _backward)


def _fused(
    query: Array,
    keys: Array,
    values: Array,
    owners: Array,
    window: Array | int | None,
    bias: Array | None,
    key: PRNGKeyArray | None,
    rate: float,
    causal: bool,
) -> Array:
    """The GPU's kernels (`jaxstab.models.fused_attention`), or `_reference` for what they do not know."""
    rows, columns, heads, _ = query.shape
    if bias is not None or columns > WIDEST:
        return _reference(query, keys, values, owners, window, bias, key, rate, causal)
    levels = _draw(key, rate, (rows, heads, columns))
    before = jnp.asarray(columns if window is None else window, jnp.int32)
    reach = jnp.stack([before, jnp.zeros_like(before) if causal else before])
    mixed = fused_attention(rate, query, keys, values, owners, reach, levels)
    return mixed.reshape(rows, columns, -1)


IMPLEMENTATIONS: dict[str, Callable[..., Array]] = {"reference": _reference, "automatic": _automatic, "fused": _fused}
