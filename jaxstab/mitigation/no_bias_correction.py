"""The optimiser of the original BERT: Adam without bias correction, a common cause of failed runs."""

from jaxstab.mitigation.method import Method


def no_bias_correction() -> Method:
    """Returns the method; rather the opposite of a mitigation, to compare with."""
    return Method(
        about="AdamW without bias correction, as the original BERT was fine-tuned; makes runs fail",
        source="Mosbach et al. (2021), section 5; Zhang et al. (2021), section 4",
        train={"bias_correction": False},
    )
