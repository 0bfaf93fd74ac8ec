"""Intervals for other seeds and other test examples at once. Numpy in float64."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtrit

from jaxstab.measures.performance import SCORES, contributions_of_examples, scores
from jaxstab.measures.resampling import LEVEL

Floats = NDArray[np.float64]


def joint_mean(
    metric: str, outputs: Shaped[np.ndarray, "S N *C"], labels: Shaped[np.ndarray, " N"], classes: int
) -> Float[np.ndarray, " 2"]:
    """Returns the 95 % interval of the mean score for other seeds and examples.

    The variance is that of `joint_difference`. The interval is symmetric on the logit scale of the score's range, or on
    the logarithmic scale of a loss, so it stays within the range.

    `benchmarks/coverage.py` simulates it with 5 to 20 seeds. The multi-bootstrap of Sellam et al. (2022) counts what is
    left over three times, and is wider at equal coverage.

    Args:
        metric: the score (`SCORES`).
        outputs: predictions [S, N] or logits [S, N, C], whichever the score is of.
        labels: [N] class indices, or numbers.
        classes: C; 1 for numbers.

    Returns:
        [2], both equal to the mean if nothing varies over seeds and examples.

    Raises:
        ValueError: fewer than two seeds or examples.

    Source: Owen (2007), The pigeonhole bootstrap, section 3; Satterthwaite (1946).
    """
    if min(outputs.shape[:2]) < 2:
        raise ValueError(f"{' seeds, '.join(map(str, outputs.shape[:2]))} test examples; an interval needs 2 of each")
    mean = scores(metric, outputs, labels, classes).mean()
    contributions = contributions_of_examples(metric, outputs, labels, classes)
    width = _width([contributions], contributions.mean(0))
    low, high = SCORES[metric].low, SCORES[metric].high
    if np.isinf(low):  # a loss: symmetric on the scale of logarithms
        away = high - mean
        return np.asarray(high - away * np.exp(width / away * np.array([1.0, -1.0])) if away > 0 else np.full(2, mean))
    share = (mean - low) / (high - low)
    if width == 0 or not 0 < share < 1:
        return np.full(2, mean)
    ends = expit(logit(share) + width / (high - low) / (share * (1 - share)) * np.array([-1.0, 1.0]))
    return np.asarray(low + (high - low) * ends)


def joint_difference(
    metric: str,
    first: Shaped[np.ndarray, "S N *C"],
    second: Shaped[np.ndarray, "T N *C"],
    labels: Shaped[np.ndarray, " N"],
    classes: int,
    *,
    paired: bool,
) -> Float[np.ndarray, " 2"]:
    """Returns the 95 % interval of the difference in mean score, second less first, for other seeds and examples.

    Both methods predict the same examples. Seeds are crossed with examples, so the variance of the difference is the
    variance over seeds (of pairs, or of both methods), plus the variance over examples, less the variance of what is
    left over, which both of them contain. The quantile is Student's with Satterthwaite's degrees of freedom.

    `benchmarks/coverage.py` compares it with the multi-bootstrap of Sellam et al. (2022), which counts what is left
    over three times (Owen 2007, section 4) and so is 5 to 20 % wider at equal or higher coverage.

    Args:
        metric: the score (`SCORES`).
        first: predictions [S, N] or logits [S, N, C], whichever the score is of.
        second: those of T seeds; the same seeds in the same order where paired.
        labels: [N] class indices, or numbers.
        classes: C; 1 for numbers.
        paired: whether both methods have the same seeds.

    Returns:
        [2], within the range of a difference.

    Raises:
        ValueError: fewer than two seeds or examples, or paired methods with different numbers of seeds.

    Source: Owen (2007), The pigeonhole bootstrap, section 3; Searle, Casella & McCulloch (1992), chapter 4;
    Satterthwaite (1946).
    """
    if paired and len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} seeds; a pair needs a seed of either method")
    if min(len(first), len(second), len(labels)) < 2:
        raise ValueError(
            f"{len(first)} and {len(second)} seeds, {len(labels)} test examples; an interval needs 2 of each at least"
        )
    one, other = (contributions_of_examples(metric, some, labels, classes) for some in (first, second))
    groups = [other - one] if paired else [one, other]
    difference = other.mean() - one.mean()
    most = SCORES[metric].high - SCORES[metric].low
    width = _width(groups, other.mean(0) - one.mean(0))
    return np.asarray(np.clip(difference + width * np.array([-1.0, 1.0]), -most, most))


def _width(groups: Sequence[Floats], of_examples: Floats) -> float:
    """Half the width of an interval, from groups of seeds [S, N] and what they make of each example [N]."""
    over_seeds = np.array([group.mean(1).var(ddof=1) / len(group) for group in groups])
    over_examples = of_examples.var(ddof=1) / len(of_examples)
    left_over = sum(_residual(group) / group.size for group in groups)
    variance = over_seeds.sum() + max(over_examples - left_over, 0)
    freedom = np.array([*(len(group) - 1 for group in groups), len(of_examples) - 1])
    parts = (np.append(over_seeds, over_examples) ** 2 / freedom).sum()
    if not parts > 0:
        return 0.0
    # Joined degrees of freedom are at least the fewest; here they could be fewer because something is subtracted.
    joined = max(variance**2 / parts, freedom.min())
    return float(stdtrit(joined, (1 + LEVEL) / 2) * np.sqrt(variance))


def _residual(values: Float[np.ndarray, "S N"]) -> float:
    """The mean square of values less their means over rows and columns."""
    left = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    return float((left**2).sum() / ((len(values) - 1) * (values.shape[1] - 1)))
