"""Unfinished runs and their record in `run.json`, which only the first of several processes writes."""

import hashlib
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from jaxstab import measures
from jaxstab.config import Config, SeedTriple, hyperparameters
from jaxstab.config.rates import suited
from jaxstab.data.targets import loss_of_a_guess
from jaxstab.data.task import Task
from jaxstab.data.tokens import EncodedTask
from jaxstab.errors import InputError
from jaxstab.experiment.cautions import cautions
from jaxstab.models.attention import choose_attention
from jaxstab.runs.directory import INFO, Run, seed_file
from jaxstab.runs.info import Examples, MajorityScore, RunInfo, write_info
from jaxstab.training import devices, processes
from jaxstab.training.recipe import Recipe

PACKAGES = ("jaxstab", "jax", "jaxlib", "flax", "optax", "transformers", "datasets", "numpy")
RESUMED = ("group_size", "remat", "unroll", "out_of_memory", "wall_seconds")  # an interrupted run resumes with these


@dataclass
class PendingRun:
    """A run that has not finished; several runs may share compiled programs.

    Attributes:
        run: the run directory.
        config: config of the run.
        info: content of `run.json`; only `record` changes it.
    """

    run: Run
    config: Config
    info: RunInfo

    @property
    def unfinished_seeds(self) -> list[SeedTriple]:
        """The seeds without a result file."""
        seeds = self.config.seeds.resolve()
        return [triple for triple in seeds if not seed_file(self.run, triple.seed).exists()]

    @property
    def hyper(self) -> dict[str, float]:
        """Hyper-parameters of this run's seeds, the only values in which runs that share programs may differ."""
        return hyperparameters(self.config)


def describe(config: Config, task: Task, encoded: EncodedTask, recipe: Recipe) -> RunInfo:
    """Returns the content of `run.json` at the start of a new run."""
    examples = hashlib.sha256()
    for array in (*encoded.train, *encoded.validation, *encoded.test, encoded.vocabulary):
        examples.update(np.ascontiguousarray(array).tobytes())
    draws, pool, encoder = encoded.draws, encoded.train, recipe.pretrained.config
    rates = suited(encoder.model_type, encoder.hidden_size, config.mitigation.names)
    trained = draws.train if draws else len(pool.labels)
    # Where the pool is divided anew for each seed, every validation part has its class shares.
    validated = np.asarray(pool.labels) if draws and draws.validation else task.validation.labels
    return RunInfo(
        status="running",
        wall_seconds=0.0,
        metric=task.metric,
        classes=tuple(task.classes),
        examples=Examples(trained, len(task.validation.labels), len(task.test.labels)),
        examples_sha256=examples.hexdigest(),
        notes=(*task.notes, *cautions(config, task, encoder)),
        suited_rates=None if rates is None else (rates.low, rates.high),
        majority_score=MajorityScore(*(_majority(task, labels) for labels in (validated, task.test.labels))),
        seeds=config.seeds.resolve(),
        steps_per_epoch=recipe.steps_per_epoch,
        grid=recipe.grid,
        group_size=config.seeds.group_size,
        remat=config.train.remat,
        unroll=config.train.unroll,
        out_of_memory=(),
        processes=jax.process_count(),
        devices=jax.device_count(),
        device=devices.local_devices()[0].device_kind,
        attention=choose_attention(devices.platform(), recipe.config.precision),
        guess_loss=_guess_loss(task, recipe, np.asarray(pool.labels)),
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    )


def resumed_values(pending: PendingRun) -> dict[str, Any]:
    """Returns the values that an interrupted run resumes with, as plain values; empty for a new run.

    Raises:
        InputError: the run started with other examples.
    """
    if not (pending.run.path / INFO).exists():
        return {}
    before = pending.run.info
    if before.metric != pending.info.metric:
        raise InputError(
            f"{pending.run.path}: began with the score {before.metric}, now it is {pending.info.metric}; if it is a "
            f"Python function, resume in Python: jaxstab.run(config, score={before.metric})"
        )
    if before.examples_sha256 != pending.info.examples_sha256:
        raise InputError(f"{pending.run.path}: the task's examples have changed since this run began; delete it")
    return {name: value for name, value in before.to_json().items() if name in RESUMED}


@contextmanager
def recorded(pending: PendingRun, resumed: Mapping[str, Any], together: int, started: float) -> Iterator[None]:
    """Records status and seconds in `run.json` at the start and at the end, even after an error.

    Args:
        pending: the run.
        resumed: the values it resumes with; seconds add up over interruptions.
        together: number of runs that share the time.
        started: start time by `time.perf_counter`.
    """
    record([pending], **resumed)
    before, status = pending.info.wall_seconds, "interrupted"
    try:
        yield
        status = "finished"
    finally:
        seconds = before + (time.perf_counter() - started) / together
        record([pending], status=status, wall_seconds=round(seconds, 2))


def record(runs: Sequence[PendingRun], **values: Any) -> None:
    """Sets fields of `RunInfo` to the same values for all runs, in memory and in `run.json`."""
    for pending in runs:
        pending.info = replace(pending.info, **values)
        if processes.is_first():
            write_info(pending.run.path / INFO, pending.info)


def _guess_loss(task: Task, recipe: Recipe, labels: np.ndarray) -> float | None:
    """The training loss of the best guess that is the same for all examples; None for that of the classes' shares."""
    if not task.classes:
        return float(labels.var(dtype=np.float64))
    return None if recipe.targets is None else loss_of_a_guess(recipe.targets, labels)


def _majority(task: Task, labels: np.ndarray) -> float:
    return measures.plain(measures.majority_score(task.metric, labels, task.outputs))
