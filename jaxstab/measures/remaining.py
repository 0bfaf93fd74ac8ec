"""How much of the spread of scores over seeds comes from the finite test set. Numpy in float64.

Seeds that err independently on different examples still differ in score, because the test set is finite. With
infinitely many test examples only what they have in common over examples would remain.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from scipy.special import ndtri

from jaxstab.measures.performance import SCORES, contributions_of_examples
from jaxstab.measures.resampling import LEVEL, chi_square_interval
from jaxstab.measures.results import Interval

Floats = NDArray[np.float64]


class Remaining(NamedTuple):
    """The standard deviation of a score over seeds, and what remains of it with infinitely many test examples.

    Attributes:
        sd: the standard deviation over seeds on these test examples, with denominator S - 1.
        remaining: the standard deviation with infinitely many test examples; 0 where its estimated square is negative;
            NaN where the score is not defined without one of the examples.
        interval: 95 % interval of the remaining standard deviation; None if it is NaN, or if all seeds have the same
            score, which says nothing about their spread.
    """

    sd: float
    remaining: float
    interval: Interval | None


class Components(NamedTuple):
    """Variances of seeds crossed with examples, per seed and example. Unbiased, so they may be negative.

    Attributes:
        seeds: of the expected score of a seed over infinitely many examples (V).
        residual: of a seed on an example, beyond the effects of both (W).
        seeds_error: standard error of `seeds` that comes from having these examples and not others.
    """

    seeds: float
    residual: float
    seeds_error: float


def remaining_sd(
    metric: str, outputs: Shaped[np.ndarray, "S N *C"], labels: Shaped[np.ndarray, " N"], classes: int
) -> Remaining:
    """Estimates the standard deviation over seeds that would remain with infinitely many test examples.

    Its square is the mean covariance over seeds between the contributions of two different examples, an unbiased
    estimate. For the accuracy that is N/(N - 1) times the variance of the score over seeds, less the mean variance of
    an example divided by N.

    The interval joins two parts (MOVER, Zou & Donner 2008): the chi-square interval of the variance over seeds, and
    z times the jackknife error over examples. `benchmarks/coverage.py` simulates it: it covers in .95 to 1.00 of cases
    with 5 to 20 seeds and 139 or 500 examples, whatever part remains. Without the second part only .86 is covered
    where seeds differ in one direction.

    Args:
        metric: the score (`SCORES`).
        outputs: predictions [S, N] or logits [S, N, C] of at least two seeds and three examples.
        labels: [N] class indices, or numbers.
        classes: C; 1 for numbers.

    Raises:
        ValueError: fewer than two seeds or three examples, or an unknown metric.

    Source: Jordan (2023), Variance between runs of neural network training is harmless and inevitable, for accuracy.
    """
    return _remaining(contributions_of_examples(metric, outputs, labels, classes), most=_widest(metric))


def remaining_sd_of_difference(
    metric: str,
    first: Shaped[np.ndarray, "S N *C"],
    second: Shaped[np.ndarray, "T N *C"],
    labels: Shaped[np.ndarray, " N"],
    classes: int,
) -> Remaining:
    """Does the same as `remaining_sd` for the difference in score between two methods with paired seeds.

    Raises:
        ValueError: numbers of seeds that differ, fewer than two seeds or three examples, or an unknown metric.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} seeds; a pair needs a seed of either method")
    parts = [contributions_of_examples(metric, one, labels, classes) for one in (first, second)]
    return _remaining(parts[1] - parts[0], most=2 * _widest(metric))


def variance_components(contributions: Float[np.ndarray, "S N"]) -> Components:
    """Divides the variance over seeds of the contributions of examples: [S, N] with at least 2 seeds and 3 examples.

    The variance of the mean over examples is `seeds + residual / N`. The standard error is that of the delete-one
    jackknife over examples.

    Raises:
        ValueError: fewer than 2 seeds or 3 examples.

    Source: Searle, Casella & McCulloch (1992), chapter 4, for a crossed design with one observation in each cell.
    """
    seeds, examples = contributions.shape
    if seeds < 2 or examples < 3:
        raise ValueError(f"{seeds} seeds and {examples} test examples; variances need at least 2 seeds and 3 examples")
    deviations = contributions - contributions.mean(0)
    sums = deviations.sum(1)
    own = (deviations**2).sum(0) / (seeds - 1)
    shared = (sums @ deviations) / (seeds - 1)
    between = shared.sum() - own.sum()  # covariances of all pairs of different examples
    without = (between - 2 * (shared - own)) / ((examples - 1) * (examples - 2))
    value = between / (examples * (examples - 1))
    return Components(float(value), float(own.mean() - value), float(np.sqrt((examples - 1) * without.var())))


def _widest(metric: str) -> float:
    """The largest possible standard deviation: half of the range of the score."""
    return (SCORES[metric].high - SCORES[metric].low) / 2


def _remaining(contributions: Floats, most: float) -> Remaining:
    """The result from contributions [S, N]."""
    seeds, examples = contributions.shape
    found = variance_components(contributions)
    per_seed = contributions.mean(1)
    if np.isnan(found.seeds):
        return Remaining(np.nan, np.nan, None)
    # Scores that are equal but for rounding are equal.
    sd = float(per_seed.std(ddof=1)) if np.ptp(per_seed) > 1e-9 else 0.0
    remaining = min(float(np.sqrt(max(found.seeds, 0))), most)
    if sd == 0:
        return Remaining(0.0, 0.0, None)
    scale, error = examples / (examples - 1), ndtri((1 + LEVEL) / 2) * found.seeds_error
    steps = scale * np.abs(chi_square_interval(sd, seeds - 1) ** 2 - sd**2)
    ends = found.seeds + np.hypot(steps, error) * np.array([-1, 1])
    return Remaining(sd, remaining, Interval.of(np.clip(np.sqrt(np.clip(ends, 0, None)), 0, most)))
