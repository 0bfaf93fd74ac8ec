"""How a classifier is built, whatever its family: one record, and the modules that follow it."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxstab.models.operations import dropout, from_memory, look_up, normalise, normalise_rms

ALL = "all"  # as a target of adapters
FUSED = {"qkv": ("query", "key", "value")}  # layers that stand for several


@dataclass(frozen=True)
class Adapters:
    """Low-rank adapters beside linear layers of the encoder layers: y = x W + b + (x A) B.

    Source: Hu et al. (2022), section 4.1, without its scale: the caller scales B.

    Attributes:
        rank: of the product A B.
        targets: names of linear layers, the last part of their paths: `query`, `value`, ...; `all` for all of them.
        dropout: rate of dropout of x before A; the caller adds a key for it to the parameters, `dropout_key` beside A.
    """

    rank: int
    targets: tuple[str, ...]
    dropout: float = 0.0

    def stand_beside(self, name: str) -> bool:
        """Whether a linear layer of this name has an adapter. One that stands for several has it for any of them."""
        return any(one in self.targets for one in (name, ALL, *FUSED.get(name, ())))


@dataclass(frozen=True)
class Build:
    """What can be chosen about a classifier besides its config.

    Attributes:
        dtype: of matrix products and hidden states, float32 or bfloat16; trained parameters are always float32.
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
    layer = Linear(inputs, outputs, use_bias=use_bias, dtype=build.dtype, rngs=rngs)
    if build.adapters is not None and build.adapters.stand_beside(name):
        layer.lora = Adapter(inputs, outputs, build.adapters)
    return layer


class Linear(nnx.Linear):
    """A linear layer, perhaps with an adapter. Its kernel may be stored in a narrower dtype than that of products."""

    lora: "Adapter | None" = None

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... E"]:  # type: ignore[override]
        """Returns x W + b, and the adapter's part."""
        kernel, x = self.kernel[...], x.astype(self.dtype)

        def multiply(x: Array, kernel: Array) -> Array:
            return token_by_token(x, from_memory(kernel, self.dtype))

        def multiply_narrow(x: Array, kernel: Array) -> Array:
            return multiply(*jax.lax.optimization_barrier((x, kernel)))

        # A narrow kernel is converted here and now, and anew in the backward pass. Otherwise the loop over layers would
        # store the converted kernels of all of them, or XLA would convert them all before the loop over steps.
        narrow = kernel.dtype in (jnp.bfloat16, jnp.uint16) and kernel.dtype != self.dtype
        y = (jax.checkpoint(multiply_narrow) if narrow else multiply)(x, kernel)
        y = y if self.bias is None else y + self.bias[...].astype(self.dtype)
        return y if self.lora is None else y + self.lora(x)


class Adapter(nnx.Module):
    """The low-rank part of a linear layer, (dropout(x) A) B."""

    def __init__(self, inputs: int, outputs: int, adapters: Adapters):
        self.lora_a = nnx.Param(jnp.zeros((inputs, adapters.rank)))
        self.lora_b = nnx.Param(jnp.zeros((adapters.rank, outputs)))
        self.rate = adapters.dropout
        if self.rate:
            self.dropout_key = nnx.Param(jnp.zeros(2, jnp.uint32))

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... E"]:
        """Returns what is added to the linear layer."""
        if self.rate:
            x = dropout(x, self.rate, jax.random.wrap_key_data(self.dropout_key[...], impl="threefry2x32"))
        return token_by_token(token_by_token(x, self.lora_a[...].astype(x.dtype)), self.lora_b[...].astype(x.dtype))


def token_by_token(x: Float[Array, "... D"], kernel: Float[Array, "D E"]) -> Float[Array, "... E"]:
    """Returns x @ kernel with one axis for all tokens.

    The kernel's gradient is then a product over a single axis. XLA stores transposed copies of its operands for a
    product over several.
    """
    product = jax.lax.dot_general(x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())))
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
    """A table of vectors."""

    def __init__(self, rows: int, width: int, build: Build, rngs: nnx.Rngs):
        super().__init__(rows, width, rngs=rngs)
        self.ordered = build.ordered

    def __call__(self, indices: Int[Array | np.ndarray, "..."]) -> Float[Array, "... D"]:  # type: ignore[override]
        """Looks rows up; they are float32, also if the table is not."""
        return from_memory(look_up(self.ordered, self.embedding[...], jnp.asarray(indices)), jnp.float32)
