"""Differences of methods from a baseline: estimates, tests, and what is adjusted for what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, fisher_exact

from jaxstab.analysis.aggregates import aggregate
from jaxstab.analysis.comparison import ALL_TASKS, FAILED, INTERQUARTILE_MEAN, REMAINING, Difference
from jaxstab.analysis.effects import Estimate, average, difference, hedges, log_ratio, share_difference
from jaxstab.analysis.matching import FEWEST_SEEDS
from jaxstab.analysis.permutation import (
    RESAMPLES,
    Differences,
    Exchange,
    holm,
    make_exchange,
    mean_differences,
    p_value,
    p_values,
    sizes,
)
from jaxstab.analysis.pooling import aligned_differences, differences_after, pool
from jaxstab.analysis.sample import Sample
from jaxstab.measures import (
    MEAN,
    MEASURES,
    STANDARD_DEVIATIONS,
    Interval,
    plain_or_none,
    remaining_sd,
)

Floats = NDArray[np.float64]

FEWEST_TRIMMED = 4  # of fewer seeds no quarter can be cut off


@dataclass(frozen=True)
class Found:
    """A method against the baseline on one task.

    Attributes:
        exchange: how seeds are exchanged.
        tested: for each quantity its differences after every exchange.
        aligned: for each standard deviation those of the second test, which must agree.
        differences: for each quantity the estimated difference; None without an interval for either method.
        ratios: the estimated logarithm of the ratio; None also where it is not defined.
        values: for each quantity the baseline's value and the method's.
    """

    exchange: Exchange
    tested: dict[str, Differences]
    aligned: dict[str, Differences]
    differences: dict[str, Estimate | None]
    ratios: dict[str, Estimate | None]
    values: dict[str, tuple[float, float]]


def find_differences(
    tasks: Mapping[str, Mapping[str, Sample]],
    paired: Mapping[str, bool],
    baseline: str,
    names: Sequence[str],
    notes: list[str],
) -> list[Difference]:
    """Compares every method with the baseline on each task, and over all tasks if there are several.

    Args:
        tasks: by task and method, the seeds.
        paired: by task, whether all methods have the same seeds in the same order.
        baseline: name of the method that the others are compared with.
        names: names of measures, and `mean`.
        notes: where to say what cannot be tested.
    """
    found: dict[str, dict[str, Found]] = {}
    rows: list[Difference] = []
    for task, group in tasks.items():
        others = [method for method in group if method != baseline]
        if min(one.seeds for one in group.values()) < FEWEST_SEEDS:
            continue
        found[task] = {
            method: _against(group[baseline], group[method], names, paired[task], notes) for method in others
        }
        of_task = [_on_task(task, method, one, group[baseline], group[method]) for method, one in found[task].items()]
        failed = [_failed(task, method, group[baseline], group[method]) for method in others]
        rows += adjust([*of_task, [one for one in failed if one is not None]])
        notes += _too_few(task, [one.exchange for one in found[task].values()])
    if len(found) > 1:
        everywhere = [
            method for method in next(iter(found.values())) if all(method in of_task for of_task in found.values())
        ]
        merged = [_over_tasks(method, [of_task[method] for of_task in found.values()]) for method in everywhere]
        rows += adjust(merged)
    return rows


def values_of(group: Mapping[str, Sample], names: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """By method, the row of each measure, and of what is shown beside the measures."""
    some = any(_count_failed(one)[0] for one in group.values())
    found = {}
    for name, one in group.items():
        count, of = _count_failed(one)
        ends = binomtest(count, of).proportion_ci(method="exact")
        share = {FAILED: {"value": plain_or_none(count / of), "interval": Interval.of((ends.low, ends.high))}}
        found[name] = one.rows(names) | _interquartile_mean(one) | _remaining(one) | (share if some else {})
    return found


def _interquartile_mean(one: Sample) -> dict[str, dict[str, Any]]:
    if one.scores is None or one.seeds < FEWEST_TRIMMED:
        return {}
    return {INTERQUARTILE_MEAN: aggregate([one.scores])[INTERQUARTILE_MEAN]._asdict()}


def _remaining(one: Sample) -> dict[str, dict[str, Any]]:
    inputs = one.inputs
    outputs = inputs.outputs_for(one.metric)
    if outputs is None or inputs.labels is None or one.seeds < 3 or inputs.examples < 3:
        return {}
    found = remaining_sd(one.metric, outputs, inputs.labels, inputs.classes)
    return {REMAINING: {"value": plain_or_none(found.remaining), "interval": found.interval}}


def _against(first: Sample, second: Sample, names: Sequence[str], paired: bool, notes: list[str]) -> Found:
    exchange = make_exchange(first.seeds, second.seeds, paired)
    tested, aligned = _tested(exchange, first, second, names)
    untested = [name for name in names if name not in tested]
    if untested:
        notes.append(
            f"{first.task}: not tested for {second.name}: {', '.join(untested)}; where seeds failed, that needs "
            "representations of both runs ([output] keep_representations = true), or --without-failed"
        )
    left_out = [one.left_out(names) for one in (first, second)]
    rows = [one.rows(names) for one in (first, second)]
    differences: dict[str, Estimate | None] = dict.fromkeys(names)
    ratios: dict[str, Estimate | None] = dict.fromkeys(names)
    for name in names:
        one, other = (found[name] for found in left_out)
        if name == MEAN or all(row[name]["interval"] is not None for row in rows):
            differences[name] = difference(one, other, paired)
            ratios[name] = None if name == MEAN or MEASURES[name].low < 0 else log_ratio(one, other, paired)
    values = {name: (left_out[0][name][0], left_out[1][name][0]) for name in names}
    return Found(exchange, tested, aligned, differences, ratios, values)


def _tested(
    exchange: Exchange, first: Sample, second: Sample, names: Sequence[str]
) -> tuple[dict[str, Differences], dict[str, Differences]]:
    """The differences of each quantity after every exchange, without those that cannot be tested; and the aligned."""
    pooled = pool(first, second, names)
    found = {}
    for name in names:
        if name in pooled.names:
            found[name] = differences_after(exchange, pooled, name)
        elif not (first.failed.any() or second.failed.any()):
            # Without distances between the methods, contributions stand in for seeds. With failed seeds that would
            # find differences where there are none (benchmarks/verdicts.py).
            contributions = [one.contributions([name])[name] for one in (first, second)]
            found[name] = mean_differences(exchange, contributions[0], contributions[1])
    aligned = {name: aligned_differences(exchange, pooled, name) for name in found}
    return found, {name: one for name, one in aligned.items() if one is not None}


def _on_task(task: str, method: str, found: Found, first: Sample, second: Sample) -> list[Difference]:
    rows = []
    names = list(found.tested)
    p, within = p_values_of(
        {name: sizes([found.tested[name]]) for name in names},
        {name: sizes([one]) for name, one in found.aligned.items()},
    )
    for name in names:
        value, other = found.values[name]
        estimate, ratio = found.differences[name], found.ratios[name]
        effect = hedges(*(_scores(one) for one in (first, second))) if name == MEAN else None
        rows.append(
            Difference(
                task,
                method,
                name,
                plain_or_none(other - value),
                None if estimate is None else estimate.interval,
                plain_or_none(effect) if effect is not None else _exp(ratio),
                _exp_interval(ratio),
                p[name],
                within[name],
            )
        )
    return rows


def _over_tasks(method: str, found: Sequence[Found]) -> list[Difference]:
    """The mean difference of scores, and geometric means of ratios; seeds of each task are exchanged independently."""
    names = [
        name
        for name in found[0].tested
        if all(name in one.tested and (name == MEAN or min(one.values[name]) > 0) for one in found)
    ]
    rng, redrawn, aligned = np.random.default_rng(0), [], []
    for one in found:
        # Scores are compared as they are, standard deviations by their logarithms, other measures as shares.
        scales = {name: 1.0 if name in (MEAN, *STANDARD_DEVIATIONS) else 1 / one.values[name][0] for name in names}
        drawn = np.r_[0, rng.integers(0, len(one.exchange.members), RESAMPLES)]
        redrawn.append({name: one.tested[name].at(drawn, scales[name]) for name in names})
        aligned.append({name: one.aligned[name].at(drawn, 1.0) for name in names if name in one.aligned})
    p, within = p_values_of(
        {name: sizes([one[name] for one in redrawn]) for name in names},
        {name: sizes([one[name] for one in aligned]) for name in aligned[0]},
    )
    differences = []
    for name in names:
        estimates = [one.differences[name] if name == MEAN else one.ratios[name] for one in found]
        known = average([one for one in estimates if one is not None]) if all(estimates) else None
        mean = known if name == MEAN else None
        differences.append(
            Difference(
                ALL_TASKS,
                method,
                name,
                None if mean is None else plain_or_none(mean.value),
                None if mean is None else mean.interval,
                None if name == MEAN else _exp(known),
                None if name == MEAN else _exp_interval(known),
                p[name],
                within[name],
            )
        )
    return differences


def _failed(task: str, method: str, first: Sample, second: Sample) -> Difference | None:
    """The share of failed seeds, by Fisher's exact test; None if no seed failed."""
    counts = [_count_failed(one) for one in (first, second)]
    if not any(count for count, _ in counts):
        return None
    p = float(fisher_exact([[count, of - count] for count, of in counts]).pvalue)
    value, interval = share_difference(*counts)
    return Difference(task, method, FAILED, plain_or_none(value), interval, None, None, p, p)


def _count_failed(one: Sample) -> tuple[int, int]:
    """How many seeds failed or diverged, and of how many."""
    return int(one.failed.sum()) + len(one.diverged), one.seeds + len(one.diverged)


def p_values_of(
    of_each: Mapping[str, Floats], aligned: Mapping[str, Floats]
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns p-values of each quantity: by itself, and adjusted within its family.

    The mean score is a family of its own, and the measures are another.

    Args:
        of_each: for each quantity, the distance [R] between the groups after every exchange.
        aligned: for some of them the distance [R] by a second test, which must agree.
    """
    p: dict[str, float] = {}
    within: dict[str, float] = {}
    for family in ([name for name in of_each if name == MEAN], [name for name in of_each if name != MEAN]):
        if family:
            second = [p_value(aligned[name]) if name in aligned else 0.0 for name in family]
            single, adjusted = p_values(np.stack([of_each[name] for name in family], axis=1), second)
            p |= dict(zip(family, single.tolist(), strict=True))
            within |= dict(zip(family, adjusted.tolist(), strict=True))
    return p, within


def adjust(methods: Sequence[Sequence[Difference]]) -> list[Difference]:
    """Adjusts p-values for the number of methods: by Holm for the mean score and for failures, else by Bonferroni.

    Holm's smaller factors would be wrong for measures, of which each method has several: that one of them is rejected
    does not mean that all of the method's are false.
    """
    rows = [row for of_method in methods for row in of_method]
    count = len({row.method for row in rows})
    adjusted = {id(row): min(1.0, count * row.adjusted) for row in rows}
    for name in (MEAN, FAILED):
        family = [row for row in rows if row.measure == name]
        adjusted |= {id(row): p for row, p in zip(family, holm([row.p for row in family]), strict=True)}
    return [replace(row, adjusted=adjusted[id(row)]) for row in rows]


def _too_few(task: str, exchanges: Sequence[Exchange]) -> list[str]:
    smallest = max(one.smallest_p for one in exchanges)
    if smallest * len(exchanges) <= 0.05:
        return []
    return [f"{task}: so few seeds give no p below {smallest * len(exchanges):.2g}, so no difference can be clear"]


def _scores(one: Sample) -> Floats:
    assert one.scores is not None
    return one.scores


def _exp(estimate: Estimate | None) -> float | None:
    return None if estimate is None else plain_or_none(np.exp(estimate.value))


def _exp_interval(estimate: Estimate | None) -> Interval | None:
    return None if estimate is None or estimate.interval is None else Interval.of(np.exp(estimate.ends()))
