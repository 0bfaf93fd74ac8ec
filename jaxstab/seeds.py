"""Many seeds at once: the only file that knows the seed axis and the devices.

One program trains a group of G seeds (`vmap`); every device runs it on a group of its own, at the same time. XLA's
reductions may change in the last bits with the shape of a batch, so G is fixed for a run: a group with fewer seeds is
filled up with dummies, and a seed's numbers do not depend on its neighbours, its place, how many waves or devices.

Seeds exchange nothing, so there is no mesh: XLA compiles a program for one partition otherwise than the same one for
several (`shard_map` over one and over two CPU devices differed by 4e-8 after 12 steps), and only independent copies of
one program give the same bits on any number of devices.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxstab.config import SeedTriple
from jaxstab.data.batches import Examples, example_orders, fixed_batches
from jaxstab.data.tokens import EncodedTask
from jaxstab.measures import represented_examples
from jaxstab.models.checkpoint import Pretrained
from jaxstab.train import Evaluation, Recipe, TrainState, evaluate, init_state, predict, train_steps

PREDICTION_BATCH = 32
REPORTS_PER_EPOCH = 10
LARGEST_CPU_GROUP = 4
INIT, DROPOUT = 0, 1  # purposes that a key is folded for


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


def default_group_size(count: int, devices: Sequence[jax.Device]) -> int:
    """Chooses G, seeds per device in one program: all of them, but on a CPU few, because its caches gain nothing."""
    share = -(-count // len(devices))
    return min(share, LARGEST_CPU_GROUP) if devices[0].platform == "cpu" else share


def make_waves(triples: Sequence[SeedTriple], wave_size: int) -> list[Sequence[SeedTriple]]:
    """Divides seeds into waves, the last of which may be shorter."""
    return [triples[i : i + wave_size] for i in range(0, len(triples), wave_size)]


class SeedTrainer:
    """The compiled programs of a run, with its data on the devices; `train_wave` may be called any number of times."""

    def __init__(
        self,
        recipe: Recipe,
        pretrained: Pretrained,
        task: EncodedTask,
        group_size: int,
        devices: Sequence[jax.Device] | None = None,
    ):
        """Puts the data on the devices and compiles.

        Args:
            recipe: of the run.
            pretrained: what all seeds start from.
            task: token arrays.
            group_size: G, seeds per device.
            devices: all local devices by default.
        """
        devices = devices or jax.local_devices()
        started = time.perf_counter()
        # In threads, because XLA compiles outside Python's lock.
        with ThreadPoolExecutor(len(devices)) as threads:
            self._groups = list(
                threads.map(lambda device: _Group(recipe, pretrained, task, group_size, device), devices)
            )
        self.compile_seconds = time.perf_counter() - started
        self.recipe = recipe
        self.group_size = group_size
        self.wave_size = group_size * len(devices)

    def train_wave(self, triples: Sequence[SeedTriple], wave: int, progress: Progress) -> list[SeedResult]:
        """Fine-tunes up to `wave_size` seeds from start to end.

        Args:
            triples: the seeds.
            wave: its number, for `progress`.
            progress: told after every stretch of steps and every evaluation.
        """
        parts = make_waves(triples, self.group_size)
        groups = self._groups[: len(parts)]
        steps = self.recipe.steps_per_epoch
        for group, part in zip(groups, parts, strict=True):
            group.start(part)
        history: list[Evaluation] = []
        for epoch in range(self.recipe.config.epochs):
            for start, stop in _stretches(epoch * steps, (epoch + 1) * steps):
                # Each call only enqueues, so that the devices work at the same time.
                for group in groups:
                    group.train(start, stop)
                for group in groups:
                    group.wait()
                progress.stepped(wave, stop)
            evaluations = [group.evaluate() for group in groups]
            history.append(Evaluation(*(_gather(values, triples) for values in zip(*evaluations, strict=True))))
            progress.evaluated(wave, epoch + 1, history[-1])
        predictions = [group.predict() for group in groups]
        by_seed = [_gather(values, triples) for values in zip(*predictions, strict=True)]
        by_seed += [np.stack(values, axis=1) for values in zip(*history, strict=True)]
        return [SeedResult(*(values[i] for values in by_seed)) for i in range(len(triples))]


class _Group:
    """G seeds on one device: its programs, its copy of what is common to all seeds, and the state of its seeds."""

    def __init__(self, recipe: Recipe, pretrained: Pretrained, task: EncodedTask, group_size: int, device: jax.Device):
        self._recipe, self._group_size, self._device = recipe, group_size, device
        self._lengths = np.asarray(task.train.lengths)
        self._params, self._examples = jax.device_put((pretrained.params, task.train), device)
        validation, validation_budget = self._fixed(task.validation)
        test, test_budget = self._fixed(task.test)

        def evaluate_one(state: TrainState, examples: Examples, batches: jax.Array) -> tuple[TrainState, Evaluation]:
            return evaluate(recipe, state, examples, batches, validation_budget)

        represented = represented_examples(len(task.test.labels))
        sample, sample_budget = self._fixed(jax.tree.map(lambda array: array[represented], task.test))

        def predict_one(
            state: TrainState, test: tuple[Examples, jax.Array], sample: tuple[Examples, jax.Array]
        ) -> tuple[jax.Array, jax.Array, jax.Array]:
            best, last = (predict(recipe, p, *test, test_budget) for p in (state.best_params, state.params))
            if len(represented) == len(task.test.labels):
                return best.logits, last.logits, best.first_tokens
            # A pass of its own, because hidden states of a large test split would not fit.
            return best.logits, last.logits, predict(recipe, state.best_params, *sample, sample_budget).first_tokens

        # Compiled ahead of time, so that the time it takes is known and no step pays for it.
        keys, orders = self._plan([SeedTriple(0, 0, 0, 0)])[:2]
        init = _over_seeds(partial(init_state, recipe, pretrained), (None, 0))
        state = jax.eval_shape(init, self._params, keys)
        here = jax.sharding.SingleDeviceSharding(device)
        state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), state)
        bounds = jax.device_put((np.int32(0), np.int32(0)), device)
        train = _over_seeds(partial(train_steps, recipe), (0, 0, 0, None, None, None), donated=True)
        evaluation = _over_seeds(evaluate_one, (0, None, None), donated=True).lower(state, *validation).compile()
        prediction = _over_seeds(predict_one, (0, None, None)).lower(state, test, sample).compile()
        self._init = init.lower(self._params, keys).compile()
        self._train = train.lower(state, orders, keys, self._examples, *bounds).compile()
        self._evaluate = lambda state: evaluation(state, *validation)
        self._predict = lambda state: prediction(state, test, sample)

    def start(self, triples: Sequence[SeedTriple]) -> None:
        """Initialises up to G seeds."""
        init_keys, self._orders, self._dropout_keys = self._plan(triples)
        self._state = self._init(self._params, init_keys)

    def train(self, start: int, stop: int) -> None:
        """Enqueues the steps from `start` up to `stop`."""
        bounds = jax.device_put((np.int32(start), np.int32(stop)), self._device)
        self._state = self._train(self._state, self._orders, self._dropout_keys, self._examples, *bounds)

    def wait(self) -> None:
        """Waits for the enqueued steps."""
        jax.block_until_ready(self._state.loss_sum)

    def evaluate(self) -> Evaluation:
        """Enqueues an evaluation of every seed; values are [G]."""
        self._state, evaluation = self._evaluate(self._state)
        return evaluation

    def predict(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Enqueues test predictions [G, N, C] from the best and from the last parameters, and representations."""
        return self._predict(self._state)

    def _plan(self, triples: Sequence[SeedTriple]) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Init keys [G], orders [G, steps, B] and dropout keys [G], filled up with the first seed."""
        filled = [*triples, *[triples[0]] * (self._group_size - len(triples))]
        config, budget = self._recipe.config, self._recipe.budget
        orders = np.stack(
            [example_orders(t.order, self._lengths, config.batch_size, config.epochs, budget) for t in filled]
        )
        plan = (_keys([t.init for t in filled], INIT), orders, _keys([t.dropout for t in filled], DROPOUT))
        return jax.device_put(plan, self._device)

    def _fixed(self, split: Examples) -> tuple[tuple[Examples, jax.Array], int]:
        """A split with its division into batches, on the device, and their token budget."""
        batches, budget = fixed_batches(np.asarray(split.lengths), PREDICTION_BATCH)
        return jax.device_put((split, batches), self._device), budget


def _over_seeds(one_seed: Callable, axes: tuple[int | None, ...], donated: bool = False) -> Any:
    """Vectorises a function of one seed; arguments whose axis is None are common to all seeds."""
    return jax.jit(jax.vmap(one_seed, in_axes=axes), donate_argnums=0 if donated else ())


def _gather(by_device: Sequence[jax.Array], triples: Sequence[SeedTriple]) -> np.ndarray:
    """Puts the devices' [G, ...] together and cuts off dummies."""
    return np.concatenate([np.asarray(values) for values in by_device])[: len(triples)]


def _keys(seeds: Sequence[int], purpose: int) -> jax.Array:
    """One threefry key per seed: threefry, because `rbg` would share random words over a vmapped group."""
    keys = [jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), purpose) for seed in seeds]
    return jnp.stack(keys)


def _stretches(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Divides an epoch's steps, so that progress can be shown."""
    bounds = np.linspace(start, stop, min(REPORTS_PER_EPOCH, stop - start) + 1).round().astype(int)
    yield from zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
