"""Runs an experiment, from config to run directory, in the order of the data flow."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxstab import libraries, measures
from jaxstab.config import Config, by_program, expand_grid, hyperparameters, load_config, make_config
from jaxstab.data.task import Task, load_task
from jaxstab.data.tokens import EncodedTask
from jaxstab.errors import InputError
from jaxstab.experiment.cautions import cautions
from jaxstab.experiment.curves import check_tracking, group_id
from jaxstab.experiment.finish import finish, reopen
from jaxstab.experiment.inputs import check_methods, load_inputs, recipe_for
from jaxstab.experiment.progress import Progress
from jaxstab.experiment.status import PendingRun, describe, recorded, resumed_values
from jaxstab.experiment.train import train
from jaxstab.runs.directory import (
    CONFIG,
    Run,
    adds_seeds,
    begin_run,
    find_run,
    locked,
    remove_checkpoints,
    vocabulary_file,
    weights_file,
)
from jaxstab.runs.files import write_array
from jaxstab.training import processes
from jaxstab.training.devices import cache_compiled_programs, choose_precision, local_devices, platform
from jaxstab.training.lowering import Job
from jaxstab.training.planning import Estimate, Plan, estimate, plan_trainer
from jaxstab.training.recipe import Recipe

Score = Callable[[np.ndarray, np.ndarray], float]


def run(
    config: Config | Mapping[str, Any] | str | Path, *, score: Score | None = None, display: Progress | None = None
) -> Run:
    """Fine-tunes every seed of a config, measures how much they differ, and writes a run directory.

    An interrupted run resumes from its checkpoints; a finished run is only read.

    Args:
        config: a `Config`, nested plain values, or the path of a TOML file.
        score: a function that is the task's score instead of `task.metric`, as for `jaxstab.measures.add_score`: from
            labels [N] and logits [N, C] (predicted numbers [N] of a regression) to a number of which more is better,
            from 0 to 1 unless added with another range. It chooses the best epoch. An interrupted run needs it again.
        display: shows the progress; silent by default.

    Returns:
        The finished run: its scores, logits, measures and learning curves.

    Raises:
        InputError: the config or its inputs cannot be used; raised before anything is compiled.

    Examples:
        >>> found = run(tiny)  # nested values: four seeds of a tiny model, two classes, 30 test examples
        >>> found.logits.shape
        (4, 30, 2)
        >>> found.to_frame().columns.tolist()[:6]
        ['seed', 'init_seed', 'order_seed', 'dropout_seed', 'repeat', 'score']
    """
    config = _as_config(config)
    if config.grid:
        raise InputError(f"{config.name}: has a [grid], which is several runs; use jaxstab.run_grid")
    if score is not None and config.task.metric is not None:
        raise InputError(f"{config.name}: task.metric = {config.task.metric!r}, and a function as score; keep one")
    return _run_all([config], display or Progress(), score)[0]


def resume(path: str | Path, *, display: Progress | None = None) -> Run:
    """Resumes an interrupted run, even if its directory was moved, and returns it once it has finished.

    Args:
        path: the run directory.
        display: as for `run`.

    Raises:
        InputError: the directory holds no run, or something that the run needs is gone.
    """
    path = Path(path)
    if not (path / CONFIG).exists():
        raise InputError(f"{path}: not a run directory (no {CONFIG}); start one with: jaxstab run CONFIG")
    config = load_config(path / CONFIG)
    return run(replace(config, output=replace(config.output, dir=str(path))), display=display)


def run_grid(config: Config | Mapping[str, Any] | str | Path, *, display: Progress | None = None) -> list[Run]:
    """Calls `run` for every combination of values in `[grid]`.

    Combinations that differ in learning rates, strengths of methods and the like share one compiled program and train
    side by side; others, as of methods or training sizes, one after another, once all are checked.

    Args:
        config: as for `run`.
        display: as for `run`.

    Returns:
        One run for each combination, in the order of the grid, the last key fastest.

    Raises:
        InputError: as for `run`.
    """
    configs = expand_grid(_as_config(config))
    groups, display = by_program(configs), display or Progress()
    for group in groups if len(groups) > 1 else []:
        if unfinished := _unfinished([_with_precision(one) for one in group]):
            processes.together(partial(_load, unfinished, display, None))
    found = {one.path: one for group in groups for one in _run_all(group, display)}
    return [found[config.directory] for config in configs]


def _run_all(configs: Sequence[Config], display: Progress, score: Score | None = None) -> list[Run]:
    """Trains the seeds of all configs, which differ in hyper-parameters only, and measures each run."""
    started = time.perf_counter()
    if not all((config.directory / CONFIG).exists() for config in configs):
        _get_ready()
    configs = [_with_precision(config) for config in configs]
    unfinished = _unfinished(configs)
    if unfinished:
        cache_compiled_programs()
        task, encoded, recipe = processes.together(lambda: _load(unfinished, display, score))
        pending = [PendingRun(Run(one.directory), one, describe(one, task, encoded, recipe)) for one in unfinished]
        with ExitStack() as stack:
            resumed = processes.decided(lambda: _lock_and_create(pending, encoded, stack))
            for one, values in zip(pending, resumed, strict=True):
                stack.enter_context(recorded(one, values, len(pending), started))
            notes = tuple(dict.fromkeys(note for one in pending for note in one.info.notes))
            display.prepared(unfinished, recipe.config.epochs, replace(pending[0].info, notes=notes))
            with _measures_prepared(recipe, task, max(len(one.info.seeds) for one in pending)):
                train(pending, partial(plan_trainer, recipe, encoded), display)
            processes.decided(lambda: _finish(pending, task, display))
        if processes.is_first():
            for one in pending:
                remove_checkpoints(one.run)
    load = Run.load if processes.is_first() else Run
    return [load(config.directory) for config in configs]


def _get_ready() -> None:
    """Initialises the devices while libraries are imported, because both take seconds."""
    with ThreadPoolExecutor(1) as background:
        background.submit(libraries.import_for_texts)
        local_devices()


def _unfinished(configs: Sequence[Config]) -> list[Config]:
    finished = processes.decided(lambda: [_is_finished(config) for config in configs])
    return [config for config, done in zip(configs, finished, strict=True) if not done]


def _is_finished(config: Config) -> bool:
    """Whether the run of a config has finished; reopens a finished run if the config adds seeds."""
    try:
        found = find_run(config)
    except InputError:
        load_task(config.task)  # a mistake in it, such as the name of a column, is likelier than a change on purpose
        raise
    if not found.finished:
        return False
    if adds_seeds(found.config, config):
        reopen(found)
        return False
    _check_saved(found, config)
    return True


def _load(configs: Sequence[Config], display: Progress, score: Score | None) -> tuple[Task, EncodedTask, Recipe]:
    """Loads and checks what all configs share."""
    check_tracking(configs[0])
    task, encoded, pretrained = load_inputs(configs[0], show_progress=display.is_live)
    if score is not None:
        task = _with_score(task, score)
    recipe = recipe_for(configs[0], task, encoded, pretrained)
    check_methods(configs, recipe)
    return task, encoded, recipe


def _lock_and_create(pending: Sequence[PendingRun], encoded: EncodedTask, locks: ExitStack) -> list[dict[str, Any]]:
    """Locks and creates the run directories; returns the values that each run resumes with."""
    for one in pending:
        locks.enter_context(locked(one.run))
    resumed = [resumed_values(one) for one in pending]
    for one in pending:
        begin_run(one.run, one.config)
        if one.config.output.keep_weights:
            write_array(vocabulary_file(one.run), encoded.vocabulary)
        if one.config.output.wandb:
            group_id(one.run)
    return resumed


@contextmanager
def _measures_prepared(recipe: Recipe, task: Task, seeds: int) -> Iterator[None]:
    """Compiles in a thread what measuring will need. On a CPU that would only take cores from training."""
    with ThreadPoolExecutor(1) as background:
        if platform() != "cpu" and processes.is_first() and seeds > 1:
            background.submit(
                measures.prepare,
                seeds=seeds,
                examples=len(task.test.labels),
                features=recipe.pretrained.config.hidden_size,
                classes=recipe.classes,
                metric=recipe.metric,
            )
        yield


def _finish(pending: Sequence[PendingRun], task: Task, display: Progress) -> None:
    for one in pending:
        finish(one, task, display)


def plan(config: Config | Mapping[str, Any] | str | Path, *, display: Progress | None = None) -> tuple[Plan, Estimate]:
    """Returns how a run would divide its seeds, its memory needs and its duration; writes no run directory.

    It compiles the programs of the run, which the run then finds in the cache, takes a few steps, and measures a layer
    of random numbers.

    Args:
        config: as for `run`; with a `[grid]`, the plan covers all its runs together.
        display: is told the notes that a run would have; silent by default.

    Raises:
        InputError: the config or its inputs cannot be used; raised before anything is compiled.
    """
    configs = expand_grid(_as_config(config))
    if len(by_program(configs)) > 1:
        raise InputError(f"{configs[0].name}: its [grid] needs several programs; use jaxstab.plan_grid")
    return plan_grid(config, display=display)[0][1:]


def plan_grid(
    config: Config | Mapping[str, Any] | str | Path, *, display: Progress | None = None
) -> list[tuple[list[str], Plan, Estimate]]:
    """Calls `plan` for each program that the runs of a `[grid]` need; those that share one train side by side.

    Args:
        config: as for `run`.
        display: as for `plan`.

    Returns:
        For each program the names of its runs, and the plan and duration of all of them together.

    Raises:
        InputError: as for `plan`.
    """
    groups = by_program([_with_precision(one) for one in expand_grid(_as_config(config))])
    warn = cache((display or Progress()).warn)  # says every note once
    for group in groups if len(groups) > 1 else []:  # all are checked before the first is compiled
        _prepared(group, warn)
    return [([one.name for one in group], *_plan(*_prepared(group, warn))) for group in groups]


def _prepared(configs: list[Config], warn: Callable[[str], None]) -> tuple[list[Config], Task, EncodedTask, Recipe]:
    """Loads and checks what a plan needs, and tells the notes."""
    task, encoded, pretrained = load_inputs(configs[0])
    recipe = recipe_for(configs[0], task, encoded, pretrained)
    check_methods(configs, recipe)
    found = [note for one in configs for note in cautions(one, task, recipe.pretrained.config)]
    for note in dict.fromkeys([*task.notes, *found]):
        warn(note)
    return configs, task, encoded, recipe


def _plan(configs: list[Config], task: Task, encoded: EncodedTask, recipe: Recipe) -> tuple[Plan, Estimate]:
    """Plans runs that share a program."""
    first = configs[0]
    cache_compiled_programs()
    jobs = [Job(triple, hyperparameters(one)) for one in configs for triple in one.seeds.resolve()]
    started = time.perf_counter()
    given = first.seeds.group_size, first.train.remat, first.train.unroll
    chosen, trainer = plan_trainer(recipe, encoded, len(jobs), local_devices(), None, *given)
    estimated = estimate(trainer, chosen, jobs, compilation=time.perf_counter() - started)
    encoder, examples = recipe.pretrained.config, len(measures.represented_examples(len(task.test.labels)))
    shape = encoder.num_hidden_layers, examples, encoder.hidden_size
    measuring = len(configs) * measures.measuring_seconds(len(jobs) // len(configs), *shape)
    waiting = len(jobs) * math.prod(shape) * np.dtype(np.float32).itemsize
    return chosen, replace(estimated, measuring=measuring, waiting_bytes=waiting)


def _with_score(task: Task, score: Score) -> Task:
    """The task with a user's function as its score, which is tried on both splits that it will judge."""
    try:
        metric = measures.add_score(score, of="logits" if task.classes else "numbers")
        for split in (task.validation, task.test):
            measures.majority_score(metric, split.labels, task.outputs)
    except ValueError as error:
        raise InputError(f"score: {error}") from None
    return replace(task, metric=metric)


def _as_config(config: Config | Mapping[str, Any] | str | Path) -> Config:
    if isinstance(config, Config):
        return config
    return make_config(config) if isinstance(config, Mapping) else load_config(config)


def _with_precision(config: Config) -> Config:
    """Replaces the precision `auto`: by that of the run if it has begun, which may have been on another device."""
    if config.train.precision != "auto":
        return config
    begun = config.directory / CONFIG
    precision = load_config(begun).train.precision if begun.exists() else choose_precision("auto")
    return replace(config, train=replace(config.train, precision=precision))


def _check_saved(found: Run, config: Config) -> None:
    """Checks that a finished run has saved everything that a config asks for.

    Raises:
        InputError: it has not.
    """
    wanted, saved = config.output.keep_weights, found.config.output.keep_weights
    seeds = wanted if isinstance(wanted, tuple) else [triple.seed for triple in config.seeds.resolve()]
    same_kind = (wanted == "final") == (saved == "final")
    has_weights = same_kind and all(weights_file(found, seed).exists() for seed in seeds)
    missing = {
        "representations": config.output.keep_representations and found.representations is None,
        "these weights": wanted is not False and not has_weights,
    }
    for name, is_missing in missing.items():
        if is_missing:
            raise InputError(f"{found.path}: has finished without saving {name}; give --output.dir another directory")
