"""Longer training."""

from jaxstab.config.mitigation import Longer
from jaxstab.mitigation.method import Method


def longer(settings: Longer) -> Method:
    """Returns the method: more epochs, over which the learning rate falls accordingly more slowly."""
    return Method(
        about="more epochs, with a learning rate that falls accordingly more slowly",
        source="Mosbach et al. (2021), section 6",
        train={"epochs": settings.epochs},
    )
