"""Scores that Hugging Face's Trainer leaves in the folder of each seed: `trainer_state.json` and `*_results.json`."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxstab.errors import InputError
from jaxstab.runs.outputs import Outputs
from jaxstab.runs.score_tables import one_score, refuse_loss
from jaxstab.runs.seed_files import seed_numbers

STATE = "trainer_state.json"
CHECKPOINT = re.compile(r"checkpoint-(\d+)")
SPLITS = ("predict_", "test_", "eval_")
NO_SCORE = re.compile(r".*(_loss|_runtime|_per_second|_samples|_model_preparation_time)(_\w+)?")


def find(path: Path) -> dict[str, Path]:
    """Returns the output directories of Trainers in a directory, by name; an empty one if there are none."""
    if _holds_scores(path):
        return {path.name: path}
    return {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir() and _holds_scores(folder)}


def read(path: Path, folders: Mapping[str, Path], metric: str | None) -> Outputs:
    """Reads a score of each seed.

    Args:
        path: the directory.
        folders: from `find`.
        metric: its key, such as `eval_accuracy`; by default the only score, of test examples if there are any.

    Raises:
        InputError: no such score, or several to choose from.
    """
    found = {name: _numbers(folder) for name, folder in folders.items()}
    common = [key for key in next(iter(found.values())) if all(key in numbers for numbers in found.values())]
    scores = [key for key in common if key.startswith(SPLITS) and not NO_SCORE.fullmatch(key)]
    if metric is None:
        split = next((split for split in SPLITS if any(key.startswith(split) for key in scores)), "")
        metric = one_score(path, [key for key in scores if key.startswith(split)])
    refuse_loss(path, metric)
    if metric not in common:
        without = next(folders[name] for name, numbers in found.items() if metric not in numbers)
        raise InputError(f"{without}: no {metric}; scores of all seeds: {', '.join(scores) or 'none'}")
    values = np.array([numbers[metric] for numbers in found.values()], float)
    seeds = seed_numbers(list(found))
    if seeds:
        values = values[np.argsort(seeds)]
    return Outputs(path, sorted(seeds) if seeds else None, {"scores": values}, metric)


def _holds_scores(folder: Path) -> bool:
    return _state(folder) is not None or (folder / "all_results.json").exists()


def _state(folder: Path) -> Path | None:
    """The state of a Trainer, which only its checkpoints hold if it was not saved at the end."""
    if (folder / STATE).exists():
        return folder / STATE
    numbered = [(int(match[1]), one / STATE) for one in folder.iterdir() if (match := CHECKPOINT.fullmatch(one.name))]
    return next((file for _, file in sorted(numbered, reverse=True) if file.exists()), None)


def _numbers(folder: Path) -> dict[str, float]:
    """The last number under each key: of the evaluations in training, then of those after it."""
    entries: list[Any] = []
    state = _state(folder)
    if state is not None:
        content = _load(state)
        if not isinstance(content, dict) or not isinstance(content.get("log_history"), list):
            raise InputError(f"{state}: damaged (no log_history); mend it, or leave that seed out")
        entries += content["log_history"]
    entries += [_load(file) for file in sorted(folder.glob("*_results.json"))]
    found: dict[str, float] = {}
    for entry in entries:
        if isinstance(entry, dict):
            found |= {key: value for key, value in entry.items() if isinstance(value, int | float)}
    return found


def _load(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: damaged ({error}); mend it, or leave that seed out") from None
