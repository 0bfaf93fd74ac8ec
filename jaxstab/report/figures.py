"""Figures of arrays: each function draws one figure and computes only what drawing needs.

Figures are narrow, to be readable on a phone and to fit a column. Each has a sensible look for one seed, for equal
seeds, for failed ones and for hundreds. Where there is an argument `on`, axes or an empty figure can be given instead
of a new figure. S seeds, E epochs, L layers, K methods.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxstab.report.style import (
    BLUE,
    FEW_SEEDS,
    FOREGROUND,
    GREY,
    MANY_SEEDS,
    VERMILION,
    Floats,
    Mask,
    legend,
    line_key,
    look,
    new,
    span,
    styled,
    tell,
)


@styled
def seed_curves(
    values: Floats, *, ylabel: str, names: Sequence[int], failed: Mask, on: Axes | Figure | None = None
) -> Figure:
    """A line over epochs for each seed, and of those that did not fail the median and a band with 80 %.

    Of many seeds only those that failed have lines, and a second band spans all others.

    Args:
        values: [S, E] losses or scores.
        ylabel: what they are.
        names: [S] numbers of the seeds.
        failed: [S] whether each seed failed; drawn dashed.
        on: see above.
    """
    figure, axes = new(on=on)
    epochs = np.arange(1, values.shape[1] + 1)
    marker = "o" if len(epochs) == 1 else None
    width = 0.8 if len(values) <= FEW_SEEDS else 0.4
    many = (~failed).sum() > MANY_SEEDS
    for one, seed, bad in zip(values, names, failed, strict=True):
        if many and not bad:
            continue
        (line,) = axes.plot(epochs, one, linewidth=width, alpha=0.7, marker=marker, markersize=4)
        line.set(color=VERMILION if bad else GREY, linestyle="--" if bad else "-")
        tell(line, [f"seed {seed}{', failed' * bool(bad)}: {one[-1]:.4g} at the end"])
    finite = values[np.isfinite(values).all(axis=1) & ~failed]
    if len(finite) > 1:
        low, median, high = np.quantile(finite, [0.1, 0.5, 0.9], axis=0)
        if many:
            axes.fill_between(epochs, finite.min(axis=0), finite.max(axis=0), color=GREY, alpha=0.25, linewidth=0)
        axes.fill_between(epochs, low, high, color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(epochs, median, color=BLUE, linewidth=2, marker=marker)
    if not np.isfinite(values).any():
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", va="center")
    axes.set_xlim(1 - 0.04 * len(epochs), len(epochs) + 0.04 * len(epochs))
    axes.set_ylim(*span(values))
    axes.set_ylabel(ylabel)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if failed.any():
        good = [line_key("median", BLUE), line_key("all seeds" if many else "seed", GREY)] if len(finite) > 1 else []
        legend(figure, [*good, line_key("failed seed", VERMILION, "--")], on)
    return figure


@styled
def layer_curves(
    lines: Sequence[tuple[str, Floats, Floats, Floats]],
    *,
    null: float | None = None,
    on: Axes | Figure | None = None,
) -> Figure:
    """Measures by layer, with 95 % bands; dotted: the same with each seed's examples shuffled.

    Args:
        lines: for each measure its name, values [L], intervals [L, 2] and values [L] of shuffled examples; NaN where
            there is none.
        null: what unrelated data would give.
        on: see above.
    """
    figure, axes = new(on=on)
    every = [np.zeros(1)]
    for place, (name, values, intervals, shuffled) in enumerate(lines, start=1):
        layers = np.arange(1, len(values) + 1)
        colour, marker = look(place)
        axes.fill_between(layers, *intervals.T, color=colour, alpha=0.2, linewidth=0)
        (line,) = axes.plot(layers, values, color=colour, marker=marker, markersize=4, label=name)
        tell(line, [f"{name}: {values[-1]:.3g} in the last layer"])
        axes.plot(layers, shuffled, color=colour, linewidth=1.2, linestyle=":")
        every += [values, intervals.ravel(), shuffled]
        axes.set_xticks(layers if len(layers) <= 13 else layers[:: -(-len(layers) // 12)])
    drawn = axes.get_lines()[::2]
    axes.set_xlabel("layer (dotted: examples shuffled)")
    if null is not None:
        axes.axhline(null, color=FOREGROUND, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_xlabel("layer (dotted: shuffled; dashed: unrelated)")
        every.append(np.array([null]))
    axes.set_ylim(*span(np.concatenate(every)))
    if len(lines) > 1:
        legend(figure, drawn, on)
    else:
        axes.set_ylabel(lines[0][0])
    return figure


@styled
def profiles(thresholds: Floats, lines: Sequence[tuple[str, Floats, Floats]]) -> Figure:
    """The share of seeds that score above each threshold, a line with its band for each method.

    Args:
        thresholds: [T].
        lines: for each method its name, the shares [T] and the ends [T, 2] of their intervals.
    """
    figure, axes = new()
    dashes = ("-", "--", "-.", ":")
    for place, (name, shares, band) in enumerate(lines):
        colour, _ = look(place)
        (line,) = axes.plot(thresholds, shares, color=colour, linestyle=dashes[place % len(dashes)], label=name)
        tell(line, [name], method=name)
        filled = axes.fill_between(thresholds, *band.T, color=colour, alpha=0.13, linewidth=0)
        tell(filled, method=name)
    axes.set_xlim(*span(thresholds, margin=0))
    axes.set_xlabel("score")
    axes.set_ylabel("seeds above it")
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    legend(figure, axes.get_lines())
    return figure


@styled
def votes_histogram(agreement: Floats) -> Figure:
    """A histogram of the seeds' agreement over examples.

    Args:
        agreement: [N] share of the seeds that vote for the most frequent prediction.
    """
    figure, axes = new()
    values = np.unique(np.round(agreement, 6))
    gap = max(np.diff(values).min(initial=0.05), 0.025)
    edges = np.arange(1 + gap / 2, min(0.5, values.min()) - gap, -gap)[::-1]
    counts, _ = np.histogram(agreement, edges)
    bars = axes.bar(edges[1:] - gap / 2, counts, width=0.85 * gap, color=BLUE)
    for bar, count, right in zip(bars, counts, edges[1:], strict=True):
        if count:
            tell(bar, [f"{count} examples: {min(right - gap / 2, 1):.0%} of the seeds agree"])
    axes.set_xlim(edges[0], edges[-1] + gap / 2)
    axes.set_xlabel("share of seeds that predict the same")
    axes.set_ylabel("test examples")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if value < 1.001 else "")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


@styled
def spread_histogram(spread: Floats) -> Figure:
    """A histogram of how much the seeds' predicted numbers differ, over examples.

    Args:
        spread: [N] standard deviation over seeds of each example's prediction.
    """
    figure, axes = new()
    counts, edges = np.histogram(spread, bins=20, range=(0, spread.max() or 1.0))
    bars = axes.bar(edges[:-1], counts, width=0.9 * np.diff(edges), align="edge", color=BLUE)
    for bar, count, left, right in zip(bars, counts, edges[:-1], edges[1:], strict=True):
        if count:
            tell(bar, [f"{count} examples: SD {left:.3g} to {right:.3g}"])
    axes.set_xlabel("SD of the seeds' predictions")
    axes.set_ylabel("test examples")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
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
    """A few lines over a common x axis of whole numbers.

    Args:
        x: [n] positions.
        lines: the name and the values [n] of each line.
        xlabel: label of the x axis.
        ylabel: label of the y axis.
        on: see above.
    """
    figure, axes = new(on=on)
    for place, (name, y) in enumerate(lines, start=1):
        colour, marker = look(place)
        shown = marker if len(x) <= FEW_SEEDS else None
        (line,) = axes.plot(x, y, color=colour, linestyle=("-", "--")[place % 2 - 1], marker=shown, markersize=4)
        line.set_label(name)
        tell(line, [f"{name}: {y[-1]:.4f} at {x[-1]:g}"])
    axes.set_ylim(*span(np.concatenate([y for _, y in lines]), most=1))
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if len(lines) > 1:
        legend(figure, axes.get_lines(), on)
    return figure
