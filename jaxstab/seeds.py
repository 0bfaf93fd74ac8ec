"""Many seeds at once: the only file that knows the seed axis and the devices.

G seeds are trained at once on every device, by copies of one program. On an accelerator the program holds all G of them
(`vmap`); on a CPU it holds one, and G threads call it, because there a larger program gains nothing but memory. XLA's
reductions may change in the last bits with the shape of a batch, so G is fixed for a run: a group with fewer seeds is
filled up with dummies, and a seed's numbers do not depend on its neighbours, its place, how many waves or devices.

Seeds exchange nothing, so there is no mesh: XLA compiles a program for one partition otherwise than the same one for
several (`shard_map` over one and over two CPU devices differed by 4e-8 after 12 steps), and only independent copies of
one program give the same bits on any number of devices.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxstab.config import SeedTriple
from jaxstab.data.batches import Examples, Steps, example_orders, fixed_batches
from jaxstab.data.tokens import EncodedTask
from jaxstab.measures import represented_examples
from jaxstab.models.checkpoint import Pretrained
from jaxstab.train import Evaluation, Recipe, TrainState, evaluate, init_state, predict, train_steps

PREDICTION_BATCH = 32
REPORTS_PER_EPOCH = 10
TIMED_STEPS = 8
INIT, DROPOUT = 0, 1  # purposes that a key is folded for
# Of JAX's matrix products in float32; on a GPU its own default is TF32.
MATMUL_PRECISION = {"float32": "highest", "tensorfloat32": "tensorfloat32", "bfloat16": "default"}


class Progress(Protocol):
    """What wants to know how training gets on; `jaxstab.report.terminal` shows it."""

    def stepped(self, wave: int, step: int) -> None:
        """So many steps of a wave are done."""

    def evaluated(self, wave: int, epoch: int, evaluation: Evaluation) -> None:
        """An epoch of a wave is done; arrays are [seeds in the wave]."""


class SeedResult(NamedTuple):
    """What one seed leaves, as numpy arrays.

    Attributes:
        logits: [N, C] float32, of the best-validation parameters on the test split.
        final_logits: [N, C] float32, of the last parameters.
        representations: [L, M, D] float32, hidden state of the first token after each layer, of the best-validation
            parameters on `represented_examples` of the test split.
        train_loss: [E] float32, mean over each epoch, nats.
        validation_loss: [E] float32, nats.
        validation_score: [E] float32.
    """

    logits: np.ndarray
    final_logits: np.ndarray
    representations: np.ndarray
    train_loss: np.ndarray
    validation_loss: np.ndarray
    validation_score: np.ndarray


class Seconds(NamedTuple):
    """How long a wave takes, by its parts."""

    step: float
    evaluation: float
    prediction: float


def make_waves(triples: Sequence[SeedTriple], wave_size: int) -> list[Sequence[SeedTriple]]:
    """Divides seeds into waves, the last of which may be shorter."""
    return [triples[i : i + wave_size] for i in range(0, len(triples), wave_size)]


def vmapped(device: jax.Device) -> bool:
    """Whether one program holds all the seeds of a device."""
    return device.platform != "cpu"


class Programs:
    """What is compiled for one device, and the data there that all seeds share."""

    def __init__(self, recipe: Recipe, pretrained: Pretrained, task: EncodedTask, group_size: int, device: jax.Device):
        """Puts the data on the device and compiles.

        Args:
            recipe: of the run.
            pretrained: what all seeds start from.
            task: token arrays.
            group_size: G, seeds at once on the device.
            device: where.
        """
        started = time.perf_counter()
        self.recipe, self.group_size, self.device = recipe, group_size, device
        self.width = group_size if vmapped(device) else 1
        if self.width > 1:  # under vmap every branch of a choice is computed
            self.recipe = recipe = replace(recipe, rows=recipe.rows[-1:])
        self._lengths = np.asarray(task.train.lengths)
        self._params, self._examples = jax.device_put((pretrained.params, task.train), device)
        self._validation, validation_rows = self._fixed(task.validation)
        self._test, test_rows = self._fixed(task.test)
        represented = represented_examples(len(task.test.labels))
        self._sample, sample_rows = self._fixed(jax.tree.map(lambda array: array[represented], task.test))

        def evaluate_one(state: TrainState, examples: Examples, batches: Steps) -> tuple[TrainState, Evaluation]:
            return evaluate(recipe, state, examples, batches, validation_rows)

        def predict_one(
            state: TrainState, test: tuple[Examples, Steps], sample: tuple[Examples, Steps]
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            best, last = (predict(recipe, p, *test, test_rows) for p in (state.best_params, state.params))
            if len(represented) == len(task.test.labels):
                return best.logits, last.logits, best.first_tokens
            # A pass of its own, because hidden states of a large test split would not fit.
            return best.logits, last.logits, predict(recipe, state.best_params, *sample, sample_rows).first_tokens

        # Compiled ahead of time, so that the time it takes is known and no step pays for it.
        keys, steps = self.inputs([SeedTriple(0, 0, 0, 0)])[:2]
        bounds = self.bounds(0, 0)
        init = self._over_seeds(partial(init_state, recipe, pretrained), (None, 0))
        train = self._over_seeds(partial(train_steps, recipe), (0, 0, 0, None, None, None), donated=True)
        evaluation = self._over_seeds(evaluate_one, (0, None, None), donated=True)
        prediction = self._over_seeds(predict_one, (0, None, None))
        here = jax.sharding.SingleDeviceSharding(device)
        with jax.default_matmul_precision(MATMUL_PRECISION[recipe.config.precision]):
            state = jax.eval_shape(init, self._params, keys)
            state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), state)
            lowered = [
                train.lower(state, steps, keys, self._examples, *bounds),
                evaluation.lower(state, *self._validation),
                prediction.lower(state, self._test, self._sample),
                init.lower(self._params, keys),
            ]
        with ThreadPoolExecutor(len(lowered)) as threads:  # XLA compiles outside Python's lock
            compiled = list(threads.map(lambda one: one.compile(), lowered))
        self._train, self._evaluate, self._predict, self._init = compiled
        self.compile_seconds = time.perf_counter() - started
        self.shared_bytes = _bytes((self._params, self._examples, self._validation, self._test, self._sample))
        self.group_bytes = max(_program_bytes(one) for one in compiled)

    def inputs(self, triples: Sequence[SeedTriple]) -> tuple[jax.Array, Steps, jax.Array]:
        """Init keys [W], steps of all epochs [W, ...] and dropout keys [W]; filled up with the first seed."""
        filled = [*triples, *[triples[0]] * (self.width - len(triples))]
        config, largest = self.recipe.config, self.recipe.rows[-1]
        columns = self._examples.input_ids.shape[1]
        orders = [
            example_orders(t.order, self._lengths, columns, config.batch_size, config.epochs, largest) for t in filled
        ]
        steps = jax.tree.map(lambda *arrays: np.stack(arrays), *orders)
        arrays = (_keys([t.init for t in filled], INIT), steps, _keys([t.dropout for t in filled], DROPOUT))
        return jax.device_put(arrays, self.device)

    def bounds(self, start: int, stop: int) -> tuple[jax.Array, jax.Array]:
        """A stretch of steps, on the device."""
        return jax.device_put((np.int32(start), np.int32(stop)), self.device)

    def init(self, keys: jax.Array) -> TrainState:
        """Starts W seeds."""
        return self._init(self._params, keys)

    def train(self, state: TrainState, steps: Steps, keys: jax.Array, start: int, stop: int) -> TrainState:
        """Takes the steps from `start` up to `stop`; the state given is used up."""
        return self._train(state, steps, keys, self._examples, *self.bounds(start, stop))

    def evaluate(self, state: TrainState) -> tuple[TrainState, Evaluation]:
        """Scores on the validation split; the state given is used up."""
        return self._evaluate(state, *self._validation)

    def predict(self, state: TrainState) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Test logits [W, N, C] of the best and of the last parameters, and representations [W, L, M, D]."""
        return self._predict(state, self._test, self._sample)

    def _fixed(self, split: Examples) -> tuple[tuple[Examples, Steps], int]:
        """A split with its division into batches, on the device, and the rows that they need."""
        batches, rows = fixed_batches(np.asarray(split.lengths), split.input_ids.shape[1], PREDICTION_BATCH)
        return jax.device_put((split, batches), self.device), rows

    def _over_seeds(self, one_seed: Callable, axes: tuple[int | None, ...], donated: bool = False) -> Any:
        """Gives a function of one seed a leading seed axis; arguments whose axis is None are common to all seeds."""

        def one(*arguments: Any) -> Any:  # without vmap, under which every branch of a choice is computed
            taken = [
                a if axis is None else jax.tree.map(lambda x: x[0], a) for a, axis in zip(arguments, axes, strict=True)
            ]
            return jax.tree.map(lambda x: x[None], one_seed(*taken))

        over = one if self.width == 1 else jax.vmap(one_seed, in_axes=axes)
        return jax.jit(over, donate_argnums=0 if donated else ())


def on_other_devices(
    programs: Programs, pretrained: Pretrained, task: EncodedTask, devices: Sequence[jax.Device]
) -> list[Programs]:
    """Compiles the same programs for more devices at the same time; on GPUs they come from the persistent cache.

    Args:
        programs: for the first device.
        pretrained: what all seeds start from.
        task: token arrays.
        devices: the others, perhaps none.
    """
    recipe, group_size = programs.recipe, programs.group_size
    with ThreadPoolExecutor(max(1, len(devices))) as threads:
        return list(threads.map(lambda device: Programs(recipe, pretrained, task, group_size, device), devices))


class SeedTrainer:
    """Trains waves of seeds with compiled programs; `train_wave` may be called any number of times."""

    def __init__(self, programs: Sequence[Programs]):
        """Shares out the seeds of a wave.

        Args:
            programs: one for each device.
        """
        self.recipe = programs[0].recipe
        self._width = programs[0].width
        self._groups = [_Group(one) for one in programs for _ in range(one.group_size // one.width)]
        self.wave_size = self._width * len(self._groups)

    def train_wave(self, triples: Sequence[SeedTriple], wave: int, progress: Progress) -> list[SeedResult]:
        """Fine-tunes up to `wave_size` seeds from start to end.

        Args:
            triples: the seeds.
            wave: its number, for `progress`.
            progress: told after every stretch of steps and every evaluation.
        """
        groups = self._start(triples)
        steps = self.recipe.steps_per_epoch
        history: list[Evaluation] = []
        for epoch in range(self.recipe.config.epochs):
            stretches = list(_stretches(epoch * steps, (epoch + 1) * steps))

            def one_epoch(group: _Group, stretches: Sequence[tuple[int, int]] = stretches) -> Evaluation:
                for start, stop in stretches:
                    group.train(start, stop)
                    progress.stepped(wave, min(one.done for one in groups))
                return group.evaluate()

            history.append(Evaluation(*_gather(_each(groups, one_epoch), triples)))
            progress.evaluated(wave, epoch + 1, history[-1])
        by_seed = _gather(_each(groups, _Group.predict), triples)
        _each(groups, _Group.stop)
        by_seed += [np.stack(values, axis=1) for values in zip(*history, strict=True)]
        return [SeedResult(*(values[i] for values in by_seed)) for i in range(len(triples))]

    def time_wave(self, triples: Sequence[SeedTriple]) -> Seconds:
        """Times some steps, an evaluation and a prediction of a wave, each after one that does not count."""
        groups, count = self._start(triples), min(TIMED_STEPS, self.recipe.steps_per_epoch)

        def seconds(call: Callable[[_Group], Any]) -> float:
            _each(groups, call)
            started = time.perf_counter()
            _each(groups, call)
            return time.perf_counter() - started

        step = seconds(lambda group: group.train(0, count)) / count
        parts = Seconds(step, seconds(_Group.evaluate), seconds(_Group.predict))
        _each(groups, _Group.stop)
        return parts

    def _start(self, triples: Sequence[SeedTriple]) -> list["_Group"]:
        """Initialises seeds in as many groups as they need."""
        parts = make_waves(triples, self._width)
        groups = self._groups[: len(parts)]
        for group, part in zip(groups, parts, strict=True):
            group.start(part)
        return groups


class _Group:
    """W seeds of one device in one state."""

    def __init__(self, programs: Programs):
        self._programs = programs

    def start(self, triples: Sequence[SeedTriple]) -> None:
        """Initialises up to W seeds."""
        init_keys, self._steps, self._dropout_keys = self._programs.inputs(triples)
        self._state = self._programs.init(init_keys)
        self.done, self.cancelled = 0, False

    def stop(self) -> None:
        """Frees the memory of the seeds."""
        del self._state, self._steps, self._dropout_keys

    def train(self, start: int, stop: int) -> None:
        """Takes the steps from `start` up to `stop`."""
        if self.cancelled:
            raise CancelledError
        self._state = self._programs.train(self._state, self._steps, self._dropout_keys, start, stop)
        jax.block_until_ready(self._state.loss_sum)
        self.done = stop

    def evaluate(self) -> Evaluation:
        """Scores every seed; values are [W]."""
        self._state, evaluation = self._programs.evaluate(self._state)
        return jax.device_get(evaluation)

    def predict(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Test logits [W, N, C] of the best and of the last parameters, and representations [W, L, M, D]."""
        return jax.device_get(self._programs.predict(self._state))


def _each(groups: Sequence[_Group], call: Callable[[_Group], Any]) -> list[Any]:
    """Calls a function of every group at the same time; where one fails, or the user interrupts, the others stop."""
    with ThreadPoolExecutor(len(groups)) as threads:
        try:
            return list(threads.map(call, groups))
        except BaseException:
            for group in groups:
                group.cancelled = True
            raise


def _gather(by_group: Sequence[Sequence[np.ndarray]], triples: Sequence[SeedTriple]) -> list[np.ndarray]:
    """Puts each of the groups' arrays [W, ...] together and cuts off dummies."""
    return [np.concatenate(arrays)[: len(triples)] for arrays in zip(*by_group, strict=True)]


def _bytes(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def _program_bytes(program: Any) -> int:
    """What one call holds: arguments and results, counted once where they share memory, and temporaries."""
    memory = program.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return memory.argument_size_in_bytes + results + memory.temp_size_in_bytes


def _keys(seeds: Sequence[int], purpose: int) -> jax.Array:
    """One threefry key per seed: threefry, because `rbg` would share random words over a vmapped group."""
    keys = [jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), purpose) for seed in seeds]
    return jnp.stack(keys)


def _stretches(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Divides an epoch's steps, so that progress can be shown."""
    bounds = np.linspace(start, stop, min(REPORTS_PER_EPOCH, stop - start) + 1).round().astype(int)
    yield from zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
