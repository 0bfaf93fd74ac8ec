"""Is a difference between two groups of seeds more than chance? R exchanges of S and T seeds; numpy in float64.

What is exchanged are contributions: of a mean the seeds' scores, of an average over pairs, or of any smooth quantity,
its pseudo-values, which behave like independent observations with that mean (Arvesen 1969). Nothing is put on a
logarithmic scale before: one failed seed would then raise the contributions of all others, and look like many.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import bisect

Floats = NDArray[np.float64]

LEVEL = 0.95
EXACT_SEEDS = 13  # so many pairs are exchanged in every way
RESAMPLES = 9_999
ROUNDING = 1e-9
FARTHEST = 1e4  # beyond so many times the estimate an end of an interval is infinite


class Exchange(NamedTuple):
    """Ways to divide the seeds of two groups anew.

    Attributes:
        members: [R, S + T], 1 for the seeds of the first group; the actual division comes first.
        size: S.
        paired: whether seeds only change places with their partners.
    """

    members: Floats
    size: int
    paired: bool


def make_exchange(first: int, second: int, paired: bool) -> Exchange:
    """Returns all exchanges of up to 13 pairs, or else 9,999 random ones, the same every time.

    Args:
        first: S.
        second: T; equal to S where paired.
        paired: whether the seeds of the groups are the same ones, in the same order.
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
    """Returns what each seed contributes: [..., S] whose mean is the value.

    Args:
        value: [...] with all seeds.
        left_out: [..., S] without each of them.

    Source: Tukey (1958), moved so that their mean is the value itself.
    """
    seeds = left_out.shape[-1]
    return value[..., None] + (seeds - 1) * (left_out.mean(-1, keepdims=True) - left_out)


def mean_sizes(exchange: Exchange, first: Floats, second: Floats) -> Floats:
    """Returns how far apart the means of the groups are after every exchange.

    Args:
        exchange: R ways.
        first: [S] contributions.
        second: [T].

    Returns:
        [R]: the difference, of pairs; Welch's t otherwise, which is right for unequal variances too if there are many
        seeds (Janssen 1997). Differences at the level of rounding count as none.
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
    """Returns how unlike the spreads of the groups are after every exchange: |log ratio of root mean squares| [R].

    Args:
        exchange: R ways.
        first: [S] scores. Each group's own median is removed before (Brown & Forsythe 1974): its mean would be drawn to
            a failed seed, and all others would seem far from it.
        second: [T].
    """
    values = np.concatenate([first - np.median(first), second - np.median(second)])
    smallest = (ROUNDING * max(np.abs(first).max(), np.abs(second).max(), np.finfo(float).tiny)) ** 2
    squares = [inside @ values**2 / inside[0].sum() for inside in (exchange.members, 1 - exchange.members)]
    logs = [np.log(np.maximum(one, smallest)) for one in squares]
    return np.abs(logs[1] - logs[0]) / 2


def p_values(sizes: Floats) -> tuple[Floats, Floats]:
    """Returns two-sided p-values of M quantities, alone and of the family of all M.

    Args:
        sizes: [R, M], first the actual ones.

    Returns:
        [M] and [M]; the second by step-down min p (Westfall & Young 1993), which needs no common scale of the
        quantities and knows how they hang together.
    """
    total = len(sizes)
    rounded = sizes * (1 + ROUNDING)  # equal up to rounding counts as equal
    ranked = np.sort(sizes, axis=0)
    # Of every exchange and quantity, the share of exchanges at least as large.
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
    """Returns the differences of means, second minus first, that the exchanges do not reject at 5 %.

    Args:
        exchange: R ways.
        first: [S] contributions.
        second: [T].

    Returns:
        Both ends, infinite where there are too few seeds to reject anything.
    """
    estimate = second.mean() - first.mean()
    width = np.ptp(np.concatenate([first, second - estimate]))
    if width <= ROUNDING * max(np.abs(first).max(), np.abs(second).max()):
        return estimate, estimate
    accepted = _acceptance(lambda difference: mean_sizes(exchange, first, second - difference))
    low, high = (_end(accepted, estimate, estimate + side * FARTHEST * width, width) for side in (-1, 1))
    return low, high


def mean_ratio_interval(exchange: Exchange, first: Floats, second: Floats) -> tuple[float, float]:
    """Returns the ratios of means, second to first, that the exchanges do not reject at 5 %.

    Args:
        exchange: R ways.
        first: [S] contributions with positive mean.
        second: [T], likewise.

    Returns:
        Both ends, 0 or infinite where there are too few seeds to reject anything.
    """
    return _ratio_interval(mean_sizes, exchange, first, second, second.mean() / first.mean())


def spread_ratio_interval(exchange: Exchange, first: Floats, second: Floats) -> tuple[float, float]:
    """Returns the ratios of standard deviations that the exchanges do not reject; see `mean_ratio_interval`.

    Args:
        exchange: R ways.
        first: [S] scores, not all equal.
        second: [T], likewise.
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
    """Positive where p is more than 5 %."""

    def accepted(candidate: float) -> float:
        sizes = sizes_at(candidate)
        return float((sizes >= sizes[0] * (1 - ROUNDING)).mean() - (1 - LEVEL))

    return accepted


def _end(accepted: Callable[[float], float], estimate: float, far: float, scale: float) -> float:
    if accepted(far) > 0:
        return np.inf if far > estimate else -np.inf
    return bisect(accepted, estimate, far, xtol=1e-4 * scale)
