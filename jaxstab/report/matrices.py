"""Figures of square matrices: distances of seeds, correlations of measures, confusions. S seeds, M measures."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from jaxstab.report.style import HEIGHT, LEAST_SPAN, Floats, Mask, new, styled

MOST_LABELS = 10
WRITTEN = 8  # up to this many measures, cells show the correlations as numbers
MOST_CLASSES, LONGEST_NAME = 30, 16


@styled
def heat_map(
    distances: Floats, *, name: str, seeds: Sequence[int], failed: Mask, on: Axes | Figure | None = None
) -> Figure:
    """Distances of all pairs of seeds, ordered by average linkage; failed seeds have an asterisk.

    Args:
        distances: [S, S] distances.
        name: name of the measure.
        seeds: [S] numbers of the seeds.
        failed: [S] whether each seed failed.
        on: axes or an empty figure, instead of a new figure.
    """
    count = len(distances)
    order = np.arange(count)
    if count > 2 and np.isfinite(distances).all():
        condensed = squareform(np.maximum((distances + distances.T) / 2, 0), checks=False)
        order = leaves_list(linkage(condensed, "average", optimal_ordering=True))
    shown = np.array(distances, np.float64)[np.ix_(order, order)]
    np.fill_diagonal(shown, np.nan)
    figure, axes = new(HEIGHT, on)
    known = shown[np.isfinite(shown)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    short = high - low < LEAST_SPAN / 20
    drawn = axes.imshow(
        shown,
        cmap="cividis",
        interpolation="nearest",
        vmin=max(0.0, low - LEAST_SPAN) if short else low,
        vmax=low + LEAST_SPAN if short else high,
    )
    step = -(-count // MOST_LABELS)
    labels = [f"{seeds[int(i)]}{'*' * bool(failed[i])}" for i in order][::step]
    longest = max(map(len, labels))
    axes.set_xticks(range(0, count, step), labels, rotation=90 if longest > 2 else 0)
    axes.set_yticks(range(0, count, step), labels)
    axes.set_xlabel("seed")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if not len(known):
        said = "no pair of seeds\nhas a finite value"
        axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center")
    elif short:
        axes.set_title(f"{name}:\n{round(known.mean(), 6) + 0.0:.3g} for all pairs", loc="left")
    else:
        _bar(figure, axes, drawn, name)
    return figure


@styled
def correlations(matrix: Floats, *, names: Sequence[str], on: Axes | Figure | None = None) -> Figure:
    """Correlations between measures, which have numbers beside their names, for short columns.

    Args:
        matrix: [M, M] correlations; NaN, drawn as a dash, where a measure does not vary.
        names: [M] names of the measures.
        on: axes or an empty figure, instead of a new figure.
    """
    count = len(names)
    figure, axes = new(max(HEIGHT, 0.8 + 0.26 * count), on)
    shown = np.array(matrix, np.float64)
    np.fill_diagonal(shown, np.nan)
    drawn = axes.imshow(shown, cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
    numbers = [str(place) for place in range(1, count + 1)]
    axes.set_xticks(range(count), numbers)
    axes.set_yticks(range(count), [f"{name} {number}" for name, number in zip(names, numbers, strict=True)])
    for (i, j), value in np.ndenumerate(shown):
        if i != j and (np.isnan(value) or count <= WRITTEN):
            text = "-" if np.isnan(value) else _short(value)
            dark = abs(value) > 0.6
            colour = "white" if dark else None if np.isnan(value) else "black"
            axes.text(j, i, text, ha="center", va="center", color=colour)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if count > WRITTEN:
        _bar(figure, axes, drawn, "correlation")
    return figure


@styled
def confusion_map(counts: Floats, *, names: Sequence[str], on: Axes | Figure | None = None) -> Figure:
    """Confusion matrices of all seeds as one: a row for each label, whose cells are shares in per cent.

    Cells show mean and standard deviation over seeds, where there is room for it.

    Args:
        counts: [S, C, C] examples by seed, label and prediction; rows of labels without examples stay empty.
        names: [C] names of the classes.
        on: axes or an empty figure, instead of a new figure.
    """
    classes, several = len(names), len(counts) > 1
    totals = counts.sum(axis=2, keepdims=True)
    shares = 100 * np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    mean, spread = shares.mean(axis=0), shares.std(axis=0, ddof=int(several))
    figure, axes = new(max(HEIGHT, 1.8 + 0.26 * classes), on)
    drawn = axes.imshow(mean, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    shown = [
        name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}\N{HORIZONTAL ELLIPSIS}" for name in names
    ]
    axes.set_xticks(range(classes), shown, rotation=90 if classes > 3 and max(map(len, shown)) > 3 else 0)
    axes.set_yticks(range(classes), shown)
    axes.set_xlabel("prediction")
    axes.set_ylabel("label")
    if classes <= WRITTEN:
        for (i, j), value in np.ndenumerate(mean):
            if np.isfinite(value):
                text = f"{value:.0f} ± {spread[i, j]:.0f}" if several and spread[i, j] >= 0.5 else f"{value:.0f}"
                axes.text(j, i, text, ha="center", va="center", color="black" if value > 50 else "white")
    else:
        _bar(figure, axes, drawn, "per cent")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def _short(value: float) -> str:
    """A correlation in few characters: 1, -1, 0, .3 or -.3."""
    tenths = round(10 * value)
    return f"{tenths // 10}" if tenths % 10 == 0 else f"{'-' * (tenths < 0)}.{abs(tenths)}"


def _bar(figure: Figure, axes: Axes, drawn: AxesImage, name: str) -> None:
    bar = figure.colorbar(drawn, ax=axes, shrink=0.9, label=name)
    bar.outline.set_visible(False)
    bar.solids.set_rasterized(True)  # type: ignore[union-attr]
