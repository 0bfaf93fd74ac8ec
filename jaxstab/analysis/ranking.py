"""How much the measures agree in ranking methods by stability. K methods, M measures, R resamples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from jaxstab.analysis.permutation import LEVEL
from jaxstab.analysis.sample import Sample
from jaxstab.measures import MEAN, MEASURES, Tabular, as_plain

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

RESAMPLES = 1_000
FEWEST_SEEDS = 4


@dataclass(frozen=True, repr=False)
class Agreement(Tabular):
    """Rankings of the methods by each measure, and Kendall's tau between every pair of measures.

    Attributes:
        measures: M names.
        methods: K names.
        ranks: [M, K]; rank 1 is the best mean score or the most stable method; ties get their mean rank.
        tau: [M, M]; NaN where a measure ranks all methods equally.
        intervals: [M, M, 2] 95 % intervals from half-samples of the seeds; NaN with fewer than 4 seeds.
        p: [M, M] exact two-sided p-values; the null hypothesis is independent rankings.
        smallest_p: the smallest p-value that is possible with K methods.
        best: [M, K] share of the half-samples in which a method is the best.
    """

    measures: list[str]
    methods: list[str]
    ranks: Floats
    tau: Floats
    intervals: Floats
    p: Floats
    smallest_p: float
    best: Floats

    @property
    def sentence(self) -> str:
        """The result as one sentence."""
        upper = np.triu_indices(len(self.measures), 1)
        significant = int((self.p[upper] <= 1 - LEVEL).sum())
        count = len(upper[0])
        if not count:
            return "One measure only: no rankings to compare."
        if np.isnan(self.tau[upper]).all():
            return "No two measures rank the methods, so their rankings cannot be compared."
        found = (
            f"Kendall's tau between rankings: median {np.nanmedian(self.tau[upper]):.2f} of {count} pairs of measures"
        )
        methods = len(self.methods)
        if self.smallest_p > 1 - LEVEL:
            return f"{found}; with {methods} methods none can differ from 0 at 5 % (smallest p {self.smallest_p:.2g})."
        possible = f"smallest p that {methods} methods can give: {self.smallest_p:.2g}"
        return f"{found}; {significant} differ from 0 at 5 %, unadjusted ({possible})."

    def __repr__(self) -> str:
        """The sentence."""
        return self.sentence

    def to_frame(self) -> "pd.DataFrame":
        """Returns a tidy data frame: a row for every pair of measures.

        Columns: `measure`, `other`, Kendall's `tau` between their rankings, `low` and `high` of its 95 % interval, `p`.
        """
        import pandas as pd

        rows = [
            (self.measures[i], self.measures[j], self.tau[i, j], *self.intervals[i, j], self.p[i, j])
            for i, j in zip(*np.triu_indices(len(self.measures), 1), strict=True)
        ]
        return pd.DataFrame(rows, columns=["measure", "other", "tau", "low", "high", "p"])

    def as_json(self) -> dict[str, Any]:
        """Returns plain values; NaN is None."""
        parts = ("measures", "methods", "smallest_p", "ranks", "tau", "intervals", "p", "best")
        return {name: as_plain(getattr(self, name)) for name in parts}


def half_samples(seeds: int, resamples: int = RESAMPLES) -> NDArray[np.bool_]:
    """Draws R random halves of the seeds, each without replacement: masks [R, S].

    An average over a half varies around that of all seeds as the average of new seeds varies around the truth (the
    delete-half jackknife, Shao & Wu 1989). Without replacement, no seed is ever paired with itself.
    """
    order = np.random.default_rng(0).permuted(np.tile(np.arange(seeds), (resamples, 1)), axis=1)
    return order < seeds // 2


def compare_rankings(group: Mapping[str, Sample], names: Sequence[str], paired: bool) -> Agreement:
    """Ranks methods by each measure.

    Args:
        group: one sample for each method; as many seeds are used of each as the method with the fewest has.
        names: names of measures, or `mean`.
        paired: whether all methods have the same seeds; the same halves are then drawn for all.
    """
    methods, count = list(group), len(names)
    seeds = min(one.seeds for one in group.values())
    group = {name: one.take(range(seeds)) for name, one in group.items()}
    signs = np.array([-1.0 if name == MEAN or not MEASURES[name].larger_is_less_stable else 1.0 for name in names])
    everything = {name: _values(one, names, np.ones((1, one.seeds), bool)) for name, one in group.items()}
    values = signs[:, None] * np.stack([everything[name][:, 0] for name in methods], axis=1)
    tau, p = np.full((2, count, count), np.nan)
    intervals = np.full((count, count, 2), np.nan)
    best = np.full((count, len(methods)), np.nan)
    for i in range(count):
        for j in range(count):
            tau[i, j], p[i, j] = kendalltau(values[i], values[j], method="auto")
    if seeds >= FEWEST_SEEDS:
        drawn = _resampled(group, names, seeds, paired) * signs[:, None, None]
        first = drawn == drawn.min(axis=1, keepdims=True)
        best = (first / first.sum(axis=1, keepdims=True)).mean(axis=2)
        tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        taus = _taus(drawn)
        usable = np.isfinite(taus).mean(axis=2) > LEVEL
        intervals[usable] = np.moveaxis(np.nanquantile(taus[usable], tails, axis=-1), 0, -1)
    smallest = kendalltau(range(len(methods)), range(len(methods))).pvalue
    return Agreement(list(names), methods, rankdata(values, axis=1), tau, intervals, p, float(smallest), best)


def _values(one: Sample, names: Sequence[str], masks: NDArray[np.bool_]) -> Floats:
    """Values [M, R] of the last layer."""
    found = one.subsets(names, masks)
    return np.stack([found[name][-1] for name in names])


def _resampled(group: Mapping[str, Sample], names: Sequence[str], seeds: int, paired: bool) -> Floats:
    """Values [M, K, R]."""
    masks = half_samples(seeds)
    rng = np.random.default_rng(1)
    by_method = []
    for one in group.values():
        by_method.append(_values(one, names, masks))
        masks = masks if paired else rng.permuted(masks, axis=1)
    return np.stack(by_method, axis=1)


def _taus(values: Floats) -> Floats:
    """Kendall's tau b [M, M, R] between measures, from values [M, K, R]; NaN where all methods tie."""
    first, second = np.triu_indices(values.shape[1], 1)
    signs = np.sign(values[:, first] - values[:, second])
    products = np.einsum("ipr,jpr->ijr", signs, signs)
    ties = np.sqrt(np.einsum("ipr,ipr->ir", signs, signs))
    with np.errstate(invalid="ignore"):
        return np.clip(products / (ties[:, None] * ties[None]), -1, 1)
