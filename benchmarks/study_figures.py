"""Draws the figures of docs/study.md from the numbers that `study.py` found."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from jaxstab.analysis.trials import OF_MEAN
from jaxstab.measures import MEAN, MEASURES
from jaxstab.report.style import BLUE, GREY, LOOKS, VERMILION

STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.hashsalt": "jaxstab",
    "figure.constrained_layout.use": True,
}
PALE = "#BBBBBB"
SIZES = {5: LOOKS[1], 10: LOOKS[2], 20: LOOKS[3]}  # colour and marker of each number of seeds

Numbers = Mapping[str, Any]


def named(measure: str) -> str:
    """What a measure is called in tables."""
    name, _, how = measure.partition(", ")
    label = "mean score" if name == MEAN else MEASURES[name].label
    return f"{label}, {how}" if how else label


def coverage(found: Numbers, path: Path) -> None:
    """A row for each measure, a panel for each number of seeds: the share of intervals that hold the truth."""
    sizes = sorted({row["size"] for row in found["rows"]})
    names = list(dict.fromkeys(row["measure"] for row in found["rows"]))[::-1]
    figure, panels = plt.subplots(1, len(sizes), figsize=(8.6, 3.4), sharey=True, sharex=True)
    for axes, size in zip(panels, sizes, strict=True):
        axes.axvline(0.95, color=VERMILION, linewidth=1)
        for row in found["rows"]:
            if row["size"] == size:
                place = names.index(row["measure"])
                axes.plot(list(row["runs"].values()), [place] * len(row["runs"]), "o", color=PALE, markersize=3)
                axes.plot(row["interval"], [place, place], color=BLUE, linewidth=1.4)
                axes.plot(row["value"], place, "s", color=BLUE, markersize=5)
        axes.set_title(f"{size} seeds", loc="left")
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        axes.grid(axis="x", color="#EEEEEE")
    panels[0].set_yticks(range(len(names)), [named(name) for name in names])
    panels[len(panels) // 2].set_xlabel("95 % intervals that hold the value of all seeds (grey: each run)")
    _save(figure, path)


def verdicts(found: Numbers, path: Path) -> None:
    """Left: how often sets of one method are called different. Right: how often those of two are."""
    tests = list(dict.fromkeys(row["test"] for row in found["alarms"]))[::-1]
    figure, panels = plt.subplots(1, 1 + bool(found["power"]), figsize=(8.6, 3.4), squeeze=False)
    left = panels[0, 0]
    left.axvline(0.05, color=VERMILION, linewidth=1)
    for row in found["alarms"]:
        colour, marker = SIZES[row["size"]]
        place = tests.index(row["test"]) - 0.22 * (list(SIZES).index(row["size"]) - 1)
        left.plot(list(row["runs"].values()), [place] * len(row["runs"]), "o", color=PALE, markersize=2.5)
        left.plot(row["interval"], [place, place], color=colour, linewidth=1.4)
        left.plot(row["value"], place, marker, color=colour, markersize=5)
    left.set_yticks(range(len(tests)), [test.replace(", ", ",\n") for test in tests])
    left.set_xlim(left=0)
    left.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    left.set_xlabel("sets of one method called different")
    if found["power"]:
        _power(panels[0, 1], found["power"])
    _save(figure, path)


def _power(axes: Axes, rows: Sequence[Numbers]) -> None:
    """How often sets of two methods are called different, by the difference that there is."""
    for size, (colour, marker) in SIZES.items():
        of_size = [row for row in rows if (row["test"], row["size"]) == (OF_MEAN, size)]
        away = [abs(row["difference"]) / row["spread"] for row in of_size]
        called = [row["value"] for row in of_size]
        axes.plot(away, called, marker, color=colour, markersize=4.5, label=f"{size} seeds of each")
    axes.set_xlim(left=0)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("true difference of mean scores, in SDs over seeds")
    axes.set_ylabel("called clear by compare")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.grid(color="#EEEEEE")
    axes.legend()


def ranking(found: Numbers, path: Path) -> None:
    """A panel for each task, a line for each measure: how often so few seeds find the best method."""
    tasks = list(dict.fromkeys(row["task"] for row in found["rows"]))
    names = list(dict.fromkeys(row["measure"] for row in found["rows"]))
    figure, panels = plt.subplots(1, len(tasks), figsize=(2.2 + 2.7 * len(tasks), 3.4), sharey=True, squeeze=False)
    for axes, task in zip(panels[0], tasks, strict=True):
        rows = [row for row in found["rows"] if row["task"] == task]
        for name, (colour, marker) in zip(names, (*LOOKS, (GREY, "X")), strict=False):
            line = [row for row in rows if row["measure"] == name]
            axes.plot(
                [row["size"] for row in line],
                [row["value"] for row in line],
                f"-{marker}",
                color=colour,
                markersize=4.5,
                label=named(name),
            )
        axes.axhline(1 / rows[0]["methods"], color=PALE, linewidth=1, linestyle=":")
        axes.set_xscale("log")
        sizes = sorted({row["size"] for row in rows})
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set_title(f"{task}, {rows[0]['methods']} methods", loc="left")
        axes.set_xlabel("seeds of each method")
        axes.grid(color="#EEEEEE")
    panels[0, 0].set_ylim(0, 1.02)
    panels[0, 0].yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    panels[0, 0].set_ylabel("sets that find the best method")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right center")
    _save(figure, path)


def sources(found: Numbers, path: Path) -> None:
    """The SD over seeds and what remains of it; shares of variance of each source; rounding beside other seeds."""
    parts = [(_spread, found["spread"], 1.4), (_stack, found["shares"], 1.0), (_floors, found["floors"], 1.0)]
    parts = [part for part in parts if part[1]]
    widths = [width for *_, width in parts]
    figure, panels = plt.subplots(
        1,
        len(parts),
        figsize=(2.8 * sum(widths), max(3.4, 1.4 + 0.28 * len(found["spread"]))),
        width_ratios=widths,
        squeeze=False,
    )
    for axes, (draw, rows, _) in zip(panels[0], parts, strict=True):
        draw(axes, rows)
    _save(figure, path)


def _spread(axes: Axes, rows: Sequence[Numbers]) -> None:
    """The SD over seeds of each run, and what would remain of it."""
    names = [f"{row['task']} {row['run']} ({row['seeds']})" for row in rows]
    for place, row in enumerate(rows):
        _mark(axes, row["sd"], row["sd_interval"], place - 0.15, *LOOKS[0])
        _mark(axes, row["remaining"]["value"], row["remaining"]["interval"], place + 0.15, *LOOKS[1])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("SD over seeds (grey), and with\ninfinitely many test examples (blue)")


def _floors(axes: Axes, rows: Sequence[Numbers]) -> None:
    """How much repeats of a seed differ, relative to other seeds."""
    for place, row in enumerate(rows):
        _mark(axes, row["share"], row["interval"], place, *LOOKS[1])
    axes.set_yticks(range(len(rows)), [named(row["measure"]) for row in rows])
    axes.invert_yaxis()
    axes.axvline(1, color=VERMILION, linewidth=1)
    axes.set_xlim(left=-0.03)
    axes.set_xlabel("difference by rounding\n(another seed: 1)", x=1, ha="right")


def _stack(axes: Axes, shares: Sequence[Numbers]) -> None:
    """A bar for each quantity, divided among the sources of randomness."""
    names = list(dict.fromkeys(name for row in shares for name in row["shares"]))
    left = np.zeros(len(shares))
    for name, (colour, _) in zip(names, LOOKS, strict=False):
        widths = np.array([row["shares"].get(name, 0.0) for row in shares])
        axes.barh(range(len(shares)), widths, left=left, color=colour, height=0.6, label=name)
        left += widths
    several = len({row["task"] for row in shares}) > 1
    quantities = [f"{row['task']} " * several + named(row["quantity"]) for row in shares]
    axes.set_yticks(range(len(shares)), quantities)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.invert_yaxis()
    axes.set_xlabel("share of the variance")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def layers(found: Numbers, path: Path) -> None:
    """Measures by layer for the standard recipe; correlations over seeds, within and between levels of detail."""
    standard = [row for row in found["layers"] if row["run"] == "standard"]
    tasks = list(dict.fromkeys(row["task"] for row in standard))
    figure, panels = plt.subplots(
        1, len(tasks) + 1, figsize=(2.6 * len(tasks) + 3.6, 3.4), width_ratios=[1] * len(tasks) + [1.3]
    )
    for axes, task in zip(panels, tasks, strict=False):
        for row, (colour, marker) in zip([row for row in standard if row["task"] == task], LOOKS[1:], strict=False):
            numbers = np.arange(1, len(row["values"]) + 1)
            ends = np.array(row["intervals"], np.float64)
            axes.fill_between(numbers, ends[:, 0], ends[:, 1], color=colour, alpha=0.2, linewidth=0)
            axes.plot(numbers, row["values"], f"-{marker}", color=colour, markersize=4.5, label=named(row["measure"]))
        axes.set_ylim(bottom=0)
        axes.set_title(f"{task}, standard", loc="left")
        axes.set_xlabel("layer")
        axes.set_xticks(numbers)
    panels[0].legend()
    groups = by_levels(found)
    right = panels[-1]
    rng = np.random.default_rng(0)
    for place, values in enumerate(groups.values()):
        right.plot(values, place + rng.uniform(-0.2, 0.2, len(values)), "o", color=PALE, markersize=3)
        right.plot([np.nanmedian(values)] * 2, [place - 0.3, place + 0.3], color=BLUE, linewidth=2)
    right.axvline(0, color=GREY, linewidth=0.8)
    right.set_yticks(range(len(groups)), [name.replace(" and ", " and\n") for name in groups])
    right.set_xlabel("correlation over seeds (blue: median)")
    _save(figure, path)


def by_levels(found: Numbers) -> dict[str, list[float]]:
    """The correlations over seeds between any two measures, by their levels of detail."""
    groups: dict[str, list[float]] = {}
    for row in found["correlations"]:
        for i, j in zip(*np.triu_indices(len(row["names"]), 1), strict=True):
            levels = [MEASURES[row["names"][place]].granularity for place in (i, j)]
            groups.setdefault(" and ".join(dict.fromkeys(levels)), []).append(row["matrix"][i][j])
    return groups


def _mark(axes: Axes, value: float, interval: Sequence[float] | None, place: float, colour: str, marker: str) -> None:
    if interval is not None:
        axes.plot(interval, [place, place], color=colour, linewidth=1.4)
    axes.plot(value, place, marker, color=colour, markersize=4.5)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    print(f"drawn: {path}")


DRAWN: dict[str, Callable[[Numbers, Path], None]] = {
    one.__name__: one for one in (coverage, verdicts, ranking, sources, layers)
}
plt.rcParams.update(STYLE)
