"""Does a method help? Each method against a baseline, and a verdict that says when it cannot tell."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jaxstab.analysis.comparison import ALL_TASKS, Comparison, Difference
from jaxstab.analysis.matching import FEWEST_SEEDS, by_task, choose_baseline, common_measures, equal_seeds
from jaxstab.analysis.permutation import (
    Exchange,
    difference_interval,
    make_exchange,
    mean_ratio_interval,
    mean_sizes,
    p_values,
    spread_ratio_interval,
    spread_sizes,
)
from jaxstab.analysis.ranking import compare_rankings
from jaxstab.analysis.sample import Sample, Sources, as_samples
from jaxstab.errors import InputError
from jaxstab.measures import MEAN, STANDARD_DEVIATIONS, Interval, plain_or_none

Floats = NDArray[np.float64]


def compare(
    samples: Sources,
    *,
    baseline: str | None = None,
    only: Sequence[str] | None = None,
    metric: str | None = None,
    labels: str | Path | None = None,
    without_failed: bool = False,
) -> Comparison:
    """Compares methods, each by its seeds on one task or on each of several.

    Args:
        samples: one for each method and task: a `Sample`, a `Run`, or a path as for `jaxstab.measure`, optionally
            written `NAME=PATH`; or a mapping from method names to these. Samples with the same name are one method;
            samples with the same labels are on one task.
        baseline: name of the method that the others are compared with; default: a run without any method, or else
            `standard`, or else the first.
        only: names of measures; default: the mean score and those of the paper's seven that all samples have.
        metric: the score for sources read from a path; default: the run's own metric, otherwise accuracy.
        labels: file with the true labels, for sources that do not hold them.
        without_failed: whether to leave out failed seeds.

    Returns:
        Values of every method, differences from the baseline with intervals and adjusted p-values, and verdicts.

    Raises:
        InputError: something cannot be read or compared, or two samples have the same method and task.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(2, size=100)
        >>> def method(name, accuracy):
        ...     votes = np.where(rng.random((8, 100)) < accuracy, labels, 1 - labels)
        ...     return Sample.from_arrays(name, predictions=votes, labels=labels, task="toy")
        >>> found = compare([method("standard", 0.7), method("better", 0.9)], only=["sd"])
        >>> found
        better against standard on toy: better accuracy (+0.230); cannot tell by sd
        >>> found.to_frame()[["method", "measure", "difference"]].round(3)
           method measure  difference
        0  better    mean       0.230
        1  better      sd      -0.003
    """
    given = as_samples(samples, metric=metric, labels=labels, only=only)
    return _compare([one.without_failed() for one in given] if without_failed else given, baseline, only)


def _compare(samples: Sequence[Sample], baseline: str | None, only: Sequence[str] | None) -> Comparison:
    if not samples:
        raise InputError("nothing to compare; give at least two runs or samples")
    empty = next((one for one in samples if one.seeds == 0), None)
    if empty is not None:
        raise InputError(f"{empty.source}: no seed is left to compare")
    methods = list(dict.fromkeys(one.name for one in samples))
    if len(methods) < 2:
        raise InputError(
            f"{samples[0].source}: one method only ({methods[0]}); give at least two runs, "
            "as NAME=RUN if they have the same name"
        )
    baseline = choose_baseline(samples, methods, baseline)
    methods = [baseline, *(name for name in methods if name != baseline)]
    notes: list[str] = []
    names = common_measures(samples, only, notes)
    tasks: dict[str, dict[str, Sample]] = {}
    paired: dict[str, bool] = {}
    for task, group in by_task(samples).items():
        if baseline not in group or len(group) < 2:
            notes.append(
                f"{task}: {', '.join(group)} only, nothing to compare {'it' if len(group) == 1 else 'them'} with"
            )
            continue
        tasks[task], paired[task] = equal_seeds(task, {name: group[name] for name in methods if name in group}, notes)
    if not tasks:
        raise InputError(
            f"{samples[0].source}: no two of these are on the same test examples; compare runs of the same task"
        )
    differences = _differences(tasks, paired, baseline, methods, names)
    return Comparison(
        baseline,
        methods,
        metrics={task: group[baseline].metric for task, group in tasks.items()},
        seeds={task: group[baseline].seeds for task, group in tasks.items()},
        paired=paired,
        values={task: {name: one.rows(names) for name, one in group.items()} for task, group in tasks.items()},
        scores={
            task: {name: [] if one.scores is None else one.scores.tolist() for name, one in group.items()}
            for task, group in tasks.items()
        },
        differences=differences,
        rankings={
            task: compare_rankings(group, names, paired[task]) for task, group in tasks.items() if len(group) > 2
        },
        notes=notes,
    )


def _differences(
    tasks: Mapping[str, Mapping[str, Sample]],
    paired: Mapping[str, bool],
    baseline: str,
    methods: Sequence[str],
    names: Sequence[str],
) -> list[Difference]:
    """The differences on each task, and over all tasks if there are several."""
    usable = {task: group for task, group in tasks.items() if group[baseline].seeds >= FEWEST_SEEDS}
    given = {task: {name: one.contributions(names) for name, one in group.items()} for task, group in usable.items()}
    scores = {task: {name: one.scores for name, one in group.items()} for task, group in usable.items()}
    found: list[Difference] = []
    for task, group in given.items():
        found += _holm(
            [
                one
                for method in methods[1:]
                if method in group
                for one in _against_baseline(
                    task,
                    method,
                    group[baseline],
                    group[method],
                    scores[task][baseline],
                    scores[task][method],
                    paired[task],
                )
            ]
        )
    if len(given) > 1:
        everywhere = [method for method in methods[1:] if all(method in group for group in given.values())]
        merged = {
            name: _merge([group[name] for group in given.values()], [group[baseline] for group in given.values()])
            for name in (baseline, *everywhere)
        }
        pairs = all(paired[task] for task in given)
        found += _holm(
            [
                one
                for method in everywhere
                for one in _against_baseline(ALL_TASKS, method, merged[baseline], merged[method], None, None, pairs)
            ]
        )
    return found


def _merge(of_tasks: Sequence[Mapping[str, Floats]], baselines: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """Contributions of equally many seeds, averaged over tasks; except for the mean score, relative to the baseline."""
    fewest = min(len(next(iter(one.values()))) for one in of_tasks)
    merged = {}
    for name in of_tasks[0]:
        scales = [1.0 if name == MEAN else one[name].mean() for one in baselines]
        if all(scale > 0 for scale in scales) or name == MEAN:
            merged[name] = np.mean(
                [one[name][:fewest] / scale for one, scale in zip(of_tasks, scales, strict=True)], axis=0
            )
    return merged


def _against_baseline(
    task: str,
    method: str,
    first: Mapping[str, Floats],
    second: Mapping[str, Floats],
    scores: Floats | None,
    other_scores: Floats | None,
    paired: bool,
) -> list[Difference]:
    """One method against the baseline by every measure, with p-values adjusted for the number of measures."""
    names = [name for name in first if name in second]
    exchange = make_exchange(len(first[names[0]]), len(second[names[0]]), paired)
    spread = scores is not None and other_scores is not None
    sizes = np.stack(
        [
            spread_sizes(exchange, scores, other_scores)  # type: ignore[arg-type]
            if name == "sd" and spread
            else mean_sizes(exchange, first[name], second[name])
            for name in names
        ],
        axis=1,
    )
    p, adjusted = p_values(sizes)
    found = []
    for i, name in enumerate(names):
        compared = (scores, other_scores) if name == "sd" and spread else (first[name], second[name])
        parts = _effects(name, exchange, first[name], second[name], compared, task == ALL_TASKS)  # type: ignore[arg-type]
        found.append(Difference(task, method, name, *parts, float(p[i]), float(adjusted[i])))
    return found


def _effects(
    name: str, exchange: Exchange, first: Floats, second: Floats, compared: tuple[Floats, Floats], relative: bool
) -> tuple[float | None, Interval | None, float | None, Interval | None]:
    """The difference, its interval, the effect and the effect's interval."""
    if name == MEAN:
        interval = difference_interval(exchange, first, second)
        return plain_or_none(second.mean() - first.mean()), Interval.of(interval), _hedges(first, second), None
    power = 0.5 if name in STANDARD_DEVIATIONS else 1.0
    value, other = (max(one.mean(), 0.0) ** power for one in (first, second))
    ratio, ends = None, (np.nan, np.nan)
    if value > 0 and other > 0:
        ratio = other / value
        if compared[0] is first:
            low, high = mean_ratio_interval(exchange, first, second)
            ends = low**power, high**power
        else:
            ends = spread_ratio_interval(exchange, *compared)
    difference = (np.nan, np.nan)
    if not relative:
        # A standard deviation has no contributions of its own. Its interval is that of the ratio, baseline held fixed.
        by_ratio = (value * (ends[0] - 1), value * (ends[1] - 1))
        difference = by_ratio if name in STANDARD_DEVIATIONS else difference_interval(exchange, first, second)
    return (
        None if relative else plain_or_none(other - value),
        Interval.of(difference),
        None if ratio is None else plain_or_none(ratio),
        Interval.of(ends) if ends[0] > 0 else None,
    )


def _hedges(first: Floats, second: Floats) -> float | None:
    """Hedges' g: Cohen's d with the pooled standard deviation, corrected for few seeds (Hedges 1981)."""
    freedom = len(first) + len(second) - 2
    pooled = np.sqrt(((len(first) - 1) * first.var(ddof=1) + (len(second) - 1) * second.var(ddof=1)) / freedom)
    return plain_or_none((second.mean() - first.mean()) / pooled * (1 - 3 / (4 * freedom - 1))) if pooled > 0 else None


def _holm(found: Sequence[Difference]) -> list[Difference]:
    """Adjusts for the number of methods as well: Holm (1979), by each method's smallest p-value."""
    by_method: dict[str, list[Difference]] = {}
    for one in found:
        by_method.setdefault(one.method, []).append(one)
    adjusted: dict[str, list[Difference]] = {}
    largest = 0.0
    order = sorted(by_method, key=lambda method: min(one.adjusted for one in by_method[method]))
    for place, method in enumerate(order):
        factor = len(order) - place
        values = [max(largest, min(1.0, factor * one.adjusted)) for one in by_method[method]]
        adjusted[method] = [replace(one, adjusted=value) for one, value in zip(by_method[method], values, strict=True)]
        largest = min(values)
    return [one for method in by_method for one in adjusted[method]]
