"""Measures of many subsets of seeds at once. R subsets, S seeds, L layers (1 for scores and predictions).

Analyses resample seeds without replacement: a seed drawn twice would be paired with itself at distance 0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxstab.measures import number_predictions, prediction
from jaxstab.measures.inputs import Inputs
from jaxstab.measures.performance import calibration_error, scores, sd
from jaxstab.measures.programs import all_set_values
from jaxstab.measures.registry import MEASURES

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MEAN = "mean"  # the mean score: not a measure of instability, but compared like one
# Measures of a set of seeds that take many sets at once.
OF_SETS: dict[str, Callable[[Any, Inputs, Mask], Floats]] = {
    "fleiss_kappa": lambda votes, inputs, masks: prediction.fleiss_kappa(votes, inputs.classes, masks),
    "krippendorff_alpha": lambda votes, inputs, masks: prediction.krippendorff_alpha(votes, inputs.classes, masks),
    "stable_fraction": lambda votes, inputs, masks: prediction.stable_fraction(votes, masks),
    "ambiguity": lambda votes, inputs, masks: prediction.ambiguity(votes, inputs.labels, masks),
    "discrepancy": lambda votes, inputs, masks: prediction.discrepancy(votes, inputs.labels, masks),
    "prediction_sd": lambda votes, inputs, masks: number_predictions.prediction_sd(votes, masks),
    "icc": lambda votes, inputs, masks: number_predictions.icc(votes, masks),
}
STANDARD_DEVIATIONS = ("sd", "calibration_spread")  # of a number that each seed has


def all_then_without_each(seeds: int) -> Mask:
    """Returns the masks [1 + S, S] of all seeds, and of all but each in turn."""
    return np.concatenate([np.ones((1, seeds), bool), ~np.eye(seeds, dtype=bool)])


def seed_scores(inputs: Inputs, metric: str) -> Floats | None:
    """Returns the score [S] of every seed; None if there are no scores and no labels.

    Raises:
        ValueError: as `Inputs.outputs_for`.
    """
    if inputs.scores is not None:
        return inputs.scores
    outputs = inputs.outputs_for(metric)
    return None if outputs is None else scores(metric, outputs, inputs.labels, inputs.classes)


def seed_numbers(name: str, inputs: Inputs, metric: str) -> Floats:
    """Returns the number [S] of each seed whose mean or standard deviation over seeds is asked for.

    Args:
        name: `mean` or `sd`, of the scores; or `calibration_spread`, of the calibration errors.
        inputs: the arrays that it needs.
        metric: the score.
    """
    if name == "calibration_spread":
        assert inputs.logits is not None
        assert inputs.labels is not None
        return calibration_error(inputs.logits, inputs.labels)
    found = seed_scores(inputs, metric)
    assert found is not None
    return found


def subset_values(
    names: Sequence[str],
    masks: Mask,
    *,
    inputs: Inputs,
    distances: Mapping[str, np.ndarray] | None = None,
    metric: str = "accuracy",
) -> dict[str, Floats]:
    """Computes measures of subsets of seeds.

    Args:
        names: names of measures, or `mean` for the mean score.
        masks: [R, S] which seeds are in each subset.
        inputs: predictions, logits and labels, as far as the measures of a set need them.
        distances: [L, S, S] for every measure of pairs.
        metric: the score.

    Returns:
        For each name [L, R] float64; NaN if a subset has too few seeds.
    """
    masks = np.asarray(masks, bool)
    weights = masks.astype(np.float64)
    found: dict[str, Floats] = {}
    for name in names:
        if name == MEAN:
            with np.errstate(divide="ignore", invalid="ignore"):
                found[name] = (weights @ seed_numbers(name, inputs, metric) / weights.sum(1))[None]
        elif name in STANDARD_DEVIATIONS:
            found[name] = sd(seed_numbers(name, inputs, metric), masks)[None]
        elif name in OF_SETS and inputs.predictions is not None:
            found[name] = OF_SETS[name](inputs.predictions, inputs, masks)[None]
        elif MEASURES[name].shape == "pairs":
            found[name] = np.stack([_mean_over_pairs(one, weights) for one in (distances or {})[name]])
    of_sets = tuple(name for name in names if name not in found)
    found |= {name: one[None] for name, one in all_set_values(inputs, metric, of_sets, masks).items()}
    return {name: found[name] for name in names}


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
    masks[:, places] = all_then_without_each(len(places))
    found = subset_values(names, masks, inputs=inputs, distances=distances, metric=metric)
    return {name: (values[:, 0], values[:, 1:]) for name, values in found.items()}


def _mean_over_pairs(distances: np.ndarray, weights: Floats) -> Floats:
    """Averages over the pairs of each subset that were measured; NaN where there are none."""
    there = np.isfinite(distances)
    size = weights.sum(1)
    count = size * (size - 1) if there.all() else ((weights @ there) * weights).sum(1) - size
    total = ((weights @ np.where(there, distances, 0.0)) * weights).sum(1)
    return np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)
