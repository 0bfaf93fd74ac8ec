"""Longer training."""

from jaxstab.mitigation.method import Method


def longer(epochs: int) -> Method:
    """Returns the method: more epochs, over which the learning rate falls accordingly more slowly.

    Settings:
        epochs: instead of those of `[train]`.
    """
    return Method(
        about="more epochs, with a learning rate that falls accordingly more slowly",
        source="Mosbach et al. (2021), section 6",
        train={"epochs": epochs},
    )
