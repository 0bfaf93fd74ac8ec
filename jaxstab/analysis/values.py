"""Contributions of seeds to measures.

S seeds, L layers (1 for measures of scores and predictions).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jaxstab import measures
from jaxstab.analysis.permutation import pseudo_values
from jaxstab.measures import STANDARD_DEVIATIONS, Inputs

Floats = NDArray[np.float64]


def take_pairs(distances: Mapping[str, np.ndarray], places: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns the distances [L, S, S] of each measure between the seeds at these positions."""
    return {name: one[:, places][:, :, places] for name, one in distances.items()}


def contributions(
    names: Sequence[str], inputs: Inputs, distances: Mapping[str, np.ndarray], metric: str
) -> dict[str, Floats]:
    """Returns pseudo-values [S] of each measure (last layer); for a standard deviation those of its square.

    Arguments as for `measures.values_and_left_out`.
    """
    found = {}
    for name, (values, left_out) in measures.values_and_left_out(names, inputs, distances, metric).items():
        # The square of a standard deviation behaves like an average over pairs.
        power = 2 if name in STANDARD_DEVIATIONS else 1
        found[name] = pseudo_values(values[-1] ** power, left_out[-1] ** power)
    return found
