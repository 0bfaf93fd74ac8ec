"""Tables of predictions that were logged to Weights & Biases: `NAME.table.json`, one for each run, or one for all."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxstab.errors import InputError
from jaxstab.runs.outputs import Outputs
from jaxstab.runs.seed_files import read_classes, seed_numbers, to_indices

SUFFIX = ".table.json"
LOGGED = re.compile(r"(?P<name>.+)_(?P<step>\d+)_[0-9a-f]{8,}")  # predictions_120_a02b88c39d3ea4e3081f
DATED = re.compile(r"(offline-)?run-\d{8}_\d{6}-")  # the directory of a run, whose numbers are no seeds
IDS = ("id", "idx", "index", "example_id", "row")
SEEDS = ("seed",)
PREDICTIONS = ("prediction", "predictions", "predicted", "pred", "predicted_label", "guess", "y_pred")
LABELS = ("label", "labels", "target", "truth", "ground_truth", "true_label", "y_true", "gold")


def find(path: Path) -> dict[str, dict[str, Path]]:
    """Returns the tables in a directory: by name of the table, and by run; of several steps of a run the last."""
    found: dict[str, dict[str, tuple[int, Path]]] = {}
    for file in sorted(path.rglob(f"*{SUFFIX}")):
        stem = file.name.removesuffix(SUFFIX)
        logged = LOGGED.fullmatch(stem)
        name, step = (logged["name"], int(logged["step"])) if logged else (stem, 0)
        parts = list(file.parent.relative_to(path).parts)
        if "table" in parts:  # media/table/eval/NAME_STEP_HASH.table.json in the files of a run
            place = parts.index("table")
            name, parts = (
                "/".join([*parts[place + 1 :], name]),
                [one for one in parts[:place] if one not in ("files", "media")],
            )
        run = "/".join(parts)
        tables = found.setdefault(name, {})
        if run not in tables or tables[run][0] < step:
            tables[run] = step, file
    return {name: {run: file for run, (_, file) in tables.items()} for name, tables in found.items()}


def read(path: Path, name: str, files: Mapping[str, Path], labels: Path | None) -> Outputs:
    """Reads the predictions of each seed.

    Args:
        path: the directory, or the file.
        name: name of the table.
        files: by run, see `find`.
        labels: file with the true labels, if no column of the tables holds them.

    Raises:
        InputError: a table cannot be read, or tables do not belong together; the message names them.
    """
    frames = [(file, _read_frame(file)) for file in files.values()]
    seeds, tables = _by_seed(list(files), frames)
    _check_same_examples(tables)
    predictions = [_values(file, frame, PREDICTIONS) for file, frame in tables]
    first_file, first = tables[0]
    truth = None
    if labels is not None:
        truth = read_classes(labels)
    elif _column(first, LABELS) is not None:
        truth = _values(first_file, first, LABELS)
    coded, known = to_indices(predictions, truth, [], labels or first_file)
    arrays: dict[str, Any] = {"predictions": np.stack(coded)} | ({} if known is None else {"labels": known})
    return Outputs(path, seeds, arrays, task=name)


def _by_seed(
    runs: Sequence[str], frames: Sequence[tuple[Path, pd.DataFrame]]
) -> tuple[list[int] | None, list[tuple[Path, pd.DataFrame]]]:
    """The seeds' numbers, from a column or else from the names of the runs; and the table of each, in their order."""
    columns = [_column(frame, SEEDS) for _, frame in frames]
    if None in columns:
        seeds = seed_numbers(["" if DATED.search(run) else run for run in runs])
        tables = [(file, _ordered(frame)) for file, frame in frames]
        return (None, tables) if seeds is None else (sorted(seeds), [tables[place] for place in np.argsort(seeds)])
    found: dict[int, tuple[Path, pd.DataFrame]] = {}
    for (file, frame), column in zip(frames, columns, strict=True):
        for value, rows in frame.groupby(frame[column].astype(str)):
            if not value.isdigit() or int(value) in found:
                raise InputError(f"{file}: seed {value} is no number, or another table has it too")
            found[int(value)] = file, _ordered(rows)
    return sorted(found), [found[seed] for seed in sorted(found)]


def _read_frame(file: Path) -> pd.DataFrame:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        columns, rows = [str(name) for name in content["columns"]], content["data"]
        if (
            len(set(columns)) < len(columns)
            or not rows
            or not all(isinstance(row, list) and len(row) == len(columns) for row in rows)
        ):
            raise ValueError(f"expected rows of {len(columns)} different columns")
        return pd.DataFrame(rows, columns=columns)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: no table of Weights & Biases ({type(error).__name__}: {error})") from None


def _column(frame: pd.DataFrame, names: Sequence[str]) -> str | None:
    """The column with one of these names."""
    there = {str(name).lower(): str(name) for name in frame.columns}
    return next((there[name] for name in names if name in there), None)


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the examples' ids, if there are any."""
    column = _column(frame, IDS)
    if column is None:
        return frame.reset_index(drop=True)
    numbered = frame[column].dtype.kind in "iuf"
    return frame.sort_values(column, kind="stable", ignore_index=True, key=None if numbered else _as_text)


def _as_text(values: "pd.Series[Any]") -> "pd.Series[str]":
    return values.astype(str)


def _check_same_examples(tables: Sequence[tuple[Path, pd.DataFrame]]) -> None:
    first_file, first = tables[0]
    for file, frame in tables:
        if len(frame) != len(first):
            raise InputError(
                f"{file}: {len(frame)} rows, but {first_file} has {len(first)}; every seed needs the same examples"
            )
        for names in (IDS, LABELS):
            columns = [_column(one, names) for one in (first, frame)]
            if None not in columns and first[columns[0]].tolist() != frame[columns[1]].tolist():
                raise InputError(f"{file}: other {columns[1]} than {first_file}; every seed needs the same examples")


def _values(file: Path, frame: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    column = _column(frame, names)
    if column is None:
        raise InputError(f"{file}: no column `{names[0]}`; there are {', '.join(map(str, frame.columns))}")
    values = frame[column].to_numpy()
    return values if values.dtype.kind in "iub" else np.array([str(one) for one in values], str)
