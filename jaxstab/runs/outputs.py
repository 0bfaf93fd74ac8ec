"""Outputs on disk, of a run or of any other framework, read and checked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxstab.errors import InputError
from jaxstab.runs.directory import INFO, Run
from jaxstab.runs.files import load_array, load_arrays

ARRAYS = ("logits", "predictions", "labels", "representations")
SUFFIXES = (".npy", ".csv", ".tsv", ".txt")
# What a column that says which example a row belongs to is called, and one that holds predictions or labels.
IDS, CLASSES = {"index", "idx", "id", "example_id", ""}, {"prediction", "predictions", "predicted", "label", "labels"}


@dataclass(frozen=True)
class Outputs:
    """What a path holds.

    Attributes:
        path: where it lies.
        seeds: [S] numbers of the seeds; 0, 1, ... if None.
        arrays: some of `logits` [S, N, C], `predictions` [S, N], `labels` [N] and `representations` [S, L, N, D].
        metric: the score.
        run: the run that it is, if it is one.
        diverged: numbers of the seeds that are left out, because their logits are not finite.
    """

    path: Path
    seeds: list[int] | None
    arrays: dict[str, Any]
    metric: str = "accuracy"
    run: Run | None = None
    diverged: tuple[int, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """[S] numbers of the seeds; 0, 1, ... where none are given."""
        if self.seeds is not None:
            return self.seeds
        first = next(array for name, array in self.arrays.items() if name != "labels")
        return list(range(len(np.atleast_1d(first))))

    def take(self, places: Sequence[int]) -> "Outputs":
        """The outputs of the seeds at these positions."""
        numbers = self.numbers

        def by_seed(name: str, array: Any) -> bool:  # arrays of the wrong shape are named later
            return name != "labels" and getattr(array, "ndim", 1) > 0 and len(array) == len(numbers)

        arrays = {name: array[list(places)] if by_seed(name, array) else array for name, array in self.arrays.items()}
        return replace(self, seeds=[numbers[place] for place in places], arrays=arrays)


def load_outputs(path: str | Path | Run, labels: str | Path | None = None) -> Outputs:
    """Reads outputs without computing anything.

    Args:
        path: a run or its directory; an npz or npy file; or a directory with a file for each seed.
        labels: a file with the true labels, where they are not beside the predictions.

    Raises:
        InputError: nothing there that can be measured.
    """
    if isinstance(path, Run):
        return _of_run(path)
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or directory; give a run, an npz file or a directory of files by seed")
    if path.is_dir() and (path / INFO).exists():
        return _of_run(Run.load(path))
    if path.is_dir():
        return _load_directory(path, None if labels is None else Path(labels))
    if path.suffix == ".npz":
        arrays = load_arrays(path)
    elif path.suffix == ".npy":
        array = np.asarray(load_array(path))
        arrays = {"predictions" if array.ndim == 2 else "logits": array}
    else:
        raise InputError(f"{path}: not an npz or npy file; of files by seed give the directory")
    given = {name: arrays[name] for name in ARRAYS if name in arrays}
    if not given.keys() - {"labels"}:
        raise InputError(f"{path}: holds {', '.join(arrays) or 'nothing'}; expected {', '.join(ARRAYS)}")
    if "logits" in given:
        given.pop("predictions", None)
    if labels is not None:
        given["labels"] = np.asarray(_codes([], _read_table(Path(labels)))[1])
    seeds = arrays.get("seeds")
    if seeds is not None and seeds.dtype.kind not in "iu":
        raise InputError(f"{path}: seeds of type {seeds.dtype}; expected integers, one for each seed")
    return _without_diverged(Outputs(path, None if seeds is None else seeds.ravel().tolist(), given))


def _of_run(run: Run) -> Outputs:
    arrays: dict[str, Any] = {"logits": run.logits, "labels": run.labels}
    if run.representations is not None and len(run.distances["represented"]) == len(run.labels):
        arrays["representations"] = run.representations
    return _without_diverged(Outputs(run.path, run.seeds.tolist(), arrays, run.info.metric, run))


def _without_diverged(outputs: Outputs) -> Outputs:
    """Leaves out seeds whose logits are not finite, if others are left.

    In a run, one such example is enough. Of other outputs no example may be finite, because a single value is rather a
    mistake in the file.
    """
    logits = outputs.arrays.get("logits")
    if not isinstance(logits, np.ndarray) or logits.ndim != 3 or logits.dtype.kind != "f":
        return outputs  # no logits, or an error that is found later
    finite, seeds = np.asarray(np.isfinite(logits).all(axis=2)), outputs.numbers
    good = np.asarray(finite.any(axis=1) if outputs.run is None else finite.all(axis=1))
    if good.all() or not good.any() or len(seeds) != len(logits):
        return outputs
    diverged = tuple(seed for seed, one in zip(seeds, good, strict=True) if not one)
    return replace(outputs.take(np.flatnonzero(good).tolist()), diverged=diverged)


def _load_directory(path: Path, labels: Path | None) -> Outputs:
    """A file for each seed, or a directory for each with `predictions.txt`."""
    files = [file for file in sorted(path.iterdir()) if file.suffix in SUFFIXES and file.is_file()]
    files += sorted(file for file in path.glob("*/*.txt") if re.match(r"predict", file.name))
    if labels is None:
        labels = next((file for file in files if file.stem == "labels"), None)
    files = [file for file in files if file.stem != "labels" and file != labels]
    if not files:
        raise InputError(f"{path}: no run, and no file by seed ({', '.join('*' + s for s in SUFFIXES)}) in it")
    suffixes = {file.suffix for file in files}
    if len(suffixes) > 1:
        raise InputError(f"{path}: files of {' and '.join(sorted(suffixes))}; keep one kind, a file for each seed")
    seeds = _seed_numbers([str(file.relative_to(path)) for file in files])
    order = np.argsort(seeds)
    tables = [_read_table(files[i]) for i in order]
    shapes = {table.shape for table in tables}
    if len(shapes) > 1:
        other = next(i for i, table in zip(order, tables, strict=True) if table.shape != tables[0].shape)
        raise InputError(
            f"{files[other]}: shape {tables[list(order).index(other)].shape}, but {files[order[0]].name} has "
            f"{tables[0].shape}; every seed needs the same examples"
        )
    truth = None if labels is None else _read_table(labels)
    if tables[0].ndim == 2:
        arrays: dict[str, Any] = {"logits": np.stack(tables)}
        if truth is not None:
            arrays["labels"] = _codes([], truth)[1]
    else:
        codes, truth = _codes(tables, truth)
        arrays = {"predictions": np.stack(codes)} | ({} if truth is None else {"labels": truth})
    return Outputs(path, sorted(seeds), arrays)


def _seed_numbers(names: Sequence[str]) -> list[int]:
    """The one number in which names differ, or else 0, 1, ..."""
    numbers = [[int(digits) for digits in re.findall(r"\d+", name)] for name in names]
    for place in range(min(map(len, numbers))):
        column = [one[place] for one in numbers]
        if len(set(column)) == len(column) and len(column) > 1:
            return column
    return list(range(len(names)))


def _read_table(file: Path) -> np.ndarray:
    """Logits [N, C], or predicted or true classes [N], as numbers or strings."""
    if file.suffix == ".npy":
        array = np.asarray(load_array(file))
        if array.ndim not in (1, 2):
            raise InputError(f"{file}: {array.ndim} axes {array.shape}; expected logits [N, C] or classes [N]")
        return array
    try:
        separator = "\t" if file.suffix in (".tsv", ".txt") else ","
        frame = pd.read_csv(file, sep=separator, header=None, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        reason = str(error).splitlines()[0]
        raise InputError(f"{file}: cannot be read as a table ({reason}); expected a row for each example") from None
    first = [str(name).strip().lower() for name in frame.iloc[0]]
    numeric = [_is_number(name) for name in first]
    if any(name in IDS | CLASSES for name in first) or (len(first) > 1 and not any(numeric)):
        frame = frame.iloc[1:].reset_index(drop=True)
        frame = frame[[column for column, name in zip(frame.columns, first, strict=True) if name not in IDS]]
        named = [column for column, name in enumerate(first) if name in CLASSES]
        frame = frame[named[:1]] if named else frame
    if frame.shape[1] == 1:
        classes = frame.iloc[:, 0].str.strip()
        return classes.astype(int).to_numpy() if classes.str.fullmatch(r"-?\d+").all() else classes.to_numpy(dtype=str)
    for column in frame.columns:
        wrong = ~frame[column].map(_is_number)
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise InputError(f"{file}: {frame[column][row]!r} in row {row + 1} of the table is no number")
    return frame.astype(float).to_numpy()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _codes(tables: Sequence[np.ndarray], truth: np.ndarray | None) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Turns class names into indices, in alphabetical order; integers stay as they are."""
    everything = [*tables, *([] if truth is None else [truth])]
    if all(one.dtype.kind in "iufb" for one in everything):
        return list(tables), truth
    names = sorted({str(name) for one in everything for name in one.tolist()})
    index = {name: i for i, name in enumerate(names)}
    coded = [np.asarray([index[str(name)] for name in one.tolist()]) for one in everything]
    return coded[: len(tables)], None if truth is None else coded[-1]
