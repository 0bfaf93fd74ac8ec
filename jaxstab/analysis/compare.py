"""Does a method help? Each method against a baseline, and a verdict that says when it cannot tell."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxstab.analysis.comparison import Comparison
from jaxstab.analysis.differences import find_differences, values_of
from jaxstab.analysis.matching import by_task, choose_baseline, common_measures, match_seeds
from jaxstab.analysis.ranking import compare_rankings
from jaxstab.analysis.sample import Sample, Sources, as_samples
from jaxstab.analysis.score_comparison import aggregate_scores, compare_scores
from jaxstab.errors import InputError


def compare(
    samples: Sources,
    *,
    baseline: str | None = None,
    only: Sequence[str] | None = None,
    metric: str | None = None,
    labels: str | Path | None = None,
    task: str | None = None,
    without_failed: bool = False,
    delta: float | None = None,
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
        task: one task, for sources that hold several; default: all of them.
        without_failed: whether to leave out failed seeds.
        delta: the largest difference in mean score that does not matter, for the verdict "no difference larger than";
            default: a tenth of the pooled standard deviation over seeds.

    Returns:
        Values of every method, differences from the baseline with intervals and adjusted p-values, and verdicts.

    Raises:
        InputError: something cannot be read or compared, two samples have the same method and task, or delta is not
            positive.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(2, size=100)
        >>> def method(name, accuracy):
        ...     votes = np.where(rng.random((8, 100)) < accuracy, labels, 1 - labels)
        ...     return Sample.from_arrays(name, predictions=votes, labels=labels, task="toy")
        >>> found = compare([method("standard", 0.7), method("better", 0.9)], only=["sd"])
        >>> found
        better against standard on toy: better accuracy (+0.230, for other test examples too); cannot tell by sd
        >>> found.to_frame()[["method", "measure", "difference"]].round(3)
           method measure  difference
        0  better    mean       0.230
        1  better      sd      -0.003
    """
    if delta is not None and not 0 < delta < np.inf:
        raise InputError(f"delta = {delta:g}: give a difference in mean score, as 0.01")
    given = as_samples(samples, metric=metric, labels=labels, task=task, only=only)
    return _compare([one.without_failed() for one in given] if without_failed else given, baseline, only, delta)


def _compare(
    samples: Sequence[Sample], baseline: str | None, only: Sequence[str] | None, delta: float | None
) -> Comparison:
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
        tasks[task], paired[task] = match_seeds(task, {name: group[name] for name in methods if name in group}, notes)
    if not tasks:
        raise InputError(
            f"{samples[0].source}: no two of these are on the same test examples; compare runs of the same task"
        )
    differences = find_differences(tasks, paired, baseline, names, notes)
    return Comparison(
        baseline,
        methods,
        metrics={task: group[baseline].metric for task, group in tasks.items()},
        seeds={task: {name: one.seeds for name, one in group.items()} for task, group in tasks.items()},
        paired=paired,
        values={task: values_of(group, names) for task, group in tasks.items()},
        scores={
            task: {name: [] if one.scores is None else one.scores.tolist() for name, one in group.items()}
            for task, group in tasks.items()
        },
        differences=differences,
        score_comparisons=compare_scores(tasks, paired, baseline, delta),
        aggregates=aggregate_scores(tasks),
        rankings={
            task: compare_rankings(group, names, paired[task]) for task, group in tasks.items() if len(group) > 2
        },
        notes=notes,
    )
