"""What `run.json` says about a run while it is trained; only the first of several processes writes."""

import hashlib
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxstab import measures
from jaxstab.config import Config, SeedTriple, hyperparameters
from jaxstab.data.task import Task
from jaxstab.data.tokens import EncodedTask
from jaxstab.errors import InputError
from jaxstab.runs.directory import FORMAT, INFO, Run, seed_file
from jaxstab.runs.files import write_json
from jaxstab.training import processes
from jaxstab.training.devices import local_devices
from jaxstab.training.step import Recipe

PACKAGES = ("jaxstab", "jax", "jaxlib", "flax", "optax", "transformers", "datasets", "numpy")
FIXED = ("group_size", "remat", "out_of_memory", "wall_seconds")  # stay what they were in a run that goes on


@dataclass(frozen=True)
class Setting:
    """One run among those that share a program.

    Attributes:
        run: its directory.
        config: of the run.
        info: what `run.json` is to say.
    """

    run: Run
    config: Config
    info: dict[str, Any]

    @property
    def unfinished(self) -> list[SeedTriple]:
        """Seeds that have no file yet."""
        seeds = self.config.seeds.resolve()
        return [triple for triple in seeds if not seed_file(self.run, triple.seed).exists()]

    @property
    def hyper(self) -> dict[str, float]:
        """What the seeds of this run have in common, and may not with those of another."""
        return hyperparameters(self.config)


def describe(config: Config, task: Task, encoded: EncodedTask, recipe: Recipe) -> dict[str, Any]:
    """Returns the content of `run.json` at the start of a new run."""
    examples = hashlib.sha256()
    for array in (*encoded.train, *encoded.validation, *encoded.test, encoded.vocabulary):
        examples.update(np.ascontiguousarray(array).tobytes())
    return {
        "format": FORMAT,
        "status": "running",
        "wall_seconds": 0.0,
        "metric": task.metric,
        "classes": list(task.classes),
        "examples": {name: len(getattr(task, name).labels) for name in ("train", "validation", "test")},
        "examples_sha256": examples.hexdigest(),
        "notes": list(task.notes),
        "majority_score": {name: _majority(task, name) for name in ("validation", "test")},
        "seeds": [vars(triple) for triple in config.seeds.resolve()],
        "steps_per_epoch": recipe.steps_per_epoch,
        "grid": {"rows": recipe.rows, "columns": encoded.train.input_ids.shape[1]},
        "group_size": config.seeds.group_size,
        "remat": config.train.remat,
        "out_of_memory": [],
        "processes": jax.process_count(),
        "devices": jax.device_count(),
        "device": local_devices()[0].device_kind,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def earlier(setting: Setting) -> dict[str, Any]:
    """Returns what stays as it was in a run that goes on; nothing of a new run.

    Raises:
        InputError: the run began with other examples.
    """
    if not (setting.run.path / INFO).exists():
        return {}
    before = setting.run.info
    if before["examples_sha256"] != setting.info["examples_sha256"]:
        raise InputError(f"{setting.run.path}: the task's examples have changed since this run began; delete it")
    return {name: before[name] for name in FIXED}


@contextmanager
def recorded(setting: Setting, together: int, started: float) -> Iterator[None]:
    """Keeps status and seconds in `run.json` up to date, whatever happens; seconds add up over interruptions.

    Args:
        setting: the run.
        together: how many runs share the time.
        started: when.
    """
    before = setting.info["wall_seconds"]
    note([setting])
    status = "interrupted"
    try:
        yield
        status = "finished"
    finally:
        seconds = before + (time.perf_counter() - started) / together
        note([setting], status=status, wall_seconds=round(seconds, 2))


def note(settings: Sequence[Setting], **values: Any) -> None:
    """Writes what all runs of a program have in common into each one's `run.json`."""
    for setting in settings:
        setting.info.update(values)
        if processes.is_first():
            write_json(setting.run.path / INFO, setting.info)


def _majority(task: Task, split: str) -> float:
    labels = jnp.asarray(getattr(task, split).labels)
    return measures.plain(measures.majority_score(task.metric, labels, len(task.classes)))
