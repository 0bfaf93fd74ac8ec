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
    """Averages matrices [..., S, S] with zero diagonal over pairs of different seeds; NaN for one seed.

    Pairs that are NaN were not measured, and do not count.
    """
    sums, counts = row_sums(distances)
    return _ratio(sums.sum(-1), counts.sum(-1))


def leave_one_out(distances: Float[np.ndarray, "*rest S S"]) -> Float[np.ndarray, "*rest S"]:
    """Averages matrices [..., S, S] over the pairs without each seed in turn: [..., S]; NaN for two seeds or fewer.

    Where only a random part of all pairs was measured, as often of each seed, these averages serve as well: what the
    choice of pairs adds to the variance is counted twice.
    """
    left = [one.sum(-1)[..., None] - 2 * one for one in row_sums(distances)]
    return _ratio(*left)


def row_sums(distances: Float[np.ndarray, "*rest S S"]) -> tuple[Float[np.ndarray, "*rest S"], ...]:
    """Sums symmetric matrices [..., S, S] over the pairs of each seed, and counts its pairs: two arrays [..., S]."""
    distances = np.asarray(distances, np.float64)
    there = np.isfinite(distances) & ~np.eye(distances.shape[-1], dtype=bool)
    return np.where(there, distances, 0).sum(-1), there.sum(-1).astype(np.float64)


def _ratio(sums: Floats | np.float64, counts: Floats | np.float64) -> Floats:
    return np.where(counts > 0, sums / np.where(counts > 0, counts, 1), np.nan)


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
