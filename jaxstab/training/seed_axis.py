"""The seed axis: where it is in the arrays of several seeds, and how functions of one seed are applied along it.

It comes first, but second in arrays that are stacked over layers, [L, W, ...]: the loop over layers takes slices of the
first axis. With seeds first, XLA turns the whole state round at both ends of a program, and holds it twice.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxstab import xla

STACKED = ("layers", "frozen_layers")
Axes = Any  # a tree of axes, an axis for all leaves, or None for what all seeds share


def seed_axes(tree: Any) -> Any:
    """Returns the position of the seed axis in each leaf of a tree of parameters, optimiser states and the like."""

    def axis(path: Sequence[Any], _: Any) -> int:
        return int(any(getattr(key, "key", None) in STACKED for key in path))

    return jax.tree_util.tree_map_with_path(axis, tree)


def over_seeds(one_seed: Callable, width: int, axes: Sequence[Axes], results: Axes = 0, donated: bool = False) -> Any:
    """Returns a compiled function of W seeds from a function of one.

    Args:
        one_seed: the function.
        width: W.
        axes: where the seed axis is in each argument.
        results: where it is in the results.
        donated: whether the memory of the first argument is used for results.
    """

    def alone(*arguments: Any) -> Any:  # without vmap, so that a switch computes one branch
        taken = [a if axis is None else _each(_first, axis, a) for axis, a in zip(axes, arguments, strict=True)]
        return _each(lambda leaf, axis: jnp.expand_dims(leaf, axis), results, one_seed(*taken))

    over = alone if width == 1 else jax.vmap(one_seed, in_axes=tuple(axes), out_axes=results)
    return xla.jit(over, donate_argnums=0 if donated else ())


def take(tree: Any, place: Int[Array, ""]) -> Any:
    """Returns the leaves of one of W seeds, without the seed axis."""
    return jax.tree.map(lambda leaf, axis: _at(leaf, place, axis), tree, seed_axes(tree))


def put(tree: Any, one: Any, place: Int[Array, ""]) -> Any:
    """Returns the leaves of W seeds with those of one seed replaced."""
    replace = jax.lax.dynamic_update_index_in_dim
    return jax.tree.map(lambda leaf, value, axis: replace(leaf, value, place, axis), tree, one, seed_axes(tree))


def shapes_of_one(tree: Any) -> Any:
    """Returns the shapes and dtypes of one seed from those of W seeds."""

    def without(leaf: Any, axis: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape[:axis] + leaf.shape[axis + 1 :], leaf.dtype)

    return jax.tree.map(without, tree, seed_axes(tree))


def _each(function: Callable[[Any, int], Any], axes: Axes, tree: Any) -> Any:
    """Applies a function to every leaf and its axis."""
    return jax.tree.map(lambda axis, part: jax.tree.map(lambda leaf: function(leaf, axis), part), axes, tree)


def _first(leaf: Any, axis: int) -> Any:
    return jax.lax.index_in_dim(leaf, 0, axis, keepdims=False)


def _at(leaf: Any, place: Int[Array, ""], axis: int) -> Any:
    return jax.lax.dynamic_index_in_dim(leaf, place, axis, keepdims=False)
