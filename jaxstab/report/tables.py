"""The tables of results: what analyses found, as text."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from jaxstab.analysis.comparison import (
    ALL_TASKS,
    FAILED,
    INTERQUARTILE_MEAN,
    REMAINING,
    Comparison,
    Difference,
)
from jaxstab.analysis.reference import FAULTS
from jaxstab.analysis.validity import Correlations, Validity
from jaxstab.measures import MEAN, MEASURES, Results, nulls_of, of_numbers
from jaxstab.report.formats import (
    PLACES,
    Cell,
    Table,
    common_decimals,
    decimals,
    interval,
    number,
    percent,
    with_interval,
    worth,
)

METRICS = {
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "matthews": "Matthews correlation",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "neg_log_loss": "negative log loss",
    "neg_brier": "negative Brier score",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "neg_rmse": "negative RMSE",
    "r2": "R2",
}
# What is shown beside the measures: its name, and what it says.
QUANTITIES = {
    MEAN: ("mean {}", "mean of the seeds' test scores; larger is better"),
    INTERQUARTILE_MEAN: ("interquartile mean", "mean score without a quarter of the seeds at either end"),
    REMAINING: ("SD, endless examples", "what would remain of the SD of scores with infinitely many test examples"),
    FAILED: ("failed seeds", "share of the seeds that failed, which no better than guessing means"),
}
LABELS = METRICS | {name: one.label for name, one in MEASURES.items()}
IDENTIFIERS = re.compile(rf"\b({'|'.join(sorted(LABELS, key=len, reverse=True))})\b")
LARGER_IS_BETTER = {MEAN, INTERQUARTILE_MEAN} | {
    name for name, one in MEASURES.items() if not one.larger_is_less_stable
}


def quantity(name: str, metric: str = "score") -> Cell:
    """The cell that names a measure, or another quantity shown beside the measures."""
    if name in MEASURES:
        return Cell(name, label=MEASURES[name].label, meaning=MEASURES[name].meaning)
    text, meaning = QUANTITIES[name]
    return Cell(text.format(metric), label=text.format(metric_label(metric)), meaning=meaning)


def metric_label(metric: str) -> str:
    """What people call a score."""
    return METRICS.get(metric, metric)


def guess_label(metric: str) -> str:
    """What a seed predicts that knows nothing of the examples."""
    return "mean label" if of_numbers(metric) else "majority class"


def humane(sentence: str) -> str:
    """A sentence of an analysis with the names that people use for measures and scores."""
    return IDENTIFIERS.sub(lambda found: LABELS[found[0]], sentence)


def values_table(title: str, values: Mapping[str, Mapping[str, Mapping[str, Any]]], metric: str) -> Table:
    """A row for each measure, with the value and interval of each method or run; the best are marked."""
    names = list(dict.fromkeys(name for rows in values.values() for name in rows))
    rows = []
    for name in names:
        of_name = [of_run.get(name) for of_run in values.values()]
        rows.append([quantity(name, metric), *_mark_best(of_name, larger=name in LARGER_IS_BETTER)])
    return Table(
        title,
        ["measure", *values],
        rows,
        "Value with 95 % interval; larger is less stable, but for the mean scores. "
        "SD, endless examples: what would remain of the SD with infinitely many test examples.",
    )


def _mark_best(of_name: Sequence[Mapping[str, Any] | None], *, larger: bool) -> list[str]:
    """Cells of the same quantity; the best ones are marked, unless all are equal."""
    values = [None if not row else row.get("value") for row in of_name]
    known = [value for value in values if value is not None]
    best = (max if larger else min)(known, default=None)
    places = common_decimals(row.get("interval") for row in of_name if row)
    told = len({round(value, 9) for value in known}) > 1
    return [
        Cell(with_interval(row, places=places), best=told and value is not None and round(value - best, 9) == 0)
        for row, value in zip(of_name, values, strict=True)
    ]


def measures_table(results: Results) -> Table:
    """A row for each measure of one run."""
    without = results.without_failed
    shown = null_columns(results.measures)
    columns = ["measure", "value", "95 % interval", *shown]
    columns += [f"{without['seeds']} not failed"] if without else []
    rows = []
    for name, row in results.measures.items():
        places = _places(row["interval"])
        nulls = [number(null) for null in nulls_of(row)[2 - len(shown) :]]
        rest = [with_interval(without["measures"].get(name))] if without else []
        rows.append([quantity(name), number(row["value"], places=places), worth(row, places), *nulls, *rest])
    caption = "Larger is less stable, but for stable examples."
    caption += "".join(f" {line}" for line in say_nulls(shown))
    return Table("All measures", columns, rows, caption)


def null_columns(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names of the columns of nulls that measures have; those of numbers have only that of shuffled examples."""
    keys = {"null": "null", "null_shuffled": "shuffled"}
    return [name for key, name in keys.items() if any(key in row for row in rows.values())]


def say_nulls(columns: Sequence[str]) -> list[str]:
    """What the columns of nulls hold, as a sentence or none."""
    order = "data with each seed's examples in another order."
    if "null" in columns:
        return [f"Representations: last layer. null: independent normal data of the same size; shuffled: these {order}"]
    return [f"Shuffled: the same {order}"] if columns else []


def differences_table(comparison: Comparison, task: str) -> Table:
    """A row for each measure, with the difference of each method from the baseline."""
    methods = [method for method in comparison.methods[1:] if comparison.of(task, method)]
    found = {(one.measure, one.method): one for method in methods for one in comparison.of(task, method)}
    rows = [
        [
            quantity(name, comparison.metrics.get(task, "score")),
            *(describe(found[name, method]) if (name, method) in found else "-" for method in methods),
        ]
        for name in comparison.measures
        if any((name, method) in found for method in methods)
    ]
    caption = (
        f"Of the mean score and of failed seeds the difference from {comparison.baseline}, of measures the ratio to it "
        "(below 1 is more stable), or with a sign the difference, where a value has no interval. 95 % intervals of "
        "each alone; * clear at 5 %, for all methods and for the mean score, the failed seeds and the measures each."
    )
    return Table(f"{task}: against {comparison.baseline}", ["measure", *methods], rows, caption)


def scores_table(comparison: Comparison) -> Table:
    """A row for each task and method, with what can be said of its scores beside the difference of means."""
    rows = []
    for one in comparison.score_comparisons:
        negligible = "-" if one.largest is None else f"{'yes' if one.equivalent else 'no'} ({one.delta:.3g})"
        rows.append(
            [
                one.task,
                one.method,
                interval(one.joint_interval, _places(one.joint_interval)),
                number(one.largest, places=_places(one.joint_interval)),
                negligible,
                f"{one.probability:.0%} ({percent(one.probability_interval)})",
            ]
        )
    return Table(
        f"Mean scores against {comparison.baseline}",
        ["task", "method", "difference, other examples too", "ruled out: more than", "negligible", "P(better)"],
        rows,
        "Difference: 95 % for other seeds and other test examples. Ruled out: at 5 % for all methods. Negligible: "
        "whether more than the value in brackets (--delta; by default a tenth of the SD) is ruled out. P(better): "
        f"probability that a seed of the method scores higher than one of {comparison.baseline}.",
    )


def aggregates_table(comparison: Comparison) -> Table:
    """A row for each method, with aggregates of its scores over tasks."""
    found = {method: [one._asdict() for one in rows.values()] for method, rows in comparison.aggregates.items()}
    columns = [_mark_best(of_name, larger=True) for of_name in zip(*found.values(), strict=True)]
    rows = [[method, *cells] for method, *cells in zip(found, *columns, strict=True)]
    return Table(
        f"{ALL_TASKS}: scores",
        ["method", "mean", "median of tasks", "interquartile mean"],
        rows,
        "95 % intervals for other seeds on the same tasks, each with the same weight.",
    )


def all_differences_table(comparison: Comparison) -> Table:
    """A row for each task, method and measure, with all results."""
    several = len({one.task for one in comparison.differences}) > 1
    columns = ["measure", "method", *["task"] * several]
    columns += ["difference", "95 % interval", "effect", "p", "adjusted p", "verdict"]
    rows = []
    for one in comparison.differences:
        effect = "-" if one.effect is None else (f"g = {one.effect:.2f}" if one.measure == MEAN else ratio(one))
        verdict = "cannot tell" if one.better is None else "better" if one.better else "worse"
        places = _places(one.interval)
        rows.append(
            [
                quantity(one.measure, comparison.metrics.get(one.task, "score")),
                one.method,
                *[one.task] * several,
                number(one.difference, places=places),
                interval(one.interval, places),
                effect,
                f"{one.p:.3g}",
                f"{one.adjusted:.3g}",
                verdict,
            ]
        )
    caption = (
        "effect: Hedges' g of the mean score, ratio to the baseline of a measure. p by permutation, of failed seeds by "
        "Fisher's exact test; adjusted for all methods, and for all measures. Over all tasks ratios are averaged "
        "(geometric mean)."
    )
    return Table(f"Differences from {comparison.baseline}", columns, rows, caption)


def rankings_table(comparison: Comparison, task: str) -> Table:
    """A row for each measure with the rank of every method."""
    found = comparison.rankings[task]
    rows = [
        [quantity(name, comparison.metrics[task])]
        + [f"{rank:g} ({best:.0%})" if best == best else f"{rank:g}" for rank, best in zip(ranks, bests, strict=True)]
        for name, ranks, bests in zip(found.measures, found.ranks, found.best, strict=True)
    ]
    caption = (
        "1 is the best score or the most stable; in brackets how often a method comes first when seeds are resampled."
    )
    return Table(f"{task}: ranking of methods", ["measure", *found.methods], rows, caption)


def correlations_table(found: Correlations, title: str) -> Table:
    """A row and a column for each measure."""
    rows = [
        [quantity(name), *("-" if value != value else f"{value:.2f}" for value in values)]
        for name, values in zip(found.names, found.matrix, strict=True)
    ]
    return Table(f"{title}: correlation over {found.over}", ["", *map(quantity, found.names)], rows)


def nulls_table(found: Validity) -> Table:
    """A row for each measure: its value, its null, and its values on fewer examples."""
    shares = list(found.examples)
    names = list(dict.fromkeys([*found.nulls, *(name for rows in found.examples.values() for name in rows)]))
    rows = []
    for name in names:
        null = found.nulls.get(name, {})
        fewer = [found.examples[share].get(name) for share in shares]
        rows.append([quantity(name), with_interval(null), number(null.get("null")), *(_mean(one) for one in fewer)])
    columns = ["measure", "value", "unrelated", *(f"{share} of examples" for share in shares)]
    return Table(
        f"{found.name}: nulls and sub-samples", columns, rows, "On fewer examples: mean and 95 % of random subsets."
    )


def failed_table(found: Validity) -> Table:
    """A row for each measure: its values for successful and for failed seeds."""
    rows = [
        [
            quantity(name),
            with_interval(row["successful"]),
            with_interval(row["failed"]),
            "-" if row["p"] is None else f"{row['p']:.3g}",
        ]
        for name, row in (found.failed or {}).items()
    ]
    return Table(f"{found.name}: successful and failed seeds", ["measure", "successful", "failed", "adjusted p"], rows)


def comparison_tables(comparison: Comparison) -> list[Table]:
    """The tables of `jaxstab compare`: values, differences, scores and rankings for every task."""
    tables = []
    for task, values in comparison.values.items():
        paired = "paired" if comparison.paired[task] else "unpaired"
        title = f"{task}: {comparison.count_seeds(task)} ({paired})"
        tables.append(values_table(title, values, comparison.metrics[task]))
    tasks = [ALL_TASKS] * (len(comparison.values) > 1) + list(comparison.values)
    tables += [differences_table(comparison, task) for task in tasks]
    tables += [scores_table(comparison), aggregates_table(comparison)]
    tables += [rankings_table(comparison, task) for task in comparison.rankings]
    return [one for one in tables if one.rows]


def describe(one: Difference) -> str:
    """The text of a cell: the difference for the mean score, the ratio for a measure."""
    mark = "*" * one.clear
    if one.measure in (MEAN, FAILED):
        return with_interval({"value": one.difference, "interval": one.interval}, sign=True, mark=mark)
    return ratio(one, mark)


def ratio(one: Difference, mark: str = "") -> str:
    """The ratio of a measure to the baseline's, with its interval; without a ratio the difference."""
    if one.effect is None:
        return number(one.difference, sign=True) + mark
    if one.effect_interval is None:
        return f"{one.effect:.2f}{mark}"
    return with_interval({"value": one.effect, "interval": one.effect_interval}, mark=mark)


def _places(ends: Sequence[float] | None) -> int:
    return PLACES if ends is None else decimals(ends)


def _mean(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None else with_interval({"value": row["mean"], "interval": row["interval"]})


def reference_table(rows: pd.DataFrame, task: str) -> Table:
    """Published numbers for a task: a row for each model and method."""
    names = [name for name in rows.columns if name != "task"]
    cells = [
        [
            "-"
            if value != value
            else value
            if isinstance(value, str)
            else f"{value:g}"
            if name == "seeds"
            else f"{value:.4f}"
            for name, value in zip(names, row, strict=True)
        ]
        for row in rows[names].itertuples(index=False)
    ]
    return Table(f"{task}: published (Du & Nguyen, 2023)", names, cells, " ".join(FAULTS))
