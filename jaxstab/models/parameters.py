"""Rearranging the parameters of a model: layers that are held apart, adapters and other parts that are merged."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def split_layers(params: Mapping[str, Any], frozen_layers: int) -> dict[str, Any]:
    """Moves the bottom layers, so that the parameters fit a model with so many frozen ones.

    Every leaf [L, ...] in `layers` becomes [k, ...] in `frozen_layers` and [L - k, ...] in `layers`.

    Args:
        params: of a model without frozen layers.
        frozen_layers: k, how many layers at the bottom; with 0, nothing changes.
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
    """Returns the nested dict with the leaves of both, where both have one that of `change`."""
    if not isinstance(base, Mapping) or not isinstance(change, Mapping):
        return change
    return {**base, **{name: merged(base.get(name), value) for name, value in change.items()}}


def merge_adapters(params: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """Adds every low-rank adapter to the kernel beside it: W + scale A B.

    Args:
        params: nested dict; adapters are `lora/lora_a` [..., in, rank] and `lora/lora_b` [..., rank, out].
        scale: of the products.

    Returns:
        The same without adapters.

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
