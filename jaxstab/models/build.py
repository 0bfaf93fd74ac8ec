"""How a classifier is built, whatever its family: one record, and the modules that follow it."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxstab.models.operations import look_up, normalise, normalise_rms


@dataclass(frozen=True)
class Adapters:
    """Low-rank adapters beside linear layers of the encoder layers: y = x W + b + (x A) B.

    Source: Hu et al. (2022), section 4.1, without its scale: the caller scales B.

    Attributes:
        rank: of the product A B.
        targets: names of linear layers, the last part of their paths: `query`, `value`, ...
    """

    rank: int
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Build:
    """What can be chosen about a classifier besides its config.

    Attributes:
        dtype: of matrix products and hidden states, float32 or bfloat16; parameters are always float32.
        remat: recompute each layer in the backward pass: less memory, more time.
        lean: recompute activation functions in the backward pass: less memory, and no more time where memory is slow.
        ordered: add up the gradients of embeddings in a fixed order (`look_up`).
        unroll: how many layers each iteration of the loop over layers holds; True for all of them.
        attention: name of the implementation (`jaxstab.models.attention`).
        adapters: low-rank ones beside linear layers of the encoder layers, but not of frozen layers.
        frozen_layers: how many layers at the bottom form a stack of their own, which is not trained.
    """

    dtype: Any = jnp.float32
    remat: bool = False
    lean: bool = False
    ordered: bool = False
    unroll: int | bool = 1
    attention: str = "reference"
    adapters: Adapters | None = None
    frozen_layers: int = 0


def make_linear(
    name: str, inputs: int, outputs: int, build: Build, rngs: nnx.Rngs, use_bias: bool = True
) -> nnx.Linear:
    """Returns a linear layer of an encoder layer, with an adapter if its name is among the targets."""
    dtype, adapters = build.dtype, build.adapters
    options: dict[str, Any] = {"use_bias": use_bias, "dtype": dtype, "dot_general": token_by_token, "rngs": rngs}
    if adapters is None or name not in adapters.targets:
        return nnx.Linear(inputs, outputs, **options)
    return nnx.LoRALinear(inputs, outputs, lora_rank=adapters.rank, lora_dtype=dtype, **options)


def token_by_token(x: Float[Array, "... D"], kernel: Float[Array, "D E"], *_: Any, **options: Any) -> Array:
    """Returns x @ kernel, [..., E], for `nnx.Linear`, with one axis for all tokens.

    The kernel's gradient is then a product over a single axis. XLA stores transposed copies of its operands for a
    product over several.
    """
    product = jax.lax.dot_general(x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())), **options)
    return product.reshape(*x.shape[:-1], -1)


class LayerNorm(nnx.LayerNorm):
    """LayerNorm that is computed in float32 and returns the dtype that it was given."""

    def __init__(self, width: int, epsilon: float, rngs: nnx.Rngs, use_bias: bool = True):
        super().__init__(width, epsilon=epsilon, use_bias=use_bias, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:  # type: ignore[override]
        """Normalises the last axis."""
        bias = None if self.bias is None else self.bias[...]
        return normalise(self.epsilon, x, self.scale[...], bias)  # type: ignore[index]  # there is a scale


class RMSNorm(nnx.Module):
    """RMSNorm that is computed in float32 and returns the dtype that it was given.

    Args:
        width: D.
        epsilon: added to the mean square.
        around_one: whether the parameter, `gain`, is what is added to a scale of 1; otherwise it is `scale` itself.
    """

    def __init__(self, width: int, epsilon: float, around_one: bool = False):
        if around_one:
            self.gain = nnx.Param(jnp.zeros(width))
        else:
            self.scale = nnx.Param(jnp.ones(width))
        self.epsilon = epsilon
        self.around_one = around_one

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """Normalises the last axis."""
        return normalise_rms(self.epsilon, x, 1 + self.gain[...] if self.around_one else self.scale[...])


class Embed(nnx.Embed):
    """A table of float32 vectors."""

    def __init__(self, rows: int, width: int, build: Build, rngs: nnx.Rngs):
        super().__init__(rows, width, rngs=rngs)
        self.ordered = build.ordered

    def __call__(self, indices: Int[Array | np.ndarray, "..."]) -> Float[Array, "... D"]:  # type: ignore[override]
        """Looks rows up."""
        return look_up(self.ordered, self.embedding[...], jnp.asarray(indices))
