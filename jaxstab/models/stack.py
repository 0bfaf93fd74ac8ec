"""The stack of layers, for every family: its parameters, and the loop over layers."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxstab.data.batches import Batch
from jaxstab.errors import InputError
from jaxstab.models.build import Build


class Outputs(NamedTuple):
    """What a classifier returns.

    Attributes:
        logits: [B, C] float32.
        representations: [L, B, D] float32, hidden state after each layer of the token that the head reads.
        hidden_states: [L + 1, B, T, D], of the embeddings and after each layer, zero on padding; only if asked for.
    """

    logits: Float[Array, "B C"]
    representations: Float[Array, "L B D"]
    hidden_states: Float[Array, "M B T D"] | None


def in_precision(params: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """Returns a nested dict in which no float beside or below a `kernel` is wider than matrix products.

    Done once for all layers, so that the loop over them neither converts in every pass nor stores converted copies, and
    their gradients are stored in this dtype too. What is narrower is converted in the loop, layer by layer.
    """

    def narrowed(leaf: Array | np.ndarray) -> Array | np.ndarray:
        return leaf.astype(dtype) if leaf.dtype == jnp.float32 else leaf

    if "kernel" in params:
        return jax.tree.map(narrowed, dict(params))
    return {name: in_precision(one, dtype) if isinstance(one, Mapping) else one for name, one in params.items()}


class Layered(nnx.Module):
    """A classifier's encoder layers: one set of parameters, `layers`, whose arrays have a leading layer axis.

    Layers at the bottom that are not trained are a second set, `frozen_layers`. Layers that share their parameters are
    one layer, applied again and again: the leading axis has length 1.

    Args:
        make_layer: from (config, build, random streams) to one layer.
        config: the family's, with `num_hidden_layers` and `model_type`.
        build: choices besides the config.
        rngs: random streams for the parameters.
        shared: whether all layers have the same parameters.

    Raises:
        InputError: more frozen layers than there are, or some of those that share their parameters.
    """

    read = staticmethod(Batch.first_tokens)  # picks the token of each example that the head reads

    def __init__(
        self,
        make_layer: Callable[[Any, Build, nnx.Rngs], nnx.Module],
        config: Any,
        build: Build,
        rngs: nnx.Rngs,
        shared: bool = False,
    ):
        depth, frozen = config.num_hidden_layers, build.frozen_layers
        if frozen > depth:
            raise InputError(f"{frozen} layers to freeze: the model has {depth}; freeze fewer")
        if frozen and shared:
            raise InputError(f"layers of {config.model_type} share their weights; freeze none, or another model's")

        def stack(size: int, build: Build) -> nnx.Module:
            return nnx.split_rngs(splits=size)(nnx.vmap(lambda rngs: make_layer(config, build, rngs)))(rngs)

        if frozen:
            self.frozen_layers = stack(frozen, replace(build, adapters=None))
        self.layers = stack(1 if shared else depth - frozen, build)
        self.config = config
        self.build = build
        self.shared = shared

    def through_layers(
        self,
        embedded: Float[Array, "R T D"],
        batch: Batch,
        step: Callable[[Any, Array, Array], Array],
        all_hidden_states: bool,
    ) -> tuple[Float[Array, "R T D"], Float[Array, "L B D"], Float[Array, "M B T D"] | None]:
        """Applies all layers.

        Args:
            embedded: the embedded tokens.
            batch: where they lie.
            step: from (layer, hidden state, number of the layer) to the next hidden state.
            all_hidden_states: also return every hidden state.

        Returns:
            The last hidden state, and `representations` and `hidden_states` as in `Outputs`.
        """
        frozen, depth = self.build.frozen_layers, self.config.num_hidden_layers
        stacks = [(self.layers, jnp.arange(frozen, depth))]
        if frozen:
            stacks.insert(0, (self.frozen_layers, jnp.arange(frozen)))
        hidden, collected = embedded, []
        for layers, numbers in stacks:
            hidden, outputs = self._scan(layers, hidden, numbers, batch, step, all_hidden_states)
            collected.append(outputs)
        representations, states = jax.tree.map(lambda *parts: jnp.concatenate(parts), *collected)
        if states is not None:
            states = jnp.concatenate([batch.by_example(embedded)[None], states])
        return hidden, representations, states

    def _scan(
        self, layers: nnx.Module, hidden: Array, numbers: Array, batch: Batch, step: Callable, all_hidden_states: bool
    ) -> tuple[Array, tuple[Array, Array | None]]:
        definition, state = nnx.split(layers)
        params = nnx.to_pure_dict(state)
        if not self.shared:  # the gradients of shared parameters must be added up in float32
            params = in_precision(params, self.build.dtype)
        # Shared parameters are the same in every iteration, which then differ by the layer's number alone.
        shared = jax.tree.map(lambda leaf: leaf[0], params) if self.shared else None

        def body(hidden: Array, scanned: tuple[Any, Array]) -> tuple[Array, tuple[Array, Array | None]]:
            own, number = scanned
            hidden = step(nnx.merge(definition, shared if own is None else own), hidden, number)
            read = self.read(batch, hidden).astype(jnp.float32)
            return hidden, (read, batch.by_example(hidden) if all_hidden_states else None)

        body = jax.checkpoint(body) if self.build.remat else body
        return jax.lax.scan(body, hidden, (None if self.shared else params, numbers), unroll=self.build.unroll)


class Causal(Layered):
    """Layers of a decoder, below a last norm and a linear classifier that reads each example's last token."""

    read = staticmethod(Batch.last_tokens)
    final_norm: nnx.Module
    classifier: nnx.Linear

    def read_last(
        self,
        found: tuple[Float[Array, "R T D"], Float[Array, "L B D"], Float[Array, "M B T D"] | None],
        batch: Batch,
    ) -> Outputs:
        """Returns the outputs that follow from what `through_layers` found; the last hidden state is normalised."""
        hidden, representations, states = found
        read = self.final_norm(self.read(batch, hidden).astype(jnp.float32))
        if states is not None:
            states = states.at[-1].set(batch.by_example(self.final_norm(hidden)))
        return Outputs(self.classifier(read), representations.at[-1].set(read), states)
