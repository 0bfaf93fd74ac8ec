"""One experiment from config to run directory, in the order of the data flow."""

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import platformdirs
from jax.experimental.compilation_cache import compilation_cache

from jaxstab import measures, store
from jaxstab.config import (
    Config,
    InputError,
    SeedTriple,
    hyperparameters,
    load_config,
    make_config,
    settings_of,
)
from jaxstab.data.batches import grid_sizes, steps_per_epoch
from jaxstab.data.task import Task, load_task
from jaxstab.data.tokens import EncodedTask, encode_task, load_tokenizer
from jaxstab.mitigation import make_methods, mitigated, number_of_layers
from jaxstab.models.checkpoint import Pretrained, load_encoder_config, load_pretrained, resolve_model
from jaxstab.models.parameters import split_layers
from jaxstab.outcome import finish, reopen
from jaxstab.planning import Estimate, Plan, estimate, peak_memory, plan_trainer
from jaxstab.programs import Job
from jaxstab.report.terminal import Display
from jaxstab.seeds import SeedResult, SeedTrainer, make_waves
from jaxstab.store import Run
from jaxstab.train import Recipe, define, number_frozen

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"  # in the messages of XLA
LARGEST = "representations"  # of a seed's arrays: in a file of its own, from which layers are read one by one
PACKAGES = ("jaxstab", "jax", "jaxlib", "flax", "optax", "transformers", "datasets", "numpy")


@dataclass(frozen=True)
class _Setting:
    """One run among those that share a program."""

    run: Run
    config: Config
    info: dict[str, Any]

    @property
    def unfinished(self) -> list[SeedTriple]:
        """Seeds that have no file yet."""
        seeds = self.config.seeds.resolve()
        return [triple for triple in seeds if not store.seed_file(self.run, triple.seed).exists()]

    @property
    def hyper(self) -> dict[str, float]:
        """What the seeds of this run have in common, and may not with those of another."""
        return hyperparameters(self.config)


def run(config: Config | Mapping[str, Any] | str | Path, *, display: Display | None = None) -> Run:
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
    return _run_all([config], display or Display(quiet=True))[0]


def resume(path: str | Path, *, display: Display | None = None) -> Run:
    """Goes on with a run that was interrupted, wherever its directory is now, and returns it.

    Args:
        path: the run directory.
        display: as for `run`.

    Raises:
        InputError: no run there, or something that it needs is gone.
    """
    path = Path(path)
    if not (path / store.CONFIG).exists():
        raise InputError(f"{path}: not a run directory (no {store.CONFIG}); start one with: jaxstab run CONFIG")
    config = load_config(path / store.CONFIG)
    return run(replace(config, output=replace(config.output, dir=str(path))), display=display)


def run_grid(config: Config | Mapping[str, Any] | str | Path, *, display: Display | None = None) -> list[Run]:
    """Does what `run` does for every combination of values in `[grid]`, all in one compiled program.

    Args:
        config: as for `run`.
        display: as for `run`.

    Returns:
        One run for each combination, in the order of the grid, the last key fastest.

    Raises:
        InputError: as for `run`.
    """
    return _run_all(settings_of(_as_config(config)), display or Display(quiet=True))


def _run_all(configs: Sequence[Config], display: Display) -> list[Run]:
    """Trains the seeds of all configs, which differ in numbers only, and measures each."""
    started = time.perf_counter()
    runs = []
    for config in configs:
        found = store.find_run(config)
        if found.finished and store.adds_seeds(found.config, config):
            reopen(found)
            found = Run(found.path)
        elif found.finished:
            _check_kept(found, config)
        runs.append(found)
    pending = [(found, config) for found, config in zip(runs, configs, strict=True) if not found.finished]
    if pending:
        _keep_compiled_programs()
        config = pending[0][1]
        task, encoded, pretrained = load_inputs(config, show_progress=display.is_live)
        recipe = make_recipe(config, task, encoded, pretrained)
        _check_reinit([one for _, one in pending], recipe)
        with ExitStack() as records:
            for found, _ in pending:
                records.enter_context(store.locked(found))
            settings = [_Setting(found, one, _describe(found, one, task, encoded, recipe)) for found, one in pending]
            for setting in settings:
                store.begin_run(setting.run, setting.config)
                if setting.config.output.keep_weights:
                    store.write_array(store.vocabulary_file(setting.run), encoded.vocabulary)
            for setting in settings:
                records.enter_context(_recorded(setting, len(settings), started))
            display.prepared([one for _, one in pending], recipe.config.epochs, settings[0].info)
            _train(settings, partial(plan_trainer, recipe, encoded), display)
            for setting in settings:
                finish(setting.run, setting.config, task, setting.info, display)
        for setting in settings:
            store.remove_checkpoints(setting.run)
    return [Run.load(found.path) for found in runs]


def plan(config: Config | Mapping[str, Any] | str | Path) -> tuple[Plan, Estimate]:
    """Says how a run would divide its seeds, what memory it needs and how long it takes, and leaves nothing behind.

    Compiles what the run will use (and will then find in the cache), and takes a few steps.

    Args:
        config: as for `run`; with a `[grid]`, of all its runs together.

    Raises:
        InputError: something the user gave cannot be used; raised before anything is compiled.
    """
    settings = settings_of(_as_config(config))
    first = settings[0]
    _keep_compiled_programs()
    task, encoded, pretrained = load_inputs(first)
    recipe = make_recipe(first, task, encoded, pretrained)
    _check_reinit(settings, recipe)
    jobs = [Job(triple, hyperparameters(one)) for one in settings for triple in one.seeds.resolve()]
    started = time.perf_counter()
    given = first.seeds.group_size, first.train.remat
    chosen, trainer = plan_trainer(recipe, encoded, len(jobs), jax.local_devices(), None, *given)
    return chosen, estimate(trainer, chosen, jobs, compilation=time.perf_counter() - started)


def load_inputs(config: Config, show_progress: bool = False) -> tuple[Task, EncodedTask, Pretrained]:
    """Loads and checks all that training needs, without compiling anything.

    Args:
        config: of the experiment.
        show_progress: with a bar while tokenising.

    Raises:
        InputError: something in it cannot be used.
    """
    train = mitigated(config.train, make_methods(config.mitigation))
    directory = resolve_model(config.model)
    task = load_task(config.task)
    if len(task.train.labels) < config.train.batch_size:
        raise InputError(
            f"train.batch_size = {config.train.batch_size}: there are only {len(task.train.labels)} training examples; "
            "make the batch smaller"
        )
    encoder = load_encoder_config(directory, len(task.classes), config.model, train.dropout)
    if config.task.max_length > encoder.max_length:
        raise InputError(
            f"task.max_length = {config.task.max_length}: the model has {encoder.max_length} positions; make it smaller"
        )
    tokenizer = load_tokenizer(directory)
    encoded = encode_task(task, tokenizer, config.task.max_length, encoder.vocab_size, show_progress)
    return task, encoded, load_pretrained(directory, encoder, encoded.vocabulary)


def make_recipe(config: Config, task: Task, encoded: EncodedTask, pretrained: Pretrained) -> Recipe:
    """Returns what is fixed for a whole run."""
    lengths = np.asarray(encoded.train.lengths)
    methods = make_methods(config.mitigation)
    train = mitigated(config.train, methods)
    pretrained = replace(pretrained, params=split_layers(pretrained.params, number_frozen(methods)))
    return Recipe(
        config=train,
        methods=methods,
        pretrained=pretrained,
        definition=define(pretrained, train, methods),
        classes=len(task.classes),
        metric=task.metric,
        steps_per_epoch=steps_per_epoch(len(lengths), config.train.batch_size),
        hyper=tuple(hyperparameters(config)),
        rows=grid_sizes(lengths, encoded.train.input_ids.shape[1], config.train.batch_size),
        rounding=config.seeds.rounding,
    )


def _keep_compiled_programs() -> None:
    """Turns JAX's persistent cache of compiled programs on, in the user's cache directory, unless there is one."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(Path(platformdirs.user_cache_dir("jaxstab")) / "compiled"))
        compilation_cache.reset_cache()  # it may have been found off already


def _as_config(config: Config | Mapping[str, Any] | str | Path) -> Config:
    if isinstance(config, Config):
        return config
    return make_config(config) if isinstance(config, Mapping) else load_config(config)


def _describe(experiment: Run, config: Config, task: Task, encoded: EncodedTask, recipe: Recipe) -> dict[str, Any]:
    """The content of `run.json` at the start; G of a run that began earlier stays what it was."""
    triples, devices = config.seeds.resolve(), jax.local_devices()
    examples = hashlib.sha256()
    for array in (*encoded.train, *encoded.validation, *encoded.test, encoded.vocabulary):
        examples.update(np.ascontiguousarray(array).tobytes())
    chosen: dict[str, Any] = {
        "group_size": config.seeds.group_size,
        "remat": config.train.remat,
        "out_of_memory": [],
    }
    wall_seconds = 0.0
    if (experiment.path / store.INFO).exists():
        earlier = experiment.info
        wall_seconds, chosen = earlier["wall_seconds"], {name: earlier[name] for name in chosen}
        if earlier["examples_sha256"] != examples.hexdigest():
            raise InputError(f"{experiment.path}: the task's examples have changed since this run began; delete it")
    return {
        "status": "running",
        "wall_seconds": wall_seconds,
        "metric": task.metric,
        "classes": list(task.classes),
        "examples": {name: len(getattr(task, name).labels) for name in ("train", "validation", "test")},
        "examples_sha256": examples.hexdigest(),
        "notes": list(task.notes),
        "majority_score": {name: _majority(task, name) for name in ("validation", "test")},
        "seeds": [vars(triple) for triple in triples],
        "steps_per_epoch": recipe.steps_per_epoch,
        "grid": {"rows": recipe.rows, "columns": encoded.train.input_ids.shape[1]},
        **chosen,
        "devices": len(devices),
        "device": devices[0].device_kind,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


@contextmanager
def _recorded(setting: _Setting, together: int, started: float) -> Iterator[None]:
    """Keeps status and seconds in `run.json` up to date, whatever happens; seconds add up over interruptions.

    Args:
        setting: the run.
        together: how many runs share the time.
        started: when.
    """
    info, path = setting.info, setting.run.path / store.INFO
    before = info["wall_seconds"]
    store.write_json(path, info)
    status = "interrupted"
    try:
        yield
        status = "finished"
    finally:
        seconds = before + (time.perf_counter() - started) / together
        store.write_json(path, {**info, "status": status, "wall_seconds": round(seconds, 2)})


def _majority(task: Task, split: str) -> float:
    return measures.plain(
        measures.majority_score(task.metric, jnp.asarray(getattr(task, split).labels), len(task.classes))
    )


def _train(
    settings: Sequence[_Setting], make_trainer: Callable[..., tuple[Plan, SeedTrainer]], display: Display
) -> None:
    """Trains the seeds that have no file yet, with smaller groups where memory does not suffice."""
    while any(setting.unfinished for setting in settings):
        try:
            _train_waves(settings, make_trainer, display)
        except jax.errors.JaxRuntimeError as error:
            info = settings[0].info
            size = info["group_size"]
            if OUT_OF_MEMORY not in str(error) or size in (None, 1):
                raise
            _note(settings, group_size=size // 2, out_of_memory=[*info["out_of_memory"], size])
            display.out_of_memory(size // 2)


def _train_waves(
    settings: Sequence[_Setting], make_trainer: Callable[..., tuple[Plan, SeedTrainer]], display: Display
) -> None:
    """Plans, compiles and trains; each wave's seeds are written when it ends."""
    started = time.perf_counter()
    first = settings[0]
    seeds, devices = sum(len(setting.info["seeds"]) for setting in settings), jax.local_devices()
    kept = first.config.output.keep_weights
    which: Literal["best", "final"] | None = "final" if kept == "final" else "best" if kept else None
    with display:
        display.compiling()
        plan, trainer = make_trainer(seeds, devices, which, first.info["group_size"], first.info["remat"])
        compile_seconds = time.perf_counter() - started
        _note(
            settings,
            group_size=plan.group_size,
            remat=plan.remat,
            compile_seconds=round(compile_seconds, 2),
            memory={"predicted_bytes": plan.needed_bytes, "limit_bytes": plan.limit_bytes},
        )
        jobs = [(setting, triple) for setting in settings for triple in setting.unfinished]
        waves = make_waves(jobs, trainer.wave_size)
        display.compiled(compile_seconds, [[_label(settings, *job) for job in wave] for wave in waves], plan)
        for number, wave in enumerate(waves):
            results = trainer.train_wave([Job(triple, setting.hyper) for setting, triple in wave], number, display)
            for (setting, triple), result in zip(wave, results, strict=True):
                _write(setting, triple.seed, result)
    memory = {**first.info["memory"], "peak_bytes": peak_memory(devices)}
    _note(settings, memory=memory)


def _write(setting: _Setting, seed: int, result: SeedResult) -> None:
    """Leaves a finished seed's files; the one that says that it is finished comes last."""
    arrays = result._asdict()
    weights, kept = arrays.pop("weights"), setting.config.output.keep_weights
    if weights is not None and (not isinstance(kept, tuple) or seed in kept):
        store.write_weights(store.weights_file(setting.run, seed), weights)
    store.write_array(store.representation_file(setting.run, seed), arrays.pop(LARGEST))
    store.write_arrays(store.seed_file(setting.run, seed), arrays)


def _note(settings: Sequence[_Setting], **values: Any) -> None:
    """Writes what all runs of a program have in common into each one's `run.json`."""
    for setting in settings:
        setting.info.update(values)
        store.write_json(setting.run.path / store.INFO, setting.info)


def _label(settings: Sequence[_Setting], setting: _Setting, triple: SeedTriple) -> str:
    return f"{triple.seed}" if len(settings) == 1 else f"{triple.seed} of {setting.run.path.name}"


def _check_reinit(configs: Sequence[Config], recipe: Recipe) -> None:
    depth = number_of_layers(recipe.pretrained.params)
    for config in configs:
        reinit = config.mitigation.reinit
        if reinit and reinit.layers > depth:
            raise InputError(f"mitigation.reinit.layers = {reinit.layers}: only {depth} are trained; make it smaller")


def _check_kept(found: Run, config: Config) -> None:
    """Refuses to find in a finished run what it has not kept."""
    wanted, kept = config.output.keep_weights, found.config.output.keep_weights
    seeds = wanted if isinstance(wanted, tuple) else [triple.seed for triple in config.seeds.resolve()]
    has_weights = (wanted == "final") == (kept == "final") and all(
        store.weights_file(found, seed).exists() for seed in seeds
    )
    lacking = {
        "representations": config.output.keep_representations and found.representations is None,
        "these weights": wanted is not False and not has_weights,
    }
    for name, lacks in lacking.items():
        if lacks:
            raise InputError(f"{found.path}: has finished without keeping {name}; give --output.dir another directory")
