"""The look of all figures: colours, type, and what axes and legends have in common."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal
from weakref import WeakKeyDictionary

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

WIDTH = 4.6  # inches; the page never shows a figure smaller than that many points in pixels, so type keeps its size
FONT_SIZE = 12
HEIGHT = 2.9  # inches, of most figures, so that cards side by side leave no gaps
LEAST_SPAN = 0.02  # an axis of scores or distances covers at least this much, so that rounding is no picture
FEW_SEEDS, MANY_SEEDS = 40, 100  # up to few, dots are large; more than many are drawn as a density
WRAPPED = 16  # characters of a label beside an axis
FOREGROUND, BACKGROUND = "#010203", "#FDFEFE"  # placeholders for the page's colours
BLUE, VERMILION, GREY = "#0072B2", "#C44500", "#767676"
# Colours and markers of methods, the baseline first: after Okabe & Ito and Tol, safe for colour-blind readers, but dark
# enough to be seen on white. Nothing is told by colour alone.
LOOKS = (
    ("#5F6368", "o"),
    (BLUE, "s"),
    ("#B86E00", "^"),
    ("#00805E", "D"),
    ("#AA4499", "v"),
    ("#6A5ACD", "P"),
    ("#8C5A2B", "*"),
)
# For dark pages; the page gives every colour a variable of this name.
DARK = {
    BLUE: "#56B4E9",
    VERMILION: "#FF8F57",
    GREY: "#9AA0A6",
    "#5F6368": "#B8BEC5",
    "#B86E00": "#F0B040",
    "#00805E": "#3CC9A0",
    "#AA4499": "#E490CF",
    "#6A5ACD": "#A9A1FF",
    "#8C5A2B": "#D2A679",
}
STYLE: dict[str, Any] = {
    "font.size": FONT_SIZE,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlesize": FONT_SIZE,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-5, 6),
    "legend.frameon": False,
    "legend.fontsize": FONT_SIZE,
    "legend.handlelength": 1.4,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.2,
    "legend.borderaxespad": 0.2,
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


@dataclass(frozen=True)
class Part:
    """What is known of a part of a figure.

    Attributes:
        says: one text for the part, or one for each of its elements.
        method: the method that it shows, by which the page can filter.
    """

    says: Sequence[str] = ()
    method: str | None = None


PARTS: WeakKeyDictionary[Artist, Part] = WeakKeyDictionary()  # of all figures; the page shows them on hover


def tell(artist: Artist, says: Sequence[str] = (), method: str | None = None) -> None:
    """Remembers what a part of a figure shows."""
    PARTS[artist] = Part(says, method)


def look(place: int) -> tuple[str, str]:
    """Returns colour and marker of a method by its place, the baseline's being 0."""
    colours = len(LOOKS) - 1
    colour = LOOKS[0] if place == 0 else LOOKS[1 + (place - 1) % colours]
    # After all colours are used the markers move on, so that every pair of colour and marker is new.
    marker = LOOKS[0] if place == 0 else LOOKS[1 + (place - 1 + (place - 1) // colours) % colours]
    return colour[0], marker[1]


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Makes a function draw in the common style, except on given axes, which keep their own."""

    @wraps(draw)
    def inside(*arguments: Any, **options: Any) -> Figure:
        if isinstance(options.get("on"), Axes):
            return draw(*arguments, **options)
        with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
            return draw(*arguments, **options)

    return inside


def new(height: float = HEIGHT, on: Axes | Figure | None = None) -> tuple[Figure, Axes]:
    """Returns axes on a figure, both new unless `on` is one of them; height in inches."""
    if isinstance(on, Axes):
        return on.figure, on  # type: ignore[return-value]  # or a subfigure, which is as good
    figure = new_figure(height, on)
    return figure, figure.subplots()


def new_figure(height: float, on: Figure | None = None) -> Figure:
    """Returns an empty figure of the common width; height in inches."""
    figure = Figure() if on is None else on
    figure.set_size_inches(WIDTH, height)
    return figure


def wrapped(text: str) -> str:
    """A label on as many lines as it needs beside an axis, at most three."""
    return "\n".join(textwrap.wrap(text, WRAPPED, max_lines=3, placeholder=" …")) or text


def span(values: Floats, *, margin: float = 0.06, most: float = np.inf) -> tuple[float, float]:
    """Returns the ends of an axis that holds the finite values, never so short that rounding becomes a picture.

    Args:
        values: of any shape.
        margin: at either end, as a share of the whole.
        most: the largest value that is possible.
    """
    finite = np.asarray(values, np.float64).ravel()
    finite = finite[np.isfinite(finite)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    if high - low < LEAST_SPAN:
        high = min((low + high + LEAST_SPAN) / 2, max(most, high))
        low = high - LEAST_SPAN
    return float(low - margin * (high - low)), float(high + margin * (high - low))


def key(name: str, colour: str, marker: str) -> Line2D:
    """A marker for a legend."""
    return Line2D([], [], color=colour, marker=marker, markersize=6, linestyle="", label=name)


def line_key(name: str, colour: str, style: Literal["-", "--"] = "-") -> Line2D:
    """A line for a legend."""
    return Line2D([], [], color=colour, linestyle=style, label=name)


def legend(figure: Figure, handles: Sequence[Line2D], on: Axes | Figure | None = None) -> None:
    """A legend above the figure, where it covers nothing; on given axes, which may have neighbours, inside of them."""
    if isinstance(on, Axes):
        on.legend(handles=list(handles), loc="best")
        return
    columns = _columns([str(one.get_label()) for one in handles])
    figure.legend(handles=list(handles), loc="outside upper left", ncols=columns)


def legend_height(names: Sequence[str]) -> float:
    """The height of a legend in inches."""
    return 0.22 * -(-len(names) // _columns(names))


def _columns(names: Sequence[str]) -> int:
    return max(1, min(3, len(names), 42 // (max(map(len, names)) + 4)))
