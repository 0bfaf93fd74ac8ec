"""Tables of results, for the terminal and the page, and as LaTeX, Markdown or CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import rich.table
from rich.markup import escape

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
from jaxstab.measures import MEAN, MEASURES, Results

Format = Literal["latex", "markdown", "csv"]
NAMES = {
    MEAN: "mean {}",
    FAILED: "failed seeds",
    INTERQUARTILE_MEAN: "interquartile mean",
    REMAINING: "sd, endless examples",
}
FORMATS: dict[str, str] = {"latex": "latex_booktabs", "markdown": "github"}


@dataclass(frozen=True)
class Table:
    """A table of text; `caption` explains how to read it."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: str = ""


def values_table(title: str, values: Mapping[str, Mapping[str, Mapping[str, Any]]], metric: str) -> Table:
    """A row for each measure, with the value and interval of each method or run."""
    names = list(dict.fromkeys(name for rows in values.values() for name in rows))
    rows = [
        [NAMES.get(name, name).format(metric), *(with_interval(of_run.get(name)) for of_run in values.values())]
        for name in names
    ]
    return Table(
        title,
        ["measure", *values],
        rows,
        "Value with 95 % interval; larger is less stable, but for the mean scores. "
        "sd, endless examples: what would remain of the SD with infinitely many test examples.",
    )


def measures_table(results: Results) -> Table:
    """A row for each measure of one run."""
    without = results.without_failed
    columns = [
        "measure",
        "value",
        "95 % interval",
        "null",
        "shuffled",
        *([f"{without['seeds']} not failed"] if without else []),
    ]
    rows = []
    for name, row in results.measures.items():
        nulls = [number(row["null"]), number(row["null_shuffled"][-1])] if "null" in row else ["-", "-"]
        rest = [with_interval(without["measures"].get(name))] if without else []
        rows.append([name, number(row["value"]), worth(row), *nulls, *rest, MEASURES[name].meaning])
    caption = (
        "Larger is less stable, but for stable_fraction. Representations: last layer; null: independent normal data."
    )
    return Table("All measures", [*columns, "what it says"], rows, caption)


def differences_table(comparison: Comparison, task: str) -> Table:
    """A row for each measure, with the difference of each method from the baseline."""
    methods = [method for method in comparison.methods[1:] if comparison.of(task, method)]
    found = {(one.measure, one.method): one for method in methods for one in comparison.of(task, method)}
    rows = [
        [
            comparison.describe(task, name),
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
                interval(one.joint_interval),
                number(one.largest),
                negligible,
                f"{one.probability:.0%} ({percent(one.probability_interval)})",
            ]
        )
    return Table(
        f"Mean scores against {comparison.baseline}",
        ["task", "method", "difference, other examples too", "ruled out: more than", "negligible", "better"],
        rows,
        "Difference: 95 % for other seeds and other test examples. Ruled out: at 5 % for all methods. Negligible: "
        "whether more than the value in brackets (--delta; by default a tenth of the SD) is ruled out. Better: "
        f"probability that a seed of the method scores higher than one of {comparison.baseline}.",
    )


def aggregates_table(comparison: Comparison) -> Table:
    """A row for each method, with aggregates of its scores over tasks."""
    rows = [
        [method, *(with_interval(one._asdict()) for one in found.values())]
        for method, found in comparison.aggregates.items()
    ]
    return Table(
        f"{ALL_TASKS}: scores",
        ["method", "mean", "median of tasks", "interquartile mean"],
        rows,
        "95 % intervals for other seeds on the same tasks, each with the same weight.",
    )


def all_differences_table(comparison: Comparison) -> Table:
    """A row for each task, method and measure, with all results."""
    columns = ["task", "method", "measure", "difference", "95 % interval", "effect", "p", "adjusted p", "verdict"]
    rows = []
    for one in comparison.differences:
        effect = "-" if one.effect is None else (f"g = {one.effect:.2f}" if one.measure == MEAN else ratio(one))
        verdict = "cannot tell" if one.better is None else "better" if one.better else "worse"
        names = [
            one.task,
            one.method,
            comparison.describe(one.task, one.measure),
        ]
        rows.append(
            [
                *names,
                number(one.difference),
                interval(one.interval),
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
        [f"mean {comparison.metrics[task]}" if name == MEAN else name]
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
        [name, *("-" if value != value else f"{value:.2f}" for value in values)]
        for name, values in zip(found.names, found.matrix, strict=True)
    ]
    return Table(f"{title}: correlation over {found.over}", ["", *found.names], rows)


def nulls_table(found: Validity) -> Table:
    """A row for each measure: its value, its null, and its values on fewer examples."""
    shares = list(found.examples)
    names = list(dict.fromkeys([*found.nulls, *(name for rows in found.examples.values() for name in rows)]))
    rows = []
    for name in names:
        null = found.nulls.get(name, {})
        fewer = [found.examples[share].get(name) for share in shares]
        rows.append([name, with_interval(null), number(null.get("null")), *(_mean(one) for one in fewer)])
    columns = ["measure", "value", "unrelated", *(f"{share} of examples" for share in shares)]
    return Table(
        f"{found.name}: nulls and sub-samples", columns, rows, "On fewer examples: mean and 95 % of random subsets."
    )


def failed_table(found: Validity) -> Table:
    """A row for each measure: its values for successful and for failed seeds."""
    rows = [
        [
            name,
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


def to_text(tables: Sequence[Table], form: Format) -> str:
    """Renders tables for a paper or a spreadsheet; in CSV an empty line separates tables."""
    if form == "csv":
        return "\n".join(_to_csv(table) for table in tables)
    from tabulate import tabulate

    comment = "% {}\n" if form == "latex" else "**{}**\n\n"
    parts = []
    for table in tables:
        cells = [table.columns, *table.rows]
        if form == "markdown":
            cells = [[cell.replace("|", "\\|") for cell in row] for row in cells]
        text = tabulate(cells[1:], cells[0], tablefmt=FORMATS[form], disable_numparse=True)
        parts.append(comment.format(table.title) + text)
    return "\n\n".join(parts) + "\n"


def to_rich(table: Table) -> rich.table.Table:
    """Converts a table for the terminal."""
    shown = rich.table.Table(
        title=escape(table.title), title_justify="left", caption=table.caption or None, caption_justify="left"
    )
    for place, column in enumerate(table.columns):
        shown.add_column(escape(column), justify="left" if place == 0 else "right")
    for row in table.rows:
        shown.add_row(*map(escape, row))
    return shown


def describe(one: Difference) -> str:
    """The text of a cell: the difference for the mean score, the ratio for a measure."""
    mark = "*" * one.clear
    if one.measure in (MEAN, FAILED):
        return f"{number(one.difference, sign=True)}{mark} ({interval(one.interval)})"
    return f"{ratio(one)}{mark}"


def ratio(one: Difference) -> str:
    """The ratio of a measure to the baseline's, with its interval."""
    if one.effect is None:
        return number(one.difference, sign=True)
    ends = one.effect_interval
    return f"{one.effect:.2f}" + (f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else " (-)")


def with_interval(row: Mapping[str, Any] | None) -> str:
    """A value with its interval as text."""
    if not row or row.get("value") is None:
        return "-"
    said = worth(row)
    return number(row["value"]) + (f" ({said})" if said != "-" else "")


def worth(row: Mapping[str, Any]) -> str:
    """The interval of a row as text, or the reason why there is none."""
    return row.get("reason") or interval(row.get("interval"))


def interval(ends: Sequence[float] | None) -> str:
    """Both ends of an interval as text."""
    return "-" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"


def number(value: float | None, sign: bool = False) -> str:
    """A number with four decimals as text."""
    return "-" if value is None else f"{value:{'+' if sign else ''}.4f}"


def _mean(row: Mapping[str, Any] | None) -> str:
    return "-" if row is None else f"{number(row['mean'])} ({interval(row['interval'])})"


def percent(ends: Sequence[float] | None) -> str:
    """Both ends of an interval of shares as text."""
    return "-" if ends is None else f"{ends[0]:.0%} to {ends[1]:.0%}"


def _to_csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue()


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
