"""Tables of audits: what is true of what is said of few seeds."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from jaxstab.analysis.audit import Audit
from jaxstab.analysis.trials import Coverage, Ranking, Share, Verdicts
from jaxstab.measures import MEAN, MEASURES
from jaxstab.report.formats import Cell, Table, percent, share
from jaxstab.report.tables import quantity

One = TypeVar("One", Coverage, Verdicts, Ranking)
Key = TypeVar("Key")


def audit_tables(found: Audit) -> list[Table]:
    """The tables of `jaxstab audit` that have rows."""
    tables = [coverage_table(found), false_alarms_table(found), power_table(found), best_table(found)]
    return [one for one in tables if one.rows]


def coverage_table(found: Audit) -> Table:
    """A row for each measure, with the share of intervals that hold the truth, over all runs."""
    names, sizes = _keys(found.coverage, lambda one: one.measure)
    rows = []
    for name in names:
        cells = []
        for size in sizes:
            of_both = [one for one in found.coverage if (one.measure, one.size) == (name, size)]
            widths = [one.width for one in of_both if one.width is not None]
            width = f"{sum(widths) / len(widths):.2f}" if widths else "-"
            cells += [_share([one.share for one in of_both if one.share is not None]), width]
        rows.append([_named(name), *cells])
    columns = ["measure", *(text for size in sizes for text in (f"{size} seeds: held", "width / value"))]
    caption = (
        "How many 95 % intervals from so many seeds hold the value of all seeds; in brackets the 95 % interval of that "
        "share, as over sets that have no seed in common. Width: median, divided by the value."
    )
    return Table("Intervals", columns, rows, caption)


def false_alarms_table(found: Audit) -> Table:
    """A row for each test, with the share of sets of one method that it calls different."""
    same = [one for one in found.verdicts if one.first == one.second]
    caption = "Two sets of so many seeds of the same method, which are not different. Best of n: by .01 or more."
    return _verdicts_table("Called different, but of one method", same, caption, together=True)


def power_table(found: Audit) -> Table:
    """A row for each two methods and test, with the share of sets that it calls different."""
    others = [one for one in found.verdicts if one.first != one.second]
    return _verdicts_table("Called different, of two methods", others, "", together=False)


def best_table(found: Audit) -> Table:
    """A row for each task and measure: how often small sets find the method that is the best by all seeds."""
    keys, sizes = _keys(found.rankings, lambda one: (one.task, one.measure))
    rows = []
    for key in keys:
        by_size = {one.size: one for one in found.rankings if (one.task, one.measure) == key}
        cells = [
            [_share([by_size[size].best]), share(by_size[size].pairs)] if size in by_size else ["-"] * 2
            for size in sizes
        ]
        rows.append([key[0], _named(key[1]), *(text for both in cells for text in both)])
    columns = ["task", "measure", *(text for size in sizes for text in (f"{size} seeds: best", "pairs in order"))]
    caption = "How often the method that is best by all seeds is best by so many, and two methods come in their order."
    return Table("The best method", columns, rows, caption)


def _verdicts_table(title: str, verdicts: Sequence[Verdicts], caption: str, *, together: bool) -> Table:
    keys, sizes = _keys(verdicts, lambda one: ("", "", one.test) if together else (one.first, one.second, one.test))
    rows = []
    for first, second, test in keys:
        of_key = [
            one for one in verdicts if one.test == test and (together or (one.first, one.second) == (first, second))
        ]
        cells = [_share([one.share for one in of_key if one.size == size]) for size in sizes]
        rows.append([*([] if together else [f"{first}, {second}"]), test, *cells])
    columns = [*([] if together else ["methods"]), "by", *(f"{size} seeds of each" for size in sizes)]
    return Table(title, columns, rows, caption)


def _keys(rows: Sequence[One], key: Callable[[One], Key]) -> tuple[list[Key], list[int]]:
    return list(dict.fromkeys(key(one) for one in rows)), list(dict.fromkeys(one.size for one in rows))


def _share(shares: Sequence[Share]) -> str:
    if not shares:
        return "-"
    one = Share.pooled(shares)
    return f"{share(one.value)} ({percent(one.interval)})"


def _named(name: str) -> str:
    if name == MEAN or name in MEASURES:
        return quantity(name)
    measure, _, how = name.partition(", ")
    return Cell(name, label=f"{MEASURES[measure].label}, {how}", meaning=MEASURES[measure].meaning)
