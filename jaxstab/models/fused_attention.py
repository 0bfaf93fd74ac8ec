"""Attention as two GPU kernels, one for each direction: scores and probabilities never reach the GPU's memory.

A program of a kernel holds one row and one head: all its scores, [T, T], are in registers, so rows are at most
`WIDEST` columns wide. The backward pass computes them again, so that queries, keys, values and the random bytes of
dropout are all that the forward pass keeps.

Source: Dao et al. (2022), "FlashAttention", algorithms 2 and 4, with a single block.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Float, Int, UInt8

from jaxstab.models.operations import dropped_levels, scale_after_dropout

WIDEST = 128  # columns; two float32 arrays [T, T] fill half of a multiprocessor's registers
NARROWEST = 16  # of tensor cores' tiles
WARPS, WIDE_WARPS = 4, 8


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def fused_attention(
    rate: float,
    query: Float[Array, "R T H d"],
    keys: Float[Array, "R T H d"],
    values: Float[Array, "R T H d"],
    owners: Int[Array, "R T"],
    reach: Int[Array, " 2"],
    levels: UInt8[Array, "R H T T"] | None,
) -> Float[Array, "R T H d"]:
    """Attention within each example, with dropout on the probabilities (`jaxstab.models.attention.attend`).

    On a CPU the kernels are interpreted, which is slow, for tests.

    Args:
        rate: of dropout.
        query: scaled; for R rows, T <= 128 columns, H heads and d features of a head.
        keys: of the same shape and dtype.
        values: of the same shape and dtype.
        owners: which example each token belongs to.
        reach: the farthest distances in columns that are attended to: before a token, and after it.
        levels: random bytes for dropout, or None for no dropout.
    """
    return _forward(rate, query, keys, values, owners, reach, levels)[0]


def _forward(rate: float, *arrays: Any) -> tuple[Array, tuple]:
    (mixed,) = _call(_forward_kernel, rate, arrays, results=1)
    return mixed, arrays


def _backward(rate: float, arrays: tuple, cotangent: Array) -> tuple:
    gradients = _call(_backward_kernel, rate, (*arrays, cotangent), results=3)
    return (*gradients, None, None, None)


fused_attention.defvjp(_forward, _backward)


def _call(kernel: Any, rate: float, arrays: tuple, results: int) -> tuple[Array, ...]:
    """Calls a kernel for each row and head; its results have the shape of the queries."""
    query = arrays[0]
    rows, columns, heads, features = query.shape
    wide = max(NARROWEST, pl.next_power_of_2(columns))  # Triton knows no other sizes; what is more is masked
    by_head = pl.BlockSpec((None, wide, None, max(NARROWEST, pl.next_power_of_2(features))), lambda r, h: (r, 0, h, 0))
    of_row, of_all = pl.BlockSpec((None, wide), lambda r, h: (r, 0)), pl.BlockSpec((2,), lambda r, h: (0,))
    of_scores = None if arrays[5] is None else pl.BlockSpec((None, None, wide, wide), lambda r, h: (r, h, 0, 0))

    def call(*arrays: Any, interpret: bool) -> tuple[Array, ...]:
        called = pl.pallas_call(
            partial(kernel, rate, (columns, features)),
            grid=(rows, heads),
            in_specs=[by_head, by_head, by_head, of_row, of_all, of_scores, by_head][: len(arrays)],
            out_specs=[by_head] * results,
            out_shape=[jax.ShapeDtypeStruct(query.shape, query.dtype)] * results,
            compiler_params=triton.CompilerParams(num_warps=WIDE_WARPS if wide > 64 else WARPS, num_stages=1),
            interpret=interpret,
            name=kernel.__name__.strip("_"),
        )
        return tuple(called(*arrays))

    found: tuple[Array, ...] = jax.lax.platform_dependent(
        *arrays, cpu=partial(call, interpret=True), default=partial(call, interpret=False)
    )
    return found


def _forward_kernel(rate: float, size: tuple[int, int], query, keys, values, owners, reach, levels, mixed) -> None:  # type: ignore[no-untyped-def]
    probabilities = _probabilities(size, query, keys, owners, reach)
    kept = probabilities * _factors(rate, size, levels)
    values = _load(values, size)
    _store(mixed, _dot(kept.astype(values.dtype), values), size)


def _backward_kernel(  # type: ignore[no-untyped-def]
    rate: float,
    size: tuple[int, int],
    query,
    keys,
    values,
    owners,
    reach,
    levels,
    cotangent,
    for_query,
    for_keys,
    for_values,
) -> None:
    probabilities = _probabilities(size, query, keys, owners, reach)
    kept = probabilities * _factors(rate, size, levels)
    cotangent = _load(cotangent, size)
    dtype = cotangent.dtype
    _store(for_values, _dot(kept.astype(dtype).T, cotangent), size)
    products = kept * _dot(cotangent, _load(values, size).T)
    for_scores = (products - probabilities * jnp.sum(products, axis=1)[:, None]).astype(dtype)
    _store(for_query, _dot(for_scores, _load(keys, size)), size)
    _store(for_keys, _dot(for_scores.T, _load(query, size)), size)


def _probabilities(size: tuple[int, int], query: Any, keys: Any, owners: Any, reach: Any) -> Float[Array, "T T"]:
    columns = jnp.arange(query.shape[0])
    inside = columns < size[0]
    owner = triton.load(owners, mask=inside, other=-1)
    before = columns[:, None] - columns[None, :]
    far = (before > reach[0]) | (-before > reach[1])
    hidden = (owner[:, None] != owner[None, :]) | far | ~inside[None, :]
    scores = _dot(_load(query, size), _load(keys, size).T)
    scores = jnp.where(hidden, jnp.finfo(jnp.float32).min, scores)
    exponentials = jnp.exp(scores - jnp.max(scores, axis=1)[:, None])
    return exponentials / jnp.sum(exponentials, axis=1)[:, None]


def _factors(rate: float, size: tuple[int, int], levels: Any) -> Float[Array, "T T"] | float:
    """What dropout multiplies probabilities by."""
    if levels is None:
        return 1.0
    inside = jnp.arange(levels.shape[0]) < size[0]
    random = triton.load(levels, mask=inside[:, None] & inside[None, :], other=0).astype(jnp.int32)
    return jnp.where(random >= dropped_levels(rate), jnp.float32(scale_after_dropout(rate)), jnp.float32(0))


def _inside(ref: Any, size: tuple[int, int]) -> Array:
    return (jnp.arange(ref.shape[0]) < size[0])[:, None] & (jnp.arange(ref.shape[1]) < size[1])[None, :]


def _load(ref: Any, size: tuple[int, int]) -> Float[Array, "T d"]:
    return triton.load(ref, mask=_inside(ref, size), other=0)


def _store(ref: Any, values: Array, size: tuple[int, int]) -> None:
    triton.store(ref, values.astype(ref.dtype), mask=_inside(ref, size))


def _dot(a: Float[Array, "M K"], b: Float[Array, "K N"]) -> Float[Array, "M N"]:
    return jax.lax.dot(a, b, preferred_element_type=jnp.float32)
