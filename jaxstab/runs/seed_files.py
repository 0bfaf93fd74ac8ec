"""Files by seed: a table for each seed, beside each other or each in a folder of its seed, as any framework saves them.

Hugging Face's example scripts write `predict_results.txt` or `predict_results_TASK.txt` into a folder for each seed.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxstab.errors import InputError
from jaxstab.runs.files import load_array
from jaxstab.runs.outputs import Outputs

SUFFIXES = (".npy", ".csv", ".tsv", ".txt")
# A file in a folder of a seed: logits.npy, predictions.csv, predict_results.txt, predict_results_mnli.txt.
IN_FOLDER = re.compile(
    r"(?:logits|predict_results|predict(?:ed)?_labels|predictions?|predicted|predict|preds?)(?:_(?P<task>.+))?"
)
# What a column that says which example a row belongs to is called, and one that holds predictions or labels.
IDS, CLASSES = {"index", "idx", "id", "example_id", ""}, {"prediction", "predictions", "predicted", "label", "labels"}


class _Table(NamedTuple):
    """Logits [N, C], or predicted or true classes or numbers [N]; and what a header calls the classes."""

    values: np.ndarray
    classes: list[str]


def find(path: Path) -> dict[str, dict[str, Path]]:
    """Returns the files in a directory: by task, which is mostly "", and by name."""
    beside = [file for file in sorted(path.iterdir()) if file.suffix in SUFFIXES and file.is_file()]
    beside = [file for file in beside if file.stem != "labels"]
    tasks: dict[str, dict[str, Path]] = {}
    for file in sorted(path.glob("*/*"), key=_preferred):
        match = IN_FOLDER.fullmatch(file.stem)
        if match and file.suffix in SUFFIXES:
            tasks.setdefault(match["task"] or "", {}).setdefault(file.parent.name, file)
    if tasks and len(beside) < 2:
        return tasks
    return {"": {file.name: file for file in beside}} if beside else {}


def _preferred(file: Path) -> tuple[bool, int, str]:
    """Of several files in a folder logits come first, which say most."""
    kinds = SUFFIXES.index(file.suffix) if file.suffix in SUFFIXES else len(SUFFIXES)
    return not file.stem.startswith("logits"), kinds, str(file)


def read(
    path: Path, task: str, files: Mapping[str, Path], labels: Path | None, folders: Collection[str] = ()
) -> Outputs:
    """Reads a file for each seed.

    Args:
        path: the directory.
        task: the task, "" if it has no name.
        files: from `find`.
        labels: file with the true labels; by default `labels.*` in the directory, or in every folder.
        folders: names of the folders of all seeds, also of those that left no file.

    Raises:
        InputError: a file cannot be read, or files do not belong together; the message names them.
    """
    found = {name: file for name, file in files.items() if labels is None or file.resolve() != labels.resolve()}
    if not found:
        raise InputError(f"{path}: no file by seed but the labels; give a file for each seed")
    suffixes = {file.suffix for file in found.values()}
    if len(suffixes) > 1:
        raise InputError(f"{path}: files of {' and '.join(sorted(suffixes))}; keep one kind, a file for each seed")
    seeds = seed_numbers(list(found))
    ordered = [found[name] for _, name in sorted(zip(seeds, found, strict=True))] if seeds else list(found.values())
    tables = [_read_table(file) for file in ordered]
    first = tables[0]
    for file, table in zip(ordered, tables, strict=True):
        if table.values.shape != first.values.shape:
            raise InputError(
                f"{file}: shape {table.values.shape}, but {ordered[0].relative_to(path)} has {first.values.shape}; "
                "every seed needs the same examples"
            )
    where, truth = _truth(path, ordered, labels)
    classes = first.classes or _classes_of_model(ordered[0].parent)
    without = [name for name in folders if name not in files] if set(folders) & set(files) else []
    notes = [f"left out, because they hold no predictions: {', '.join(without)}"] if without else []
    if first.values.ndim == 2:
        arrays: dict[str, Any] = {"logits": np.stack([table.values for table in tables])}
        if truth is not None:
            arrays["labels"] = to_indices([], truth, classes, where)[1]
            if truth.dtype.kind == "U" and not {*truth.tolist()} <= {*classes}:
                notes.append(f"classes of the logits are taken in this order: {_some(truth)}")
    else:
        codes, known = to_indices([table.values for table in tables], truth, classes, where)
        arrays = {"predictions": np.stack(codes)} | ({} if known is None else {"labels": known})
    return Outputs(path, sorted(seeds) if seeds else None, arrays, task=task or None, notes=tuple(notes))


def read_labels(file: Path) -> np.ndarray:
    """Returns the true labels [N] of a file, as class indices.

    Raises:
        InputError: no labels in it.
    """
    labels = to_indices([], read_classes(file), [], file)[1]
    assert labels is not None
    return labels


def seed_numbers(names: Sequence[str]) -> list[int] | None:
    """Returns the one number in which names differ; None if there is none."""
    numbers = [[int(digits) for digits in re.findall(r"\d+", name)] for name in names]
    for place in range(min(map(len, numbers))):
        column = [one[place] for one in numbers]
        if len(set(column)) == len(column) and len(column) > 1:
            return column
    return None


def to_indices(
    tables: Sequence[np.ndarray], truth: np.ndarray | None, classes: Sequence[str], where: Path
) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Turns classes into indices [N].

    Args:
        tables: predictions of each seed.
        truth: labels.
        classes: the names of the classes in the order of their indices, if they are known; by default
            alphabetical.
        where: the file of the labels.

    Raises:
        InputError: labels and predictions do not name the same classes.
    """
    everything = [*tables, *([] if truth is None else [truth])]
    if all(one.dtype.kind in "iufb" for one in everything):
        return list(tables), truth
    if truth is not None and tables and any(one.dtype.kind != truth.dtype.kind for one in tables) and not classes:
        raise InputError(
            f"{where}: labels are {_some(truth)}, but predictions {_some(np.concatenate(tables))}; "
            "give the classes the same names"
        )
    named = [_as_names(one, classes, where) for one in everything]
    if truth is not None and tables and not set(named[-1]) & {name for one in named[:-1] for name in one}:
        raise InputError(
            f"{where}: labels are {_some(truth)}, but predictions {_some(np.concatenate(tables))}; none is the same"
        )
    there = {name for one in named for name in one}
    index = {name: i for i, name in enumerate(classes if there <= set(classes) else sorted(there))}
    coded = [np.array([index[name] for name in one], int) for one in named]
    return coded[: len(tables)], None if truth is None else coded[-1]


def _truth(path: Path, files: Sequence[Path], labels: Path | None) -> tuple[Path, np.ndarray | None]:
    """The file of the true labels, and what it holds."""
    if labels is None:
        labels = next((file for suffix in SUFFIXES if (file := path / f"labels{suffix}").exists()), None)
    if labels is not None:
        return labels, read_classes(labels)
    in_folders = [file for one in files for suffix in SUFFIXES if (file := one.parent / f"labels{suffix}").exists()]
    if not in_folders:
        return path, None
    truths = [read_classes(file) for file in in_folders]
    for file, truth in zip(in_folders, truths, strict=True):
        if not np.array_equal(truth, truths[0]):
            raise InputError(f"{file}: other labels than {in_folders[0]}; every seed needs the same examples")
    return in_folders[0], truths[0]


def read_classes(file: Path) -> np.ndarray:
    """Returns labels [N] as numbers or strings, from a table or from a data set with a column of labels.

    Raises:
        InputError: no labels in it.
    """
    if file.suffix not in (".json", ".jsonl", ".parquet"):
        values = _read_table(file).values
        if values.ndim != 1:
            raise InputError(f"{file}: {values.shape[1]} columns; name the column of the true labels `label`")
        return values
    try:
        frame = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_json(file, lines=file.suffix != ".json")
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise InputError(f"{file}: cannot be read ({str(error).splitlines()[0]})") from None
    named = [name for name in map(str, frame.columns) if name.lower() in CLASSES]
    if not named:
        raise InputError(f"{file}: no column `label`; there are {', '.join(map(str, frame.columns))}")
    values = frame[named[0]].to_numpy()
    return values if values.dtype.kind in "iubf" else values.astype(str)


def _read_table(file: Path) -> _Table:
    if file.suffix == ".npy":
        array = np.asarray(load_array(file))
        if array.ndim not in (1, 2):
            raise InputError(f"{file}: {array.ndim} axes {array.shape}; expected logits [N, C] or classes [N]")
        return _Table(array, [])
    try:
        separator = "\t" if file.suffix in (".tsv", ".txt") else ","
        frame = pd.read_csv(file, sep=separator, header=None, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        reason = str(error).splitlines()[0]
        raise InputError(f"{file}: cannot be read as a table ({reason}); expected a row for each example") from None
    first = [str(name).strip() for name in frame.iloc[0]]
    lowered = [name.lower() for name in first]
    classes: list[str] = []
    if "seed" in lowered:
        raise InputError(f"{file}: a table of several seeds; give the file itself, not its directory")
    if any(name in IDS | CLASSES for name in lowered) or (len(first) > 1 and not any(map(_is_number, first))):
        named = [column for column, name in enumerate(lowered) if name in CLASSES]
        kept = named[:1] or [column for column, name in enumerate(lowered) if name not in IDS]
        frame = frame.iloc[1:, kept].reset_index(drop=True)
        classes = [first[column] for column in kept]
    if frame.shape[1] == 1:
        values = frame.iloc[:, 0].str.strip()
        if values.str.fullmatch(r"-?\d+").all():
            return _Table(values.astype(int).to_numpy(), [])
        return _Table(values.astype(float).to_numpy() if values.map(_is_number).all() else np.array(values, str), [])
    for column in frame.columns:
        wrong = ~frame[column].map(_is_number)
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise InputError(f"{file}: {frame[column][row]!r} in row {row + 1} of the table is no number")
    return _Table(frame.astype(float).to_numpy(), classes)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _classes_of_model(folder: Path) -> list[str]:
    """The names of the classes in the order of their indices, if a Hugging Face model was saved in this folder."""
    try:
        names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
        return [str(names[str(index)]) for index in range(len(names))]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _as_names(values: np.ndarray, classes: Sequence[str], where: Path) -> list[str]:
    if values.dtype.kind not in "iub" or not classes:
        return [str(one) for one in values.tolist()]
    if values.min() < 0 or values.max() >= len(classes):
        raise InputError(f"{where}: class {values.max()}, but the model has {len(classes)}: {', '.join(classes)}")
    return [classes[one] for one in values.tolist()]


def _some(values: np.ndarray) -> str:
    """The first classes that occur, as text."""
    names = sorted({str(one) for one in values.tolist()})
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
