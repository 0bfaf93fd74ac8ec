"""`jaxstab.plot`: a result as a matplotlib figure, for notebooks and scripts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jaxstab.analysis.comparison import FAILED, Comparison
from jaxstab.analysis.ranking import Agreement
from jaxstab.analysis.sample import Sample
from jaxstab.analysis.seed_study import SeedStudy
from jaxstab.analysis.validity import Correlations, Validity
from jaxstab.errors import InputError
from jaxstab.measures import MEAN, MEASURES, Results
from jaxstab.report import dots, figures, forest, matrices
from jaxstab.report.dots import Seeds
from jaxstab.report.style import WIDTH, styled
from jaxstab.report.tables import guess_label, metric_label, quantity
from jaxstab.runs.directory import Run

Floats = NDArray[np.float64]
Drawing = Callable[..., Figure]  # its argument `on` is where it draws

SCORES, CURVES = "scores", "curves"


def plot(
    result: Any, what: str | None = None, *, layer: int | None = None, ax: Axes | None = None
) -> Axes | Sequence[Axes]:
    """Draws a result with matplotlib; `result.plot(...)` is the same.

    What is drawn of each result, by default the first:

    - `Run`: `"scores"`, a dot for each seed at every evaluation and on the test split; `"curves"`, losses and score by
      epoch; the name of a measure.
    - `Sample`: `"scores"`, a dot for each seed; the name of a measure.
    - `Results`: the name of a measure, by default one of representations if there is one; `"scores"`.
    - `Comparison`: the name of a quantity, by default `"mean"`: the difference of each method from the baseline with
      its 95 % interval, on every task; of a measure the ratio, left is more stable; filled where it is clear at 5 %.
      `"scores"`, a dot for each seed of each method.
    - `Validity`: correlations of measures over `"seeds"` or `"layers"`. `Correlations` and `Agreement`: these.
    - `SeedStudy`: the expected score of the best of n seeds.

    A measure of representations is drawn by layer with 95 % intervals and its nulls, or with `layer` as a map of the
    distances between the seeds in this layer. A measure of predictions of pairs of seeds is drawn as such a map.

    Args:
        result: what is drawn.
        what: see above.
        layer: 1 ... L, or -1 for the last.
        ax: axes to draw on, which keep their own style; by default those of a new figure.

    Returns:
        The axes, to be restyled, saved (`axes.figure.savefig`) or shown; of `"curves"` three, one above the other.

    Raises:
        InputError: there is nothing of this name in the result.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(2, size=100)
        >>> votes = np.where(rng.random((8, 100)) < 0.8, labels, 1 - labels)
        >>> axes = plot(Sample.from_arrays("mine", predictions=votes, labels=labels), "pairwise_disagreement")
        >>> axes.get_xlabel()
        'seed'
    """
    drawing = _choose(result, what, layer)
    if ax is not None:
        if what == CURVES:
            raise InputError("curves take three axes, so they have a figure of their own; leave out ax")
        drawing(on=ax)
        return ax
    figure = plt.figure(layout="constrained")
    drawing(on=figure)
    return figure.axes if what == CURVES else figure.axes[0]


def _choose(result: Any, what: str | None, layer: int | None) -> Drawing:
    match result:
        case Run():
            return _of_run(result, what or SCORES, layer)
        case Sample():
            return _of_sample(result, what or SCORES, layer)
        case Results():
            return _of_results(result, what, layer)
        case Comparison():
            return _of_comparison(result, what or MEAN)
        case Validity():
            return _of_validity(result, what)
        case Correlations():
            return partial(matrices.correlations, result.matrix, names=_labels(result.names))
        case Agreement():
            return partial(matrices.correlations, result.tau, names=_labels(result.measures))
        case SeedStudy():
            return _of_study(result)
    raise InputError(f"there is no figure of {type(result).__name__}; its numbers are in to_frame()")


def _of_run(run: Run, what: str, layer: int | None) -> Drawing:
    test = Seeds("test", run.scores, run.seeds.tolist(), np.isin(run.seeds, run.info.failed_seeds))
    metric = metric_label(run.info.metric)
    columns = {"train_loss": "training loss", "validation_loss": "validation loss"}
    columns["validation_score"] = f"validation {metric}"
    if what in (SCORES, CURVES):
        curves = {said: run.curves[name] for name, said in columns.items()}
        if what == CURVES:
            return partial(_draw_curves, curves, test)
        majority = run.info.majority_score.test
        validation = curves[columns["validation_score"]]
        guess = guess_label(run.info.metric)
        return partial(dots.evaluation_dots, validation, test, metric=metric, majority=majority, guess=guess)
    measured = run.distances["seeds"]
    return _of_measure(
        what,
        run.measures["measures"],
        run.distances,
        measured.tolist(),
        np.isin(measured, run.info.failed_seeds),
        layer,
        others=(SCORES, CURVES),
    )


@styled
def _draw_curves(curves: Mapping[str, Floats], seeds: Seeds, *, on: Figure) -> Figure:
    """Panels above each other, of what is [S, E] by its name."""
    on.set_size_inches(WIDTH, 2 * len(curves))
    for panel, (said, values) in zip(on.subplots(len(curves), 1, sharex=True), curves.items(), strict=True):
        figures.seed_curves(values, ylabel=said, names=seeds.names, failed=seeds.failed, on=panel)
        panel.label_outer()
    return on


def _of_sample(sample: Sample, what: str, layer: int | None) -> Drawing:
    if what == SCORES:
        if sample.scores is None:
            raise InputError(f"{sample.source}: no labels, so no scores")
        return _dots(sample.metric, [Seeds(sample.name, sample.scores, sample.inputs.names, sample.failed)])
    rows = {}
    if what in sample.distances:
        rows = sample.rows([what])
        rows[what] |= sample.nulls.get(what, {})
    return _of_measure(what, rows, sample.distances, sample.inputs.names, sample.failed, layer, others=(SCORES,))


def _of_results(results: Results, what: str | None, layer: int | None) -> Drawing:
    layered = [name for name, row in results.items() if "layers" in row]
    what = what or next(iter([*layered, *results.distances, SCORES]))
    if what == SCORES:
        if results.scores is None:
            raise InputError("no labels, so no scores")
        scores = np.asarray(results.scores["per_seed"])
        return _dots(results.scores["metric"], [_nobody_failed("seeds", scores)])
    places = list(range(results.seeds))
    return _of_measure(what, results, results.distances, places, np.zeros(results.seeds, bool), layer, others=(SCORES,))


def _of_measure(
    name: str,
    rows: Mapping[str, Mapping[str, Any]],
    distances: Mapping[str, np.ndarray],
    seeds: Sequence[int],
    failed: NDArray[np.bool_],
    layer: int | None,
    *,
    others: Sequence[str],
) -> Drawing:
    """A measure by layer, or as a map of the distances between seeds.

    Args:
        name: name of the measure.
        rows: the row of each measure, as in `Results`.
        distances: [L, S, S] of each measure of pairs.
        seeds: [S] numbers.
        failed: [S].
        layer: the layer of a map; None for the measure by layer.
        others: what could have been asked for beside measures of pairs.
    """
    if name not in distances or name not in MEASURES:
        if name in rows:
            raise InputError(f"{name} is one number for all seeds, so there is no figure of it")
        known = [*others, *(one for one in distances if one in MEASURES)]
        raise InputError(f"nothing called {name!r} can be drawn; there is {', '.join(known)}")
    row = rows[name]
    if layer is None and "layers" in row:
        ends = [_floats(interval or (None, None)) for interval in row["layer_intervals"]]
        shuffled = _floats(row.get("null_shuffled") or [None] * len(ends))
        return partial(
            figures.layer_curves,
            [(MEASURES[name].label, _floats(row["layers"]), np.array(ends), shuffled)],
            null=row.get("null"),
        )
    layers = len(distances[name])
    if layer not in (None, -1, *range(1, layers + 1)):
        raise InputError(f"layer = {layer}: {name} has {layers}; give 1 to {layers}, or -1 for the last")
    place = -1 if layer in (None, -1) else layer - 1
    shown = np.asarray(distances[name][place], np.float64)
    return partial(matrices.heat_map, shown, name=MEASURES[name].label, seeds=seeds, failed=failed)


def _of_comparison(found: Comparison, what: str) -> Drawing:
    single = len(found.values) == 1
    if what == SCORES:
        rows = [
            replace(
                _nobody_failed(method if single else f"{task}: {method}", np.asarray(scores)),
                place=found.methods.index(method),
            )
            for task, by_name in found.scores.items()
            for method, scores in by_name.items()
            if scores
        ]
        return _dots(" or ".join(dict.fromkeys(map(metric_label, found.metrics.values()))), rows)
    shown = [one for one in found.differences if one.measure == what]
    if not shown:
        known = dict.fromkeys(one.measure for one in found.differences)
        raise InputError(f"nothing called {what!r} was compared; there is {', '.join([SCORES, *known])}")
    as_ratio = what not in (MEAN, FAILED)
    values = [one.effect if as_ratio else one.difference for one in shown]
    ends = [(one.effect_interval if as_ratio else one.interval) or (None, None) for one in shown]
    name = quantity(what, found.metrics[shown[0].task] if single else "score").label
    return partial(
        forest.differences,
        [one.method if single else f"{one.task}: {one.method}" for one in shown],
        _floats(values),
        np.array([_floats(both) for both in ends]),
        np.array([one.clear for one in shown]),
        xlabel=f"{name}, {'divided by' if as_ratio else 'minus'} that of {found.baseline}",
        ratios=as_ratio,
    )


def _of_validity(found: Validity, what: str | None) -> Drawing:
    parts = {f"{one.over}": one for one in (found.over_seeds, found.over_layers) if one is not None}
    if not parts:
        raise InputError(f"no correlations were computed: {'; '.join(found.notes)}")
    if what is not None and what not in parts:
        raise InputError(f"there are no correlations over {what!r}; there is {', '.join(parts)}")
    one = parts[what or next(iter(parts))]
    return partial(matrices.correlations, one.matrix, names=_labels(one.names))


def _of_study(study: SeedStudy) -> Drawing:
    lines = [("chosen by the test score", study.best)]
    if study.best_by_validation is not None:
        lines.append(("chosen by validation", study.best_by_validation))
    tried = np.arange(1, len(study.best) + 1)
    label = f"{metric_label(study.metric)} of the best"
    return partial(figures.curves, tried, lines, xlabel="seeds tried", ylabel=label)


def _dots(metric: str, rows: Sequence[Seeds]) -> Drawing:
    return partial(dots.seed_dots, [(metric_label(metric), rows)], height=1.1 + 0.5 * len(rows))


def _nobody_failed(name: str, scores: Floats) -> Seeds:
    """Scores of seeds of which nothing else is known."""
    return Seeds(name, scores, range(len(scores)), np.zeros(len(scores), bool))


def _labels(names: Sequence[str]) -> list[str]:
    return [quantity(name).label for name in names]


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if one is None else one for one in values], np.float64)
