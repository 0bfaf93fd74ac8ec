"""Permutation tests of two groups of S and T seeds, with R exchanges; numpy in float64.

What is exchanged are seeds. A mean is that of the numbers exchanged; a measure is computed again after every exchange,
with the distances between seeds of different groups. So the tests are exact where all seeds come from one distribution,
whatever it is. For standard deviations a second test must agree, which is not misled by a difference of means.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import comb

Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 9_999
ROUNDING = 1e-9


class Exchange(NamedTuple):
    """Reassignments of the seeds to the two groups.

    Attributes:
        members: [R, S + T], True for the seeds of the first group; the first row is the actual assignment.
        size: S.
        paired: whether seeds are exchanged only with their partners.
    """

    members: NDArray[np.bool_]
    size: int
    paired: bool

    @property
    def smallest_p(self) -> float:
        """The smallest two-sided p-value that so many seeds can give."""
        seeds = self.members.shape[1]
        if self.paired:
            return float(2.0 ** (1 - self.size))
        mirrored = 2 if 2 * self.size == seeds else 1
        return max(mirrored / comb(seeds, self.size), 1 / len(self.members))


def make_exchange(first: int, second: int, paired: bool, draw: int = 0) -> Exchange:
    """Returns all exchanges if there are at most 10,000; otherwise the actual assignment and 9,999 random ones.

    Args:
        first: S.
        second: T; equal to S where paired.
        paired: whether both groups have the same seeds in the same order.
        draw: which random ones; the same number gives the same on every call.
    """
    rng = np.random.default_rng(draw)
    if paired:
        if 2.0**first <= RESAMPLES + 1:
            stay = np.array(list(itertools.product([True, False], repeat=first)))
        else:
            stay = np.concatenate([np.ones((1, first), bool), rng.random((RESAMPLES, first)) < 0.5])
        return Exchange(np.concatenate([stay, ~stay], axis=1), first, True)
    actual = np.repeat([True, False], [first, second])
    if comb(first + second, first) <= RESAMPLES + 1:
        chosen = np.array(list(itertools.combinations(range(first + second), first)))
        members = np.zeros((len(chosen), first + second), bool)
        np.put_along_axis(members, chosen, values=True, axis=1)
        return Exchange(members, first, False)
    return Exchange(np.stack([actual, *rng.permuted(np.tile(actual, (RESAMPLES, 1)), axis=1)]), first, False)


class Differences(NamedTuple):
    """How much the groups differ after every exchange.

    Attributes:
        differences: [R] second group minus first; differences at the level of rounding are 0.
        variances: [R] estimates of their variances; 1 where differences are not standardised.
    """

    differences: Floats
    variances: Floats

    def at(self, rows: NDArray[np.int64], scale: float) -> "Differences":
        """These exchanges, in another unit."""
        return Differences(self.differences[rows] * scale, self.variances[rows] * scale**2)


def pseudo_values(value: Floats, left_out: Floats) -> Floats:
    """Returns the contribution of each seed: [..., S], whose mean is the value.

    Args:
        value: [...] with all seeds.
        left_out: [..., S] leave-one-out values.

    Source: Tukey (1958), shifted so that their mean is the value itself.
    """
    seeds = left_out.shape[-1]
    return value[..., None] + (seeds - 1) * (left_out.mean(-1, keepdims=True) - left_out)


def mean_differences(exchange: Exchange, first: Floats, second: Floats) -> Differences:
    """Returns the differences of the group means after every exchange.

    Args:
        exchange: R exchanges.
        first: [S] numbers, such as scores.
        second: [T] numbers.

    Returns:
        Differences; for unpaired seeds with Welch's variances, so that their ratio is his t, which with many seeds is
        also valid for unequal variances (Janssen 1997).
    """
    values = np.concatenate([first, second])
    smallest = ROUNDING * np.abs(values).max(initial=0)
    values = values - values.mean()
    means, variances = [], np.zeros(len(exchange.members))
    for inside in (exchange.members, ~exchange.members):
        count = inside[0].sum()
        mean = inside @ values / count
        means.append(mean)
        variances += np.maximum(inside @ values**2 / count - mean**2, 0) / max(count - 1, 1)
    differences = _without_rounding(means[1] - means[0], smallest)
    return Differences(differences, np.ones(len(differences)) if exchange.paired else _zero(variances, smallest**2))


def sd_differences(exchange: Exchange, first: Floats, second: Floats) -> Differences:
    """Returns the log ratios of the groups' standard deviations after every exchange.

    Args:
        exchange: R exchanges.
        first: [S] numbers, such as scores.
        second: [T] numbers.
    """
    values = np.concatenate([first, second])
    smallest = (ROUNDING * max(np.abs(values).max(), np.finfo(float).tiny)) ** 2
    values = values - values.mean()
    logs = []
    for inside in (exchange.members, ~exchange.members):
        count = inside[0].sum()
        variances = (inside @ values**2 / count - (inside @ values / count) ** 2) * count / max(count - 1, 1)
        logs.append(np.log(np.maximum(variances, smallest)) / 2)
    differences = _without_rounding(logs[1] - logs[0], ROUNDING)
    return Differences(differences, np.ones(len(differences)))


def spread_differences(exchange: Exchange, first: Floats, second: Floats) -> Differences:
    """Does the same as `sd_differences`, but exchanges deviations from the median of the group that a seed came from.

    A difference of means, which makes the exchanged standard deviations too similar or too different, does not matter
    here. But with half of a few seeds failed, their median says little, and small p-values are too frequent. So a
    difference is clear only if both tests find it.

    Source: Brown & Forsythe (1974), for the median.
    """
    values = np.concatenate([first - np.median(first), second - np.median(second)])
    smallest = (ROUNDING * max(np.abs(first).max(), np.abs(second).max(), np.finfo(float).tiny)) ** 2
    squares = [inside @ values**2 / inside[0].sum() for inside in (exchange.members, ~exchange.members)]
    logs = [np.log(np.maximum(one, smallest)) for one in squares]
    differences = _without_rounding((logs[1] - logs[0]) / 2, ROUNDING)
    return Differences(differences, np.ones(len(differences)))


def value_differences(
    exchange: Exchange, values: Callable[[NDArray[np.bool_]], Floats], at_most: int | None = None
) -> Differences:
    """Returns the differences of a measure that is computed again after every exchange.

    Args:
        exchange: R exchanges.
        values: from masks [R, S + T] of both groups together to the measure [R].
        at_most: how many seeds of each group count, for a measure that depends on their number; all by default.
    """
    groups = (exchange.members, ~exchange.members)
    if at_most is not None:
        groups = tuple(inside & (inside.cumsum(axis=1) <= at_most) for inside in groups)  # type: ignore[assignment]
    first, second = (values(inside) for inside in groups)
    differences = _without_rounding(second - first, ROUNDING * np.abs(first).max(initial=0))
    return Differences(differences, np.ones(len(differences)))


def sizes(tasks: Sequence[Differences]) -> Floats:
    """Returns the distance between the groups after every exchange, over all tasks: [R].

    It is the absolute sum of the differences, divided by the root of the sum of their variances.
    """
    difference = np.abs(np.sum([one.differences for one in tasks], axis=0))
    variance = np.sum([one.variances for one in tasks], axis=0)
    return np.where(
        variance > 0, difference / np.sqrt(np.where(variance > 0, variance, 1)), np.where(difference > 0, np.inf, 0)
    )


def p_value(sizes: Floats) -> float:
    """Returns the two-sided p-value of sizes [R], of which the first is that of the actual assignment."""
    return float((sizes * (1 + ROUNDING) >= sizes[0]).mean())


def p_values(sizes: Floats, at_least: ArrayLike = 0.0) -> tuple[Floats, Floats]:
    """Returns two-sided p-values of M quantities: unadjusted, and adjusted for the family of all M.

    Args:
        sizes: [R, M]; the first row is that of the actual assignment.
        at_least: [M] p-values of a second test of each quantity, which must agree; 0 where there is none.

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
    actual = np.maximum(p[0], at_least)
    order = np.argsort(actual, kind="stable")
    adjusted = np.empty(len(order))
    largest = 0.0
    for place, quantity in enumerate(order):
        smallest = p[:, order[place:]].min(axis=1)
        largest = max(largest, actual[quantity], float((smallest <= actual[quantity] * (1 + ROUNDING)).mean()))
        adjusted[quantity] = largest
    return actual, adjusted


def holm(p: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for their number (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * np.asarray(p)[order]), 1)
    return [float(one) for one in adjusted]


def _without_rounding(differences: Floats, smallest: float) -> Floats:
    return np.where(np.abs(differences) > smallest, differences, 0.0)


def _zero(variances: Floats, smallest: float) -> Floats:
    return np.where(variances > smallest, variances, 0.0)
