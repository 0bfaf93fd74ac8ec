"""What is compiled to measure predictions: one program for measures of pairs, one for measures of sets of seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from numpy.typing import NDArray

from jaxstab import xla
from jaxstab.measures.inputs import Inputs
from jaxstab.measures.registry import MEASURES
from jaxstab.measures.spectral import in_full_precision

SETS = 8  # sets of seeds in one call, so that one program serves any number of sets


@partial(
    jax.tree_util.register_dataclass, data_fields=["logits", "predictions", "labels"], meta_fields=["metric", "classes"]
)
@dataclass(frozen=True)
class OnDevice:
    """The inputs of measures of predictions, as programs take them; arrays as in `Inputs`."""

    logits: jax.Array | np.ndarray | None
    predictions: jax.Array | np.ndarray | None
    labels: jax.Array | np.ndarray | None
    metric: str
    classes: int

    @classmethod
    def of(cls, inputs: Inputs, metric: str) -> "OnDevice":
        """Puts checked inputs on the device."""
        arrays = cls(inputs.logits, inputs.predictions, inputs.labels, metric, inputs.classes)
        placed: OnDevice = jax.device_put(arrays)
        return placed


@partial(xla.jit, static_argnames="names")
@in_full_precision
def pair_distances(arrays: OnDevice, names: tuple[str, ...]) -> dict[str, jax.Array]:
    """Measures of pairs by predictions or logits: [S, S] each."""
    return {name: MEASURES[name].compute(arrays) for name in names}  # type: ignore[misc]


@partial(xla.jit, static_argnames="names")
@in_full_precision
def set_values(arrays: OnDevice, names: tuple[str, ...], masks: jax.Array) -> dict[str, jax.Array]:
    """Measures [R] of sets of seeds; `masks` [R, S] is 1 for seeds that count and 0 for others."""

    def of_set(mask: jax.Array) -> dict[str, jax.Array]:
        return {name: MEASURES[name].compute(arrays, mask) for name in names}  # type: ignore[misc]

    values: dict[str, jax.Array] = jax.lax.map(of_set, masks)
    return values


def all_set_values(
    inputs: Inputs, metric: str, names: Sequence[str], masks: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Measures of any number of sets of seeds, [R] each; see `set_values`."""
    if not names:
        return {}
    arrays, count = OnDevice.of(inputs, metric), len(masks)
    filled = np.concatenate([masks, np.repeat(masks[:1], -count % SETS, axis=0)]).astype(np.float32)
    blocks = [set_values(arrays, tuple(names), block) for block in filled.reshape(-1, SETS, inputs.seeds)]
    return {name: np.concatenate([one[name] for one in blocks])[:count].astype(np.float64) for name in names}
