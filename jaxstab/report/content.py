"""The content of the page about one run, section by section."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxstab.analysis.sample import PAPER, Sample
from jaxstab.analysis.seed_study import SeedStudy, study_seeds
from jaxstab.analysis.validity import Validity, validity
from jaxstab.measures import MEAN, MEASURES, Results, example_disagreement, say_remaining
from jaxstab.report import figures, tables
from jaxstab.report.page import Picture, Section
from jaxstab.report.seed_tables import study_tables
from jaxstab.report.tables import Table

Floats = NDArray[np.float64]

MOST_EXAMPLES = 300
MAPPED = ("pairwise_disagreement", "jsd", "cka")
LAYERED = ("cka", "op", "svcca")


def run_section(sample: Sample, results: Results, name: str, *, texts: bool = True, alone: bool = False) -> Section:
    """Returns the section about one run.

    Args:
        sample: seeds of the run.
        results: measures of the seeds.
        name: prefix of the figures' names.
        texts: whether to show the examples' texts.
        alone: whether the run is the only content of the page, whose headline is then that of the run.
    """
    study = None if sample.scores is None else study_seeds(sample)
    trust = (
        validity(sample) if sample.seeds >= 3 and sample.inputs.examples and set(sample.names) & set(PAPER) else None
    )
    parts = [
        _scores(sample, name, study),
        _instability(sample, results, name),
        _trust(trust, name),
        _seeds(study, name),
        _examples(sample, name, texts),
        _reproduce(sample),
    ]
    sections = [part for part in parts if part is not None]
    return Section(
        f"{sample.name} on {sample.task}",
        [*([] if alone else [headline(sample)]), *say_remaining(results.scores)],
        _warnings(sample, results),
        sections=sections,
    )


def headline(sample: Sample) -> str:
    """The main result of a run as one sentence."""
    seeds, rows = (
        sample.seeds,
        sample.rows([name for name in (MEAN, "sd", "pairwise_disagreement") if name in sample.names]),
    )
    mean, sd, disagreement = (rows.get(name, {}).get("value") for name in (MEAN, "sd", "pairwise_disagreement"))
    failed = int(sample.failed.sum())
    start = f"{sample.name} on {sample.task}"
    if mean is None:
        return f"{start}: {seeds} seeds, no scores."
    if seeds == 1:
        return f"{start}: {sample.metric} {mean:.3f} with one seed; how much the seed matters cannot be told from one."
    if failed == seeds:
        return f"{start}: all {seeds} seeds failed (mean {sample.metric} {mean:.3f})."
    said = f"{start}: mean {sample.metric} {mean:.3f} over {seeds} seeds, of which one deviates by {sd:.3f} (SD)"
    if disagreement is not None:
        said += f"; two seeds disagree on {disagreement:.0%} of the test examples"
    return f"{said}; {failed} seed{'s' * (failed > 1)} failed." if failed else f"{said}."


def _warnings(sample: Sample, results: Results) -> list[str]:
    lines = list(results.warnings)
    if sample.failed.any():
        names = np.asarray(sample.inputs.names)[sample.failed].tolist()
        reasons = [reason for reason in sample.reasons if reason]
        lines.append("failed: " + ", ".join(f"seed {one} ({why})" for one, why in zip(names, reasons, strict=True)))
    return lines


def _scores(sample: Sample, name: str, study: SeedStudy | None) -> Section | None:
    if sample.scores is None:
        return None
    pictures = []
    curves = _history(sample)
    if curves is not None:
        majority = sample.run.info.majority_score.test if sample.run else None
        dots = figures.seed_dots(
            curves["validation_score"],
            sample.scores,
            metric=sample.metric,
            seeds=sample.inputs.names,
            failed=sample.failed,
            majority=majority,
        )
        pictures.append(Picture(f"{name}-seeds", dots, "Each seed as a dot at every evaluation; the line is the mean."))
        drawn = figures.learning_curves(
            curves["train_loss"],
            curves["validation_loss"],
            curves["validation_score"],
            metric=sample.metric,
            failed=sample.failed,
        )
        caption = "A line for each seed (failed ones dashed), the median, and a band that holds 80 % of the seeds."
        pictures.append(Picture(f"{name}-curves", drawn, caption))
    else:
        drawn = figures.dots_by_method(
            [sample.scores], names=[sample.name], metric=sample.metric, failed=[sample.failed]
        )
        pictures.append(Picture(f"{name}-seeds", drawn, "Each seed as a dot; the line is the mean."))
    if study is not None and sample.seeds > 1:
        pictures.append(_best_picture(study, name))
    return Section("Scores", pictures=pictures)


def _best_picture(study: SeedStudy, name: str) -> Picture:
    lines = [("chosen by the test score", study.best)]
    if study.best_by_validation is not None:
        lines.append(("chosen by validation", study.best_by_validation))
    drawn = figures.curves(
        np.arange(1, len(study.best) + 1), lines, xlabel="seeds tried", ylabel=f"test {study.metric} of the best"
    )
    caption = "What trying more seeds and reporting the best is expected to give."
    return Picture(f"{name}-best", drawn, caption)


def _history(sample: Sample) -> dict[str, Floats] | None:
    """Learning curves [S, E], by column name."""
    if sample.run is None:
        return None
    columns = ("train_loss", "validation_loss", "validation_score")
    frame = sample.run.history
    seeds = list(sample.inputs.names)
    return {
        one: frame.pivot(index="seed", columns="epoch", values=one).loc[seeds].to_numpy(np.float64) for one in columns
    }


def _instability(sample: Sample, results: Results, name: str) -> Section | None:
    if sample.seeds < 2:
        return None
    pictures = []
    for measure in LAYERED:
        row = results.measures.get(measure, {})
        if len(row.get("layers", ())) > 1:
            pictures.append(_layers_picture(measure, row, name))
    for measure in MAPPED:
        if measure in sample.distances:
            matrix = np.asarray(sample.distances[measure][-1], np.float64)
            drawn = figures.heat_map(matrix, name=measure, seeds=sample.inputs.names, failed=sample.failed)
            where = " (last layer)" if MEASURES[measure].granularity == "representation" else ""
            caption = f"{measure}{where} of every two seeds, like seeds beside each other; * failed."
            pictures.append(Picture(f"{name}-map-{slug(measure)}", drawn, caption))
    return Section("Instability", pictures=pictures, tables=[tables.measures_table(results)])


def _layers_picture(measure: str, row: dict[str, Any], name: str) -> Picture:
    values = _floats(row["layers"])
    intervals = np.array([_floats(ends or [None, None]) for ends in row["layer_intervals"]])
    drawn = figures.layer_curves(values, intervals, name=measure, null=row["null"], shuffled=row["null_shuffled"])
    return Picture(
        f"{name}-layers-{slug(measure)}", drawn, f"{MEASURES[measure].meaning}, by layer, with 95 % intervals."
    )


def _trust(found: Validity | None, name: str) -> Section | None:
    if found is None:
        return None
    pictures = []
    for one in (found.over_seeds, found.over_layers):
        if one is not None and len(one.names) > 1:
            drawn = figures.correlations(one.matrix, names=one.names)
            pictures.append(Picture(f"{name}-over-{one.over}", drawn, f"Correlation of measures over {one.over}."))
    shown = [tables.nulls_table(found), tables.failed_table(found)]
    return Section(
        "Which measures to trust",
        found.sentences,
        found.notes,
        pictures,
        [table for table in shown if table.rows],
    )


def _seeds(study: SeedStudy | None, name: str) -> Section | None:
    if study is None:
        return None
    return Section("How many seeds", study.sentences, study.notes, tables=study_tables(study))


def _examples(sample: Sample, name: str, texts: bool) -> Section | None:
    predictions = sample.inputs.predictions
    if predictions is None or sample.seeds < 2:
        return None
    classes = _classes(sample)
    votes = np.stack([(predictions == c).sum(axis=0) for c in range(sample.inputs.classes)], axis=1)
    disagreement = example_disagreement(predictions, sample.inputs.classes)
    contested = [int(row) for row in np.argsort(-disagreement, kind="stable") if votes[row].max() < sample.seeds]
    drawn = figures.votes_histogram(votes.max(axis=1) / sample.seeds)
    picture = Picture(f"{name}-votes", drawn, "On how many test examples how many seeds agree.")
    frame = sample.run.texts if sample.run is not None else None
    text_columns = [] if frame is None or not texts else [one for one in frame.columns if one.startswith("text")]
    rows = []
    for row in contested[:MOST_EXAMPLES]:
        cast = ", ".join(f"{classes[c]}: {votes[row, c]}" for c in np.argsort(-votes[row]) if votes[row, c])
        label = "" if sample.inputs.labels is None else classes[sample.inputs.labels[row]]
        example = str(row) if frame is None else str(frame["example_id"].iloc[row])
        shown = [] if frame is None else [str(frame[one].iloc[row]) for one in text_columns]
        rows.append([example, f"{disagreement[row]:.2f}", label, cast, *shown])
    columns = ["id", "disagreement", "label", "votes", *text_columns]
    caption = (
        f"{len(contested)} of {len(votes)} examples are contested. disagreement: share of pairs of seeds that differ."
    )
    table = [Table("Contested examples", columns, rows, caption)] if rows else []
    return Section("Examples that flip", pictures=[picture], searched=table)


def _classes(sample: Sample) -> list[str]:
    known = [] if sample.run is None else list(sample.run.info.classes)
    return known or [str(c) for c in range(sample.inputs.classes)]


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
        tables=[Table("Versions", ["", ""], rows)],
        code=["jaxstab run config.toml", config],
    )


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if one is None else one for one in values], np.float64)


def slug(name: str) -> str:
    """Returns a name that is safe for files and HTML ids."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-") or "run"
