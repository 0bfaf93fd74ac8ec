"""Freezing: the bottom of the encoder, or all of it, stays as it is."""

from jaxstab.mitigation.method import Context, Method, Path


def freeze(layers: int | None) -> Method:
    """Returns the method: embeddings and bottom layers are not trained; without a number of layers only the head is.

    Settings:
        layers: how many of the bottom encoder layers are not trained, with the embeddings; by default all of the
            encoder, so that only the head is trained.
    """

    def trained(path: Path, context: Context) -> bool:
        return path[0] in context.head or (layers is not None and path[0] in ("layers", "final_norm"))

    return Method(
        about="embeddings and bottom layers, or all of the encoder, are not trained",
        source='Lee et al. (2019), "What Would Elsa Do?"',
        trained=trained,
        frozen_layers=layers or 0,
    )
