"""The programs of one device, compiled, and the data on it that all seeds share."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxstab import xla
from jaxstab.config import SeedTriple
from jaxstab.data.tokens import EncodedTask
from jaxstab.training.devices import is_cpu, to_device_memory, to_host_memory, vmaps_seeds
from jaxstab.training.lowering import Job, lower, represents_all, shapes_on, share, start_of
from jaxstab.training.recipe import Recipe, frozen_part, reference_part
from jaxstab.training.seed_axis import put, shapes_of_one, take
from jaxstab.training.step import Evaluation, SeedInputs, TrainState

BEST = "best_params"  # in the names of arrays in a checkpoint


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
        on_host, grids = share(recipe, task)
        self._task, self._grids = task, grids
        self._shared, here = jax.device_put(on_host, device), jax.sharding.SingleDeviceSharding(device)
        any_seed = Job(SeedTriple(0, 0, 0, 0, split=0, data=0), dict.fromkeys(recipe.hyper, 0.0))
        starts = start_of(recipe, task, grids, [any_seed], self.width)
        self._frozen = frozen_part(recipe, self._shared.params)
        self._reference = reference_part(recipe, self._shared.params)
        lowered = lower(recipe, shapes_on(here, self._shared), grids, shapes_on(here, starts))
        self._state, programs = lowered.state, lowered.programs
        # Compiled ahead of time, so that compilation is timed and no step includes it.
        with ThreadPoolExecutor(len(programs)) as threads:  # XLA releases Python's lock while it compiles
            self._compiled = dict(zip(programs, threads.map(lambda one: one.compile(), programs.values()), strict=True))
        # Compiled at the first checkpoint, which most runs do not live to see.
        self._take_state, self._put_state = xla.jit(partial(take)), xla.jit(partial(put), donate_argnums=0)
        self.compile_seconds = time.perf_counter() - started
        self.shared_bytes = number_of_bytes(on_host)
        self.group_bytes = self._count_bytes(lowered.inputs)

    def _count_bytes(self, inputs: SeedInputs) -> int:
        """Bytes of W seeds in the program that needs most."""
        params = number_of_bytes(self._state.evaluated)
        # Only the seeds' own arguments. XLA's own sum omits arguments that a program does not use.
        held = dict.fromkeys(self._compiled, number_of_bytes((self._state, inputs)))
        held["init"] = number_of_bytes(inputs)
        for name in {"put", "represent", "logits"} & set(held):
            held[name] += params  # the best parameters beside the last
        most = max(held[name] + _result_bytes(one) for name, one in self._compiled.items())
        # On a CPU the best parameters are kept in the same memory.
        return most + params if is_cpu(self.device) else most

    def start(self, jobs: Sequence[Job]) -> tuple[SeedInputs, TrainState]:
        """The inputs of up to W seeds and their states before training, padded with the first seed."""
        starts = jax.device_put(start_of(self.recipe, self._task, self._grids, jobs, self.width), self.device)
        keys, state = self._compiled["init"](self._shared.params, *starts)
        return starts.inputs(keys), state

    def train(self, state: TrainState, inputs: SeedInputs, start: int, stop: int) -> TrainState:
        """Trains from step `start` up to `stop`; the given state is donated."""
        bounds = self._number(start), self._number(stop)
        return self._compiled["train"](state, inputs, self._reference, self._shared.train, *bounds)

    def evaluate(self, state: TrainState, inputs: SeedInputs) -> tuple[TrainState, Evaluation]:
        """Scores on the validation split, or on each seed's own; the given state is donated."""
        return self._compiled["evaluate"](state, inputs, self._frozen, self._shared.evaluated)

    def predict(self, params: Any, inputs: SeedInputs, represent: bool) -> tuple[jax.Array, jax.Array | None]:
        """Test logits [W, N, C] of the parameters of W seeds, and representations [W, L, M, D] if asked for."""
        if represents_all(self._shared):
            outputs = self._compiled["represent"](params, inputs, self._frozen, self._shared.sample)
            return outputs.logits, outputs.representations
        logits = self._compiled["logits"](params, inputs, self._frozen, self._shared.test)
        if not represent:
            return logits, None
        # A separate pass over few examples: the hidden states of a large test split would not fit into memory.
        return logits, self._compiled["represent"](params, inputs, self._frozen, self._shared.sample).representations

    def take(self, params: Any, place: int) -> Any:
        """Copies the parameters of one of W seeds to the host."""
        return to_host_memory(self._compiled["take"](params, self._number(place)), self.device)

    def put(self, seeds: Sequence[Any]) -> Any:
        """Puts the parameters of up to W seeds from `take` back on the device; the rest is 0."""
        stack = self._compiled["empty"]()
        for place, one in enumerate(seeds):
            stack = self._compiled["put"](stack, to_device_memory(one, self.device), self._number(place))
        return stack

    def save(self, state: TrainState, best: Any, place: int) -> dict[str, np.ndarray]:
        """Copies the state of one of W seeds to the host, as arrays by name, and adds its best parameters, if any."""
        one = self._take_state(state, self._number(place))
        return jax.device_get(by_name(one) | by_name({BEST: best}))

    def load(self, state: TrainState, arrays: Mapping[str, np.ndarray], place: int) -> tuple[TrainState, Any]:
        """Puts a state from `save` in the place of one of W seeds; the given state is donated.

        Returns:
            The new state, and the best parameters of the seed, if any.
        """
        one, params = shapes_of_one(self._state), shapes_of_one({BEST: self._state.evaluated})
        state = self._put_state(state, to_device_memory(_from_names(arrays, one), self.device), self._number(place))
        evaluated = any(name.startswith(f"{BEST}.") for name in arrays)
        return state, _from_names(arrays, params)[BEST] if evaluated else None

    def saved_shapes(self, evaluated: bool) -> dict[str, jax.ShapeDtypeStruct]:
        """Names, shapes and dtypes of the arrays from `save`, after an evaluation or before the first."""
        shapes = by_name(shapes_of_one(self._state))
        return shapes | by_name({BEST: shapes_of_one(self._state.evaluated)}) if evaluated else shapes

    def _number(self, value: int) -> jax.Array:
        return jax.device_put(np.int32(value), self.device)


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


def number_of_bytes(tree: Any) -> int:
    """Returns the size of a tree of arrays."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _result_bytes(program: Any) -> int:
    """Bytes that one call needs besides its arguments: temporaries, and results that reuse no donated argument."""
    memory = program.memory_analysis()
    return memory.output_size_in_bytes - memory.alias_size_in_bytes + memory.temp_size_in_bytes
