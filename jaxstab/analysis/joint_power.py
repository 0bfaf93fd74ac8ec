"""How many seeds and test examples it takes together to see a difference between two methods, from a pilot run."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtr, stdtrit
from scipy.stats import qmc

from jaxstab.analysis.permutation import LEVEL
from jaxstab.measures import Tabular, as_plain, contributions_of_examples, of_numbers, variance_components

if TYPE_CHECKING:
    import pandas as pd

SEEDS = (3, 5, 10, 20, 50, np.inf)
FEWEST_EXAMPLES, MOST_EXAMPLES = 3, 10_000_000
# Halton's sequence without its first point, 0: spread more evenly than random numbers.
UNIFORM = qmc.Halton(3, scramble=False).random(1001)[1:]


class ExamplesNeeded(NamedTuple):
    """How many test examples it takes with so many seeds.

    Attributes:
        seeds: seeds for each method; None for infinitely many.
        low: test examples, if every change is for the better; None if more than ten million, or none are enough.
        high: the same if the methods disagree as two seeds do.
        enough: whether the pilot's test examples are enough: `yes`, `no`, or `perhaps` if only in the first case.
    """

    seeds: int | None
    low: int | None
    high: int | None
    enough: str


@dataclass(frozen=True, repr=False)
class JointPower(Tabular):
    """Seeds and test examples that are needed to see a difference, for two methods with seeds of their own.

    Attributes:
        delta: the difference in mean score.
        power: the probability that the joint 95 % interval of the difference excludes 0.
        examples: the pilot's test examples.
        remaining: the standard deviation over seeds with infinitely many test examples, taken to be that of both
            methods.
        residual: the standard deviation of a seed on an example, beyond the effects of both.
        apart: standard deviations over examples of the difference in expected contribution, for `low` and `high`: the
            root of delta (1 - delta), the least if every example that changes turns from wrong to right; and that of
            methods that disagree as much as two seeds of the pilot.
        rows: examples needed, by the number of seeds.
    """

    delta: float
    power: float
    examples: int
    remaining: float
    residual: float
    apart: tuple[float, float]
    rows: list[ExamplesNeeded]

    def __repr__(self) -> str:
        """The table."""
        return str(self.to_frame().to_string(index=False, na_rep="-"))

    def to_frame(self) -> "pd.DataFrame":
        """Returns a data frame: a row for each number of seeds; `inf` for infinitely many."""
        import pandas as pd

        frame = pd.DataFrame(self.rows, columns=ExamplesNeeded._fields)
        frame["seeds"] = frame["seeds"].astype("float64").fillna(np.inf)
        return frame.astype({"low": "Int64", "high": "Int64"})

    def as_json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        return {**as_plain(vars(self)), "rows": [one._asdict() for one in self.rows]}


def joint_power(
    metric: str,
    outputs: NDArray[Any],
    labels: NDArray[Any],
    classes: int,
    *,
    delta: float,
    power: float = 0.8,
    seeds: Sequence[float] = SEEDS,
) -> JointPower:
    """Says how many seeds and test examples it takes to see a difference between two methods.

    The methods are trained with seeds of their own and tested on the same examples. The difference is seen if its joint
    interval (`measures.joint_difference`) excludes 0. A pilot of one method tells how seeds vary, but not how much two
    methods disagree on examples. So the answer is a bracket: from methods of which one is right wherever the other is,
    to methods that disagree as much as two seeds of the pilot do. Methods that are further apart need more; a
    difference spread evenly over examples needs fewer, and is the low end for scores of numbers.

    Args:
        metric: the score.
        outputs: predictions [S, N] or logits [S, N, C] of the pilot, at least 2 seeds and 3 examples.
        labels: [N] class indices.
        classes: C.
        delta: the difference in mean score, between 0 and 1.
        power: the probability to see it, between 0 and 1.
        seeds: numbers of seeds for each method; `inf` for infinitely many.

    Raises:
        ValueError: delta or power not between 0 and 1, or a pilot that is too small: also if the score is not defined
            without one of its examples.

    Source: Card et al. (2020), With little power comes great responsibility, section 4, for the bracket.
    """
    for name, value in (("delta", delta), ("power", power)):
        if not 0 < value < 1:
            raise ValueError(f"{name} {value:g}; it must be between 0 and 1")
    contributions = contributions_of_examples(metric, outputs, labels, classes)
    if not np.isfinite(contributions).all():
        raise ValueError(f"{metric} is not defined without one of the test examples; more of each class are needed")
    found = variance_components(contributions)
    remaining = max(found.seeds, 0.0)
    residual = found.seeds + found.residual - remaining
    least = 0.0 if of_numbers(metric) else delta * (1 - delta)
    apart = (least, max(least, 2 * (remaining + residual) - delta**2))
    examples = contributions.shape[1]
    rows = []
    for count in seeds:
        low, high = (examples_needed(count, remaining, residual, one, delta=delta, power=power) for one in apart)
        enough = "yes" if _at_most(high, examples) else "perhaps" if _at_most(low, examples) else "no"
        rows.append(ExamplesNeeded(None if np.isinf(count) else int(count), low, high, enough))
    sds = np.sqrt([remaining, residual, *apart]).tolist()
    return JointPower(delta, power, examples, sds[0], sds[1], (sds[2], sds[3]), rows)


def examples_needed(
    seeds: float, remaining: float, residual: float, apart: float, *, delta: float, power: float
) -> int | None:
    """Returns the smallest number of test examples with which the joint interval excludes 0 with this power.

    Args:
        seeds: S for each method, at least 2; may be infinite.
        remaining: the variance over seeds with infinitely many examples, of each method.
        residual: the variance of a seed on an example beyond the effects of both, of each method.
        apart: the variance over examples of the difference in expected contribution.
        delta: the difference in mean score.
        power: the probability that the interval excludes 0.

    Returns:
        The number; None if more than ten million, or if none are enough.
    """
    needed = bisect_left(
        range(MOST_EXAMPLES + 1),
        power,
        lo=FEWEST_EXAMPLES,
        key=lambda examples: difference_power(seeds, examples, remaining, residual, apart, delta=delta),
    )
    return needed if needed <= MOST_EXAMPLES else None


def difference_power(
    seeds: float, examples: int, remaining: float, residual: float, apart: float, *, delta: float
) -> float:
    """Returns the probability that the joint interval excludes 0; arguments as for `examples_needed`.

    The variance of the difference is 2 remaining / S + 2 residual / (S N) + apart / N, and the difference is normal.
    The variances in the interval are drawn as chi-squares, because with few seeds its width varies.
    """
    of_seeds = (remaining + residual / examples) / seeds
    left_over = 2 * residual / seeds / examples
    of_examples = apart / examples + left_over
    sd = np.sqrt(2 * of_seeds + apart / examples)
    if sd == 0:  # infinitely many seeds of methods that differ by as much on every example
        return 1.0
    # A chi-square with a million degrees of freedom is as good as constant.
    freedom = np.minimum([seeds - 1, seeds - 1, examples - 1], 1e6)
    drawn = np.array([of_seeds, of_seeds, of_examples]) * chdtri(freedom, UNIFORM) / freedom
    found = drawn[:, :2].sum(1) + np.maximum(drawn[:, 2] - left_over, 0)
    joined = np.maximum(found**2 / (drawn**2 / freedom).sum(1), freedom.min())
    width = stdtrit(joined, (1 + LEVEL) / 2) * np.sqrt(found)
    return float((ndtr((delta - width) / sd) + ndtr((-delta - width) / sd)).mean())


def _at_most(needed: int | None, examples: int) -> bool:
    return needed is not None and needed <= examples
