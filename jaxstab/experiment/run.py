"""One experiment from config to run directory, in the order of the data flow."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import platformdirs
from jax.experimental.compilation_cache import compilation_cache

from jaxstab.config import Config, expand_grid, hyperparameters, load_config, make_config
from jaxstab.data.task import Task
from jaxstab.data.tokens import EncodedTask
from jaxstab.errors import InputError
from jaxstab.experiment.finish import finish, reopen
from jaxstab.experiment.inputs import check_reinit, load_inputs, make_recipe
from jaxstab.experiment.progress import Progress
from jaxstab.experiment.status import Setting, describe, earlier, note, recorded
from jaxstab.runs.directory import (
    CONFIG,
    Run,
    adds_seeds,
    begin_run,
    find_run,
    locked,
    remove_checkpoints,
    representation_file,
    seed_file,
    vocabulary_file,
    weights_file,
)
from jaxstab.runs.files import write_array, write_arrays, write_weights
from jaxstab.training import processes
from jaxstab.training.checkpoints import Checkpoints, kept_steps
from jaxstab.training.planning import Estimate, Plan, estimate, peak_memory, plan_trainer
from jaxstab.training.programs import Job
from jaxstab.training.step import Recipe
from jaxstab.training.waves import SeedResult, SeedTrainer, make_waves

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"  # in the messages of XLA
LARGEST = "representations"  # of a seed's arrays: in a file of its own, from which layers are read one by one


def run(config: Config | Mapping[str, Any] | str | Path, *, display: Progress | None = None) -> Run:
    """Fine-tunes every seed of a config, measures how much they differ, and leaves a run directory.

    A run that was interrupted goes on after its last finished wave; one that has finished is only read.

    Args:
        config: a `Config`, nested plain values, or the path of a TOML file.
        display: shows how it gets on; silent by default.

    Raises:
        InputError: something the user gave cannot be used; raised before anything is compiled.
    """
    config = _as_config(config)
    if config.grid:
        raise InputError(f"{config.name}: has a [grid], which is several runs; use jaxstab.run_grid")
    return _run_all([config], display or Progress())[0]


def resume(path: str | Path, *, display: Progress | None = None) -> Run:
    """Goes on with a run that was interrupted, wherever its directory is now, and returns it.

    Args:
        path: the run directory.
        display: as for `run`.

    Raises:
        InputError: no run there, or something that it needs is gone.
    """
    path = Path(path)
    if not (path / CONFIG).exists():
        raise InputError(f"{path}: not a run directory (no {CONFIG}); start one with: jaxstab run CONFIG")
    config = load_config(path / CONFIG)
    return run(replace(config, output=replace(config.output, dir=str(path))), display=display)


def run_grid(config: Config | Mapping[str, Any] | str | Path, *, display: Progress | None = None) -> list[Run]:
    """Does what `run` does for every combination of values in `[grid]`, all in one compiled program.

    Args:
        config: as for `run`.
        display: as for `run`.

    Returns:
        One run for each combination, in the order of the grid, the last key fastest.

    Raises:
        InputError: as for `run`.
    """
    return _run_all(expand_grid(_as_config(config)), display or Progress())


def _run_all(configs: Sequence[Config], display: Progress) -> list[Run]:
    """Trains the seeds of all configs, which differ in numbers only, and measures each."""
    started = time.perf_counter()
    finished = processes.decided(lambda: [_look(config) for config in configs])
    pending = [config for config, done in zip(configs, finished, strict=True) if not done]
    if pending:
        _keep_compiled_programs()
        task, encoded, recipe = processes.together(lambda: _prepare(pending, display))
        settings = [Setting(Run(one.directory), one, describe(one, task, encoded, recipe)) for one in pending]
        with ExitStack() as records:
            before = processes.decided(lambda: _begin(settings, encoded, records))
            for setting, kept in zip(settings, before, strict=True):
                setting.info.update(kept)
                records.enter_context(recorded(setting, len(settings), started))
            display.prepared(pending, recipe.config.epochs, settings[0].info)
            _train(settings, partial(plan_trainer, recipe, encoded), display)
            processes.decided(lambda: _finish(settings, task, display))
        if processes.is_first():
            for setting in settings:
                remove_checkpoints(setting.run)
    load = Run.load if processes.is_first() else Run
    return [load(config.directory) for config in configs]


def _look(config: Config) -> bool:
    """Whether a run has finished; one that is to get more seeds has not."""
    found = find_run(config)
    if not found.finished:
        return False
    if adds_seeds(found.config, config):
        reopen(found)
        return False
    _check_kept(found, config)
    return True


def _prepare(configs: Sequence[Config], display: Progress) -> tuple[Task, EncodedTask, Recipe]:
    task, encoded, pretrained = load_inputs(configs[0], show_progress=display.is_live)
    recipe = make_recipe(configs[0], task, encoded, pretrained)
    check_reinit(configs, recipe)
    return task, encoded, recipe


def _begin(settings: Sequence[Setting], encoded: EncodedTask, locks: ExitStack) -> list[dict[str, Any]]:
    """Locks and creates the directories; returns what stays as it was in those that exist."""
    for setting in settings:
        locks.enter_context(locked(setting.run))
    before = [earlier(setting) for setting in settings]
    for setting in settings:
        begin_run(setting.run, setting.config)
        if setting.config.output.keep_weights:
            write_array(vocabulary_file(setting.run), encoded.vocabulary)
    return before


def _finish(settings: Sequence[Setting], task: Task, display: Progress) -> None:
    for setting in settings:
        finish(setting.run, setting.config, task, setting.info, display)


def plan(config: Config | Mapping[str, Any] | str | Path) -> tuple[Plan, Estimate]:
    """Says how a run would divide its seeds, what memory it needs and how long it takes, and leaves nothing behind.

    Compiles what the run will use (and will then find in the cache), and takes a few steps.

    Args:
        config: as for `run`; with a `[grid]`, of all its runs together.

    Raises:
        InputError: something the user gave cannot be used; raised before anything is compiled.
    """
    settings = expand_grid(_as_config(config))
    first = settings[0]
    _keep_compiled_programs()
    task, encoded, pretrained = load_inputs(first)
    recipe = make_recipe(first, task, encoded, pretrained)
    check_reinit(settings, recipe)
    jobs = [Job(triple, hyperparameters(one)) for one in settings for triple in one.seeds.resolve()]
    started = time.perf_counter()
    given = first.seeds.group_size, first.train.remat
    chosen, trainer = plan_trainer(recipe, encoded, len(jobs), jax.local_devices(), None, *given)
    return chosen, estimate(trainer, chosen, jobs, compilation=time.perf_counter() - started)


def _keep_compiled_programs() -> None:
    """Turns JAX's persistent cache of compiled programs on, in the user's cache directory, unless there is one."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(Path(platformdirs.user_cache_dir("jaxstab")) / "compiled"))
        compilation_cache.reset_cache()  # it may have been found off already


def _as_config(config: Config | Mapping[str, Any] | str | Path) -> Config:
    if isinstance(config, Config):
        return config
    return make_config(config) if isinstance(config, Mapping) else load_config(config)


def _train(
    settings: Sequence[Setting], make_trainer: Callable[..., tuple[Plan, SeedTrainer]], display: Progress
) -> None:
    """Trains the seeds that have no file yet, with smaller groups where memory does not suffice."""
    while jobs := _jobs(settings):
        try:
            _train_waves(settings, jobs, make_trainer, display)
        except jax.errors.JaxRuntimeError as error:
            info = settings[0].info
            size = info["group_size"]
            # Of several processes, one that fails ends all: the others are in the middle of their seeds.
            if OUT_OF_MEMORY not in str(error) or size in (None, 1) or jax.process_count() > 1:
                raise
            note(settings, group_size=size // 2, out_of_memory=[*info["out_of_memory"], size])
            display.out_of_memory(size // 2)


def _jobs(settings: Sequence[Setting]) -> list[Job]:
    """What is to be trained, from the first step or from where it was kept."""

    def look() -> list[list[tuple[int, int]]]:
        kept = [kept_steps(setting.run) for setting in settings]
        return [
            [(triple.seed, steps.get(triple.seed, 0)) for triple in setting.unfinished]
            for setting, steps in zip(settings, kept, strict=True)
        ]

    jobs = []
    for setting, unfinished in zip(settings, processes.decided(look), strict=True):
        triples = {triple.seed: triple for triple in setting.config.seeds.resolve()}
        jobs += [Job(triples[seed], setting.hyper, step, setting.run.path) for seed, step in unfinished]
    return jobs


def _train_waves(
    settings: Sequence[Setting],
    jobs: Sequence[Job],
    make_trainer: Callable[..., tuple[Plan, SeedTrainer]],
    display: Progress,
) -> None:
    """Plans, compiles and trains; each wave's seeds are written when it ends."""
    started = time.perf_counter()
    first, devices = settings[0], jax.local_devices()
    output = first.config.output
    which: Literal["best", "final"] | None = "final" if output.keep_weights == "final" else "best"
    which = which if output.keep_weights else None
    by_run = {setting.run.path: setting for setting in settings}
    with display, Checkpoints(output.checkpoint_minutes, display.warn) as checkpoints:
        display.compiling()
        share = -(-sum(len(setting.info["seeds"]) for setting in settings) // jax.process_count())
        plan, trainer = make_trainer(share, devices, which, first.info["group_size"], first.info["remat"])
        agreed = processes.smallest(plan.group_size)
        if agreed != plan.group_size:
            plan, trainer = make_trainer(share, devices, which, agreed, plan.remat)
        compile_seconds = time.perf_counter() - started
        note(
            settings,
            group_size=plan.group_size,
            remat=plan.remat,
            compile_seconds=round(compile_seconds, 2),
            memory={"predicted_bytes": plan.needed_bytes, "limit_bytes": plan.limit_bytes},
        )
        waves = make_waves(jobs, trainer.width, trainer.groups * jax.process_count())
        shares = [processes.shares(wave, trainer.groups)[jax.process_index()] for wave in waves]
        # A process for which no seeds are left trains a dummy, as long as the others take.
        own = [share or wave[:1] for share, wave in zip(shares, waves, strict=True)]
        labels = [[_label(by_run, job) for group in share for job in group] for share in own]
        display.compiled(compile_seconds, labels, plan)
        for number, (wave, share) in enumerate(zip(waves, shares, strict=True)):
            results = trainer.train_wave(own[number], number, display, checkpoints if share else None)
            for job, result in processes.gathered(wave, trainer.groups, results):
                if processes.is_first():
                    _write(by_run[job.run], job.triple.seed, result)
            for group in share:
                for job in group:
                    checkpoints.forget(job)
    memory = {**first.info["memory"], "peak_bytes": peak_memory(devices)}
    note(settings, memory=memory)


def _write(setting: Setting, seed: int, result: SeedResult) -> None:
    """Leaves a finished seed's files; the one that says that it is finished comes last."""
    arrays = result._asdict()
    weights, kept = arrays.pop("weights"), setting.config.output.keep_weights
    if weights is not None and (not isinstance(kept, tuple) or seed in kept):
        write_weights(weights_file(setting.run, seed), weights)
    write_array(representation_file(setting.run, seed), arrays.pop(LARGEST))
    write_arrays(seed_file(setting.run, seed), arrays)


def _label(by_run: Mapping[Path, Setting], job: Job) -> str:
    return f"{job.triple.seed}" if len(by_run) == 1 else f"{job.triple.seed} of {job.run.name}"


def _check_kept(found: Run, config: Config) -> None:
    """Refuses to find in a finished run what it has not kept."""
    wanted, kept = config.output.keep_weights, found.config.output.keep_weights
    seeds = wanted if isinstance(wanted, tuple) else [triple.seed for triple in config.seeds.resolve()]
    has_weights = (wanted == "final") == (kept == "final") and all(weights_file(found, seed).exists() for seed in seeds)
    lacking = {
        "representations": config.output.keep_representations and found.representations is None,
        "these weights": wanted is not False and not has_weights,
    }
    for name, lacks in lacking.items():
        if lacks:
            raise InputError(f"{found.path}: has finished without keeping {name}; give --output.dir another directory")
