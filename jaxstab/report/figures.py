"""Figures of arrays: each function draws one figure and computes only what drawing needs.

Figures are narrow, to be readable on a phone and to fit a column. Each has a sensible look for one seed, for equal
seeds, for failed ones and for hundreds. Where there is an argument `on`, axes or an empty figure can be given instead
of a new figure. S seeds, E epochs, L layers, K methods.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import gaussian_kde

from jaxstab.report.style import (
    BLUE,
    FOREGROUND,
    GREY,
    HEIGHT,
    LEAST_SPAN,
    VERMILION,
    Floats,
    Mask,
    key,
    legend,
    line_key,
    look,
    new,
    new_figure,
    span,
    styled,
    tell,
    wrapped,
)

FEW_SEEDS, MANY_SEEDS = 40, 100  # more are drawn as a density, as quantiles over epochs


@dataclass(frozen=True)
class Seeds:
    """The scores of some seeds, for a row of dots.

    Attributes:
        name: name of the row.
        scores: [S].
        names: [S] numbers of the seeds.
        failed: [S] whether each seed failed.
        method: the method that they belong to.
        place: its place among the methods, which gives the row its colour; None for the common one.
    """

    name: str
    scores: Floats
    names: Sequence[int]
    failed: Mask
    method: str | None = None
    place: int | None = None


@styled
def seed_dots(
    panels: Sequence[tuple[str, Sequence[Seeds]]],
    *,
    majority: float | None = None,
    guess: str = "majority class",
    height: float = HEIGHT,
    on: Axes | Figure | None = None,
) -> Figure:
    """A dot for the score of each seed, a row for each method or split, and the mean of each row.

    Of many seeds, those that did not fail are drawn as a density.

    Args:
        panels: for each task the name of its score, and its rows.
        majority: the score of always predicting the same; a line if it is near, otherwise a number.
        guess: what that is.
        height: of the figure, in inches.
        on: see above; given axes have room for one panel.
    """
    figure, column = _column(len(panels), height, on)
    for axes, (metric, rows) in zip(column, panels, strict=True):
        for place, row in enumerate(rows):
            _dots(axes, -place, row)
        low, high = span(np.concatenate([row.scores for row in rows]), most=1)
        near = [one for one in [majority] if one is not None and 2 * low - high <= one <= 2 * high - low]
        axes.set_xlim(*(span(np.array([low, high, *near]), margin=0.02) if near else (low, high)))
        axes.set_yticks(-np.arange(len(rows)), [wrapped(row.name) for row in rows])
        for text, row in zip(axes.get_yticklabels(), rows, strict=True):
            tell(text, method=row.method)
        axes.set_ylim(0.6 - len(rows), 0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(metric)
        if near:
            axes.axvline(near[0], color=FOREGROUND, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.set_xlabel(f"{metric}; dashed: {guess}")
        elif majority is not None:
            axes.set_xlabel(f"{metric} ({guess}: {majority:.3f})")
    _say_failed(figure, np.concatenate([row.failed for _, rows in panels for row in rows]), on)
    return figure


@styled
def evaluation_dots(
    validation: Floats,
    test: Seeds,
    *,
    metric: str,
    majority: float | None,
    guess: str = "majority class",
    on: Axes | Figure | None = None,
) -> Figure:
    """A dot for each seed's score at every evaluation and on the test split, and the means.

    Args:
        validation: [S, E] scores.
        test: scores on the test split.
        metric: the score.
        majority: the score of always predicting the same.
        guess: what that is.
        on: see above.
    """
    figure, axes = new(HEIGHT, on)
    epochs = validation.shape[1]
    for epoch, scores in enumerate(validation.T, start=1):
        _dots(axes, epoch, replace(test, scores=scores, name=f"validation, epoch {epoch}"), upright=True)
    _dots(axes, epochs + 1.5, test, upright=True)
    axes.axvline(epochs + 0.75, color=GREY, linewidth=0.6)
    step = -(-epochs // 8)
    shown = range(step, epochs + 1, step)
    axes.set_xticks([*shown, epochs + 1.5], [*map(str, shown), "test"])
    axes.set_xlim(0.4, epochs + 2.1)
    axes.set_xlabel("epoch (validation)")
    axes.set_ylabel(metric)
    axes.set_ylim(*span(np.append(np.append(validation, test.scores), majority or np.nan), most=1))
    if majority is not None:
        axes.axhline(majority, color=FOREGROUND, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_xlabel(f"epoch (validation); dashed: {guess}")
    _say_failed(figure, test.failed, on)
    return figure


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


def _column(count: int, height: float, on: Axes | Figure | None) -> tuple[Figure, list[Axes]]:
    if isinstance(on, Axes):
        return on.figure, [on]  # type: ignore[return-value]  # see `new`
    figure = new_figure(height, on)
    return figure, list(np.atleast_1d(figure.subplots(count, 1)))


def _say_failed(figure: Figure, failed: Mask, on: Axes | Figure | None) -> None:
    """Adds a legend that tells failed seeds from others, if some failed."""
    if failed.any():
        good = [] if failed.all() else [key("seed", GREY, "o")]
        legend(figure, [*good, key("failed seed", VERMILION, "X")], on)


def _dots(axes: Axes, place: float, row: Seeds, *, upright: bool = False) -> None:
    """Draws seeds as dots, equal scores beside each other, and a line at their mean; `upright`: scores upwards."""
    finite = np.isfinite(row.scores)
    scores, failed, names = row.scores[finite], row.failed[finite], np.asarray(row.names)[finite]
    colour, marker = (BLUE, "o") if row.place is None else look(row.place)
    dense = (~failed).sum() > MANY_SEEDS and np.ptp(scores[~failed]) > 0
    if dense:
        _density(axes, place, scores[~failed], row, colour, upright)
    offsets = _spread(scores)
    size = 26 if len(scores) <= FEW_SEEDS else 9
    groups = ((~failed & (not dense), marker, colour, ""), (failed, "X", VERMILION, ", failed"))
    for mask, shape, filled, suffix in groups:
        if not mask.any():
            continue
        x, y = _turned(scores[mask], place + offsets[mask], upright)
        drawn = axes.scatter(x, y, s=size, marker=shape, color=filled, alpha=0.8, linewidths=0, zorder=2)
        said = [
            f"{row.name}, seed {seed}{suffix}: {score:.4f}"
            for seed, score in zip(names[mask], scores[mask], strict=True)
        ]
        tell(drawn, said, row.method)
    if len(scores) > 1:
        x, y = _turned(np.full(2, scores.mean()), place + np.array([-0.4, 0.4]), upright)
        (line,) = axes.plot(x, y, color=FOREGROUND, linewidth=1.6, zorder=1)
        tell(line, [f"{row.name}: mean {scores.mean():.4f} of {len(scores)} seeds"], row.method)
    elif not len(scores):
        axes.text(0.5, place, "no finite score", transform=axes.get_yaxis_transform(), ha="center", va="center")


def _density(axes: Axes, place: float, scores: Floats, row: Seeds, colour: str, upright: bool) -> None:
    """Draws the density of many seeds' scores on both sides of a line, from the lowest score to the highest."""
    at = np.linspace(scores.min(), scores.max(), 200)
    density = gaussian_kde(scores)(at)
    half = 0.38 * density / density.max()
    fill = axes.fill_betweenx if upright else axes.fill_between
    drawn = fill(at, place - half, place + half, color=colour, alpha=0.55, linewidth=0, zorder=2)
    low, median, high = np.quantile(scores, [0.025, 0.5, 0.975])
    said = f"{row.name}: {len(scores)} seeds, median {median:.4f}, 95 % from {low:.4f} to {high:.4f}"
    tell(drawn, [said], row.method)


def _turned(scores: Floats, places: Floats, upright: bool) -> tuple[Floats, Floats]:
    return (places, scores) if upright else (scores, places)


def _spread(scores: Floats) -> Floats:
    """Offsets [S] so that dots of nearly equal scores do not cover each other."""
    offsets = np.zeros(len(scores))
    if len(scores) < 2:
        return offsets
    bins = np.round((scores - scores.min()) / (max(np.ptp(scores), LEAST_SPAN) / 40))
    for one in np.unique(bins):
        places = np.flatnonzero(bins == one)
        step = min(0.16, 0.75 / len(places))
        offsets[places] = step * (np.arange(len(places)) - (len(places) - 1) / 2)
    return offsets
