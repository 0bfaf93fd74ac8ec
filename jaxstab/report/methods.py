"""The content of the page about several methods: what differs, by how much, and what it would take to tell."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxstab.analysis.aggregates import performance_profile
from jaxstab.analysis.comparison import ALL_TASKS, FAILED, SIGNIFICANT, Comparison, Difference
from jaxstab.analysis.how_many import MOST_SEEDS, fewest_seeds, point
from jaxstab.analysis.sample import Sample
from jaxstab.measures import MEAN, MEASURES
from jaxstab.report import tables
from jaxstab.report.dots import Seeds, seed_dots, shown_as
from jaxstab.report.figures import profiles
from jaxstab.report.forest import Ratio, forest, forest_height, ratio_limits
from jaxstab.report.formats import slug, with_interval
from jaxstab.report.matrices import correlations
from jaxstab.report.page import Picture, Point, Section
from jaxstab.report.style import span, wrapped
from jaxstab.words import count, listing, plural

Tasks = Mapping[str, Mapping[str, Sample]]


def headline(comparison: Comparison) -> str:
    """The main result as one or two sentences; methods of which the same is clear share a clause."""
    task, others = _main_task(comparison), comparison.methods[1:]
    seeds = " and ".join(dict.fromkeys(comparison.count_seeds(one) for one in comparison.values))
    where = "over all tasks" if task == ALL_TASKS else f"on {task}"
    if not any(comparison.of(task, method) for method in others):
        return f"With {seeds} {where}, nothing can be told; differences need at least 3 seeds of each."
    alike: dict[tuple[str, ...], list[str]] = {}
    for method in others:
        alike.setdefault(tuple(_in_short(comparison, task, method)), []).append(method)
    unclear = alike.pop((), [])
    if not alike:
        return f"With {seeds}, no difference from {comparison.baseline} can be told {where}."
    found = "; ".join(_clause(comparison, task, names, found) for found, names in alike.items())
    start = f"Against {comparison.baseline} {where}, {found}."
    return f"{start} Of {listing(unclear, 'or')} nothing can be told." if unclear else start


def comparison_section(comparison: Comparison, samples: Tasks, delta: float | None) -> Section:
    """Returns the section that compares methods.

    Args:
        comparison: what was found.
        samples: by task and method, as in the comparison.
        delta: the difference in mean score that matters; default: a point.
    """
    main, tasks = _main_task(comparison), list(comparison.values)
    named = _pictured(comparison)
    shown = {
        task: tables.values_table(
            f"{comparison.count_seeds(task)} ({'paired' if comparison.paired[task] else 'unpaired'})",
            comparison.values[task],
            comparison.metrics[task],
        )
        for task in tasks
    }
    if main == ALL_TASKS:
        first = [tables.aggregates_table(comparison)] if comparison.aggregates else []
        pictures = _forest_pictures(comparison, tasks, named)
        parts = [Section("Task by task", _sentences(comparison, tasks), pictures=pictures)] if pictures else []
        parts += [Section(task, tables=[one], task=task) for task, one in shown.items()]
    else:
        first, parts = [shown[main]], []
    return Section(
        "Methods compared",
        points=[*_points(comparison, main), *_unclear(comparison, main, samples, delta)],
        pictures=[*_forest_pictures(comparison, [main], named), *_dot_pictures(comparison, samples, len(named))],
        tables=first,
        notes=[tables.humane(line) for line in [*comparison.notes, *_without_ratio(comparison)]],
        sections=[*parts, *_details(comparison)],
    )


def _main_task(comparison: Comparison) -> str:
    return ALL_TASKS if len(comparison.values) > 1 else next(iter(comparison.values))


def _in_short(comparison: Comparison, task: str, method: str) -> list[str]:
    """What is clear about a method, as predicates of several methods."""
    parts = []
    for one in _clear(comparison, task, method, MEAN):
        parts.append(f"have {'higher' if one.better else 'lower'} {_metric(comparison, task)}")
    for one in _clear(comparison, task, method, FAILED):
        parts.append(f"fail {'less' if one.better else 'more'} often")
    stable, less, every = _by_stability(comparison, task, method)
    for word, names in (("more", stable), ("less", less)):
        if names:
            by = f"all {len(every)} measures" if len(names) == len(every) > 2 else _list(names, len(every))
            parts.append(f"are {word} stable by {by}")
    return parts


def _metric(comparison: Comparison, task: str) -> str:
    """What people call the score on a task, or on all, if it is the same."""
    metrics = set(comparison.metrics.values()) if task == ALL_TASKS else {comparison.metrics[task]}
    return tables.metric_label(metrics.pop()) if len(metrics) == 1 else "score"


def _clause(comparison: Comparison, task: str, methods: Sequence[str], found: Sequence[str]) -> str:
    """A part of the headline: methods, by how much their mean scores differ if that is clear, and what is clear."""
    said = []
    for method in methods:
        means = [f" ({one.difference:+.3f})" for one in _clear(comparison, task, method, MEAN)]
        said.append(method + "".join(means))
    words = {"have": "has", "fail": "fails", "are": "is"}
    if len(methods) == 1:
        found = [" ".join([words[verb], *rest]) for verb, *rest in (one.split(" ") for one in found)]
    return f"{listing(said)} {listing(found)}"


def _list(names: Sequence[str], every: int) -> str:
    return " and ".join(names) if len(names) < 3 else f"{len(names)} of {every} measures"


def _by_stability(comparison: Comparison, task: str, method: str) -> tuple[list[str], list[str], list[str]]:
    """The measures by which a method is clearly more stable, clearly less, and all."""
    found = [
        (MEASURES[one.measure].label, one.better) for one in comparison.of(task, method) if one.measure in MEASURES
    ]
    more, less = ([name for name, better in found if better is good] for good in (True, False))
    return more, less, [name for name, _ in found]


def _clear(comparison: Comparison, task: str, method: str, measure: str) -> list[Difference]:
    return [one for one in comparison.of(task, method) if one.measure == measure and one.clear]


def _points(comparison: Comparison, task: str) -> list[Point]:
    """What can be told of each method."""
    return [
        Point(method, said, method) for method in comparison.methods[1:] if (said := _say(comparison, task, method))
    ]


def _say(comparison: Comparison, task: str, method: str) -> str:
    """What is clear about a method, in words; nothing if nothing is."""
    metric, scores = _metric(comparison, task), comparison.scores_of(task, method)
    parts = []
    for one in _clear(comparison, task, method, MEAN):
        difference = with_interval({"value": one.difference, "interval": one.interval}, sign=True)
        examples = "" if scores is None else scores.say_examples()
        parts.append(f"{'Higher' if one.better else 'Lower'} {metric}: {difference}{examples}.")
    for one in _clear(comparison, task, method, FAILED):
        parts.append(f"{'Fewer' if one.better else 'More'} seeds fail: {one.difference:+.0%}.")
    *both, every = _by_stability(comparison, task, method)
    for word, names in zip(("More", "Less"), both, strict=True):
        rest = [name for name in every if name not in names]
        by = listing(names) if len(names) < 4 else f"all {len(every)} measures" + f" but {listing(rest)}" * bool(rest)
        parts += [f"{word} stable by {by}."] if names else []
    return " ".join(parts)


def _sentences(comparison: Comparison, tasks: Sequence[str]) -> list[str]:
    """What can be told on each task."""
    return [
        f"{task}: {method}: {said}"
        for task in tasks
        for method in comparison.methods[1:]
        if (said := _say(comparison, task, method))
    ]


def _unclear(comparison: Comparison, task: str, samples: Tasks, delta: float | None) -> list[Point]:
    """Of which methods nothing can be told, and what it would take to see a difference in the mean score."""
    if not comparison.differences:
        return []
    unclear = [method for method in comparison.methods[1:] if not _say(comparison, task, method)]
    said = [f"Whether {listing(unclear, 'or')} differ{'s' * (len(unclear) == 1)}."] if unclear else []
    said += filter(None, [_alone(comparison, task, unclear)])
    needed = [_more_seeds(comparison, one, group, delta) for one, group in samples.items()]
    if any(needed):
        said += [*filter(None, needed), f"(80 % power, judged by the SD of {comparison.baseline}.)"]
    return [Point("Cannot tell", " ".join(said))] if said else []


def _alone(comparison: Comparison, task: str, unclear: Sequence[str]) -> str:
    """What would be clear if only the most different of the unclear methods were compared; often nothing."""
    found = [one for method in unclear for one in comparison.of(task, method)]
    if len(comparison.methods) < 3 or len(unclear) < len(comparison.methods) - 1 or not found:
        return ""
    one = min(found, key=lambda one: (one.adjusted, one.p))
    alone = one.adjusted / len(unclear)  # Holm's method multiplies the smallest p-value by the number of methods
    if alone > SIGNIFICANT:
        return ""
    by = tables.quantity(one.measure, comparison.metrics.get(task, "score")).label
    return (
        f"{one.method} would differ if it were compared alone (by {by}, p = {alone:.2g} instead of {one.adjusted:.2g})."
    )


def _more_seeds(comparison: Comparison, task: str, group: Mapping[str, Sample], delta: float | None) -> str:
    """Whose mean score is unclear on a task, and how many more seeds would tell; nothing if all are clear."""
    means = [one for one in comparison.differences if (one.task, one.measure) == (task, MEAN)]
    unclear = [one.method for one in means if not one.clear]
    scores = group[comparison.baseline].scores
    if not unclear or scores is None or np.ptp(scores) < 1e-9:
        return ""
    there, delta = min(comparison.seeds[task].values()), delta or point(scores)
    needed = fewest_seeds(scores.std(ddof=1), delta, len(means))
    if needed is None:
        how_many = f"more than {MOST_SEEDS:,} seeds"
    elif needed > there:
        how_many = f"{needed - there:,} more {plural('seed', needed - there)}"
    else:
        how_many = count("seed", needed)
    where = f" on {task}" if len(comparison.values) > 1 else ""
    metric = tables.metric_label(comparison.metrics[task])
    return f"The mean {metric} of {listing(unclear)}{where}: {how_many} of each would see a difference of {delta:g}."


def _pictured(comparison: Comparison) -> list[str]:
    """The measures that a forest plot shows, the same for every task."""
    return [
        name for name in comparison.measures if any(one.measure == name in MEASURES for one in comparison.differences)
    ]


def _forest_pictures(comparison: Comparison, tasks: Sequence[str], named: Sequence[str]) -> list[Picture]:
    """A forest plot for each task, all on the same axis."""
    others = comparison.methods[1:]
    of_task = {task: _ratios(comparison, task) for task in dict.fromkeys([*comparison.values, ALL_TASKS])}
    limits = ratio_limits([one for ratios in of_task.values() for one in ratios.values()])
    labels = [MEASURES[name].label for name in named]
    pictures = []
    for task in tasks:
        if not any(one.value for one in of_task[task].values()):
            continue
        drawn = forest(
            labels,
            others,
            of_task[task],
            baseline=comparison.baseline,
            limits=limits,
            title=task if len(comparison.values) > 1 else "",
            height=_height(comparison, len(named)),
        )
        what = "mean ratio (geometric) over all tasks" if task == ALL_TASKS else f"ratio on {task}"
        caption = f"Each measure's {what}, with 95 % intervals. Filled: clear at 5 %; hollow: cannot tell."
        pictures.append(Picture(f"{slug(task)}-ratios", drawn, caption, task))
    return pictures


def _height(comparison: Comparison, measures: int) -> float:
    """The common height of the forest plots and of the seeds' dots beside them, in inches."""
    lines = {method: wrapped(method).count("\n") + 1 for method in comparison.methods}
    rows = sum(0.75 + sum(0.06 + 0.18 * lines[method] for method in group) for group in comparison.values.values())
    return max(forest_height(measures, comparison.methods[1:]), rows)


def _ratios(comparison: Comparison, task: str) -> dict[tuple[str, str], Ratio]:
    """The ratio of every method by every measure, by the measure's label."""
    found = {}
    for method in comparison.methods[1:]:
        for one in comparison.of(task, method):
            if one.measure not in MEASURES:
                continue
            name = MEASURES[one.measure].label
            if one.effect is None or one.effect_interval is None:
                said = f"no {'ratio' if one.effect is None else 'interval'}: {_reason(comparison, one)}"
            else:
                said = f"ratio {tables.ratio(one)}"
            clear = "clear" if one.clear else "cannot tell"
            says = f"{method}, {name}: {said}; adjusted p {one.adjusted:.2g}: {clear}"
            found[name, method] = Ratio(one.effect, one.effect_interval, one.clear, says)
    return found


def _without_ratio(comparison: Comparison) -> list[str]:
    """Why there is no forest plot, if there is none."""
    found = [one for one in comparison.differences if one.measure in MEASURES and one.task in comparison.values]
    if not found or any(one.effect is not None for one in found):
        return []
    return [f"no measure can be shown as a ratio ({_reason(comparison, found[0])})"]


def _reason(comparison: Comparison, one: Difference) -> str:
    """Why a difference has no ratio or no interval."""
    rows = [
        (name, comparison.values.get(one.task, {}).get(name, {}).get(one.measure, {}))
        for name in (comparison.baseline, one.method)
    ]
    said = [f"{name}: {row['reason']}" for name, row in rows if row.get("reason")]
    return ", ".join(said) or ("on some task a value has none" if one.task == ALL_TASKS else "not defined")


def _dot_pictures(comparison: Comparison, samples: Tasks, measures: int) -> list[Picture]:
    """The scores of all seeds, by task and method."""
    panels = []
    for task, group in samples.items():
        rows = [
            Seeds(name, one.scores, one.inputs.names, one.failed, name, comparison.methods.index(name))
            for name, one in sorted(group.items(), key=lambda item: comparison.methods.index(item[0]))
            if one.scores is not None
        ]
        metric = tables.metric_label(comparison.metrics[task])
        panels += [(f"{metric} on {task}" if len(samples) > 1 else metric, rows)] if rows else []
    if not panels:
        return []
    drawn = seed_dots(panels, height=_height(comparison, measures))
    return [Picture("seeds-by-method", drawn, shown_as([row for _, rows in panels for row in rows], "test score"))]


def _details(comparison: Comparison) -> list[Section]:
    """Everything else, folded."""
    parts = []
    if comparison.score_comparisons:
        aggregates = [tables.aggregates_table(comparison)] if comparison.aggregates else []
        parts.append(
            Section(
                "Scores in detail",
                pictures=_profile_pictures(comparison),
                tables=[tables.scores_table(comparison), *aggregates],
                folded=True,
                summary="for other test examples, what is ruled out, negligible, how often better",
            )
        )
    if comparison.differences:
        parts.append(
            Section(
                "All differences",
                tables=[tables.all_differences_table(comparison)],
                folded=True,
                summary="with intervals, effects and p-values",
            )
        )
    for task, ranking in comparison.rankings.items():
        pictures = []
        if len(ranking.measures) > 1 and np.isfinite(ranking.tau[np.triu_indices(len(ranking.measures), 1)]).any():
            labels = [tables.quantity(name, comparison.metrics[task]).label for name in ranking.measures]
            caption = "Kendall's tau between the rankings of two measures."
            pictures.append(Picture(f"{slug(task)}-tau", correlations(ranking.tau, names=labels), caption, task))
        found = [tables.rankings_table(comparison, task)]
        title = "Rankings" if len(comparison.rankings) == 1 else f"Rankings on {task}"
        summary = "do measures agree on the order of the methods?"
        parts.append(Section(title, [ranking.sentence], (), pictures, found, folded=True, summary=summary, task=task))
    return parts


def _profile_pictures(comparison: Comparison) -> list[Picture]:
    """The performance profile of every method that is on all tasks."""
    scores = {name: [of_task[name] for of_task in comparison.scores.values()] for name in comparison.aggregates}
    if not scores:
        return []
    every = np.concatenate([np.concatenate(tasks) for tasks in scores.values()])
    thresholds = np.linspace(*span(every), 101)
    found = {name: performance_profile(tasks, thresholds) for name, tasks in scores.items()}
    drawn = profiles(thresholds, [(name, one.shares, one.band) for name, one in found.items()])
    caption = "Share of seeds that score above each value, averaged over tasks; bands hold 95 % at each value."
    return [Picture("all-tasks-profiles", drawn, caption)]
