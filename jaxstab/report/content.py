"""The content of the page about one run, section by section."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxstab.analysis.failures import say_failures
from jaxstab.analysis.how_many import point
from jaxstab.analysis.sample import Sample, disagreement_of
from jaxstab.analysis.seed_study import SeedStudy, study_seeds
from jaxstab.analysis.validity import Validity, validity
from jaxstab.measures import MEAN, MEASURES, Results, explain, say_remaining
from jaxstab.report import tables
from jaxstab.report.classes import classes_section
from jaxstab.report.dots import Seeds, seed_dots, shown_as
from jaxstab.report.examples import examples_section
from jaxstab.report.figures import curves, layer_curves, seed_curves
from jaxstab.report.formats import ZERO, Table, number, share, slug, with_interval
from jaxstab.report.matrices import correlations, heat_map
from jaxstab.report.page import Picture, Point, Section
from jaxstab.report.seed_tables import say_count, say_range, study_tables
from jaxstab.report.style import HEIGHT, MANY_SEEDS, Floats
from jaxstab.words import count

MOST_NAMED = 12
MAPPED = ("pairwise_disagreement", "mean_absolute_disagreement", "cka")
LAYERED = ("cka", "op", "svcca")
FEWEST_MAPPED = 3  # two seeds have one distance, which is a number, not a map


def run_section(
    sample: Sample, results: Results, name: str, *, texts: bool = True, alone: bool = False, folded: bool = False
) -> Section:
    """Returns the section about one run.

    Args:
        sample: seeds of the run.
        results: measures of the seeds.
        name: prefix of the figures' names.
        texts: whether to show the examples' texts.
        alone: whether the run is the only content of the page, whose headline is then that of the run.
        folded: whether only its headline is shown at first.
    """
    study = None if sample.scores is None or sample.seeds < 2 else study_seeds(sample, delta=point(sample.scores))
    trust = (
        validity(sample)
        if sample.seeds >= 3 and sample.inputs.examples and set(sample.names) & set(sample.usual)
        else None
    )
    history = _history(sample)
    parts = [
        _training(sample, history, name),
        _seed_by_seed(sample, history, name),
        _trust(trust, name),
        _seeds(study, name),
        classes_section(sample, name),
        examples_section(sample, name, texts=texts),
        _reproduce(sample),
    ]
    layers = _layers(results, name)
    return Section(
        f"{sample.name} on {sample.task}",
        [] if alone or folded else [headline(sample)],
        _points(sample, results, study),
        [*_dots(sample, history, name, HEIGHT if layers or history else 2.0), *layers],
        [tables.measures_table(results)] if results.measures and sample.seeds > 1 else [],
        _notes(results) if sample.seeds > 1 else [],
        sections=[replace(part, folded=True) for part in parts if part is not None],
        folded=folded,
        summary=_in_short(sample) if folded else "",
        task=sample.task,
        method=sample.name,
    )


def headline(sample: Sample) -> str:
    """The main result of a run as one sentence."""
    return f"{sample.name} on {sample.task}: {_in_short(sample)}"


def _in_short(sample: Sample) -> str:
    seeds, failed, metric = sample.seeds, int(sample.failed.sum()), tables.metric_label(sample.metric)
    apart = disagreement_of(sample.inputs.of)
    rows = sample.rows([name for name in (MEAN, "sd", apart) if name in sample.names])
    mean, sd, disagreement = (rows.get(name, {}).get("value") for name in (MEAN, "sd", apart))
    if mean is None:
        return f"{count('seed', seeds)}, no scores."
    if seeds == 1:
        return f"{metric} {mean:.3f} with one seed; how much the seed matters cannot be told from one."
    if failed == seeds:
        return f"all {seeds} seeds failed (mean {metric} {mean:.3f})."
    if sd is None or sd < ZERO:
        said = f"all {seeds} seeds have {metric} {mean:.3f}"
    else:
        said = f"mean {metric} {mean:.3f} (SD {sd:.3f}) over {seeds} seeds"
    if disagreement is not None:
        differ = (
            f"two seeds disagree on {share(disagreement)} of the test examples"
            if sample.inputs.of == "classes"
            else f"two seeds differ by {disagreement:.3g} on an average test example"
        )
        said += f"; {differ}" if disagreement else ", and they predict the same"
    return f"{said}; {count('seed', failed)} failed." if failed else f"{said}."


def _points(sample: Sample, results: Results, study: SeedStudy | None) -> list[Point]:
    """What the figures beside them do not say."""
    points = []
    if results.scores is not None and sample.seeds > 1:
        mean = with_interval({"value": results.scores["mean"], "interval": results.scores["interval"]})
        said = f"Mean {tables.metric_label(sample.metric)} {mean}, SD {with_interval(results.measures.get('sd'))}."
        points.append(Point("In numbers", " ".join([said, *say_remaining(results.scores)])))
    if study is not None and study.needed:
        one = study.needed[0]
        ends = "" if one.range is None or one.range[0] == one.range[1] else f" ({say_range(one.range)})"
        points.append(Point("Seeds needed", f"{say_count(one.formula)}{ends} of each {one.question}."))
    if study is not None and len(study.best) > 1:
        points.append(Point("The best seed", study.sentences[0]))
    reasons = {seed: why for seed, why in zip(sample.inputs.names, sample.reasons, strict=True) if why}
    said = " ".join(say_failures(reasons, sample.seeds, MOST_NAMED))
    return [*points, Point("Failed", said)] if said else points


def _notes(results: Results) -> list[str]:
    reasons = [row["reason"] for row in results.measures.values() if row.get("reason")]
    return [tables.humane(line) for line in dict.fromkeys([*results.warnings, *explain(reasons, results.seeds)])]


def _history(sample: Sample) -> dict[str, Floats]:
    """Learning curves [S, E], by column name; empty where there are none."""
    if sample.run is None:
        return {}
    places = [sample.run.seeds.tolist().index(int(seed)) for seed in sample.inputs.names]
    return {name: curves[places] for name, curves in sample.run.curves.items()}


def _best_validation(history: dict[str, Floats]) -> Floats | None:
    """[S] the validation score of the weights that were tested."""
    scores = history.get("validation_score")
    return None if scores is None else np.nan_to_num(scores, nan=-np.inf).max(axis=1)


def _dots(sample: Sample, history: dict[str, Floats], name: str, height: float) -> list[Picture]:
    if sample.scores is None:
        return []
    rows = [Seeds("test", sample.scores, sample.inputs.names, sample.failed)]
    validation = _best_validation(history)
    if validation is not None:
        rows.insert(0, replace(rows[0], name="validation", scores=validation))
    majority = sample.run.info.majority_score.test if sample.run else None
    guess = tables.guess_label(sample.metric)
    drawn = seed_dots([(tables.metric_label(sample.metric), rows)], majority=majority, guess=guess, height=height)
    return [Picture(f"{name}-seeds", drawn, shown_as(rows, "score"))]


def _layers(results: Results, name: str) -> list[Picture]:
    rows = {one: results.measures.get(one, {}) for one in LAYERED}
    lines = [
        (
            MEASURES[one].label,
            _floats(row["layers"]),
            np.array([_floats(ends or [None, None]) for ends in row["layer_intervals"]]),
            _floats(row["null_shuffled"]),
        )
        for one, row in rows.items()
        if len(row.get("layers", ())) > 1
    ]
    if not lines:
        return []
    caption = "How much representations differ between seeds, by layer, with 95 % intervals. Dotted: unrelated seeds."
    return [Picture(f"{name}-layers", layer_curves(lines), caption)]


def _training(sample: Sample, history: dict[str, Floats], name: str) -> Section | None:
    if not history:
        return None
    words = {
        "train_loss": "training loss",
        "validation_loss": "validation loss",
        "validation_score": f"validation {tables.metric_label(sample.metric)}",
    }
    pictures = []
    for column, what in words.items():
        drawn = seed_curves(history[column], ylabel=what, names=sample.inputs.names, failed=sample.failed)
        good, failed = (~sample.failed).sum(), bool(sample.failed.any())
        if good > MANY_SEEDS:
            caption = f"the median, a band with 80 % of the seeds, and one with all{'; failed ones dashed' * failed}"
        else:
            several = "; of the others the median, and a band with 80 %" if good > 1 else ""
            caption = f"a line for each seed{', failed ones dashed' * failed}{several}"
        pictures.append(Picture(f"{name}-{slug(column)}", drawn, f"{what[0].upper()}{what[1:]}: {caption}."))
    return Section("Training", pictures=pictures, summary="loss and score of every seed by epoch")


def _seed_by_seed(sample: Sample, history: dict[str, Floats], name: str) -> Section | None:
    if sample.scores is None and sample.seeds < FEWEST_MAPPED:
        return None
    pictures = []
    for measure in MAPPED:
        if measure in sample.distances and sample.seeds >= FEWEST_MAPPED:
            matrix = np.asarray(sample.distances[measure][-1], np.float64)
            said = MEASURES[measure].label
            drawn = heat_map(matrix, name=said, seeds=sample.inputs.names, failed=sample.failed)
            where = " (last layer)" if MEASURES[measure].granularity == "representation" else ""
            starred = "; * failed" if sample.failed.any() else ""
            caption = f"{said[:1].upper()}{said[1:]}{where} of every two seeds, like seeds beside each other{starred}."
            pictures.append(Picture(f"{name}-map-{slug(measure)}", drawn, caption))
    return Section(
        "Seed by seed",
        pictures=pictures,
        tables=[] if sample.scores is None else [_seeds_table(sample, _best_validation(history))],
        summary="scores of each, and which seeds are alike",
    )


def _seeds_table(sample: Sample, validation: Floats | None) -> Table:
    """A row for each seed, the best first."""
    assert sample.scores is not None
    rows = []
    for place in np.argsort(-sample.scores, kind="stable"):
        scores = [number(sample.scores[place])] + ([] if validation is None else [number(validation[place])])
        why = [sample.reasons[place] or ""] if any(sample.reasons) else []
        rows.append([str(sample.inputs.names[place]), *scores, *why])
    metric = tables.metric_label(sample.metric)
    columns = ["seed", f"test {metric}", *([] if validation is None else [f"best validation {metric}"])]
    columns += ["failed"] if any(sample.reasons) else []
    return Table("Seeds", columns, rows)


def _trust(found: Validity | None, name: str) -> Section | None:
    if found is None:
        return None
    pictures = []
    for one in (found.over_seeds, found.over_layers):
        if one is not None and np.isfinite(one.matrix[np.triu_indices(len(one.names), 1)]).any():
            drawn = correlations(one.matrix, names=[MEASURES[measure].label for measure in one.names])
            caption = f"Correlation of measures over {one.over}; -: a measure that does not vary."
            pictures.append(Picture(f"{name}-over-{one.over}", drawn, caption))
    shown = [tables.nulls_table(found), tables.failed_table(found)]
    return Section(
        "Which measures to trust",
        [tables.humane(line) for line in found.sentences],
        pictures=pictures,
        tables=[table for table in shown if table.rows],
        notes=[tables.humane(line) for line in found.notes],
        summary="do they agree, rise with depth, need many examples?",
    )


def _seeds(study: SeedStudy | None, name: str) -> Section | None:
    if study is None:
        return None
    return Section(
        "How many seeds",
        [tables.humane(line) for line in study.sentences],
        pictures=_best_pictures(study, name),
        tables=study_tables(study),
        notes=[tables.humane(line) for line in study.notes],
        summary="how many the next experiment needs, and test examples",
    )


def _best_pictures(study: SeedStudy, name: str) -> list[Picture]:
    if len(study.best) < 2:
        return []
    lines = [("chosen by the test score", study.best)]
    if study.best_by_validation is not None:
        lines.append(("chosen by validation", study.best_by_validation))
    metric = tables.metric_label(study.metric)
    drawn = curves(np.arange(1, len(study.best) + 1), lines, xlabel="seeds tried", ylabel=f"{metric} of the best")
    return [Picture(f"{name}-best", drawn, "What trying more seeds and reporting the best is expected to give.")]


def _reproduce(sample: Sample) -> Section | None:
    run = sample.run
    if run is None:
        return None
    info = run.info
    facts = {"device": f"{info.devices} x {info.device}", "seeds at once": str(info.group_size)}
    rows = [[name, value] for name, value in {**info.versions, **facts, "examples": info.examples_sha256[:16]}.items()]
    config = (run.path / "config.toml").read_text(encoding="utf-8")
    return Section(
        "How to reproduce",
        ["Save the second box as config.toml, and run:"],
        tables=[Table("Versions", ["what", "version"], rows)],
        code=["jaxstab run config.toml", config],
        summary="configuration and versions",
    )


def _floats(values: Sequence[Any]) -> Floats:
    return np.array([np.nan if one is None else one for one in values], np.float64)
