"""Small sets of seeds, drawn from many: what is said of them, against what is true of all.

Sets are drawn without replacement, R of them, of k of S seeds. They overlap, so R sets are worth less than R
independent ones: a share over them is at least as well known as one over S / k sets that do not overlap (Hoeffding
1948), and that is how its interval is computed.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import ttest_ind, ttest_rel

from jaxstab.analysis.comparison import FAILED, SIGNIFICANT
from jaxstab.analysis.differences import find_differences
from jaxstab.analysis.matching import FEWEST_PAIRS
from jaxstab.analysis.permutation import LEVEL
from jaxstab.analysis.sample import Sample
from jaxstab.measures import MEAN, MEASURES, STANDARD_DEVIATIONS, Interval, plain, plain_or_none

Places = NDArray[np.int64]
Floats = NDArray[np.float64]

BEST_BY = 0.01  # how much higher a best score must be to be called better
T_TEST, BEST, OF_MEAN, OF_MEASURES = "t-test", "best of n", "compare, mean score", "compare, any measure"


@dataclass(frozen=True)
class Share:
    """The share of sets of which something is true.

    Attributes:
        value: the share.
        sets: how many independent sets the drawn ones are worth at least.
    """

    value: float
    sets: float

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the share (Wilson 1927)."""
        z, share = ndtri((1 + LEVEL) / 2), self.value
        centre = share + z**2 / (2 * self.sets)
        half = z * np.sqrt(share * (1 - share) / self.sets + z**2 / (4 * self.sets**2))
        low, high = (centre + np.array([-half, half])) / (1 + z**2 / self.sets)
        return Interval(plain(max(low, 0.0)), plain(min(high, 1.0)))

    @classmethod
    def of(cls, holds: Sequence[bool] | NDArray[np.bool_], size: int, seeds: int) -> "Share":
        """Returns the share of drawn sets for which something holds; each has `size` of all `seeds`."""
        return cls(plain(np.mean(holds)), 1 / (size / seeds + 1 / len(holds)))

    @classmethod
    def pooled(cls, shares: Sequence["Share"]) -> "Share":
        """The mean of shares of different seeds."""
        return cls(plain(np.mean([one.value for one in shares])), sum(one.sets for one in shares))

    def as_json(self) -> dict[str, Any]:
        """The share and its interval."""
        return {"value": self.value, "interval": list(self.interval)}


@dataclass(frozen=True)
class Coverage:
    """How often the intervals of one measure hold the truth.

    Attributes:
        run: name of the run.
        measure: name of the measure, or `mean`.
        size: k.
        truth: the value of all seeds; of a measure that depends on their number, the mean of all sets.
        average: the mean of the sets' values (of a standard deviation the root mean square), divided by the truth.
        share: of the intervals that hold the truth; None where no set has one.
        width: the median width of the intervals, divided by the truth.
        shown: the share of sets that have an interval.
    """

    run: str
    measure: str
    size: int
    truth: float
    average: float | None
    share: Share | None
    width: float | None
    shown: float


@dataclass(frozen=True)
class Verdicts:
    """How often two small sets are called different.

    Attributes:
        first: name of the run that one set is from.
        second: of the run that the other set is from; the same where no difference is right.
        test: `t-test` of the scores at 5 %, Welch's or of pairs; `best of n`, whose best scores differ by .01 or more;
            `compare, mean score` and `compare, any measure`, the verdicts of `jaxstab.compare`.
        size: k, of each.
        share: of the sets that are called different.
    """

    first: str
    second: str
    test: str
    size: int
    share: Share


@dataclass(frozen=True)
class Ranking:
    """How well small sets rank methods by one measure.

    Attributes:
        task: name of the task.
        measure: name of the measure, or `mean`.
        size: k, of each method.
        pairs: the share of pairs of methods that come in the order that they have with all seeds.
        best: the share of sets in which the same method is the best.
    """

    task: str
    measure: str
    size: int
    pairs: float
    best: Share


def draw_sets(rng: np.random.Generator, seeds: int, size: int, draws: int) -> Places:
    """Returns the places [R, k] of the seeds of each set."""
    return np.argsort(rng.random((draws, seeds)), axis=1)[:, :size]


def find_coverage(
    sample: Sample, names: Sequence[str], size: int, draws: int, rng: np.random.Generator
) -> list[Coverage]:
    """Counts how often the intervals of small sets hold the values of all seeds.

    Args:
        sample: S seeds, with distances of all pairs.
        names: names of measures, and `mean`.
        size: k.
        draws: R.
        rng: draws the sets.
    """
    whole = sample.rows(names)
    found: dict[str, list[tuple[float | None, Interval | None]]] = {}
    for places in draw_sets(rng, sample.seeds, size, draws):
        for name, row in sample.take(places.tolist()).rows(names).items():
            found.setdefault(name, []).append((row["value"], row["interval"]))
    rows = [count_held(sample, name, sets, size, whole[name]["value"]) for name, sets in found.items()]
    return [row for row in rows if row is not None]


def count_held(
    sample: Sample, name: str, sets: Sequence[tuple[float | None, Interval | None]], size: int, truth: float | None
) -> Coverage | None:
    """Counts how many intervals hold the truth; None if there is none, or no value.

    Args:
        sample: S seeds.
        name: name of the measure, or `mean`.
        sets: the value and the interval of each small set.
        size: k.
        truth: the value of all seeds.
    """
    values = np.array([value for value, _ in sets if value is not None])
    if not len(values):
        return None
    average = float(np.sqrt((values**2).mean()) if name in STANDARD_DEVIATIONS else values.mean())
    if name in MEASURES and MEASURES[name].grows:
        truth = average
    if truth is None:
        return None
    # A set is a part of all seeds, so its value is nearer to theirs than to that of endlessly many, by this factor.
    nearer = np.sqrt(1 - size / sample.seeds)
    ends = [(value, one) for value, one in sets if value is not None and one is not None]
    held = [one.low - 1e-9 <= value + (truth - value) / nearer <= one.high + 1e-9 for value, one in ends]
    unit = abs(truth) or 1.0
    return Coverage(
        sample.name,
        name,
        size,
        plain(truth),
        plain_or_none(average / truth) if truth else None,
        Share.of(held, size, sample.seeds) if ends else None,
        plain(np.median([one.high - one.low for _, one in ends]) / unit) if ends else None,
        plain(len(ends) / len(sets)),
    )


def find_verdicts(
    first: Sample, second: Sample | None, names: Sequence[str], size: int, draws: int, rng: np.random.Generator
) -> list[Verdicts]:
    """Counts how often two small sets are called different.

    Args:
        first: S seeds.
        second: seeds of another method, in the same order where both have the same; None for two sets of the first,
            which are never different.
        names: names of measures, and `mean`.
        size: k, of each set.
        draws: R.
        rng: draws the sets.
    """
    paired = second is not None and _same_seeds(first, second)
    seeds = first.seeds if second is None else min(first.seeds, second.seeds)
    called: dict[str, list[bool]] = {T_TEST: [], BEST: [], OF_MEAN: [], OF_MEASURES: []}
    for places in draw_sets(rng, seeds, 2 * size if second is None else size, draws):
        one = first.take(places[:size].tolist())
        other = first.take(places[size:].tolist()) if second is None else second.take(places.tolist())
        assert one.scores is not None
        assert other.scores is not None
        called[T_TEST].append(_t_test(one.scores, other.scores, paired) <= SIGNIFICANT)
        called[BEST].append(bool(abs(one.scores.max() - other.scores.max()) >= BEST_BY - 1e-9))
        groups = {"": {"first": one, "second": other}}
        differences = find_differences(groups, {"": paired and size >= FEWEST_PAIRS}, "first", names, [])
        clear = {row.measure for row in differences if row.clear}
        called[OF_MEAN].append(MEAN in clear)
        called[OF_MEASURES].append(bool(clear - {MEAN, FAILED}))
    together = 2 * size if second is None else size
    names_of = (first.name, (second or first).name)
    return [Verdicts(*names_of, test, size, Share.of(each, together, seeds)) for test, each in called.items()]


def find_rankings(
    task: str, group: Mapping[str, Sample], names: Sequence[str], size: int, draws: int, rng: np.random.Generator
) -> list[Ranking]:
    """Counts how often small sets of each method rank the methods as all seeds do.

    Args:
        task: name of the task.
        group: at least two methods.
        names: names of measures, and `mean`.
        size: k, of each method.
        draws: R.
        rng: draws the sets; the same seeds of every method where all have as many.
    """
    seeds = min(one.seeds for one in group.values())
    places = draw_sets(rng, seeds, size, draws)
    of_methods: list[dict[str, Floats]] = []
    for one in group.values():
        masks = np.zeros((1 + draws, one.seeds), bool)
        masks[0] = True
        np.put_along_axis(masks[1:], places, values=True, axis=1)
        of_methods.append({name: found[-1] for name, found in one.subsets(names, masks).items()})
    rows = []
    upper = np.triu_indices(len(group), 1)
    for name in names:
        values = np.stack([one[name] for one in of_methods], axis=1)
        if not np.isfinite(values).all():
            continue
        signs = np.sign(values[:, upper[0]] - values[:, upper[1]])
        larger = name == MEAN or not MEASURES[name].larger_is_less_stable
        winners = (values if larger else -values).argmax(axis=1)
        best = Share.of(winners[1:] == winners[0], size, seeds)
        rows.append(Ranking(task, name, size, plain((signs[1:] == signs[0]).mean()), best))
    return rows


def _same_seeds(first: Sample, second: Sample) -> bool:
    return first.identities is not None and first.identities == second.identities


def _t_test(one: Floats, other: Floats, paired: bool) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # scores that are all equal: the p-value is NaN, and nothing is called different
        found = ttest_rel(one, other) if paired else ttest_ind(one, other, equal_var=False)
    return float(found.pvalue)
