"""What all figures share: their look, axes to draw on, dots of seeds, ticks."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

WIDTH = 4.6  # inches
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#8a8a8a"
FOREGROUND = "#010203"  # placeholder that `jaxstab.report.drawing.to_svg` replaces by the page's colour
STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlesize": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxstab",
    "text.parse_math": False,  # names may hold a dollar sign
    "figure.constrained_layout.use": True,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor"), FOREGROUND
    ),
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Makes a function draw in the style of all figures."""

    @wraps(draw)
    def styled(*arguments: Any, **options: Any) -> Figure:
        if options.get("on") is not None and not isinstance(options["on"], Figure):
            return draw(*arguments, **options)  # axes keep their own style
        with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
            return draw(*arguments, **options)

    return styled


def new_axes(height: float, on: Axes | Figure | None = None) -> tuple[Figure, Axes]:
    """Returns a new figure with axes, or those of `on`; height in inches."""
    if isinstance(on, Axes):
        return on.figure, on  # type: ignore[return-value]  # or a subfigure, which is as good
    figure = Figure() if on is None else on
    figure.set_size_inches(WIDTH, height)
    return figure, figure.subplots()


def draw_dots(axes: Axes, place: float, scores: Floats, failed: Mask) -> None:
    """Draws seeds as dots, equal scores side by side, and a line at the mean."""
    finite = np.isfinite(scores)
    offsets = _spread(scores[finite])
    size = 16 if len(scores) <= 40 else 6
    for mask, marker, colour in ((~failed[finite], "o", BLUE), (failed[finite], "X", VERMILION)):
        axes.scatter(
            place + offsets[mask], scores[finite][mask], s=size, marker=marker, color=colour, alpha=0.75, linewidths=0
        )
    if finite.any():
        axes.plot([place - 0.3, place + 0.3], [scores[finite].mean()] * 2, color=FOREGROUND, linewidth=1.5)


def _spread(scores: Floats) -> Floats:
    """Offsets [S] so that dots of nearly equal height do not cover each other."""
    offsets = np.zeros(len(scores))
    if len(scores) < 2:
        return offsets
    height = max(np.ptp(scores), 1e-9) / 25
    bins = np.round((scores - scores.min()) / height)
    for one in np.unique(bins):
        places = np.flatnonzero(bins == one)
        width = min(0.07, 0.6 / len(places))
        offsets[places] = width * (np.arange(len(places)) - (len(places) - 1) / 2)
    return offsets


def add_legend_of_failed(axes: Axes, failed: Mask) -> None:
    """Adds a legend that tells failed seeds from others, if some failed."""
    if failed.any():
        axes.scatter([], [], marker="o", color=BLUE, s=16, label="seed")
        axes.scatter([], [], marker="X", color=VERMILION, s=16, label="failed seed")
        axes.legend(loc="lower right")


def error_bars(values: Floats, intervals: Floats) -> Floats:
    """Returns the lengths of error bars [2, n] from values [n] and intervals [n, 2]."""
    return np.abs(np.nan_to_num(intervals.T - values))


def set_plain_ticks(axes: Axes, low: float, high: float) -> None:
    """Labels an axis of ratios with a few plain numbers."""
    steps = (
        [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
        if high / low > 4
        else [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3]
    )
    ticks = [one for one in steps if low <= one <= high]
    axes.set_xticks(ticks, [f"{one:g}" for one in ticks])
    axes.set_xticks([], minor=True)
