"""The section of a page about the test examples on which seeds differ."""

from collections.abc import Sequence

import numpy as np

from jaxstab.analysis.sample import Sample
from jaxstab.measures import example_disagreement, example_spread
from jaxstab.report.classes import class_names
from jaxstab.report.figures import spread_histogram, votes_histogram
from jaxstab.report.formats import Table
from jaxstab.report.page import Picture, Section
from jaxstab.runs.directory import TEXTS

MOST_EXAMPLES = 300


def examples_section(sample: Sample, name: str, *, texts: bool) -> Section | None:
    """Returns the section about the test examples on which seeds differ; None without predictions or with one seed.

    Args:
        sample: the seeds.
        name: prefix of the figure's name.
        texts: whether to show the examples' texts.
    """
    predictions = sample.inputs.predictions
    if predictions is None or sample.seeds < 2:
        return None
    if sample.inputs.of == "numbers":
        return _spread(sample, predictions, name, texts)
    classes = class_names(sample)
    votes = np.stack([(predictions == c).sum(axis=0) for c in range(sample.inputs.classes)], axis=1)
    disagreement = example_disagreement(predictions, sample.inputs.classes)
    contested = [int(row) for row in np.argsort(-disagreement, kind="stable") if votes[row].max() < sample.seeds]
    drawn = votes_histogram(votes.max(axis=1) / sample.seeds)
    picture = Picture(f"{name}-votes", drawn, "On how many test examples how many seeds agree.")
    rows = []
    for row in contested[:MOST_EXAMPLES]:
        cast = ", ".join(f"{classes[c]}: {votes[row, c]}" for c in np.argsort(-votes[row]) if votes[row, c])
        label = "" if sample.inputs.labels is None else classes[sample.inputs.labels[row]]
        rows.append((row, [cast, label, f"{disagreement[row]:.2f}"]))
    said = f"{len(contested)} of {len(votes)} examples are contested"
    more = f"; the {MOST_EXAMPLES} most divided are shown" if len(contested) > MOST_EXAMPLES else ""
    caption = f"{said}{more}. disagreement: share of pairs of seeds that differ."
    columns = ["votes", "label", "disagreement"]
    table = [_table(sample, "Contested examples", columns, rows, caption, texts)] if rows else []
    return Section("Examples that flip", pictures=[picture], tables=table, summary=said)


def _spread(sample: Sample, predictions: np.ndarray, name: str, texts: bool) -> Section:
    """The counterpart for predicted numbers: the examples on which they are spread most."""
    spread = example_spread(predictions)
    order = [int(row) for row in np.argsort(-spread, kind="stable")[:MOST_EXAMPLES]]
    picture = Picture(
        f"{name}-spread", spread_histogram(spread), "How much the seeds' predictions of a test example differ."
    )
    rows = []
    for row in order:
        values = predictions[:, row]
        label = [] if sample.inputs.labels is None else [f"{sample.inputs.labels[row]:.4g}"]
        ends = f"{values.min():.3g} to {values.max():.3g}"
        rows.append((row, [f"{values.mean():.3g}", ends, *label, f"{spread[row]:.3g}"]))
    columns = ["mean prediction", "range", *([] if sample.inputs.labels is None else ["label"]), "SD"]
    more = f"the {MOST_EXAMPLES} of {len(spread)} with the largest SD; " if len(spread) > MOST_EXAMPLES else ""
    caption = f"Largest SD first; {more}SD: of the seeds' predictions of an example."
    said = f"the SD of an example's predictions is {np.median(spread):.3g} in the median, {spread.max():.3g} at most"
    table = _table(sample, "Examples with the largest spread", columns, rows, caption, texts)
    return Section("Examples on which predictions spread", pictures=[picture], tables=[table], summary=said)


def _table(
    sample: Sample, title: str, columns: Sequence[str], rows: Sequence[tuple[int, list[str]]], caption: str, texts: bool
) -> Table:
    """A row for each of these examples: its text, where there is one, what is said of it, and its number."""
    # Whoever passes a run on may have left the texts out.
    frame = sample.run.texts if sample.run is not None and (sample.run.path / TEXTS).exists() else None
    text_columns = [] if frame is None or not texts else [one for one in frame.columns if one.startswith("text")]
    found = []
    for row, said in rows:
        example = str(row) if frame is None else str(frame["example_id"].iloc[row])
        if frame is None or not text_columns:
            found.append([example, *said])  # the first column stays in view: the one that names the row
        else:
            found.append([" / ".join(str(frame[one].iloc[row]) for one in text_columns), *said, example])
    names = ["text", *columns, "id"] if text_columns else ["id", *columns]
    return Table(title, names, found, caption)
