"""Scores over several tasks, with few seeds each: aggregates, probability of improvement, performance profiles.

A method's scores are a list with an array [S] for each task; numbers of seeds may differ. Every task has the same
weight. K tasks, R resamples.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtr, stdtrit

from jaxstab.analysis.permutation import LEVEL
from jaxstab.measures import Interval

Floats = NDArray[np.float64]

RESAMPLES = 2_000
TRIMMED = 0.25  # at either end, for the interquartile mean


class Aggregate(NamedTuple):
    """A value with its 95 % interval for other seeds.

    Attributes:
        value: the estimate.
        interval: its interval; None where scores do not vary, so that nothing is known about other seeds.
    """

    value: float
    interval: Interval | None


class Profile(NamedTuple):
    """How often scores exceed thresholds.

    Attributes:
        thresholds: [T].
        shares: [T] share of seeds with a score above each, averaged over tasks.
        band: [T, 2] pointwise 95 % intervals.
    """

    thresholds: Floats
    shares: Floats
    band: Floats


def probability_of_improvement(first: Sequence[ArrayLike], second: Sequence[ArrayLike]) -> Aggregate:
    """Returns the probability that a seed of the second method scores higher than one of the first, over tasks.

    For one task it is the share of all pairs of a seed of either method in which the second is better; a tie counts as
    half. Over tasks it is the mean. The interval is that of Brunner & Munzel (2000) on the logit scale, with variances
    added over tasks. Where all pairs of a task agree in every task, there is no variance. Then m seeds, the fewer of
    both methods summed over tasks, could agree with a probability of 5 % if another outcome had the probability
    1 - .05^(1/m), and the interval reaches so far.

    `benchmarks/coverage.py` simulates it for one task.

    Args:
        first: for each task scores [S] of at least 2 seeds.
        second: for each task scores [T] of at least 2 seeds.

    Raises:
        ValueError: numbers of tasks that differ, no task, fewer than 2 seeds, or a score that is not finite.

    Source: Agarwal et al. (2021), Deep RL at the edge of the statistical precipice, section 4.
    """
    ones, others = _checked(first), _checked(second)
    if len(ones) != len(others):
        raise ValueError(f"{len(ones)} and {len(others)} tasks; give the scores of both methods on every task")
    values, variances, freedoms = [], [], []
    for one, other in zip(ones, others, strict=True):
        better = (np.sign(other[:, None] - one) + 1) / 2
        values.append(better.mean())
        variances += [better.mean(0).var(ddof=1) / len(one), better.mean(1).var(ddof=1) / len(other)]
        freedoms += [len(one) - 1, len(other) - 1]
    value, parts = float(np.mean(values)), np.array(variances) / len(ones) ** 2
    variance = parts.sum()
    if variance == 0:
        fewest = sum(min(len(one), len(other)) for one, other in zip(ones, others, strict=True))
        certain = (1 - LEVEL) ** (1 / fewest)
        return Aggregate(value, Interval(certain * value, certain * value + 1 - certain))
    quantile = stdtrit(variance**2 / (parts**2 / freedoms).sum(), (1 + LEVEL) / 2)
    width = quantile * np.sqrt(variance) / (value * (1 - value))
    low, high = expit(logit(value) + width * np.array([-1, 1]))
    return Aggregate(value, Interval(float(low), float(high)))


def aggregate(scores: Sequence[ArrayLike]) -> dict[str, Aggregate]:
    """Returns the `mean`, `median` and `interquartile_mean` of scores over tasks, with stratified bootstrap intervals.

    - `mean`: of the tasks' means.
    - `median`: of the tasks' means.
    - `interquartile_mean`: of all seeds of all tasks, without a quarter at either end. It is less noisy than the
      median, and outliers move it less than the mean.

    Seeds are resampled within each task. Percentiles are expanded, because resamples of few seeds vary too little.
    Tasks are not resampled: the intervals are for other seeds on the same tasks.

    Args:
        scores: for each task scores [S] of at least 2 seeds, on scales that can be averaged.

    Raises:
        ValueError: no task, fewer than 2 seeds, or a score that is not finite.

    Source: Agarwal et al. (2021), section 4; Hesterberg (2015), section 5, for the expansion.
    """
    tasks = _checked(scores)
    statistics: dict[str, Callable[[list[Floats]], Floats]] = {
        "mean": lambda drawn: _means(drawn).mean(-1),
        "median": lambda drawn: np.median(_means(drawn), axis=-1),
        "interquartile_mean": _interquartile_mean,
    }
    found = {}
    for name, statistic in statistics.items():
        low, high = _bootstrap(tasks, statistic)
        interval = Interval(float(low), float(high)) if low < high else None
        found[name] = Aggregate(float(statistic(tasks)), interval)
    return found


def performance_profile(scores: Sequence[ArrayLike], thresholds: ArrayLike) -> Profile:
    """Returns the share of seeds that score above each threshold, averaged over tasks, with a pointwise band.

    Args:
        scores: for each task scores [S] of at least 2 seeds.
        thresholds: [T].

    Raises:
        ValueError: no task, fewer than 2 seeds, or a score that is not finite.

    Source: Agarwal et al. (2021), section 4, there the run-score distribution; intervals as in `aggregate`.
    """
    tasks, limits = _checked(scores), np.asarray(thresholds, np.float64)

    def shares(drawn: list[Floats]) -> Floats:
        return np.mean([(task[..., None, :] > limits[:, None]).mean(-1) for task in drawn], axis=0)

    return Profile(limits, shares(tasks), _bootstrap(tasks, shares).T)


def _checked(scores: Sequence[ArrayLike]) -> list[Floats]:
    """The tasks' scores as float64."""
    tasks = [np.asarray(task, np.float64) for task in scores]
    if not tasks:
        raise ValueError("no task; give a list with the scores of each task")
    for number, task in enumerate(tasks):
        if task.ndim != 1 or len(task) < 2:
            raise ValueError(f"task {number}: scores of shape {task.shape}; expected [S], of at least 2 seeds")
        if not np.isfinite(task).all():
            raise ValueError(f"task {number}: a score is not finite; leave that seed out")
    return tasks


def _means(tasks: list[Floats]) -> Floats:
    """The tasks' means [..., K] of scores [..., S] each."""
    return np.stack([task.mean(-1) for task in tasks], axis=-1)


def _interquartile_mean(tasks: list[Floats]) -> Floats:
    """The trimmed mean of all scores [..., S]; with equal numbers of seeds `scipy.stats.trim_mean` of them."""
    pooled = np.concatenate(tasks, axis=-1)
    weights = np.concatenate([np.full(task.shape[-1], 1 / task.shape[-1] / len(tasks)) for task in tasks])
    order = pooled.argsort(-1)
    weights, pooled = weights[order], np.take_along_axis(pooled, order, axis=-1)
    # Whole scores are cut off where all weigh the same.
    cut = int(TRIMMED * pooled.shape[-1]) / pooled.shape[-1]
    until = weights.cumsum(-1)
    kept = np.maximum(np.minimum(until, 1 - cut) - np.maximum(until - weights, cut), 0)
    return np.asarray((kept * pooled).sum(-1) / kept.sum(-1))


def _bootstrap(tasks: list[Floats], statistic: Callable[[list[Floats]], Floats]) -> Floats:
    """The 95 % interval of a statistic [...] of tasks: [2, ...]."""
    rng = np.random.default_rng(0)
    drawn = statistic([rng.choice(task, (RESAMPLES, len(task))) for task in tasks])
    # The variance of a resample is (S - 1)/S of that of new seeds, and is estimated with S - 1 degrees of freedom.
    counts = np.array([len(task) for task in tasks])
    tail = ndtr(stdtrit((counts - 1).sum(), (1 - LEVEL) / 2) / np.sqrt((1 - 1 / counts).mean()))
    return np.quantile(drawn, [tail, 1 - tail], axis=0)
