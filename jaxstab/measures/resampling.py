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
from scipy.special import chdtri, stdtrit

Floats = NDArray[np.float64]

LEVEL = 0.95
PRIOR_EXCESS, PRIOR_SEEDS = 1.0, 10  # kurtosis of scores before any is seen: fine-tuning has rare bad seeds


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


def chi_square_interval(sd: float, freedom: float) -> Float[np.ndarray, " 2"]:
    """Returns the 95 % interval of a standard deviation: [2].

    Args:
        sd: the estimate.
        freedom: degrees of freedom of its square; one less than the seeds, if scores are normally distributed.
    """
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return np.asarray(sd * np.sqrt(freedom / chdtri(freedom, tails)))


def sd_interval(scores: Float[np.ndarray, " S"]) -> Float[np.ndarray, " 2"]:
    """Returns the 95 % interval of a standard deviation over seeds: [2].

    It is that by chi-square, with fewer degrees of freedom if scores have heavier tails than normal ones. A few seeds
    hardly show their tails. So the excess kurtosis is the unbiased estimate of these seeds, averaged with a prior of 1
    that counts as much as ten seeds, and never below 0. Of many seeds with normal scores it is the exact interval.

    Args:
        scores: [S], S >= 3, not all equal.

    Source: O'Neill (2014), Some useful moment results in sampling problems, for the degrees of freedom; Bonett (2006)
    for a prior of the kurtosis.
    """
    seeds = len(scores)
    excess = (seeds * _excess_kurtosis(scores) + PRIOR_SEEDS * PRIOR_EXCESS) / (seeds + PRIOR_SEEDS)
    freedom = 1 / (1 / (seeds - 1) + max(excess, 0.0) / (2 * seeds))
    return chi_square_interval(float(np.std(scores, ddof=1)), freedom)


def _excess_kurtosis(scores: Floats) -> float:
    """Fisher's G2, which is unbiased for normal scores; of three seeds 0, because theirs is always the same."""
    # `scipy.stats.kurtosis(scores, bias=False)`, which takes most of a second to import.
    seeds = len(scores)
    if seeds == 3:
        return 0.0
    deviations = scores - scores.mean()
    biased = (deviations**4).mean() / (deviations**2).mean() ** 2 - 3
    return float((seeds - 1) / ((seeds - 2) * (seeds - 3)) * ((seeds + 1) * biased + 6))
