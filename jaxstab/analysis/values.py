"""Values, intervals and contributions of measures for a set of seeds.

S seeds, L layers (1 for measures of scores and predictions).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxstab import measures
from jaxstab.analysis.permutation import pseudo_values
from jaxstab.measures import MEAN, MEASURES, Inputs, Interval, plain_or_none

Floats = NDArray[np.float64]

STANDARD_DEVIATIONS = ("sd", "calibration_spread")  # their squares behave like averages over pairs


def take_pairs(distances: Mapping[str, np.ndarray], places: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns the distances [L, S, S] of each measure between the seeds at these positions."""
    return {name: one[:, places][:, :, places] for name, one in distances.items()}


def values_and_left_out(
    names: Sequence[str],
    inputs: Inputs,
    distances: Mapping[str, np.ndarray],
    metric: str,
    places: Sequence[int] | None = None,
) -> dict[str, tuple[Floats, Floats]]:
    """Returns for each measure its values [L] with all seeds, and its leave-one-out values [L, S].

    Args:
        names: names of measures, or `mean` for the mean score.
        inputs: the checked arrays.
        distances: [L, S, S] for every measure of pairs among the names.
        metric: the score.
        places: positions of the seeds that count; all by default. The programs are those for all seeds.
    """
    places = range(inputs.seeds) if places is None else places
    masks = np.zeros((1 + len(places), inputs.seeds), bool)
    masks[:, places] = measures.all_then_without_each(len(places))
    found = measures.subset_values(
        names, masks, scores=measures.seed_scores(inputs, metric), distances=distances, inputs=inputs, metric=metric
    )
    return {name: (values[:, 0], values[:, 1:]) for name, values in found.items()}


def values_with_intervals(
    names: Sequence[str],
    inputs: Inputs,
    distances: Mapping[str, np.ndarray],
    metric: str,
    places: Sequence[int] | None = None,
) -> dict[str, dict[str, Any]]:
    """Returns `value` and `interval` of each measure; for representations those of the last layer.

    Arguments as for `values_and_left_out`.
    """
    rows = {}
    seeds = inputs.seeds if places is None else len(places)
    for name, (values, left_out) in values_and_left_out(names, inputs, distances, metric, places).items():
        low, high = bounds(name, metric)
        value = np.clip(values[-1], low, high)
        interval = measures.jackknife_interval(value, left_out[-1], low if name != MEAN else -np.inf, high)
        ends = np.maximum(interval, low) if seeds > 2 or name == MEAN else np.full(2, np.nan)
        rows[name] = {"value": plain_or_none(value), "interval": Interval.of(ends)}
    return rows


def contributions(
    names: Sequence[str], inputs: Inputs, distances: Mapping[str, np.ndarray], metric: str
) -> dict[str, Floats]:
    """Returns pseudo-values [S] of each measure (last layer); for a standard deviation those of its square.

    Arguments as for `values_and_left_out`.
    """
    found = {}
    for name, (values, left_out) in values_and_left_out(names, inputs, distances, metric).items():
        power = 2 if name in STANDARD_DEVIATIONS else 1
        found[name] = pseudo_values(values[-1] ** power, left_out[-1] ** power)
    return found


def bounds(name: str, metric: str) -> tuple[float, float]:
    """Returns the smallest and largest possible value of a measure, or of the mean score."""
    if name == MEAN:
        return (-1 if metric == "matthews" else 0), 1
    return MEASURES[name].low, MEASURES[name].high
