"""Rows as they stand in a source: texts and labels, which of them cannot be used, and where these stand in a file."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxstab.data.sources import line_numbers
from jaxstab.errors import InputError
from jaxstab.words import count, listing, plural

if TYPE_CHECKING:
    from datasets import Dataset

MOST_NAMED = 8  # rows in an error; how many others there are follows
NO_LABEL = (None, -1, "")  # of a test split whose labels are kept back, as GLUE's are
DROP = "drop rows without text or label with: --task.drop_empty true"


@dataclass(frozen=True)
class Rows:
    """Rows of a split.

    Attributes:
        texts: the values of each text column.
        labels: the values of the label column; whole numbers are integers.
        numbers: [N] int32, row numbers in the source's split, from 0.
        names: of the text columns.
        label: name of the label column.
    """

    texts: tuple[list[Any], ...]
    labels: list[Any]
    numbers: np.ndarray
    names: tuple[str, ...]
    label: str

    @property
    def labelled(self) -> bool:
        """Whether any row has a label."""
        return any(value not in NO_LABEL for value in self.labels)

    def without_empty(self) -> "Rows":
        """The rows that have every text and a label."""
        kept = [
            i for i, values in enumerate(zip(*self.texts, self.labels, strict=True)) if not any(map(_empty, values))
        ]
        texts = tuple([column[i] for i in kept] for column in self.texts)
        return Rows(texts, [self.labels[i] for i in kept], self.numbers[kept], self.names, self.label)


def read_rows(split: "Dataset", text: Sequence[str], label: str, where: str) -> Rows:
    """Reads the columns of a split.

    Raises:
        InputError: a column is missing, or there is no row.
    """
    for column in (*text, label):
        if column not in split.column_names:
            raise InputError(f"{where}: no column {column!r}; it has {', '.join(split.column_names)}")
    if not len(split):
        raise InputError(f"{where}: has no rows")
    labels = [int(one) if isinstance(one, float) and one.is_integer() else one for one in split[label]]
    texts = tuple(list(split[name]) for name in text)
    return Rows(texts, labels, np.arange(len(labels), dtype=np.int32), tuple(text), label)


def check_rows(
    splits: Mapping[str, Rows],
    classes: Collection[Any] | None,
    source: str,
    files: Mapping[str, Path],
    regression: bool = False,
) -> None:
    """Checks that all rows can be used.

    Args:
        splits: the rows by split.
        classes: the labels that there may be; None to check only whether labels are labels at all.
        source: of the task, for messages.
        files: the file of each split, where there is one.
        regression: whether labels are numbers.

    Raises:
        InputError: names and counts all rows that cannot, by the lines of their files, and says what to do.
    """
    complaints, remedies = [], set()
    for name, rows in splits.items():
        problems = _problems(rows, classes, regression)
        if problems:
            bad = sorted({row for found in problems.values() for row in found})
            place = _place(rows.numbers[bad].tolist(), name, source, files.get(name))
            reasons = [f"{why} ({len(found)})" if len(problems) > 1 else why for why, found in problems.items()]
            complaints.append(
                f"{place}: {len(bad)} of {count('row', len(rows.labels))} cannot be used: {', '.join(reasons)}"
            )
            remedies |= {DROP if why.endswith("is empty") else "" for why in problems}
    if complaints:
        drop = f", or {DROP}" if DROP in remedies else ""
        raise InputError(f"{'; '.join(complaints)}; correct or remove them{drop}")


def _problems(rows: Rows, classes: Collection[Any] | None, regression: bool) -> dict[str, list[int]]:
    """What is wrong, each with the rows of which it is the first thing that is."""
    problems: dict[tuple[str, str], list[int]] = {}
    shown: dict[tuple[str, str], str] = {}
    for row, label in enumerate(rows.labels):
        wrong = _wrong_number(label, rows.label) if regression else _wrong_label(label, rows.label, classes)
        for name, column in zip(rows.names, rows.texts, strict=True):
            wrong = wrong or _wrong_text(column[row], name)
        if wrong is not None:
            kind, description = wrong
            problems.setdefault(kind, []).append(row)
            shown.setdefault(kind, description)
    return {shown[kind]: found for kind, found in problems.items()}


def _wrong_label(value: Any, column: str, classes: Collection[Any] | None) -> tuple[tuple[str, str], str] | None:
    if _empty(value):
        return (column, "empty"), f"column {column!r} is empty"
    if isinstance(value, float | list | dict):
        needs = f"column {column!r} needs strings or integers"
        hint = ', or set task.kind = "regression"' if isinstance(value, float) else ""
        return (column, "kind"), f"label {value!r} is no class; {needs}{hint}"
    if classes is not None and value not in classes:
        known = listing(list(classes), most=10)
        return (column, str(value)), f"label {value!r} is not one of the classes of the training split, {known}"
    return None


def _wrong_number(value: Any, column: str) -> tuple[tuple[str, str], str] | None:
    if _empty(value):
        return (column, "empty"), f"column {column!r} is empty"
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return None
    return (column, "kind"), f"label {value!r} is no finite number, as a regression needs"


def _wrong_text(value: Any, column: str) -> tuple[tuple[str, str], str] | None:
    if _empty(value):
        return (column, "empty"), f"column {column!r} is empty"
    return None if isinstance(value, str) else ((column, "kind"), f"column {column!r} is {value!r}, not a text")


def _empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def _place(rows: Sequence[int], split: str, source: str, file: Path | None) -> str:
    """Where rows stand: by the lines of a file, from 1 and with the header, or else by their numbers from 1."""
    lines = None if file is None else line_numbers(file)
    if file is None or lines is None or rows[-1] >= len(lines):
        numbers = [row + 1 for row in rows]
        return f"{source}: {split} {plural('row', len(rows))} {listing(numbers, most=MOST_NAMED)}"
    return f"{file}: {plural('line', len(rows))} {listing([lines[row] for row in rows], most=MOST_NAMED)}"
