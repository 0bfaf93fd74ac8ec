"""What classifiers with encoder layers of their own have in common: the stacks of layers and the way through them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from jaxstab.data.batches import Batch
from jaxstab.errors import InputError
from jaxstab.models.encoder import Adapters


class Layered(nnx.Module):
    """Encoder layers as one set of parameters with a leading layer axis, `layers`; frozen ones in `frozen_layers`.

    Args:
        make_layer: from adapters and random streams to one layer.
        depth: number of layers, L.
        remat: recompute each layer in the backward pass.
        rngs: of the parameters.
        adapters: beside linear layers that are not frozen.
        frozen_layers: how many layers at the bottom form a stack of their own.

    Raises:
        InputError: more frozen layers than there are.
    """

    def __init__(
        self,
        make_layer: Callable[[Adapters | None, nnx.Rngs], nnx.Module],
        depth: int,
        remat: bool,
        rngs: nnx.Rngs,
        adapters: Adapters | None = None,
        frozen_layers: int = 0,
    ):
        if frozen_layers > depth:
            raise InputError(f"{frozen_layers} layers to freeze: the model has {depth}; freeze fewer")

        def stack(size: int, adapters: Adapters | None) -> nnx.Module:
            return nnx.split_rngs(splits=size)(nnx.vmap(lambda rngs: make_layer(adapters, rngs)))(rngs)

        if frozen_layers:
            self.frozen_layers = stack(frozen_layers, None)
        self.layers = stack(depth - frozen_layers, adapters)
        self.depth = depth
        self.frozen = frozen_layers
        self.remat = remat

    def through_layers(
        self,
        embedded: Float[Array, "R T D"],
        batch: Batch,
        step: Callable[[Any, Array, Array], Array],
        all_hidden_states: bool,
    ) -> tuple[Float[Array, "R T D"], Float[Array, "L B D"], Float[Array, "M B T D"] | None]:
        """Applies all layers.

        Args:
            embedded: the tokens.
            batch: where they belong.
            step: (layer, hidden, number of the layer) -> hidden.
            all_hidden_states: also return every hidden state.

        Returns:
            The last hidden state, and `first_tokens` and `hidden_states` as in `jaxstab.models.encoder.Outputs`.
        """
        hidden, collected = embedded, []
        if self.frozen:
            numbers = jnp.arange(self.frozen)
            hidden, of_frozen = self._scan(self.frozen_layers, hidden, numbers, batch, step, all_hidden_states)
            collected.append(of_frozen)
        numbers = jnp.arange(self.frozen, self.depth)
        hidden, of_others = self._scan(self.layers, hidden, numbers, batch, step, all_hidden_states)
        collected.append(of_others)
        first_tokens, states = jax.tree.map(lambda *parts: jnp.concatenate(parts), *collected)
        if states is not None:
            states = jnp.concatenate([batch.by_example(embedded)[None], states])
        return hidden, first_tokens, states

    def _scan(
        self, stack: nnx.Module, hidden: Array, numbers: Array, batch: Batch, step: Callable, all_hidden_states: bool
    ) -> tuple[Array, tuple[Array, Array | None]]:
        definition, params = nnx.split(stack)

        def body(hidden: Array, scanned: tuple[nnx.State, Array]) -> tuple[Array, tuple[Array, Array | None]]:
            own, number = scanned
            hidden = step(nnx.merge(definition, own), hidden, number)
            first = batch.first_tokens(hidden).astype(jnp.float32)
            return hidden, (first, batch.by_example(hidden) if all_hidden_states else None)

        return jax.lax.scan(jax.checkpoint(body) if self.remat else body, hidden, (params, numbers))


def fold(key: PRNGKeyArray | None, site: int | Array) -> PRNGKeyArray | None:
    """Returns the key of a place where something is dropped, None without a key."""
    return None if key is None else jax.random.fold_in(key, site)
