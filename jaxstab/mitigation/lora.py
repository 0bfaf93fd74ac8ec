"""LoRA: low-rank adapters beside linear layers that are not trained."""

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from jaxstab.mitigation.method import Context, Method, Params, Path, map_named
from jaxstab.models.build import Adapters

DOWN, UP = "lora_a", "lora_b"


def lora(rank: int, targets: tuple[str, ...]) -> Method:
    """Returns the method: x W + (alpha / rank) x A B, of which A [in, rank], B [rank, out] and the head are trained.

    A starts uniform within 1 / sqrt(in), B at 0, so that nothing changes at first.

    Settings:
        rank: of each adapter.
        alpha: adapters are scaled by alpha / rank.
        targets: linear layers of each encoder layer that get an adapter.
    """

    def initial(params: Params, key: PRNGKeyArray, context: Context) -> Params:
        """Adds the adapters."""
        added = 0

        def beside(layer: Params, name: str) -> Params:
            nonlocal added
            if name in targets and "kernel" in layer:
                *depth, inputs, outputs = layer["kernel"].shape
                bound, added = inputs**-0.5, added + 1
                down = jax.random.uniform(
                    jax.random.fold_in(key, added), (*depth, inputs, rank), minval=-bound, maxval=bound
                )
                return {**layer, "lora": {DOWN: down, UP: jnp.zeros((*depth, rank, outputs))}}
            return {k: beside(v, k) if isinstance(v, dict) else v for k, v in sorted(layer.items())}

        return {**params, "layers": beside(params["layers"], "layers")}

    def scaled(params: Params, key: PRNGKeyArray | None, context: Context) -> Params:
        factor = context.hyper["mitigation.lora.alpha"] / rank
        return map_named(lambda path, value: value * factor if path[-1] == UP else value, params)

    def trained(path: Path, context: Context) -> bool:
        return "lora" in path or path[0] in (*context.missing, "classifier")

    return Method(
        about="low-rank adapters are trained beside linear layers that all seeds share",
        source="Hu et al. (2022), section 4.1",
        initial=initial,
        weights=scaled,
        trained=trained,
        adapters=Adapters(rank, targets),
    )
