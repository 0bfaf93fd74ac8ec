"""Permutation tests of two groups of S and T seeds, with R exchanges; numpy in float64.

The tests exchange contributions of seeds between the groups. For a mean these are the scores. For an average over
pairs, or any smooth quantity, they are its pseudo-values, which behave like independent observations with that mean
(Arvesen 1969). No logarithm is taken first: one failed seed would then raise the contributions of all other seeds.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import bisect

Floats = NDArray[np.float64]

LEVEL = 0.95
EXACT_SEEDS = 13  # up to this many pairs, all exchanges are enumerated
RESAMPLES = 9_999
ROUNDING = 1e-9
FARTHEST = 1e4  # an interval's end beyond this multiple of the estimate counts as infinite


class Exchange(NamedTuple):
    """Reassignments of the seeds to the two groups.

    Attributes:
        members: [R, S + T], 1 for the seeds of the first group; the first row is the actual assignment.
        size: S.
        paired: whether seeds are exchanged only with their partners.
    """

    members: Floats
    size: int
    paired: bool


def make_exchange(first: int, second: int, paired: bool) -> Exchange:
    """Returns all exchanges if there are at most 13 pairs; otherwise 9,999 random ones, the same on every call.

    Args:
        first: S.
        second: T; equal to S where paired.
        paired: whether both groups have the same seeds in the same order.
    """
    rng = np.random.default_rng(0)
    if paired and first <= EXACT_SEEDS:
        stay = np.array(list(itertools.product([1.0, 0.0], repeat=first)))
    elif paired:
        stay = np.concatenate([np.ones((1, first)), rng.integers(0, 2, (RESAMPLES, first)).astype(float)])
    else:
        actual = np.repeat([1.0, 0.0], [first, second])
        return Exchange(np.stack([actual, *rng.permuted(np.tile(actual, (RESAMPLES, 1)), axis=1)]), first, False)
    return Exchange(np.concatenate([stay, 1 - stay], axis=1), first, True)


def pseudo_values(value: Floats, left_out: Floats) -> Floats:
    """Returns the contribution of each seed: [..., S], whose mean is the value.

    Args:
        value: [...] with all seeds.
        left_out: [..., S] leave-one-out values.

    Source: Tukey (1958), shifted so that their mean is the value itself.
    """
    seeds = left_out.shape[-1]
    return value[..., None] + (seeds - 1) * (left_out.mean(-1, keepdims=True) - left_out)


def mean_sizes(exchange: Exchange, first: Floats, second: Floats) -> Floats:
    """Returns the distance between the group means after every exchange.

    Args:
        exchange: R exchanges.
        first: [S] contributions.
        second: [T] contributions.

    Returns:
        [R]: the absolute difference for paired seeds, otherwise |Welch's t|, which with many seeds is also valid for
        unequal variances (Janssen 1997). Differences at the level of rounding count as 0.
    """
    values = np.concatenate([first, second])
    smallest = ROUNDING * np.abs(values).max(initial=0)
    values = values - values.mean()
    means, errors = [], 0.0
    for inside in (exchange.members, 1 - exchange.members):
        count = inside[0].sum()
        mean = inside @ values / count
        means.append(mean)
        errors = errors + np.maximum(inside @ values**2 / count - mean**2, 0) / max(count - 1, 1)
    difference = np.abs(means[1] - means[0])
    difference = np.where(difference > smallest, difference, 0)
    if exchange.paired:
        return difference
    error = np.sqrt(errors)
    return np.where(
        error > smallest, difference / np.where(error > smallest, error, 1), np.where(difference > 0, np.inf, 0)
    )


def spread_sizes(exchange: Exchange, first: Floats, second: Floats) -> Floats:
    """Returns the distance between the group spreads after every exchange: |log ratio of root mean squares| [R].

    Args:
        exchange: R exchanges.
        first: [S] scores. Each group is centred at its median (Brown & Forsythe 1974), because a failed seed would
            pull the mean away from all other seeds.
        second: [T] scores.
    """
    values = np.concatenate([first - np.median(first), second - np.median(second)])
    smallest = (ROUNDING * max(np.abs(first).max(), np.abs(second).max(), np.finfo(float).tiny)) ** 2
    squares = [inside @ values**2 / inside[0].sum() for inside in (exchange.members, 1 - exchange.members)]
    logs = [np.log(np.maximum(one, smallest)) for one in squares]
    sizes = np.abs(logs[1] - logs[0]) / 2
    return np.where(sizes > ROUNDING, sizes, 0.0)  # equal spreads are ties, whatever the order of their sums


def p_values(sizes: Floats) -> tuple[Floats, Floats]:
    """Returns two-sided p-values of M quantities: unadjusted, and adjusted for the family of all M.

    Args:
        sizes: [R, M]; the first row is that of the actual assignment.

    Returns:
        [M] and [M]; the second by step-down min p (Westfall & Young 1993), which needs no common scale and accounts
        for correlations between the quantities.
    """
    total = len(sizes)
    rounded = sizes * (1 + ROUNDING)  # equal up to rounding counts as equal
    ranked = np.sort(sizes, axis=0)
    # For every exchange and quantity, the share of exchanges with a size at least as large.
    shares = [
        (total - np.searchsorted(column, one / (1 + ROUNDING) ** 2)) / total
        for column, one in zip(ranked.T, rounded.T, strict=True)
    ]
    p = np.stack(shares, axis=1)
    order = np.argsort(p[0], kind="stable")
    adjusted = np.empty(len(order))
    largest = 0.0
    for place, quantity in enumerate(order):
        smallest = p[:, order[place:]].min(axis=1)
        largest = max(largest, float((smallest <= p[0, quantity] * (1 + ROUNDING)).mean()))
        adjusted[quantity] = largest
    return p[0], adjusted


def difference_interval(exchange: Exchange, first: Floats, second: Floats) -> tuple[float, float]:
    """Returns the interval of differences of means, second minus first, that the test does not reject at 5 %.

    Args:
        exchange: R exchanges.
        first: [S] contributions.
        second: [T] contributions.

    Returns:
        Both ends; infinite with too few seeds to reject any difference.
    """
    estimate = second.mean() - first.mean()
    width = np.ptp(np.concatenate([first, second - estimate]))
    if width <= ROUNDING * max(np.abs(first).max(), np.abs(second).max()):
        return estimate, estimate
    accepted = _acceptance(lambda difference: mean_sizes(exchange, first, second - difference))
    low, high = (_end(accepted, estimate, estimate + side * FARTHEST * width, width) for side in (-1, 1))
    return low, high


def mean_ratio_interval(exchange: Exchange, first: Floats, second: Floats) -> tuple[float, float]:
    """Returns the interval of ratios of means, second to first, that the test does not reject at 5 %.

    Args:
        exchange: R exchanges.
        first: [S] contributions with positive mean.
        second: [T] contributions with positive mean.

    Returns:
        Both ends; 0 and infinite with too few seeds to reject any ratio.
    """
    return _ratio_interval(mean_sizes, exchange, first, second, second.mean() / first.mean())


def spread_ratio_interval(exchange: Exchange, first: Floats, second: Floats) -> tuple[float, float]:
    """Returns the interval of ratios of standard deviations that the test does not reject; see `mean_ratio_interval`.

    Args:
        exchange: R exchanges.
        first: [S] scores, not all equal.
        second: [T] scores, not all equal.
    """
    spreads = [np.sqrt(np.mean((scores - np.median(scores)) ** 2)) for scores in (first, second)]
    return _ratio_interval(spread_sizes, exchange, first, second, spreads[1] / spreads[0])


def _ratio_interval(
    sizes: Callable[[Exchange, Floats, Floats], Floats], exchange: Exchange, first: Floats, second: Floats, ratio: float
) -> tuple[float, float]:
    accepted = _acceptance(lambda log: sizes(exchange, first * np.exp(log), second))
    start = float(np.log(ratio))
    if accepted(start) <= 0:  # all seeds contribute the same, so any other ratio is rejected
        return ratio, ratio
    low, high = (np.exp(_end(accepted, start, start + side * np.log(FARTHEST), 1.0)) for side in (-1, 1))
    return float(low), float(high)


def _acceptance(sizes_at: Callable[[float], Floats]) -> Callable[[float], float]:
    """Returns a function that is positive where p is more than 5 %."""

    def accepted(candidate: float) -> float:
        sizes = sizes_at(candidate)
        return float((sizes >= sizes[0] * (1 - ROUNDING)).mean() - (1 - LEVEL))

    return accepted


def _end(accepted: Callable[[float], float], estimate: float, far: float, scale: float) -> float:
    if accepted(far) > 0:
        return np.inf if far > estimate else -np.inf
    return bisect(accepted, estimate, far, xtol=1e-4 * scale)
