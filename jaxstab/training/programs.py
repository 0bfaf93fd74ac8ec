"""The programs compiled for one device, for G seeds at once or for one. The seed axis is added here."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxstab.config import SeedTriple
from jaxstab.data.batches import Examples, Steps, example_orders, fixed_batches
from jaxstab.data.tokens import EncodedTask
from jaxstab.measures import represented_examples
from jaxstab.runs.info import BatchGrid
from jaxstab.training.devices import MATMUL_PRECISION, vmaps_seeds
from jaxstab.training.recipe import Recipe, frozen_part, reference_part
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
        self._validation, validation_grid = self._fixed(task.validation)
        self._test, test_grid = self._fixed(task.test)
        represented = represented_examples(len(task.test.labels))
        self._sample, sample_grid = self._fixed(jax.tree.map(lambda array: array[represented], task.test))

        def evaluate_one(
            state: TrainState, inputs: SeedInputs, frozen: Any, validation: tuple[Examples, Steps]
        ) -> tuple[TrainState, Evaluation]:
            return evaluate(recipe, state, recipe.context(inputs.hyper, frozen), *validation, validation_grid)

        def predict_one(
            state: TrainState,
            inputs: SeedInputs,
            frozen: Any,
            test: tuple[Examples, Steps],
            sample: tuple[Examples, Steps],
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            context = recipe.context(inputs.hyper, frozen)
            weights = [weights_in_use(recipe, params, context) for params in (state.best_params, state.evaluated)]
            best, last = (predict(recipe, one, *test, test_grid) for one in weights)
            if len(represented) == len(task.test.labels):
                return best.logits, last.logits, best.first_tokens
            # A separate pass over few examples: the hidden states of a large test split would not fit into memory.
            return best.logits, last.logits, predict(recipe, weights[0], *sample, sample_grid).first_tokens

        # Compiled ahead of time, so that compilation is timed and no step includes it.
        hyper = dict.fromkeys(recipe.hyper, 0.0)
        inputs, bounds = self.inputs([Job(SeedTriple(0, 0, 0, 0), hyper)]), self.bounds(0, 0)
        init = self._over_seeds(partial(init_state, recipe), (None, 0))
        train = self._over_seeds(partial(train_steps, recipe), (0, 0, None, None, None, None), donated=True)
        evaluation = self._over_seeds(evaluate_one, (0, 0, None, None), donated=True)
        prediction = self._over_seeds(predict_one, (0, 0, None, None, None))
        here = jax.sharding.SingleDeviceSharding(device)
        with jax.default_matmul_precision(MATMUL_PRECISION[recipe.config.precision]):
            state = jax.eval_shape(init, self._params, inputs)
            state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), state)
            self._state = state
            lowered = [
                train.lower(state, inputs, self._reference, self._examples, *bounds),
                evaluation.lower(state, inputs, self._frozen, self._validation),
                prediction.lower(state, inputs, self._frozen, self._test, self._sample),
                init.lower(self._params, inputs),
            ]
        with ThreadPoolExecutor(len(lowered)) as threads:  # XLA releases Python's lock while it compiles
            compiled = list(threads.map(lambda one: one.compile(), lowered))
        self._train, self._evaluate, self._predict, self._init = compiled
        self.compile_seconds = time.perf_counter() - started
        self.shared_bytes = _bytes((self._params, self._examples, self._validation, self._test, self._sample))
        # Only the seeds' own arguments. XLA's own sum omits arguments that a program does not use.
        held = [_bytes((state, inputs))] * 3 + [_bytes(inputs)]
        self.group_bytes = max(own + _result_bytes(one) for own, one in zip(held, compiled, strict=True))

    def inputs(self, jobs: Sequence[Job]) -> SeedInputs:
        """The inputs of W seeds on the device, with a leading axis, padded with copies of the first seed."""
        filled = [*jobs, *[jobs[0]] * (self.width - len(jobs))]
        triples = [job.triple for job in filled]
        config, grid = self.recipe.config, self.recipe.grid
        orders = [example_orders(t.order, self._lengths, grid, config.batch_size, config.epochs) for t in triples]
        steps = jax.tree.map(lambda *arrays: np.stack(arrays), *orders)
        hyper = {key: np.asarray([job.hyper[key] for job in filled], np.float32) for key in filled[0].hyper}
        keys = _keys([t.init for t in triples], INIT), _keys([t.dropout for t in triples], DROPOUT)
        repeats = jnp.asarray([t.repeat for t in triples], jnp.int32)
        return jax.device_put(SeedInputs(*keys, steps, hyper, repeats), self.device)

    def bounds(self, start: int, stop: int) -> tuple[jax.Array, jax.Array]:
        """The bounds of a stretch of steps, on the device."""
        return jax.device_put((np.int32(start), np.int32(stop)), self.device)

    def init(self, inputs: SeedInputs) -> TrainState:
        """Initialises W seeds."""
        return self._init(self._params, inputs)

    @property
    def state_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Names, shapes and dtypes of the arrays that `to_host` returns."""
        leaves = jax.tree_util.tree_leaves_with_path(self._state)
        return {_name(path): jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for path, leaf in leaves}

    def to_host(self, state: TrainState, place: int) -> dict[str, np.ndarray]:
        """Copies the state of one of W seeds to the host, as arrays by name."""
        leaves = jax.tree_util.tree_leaves_with_path(state)
        if self.width == 1:  # nothing to compile
            return {_name(path): np.array(leaf)[0, ...] for path, leaf in leaves}
        return {_name(path): np.array(leaf[place]) for path, leaf in leaves}

    def to_device(self, seeds: Sequence[Mapping[str, np.ndarray]]) -> TrainState:
        """Puts up to W states from `to_host` back on the device, padded with copies of the first."""
        filled = [*seeds, *[seeds[0]] * (self.width - len(seeds))]
        paths, tree = jax.tree_util.tree_flatten_with_path(self._state)
        leaves = [np.stack([arrays[_name(path)] for arrays in filled]) for path, _ in paths]
        # The next step takes this memory by donation, so it must not be shared with numpy.
        return jax.device_put(jax.tree.unflatten(tree, leaves), self.device, may_alias=False)

    def train(self, state: TrainState, inputs: SeedInputs, start: int, stop: int) -> TrainState:
        """Trains from step `start` up to `stop`; the given state is donated."""
        return self._train(state, inputs, self._reference, self._examples, *self.bounds(start, stop))

    def evaluate(self, state: TrainState, inputs: SeedInputs) -> tuple[TrainState, Evaluation]:
        """Scores on the validation split; the given state is donated."""
        return self._evaluate(state, inputs, self._frozen, self._validation)

    def predict(self, state: TrainState, inputs: SeedInputs) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Test logits [W, N, C] of the best and of the last parameters, and representations [W, L, M, D]."""
        return self._predict(state, inputs, self._frozen, self._test, self._sample)

    def _fixed(self, split: Examples) -> tuple[tuple[Examples, Steps], BatchGrid]:
        """A split and its batches, on the device, and the grid that each of them fits into."""
        columns = max(self.recipe.grid.columns, split.input_ids.shape[1])
        batches, grid = fixed_batches(np.asarray(split.lengths), columns, PREDICTION_BATCH)
        return jax.device_put((split, batches), self.device), grid

    def _over_seeds(self, one_seed: Callable, axes: tuple[int | None, ...], donated: bool = False) -> Any:
        """Adds a leading seed axis to a function of one seed; arguments with axis None are shared by all seeds."""

        def one(*arguments: Any) -> Any:  # without vmap, so that a switch computes one branch
            taken = [
                a if axis is None else jax.tree.map(lambda x: x[0], a) for a, axis in zip(arguments, axes, strict=True)
            ]
            return jax.tree.map(lambda x: x[None], one_seed(*taken))

        over = one if self.width == 1 else jax.vmap(one_seed, in_axes=axes)
        return jax.jit(over, donate_argnums=0 if donated else ())


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


def _name(path: Sequence[Any]) -> str:
    return jax.tree_util.keystr(tuple(path), simple=True, separator=".")


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _result_bytes(program: Any) -> int:
    """Bytes that one call needs besides its arguments: temporaries, and results that reuse no donated argument."""
    memory = program.memory_analysis()
    return memory.output_size_in_bytes - memory.alias_size_in_bytes + memory.temp_size_in_bytes


def _keys(seeds: Sequence[int], purpose: int) -> jax.Array:
    """One key per seed. Threefry, because `rbg` gives all seeds of a vmapped group the same random bits."""
    keys = [jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), purpose) for seed in seeds]
    return jnp.stack(keys)
