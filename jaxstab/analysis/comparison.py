"""Does a method help? Each method against a baseline, and a verdict that says when it cannot tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
from jaxstab.analysis.ranking import Agreement, compare_rankings
from jaxstab.analysis.sample import STANDARD_DEVIATIONS, Sample, finite, finite_interval, load_named
from jaxstab.errors import InputError
from jaxstab.measures import MEAN, MEASURES

Floats = NDArray[np.float64]

ALL_TASKS = "all tasks"
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Difference:
    """A method against the baseline, by one measure on one task.

    Attributes:
        task: or `all tasks`.
        method: that is compared.
        measure: or `mean`, the mean score.
        difference: method minus baseline, in the measure's unit; None over several tasks, whose scales differ (but not
            of the mean score).
        interval: 95 % interval of the difference, from permutations; None where there are too few seeds for one.
        effect: of the mean score Hedges' g (the difference in standard deviations over seeds); of a measure the ratio
            of method to baseline; None where that is not defined.
        effect_interval: 95 %, of a ratio.
        p: two-sided, of a permutation test.
        adjusted: for all measures (step-down min p) and all methods (Holm).
    """

    task: str
    method: str
    measure: str
    difference: float | None
    interval: list[float] | None
    effect: float | None
    effect_interval: list[float] | None
    p: float
    adjusted: float

    @property
    def clear(self) -> bool:
        """Whether there is a difference, at 5 % for the whole comparison."""
        return self.adjusted <= SIGNIFICANT

    @property
    def better(self) -> bool | None:
        """Whether the method is better than the baseline (higher score, more stable); None if it cannot be told."""
        if not self.clear:
            return None
        higher = self.difference > 0 if self.difference is not None else (self.effect or 0) > 1
        return higher == (self.measure == MEAN or not MEASURES[self.measure].larger_is_less_stable)


@dataclass(frozen=True)
class Comparison:
    """Methods side by side.

    Attributes:
        baseline: the method that the others are compared with.
        methods: all of them, the baseline first.
        metrics: the score of each task.
        seeds: of each task, how many each method has after sub-sampling.
        paired: of each task, whether the seeds are the same ones.
        values: of each task and method, each measure's `value` and `interval`.
        scores: of each task and method, the seeds' scores.
        differences: against the baseline; with several tasks also over all of them.
        rankings: of each task, how much the measures agree on the order of the methods; None with fewer than 3 methods.
        notes: what was left out, and why; one line each.
    """

    baseline: str
    methods: list[str]
    metrics: dict[str, str]
    seeds: dict[str, int]
    paired: dict[str, bool]
    values: dict[str, dict[str, dict[str, dict[str, Any]]]]
    scores: dict[str, dict[str, list[float]]]
    differences: list[Difference]
    rankings: dict[str, Agreement]
    notes: list[str] = field(default_factory=list)

    @property
    def measures(self) -> list[str]:
        """The measures that all samples have, `mean` first."""
        return list(next(iter(next(iter(self.values.values())).values())))

    def of(self, task: str, method: str) -> list[Difference]:
        """The differences of one method on one task."""
        return [one for one in self.differences if (one.task, one.method) == (task, method)]

    def verdict(self, task: str, method: str) -> str:
        """One line: what can be said of a method against the baseline, and what cannot."""
        found = self.of(task, method)
        metric = self.metrics.get(task, "score")
        start = f"{method} against {self.baseline} on {task}: "
        if not any(one.clear for one in found):
            p = min(one.adjusted for one in found)
            return f"{start}cannot tell (smallest adjusted p = {p:.2g} of {len(found)} quantities)"
        parts = []
        for one in (one for one in found if one.measure == MEAN and one.clear):
            parts.append(f"{'better' if one.better else 'worse'} {metric} ({one.difference:+.3f})")
        for word, better in (("more stable", True), ("less stable", False)):
            names = [one.measure for one in found if one.measure != MEAN and one.better is better]
            parts += [f"{word} by {', '.join(names)}"] if names else []
        unclear = [metric if one.measure == MEAN else one.measure for one in found if not one.clear]
        parts += [f"cannot tell by {', '.join(unclear)}"] if unclear else []
        return start + "; ".join(parts)

    @property
    def verdicts(self) -> list[str]:
        """One line for each method and task, over all tasks first."""
        tasks = [ALL_TASKS] * (len(self.values) > 1) + list(self.values)
        return [self.verdict(task, method) for task in tasks for method in self.methods[1:] if self.of(task, method)]

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        kept = ("baseline", "methods", "metrics", "seeds", "paired", "values", "scores", "notes")
        return {
            **{name: getattr(self, name) for name in kept},
            "differences": [{**vars(one), "clear": one.clear, "better": one.better} for one in self.differences],
            "rankings": {task: one.as_json() for task, one in self.rankings.items()},
            "verdicts": self.verdicts,
        }


def compare(
    paths: Sequence[str | Path],
    *,
    baseline: str | None = None,
    only: Sequence[str] | None = None,
    metric: str | None = None,
    labels: str | Path | None = None,
    without_failed: bool = False,
) -> Comparison:
    """Compares methods by their runs, or by outputs of any other framework.

    Args:
        paths: as for `jaxstab.measure`, each perhaps as `NAME=PATH`; runs of one name on several tasks are one method.
        baseline: name of the method that the others are compared with.
        only: names of measures; the mean score and the paper's seven by default.
        metric: the score; that of the runs, otherwise accuracy.
        labels: a file with the true labels, where they are not beside the predictions.
        without_failed: leave failed seeds out.

    Raises:
        InputError: something cannot be read or compared.
    """
    samples = [load_named(path, metric=metric, labels=labels, only=only) for path in paths]
    if without_failed:
        samples = [one.without_failed() for one in samples]
    return compare_samples(samples, baseline, only)


def compare_samples(
    samples: Sequence[Sample], baseline: str | None = None, only: Sequence[str] | None = None
) -> Comparison:
    """Compares methods, each a sample of seeds on one task or on each of several.

    Args:
        samples: those of one method have one name; those of one task the same test examples.
        baseline: name of the method that the others are compared with; by default a run without any method, or else
            `standard`, or else the first.
        only: measures; the mean score and the paper's seven, as far as all samples have them, by default.

    Raises:
        InputError: nothing to compare, or two samples of the same method and task.
    """
    empty = next((one for one in samples if one.seeds == 0), None)
    if empty is not None:
        raise InputError(f"{empty.path}: no seed is left to compare")
    methods = list(dict.fromkeys(one.name for one in samples))
    if len(methods) < 2:
        raise InputError(
            f"{samples[0].path}: one method only ({methods[0]}); give at least two runs, "
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
            f"{samples[0].path}: no two of these are on the same test examples; compare runs of the same task"
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
    """Of every task, and of all together where there are several."""
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
                for one in _compare(
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
                for one in _compare(ALL_TASKS, method, merged[baseline], merged[method], None, None, pairs)
            ]
        )
    return found


def _merge(of_tasks: Sequence[Mapping[str, Floats]], baselines: Sequence[Mapping[str, Floats]]) -> dict[str, Floats]:
    """Contributions of as many seeds, averaged over tasks; but for the mean score as shares of the baseline's value."""
    fewest = min(len(next(iter(one.values()))) for one in of_tasks)
    merged = {}
    for name in of_tasks[0]:
        scales = [1.0 if name == MEAN else one[name].mean() for one in baselines]
        if all(scale > 0 for scale in scales) or name == MEAN:
            merged[name] = np.mean(
                [one[name][:fewest] / scale for one, scale in zip(of_tasks, scales, strict=True)], axis=0
            )
    return merged


def _compare(
    task: str,
    method: str,
    first: Mapping[str, Floats],
    second: Mapping[str, Floats],
    scores: Floats | None,
    other_scores: Floats | None,
    paired: bool,
) -> list[Difference]:
    """One method against the baseline by every measure, adjusted for their number."""
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
) -> tuple[float | None, list[float] | None, float | None, list[float] | None]:
    """Difference, its interval, effect and its interval."""
    if name == MEAN:
        interval = difference_interval(exchange, first, second)
        return finite(second.mean() - first.mean()), finite_interval(interval), _hedges(first, second), None
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
        # A root has no contributions of its own: its interval is that of the ratio, for the baseline as it is.
        by_ratio = (value * (ends[0] - 1), value * (ends[1] - 1))
        difference = by_ratio if name in STANDARD_DEVIATIONS else difference_interval(exchange, first, second)
    return (
        None if relative else finite(other - value),
        finite_interval(difference),
        None if ratio is None else finite(ratio),
        finite_interval(ends) if ends[0] > 0 else None,
    )


def _hedges(first: Floats, second: Floats) -> float | None:
    """Hedges' g: Cohen's d with the pooled standard deviation, corrected for few seeds (Hedges 1981)."""
    freedom = len(first) + len(second) - 2
    pooled = np.sqrt(((len(first) - 1) * first.var(ddof=1) + (len(second) - 1) * second.var(ddof=1)) / freedom)
    return finite((second.mean() - first.mean()) / pooled * (1 - 3 / (4 * freedom - 1))) if pooled > 0 else None


def _holm(found: Sequence[Difference]) -> list[Difference]:
    """Adjusts also for the number of methods: Holm (1979), by each method's smallest p-value."""
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
