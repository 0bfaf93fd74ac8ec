"""How large a difference is: estimates with intervals from leaving out one seed at a time."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import binomtest

from jaxstab.analysis.permutation import LEVEL
from jaxstab.measures import Interval

Floats = NDArray[np.float64]


class Estimate(NamedTuple):
    """An estimate with its variance.

    Attributes:
        value: the estimate.
        variance: its variance.
        freedom: the variance's degrees of freedom.
    """

    value: float
    variance: float
    freedom: float

    def ends(self, level: float = LEVEL) -> Floats:
        """Both ends of Student's interval, [2]."""
        width = stdtrit(self.freedom, (1 + level) / 2) * np.sqrt(self.variance)
        return self.value + width * np.array([-1, 1])

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval; None where seeds do not vary, so that nothing is known about other seeds."""
        return Interval.of(self.ends()) if self.variance > 0 else None


def difference(first: tuple[float, Floats], second: tuple[float, Floats], paired: bool) -> Estimate:
    """Estimates second minus first; for a mean the interval is Student's, or Welch's for unpaired seeds.

    Args:
        first: the value, and the leave-one-out values [S].
        second: the value, and the leave-one-out values [T].
        paired: whether leaving out a seed leaves it out of both.
    """
    value = second[0] - first[0]
    if paired:
        return Estimate(value, _variance(second[1] - first[1]), len(first[1]) - 1)
    variances = [_variance(one[1]) for one in (first, second)]
    return _combined(value, variances, [len(one[1]) - 1 for one in (first, second)])


def log_ratio(first: tuple[float, Floats], second: tuple[float, Floats], paired: bool) -> Estimate | None:
    """Estimates the logarithm of second divided by first; None unless all values are positive."""
    if min(value for one in (first, second) for value in (one[0], one[1].min())) <= 0:
        return None
    logs = [(float(np.log(value)), np.log(left_out)) for value, left_out in (first, second)]
    return difference(logs[0], logs[1], paired)


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates."""
    count = len(estimates)
    value = sum(one.value for one in estimates) / count
    return _combined(value, [one.variance / count**2 for one in estimates], [one.freedom for one in estimates])


def hedges(first: Floats, second: Floats) -> float | None:
    """Hedges' g: Cohen's d with the pooled standard deviation, corrected for few seeds (Hedges 1981)."""
    pooled, freedom = pooled_sd(first, second), len(first) + len(second) - 2
    return float((second.mean() - first.mean()) / pooled * (1 - 3 / (4 * freedom - 1))) if pooled > 0 else None


def pooled_sd(first: Floats, second: Floats) -> float:
    """The standard deviation within two groups."""
    squares = sum(((one - one.mean()) ** 2).sum() for one in (first, second))
    return float(np.sqrt(squares / (len(first) + len(second) - 2)))


def share_difference(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, Interval | None]:
    """The difference of two shares, each given as (count, of), with the interval of Newcombe (1998), method 10."""
    shares = [count / of for count, of in (first, second)]
    ends = [binomtest(count, of).proportion_ci(method="wilson") for count, of in (first, second)]
    value = shares[1] - shares[0]
    low = value - np.hypot(shares[1] - ends[1].low, ends[0].high - shares[0])
    high = value + np.hypot(ends[1].high - shares[1], shares[0] - ends[0].low)
    return value, Interval.of((low, high))


def _variance(left_out: Floats) -> float:
    seeds = len(left_out)
    return float((seeds - 1) / seeds * ((left_out - left_out.mean()) ** 2).sum())


def _combined(value: float, variances: Sequence[float], freedoms: Sequence[float]) -> Estimate:
    """An estimate whose variance is a sum, with the degrees of freedom of Welch and Satterthwaite."""
    total = sum(variances)
    parts = sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
    return Estimate(value, total, total**2 / parts if parts > 0 else 1.0)
