"""The forest plot: all measures of all methods as ratios to a baseline."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxstab.report.style import (
    BACKGROUND,
    BLUE,
    FONT_SIZE,
    FOREGROUND,
    GREY,
    Floats,
    Mask,
    key,
    legend,
    legend_height,
    look,
    new,
    span,
    styled,
    tell,
    wrapped,
)

FARTHEST = 20  # ratios are drawn up to this one, and down to its inverse
TICKS = (
    (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20),
    (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20),
    (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.7, 2),
    tuple(np.arange(0.5, 2.01, 0.05).round(2)),
    tuple(np.arange(0.5, 2.01, 0.02).round(2)),
    tuple(np.arange(0.5, 2.01, 0.01).round(2)),
)


@dataclass(frozen=True)
class Ratio:
    """A measure of a method as a ratio to the baseline's.

    Attributes:
        value: the ratio; None where there is none.
        ends: its 95 % interval; None where there is none.
        clear: whether the difference is clear.
        says: all of this in words.
    """

    value: float | None
    ends: Sequence[float] | None
    clear: bool
    says: str


def ratio_limits(ratios: Sequence[Ratio]) -> tuple[float, float]:
    """Returns the ends of an axis that holds all ratios and intervals, and 1."""
    known = [one.value for one in ratios if one.value] + [
        end for one in ratios if one.ends is not None for end in one.ends
    ]
    inside = np.clip([1.0, *(one for one in known if one > 0)], 1 / FARTHEST, FARTHEST)
    low, high = np.log(inside.min()), np.log(inside.max())
    margin = 0.06 * max(high - low, 0.1)
    return float(np.exp(min(low, -0.02) - margin)), float(np.exp(max(high, 0.02) + margin))


def forest_height(measures: int, methods: Sequence[str]) -> float:
    """The height of a forest plot in inches."""
    return 1.0 + legend_height(methods) + _group_height(len(methods)) * measures


def _group_height(methods: int) -> float:
    return max(0.38, 0.15 * methods + 0.12)


@styled
def forest(
    measures: Sequence[str],
    methods: Sequence[str],
    ratios: Mapping[tuple[str, str], Ratio],
    *,
    baseline: str,
    limits: tuple[float, float],
    title: str = "",
    height: float | None = None,
) -> Figure:
    """All measures of all methods as ratios to a baseline, with intervals, on one axis.

    Args:
        measures: names of the measures, from top to bottom.
        methods: names of the K methods, the baseline not among them.
        ratios: by measure and method; what is not there is not drawn.
        baseline: name of the method that has the ratio 1.
        limits: ends of the axis, see `ratio_limits`.
        title: what is above the axis.
        height: of the figure, in inches; default: as much as it needs.
    """
    figure, axes = new(height or forest_height(len(measures), methods))
    axes.set_xscale("log")
    axes.axvline(1, color=FOREGROUND, linewidth=1)
    offsets = (np.arange(len(methods)) - (len(methods) - 1) / 2) * 0.8 / max(len(methods), 2)
    for row, measure in enumerate(measures):
        if row % 2:
            axes.axhspan(row - 0.5, row + 0.5, color=GREY, alpha=0.1, linewidth=0)
        for place, (method, offset) in enumerate(zip(methods, offsets, strict=True), start=1):
            if (measure, method) in ratios:
                _ratio(axes, row + offset, ratios[measure, method], look(place), method, limits)
    axes.set_xlim(*limits)
    axes.set_yticks(range(len(measures)), [wrapped(one) for one in measures])
    axes.set_ylim(len(measures) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    short = textwrap.shorten(baseline, 24, placeholder="…")
    axes.set_xlabel(f"ratio to {short}{'; ' if len(short) <= 10 else chr(10)}left is more stable")
    axes.set_title(title, loc="left")
    _ratio_ticks(axes, *limits)
    legend(figure, [key(name, *look(place)) for place, name in enumerate(methods, start=1)])
    return figure


@styled
def differences(
    labels: Sequence[str],
    values: Floats,
    intervals: Floats,
    clear: Mask,
    *,
    xlabel: str,
    ratios: bool = False,
    on: Axes | Figure | None = None,
) -> Figure:
    """Differences of one quantity with intervals, one per line; filled where they are clear.

    Args:
        labels: [K] labels of the lines.
        values: [K]; NaN where there is none.
        intervals: [K, 2]; an end that is not finite is drawn to the edge.
        clear: [K] whether each difference is clear.
        xlabel: label of the axis.
        ratios: whether they are ratios, on a logarithmic axis, and 1 means no difference.
        on: axes or an empty figure, instead of a new figure.
    """
    figure, axes = new(0.9 + 0.3 * len(labels), on)
    if ratios:
        axes.set_xscale("log")
        limits = ratio_limits([Ratio(*both, False, "") for both in zip(values, intervals, strict=True)])
        _ratio_ticks(axes, *limits)
    else:
        limits = span(np.append(np.append(values, intervals), 0))
    ends = np.where(np.isfinite(intervals), intervals, limits)
    for row, (value, both, sure) in enumerate(zip(values, ends, clear, strict=True)):
        if not np.isfinite(value):
            axes.text(limits[0], row, " not defined", va="center")
            continue
        colour = BLUE if sure else GREY
        if np.isfinite(intervals[row]).any():
            axes.plot(both, [row, row], color=colour, linewidth=2 if sure else 1.2)
        axes.plot(value, row, "D" if sure else "o", color=colour, fillstyle="full" if sure else "none")
    axes.axvline(1 if ratios else 0, color=FOREGROUND, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xlim(*limits)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.3, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(xlabel)
    return figure


def _ratio(
    axes: Axes,
    row: float,
    ratio: Ratio,
    style: tuple[str, str],
    method: str,
    limits: tuple[float, float],
) -> None:
    """Draws a ratio with its interval: filled if clear, hollow if not, a dash at the edge if there is none."""
    colour, marker = style
    if ratio.value is None or not ratio.value > 0:
        # At the end of the axis that is farther from the line at 1.
        place, side = (limits[1], "right") if limits[0] * limits[1] > 1 else (limits[0], "left")
        text = axes.text(place, row, " no ratio ", color=colour, va="center", ha=side, fontsize=FONT_SIZE)
        tell(text, [ratio.says], method)
        return
    if ratio.ends is not None:
        (line,) = axes.plot(np.clip(ratio.ends, *limits), [row, row], color=colour, linewidth=2 if ratio.clear else 1.2)
        tell(line, [ratio.says], method)
    face = colour if ratio.clear else BACKGROUND
    (dot,) = axes.plot(
        np.clip(ratio.value, *limits), row, marker, color=colour, markersize=7, markerfacecolor=face, zorder=3
    )
    tell(dot, [ratio.says], method)


def _ratio_ticks(axes: Axes, low: float, high: float) -> None:
    """Labels an axis of ratios with a few plain numbers."""
    inside = [[one for one in steps if low <= one <= high] for steps in TICKS]
    ticks = next((one for one in inside if len(one) >= 3), inside[-1])
    axes.set_xticks(ticks, [f"{one:g}" for one in ticks])
    axes.set_xticks([], minor=True)
