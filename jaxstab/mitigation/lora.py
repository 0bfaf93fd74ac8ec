"""LoRA: low-rank adapters beside linear layers that are not trained."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from jaxstab.mitigation.method import Context, Method, Params, Path
from jaxstab.models.build import Adapters

DOWN, UP, LORA, DROPOUT_KEY = "lora_a", "lora_b", "lora", "dropout_key"


def lora(rank: int, targets: tuple[str, ...], dropout: float, rank_stabilised: bool) -> Method:
    """Returns the method: x W + scale x A B, of which A [in, rank], B [rank, out] and the head are trained.

    A starts uniform within 1 / sqrt(in), B at 0, so that nothing changes at first.

    Settings:
        rank: of each adapter.
        alpha: adapters are scaled by alpha / rank.
        targets: linear layers of each encoder layer that get an adapter; `all` for every one.
        dropout: rate of dropout of an adapter's input x, drawn for each adapter alone.
        rank_stabilised: scale by alpha / sqrt(rank) instead (Kalajdzievski, 2023).
    """
    adapters = Adapters(rank, targets, dropout)

    def initial(params: Params, key: PRNGKeyArray, context: Context) -> Params:
        """Adds the adapters."""

        def beside(layer: Params, number: int) -> Params:
            *depth, inputs, outputs = layer["kernel"].shape
            bound = inputs**-0.5
            down = jax.random.uniform(
                jax.random.fold_in(key, number), (*depth, inputs, rank), minval=-bound, maxval=bound
            )
            return {**layer, LORA: {DOWN: down, UP: jnp.zeros((*depth, rank, outputs))}}

        return {**params, "layers": _map_adapted(adapters, beside, params["layers"])}

    def in_use(params: Params, key: PRNGKeyArray | None, context: Context) -> Params:
        """Scales the adapters, and in training gives each of every layer a key for its dropout."""
        factor = scale(context.hyper["mitigation.lora.alpha"], rank, rank_stabilised)

        def scaled(layer: Params, number: int) -> Params:
            down, up = layer[LORA][DOWN], layer[LORA][UP] * factor
            if key is None or not dropout:
                return {**layer, LORA: {DOWN: down, UP: up}}
            keys = jax.random.split(jax.random.fold_in(key, number), len(down))
            return {**layer, LORA: {DOWN: down, UP: up, DROPOUT_KEY: jax.random.key_data(keys)}}

        return {**params, "layers": _map_adapted(adapters, scaled, params["layers"])}

    def trained(path: Path, context: Context) -> bool:
        return LORA in path or path[0] in (*context.missing, "classifier")

    return Method(
        about="low-rank adapters are trained beside linear layers that all seeds share",
        source="Hu et al. (2022), section 4.1",
        initial=initial,
        weights=in_use,
        trained=trained,
        adapters=adapters,
    )


def scale(alpha: Any, rank: int, rank_stabilised: bool) -> Any:
    """Returns the factor on A B."""
    return alpha / (rank**0.5 if rank_stabilised else rank)


def _map_adapted(adapters: Adapters, function: Callable[[Params, int], Params], layers: Params) -> Params:
    """Applies a function of (linear layer, its number from 1) to those that have adapters, in the order of names."""
    count = 0

    def visit(layer: Params, name: str) -> Params:
        nonlocal count
        if "kernel" in layer:
            count += adapters.stand_beside(name)
            return function(layer, count) if adapters.stand_beside(name) else layer
        return {k: visit(v, k) if isinstance(v, dict) else v for k, v in sorted(layer.items())}

    return visit(layers, "layers")
