"""Freezing: the bottom of the encoder, or all of it, stays as it is."""

from jaxstab.config.mitigation import Freeze
from jaxstab.mitigation.method import Context, Method, Path


def freeze(settings: Freeze) -> Method:
    """Returns the method: embeddings and bottom layers are not trained; without a number of layers only the head is."""

    def trained(path: Path, context: Context) -> bool:
        return path[0] in context.head or (settings.layers is not None and path[0] in ("layers", "final_norm"))

    return Method(
        about="embeddings and bottom layers, or all of the encoder, are not trained",
        source='Lee et al. (2019), "What Would Elsa Do?"',
        trained=trained,
        frozen_layers=settings.layers or 0,
    )
