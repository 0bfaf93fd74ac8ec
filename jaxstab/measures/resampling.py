"""Intervals from resampling seeds, without pairs of a seed with itself. Numpy in float64; S seeds, L layers.

The interval of a measure is the delete-one jackknife with a quantile of Student's t with S - 1 degrees of freedom, on
a logarithmic scale if all values are positive. Every leave-one-out value is an average over fewer pairs, so no
distance is computed again and no seed is paired with itself. By the inequality of Efron & Stein (1981), the expected
variance is not too small for any measure that does not depend on the order of seeds. `benchmarks/coverage.py` tests
the coverage.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import chdtri, ndtri, stdtrit

Floats = NDArray[np.float64]

LEVEL = 0.95


def mean_over_pairs(distances: Float[np.ndarray, "*rest S S"]) -> Float[np.ndarray, "*rest"] | float:
    """Averages matrices [..., S, S] with zero diagonal over pairs of different seeds; NaN for one seed."""
    distances = np.asarray(distances, np.float64)
    seeds = distances.shape[-1]
    return distances.sum((-1, -2)) / (seeds * (seeds - 1)) if seeds > 1 else np.full(distances.shape[:-2], np.nan)


def leave_one_out(distances: Float[np.ndarray, "*rest S S"]) -> Float[np.ndarray, "*rest S"]:
    """Averages matrices [..., S, S] over the pairs without each seed in turn: [..., S]; NaN for two seeds or fewer."""
    distances = np.asarray(distances, np.float64)
    seeds = distances.shape[-1]
    left = distances.sum((-1, -2))[..., None] - distances.sum(-1) - distances.sum(-2)
    return left / ((seeds - 1) * (seeds - 2)) if seeds > 2 else np.full(left.shape, np.nan)


def jackknife_interval(
    values: Float[np.ndarray, "*rest"] | float,
    left_out: Float[np.ndarray, "*rest S"],
    low: float = -np.inf,
    high: float = np.inf,
) -> Float[np.ndarray, "*rest 2"]:
    """Returns 95 % intervals from leave-one-out values.

    Args:
        values: [...] with all seeds.
        left_out: [..., S] leave-one-out values.
        low: smallest possible value; if it is 0 or more and all values are positive, a logarithmic scale is used.
        high: largest possible value.

    Returns:
        [..., 2]; NaN where values are.

    Source: Efron & Stein (1981); Arvesen (1969) for averages over pairs.
    """
    values, left_out = np.asarray(values, np.float64), np.asarray(left_out, np.float64)
    seeds = left_out.shape[-1]
    positive = np.asarray((low >= 0) & (values > 0) & (left_out > 0).all(-1))

    def transform(x: Floats, positive: NDArray[np.bool_]) -> Floats:
        return np.where(positive, np.log(np.where(positive, x, 1)), x)

    center, around = transform(values, positive), transform(left_out, positive[..., None])
    deviations = around - around.mean(-1, keepdims=True)
    width = stdtrit(seeds - 1, (1 + LEVEL) / 2) * np.sqrt((seeds - 1) / seeds * (deviations**2).sum(-1))
    ends = center[..., None] + width[..., None] * np.array([-1, 1])
    with np.errstate(over="ignore"):
        return np.clip(np.where(positive[..., None], np.exp(np.where(positive[..., None], ends, 0)), ends), low, high)


def chi_square_interval(sd: float, seeds: int) -> Float[np.ndarray, " 2"]:
    """Returns the 95 % interval of a standard deviation over seeds, exact if scores are normally distributed: [2]."""
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return np.asarray(sd * np.sqrt((seeds - 1) / chdtri(seeds - 1, tails)))


def robust_sd_interval(scores: Float[np.ndarray, " S"]) -> Float[np.ndarray, " 2"]:
    """Returns the 95 % interval of a standard deviation over seeds, whatever the distribution of the scores.

    Args:
        scores: [S], S >= 3, not all equal.

    Returns:
        [2]: from the lower of two lower ends to the higher of two upper ends: those of `chi_square_interval`, and those
        of Bonett (2006), which use the kurtosis that the scores have. The latter by themselves are too narrow where
        few seeds happen to have little kurtosis.
    """
    seeds = len(scores)
    normal = chi_square_interval(float(scores.std(ddof=1)), seeds)
    # The fourth moment is taken about a mean without the extremes, so that one outlier does not hide itself.
    cut = int(seeds / (2 * np.sqrt(seeds - 4))) if seeds > 5 else (seeds - 1) // 2
    centre = np.sort(scores)[cut : seeds - cut].mean()
    kurtosis = seeds * ((scores - centre) ** 4).sum() / ((scores - scores.mean()) ** 2).sum() ** 2
    quantile = ndtri((1 + LEVEL) / 2)
    factor = seeds / (seeds - quantile)
    error = factor * np.sqrt(max(kurtosis - (seeds - 3) / seeds, 0) / (seeds - 1))
    with np.errstate(over="ignore"):
        bonett = np.sqrt(factor * scores.var(ddof=1) * np.exp(quantile * error * np.array([-1, 1])))
    return np.array([min(normal[0], bonett[0]), max(normal[1], bonett[1])])
