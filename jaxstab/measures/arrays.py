"""Functions on numpy and JAX arrays alike."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

if TYPE_CHECKING:
    AnyArray = Any  # numpy in, numpy out; JAX in, JAX out
else:
    AnyArray = np.ndarray | np.generic | Array


def namespace(array: AnyArray) -> Any:
    """The library of an array: numpy or jax.numpy."""
    return jnp if isinstance(array, jax.Array) else np
