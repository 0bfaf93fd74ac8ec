"""How many seeds a question needs, from a pilot run with S seeds: by formula and by simulation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb
from scipy.stats import chi2, nct, norm, t

from jaxstab.analysis.permutation import LEVEL
from jaxstab.measures import sd_interval, unseen

Floats = NDArray[np.float64]

SIMULATIONS = 2_000
MOST_SEEDS = 10_000
MOST_SIMULATED = 1_000


@dataclass(frozen=True)
class Needed:
    """How many seeds one question needs.

    Attributes:
        question: the question as text.
        formula: seeds per method by formula; None if more than 10,000.
        simulation: seeds per method by resampling the pilot's scores; None if more than 1,000.
        range: the formula at both ends of the 95 % interval of the pilot's standard deviation; None for a question
            that does not depend on it.
    """

    question: str
    formula: int | None
    simulation: int | None
    range: list[int | None] | None = None


def seeds_needed(
    scores: Floats, *, delta: float = 0.01, factor: float = 1.25, methods: int = 5, power: float = 0.8
) -> list[Needed]:
    """Answers four questions about the number of seeds.

    Args:
        scores: [S] scores of the pilot's seeds, at least 3 and not all equal.
        delta: the difference in mean score to detect, and between neighbours in a ranking.
        factor: how precisely the standard deviation is to be known, as a factor.
        methods: the number of methods to rank.
        power: the probability of success.

    Raises:
        ValueError: fewer than 3 seeds, or all scores equal.
    """
    scores = np.asarray(scores, np.float64)
    if len(scores) < 3:
        raise ValueError(f"{len(scores)} seeds; a pilot needs at least 3")
    sd = scores.std(ddof=1)
    if sd < 1e-9:
        raise ValueError(
            f"all {len(scores)} seeds have the same score, so their spread is unknown and no number of seeds can be "
            f"planned; at most {unseen(len(scores)):.0%} of seeds behave differently"
        )
    ends = sd_interval(scores)

    def both_ends(needed: Callable[[float], int | None]) -> list[int | None]:
        return [needed(end) for end in ends]

    draws = _Pilot(scores)
    return [
        Needed(
            f"to see a difference of {delta:g} in the mean score of two methods (power {power:g}, two-sided 5 %)",
            fewest_seeds(sd, delta, power=power),
            _fewest(lambda n: draws.difference_power(n, delta) >= power, MOST_SIMULATED),
            both_ends(lambda end: fewest_seeds(end, delta, power=power)),
        ),
        Needed(
            f"to see it for each of {methods - 1} methods against one baseline (Holm)",
            fewest_seeds(sd, delta, methods - 1, power),
            _fewest(lambda n: draws.difference_power(n, delta, methods - 1) >= power, MOST_SIMULATED),
            both_ends(lambda end: fewest_seeds(end, delta, methods - 1, power)),
        ),
        Needed(
            f"to know the standard deviation within a factor of {factor:g} (95 %)",
            _fewest(lambda n: sd_factor(n) <= factor),
            _fewest(lambda n: draws.sd_coverage(n, factor) >= LEVEL, MOST_SIMULATED),
        ),
        Needed(
            f"to rank {methods} methods whose means are {delta:g} apart ({power:.0%} sure of the whole ranking)",
            _fewest(lambda n: ranking_probability(n, sd, delta, methods) >= power),
            _fewest(lambda n: draws.ranking_probability(n, delta, methods) >= power, MOST_SIMULATED),
            both_ends(lambda end: _fewest(lambda n: ranking_probability(n, end, delta, methods) >= power)),
        ),
    ]


def fewest_seeds(sd: float, delta: float, comparisons: int = 1, power: float = 0.8) -> int | None:
    """Returns how many seeds of each method it takes to see a difference in the mean score; None if more than 10,000.

    Args:
        sd: standard deviation of the scores of either method.
        delta: the true difference.
        comparisons: how many methods are compared with the baseline.
        power: the probability to see the difference.
    """
    return _fewest(lambda seeds: difference_power(seeds, sd, delta, comparisons) >= power)


def point(scores: Floats) -> float:
    """Returns one point on the scale of these scores: 0.01, or 1 of scores such as BLEU, which go up to 100."""
    return 0.01 if scores.max(initial=0) <= 1 else 1.0


def difference_power(seeds: int, sd: float, delta: float, comparisons: int = 1) -> float:
    """Returns the power of the test of the mean score that `jaxstab compare` makes.

    Args:
        seeds: S of each method, unpaired.
        sd: standard deviation of the scores of either method.
        delta: the true difference.
        comparisons: how many methods are compared with the baseline; by Holm's rule each is then tested at 5 % divided
            by their number, until one is found.

    Returns:
        That of the two-sided t-test (Cohen 1988), which the permutation test approaches; 0 with so few seeds that no
        exchange can give such a small p.
    """
    alpha = (1 - LEVEL) / comparisons
    if 2 / comb(2 * seeds, seeds) > alpha:
        return 0.0
    freedom, shift = 2 * seeds - 2, delta / sd * np.sqrt(seeds / 2)
    critical = t.ppf(1 - alpha / 2, freedom)
    if shift > 30:  # beyond the range of the library's non-central t
        return 1.0
    return float(nct.sf(critical, freedom, shift) + nct.cdf(-critical, freedom, shift))


def sd_factor(seeds: int) -> float:
    """Returns the factor within which the SD of normal scores is known: the wider side of its 95 % interval."""
    return float(np.sqrt((seeds - 1) / chi2.ppf((1 - LEVEL) / 2, seeds - 1)))


def ranking_probability(seeds: int, sd: float, delta: float, methods: int) -> float:
    """Returns a lower bound on the probability that methods `delta` apart are ranked correctly (Bonferroni)."""
    return float(1 - (methods - 1) * norm.sf(delta / sd * np.sqrt(seeds / 2)))


def best_of(scores: Floats, chosen_by: Floats | None = None) -> Floats:
    """Returns the expected score of the best of n seeds, for n = 1 ... S.

    Args:
        scores: [S].
        chosen_by: [S] values that the best seed is chosen by, such as validation scores; default: the scores
            themselves, as when the best seed is reported.

    Returns:
        [S] unbiased estimates: means over all choices of n of the S seeds (the unbiased form of Dodge et al. 2019,
        eq. 7; Tang et al. 2020). Seeds that tie in `chosen_by` are equally likely to be chosen.
    """
    scores = np.asarray(scores, np.float64)
    keys = scores if chosen_by is None else np.asarray(chosen_by, np.float64)
    order = np.argsort(keys, kind="stable")
    _, inverse = np.unique(keys, return_inverse=True)
    mean_of_tied = np.bincount(inverse, scores) / np.bincount(inverse)
    ordered, count = mean_of_tied[inverse][order], len(scores)
    places = np.arange(count)
    return np.array([(comb(places, n - 1) * ordered).sum() / comb(count, n) for n in range(1, count + 1)])


class _Pilot:
    """Simulated experiments: the pilot's scores are resampled and smoothed, with their variance unchanged."""

    def __init__(self, scores: Floats):
        self._scores, self._sd = scores, scores.std(ddof=1)
        self._mean = scores.mean()
        # Smoothing with Silverman's width adds variance; scores then shrink to the mean to restore the pilot's.
        self._width = 1.06 * self._sd * len(scores) ** -0.2

    def _draw(self, shape: tuple[int, ...]) -> Floats:
        rng = np.random.default_rng(0)
        drawn = rng.choice(self._scores, shape) + self._width * rng.standard_normal(shape)
        spread = np.sqrt(self._scores.var() + self._width**2)
        return self._mean + (drawn - self._mean) * self._sd / spread

    def difference_power(self, seeds: int, delta: float, comparisons: int = 1) -> float:
        """The power of Welch's t-test at 5 % divided by the number of comparisons."""
        alpha = (1 - LEVEL) / comparisons
        if 2 / comb(2 * seeds, seeds) > alpha:
            return 0.0
        drawn = self._draw((2, SIMULATIONS, seeds))
        means, variances = drawn.mean(-1), drawn.var(-1, ddof=1) / seeds
        total = variances.sum(0)
        freedom = total**2 / (variances**2).sum(0) * (seeds - 1)
        return float((np.abs(means[0] - means[1] + delta) / np.sqrt(total) > t.ppf(1 - alpha / 2, freedom)).mean())

    def sd_coverage(self, seeds: int, factor: float) -> float:
        """How often the estimated standard deviation is within a factor of the true one."""
        found = self._draw((SIMULATIONS, seeds)).std(-1, ddof=1) / self._sd
        return float(((found <= factor) & (found >= 1 / factor)).mean())

    def ranking_probability(self, seeds: int, delta: float, methods: int) -> float:
        """How often all methods are ranked correctly."""
        means = self._draw((methods, SIMULATIONS, seeds)).mean(-1) + delta * np.arange(methods)[:, None]
        return float((np.diff(means, axis=0) > 0).all(axis=0).mean())


def _fewest(suffices: Callable[[int], Any], most: int = MOST_SEEDS) -> int | None:
    """The smallest sufficient number of seeds, at least 2. Assumes that every larger number suffices too."""
    high = 2
    while not suffices(high):
        if high >= most:
            return None
        high = min(2 * high, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return max(high, 2)
