"""One experiment from config to run directory, in the order of the data flow."""

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import platformdirs
from jax.experimental.compilation_cache import compilation_cache

from jaxstab import measures, store
from jaxstab.config import Config, InputError, SeedTriple, load_config, make_config
from jaxstab.data.batches import grid_sizes, steps_per_epoch
from jaxstab.data.task import Task, load_task
from jaxstab.data.tokens import EncodedTask, encode_task, load_tokenizer
from jaxstab.models.checkpoint import Pretrained, load_encoder_config, load_pretrained, resolve_model
from jaxstab.models.encoder import make_classifier
from jaxstab.planning import Estimate, Plan, estimate, peak_memory, plan_trainer
from jaxstab.report.terminal import Display
from jaxstab.seeds import SeedTrainer, make_waves
from jaxstab.store import Run
from jaxstab.train import Recipe

OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"  # in the messages of XLA
LARGEST = "representations"  # of a seed's arrays: in a file of its own, from which layers are read one by one
PACKAGES = ("jaxstab", "jax", "jaxlib", "flax", "optax", "transformers", "datasets", "numpy")


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
    display = display or Display(quiet=True)
    experiment = store.find_run(config)
    if experiment.finished:
        if config.output.keep_representations and experiment.representations is None:
            raise InputError(
                f"{experiment.path}: has finished without keeping representations; give --output.dir another directory"
            )
        return experiment
    started = time.perf_counter()
    _keep_compiled_programs()
    task, encoded, pretrained = load_inputs(config, show_progress=display.is_live)
    recipe = make_recipe(config, task, encoded, pretrained)
    info = _describe(experiment, config, task, encoded, recipe)
    store.begin_run(experiment, config)
    with _recorded(experiment, info, started):
        display.prepared(config, info)
        make_trainer = partial(plan_trainer, recipe, pretrained, encoded, len(info["seeds"]), jax.local_devices())
        _train(experiment, config, make_trainer, info, display)
        _finish(experiment, config, task, info, display)
    store.remove_checkpoints(experiment)
    return Run.load(experiment.path)


def plan(config: Config | Mapping[str, Any] | str | Path) -> tuple[Plan, Estimate]:
    """Says how a run would divide its seeds, what memory it needs and how long it takes, and leaves nothing behind.

    Compiles what the run will use (and will then find in the cache), and takes a few steps.

    Args:
        config: as for `run`.

    Raises:
        InputError: something the user gave cannot be used; raised before anything is compiled.
    """
    config = _as_config(config)
    _keep_compiled_programs()
    task, encoded, pretrained = load_inputs(config)
    recipe, triples = make_recipe(config, task, encoded, pretrained), config.seeds.resolve()
    given = config.seeds.group_size, config.train.remat
    started = time.perf_counter()
    chosen, trainer = plan_trainer(recipe, pretrained, encoded, len(triples), jax.local_devices(), *given)
    return chosen, estimate(trainer, chosen, triples, compilation=time.perf_counter() - started)


def load_inputs(config: Config, show_progress: bool = False) -> tuple[Task, EncodedTask, Pretrained]:
    """Loads and checks all that training needs, without compiling anything.

    Args:
        config: of the experiment.
        show_progress: with a bar while tokenising.

    Raises:
        InputError: something in it cannot be used.
    """
    directory = resolve_model(config.model)
    task = load_task(config.task)
    if len(task.train.labels) < config.train.batch_size:
        raise InputError(
            f"train.batch_size = {config.train.batch_size}: there are only {len(task.train.labels)} training examples; "
            "make the batch smaller"
        )
    encoder = load_encoder_config(directory, len(task.classes), config.model, config.train.dropout)
    if config.task.max_length > encoder.max_position_embeddings:
        raise InputError(
            f"task.max_length = {config.task.max_length}: the model has {encoder.max_position_embeddings} positions; "
            "make it smaller"
        )
    tokenizer = load_tokenizer(directory)
    encoded = encode_task(task, tokenizer, config.task.max_length, encoder.vocab_size, show_progress)
    return task, encoded, load_pretrained(directory, encoder, encoded.vocabulary)


def make_recipe(config: Config, task: Task, encoded: EncodedTask, pretrained: Pretrained) -> Recipe:
    """Returns what is fixed for a whole run."""
    definition, _ = make_classifier(pretrained.config, config.train.precision)
    lengths = np.asarray(encoded.train.lengths)
    return Recipe(
        config=config.train,
        definition=definition,
        classes=len(task.classes),
        metric=task.metric,
        steps_per_epoch=steps_per_epoch(len(lengths), config.train.batch_size),
        rows=grid_sizes(lengths, encoded.train.input_ids.shape[1], config.train.batch_size),
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
def _recorded(experiment: Run, info: dict[str, Any], started: float) -> Iterator[None]:
    """Keeps status and seconds in `run.json` up to date, whatever happens; seconds add up over interruptions."""
    before, path = info["wall_seconds"], experiment.path / store.INFO
    store.write_json(path, info)
    status = "interrupted"
    try:
        yield
        status = "finished"
    finally:
        seconds = before + time.perf_counter() - started
        store.write_json(path, {**info, "status": status, "wall_seconds": round(seconds, 2)})


def _majority(task: Task, split: str) -> float:
    return measures.plain(
        measures.majority_score(task.metric, jnp.asarray(getattr(task, split).labels), len(task.classes))
    )


def _train(
    experiment: Run,
    config: Config,
    make_trainer: Callable[[int | None, bool | None], tuple[Plan, SeedTrainer]],
    info: dict[str, Any],
    display: Display,
) -> None:
    """Trains the seeds that have no file yet, with smaller groups where memory does not suffice."""
    while _unfinished(experiment, config):
        try:
            _train_waves(experiment, config, make_trainer, info, display)
        except jax.errors.JaxRuntimeError as error:
            if OUT_OF_MEMORY not in str(error) or info["group_size"] in (None, 1):
                raise
            info["out_of_memory"].append(info["group_size"])
            info["group_size"] //= 2
            store.write_json(experiment.path / store.INFO, info)
            display.out_of_memory(info["group_size"])


def _train_waves(
    experiment: Run,
    config: Config,
    make_trainer: Callable[[int | None, bool | None], tuple[Plan, SeedTrainer]],
    info: dict[str, Any],
    display: Display,
) -> None:
    """Plans, compiles and trains; each wave's seeds are written when it ends."""
    started = time.perf_counter()
    with display:
        display.compiling()
        plan, trainer = make_trainer(info["group_size"], info["remat"])
        compile_seconds = time.perf_counter() - started
        info |= {
            "group_size": plan.group_size,
            "remat": plan.remat,
            "compile_seconds": round(compile_seconds, 2),
            "memory": {"predicted_bytes": plan.needed_bytes, "limit_bytes": plan.limit_bytes},
        }
        store.write_json(experiment.path / store.INFO, info)
        waves = make_waves(_unfinished(experiment, config), trainer.wave_size)
        display.compiled(compile_seconds, [[triple.seed for triple in wave] for wave in waves], plan)
        for number, wave in enumerate(waves):
            for triple, result in zip(wave, trainer.train_wave(wave, number, display), strict=True):
                arrays = result._asdict()
                store.write_array(store.representation_file(experiment, triple.seed), arrays.pop(LARGEST))
                store.write_arrays(store.seed_file(experiment, triple.seed), arrays)
    info["memory"]["peak_bytes"] = peak_memory(jax.local_devices())


def _unfinished(experiment: Run, config: Config) -> list[SeedTriple]:
    return [triple for triple in config.seeds.resolve() if not store.seed_file(experiment, triple.seed).exists()]


def _finish(experiment: Run, config: Config, task: Task, info: dict[str, Any], display: Display) -> None:
    """Gathers the seeds' files into the run's own, and measures."""
    triples = config.seeds.resolve()
    numbers = [triple.seed for triple in triples]
    by_seed = [store.load_arrays(store.seed_file(experiment, seed)) for seed in numbers]
    results = {name: np.stack([one[name] for one in by_seed]) for name in by_seed[0]}
    representations = [store.load_array(store.representation_file(experiment, seed)) for seed in numbers]
    path, test = experiment.path, task.test
    predictions = {
        "logits": results["logits"],
        "final_logits": results["final_logits"],
        "labels": test.labels,
        "seeds": np.asarray(numbers),
        "example_ids": test.example_ids,
    }
    store.write_arrays(path / store.PREDICTIONS, predictions)
    store.write_frame(path / store.HISTORY, _history(triples, results, info))
    texts = {name: list(column) for name, column in zip(_text_names(task), test.texts, strict=True)}
    labels = [task.classes[label] for label in test.labels]
    store.write_frame(path / store.TEXTS, pd.DataFrame({"example_id": test.example_ids, **texts, "label": labels}))
    if config.output.keep_representations:
        store.write_stacked(path / store.REPRESENTATIONS, representations)
    final = _scores(task, results["final_logits"])
    info["failed_seeds"] = [
        seed for seed, one in zip(numbers, final, strict=True) if one <= info["majority_score"]["test"]
    ]
    started = time.perf_counter()
    with display.measuring(len(numbers), representations[0].shape):
        converged, found = _measure(task, numbers, results["logits"], representations)
    info["measure_seconds"] = round(time.perf_counter() - started, 2)
    represented = measures.represented_examples(len(test.labels))
    store.write_arrays(
        path / store.DISTANCES, found.distances | {"seeds": np.asarray(converged), "represented": represented}
    )
    store.write_json(path / store.MEASURES, found.as_json())


def _measure(
    task: Task, seeds: Sequence[int], logits: np.ndarray, representations: Sequence[np.ndarray]
) -> tuple[list[int], measures.Results]:
    """Scores all seeds, and measures those that did not diverge; returns which these are."""
    predictions = np.argmax(logits, axis=-1)
    scored = measures.measure(measures.check(predictions=predictions, labels=task.test.labels), task.metric, ())
    finite = np.isfinite(logits).all(axis=(1, 2))
    converged = [seed for seed, good in zip(seeds, finite, strict=True) if good]
    diverged = [seed for seed, good in zip(seeds, finite, strict=True) if not good]
    if not converged:
        return converged, replace(scored, warnings=["every seed diverged: logits are not finite"])
    inputs = measures.check(logits[finite], labels=task.test.labels, seeds=converged)
    kept = [one for one, good in zip(representations, finite, strict=True) if good]
    found = measures.measure(replace(inputs, representations=kept), task.metric)
    if diverged:
        named = ", ".join(map(str, diverged))
        found.warnings.insert(0, f"left out of every measure, because logits are not finite: seed {named}")
    return converged, replace(found, scores=scored.scores)


def _scores(task: Task, logits: np.ndarray) -> list[float]:
    """Of each seed on the test split."""
    predictions, labels = jnp.argmax(logits, axis=-1), jnp.asarray(task.test.labels)
    return [measures.plain(one) for one in measures.scores(task.metric, predictions, labels, len(task.classes))]


def _text_names(task: Task) -> list[str]:
    return ["text"] if len(task.test.texts) == 1 else ["text_1", "text_2"]


def _history(triples: Sequence[SeedTriple], results: Mapping[str, np.ndarray], info: dict[str, Any]) -> pd.DataFrame:
    """One row per seed and evaluation."""
    epochs = results["train_loss"].shape[1]
    steps = info["steps_per_epoch"]
    rows = []
    for i, triple in enumerate(triples):
        best = int(np.argmax(results["validation_score"][i]))
        for epoch in range(epochs):
            rows.append(
                {
                    **{f"{name}_seed" if name != "seed" else name: value for name, value in vars(triple).items()},
                    "epoch": epoch + 1,
                    "step": (epoch + 1) * steps,
                    "train_loss": results["train_loss"][i, epoch],
                    "validation_loss": results["validation_loss"][i, epoch],
                    "validation_score": results["validation_score"][i, epoch],
                    "best": epoch == best,
                }
            )
    return pd.DataFrame(rows)
