"""How scores of methods compare, beside the test of their means: what is ruled out, for which examples, how often."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jaxstab.analysis.aggregates import Aggregate, aggregate, probability_of_improvement
from jaxstab.analysis.comparison import ALL_TASKS, SIGNIFICANT, ScoreComparison
from jaxstab.analysis.effects import Estimate, average, difference, pooled_sd
from jaxstab.analysis.matching import FEWEST_SEEDS
from jaxstab.analysis.sample import Sample
from jaxstab.measures import MEAN, Interval, joint_difference, plain_or_none

Floats = NDArray[np.float64]

SMALL = 0.1  # standard deviations: what is too small to matter, unless the user says what is


def compare_scores(
    tasks: Mapping[str, Mapping[str, Sample]], paired: Mapping[str, bool], baseline: str, delta: float | None
) -> list[ScoreComparison]:
    """Compares the scores of every method with the baseline's, on each task and over all if there are several.

    Args:
        tasks: by task and method, the seeds.
        paired: by task, whether all methods have the same seeds in the same order.
        baseline: name of the method that the others are compared with.
        delta: the largest difference that does not matter; None for a tenth of the pooled standard deviation.
    """
    tasks = {task: group for task, group in tasks.items() if _comparable(group)}
    rows: list[ScoreComparison] = []
    for task, group in tasks.items():
        for method in (name for name in group if name != baseline):
            rows.append(_compare(task, method, [(group[baseline], group[method])], [paired[task]], delta, len(group)))
    if len(tasks) > 1:
        methods = _everywhere(tasks)
        for method in (name for name in methods if name != baseline):
            pairs = [(group[baseline], group[method]) for group in tasks.values()]
            rows.append(_compare(ALL_TASKS, method, pairs, [paired[task] for task in tasks], delta, len(methods)))
    return rows


def aggregate_scores(tasks: Mapping[str, Mapping[str, Sample]]) -> dict[str, dict[str, Aggregate]]:
    """By method, aggregates of its scores over several tasks; of methods that are on all tasks."""
    tasks = {task: group for task, group in tasks.items() if _comparable(group)}
    if len(tasks) < 2:
        return {}
    return {method: aggregate([_scores(group[method]) for group in tasks.values()]) for method in _everywhere(tasks)}


def _comparable(group: Mapping[str, Sample]) -> bool:
    return min(one.seeds for one in group.values()) >= FEWEST_SEEDS and all(
        one.scores is not None for one in group.values()
    )


def _everywhere(tasks: Mapping[str, Mapping[str, Sample]]) -> list[str]:
    """The methods that are on all tasks."""
    return [name for name in next(iter(tasks.values())) if all(name in group for group in tasks.values())]


def _compare(
    task: str,
    method: str,
    pairs: Sequence[tuple[Sample, Sample]],
    paired: Sequence[bool],
    delta: float | None,
    methods: int,
) -> ScoreComparison:
    """Compares a method with the baseline, given a pair of samples for each task."""
    found = average(
        [
            difference(first.left_out([MEAN])[MEAN], second.left_out([MEAN])[MEAN], same)
            for (first, second), same in zip(pairs, paired, strict=True)
        ]
    )
    if delta is None:
        delta = SMALL * float(np.mean([pooled_sd(_scores(first), _scores(second)) for first, second in pairs]))
    better = probability_of_improvement(*([_scores(pair[i]) for pair in pairs] for i in (0, 1)))
    return ScoreComparison(
        task,
        method,
        plain_or_none(delta),
        _largest(found, methods - 1),
        better.value,
        better.interval,
        _joint(*pairs[0], paired[0]) if len(pairs) == 1 else None,
    )


def _largest(found: Estimate, comparisons: int) -> float | None:
    """The largest difference that is not ruled out by two one-sided tests at 5 % for all comparisons (Bonferroni)."""
    if found.variance <= 0:
        return None
    return plain_or_none(np.abs(found.ends(1 - 2 * SIGNIFICANT / comparisons)).max())


def _joint(first: Sample, second: Sample, paired: bool) -> Interval | None:
    ours, theirs = (one.inputs.outputs_for(one.metric) for one in (first, second))
    labels = first.inputs.labels
    if ours is None or theirs is None or labels is None or len(labels) < 2:
        return None
    classes = max(first.inputs.classes, second.inputs.classes)
    ends = joint_difference(first.metric, ours, theirs, labels, classes, paired=paired)
    return Interval.of(ends) if ends[0] < ends[1] else None


def _scores(one: Sample) -> Floats:
    assert one.scores is not None
    return one.scores
