"""Which source of randomness matters: initialisation, order, dropout, split or data; and the noise floor. S seeds."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxstab.analysis.permutation import LEVEL
from jaxstab.analysis.sample import Sample
from jaxstab.config import SOURCES
from jaxstab.measures import MEAN, MEASURES, Interval, plain_or_none

Floats = NDArray[np.float64]

INTERACTIONS, REPEATS = "together", "repeat"
DRAWS = 10_000
ROUNDING = 1e-12  # of all squares: less is rounding, as between repeats that are equal bit for bit
UNKNOWN = "of these seeds it is not known what they share; variance shares need a run"


@dataclass(frozen=True)
class Shares:
    """The share of a quantity's variance over seeds that each source of randomness causes.

    Attributes:
        quantity: `mean` for the score, or a measure of pairs.
        total: the variance over seeds (for a measure: half the mean squared distance, in its own unit).
        shares: for each source; `together` is the interaction of sources (including the residual, unless seeds are
            repeated), `repeat` the variance between repeats of the same seed.
        intervals: 95 % interval of each share; too wide for a measure, because its many dimensions count as one.
        no_effect: the share that each source would get on average if neither it nor any other source had an effect, and
            the end of 95 % of such shares; more than 0, because negative components count as 0. Then seeds would differ
            by the residual only (for `together` by repeats). None for the source that the residual is part of.
    """

    quantity: str
    total: float
    shares: dict[str, float]
    intervals: dict[str, Interval | None]
    no_effect: dict[str, tuple[float, float] | None]

    def untold(self) -> list[str]:
        """Sources that cannot be told from none: the interval begins at 0, or 95 % without effect reach the share."""
        return [
            name
            for name, limits in self.no_effect.items()
            if limits and (self.shares[name] <= limits[1] or not (self.intervals[name] or (0, 0))[0] > 0)
        ]


def variance_shares(sample: Sample, names: Sequence[str]) -> list[Shares]:
    """Divides the variance of scores, predictions and representations among the sources, by analysis of variance.

    Args:
        sample: a run whose seeds cross at least two sources of randomness, all combinations equally often.
        names: names of measures of pairs, and `mean` for the score.

    Raises:
        ValueError: the seeds have another design; the message says what to do.
    """
    levels, repeats = _design(sample)
    found = []
    for name in names:
        if name == MEAN and sample.scores is not None:
            distances = (sample.scores[:, None] - sample.scores) ** 2 / 2
        elif name in sample.distances:
            distances = np.asarray(sample.distances[name][-1], np.float64)
        else:
            continue
        found.append(_shares(name, distances, levels, repeats))
    return found


def noise_floor(sample: Sample, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Compares the differences between repeats of a seed with those between different seeds.

    Args:
        sample: a run with some seeds repeated.
        names: names of measures of pairs, and `mean` for the score.

    Returns:
        For each name: `floor`, the mean distance between repeats of a seed (for the score the standard deviation);
        `value`, the same between different seeds; and `share`, the floor divided by the value.

    Raises:
        ValueError: no seed is repeated.
    """
    keys = [] if sample.identities is None else [one.once for one in sample.identities]
    same = np.array([[one == other for other in keys] for one in keys], bool)
    off_diagonal = ~np.eye(len(keys), dtype=bool)
    if not (same & off_diagonal).any():
        raise ValueError("no seed is repeated; train them again with --seeds.repeats 3 to another --output.dir")
    found = {}
    for name in names:
        if name == MEAN and sample.scores is not None:
            distances, power = (sample.scores[:, None] - sample.scores) ** 2 / 2, 0.5
        elif name in sample.distances:
            distances, power = np.asarray(sample.distances[name][-1], np.float64), 1.0
        else:
            continue
        floor = distances[same & off_diagonal].mean() ** power
        value = distances[~same].mean() ** power if (~same).any() else np.nan
        share = floor / value if value > 0 else np.nan
        found[name] = {"floor": plain_or_none(floor), "value": plain_or_none(value), "share": plain_or_none(share)}
    return found


def _design(sample: Sample) -> tuple[dict[str, NDArray[np.int64]], int]:
    """The level of every seed in each source that varies, and the number of repeats of each combination."""
    if sample.identities is None:
        raise ValueError(UNKNOWN)
    columns = {name: [getattr(one, name) for one in sample.identities] for name in SOURCES}
    levels = {
        name: np.unique(column, return_inverse=True)[1] for name, column in columns.items() if len(set(column)) > 1
    }
    combinations = list(zip(*levels.values(), strict=True))
    counts = {one: combinations.count(one) for one in combinations}
    complete = len(counts) == np.prod([1 + one.max() for one in levels.values()], dtype=int)
    if len(levels) < 2 or not complete or len(set(counts.values())) > 1:
        raise ValueError(
            "seeds do not cross init, order and dropout (nor split or data); for variance shares train with, for "
            "example, --seeds.init [0,1,2,3] --seeds.order [0,1,2,3] --seeds.crossed true"
        )
    return levels, next(iter(counts.values()))


def _shares(quantity: str, distances: Floats, levels: Mapping[str, NDArray[np.int64]], repeats: int) -> Shares:
    """Shares with their intervals, and shares without effect, from halved squared distances."""
    squares, freedom, weights = _sums_of_squares(distances, levels, repeats)
    components = np.maximum(np.linalg.solve(weights, squares / freedom), 0)
    draws = np.random.default_rng(0).chisquare(freedom, (DRAWS, len(freedom)))
    drawn = np.maximum(np.linalg.solve(weights, (squares / draws).T).T, 0)
    names = [*(name for name in levels), INTERACTIONS, *([REPEATS] if repeats > 1 else [])]
    total = components.sum()
    shares, intervals, no_effect = {}, {}, {}
    for name, part in zip(names, _parts(len(levels), len(freedom), repeats > 1), strict=True):
        shares[name] = float(components[part].sum() / total) if total > 0 else 0.0
        with np.errstate(invalid="ignore"):
            quantiles = np.quantile(drawn[:, part].sum(1) / drawn.sum(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        intervals[name] = Interval.of(quantiles)
        # Repeats are the residual of `together`, which is that of its sources.
        residual = len(freedom) - (2 if repeats > 1 and name != INTERACTIONS else 1)
        no_effect[name] = None if name == names[-1] else _no_effect(part, residual, squares, weights, draws / freedom)
    return Shares(quantity, float(total), shares, intervals, no_effect)


def _no_effect(
    part: slice, residual: int, squares: Floats, weights: Floats, mean_squares: Floats
) -> tuple[float, float]:
    """Average share of some effects, and the end of 95 % of shares, where only the residual varies; 0 if it does not.

    Args:
        part: these effects.
        residual: position of the residual among all effects.
        squares: sum of squares of each effect.
        weights: as in `_sums_of_squares`.
        mean_squares: draws of mean squares whose expectation is 1.
    """
    if squares[residual] <= ROUNDING * squares.sum():
        return 0.0, 0.0
    drawn = np.maximum(np.linalg.solve(weights, (weights[:, residual] * mean_squares).T).T, 0)
    shares = drawn[:, part].sum(1) / drawn.sum(1)
    return float(shares.mean()), float(np.quantile(shares, LEVEL))


def _parts(factors: int, effects: int, repeated: bool) -> list[slice]:
    """Slices of the effects: one for each factor, one for the interactions, and one for repeats."""
    last = effects - 1 if repeated else effects
    return [
        *(slice(i, i + 1) for i in range(factors)),
        slice(factors, last),
        *([slice(last, effects)] if repeated else []),
    ]


def _sums_of_squares(
    distances: Floats, levels: Mapping[str, NDArray[np.int64]], repeats: int
) -> tuple[Floats, Floats, Floats]:
    """Sums of squares, degrees of freedom, and the weights of the components in expected mean squares.

    Effects are in the order: each factor, pairs of factors, and so on to all of them, repeats. The model has balanced
    random effects. An expected mean square is the sum of the components that contain its factors, each times its seeds
    per level (Searle, Casella & McCulloch 1992, chapter 4). Distances are turned into centred inner products (Gower
    1966).
    """
    seeds = len(distances)
    centring = np.eye(seeds) - 1 / seeds
    products = -centring @ distances @ centring
    subsets = [one for size in range(1, len(levels) + 1) for one in itertools.combinations(levels, size)]
    projections: dict[tuple[str, ...], Floats] = {(): np.full((seeds, seeds), 1 / seeds)}
    for one in subsets:
        cell = np.stack([levels[name] for name in one])
        same = (cell[:, :, None] == cell[:, None]).all(axis=0)
        projections[one] = same / same.sum(axis=1)
    counts = {name: int(level.max()) + 1 for name, level in levels.items()}
    squares, freedom = [], []
    for one in subsets:
        signed = [
            (-1) ** (len(one) - size) * projections[part]
            for size in range(len(one) + 1)
            for part in itertools.combinations(one, size)
        ]
        squares.append(float((sum(signed) * products).sum()))
        freedom.append(float(np.prod([counts[name] - 1 for name in one])))
    weights = np.array(
        [
            [seeds / np.prod([counts[name] for name in other]) if set(one) <= set(other) else 0.0 for other in subsets]
            for one in subsets
        ]
    )
    if repeats > 1:
        squares.append(float(((np.eye(seeds) - projections[subsets[-1]]) * products).sum()))
        freedom.append(seeds - seeds / repeats)
        weights = np.block([[weights, np.ones((len(subsets), 1))], [np.zeros((1, len(subsets))), np.ones((1, 1))]])
    return np.maximum(squares, 0), np.asarray(freedom), weights


def of_pairs(names: Sequence[str]) -> list[str]:
    """`mean`, and those names that are measures of pairs."""
    return [MEAN, *(name for name in names if name in MEASURES and MEASURES[name].shape == "pairs")]
