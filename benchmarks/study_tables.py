"""The tables of docs/study.md, from the numbers that `study.py` found."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from study_figures import by_levels, named

from jaxstab.report.formats import Table, interval, number, percent, share

Numbers = Mapping[str, Any]


def coverage(found: Numbers) -> list[Table]:
    """A row for each measure: intervals that hold the truth and their width, by number of seeds."""
    sizes = list(dict.fromkeys(row["size"] for row in found["rows"]))
    rows = []
    for name, of_measure in _by(found["rows"], "measure").items():
        by_size = {row["size"]: row for row in of_measure}
        held = [f"{share(row['value'])} ({percent(row['interval'])})" for row in of_measure]
        cells = dict(zip(by_size, held, strict=True))
        widths, averages = (" ".join(f"{row[what]:.2f}" for row in of_measure) for what in ("width", "average"))
        rows.append([named(name), *(cells.get(size, "-") for size in sizes), widths, averages])
    shown = ", ".join(str(size) for size in sizes)
    columns = [
        "measure",
        *(f"held, {size} seeds" for size in sizes),
        f"width / value, {shown}",
        f"mean / value, {shown}",
    ]
    return [Table("Intervals from few seeds", columns, rows)]


def verdicts(found: Numbers) -> list[Table]:
    """Rates of wrong verdicts, and of right ones for every two methods."""
    sizes = list(dict.fromkeys(row["size"] for row in found["alarms"]))
    tasks = list(dict.fromkeys(run.split()[0] for run in found["alarms"][0]["runs"]))
    rows = []
    for test, of_test in _by(found["alarms"], "test").items():
        worst = max(max(row["runs"].values()) for row in of_test)
        by_task = [
            " ".join(share(np.mean([v for run, v in row["runs"].items() if run.split()[0] == task])) for row in of_test)
            for task in tasks
        ]
        pooled = [f"{share(row['value'])} ({percent(row['interval'])})" for row in of_test]
        rows.append([test, *pooled, *by_task, share(worst)])
    shown = ", ".join(str(size) for size in sizes)
    columns = [
        "test",
        *(f"{size} seeds of each" for size in sizes),
        *(f"{task}: {shown}" for task in tasks),
        "most in a run",
    ]
    alarms = Table("Two sets of one method, called different", columns, rows)
    tests = list(dict.fromkeys(row["test"] for row in found["power"]))
    rows = []
    for key, of_key in _by(found["power"], "task", "first", "second").items():
        one = of_key[0]
        difference = [number(one["difference"], sign=True), f"{one['difference'] / one['spread']:+.2f}"]
        by_test = _by(of_key, "test")
        rows.append([key[0], f"{key[1]}, {key[2]}", *difference, *(_shares(by_test[test]) for test in tests)])
    shown = ", ".join(str(size) for size in sizes)
    columns = ["task", "methods", "difference", "in SDs", *(f"{test}: {shown}" for test in tests)]
    return [alarms, *([Table("Two sets of two methods, called different", columns, rows)] if rows else [])]


def ranking(found: Numbers) -> list[Table]:
    """How often the best method is found, by measure and number of seeds."""
    sizes = list(dict.fromkeys(row["size"] for row in found["rows"]))
    rows = []
    for (task, name), of_measure in _by(found["rows"], "task", "measure").items():
        pairs = " ".join(share(row["pairs"]) for row in of_measure)
        rows.append(
            [task, named(name), *(f"{share(row['value'])} ({percent(row['interval'])})" for row in of_measure), pairs]
        )
    columns = [
        "task",
        "measure",
        *(f"best, {size} seeds" for size in sizes),
        f"pairs in order, {', '.join(map(str, sizes))}",
    ]
    found_best = Table("Sets that find the best method", columns, rows)
    measured = [
        name
        for name in dict.fromkeys(key for row in found["values"] for key in row)
        if name not in ("task", "method", "seeds")
    ]
    values = [
        [
            row["task"],
            row["method"],
            str(row["seeds"]),
            *(number(row[name]) if name in row else "-" for name in measured),
        ]
        for row in found["values"]
    ]
    columns = ["task", "method", "seeds", *(named(name) for name in measured)]
    return [Table("Values of all seeds", columns, values), found_best]


def sources(found: Numbers) -> list[Table]:
    """The SD and what remains of it; shares of variance; rounding."""
    spread = [
        [
            *(row["task"], row["run"], str(row["seeds"])),
            *(number(row["mean"]), number(row["worst"]), number(row["tails"], places=1)),
            *(number(row["sd"]), interval(row["sd_interval"])),
            *(number(row["remaining"]["value"]), interval(row["remaining"]["interval"])),
        ]
        for row in found["spread"]
    ]
    columns = ["task", "method", "seeds", "mean score", "worst", "excess kurtosis", "SD", "interval"]
    columns += ["with infinitely many examples", "interval"]
    tables = [Table("The part of the test set", columns, spread)]
    shares = [
        [
            row["task"],
            named(row["quantity"]),
            name,
            share(value),
            percent(row["intervals"][name]),
            _end(row["no_effect"][name]),
        ]
        for row in found["shares"]
        for name, value in row["shares"].items()
    ]
    if shares:
        columns = ["task", "variance of", "source", "share", "interval", "without effect up to"]
        tables.append(Table("Which randomness matters", columns, shares))
    floors = [
        [row["task"], named(row["measure"]), _small(row["share"]), _small(row["interval"][1])]
        for row in found["floors"]
    ]
    if floors:
        tables.append(Table("Rounding, relative to another seed", ["task", "measure", "share", "at most"], floors))
    machines = [
        [row["task"], str(row["seeds"]), f"{row['votes']:.3%}", str(row["equal"]), share(row["between"])]
        for row in found["machines"]
    ]
    if machines:
        columns = [
            "task",
            "seeds",
            "votes that differ",
            "seeds with equal votes",
            "votes that differ between two seeds",
        ]
        tables.append(Table("The same seeds on two machines", columns, machines))
    fewer = _by(found["fewer"], "measure", "part")
    parts = list(dict.fromkeys(row["part"] for row in found["fewer"]))
    measures = list(dict.fromkeys(row["measure"] for row in found["fewer"]))
    rows = [[named(one), *(_ratios(fewer.get((one, part), [])) for part in parts)] for one in measures]
    if rows:
        columns = ["measure", *(f"{part} of the examples" for part in parts)]
        tables.append(Table("Values on fewer test examples, divided by those on all", columns, rows))
    return tables


def layers(found: Numbers) -> list[Table]:
    """Measures by layer."""
    rows = []
    for row in found["layers"]:
        values = " ".join(f"{value:.3f}" for value in row["values"])
        depth = (
            [number(row["depth"]["tau"], places=2), interval(row["depth"]["interval"], places=2)]
            if row["depth"]
            else ["-", "-"]
        )
        rows.append([row["task"], row["run"], named(row["measure"]), values, *depth])
    columns = ["task", "method", "measure", "by layer", "Kendall's tau with depth", "interval"]
    groups = by_levels(found)
    medians = [[name, str(len(values)), number(np.nanmedian(values), places=2)] for name, values in groups.items()]
    between = Table("Correlations over seeds between two measures", ["levels of detail", "pairs", "median"], medians)
    return [Table("Depth", columns, rows), *([between] if medians else [])]


TABLES: dict[str, Callable[[Numbers], list[Table]]] = {
    one.__name__: one for one in (coverage, verdicts, ranking, sources, layers)
}


def _by(rows: Sequence[Numbers], *keys: str) -> dict[Any, list[Numbers]]:
    """Rows by the values of keys, in their order."""
    found: dict[Any, list[Numbers]] = {}
    for row in rows:
        found.setdefault(row[keys[0]] if len(keys) == 1 else tuple(row[key] for key in keys), []).append(row)
    return found


def _ratios(rows: Sequence[Numbers]) -> str:
    """The median over runs, and the range."""
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    return f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "-"


def _small(value: float) -> str:
    return f"{value:.0e}" if 0 < value < 0.001 else share(value)


def _shares(rows: Sequence[Numbers]) -> str:
    return " ".join(share(row["value"]) for row in rows)


def _end(no_effect: Sequence[float] | None) -> str:
    return "-" if no_effect is None else share(no_effect[1])
