"""The programs compiled for one device, for G seeds at once or for one. The seed axis is added here."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxstab import xla
from jaxstab.config import SeedTriple
from jaxstab.data.batches import Examples, Steps, example_orders, fixed_batches
from jaxstab.data.tokens import EncodedTask
from jaxstab.measures import represented_examples
from jaxstab.models.stack import Outputs
from jaxstab.runs.info import BatchGrid
from jaxstab.training.devices import MATMUL_PRECISION, is_cpu, to_device_memory, to_host_memory, vmaps_seeds
from jaxstab.training.optimizer import Hyper
from jaxstab.training.recipe import Recipe, frozen_part, reference_part
from jaxstab.training.seed_axis import over_seeds, put, seed_axes, shapes_of_one, take
from jaxstab.training.step import (
    Evaluation,
    SeedInputs,
    TrainState,
    evaluate,
    init_state,
    predict,
    train_steps,
    weights_in_use,
)

PREDICTION_BATCH = 32
INIT, DROPOUT = 0, 1  # purposes folded into a key
BEST = "best_params"  # in the names of arrays in a checkpoint
Keys = tuple[jax.Array, jax.Array]
Split = tuple[Examples, Steps]


class Job(NamedTuple):
    """One seed to be trained.

    Attributes:
        triple: the seeds of its randomness.
        hyper: its hyper-parameters (`jaxstab.config.hyperparameters`).
        step: step of the checkpoint that training resumes from; 0 without one.
        run: the run that it belongs to.
    """

    triple: SeedTriple
    hyper: Mapping[str, float]
    step: int = 0
    run: Path = Path()


class Programs:
    """The compiled programs of one device, and the data on it that all seeds share."""

    def __init__(self, recipe: Recipe, task: EncodedTask, group_size: int, device: jax.Device):
        """Puts the data on the device and compiles.

        Args:
            recipe: recipe of the run.
            task: token arrays.
            group_size: G, seeds at once on the device.
            device: the device.
        """
        started = time.perf_counter()
        self.recipe, self.group_size, self.device = recipe, group_size, device
        self.width = group_size if vmaps_seeds(device) else 1
        if self.width > 1:  # vmap computes every branch of a switch
            self.recipe = recipe = replace(recipe, grid=replace(recipe.grid, rows=recipe.grid.rows[-1:]))
        self._lengths = np.asarray(task.train.lengths)
        self._params, self._examples = jax.device_put((recipe.pretrained.params, task.train), device)
        self._frozen, self._reference = frozen_part(recipe, self._params), reference_part(recipe, self._params)
        represented = represented_examples(len(task.test.labels))
        self._represents_all = len(represented) == len(task.test.labels)
        self._validation, validation_grid = self._fixed(task.validation)
        self._test, test_grid = self._fixed(task.test)
        self._sample, sample_grid = self._fixed(jax.tree.map(lambda array: array[represented], task.test))

        def init_one(params: Any, seeds: jax.Array, *others: Any) -> tuple[Keys, TrainState]:
            keys = _key(seeds[0], INIT), _key(seeds[1], DROPOUT)
            return keys, init_state(recipe, params, SeedInputs(*keys, *others))

        def evaluate_one(
            state: TrainState, inputs: SeedInputs, frozen: Any, split: Split
        ) -> tuple[TrainState, Evaluation]:
            return evaluate(recipe, state, recipe.context(inputs.hyper, frozen), *split, validation_grid)

        def predict_one(grid: BatchGrid, params: Any, inputs: SeedInputs, frozen: Any, split: Split) -> Outputs:
            return predict(recipe, weights_in_use(recipe, params, recipe.context(inputs.hyper, frozen)), *split, grid)

        def logits_one(*arguments: Any) -> jax.Array:
            return predict_one(test_grid, *arguments).logits

        # Compiled ahead of time, so that compilation is timed and no step includes it.
        self._take, self._put = xla.jit(partial(take)), xla.jit(partial(put), donate_argnums=0)
        with jax.default_matmul_precision(MATMUL_PRECISION[recipe.config.precision]):
            given = self._shapes(self._on_host([Job(SeedTriple(0, 0, 0, 0), dict.fromkeys(recipe.hyper, 0.0))]))
            _, one = jax.eval_shape(init_one, self._params, *shapes_of_one(given))
            axes, over = (seed_axes(one), seed_axes(one.evaluated)), partial(over_seeds, width=self.width)
            init = over(init_one, axes=(None, 0, 0, 0, 0), results=(0, axes[0]))
            step = partial(train_steps, recipe)
            train = over(step, axes=(axes[0], 0, None, None, None, None), results=axes[0], donated=True)
            evaluation = over(evaluate_one, axes=(axes[0], 0, None, None), results=(axes[0], 0), donated=True)
            representation = over(partial(predict_one, sample_grid), axes=(axes[1], 0, None, None))
            keys, state = self._shapes(jax.eval_shape(init, self._params, *given))
            inputs, self._state = SeedInputs(*keys, *given[1:]), state
            params, number = state.evaluated, self._shapes(np.int32(0))
            lowered = {
                "train": train.lower(state, inputs, self._reference, self._examples, number, number),
                "evaluate": evaluation.lower(state, inputs, self._frozen, self._validation),
                "represent": representation.lower(params, inputs, self._frozen, self._sample),
                "init": init.lower(self._params, *given),
                "take": self._take.lower(params, number),
                "put": self._put.lower(params, shapes_of_one(params), number),
                "empty": xla.jit(partial(_empty, params), out_shardings=number.sharding).lower(),
            }
            if not self._represents_all:
                logits = over(logits_one, axes=(axes[1], 0, None, None))
                lowered["logits"] = logits.lower(params, inputs, self._frozen, self._test)
        with ThreadPoolExecutor(len(lowered)) as threads:  # XLA releases Python's lock while it compiles
            self._compiled = dict(zip(lowered, threads.map(lambda one: one.compile(), lowered.values()), strict=True))
        self.compile_seconds = time.perf_counter() - started
        self.shared_bytes = _bytes((self._params, self._examples, self._validation, self._test, self._sample))
        # Only the seeds' own arguments. XLA's own sum omits arguments that a program does not use.
        held = dict.fromkeys(lowered, _bytes((state, inputs)))
        held["init"] = _bytes(inputs)
        for name in {"put", "represent", "logits"} & set(lowered):
            held[name] += _bytes(params)  # the best parameters beside the last
        self.group_bytes = max(held[name] + _result_bytes(one) for name, one in self._compiled.items())
        if is_cpu(device):  # the best parameters are kept in the host's memory, which is the device's
            self.group_bytes += _bytes(params)

    def start(self, jobs: Sequence[Job]) -> tuple[SeedInputs, TrainState]:
        """The inputs of up to W seeds and their states before training, with a leading axis, padded with the first."""
        seeds, *others = jax.device_put(self._on_host(jobs), self.device)
        keys, state = self._compiled["init"](self._params, seeds, *others)
        return SeedInputs(*keys, *others), state

    def _on_host(self, jobs: Sequence[Job]) -> tuple[np.ndarray, Steps, Hyper, np.ndarray]:
        """The seeds of initialisation and of dropout [W, 2], and the other inputs of W seeds."""
        config, grid = self.recipe.config, self.recipe.grid
        orders = [
            example_orders(job.triple.order, self._lengths, grid, config.batch_size, config.epochs) for job in jobs
        ]
        padded = self._padded(jobs)
        return (
            np.asarray([(job.triple.init, job.triple.dropout) for job in padded], np.int32),
            jax.tree.map(lambda *arrays: np.stack(arrays), *self._padded(orders)),
            {key: np.asarray([job.hyper[key] for job in padded], np.float32) for key in jobs[0].hyper},
            np.asarray([job.triple.repeat for job in padded], np.int32),
        )

    def train(self, state: TrainState, inputs: SeedInputs, start: int, stop: int) -> TrainState:
        """Trains from step `start` up to `stop`; the given state is donated."""
        bounds = self._number(start), self._number(stop)
        return self._compiled["train"](state, inputs, self._reference, self._examples, *bounds)

    def evaluate(self, state: TrainState, inputs: SeedInputs) -> tuple[TrainState, Evaluation]:
        """Scores on the validation split; the given state is donated."""
        return self._compiled["evaluate"](state, inputs, self._frozen, self._validation)

    def predict(self, params: Any, inputs: SeedInputs, represent: bool) -> tuple[jax.Array, jax.Array | None]:
        """Test logits [W, N, C] of the parameters of W seeds, and representations [W, L, M, D] if asked for."""
        if self._represents_all:
            outputs = self._compiled["represent"](params, inputs, self._frozen, self._sample)
            return outputs.logits, outputs.first_tokens
        logits = self._compiled["logits"](params, inputs, self._frozen, self._test)
        if not represent:
            return logits, None
        # A separate pass over few examples: the hidden states of a large test split would not fit into memory.
        return logits, self._compiled["represent"](params, inputs, self._frozen, self._sample).first_tokens

    def take(self, params: Any, place: int) -> Any:
        """Copies the parameters of one of W seeds to the host."""
        return to_host_memory(self._compiled["take"](params, self._number(place)), self.device)

    def put(self, seeds: Sequence[Any]) -> Any:
        """Puts the parameters of up to W seeds from `take` back on the device, with a leading axis; the rest is 0."""
        stack = self._compiled["empty"]()
        for place, one in enumerate(seeds):
            stack = self._compiled["put"](stack, to_device_memory(one, self.device), self._number(place))
        return stack

    def save(self, state: TrainState, best: Any, place: int) -> dict[str, np.ndarray]:
        """Copies the state of one of W seeds to the host, as arrays by name, and adds its best parameters, if any."""
        # Compiled at the first checkpoint, which most runs do not live to see.
        one = self._take(state, self._number(place))
        return jax.device_get(by_name(one) | by_name({BEST: best}))

    def load(self, state: TrainState, arrays: Mapping[str, np.ndarray], place: int) -> tuple[TrainState, Any]:
        """Puts a state from `save` in the place of one of W seeds; the given state is donated.

        Returns:
            The new state, and the best parameters of the seed, if any.
        """
        one, params = shapes_of_one(self._state), shapes_of_one({BEST: self._state.evaluated})
        state = self._put(state, to_device_memory(_from_names(arrays, one), self.device), self._number(place))
        evaluated = any(name.startswith(f"{BEST}.") for name in arrays)
        return state, _from_names(arrays, params)[BEST] if evaluated else None

    def saved_shapes(self, evaluated: bool) -> dict[str, jax.ShapeDtypeStruct]:
        """Names, shapes and dtypes of the arrays from `save`, after an evaluation or before the first."""
        shapes = by_name(shapes_of_one(self._state))
        return shapes | by_name({BEST: shapes_of_one(self._state.evaluated)}) if evaluated else shapes

    def _padded(self, values: Sequence[Any]) -> list[Any]:
        """W values: the rest are copies of the first."""
        return [*values, *[values[0]] * (self.width - len(values))]

    def _number(self, value: int) -> jax.Array:
        return jax.device_put(np.int32(value), self.device)

    def _shapes(self, tree: Any) -> Any:
        """Shapes and dtypes of arrays, as on the device."""
        here = jax.sharding.SingleDeviceSharding(self.device)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), tree)

    def _fixed(self, split: Examples) -> tuple[tuple[Examples, Steps], BatchGrid]:
        """A split and its batches, on the device, and the grid that each of them fits into."""
        columns = max(self.recipe.grid.columns, split.input_ids.shape[1])
        batches, grid = fixed_batches(np.asarray(split.lengths), columns, PREDICTION_BATCH)
        return jax.device_put((split, batches), self.device), grid


def on_other_devices(programs: Programs, task: EncodedTask, devices: Sequence[jax.Device]) -> list[Programs]:
    """Compiles the same programs for more devices, in parallel; on GPUs they come from the persistent cache.

    Args:
        programs: programs of the first device.
        task: token arrays.
        devices: the other devices; may be empty.
    """
    recipe, group_size = programs.recipe, programs.group_size
    with ThreadPoolExecutor(max(1, len(devices))) as threads:
        return list(threads.map(lambda device: Programs(recipe, task, group_size, device), devices))


def by_name(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by their paths."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _from_names(arrays: Mapping[str, np.ndarray], shapes: Any) -> Any:
    """The tree from whose leaves `by_name` makes these arrays."""
    return jax.tree_util.tree_map_with_path(lambda path, _: arrays[_name(path)], shapes)


def _name(path: Sequence[Any]) -> str:
    return jax.tree_util.keystr(tuple(path), simple=True, separator=".")


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _result_bytes(program: Any) -> int:
    """Bytes that one call needs besides its arguments: temporaries, and results that reuse no donated argument."""
    memory = program.memory_analysis()
    return memory.output_size_in_bytes - memory.alias_size_in_bytes + memory.temp_size_in_bytes


def _key(seed: jax.Array, purpose: int) -> jax.Array:
    """A key from a seed. Threefry, because `rbg` gives all seeds of a vmapped group the same random bits."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), purpose)


def _empty(shapes: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
