"""Figures of arrays: each function draws one matplotlib figure and computes only what drawing needs.

Figures are narrow, to be readable on a phone and to fit a column. Colours are safe for colour-blind readers (Okabe &
Ito), and nothing is told by colour alone. S seeds, E epochs, L layers, M measures, K methods.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from jaxstab.report.style import (
    BLUE,
    FOREGROUND,
    GREEN,
    GREY,
    ORANGE,
    VERMILION,
    WIDTH,
    Floats,
    Mask,
    add_legend_of_failed,
    draw_dots,
    error_bars,
    new_axes,
    set_plain_ticks,
    styled,
)

MOST_LABELS = 40
WRITTEN = 10  # up to this many measures, cells show the correlations as numbers


@styled
def seed_dots(
    validation: Floats,
    test: Floats,
    *,
    metric: str,
    seeds: Sequence[int],
    failed: Mask,
    majority: float | None,
    on: Axes | Figure | None = None,
) -> Figure:
    """A dot for each seed's score at every evaluation and on the test split.

    Args:
        validation: [S, E] scores.
        test: [S] scores.
        metric: the score.
        seeds: [S] numbers of the seeds.
        failed: [S] whether each seed failed.
        majority: the score of always predicting the most frequent class.
        on: axes or an empty figure, instead of a new figure.
    """
    epochs = validation.shape[1]
    figure, axes = new_axes(2.7, on)
    columns = [*validation.T, test]
    places = [*range(1, epochs + 1), epochs + 1.5]
    for place, scores in zip(places, columns, strict=True):
        draw_dots(axes, place, scores, failed)
    axes.axvline(epochs + 0.75, color=GREY, linewidth=0.6)
    axes.set_xticks(places if epochs <= 12 else [1, epochs // 2, epochs, epochs + 1.5])
    names = [f"{place:g}" for place in places[:-1]] if epochs <= 12 else ["1", f"{epochs // 2}", f"{epochs}"]
    axes.set_xticklabels([*names, "test"])
    axes.set_xlabel("epoch (validation)")
    axes.set_ylabel(metric)
    axes.set_xlim(0.5, epochs + 2)
    if majority is not None:
        axes.axhline(majority, color=FOREGROUND, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.annotate("majority class", (epochs + 0.72, majority), va="bottom", ha="right", fontsize=9)
    add_legend_of_failed(axes, failed)
    return figure


@styled
def learning_curves(
    train_loss: Floats,
    validation_loss: Floats,
    validation_score: Floats,
    *,
    metric: str,
    failed: Mask,
    on: Figure | None = None,
) -> Figure:
    """Loss and score by epoch: a line for each seed, the median, and a band with 80 % of the seeds.

    Args:
        train_loss: [S, E] nats.
        validation_loss: [S, E] nats.
        validation_score: [S, E].
        metric: the score.
        failed: [S] whether each seed failed; drawn dashed.
        on: an empty figure, instead of a new figure.
    """
    figure = Figure() if on is None else on
    figure.set_size_inches(WIDTH, 5.2)
    panels = figure.subplots(3, 1, sharex=True)
    rows = (
        ("training loss", train_loss),
        ("validation loss", validation_loss),
        (f"validation {metric}", validation_score),
    )
    epochs = np.arange(1, train_loss.shape[1] + 1)
    for axes, (name, values) in zip(panels, rows, strict=True):
        marker = "o" if len(epochs) == 1 else None
        for one, bad in zip(values, failed, strict=True):
            style = {"color": VERMILION, "linestyle": "--"} if bad else {"color": GREY}
            axes.plot(epochs, one, linewidth=0.6, alpha=0.6, marker=marker, **style)
        finite = values[np.isfinite(values).all(axis=1)]
        if len(finite):
            low, median, high = np.quantile(finite, [0.1, 0.5, 0.9], axis=0)
            axes.fill_between(epochs, low, high, color=BLUE, alpha=0.25, linewidth=0)
            axes.plot(epochs, median, color=BLUE, linewidth=2, marker=marker)
        axes.set_ylabel(name)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@styled
def layer_curves(
    values: Floats,
    intervals: Floats,
    *,
    name: str,
    null: float | None = None,
    shuffled: Sequence[float | None] | None = None,
    on: Axes | Figure | None = None,
) -> Figure:
    """One measure by layer, with intervals and its nulls.

    Args:
        values: [L] values.
        intervals: [L, 2]; NaN where there is none.
        name: name of the measure.
        null: value for independent normal data.
        shuffled: [L] values for the same data with shuffled examples.
        on: axes or an empty figure, instead of a new figure.
    """
    figure, axes = new_axes(2.4, on)
    layers = np.arange(1, len(values) + 1)
    axes.fill_between(layers, intervals[:, 0], intervals[:, 1], color=BLUE, alpha=0.25, linewidth=0)
    axes.errorbar(layers, values, yerr=error_bars(values, intervals), color=BLUE, marker="o", markersize=4, capsize=2)
    if null is not None:
        axes.axhline(null, color=FOREGROUND, linewidth=0.8, linestyle=(0, (4, 3)), label="independent normal data")
    if shuffled is not None and any(one is not None for one in shuffled):
        heights = [np.nan if one is None else one for one in shuffled]
        axes.plot(
            layers,
            heights,
            color=VERMILION,
            linewidth=1,
            linestyle=":",
            marker="x",
            markersize=4,
            label="examples shuffled",
        )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best")
    axes.set_xlabel("layer")
    axes.set_ylabel(name)
    axes.set_xticks(layers if len(layers) <= 13 else layers[:: -(-len(layers) // 12)])
    axes.set_ylim(bottom=min(0, np.nanmin(values)) if np.isfinite(values).any() else 0)
    return figure


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
    figure, axes = new_axes(4.0, on)
    shown = np.array(distances, np.float64)[np.ix_(order, order)]
    np.fill_diagonal(shown, np.nan)
    drawn = axes.imshow(shown, cmap="cividis", interpolation="nearest", rasterized=True)
    step = -(-count // MOST_LABELS)
    labels = [f"{seeds[int(i)]}{'*' * bool(failed[i])}" for i in order][::step]
    size = 9 if count <= 20 else 6.5
    axes.set_xticks(range(0, count, step), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(0, count, step), labels, fontsize=size)
    axes.set_xlabel("seed")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, label=name)
    bar.outline.set_visible(False)
    return figure


@styled
def correlations(matrix: Floats, *, names: Sequence[str], on: Axes | Figure | None = None) -> Figure:
    """Correlations between measures.

    Args:
        matrix: [M, M] correlations; NaN where a measure does not vary.
        names: [M] names of the measures.
        on: axes or an empty figure, instead of a new figure.
    """
    count = len(names)
    figure, axes = new_axes(1.6 + min(3.0, 0.38 * count), on)
    drawn = axes.imshow(matrix, cmap="PuOr", vmin=-1, vmax=1, rasterized=True)
    axes.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    if count <= WRITTEN:
        for (i, j), value in np.ndenumerate(matrix):
            text = "" if np.isnan(value) else f"{value + 0.0:.1f}".replace("-0.0", "0.0")
            dark = abs(value) > 0.6
            axes.text(j, i, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if count > WRITTEN:
        bar = figure.colorbar(drawn, ax=axes, shrink=0.8, label="correlation")
        bar.outline.set_visible(False)
    return figure


@styled
def differences(
    labels: Sequence[str],
    values: Floats,
    intervals: Floats,
    clear: Mask,
    *,
    xlabel: str,
    reference: float = 0,
    log: bool = False,
    on: Axes | Figure | None = None,
) -> Figure:
    """Differences with intervals, one per line; clear differences are filled and dark.

    Args:
        labels: [K] labels of the lines.
        values: [K]; NaN where there is none.
        intervals: [K, 2]; an end that is not finite is drawn to the edge.
        clear: [K] whether each difference is clear.
        xlabel: label of the axis.
        reference: the value that means no difference.
        log: whether the axis is logarithmic, for ratios.
        on: axes or an empty figure, instead of a new figure.
    """
    figure, axes = new_axes(0.9 + 0.26 * len(labels), on)
    rows = np.arange(len(labels))[::-1]
    if log:
        axes.set_xscale("log")
    inside = np.concatenate([values, intervals[np.isfinite(intervals)], [reference]])
    inside = inside[np.isfinite(inside) & (inside > 0 if log else True)]
    low, high = inside.min(), inside.max()
    margin = 0.08 * (high - low or 1)
    low, high = (max(low, 1 / 20) / 1.15, min(high, 20) * 1.15) if log else (low - margin, high + margin)
    for row, value, ends, sure in zip(rows, values, intervals, clear, strict=True):
        if not np.isfinite(value):
            continue
        colour = BLUE if sure else GREY
        if np.isfinite(ends).any():
            left, right = (end if np.isfinite(end) else edge for end, edge in zip(ends, (low, high), strict=True))
            axes.plot([left, right], [row, row], color=colour, linewidth=1.6 if sure else 1.2)
        axes.plot(
            value, row, marker="D" if sure else "o", markersize=5, color=colour, fillstyle="full" if sure else "none"
        )
    axes.axvline(reference, color=FOREGROUND, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xlim(low, high)
    axes.set_yticks(rows, labels)
    axes.set_ylim(-0.7, len(labels) - 0.3)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(xlabel)
    if log:
        set_plain_ticks(axes, low, high)
    return figure


@styled
def dots_by_method(
    scores: Sequence[Floats],
    *,
    names: Sequence[str],
    metric: str,
    failed: Sequence[Mask],
    on: Axes | Figure | None = None,
) -> Figure:
    """Dots for the seeds of each method, methods side by side, and the mean of each.

    Args:
        scores: K arrays [S] of scores.
        names: [K] names of the methods.
        metric: the score.
        failed: K arrays [S], whether each seed failed.
        on: axes or an empty figure, instead of a new figure.
    """
    figure, axes = new_axes(2.8, on)
    for place, (one, bad) in enumerate(zip(scores, failed, strict=True)):
        draw_dots(axes, place, np.asarray(one), np.asarray(bad, bool))
    axes.set_xticks(range(len(names)), names)
    if max(map(len, names)) > 8 or len(names) > 5:
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylabel(metric)
    add_legend_of_failed(axes, np.concatenate([np.asarray(one, bool) for one in failed]))
    return figure


@styled
def profiles(thresholds: Floats, lines: Sequence[tuple[str, Floats, Floats]]) -> Figure:
    """The share of seeds that score above each threshold, a line with its band for each method.

    Args:
        thresholds: [T].
        lines: for each method its name, the shares [T] and the ends [T, 2] of their intervals.
    """
    figure, axes = new_axes(2.6)
    looks = zip(itertools.cycle(("-", "--", "-.", ":")), itertools.cycle((BLUE, ORANGE, GREEN, VERMILION, GREY)))
    for (name, shares, band), (line, colour) in zip(lines, looks, strict=False):
        axes.plot(thresholds, shares, color=colour, linestyle=line, label=name)
        axes.fill_between(thresholds, *band.T, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("score")
    axes.set_ylabel("share of seeds above it")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend()
    return figure


@styled
def votes_histogram(agreement: Floats) -> Figure:
    """A histogram of the seeds' agreement over examples.

    Args:
        agreement: [N] share of the seeds that vote for the most frequent prediction.
    """
    figure, axes = new_axes(2.2)
    values, counts = np.unique(np.round(agreement, 6), return_counts=True)
    gap = np.diff(values).min(initial=0.08)
    axes.bar(values, counts, width=0.8 * gap, color=BLUE)
    axes.set_xlabel("share of seeds that predict the same")
    axes.set_ylabel("test examples")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


@styled
def curves(
    x: Floats,
    lines: Sequence[tuple[str, Floats]],
    *,
    xlabel: str,
    ylabel: str,
    on: Axes | Figure | None = None,
) -> Figure:
    """A few lines over a common x axis.

    Args:
        x: [n] positions.
        lines: the name and the values [n] of each line.
        xlabel: label of the x axis.
        ylabel: label of the y axis.
        on: axes or an empty figure, instead of a new figure.
    """
    figure, axes = new_axes(2.4, on)
    styles = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, "-.", "^"))
    for (name, y), (colour, line, marker) in zip(lines, styles, strict=False):
        axes.plot(x, y, color=colour, linestyle=line, marker=marker, markersize=3.5, label=name)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(lines) > 1:
        axes.legend()
    return figure
