"""Measures of many subsets of seeds at once. R subsets, S seeds, L layers (1 for scores and predictions).

Analyses resample seeds without replacement: a seed drawn twice would be paired with itself at distance 0.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jaxstab.measures.inputs import Inputs
from jaxstab.measures.programs import all_set_values
from jaxstab.measures.registry import MEASURES

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MEAN = "mean"  # the mean score: not a measure of instability, but compared like one


def all_then_without_each(seeds: int) -> Mask:
    """Returns the masks [1 + S, S] of all seeds, and of all but each in turn."""
    return np.concatenate([np.ones((1, seeds), bool), ~np.eye(seeds, dtype=bool)])


def subset_values(
    names: Sequence[str],
    masks: Mask,
    *,
    scores: Floats | None = None,
    distances: Mapping[str, np.ndarray] | None = None,
    inputs: Inputs | None = None,
    metric: str = "accuracy",
) -> dict[str, Floats]:
    """Computes measures of subsets of seeds.

    Args:
        names: names of measures, or `mean` for the mean score.
        masks: [R, S] which seeds are in each subset.
        scores: [S] scores, for `mean` and `sd`.
        distances: [L, S, S] for every measure of pairs.
        inputs: predictions and logits, for other measures of a set.
        metric: the score, for `ensemble_gain`.

    Returns:
        For each name [L, R] float64; NaN if a subset has too few seeds.
    """
    masks = np.asarray(masks, bool)
    weights = masks.astype(np.float64)
    found: dict[str, Floats] = {}
    for name in names:
        if name in (MEAN, "sd"):
            found[name] = _of_scores(name, np.asarray(scores, np.float64), weights)[None]
        elif MEASURES[name].shape == "pairs":
            found[name] = np.stack([_mean_over_pairs(one, weights) for one in (distances or {})[name]])
    of_sets = tuple(name for name in names if name not in found)
    if of_sets and inputs is not None:
        found |= {name: one[None] for name, one in all_set_values(inputs, metric, of_sets, masks).items()}
    return {name: found[name] for name in names}


def _of_scores(name: str, scores: Floats, weights: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        count = weights.sum(1)
        mean = np.asarray(weights @ scores / count)
        if name == MEAN:
            return mean
        squares = (weights * (scores - mean[:, None]) ** 2).sum(1)
        return np.asarray(np.where(count > 1, np.sqrt(squares / (count - 1)), np.nan))


def _mean_over_pairs(distances: np.ndarray, weights: Floats) -> Floats:
    count = weights.sum(1)
    total = ((weights @ distances.astype(np.float64)) * weights).sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count > 1, total / (count * (count - 1)), np.nan)
