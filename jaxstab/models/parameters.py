"""Rearranging the parameters of a model: splitting off frozen layers, merging adapters and other parts."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray


def split_layers(params: Mapping[str, Any], frozen_layers: int) -> dict[str, Any]:
    """Splits the bottom layers off, so that the parameters fit a model with so many frozen layers.

    Every leaf [L, ...] in `layers` becomes [k, ...] in `frozen_layers` and [L - k, ...] in `layers`.

    Args:
        params: parameters of a model without frozen layers.
        frozen_layers: k, the number of layers at the bottom to split off; with 0, nothing changes.
    """
    if frozen_layers == 0:
        return dict(params)
    layers = params["layers"]
    return {
        **params,
        "frozen_layers": jax.tree.map(lambda leaf: leaf[:frozen_layers], layers),
        "layers": jax.tree.map(lambda leaf: leaf[frozen_layers:], layers),
    }


def join_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """Undoes `split_layers`."""
    if "frozen_layers" not in params:
        return dict(params)
    parts = params["frozen_layers"], params["layers"]
    joined = jax.tree.map(lambda *leaves: _library(leaves[0]).concatenate(leaves), *parts)
    return {key: joined if key == "layers" else value for key, value in params.items() if key != "frozen_layers"}


def merged(base: Any, change: Any) -> Any:
    """Returns a nested dict with the leaves of both arguments; where both have one, that of `change`."""
    if not isinstance(base, Mapping) or not isinstance(change, Mapping):
        return change
    return {**base, **{name: merged(base.get(name), value) for name, value in change.items()}}


def merge_adapters(params: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """Adds every low-rank adapter to the kernel beside it: W + scale A B.

    Args:
        params: nested dict; adapters are `lora/lora_a` [..., in, rank] and `lora/lora_b` [..., rank, out].
        scale: factor on the products.

    Returns:
        The parameters without adapters.

    Source: Hu et al. (2022), section 4.1.
    """
    without = {
        key: merge_adapters(value, scale) if isinstance(value, Mapping) else value
        for key, value in params.items()
        if key != "lora"
    }
    if "lora" in params:
        added = params["lora"]["lora_a"] @ params["lora"]["lora_b"]
        without["kernel"] = without["kernel"] + added * added.dtype.type(scale)
    return without


def _library(leaf: Any) -> Any:
    return np if isinstance(leaf, np.ndarray) else jnp


def nudged(params: Any, key: PRNGKeyArray, repeat: Int[Array, ""] | int) -> Any:
    """Moves every parameter by one unit in the last place of float32, up or down at random.

    Args:
        params: any tree of float32 arrays.
        key: the seed's.
        repeat: number of the repeat, which the signs depend on; 0 moves nothing.
    """
    key = jax.random.fold_in(key, repeat)
    size = jnp.where(jnp.asarray(repeat) > 0, jnp.float32(jnp.finfo(jnp.float32).eps), jnp.float32(0))
    leaves, structure = jax.tree.flatten(params)
    keys = [jax.random.fold_in(key, number) for number in range(len(leaves))]
    signs = [jax.random.rademacher(one, leaf.shape, leaf.dtype) for one, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, [leaf * (1 + size * sign) for leaf, sign in zip(leaves, signs, strict=True)])
