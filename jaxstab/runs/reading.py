"""Reads outputs from disk: of a run, of arrays in a file, or of what other tools leave."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from jaxstab.errors import InputError
from jaxstab.runs import lm_eval, score_tables, seed_files, trainer, wandb_tables
from jaxstab.runs.directory import INFO, Run
from jaxstab.runs.files import load_array, load_arrays
from jaxstab.runs.outputs import ARRAYS, METRICS, Outputs

Reader = Callable[[], Outputs]


def load_outputs(
    path: str | Path | Run, labels: str | Path | None = None, metric: str | None = None, task: str | None = None
) -> Outputs:
    """Reads outputs of one task without computing anything.

    Args:
        path: a run or its directory; an npz or npy file; a table of runs and their scores; or a directory: of files by
            seed, of lm-evaluation-harness, of Hugging Face Trainers, or of tables of Weights & Biases.
        labels: a file with the true labels, where they are not beside the predictions.
        metric: the score; default: that of the run, otherwise accuracy. Where scores are given, what they are called.
        task: the task, where there are several.

    Raises:
        InputError: nothing there that can be measured, or several tasks.
    """
    readers = _readers(path, labels, metric, task)
    if len(readers) > 1:
        names = sorted(readers)
        raise InputError(f"{path}: {len(names)} tasks: {', '.join(names)}; choose one: --task {names[0]}")
    return next(iter(readers.values()))()


def load_tasks(
    path: str | Path | Run, labels: str | Path | None = None, metric: str | None = None, task: str | None = None
) -> list[Outputs]:
    """Reads outputs of every task, or of the one that is asked for; arguments as for `load_outputs`."""
    return [reader() for reader in _readers(path, labels, metric, task).values()]


def _readers(
    source: str | Path | Run, labels: str | Path | None, metric: str | None, task: str | None
) -> dict[str, Reader]:
    """By task, what reads it."""
    if isinstance(source, Run):
        return {"": partial(_of_run, source, metric)}
    path, labels = Path(source), None if labels is None else Path(labels)
    if not path.exists():
        raise InputError(f"{path}: no such file or directory; give a run, an npz file or a directory of files by seed")
    if path.is_dir() and (path / INFO).exists():
        return {"": partial(_of_run, Run.load(path), metric)}
    readers = _of_directory(path, labels, metric) if path.is_dir() else _of_file(path, labels, metric)
    if task is None:
        return readers
    if task not in readers:
        there = ", ".join(sorted(filter(None, readers)))
        raise InputError(
            f"{path}: no task {task}; " + (f"there are {there}" if there else "it holds one without a name")
        )
    return {task: readers[task]}


def _of_directory(path: Path, labels: Path | None, metric: str | None) -> dict[str, Reader]:
    samples = lm_eval.find(path)
    if samples:
        return {task: partial(lm_eval.read, path, task, files, metric) for task, files in samples.items()}
    tables = wandb_tables.find(path)
    if tables:
        readers = {name: partial(wandb_tables.read, path, name, files, labels) for name, files in tables.items()}
        return {name: partial(_scored, reader, metric) for name, reader in readers.items()}
    files, trainers = seed_files.find(path), trainer.find(path)
    if trainers and (not files or (metric is not None and metric not in METRICS)):
        return {"": partial(trainer.read, path, trainers, metric)}
    if not files:
        raise InputError(f"{path}: no run, and no file by seed in it{_inside(path)}")
    readers = {task: partial(seed_files.read, path, task, found, labels, trainers) for task, found in files.items()}
    return {task: partial(_scored, reader, metric) for task, reader in readers.items()}


def _inside(path: Path) -> str:
    """What a user may have meant who gave a directory that holds no outputs itself."""
    runs = [
        one.name for one in sorted(path.iterdir()) if one.is_dir() and ((one / INFO).exists() or seed_files.find(one))
    ]
    runs += [one.name for one in sorted(path.glob("*.npz"))]
    if runs:
        return (
            f", but {', '.join(runs[:3])}{', ...' if len(runs) > 3 else ''}; give them by themselves: {path}/{runs[0]}"
        )
    return f"; expected {', '.join('*' + suffix for suffix in seed_files.SUFFIXES)}, or a folder for each seed"


def _of_file(path: Path, labels: Path | None, metric: str | None) -> dict[str, Reader]:
    if path.suffix in (".csv", ".tsv"):
        return {"": partial(score_tables.read, path, metric)}
    if path.name.endswith(wandb_tables.SUFFIX):
        reader = partial(wandb_tables.read, path, path.name.removesuffix(wandb_tables.SUFFIX), {"": path}, labels)
        return {"": partial(_scored, reader, metric)}
    if path.suffix not in (".npz", ".npy"):
        raise InputError(f"{path}: not an npz, npy or csv file; of files by seed give the directory {path.parent}")
    return {"": partial(_scored, partial(_of_arrays, path, labels), metric)}


def _of_arrays(path: Path, labels: Path | None) -> Outputs:
    truth = None if labels is None else seed_files.read_labels(labels)
    if path.suffix == ".npz":
        arrays = load_arrays(path)
    else:
        array = np.asarray(load_array(path))
        numbers = array.ndim == 2 and array.dtype.kind == "f" and (array != np.round(array)).any()
        if numbers and (truth is None or array.shape[1] != len(truth)):
            raise InputError(f"{path}: logits of one seed {array.shape}; give the directory of all: {path.parent}")
        arrays = {"predictions" if array.ndim == 2 else "logits": array}
    given = {name: arrays[name] for name in ARRAYS if name in arrays}
    if not given.keys() - {"labels"}:
        raise InputError(f"{path}: holds {', '.join(arrays) or 'nothing'}; expected {', '.join(ARRAYS)}")
    if "logits" in given:
        given.pop("predictions", None)
    if truth is not None:
        given["labels"] = truth
    seeds = arrays.get("seeds")
    if seeds is not None and seeds.dtype.kind not in "iu":
        raise InputError(f"{path}: seeds of type {seeds.dtype}; expected integers, one for each seed")
    metric = "score" if "scores" in given else None
    return Outputs(path, None if seeds is None else seeds.ravel().tolist(), given, metric)


def _of_run(run: Run, metric: str | None) -> Outputs:
    arrays = {"logits": run.logits, "labels": run.labels}
    if run.representations is not None and len(run.distances["represented"]) == len(run.labels):
        arrays["representations"] = run.representations
    return Outputs(run.path, run.seeds.tolist(), arrays, metric or run.info.metric, run).without_diverged()


def _scored(reader: Reader, metric: str | None) -> Outputs:
    """The outputs without seeds that diverged; and with the score that is asked for."""
    found = reader().without_diverged()
    return found if metric is None else replace(found, metric=metric)
