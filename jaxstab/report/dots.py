"""Figures of the scores of seeds: a dot for each, or the density of many."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from jaxstab.report.style import (
    BLUE,
    FEW_SEEDS,
    FOREGROUND,
    GREY,
    HEIGHT,
    LEAST_SPAN,
    MANY_SEEDS,
    VERMILION,
    Floats,
    Mask,
    key,
    legend,
    look,
    new,
    new_figure,
    span,
    styled,
    tell,
    wrapped,
)


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


def shown_as(rows: Sequence[Seeds], score: str) -> str:
    """What a caption says of rows of seeds and a kind of score: dots, to be pointed at, or densities."""
    dense = [_is_dense(row.scores, row.failed) for row in rows]
    mean = "; the line is the mean" if any(len(row.scores) > 1 for row in rows) else ""
    if all(dense):
        return f"Density of the {score}s of all seeds{mean}."
    many = ", or the density of many seeds" if any(dense) else ""
    return f"{score[0].upper()}{score[1:]} of each seed{many}{mean}. Point at a dot for its seed."


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
    dense = _is_dense(scores, failed)
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


def _is_dense(scores: Floats, failed: Mask) -> bool:
    good = scores[~failed & np.isfinite(scores)]
    return len(good) > MANY_SEEDS and bool(np.ptp(good) > 0)


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
