"""Scores that are a user's Python functions of labels and outputs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from jaxstab.measures.arrays import AnyArray, namespace

Function = Callable[[np.ndarray, np.ndarray], float]


def own_score(
    function: Function, low: float, high: float, outputs: Shaped[AnyArray, " N *C"], labels: Shaped[AnyArray, " N"]
) -> Float[AnyArray, ""]:
    """Calls a user's function for one seed, also from compiled programs, which then wait for it on the host.

    Args:
        function: from labels [N] and outputs to a number.
        low: the smallest number that it may return; it stands for outputs that are not finite.
        high: the largest.
        outputs: logits [N, C] or predicted numbers [N], in numpy or JAX like `labels`.
        labels: [N] class indices, or numbers.

    Raises:
        ValueError: the function failed, or its number is outside the range.
    """

    def call(labels: AnyArray, outputs: AnyArray) -> np.float64:
        outputs = np.asarray(outputs)
        if not np.isfinite(outputs).all():
            return np.float64(low)
        try:
            found = float(function(np.asarray(labels), outputs))
        except Exception as error:  # of whatever kind a user's function raises
            raise ValueError(f"the score {function.__name__} failed: {type(error).__name__}: {error}") from error
        if not low <= found <= high:
            raise ValueError(
                f"the score {function.__name__} is {found:g}, outside of {low:g} to {high:g}; declare its range with "
                "jaxstab.measures.add_score"
            )
        return np.float64(found)

    if namespace(outputs) is np:
        return call(labels, outputs)
    shape = jax.ShapeDtypeStruct((), jnp.float32)  # type: ignore[no-untyped-call]
    return jax.pure_callback(
        lambda *arrays: np.float32(call(*arrays)), shape, labels, outputs, vmap_method="sequential"
    )


def own_scores_without_each(
    function: Function, low: float, high: float, outputs: Shaped[np.ndarray, " N *C"], labels: Shaped[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Returns the scores of one seed without each example in turn: N calls of the function. Arguments as above."""
    others = ~np.eye(len(labels), dtype=bool)
    return np.array([own_score(function, low, high, outputs[one], labels[one]) for one in others], np.float64)
