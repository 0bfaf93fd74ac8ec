"""Many seeds at once: the only file that knows the seed axis and the mesh.

One program trains a group of G seeds on each device (`vmap`) of a one-dimensional mesh (`shard_map`). XLA's reductions
may change in the last bits with the shape of a batch, so G is fixed for a run: a wave with fewer seeds is filled up with
dummies, and a seed's numbers do not depend on its neighbours, its place, the number of waves or of devices.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxstab.config import SeedTriple
from jaxstab.data.batches import Examples, example_orders, fixed_batches
from jaxstab.data.tokens import EncodedTask
from jaxstab.models.checkpoint import Pretrained
from jaxstab.train import Evaluation, Recipe, TrainState, evaluate, init_state, predict, train_steps

PREDICTION_BATCH = 32
REPORTS_PER_EPOCH = 10
LARGEST_CPU_GROUP = 4
SEED, COMMON = PartitionSpec("seed"), PartitionSpec()
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
        train_loss: [E] float32, mean over each epoch, nats.
        validation_loss: [E] float32, nats.
        validation_score: [E] float32.
    """

    logits: np.ndarray
    final_logits: np.ndarray
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


class Programs(NamedTuple):
    """The compiled functions of a wave."""

    init: Callable
    train: Callable
    evaluate: Callable
    predict: Callable


class FixedBatches(NamedTuple):
    """A split on the devices with its division into batches."""

    arrays: tuple[Examples, jax.Array]
    budget: int


class SeedTrainer:
    """The compiled program of a run, with its data on the devices; `train_wave` may be called any number of times."""

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
            devices: the mesh, in order; all local devices by default.
        """
        self.recipe = recipe
        self.group_size = group_size
        self.mesh = Mesh(np.asarray(devices or jax.local_devices()), ("seed",))
        self._lengths = np.asarray(task.train.lengths)
        self._common = jax.device_put((pretrained.params, task.train), NamedSharding(self.mesh, COMMON))
        started = time.perf_counter()
        self._programs = self._compile(pretrained, task)
        self.compile_seconds = time.perf_counter() - started

    @property
    def wave_size(self) -> int:
        """Seeds per wave."""
        return self.group_size * self.mesh.size

    def train_wave(self, triples: Sequence[SeedTriple], wave: int, progress: Progress) -> list[SeedResult]:
        """Fine-tunes up to `wave_size` seeds from start to end.

        Args:
            triples: the seeds.
            wave: its number, for `progress`.
            progress: told after every stretch of steps and every evaluation.
        """
        programs, steps = self._programs, self.recipe.steps_per_epoch
        params, examples = self._common
        init_keys, orders, dropout_keys = self._plan(triples)
        state = programs.init(params, init_keys)
        history: list[Evaluation] = []
        for epoch in range(self.recipe.config.epochs):
            for start, stop in _stretches(epoch * steps, (epoch + 1) * steps):
                state = programs.train(state, orders, dropout_keys, examples, np.int32(start), np.int32(stop))
                jax.block_until_ready(state.loss_sum)
                progress.stepped(wave, stop)
            state, evaluation = programs.evaluate(state)
            history.append(Evaluation(*(np.asarray(value)[: len(triples)] for value in evaluation)))
            progress.evaluated(wave, epoch + 1, history[-1])
        by_seed = [np.asarray(logits) for logits in programs.predict(state)]
        by_seed += [np.stack(values, axis=1) for values in zip(*history, strict=True)]
        return [SeedResult(*(values[i] for values in by_seed)) for i in range(len(triples))]

    def _plan(self, triples: Sequence[SeedTriple]) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Init keys [W], orders [W, steps, B] and dropout keys [W], filled up with the first seed."""
        filled = [*triples, *[triples[0]] * (self.wave_size - len(triples))]
        config = self.recipe.config
        orders = np.stack(
            [example_orders(t.order, self._lengths, config.batch_size, config.epochs, self.recipe.budget) for t in filled]
        )
        plan = (_keys([t.init for t in filled], INIT), orders, _keys([t.dropout for t in filled], DROPOUT))
        return jax.device_put(plan, NamedSharding(self.mesh, SEED))

    def _compile(self, pretrained: Pretrained, task: EncodedTask) -> Programs:
        """Compiles ahead of time, so that the time it takes is known and no step pays for it."""
        recipe = self.recipe
        validation, test = (self._fixed(split) for split in (task.validation, task.test))

        def both(state: TrainState, examples: Examples, batches: jax.Array) -> tuple[jax.Array, jax.Array]:
            best = predict(recipe, state.best_params, examples, batches, test.budget)
            return best.logits, predict(recipe, state.params, examples, batches, test.budget).logits

        def evaluated(state: TrainState, examples: Examples, batches: jax.Array) -> tuple[TrainState, Evaluation]:
            return evaluate(recipe, state, examples, batches, validation.budget)

        params, examples = self._common
        triple = SeedTriple(0, 0, 0, 0)
        init_keys, orders, dropout_keys = self._plan([triple])
        init = self._over_seeds(partial(init_state, recipe, pretrained), (None, 0))
        state = jax.eval_shape(init, params, init_keys)
        state = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(self.mesh, SEED)), state
        )
        train = self._over_seeds(partial(train_steps, recipe), (0, 0, 0, None, None, None), donated=True)
        evaluation = self._over_seeds(evaluated, (0, None, None), donated=True)
        prediction = self._over_seeds(both, (0, None, None))
        evaluation_program = evaluation.lower(state, *validation.arrays).compile()
        prediction_program = prediction.lower(state, *test.arrays).compile()
        return Programs(
            init=init.lower(params, init_keys).compile(),
            train=train.lower(state, orders, dropout_keys, examples, np.int32(0), np.int32(0)).compile(),
            evaluate=lambda state: evaluation_program(state, *validation.arrays),
            predict=lambda state: prediction_program(state, *test.arrays),
        )

    def _fixed(self, split: Examples) -> FixedBatches:
        batches, budget = fixed_batches(np.asarray(split.lengths), PREDICTION_BATCH)
        return FixedBatches(jax.device_put((split, batches), NamedSharding(self.mesh, COMMON)), budget)

    def _over_seeds(self, one_seed: Callable, axes: tuple[int | None, ...], donated: bool = False) -> Callable:
        """Vectorises a function of one seed over the seeds of a device and shards it over the mesh.

        The arguments whose axis is None are common to all seeds; every result has a leading seed axis.
        """
        sharded = jax.shard_map(
            jax.vmap(one_seed, in_axes=axes),
            mesh=self.mesh,
            in_specs=tuple(COMMON if axis is None else SEED for axis in axes),
            out_specs=SEED,
            check_vma=False,
        )
        return jax.jit(sharded, donate_argnums=0 if donated else ())


def _keys(seeds: Sequence[int], purpose: int) -> jax.Array:
    """One threefry key per seed: threefry, because `rbg` would share random words over a vmapped group."""
    keys = [jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), purpose) for seed in seeds]
    return jnp.stack(keys)


def _stretches(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Divides an epoch's steps, so that progress can be shown."""
    bounds = np.linspace(start, stop, min(REPORTS_PER_EPOCH, stop - start) + 1).round().astype(int)
    yield from zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
