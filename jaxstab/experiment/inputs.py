"""The inputs of training, loaded and checked before anything is compiled."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np

from jaxstab.config import Config, hyperparameters
from jaxstab.data.batches import choose_grid, steps_per_epoch
from jaxstab.data.draws import make_draws
from jaxstab.data.targets import Targets, make_targets
from jaxstab.data.task import Task, load_task
from jaxstab.data.tokens import EncodedTask, encode_task, load_tokenizer
from jaxstab.errors import InputError
from jaxstab.mitigation import Method, make_methods, mitigated, number_of_layers
from jaxstab.models.parameters import split_layers
from jaxstab.models.pretrained import Pretrained, load_encoder_config, load_pretrained, resolve_model
from jaxstab.runs.info import BatchGrid
from jaxstab.training.devices import choose_precision, local_devices, memory_limit
from jaxstab.training.least_memory import does_not_fit
from jaxstab.training.recipe import Recipe, define, dtype_in_memory, number_frozen, to_memory


def load_inputs(config: Config, show_progress: bool = False) -> tuple[Task, EncodedTask, Pretrained]:
    """Loads and checks all inputs of training, without compiling anything.

    Args:
        config: config of the experiment.
        show_progress: whether to show a progress bar while tokenising.

    Raises:
        InputError: the config names something that cannot be used.
    """
    methods = make_methods(config.mitigation)
    train = mitigated(config.train, methods)
    _check_base(config, methods)
    directory = resolve_model(config.model)
    task = load_task(config.task, whole=config.seeds.draw_examples)
    draws, notes = make_draws(task, config.task, config.seeds)
    task = replace(task, notes=(*task.notes, *notes))
    make_targets(config.train, tuple(task.classes), task.train.labels)  # wrong weights are found before any work
    examples = draws.train if draws else len(task.train.labels)
    if examples < config.train.batch_size:
        raise InputError(
            f"train.batch_size = {config.train.batch_size}: there are only {examples} training examples; "
            "make the batch smaller"
        )
    if not task.classes and config.mitigation.r_drop is not None:
        raise InputError("mitigation.r_drop compares probabilities of classes, which a regression does not have")
    encoder = load_encoder_config(directory, task.outputs, config.model, train.dropout)
    if config.task.max_length > encoder.max_length:
        raise InputError(
            f"task.max_length = {config.task.max_length}: the model has {encoder.max_length} positions; make it smaller"
        )
    tokenizer = load_tokenizer(directory)
    encoded = encode_task(task, tokenizer, config.task.max_length, encoder.vocab_size, show_progress, draws)
    restricted, limit = replace(encoder, vocab_size=len(encoded.vocabulary)), memory_limit(local_devices())
    problem = does_not_fit(config, restricted, np.asarray(encoded.train.lengths), limit)
    if problem is not None:
        raise InputError(f"{config.model.source}: {problem}")
    dtype = dtype_in_memory(config.model.base_precision, choose_precision(train.precision), methods, encoder)
    return task, encoded, load_pretrained(directory, encoder, encoded.vocabulary, dtype)


def _check_base(config: Config, methods: Sequence[Method]) -> None:
    """Checks that there is something to store in another precision than float32."""
    if config.model.base_precision == "float32":
        return
    key = f"model.base_precision = {config.model.base_precision!r}"
    if not any(method.trained for method in methods):
        raise InputError(f"{key}: every parameter is trained, in float32; add a method such as lora, or leave it out")
    for name, method in zip(config.mitigation.names, methods, strict=True):
        if method.needs_pretrained:
            raise InputError(f"{key}: {name} needs pre-trained values in float32; leave one of the two out")


def make_recipe(
    config: Config,
    pretrained: Pretrained,
    *,
    classes: int,
    metric: str,
    steps_per_epoch: int,
    grid: BatchGrid,
    targets: Targets | None = None,
) -> Recipe:
    """Returns what is fixed for a whole run.

    Args:
        config: config of the run.
        pretrained: the pre-trained model that all seeds start from.
        classes: C, number of classes of the task; 1 of a regression.
        metric: the task's score.
        steps_per_epoch: optimiser steps per epoch.
        grid: the grids that training batches may be laid out in.
        targets: class weights and label smoothing.
    """
    methods = make_methods(config.mitigation)
    train = mitigated(config.train, methods)
    train = replace(train, precision=choose_precision(train.precision))
    dtype = dtype_in_memory(config.model.base_precision, train.precision, methods, pretrained.config)
    params = split_layers(pretrained.params, number_frozen(methods))
    pretrained = replace(pretrained, params=to_memory(params, dtype))
    return Recipe(
        config=train,
        methods=methods,
        pretrained=pretrained,
        definition=define(pretrained, train, methods),
        predictor=define(pretrained, train, methods, predicting=True),
        classes=classes,
        metric=metric,
        steps_per_epoch=steps_per_epoch,
        hyper=tuple(hyperparameters(config)),
        grid=grid,
        rounding=config.seeds.rounding,
        targets=targets,
    )


def recipe_for(config: Config, task: Task, encoded: EncodedTask, pretrained: Pretrained) -> Recipe:
    """Returns the recipe of a run on a task; the training examples determine the shapes of batches."""
    lengths, size = np.asarray(encoded.train.lengths), config.train.batch_size
    drawn = encoded.draws.train if encoded.draws else None
    return make_recipe(
        config,
        pretrained,
        classes=task.outputs,
        metric=task.metric,
        steps_per_epoch=steps_per_epoch(drawn or len(lengths), size),
        grid=choose_grid(lengths, size, drawn),
        targets=make_targets(config.train, tuple(task.classes), task.train.labels),
    )


def check_methods(configs: Sequence[Config], recipe: Recipe) -> None:
    """Checks that the methods have something to act on: reinit enough layers, bitfit biases.

    Raises:
        InputError: they do not.
    """
    params = recipe.pretrained.params
    depth = number_of_layers(params)
    paths = (path for path, _ in jax.tree_util.tree_leaves_with_path(params))
    has_biases = any(path[-1].key == "bias" for path in paths)
    for config in configs:
        reinit = config.mitigation.reinit
        if reinit and reinit.layers > depth:
            raise InputError(f"mitigation.reinit.layers = {reinit.layers}: only {depth} are trained; make it smaller")
        if "bitfit" in config.mitigation.names and not has_biases:
            raise InputError("mitigation: bitfit trains biases, and this model has none; use lora, or freeze")
