"""The section about each class: how well seeds do on it, and what they take it for."""

import numpy as np

from jaxstab.analysis.sample import Sample
from jaxstab.measures import by_class, confusion
from jaxstab.report.formats import Table, number, share, with_interval
from jaxstab.report.matrices import MOST_CLASSES, confusion_map
from jaxstab.report.page import Picture, Section


def class_names(sample: Sample) -> list[str]:
    """Returns the names of the classes, or their numbers where they are unknown."""
    known = [] if sample.run is None else list(sample.run.info.classes)
    return known or [str(c) for c in range(sample.inputs.classes)]


def classes_section(sample: Sample, name: str) -> Section | None:
    """Returns the section about each class; None without predictions and labels, or of numbers.

    Args:
        sample: seeds of a run, or saved outputs.
        name: prefix of the figure's name.
    """
    predictions, labels = sample.inputs.predictions, sample.inputs.labels
    if predictions is None or labels is None or sample.inputs.of == "numbers":
        return None
    names, several = class_names(sample), sample.seeds > 1
    found = by_class(predictions, labels, sample.inputs.classes, list(sample.inputs.names))
    columns = [
        "class",
        "examples",
        "recall",
        *["SD of recall"] * several,
        "precision",
        "F1",
        *["disagreement"] * several,
    ]
    rows = []
    for c, one in found.items():
        spread = [number(one.recall_sd)] if several else []
        differ = [number(one.disagreement)] if several else []
        qualities = [with_interval(row) for row in (one.precision, one.f1)]
        rows.append([names[c], str(one.examples), with_interval(one.recall), *spread, *qualities, *differ])
    caption = "recall: share of a class's examples that are found; precision: share of its predictions that are right."
    if several:
        caption += " Means over seeds with 95 % intervals. disagreement: share of examples on which two seeds differ."
    pictures = []
    if sample.inputs.classes <= MOST_CLASSES:
        counts = confusion(predictions, labels, sample.inputs.classes).astype(np.float64)
        drawn = confusion_map(counts, names=names)
        said = "Of the examples of each label, the share with each prediction, in per cent"
        pictures = [Picture(f"{name}-confusion", drawn, f"{said}{': mean over seeds ± SD' * several}.")]
    worst = min(found, key=lambda c: found[c].recall["value"])
    return Section(
        "Class by class",
        pictures=pictures,
        tables=[Table("Classes", columns, rows, caption)],
        summary=f"hardest: {names[worst]}, of which {share(found[worst].recall['value'])} are found",
    )
