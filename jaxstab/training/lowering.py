"""The programs of a group of seeds, lowered from shapes alone: nothing here is on a device.

So they can be compiled for a device that is not there (`benchmarks/compile_only.py`).
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxstab import xla
from jaxstab.config import SeedTriple
from jaxstab.data.batches import Examples, Steps, example_orders, fixed_batches, grid_of_subsets, have_orders
from jaxstab.data.draws import draw
from jaxstab.data.tokens import EncodedTask
from jaxstab.measures import represented_examples
from jaxstab.models.stack import Outputs
from jaxstab.runs.info import BatchGrid
from jaxstab.training.devices import MATMUL_PRECISION
from jaxstab.training.optimizer import Hyper
from jaxstab.training.recipe import Recipe, frozen_part, reference_part
from jaxstab.training.seed_axis import over_seeds, put, seed_axes, shapes_of_one, take
from jaxstab.training.step import (
    Evaluation,
    OwnValidation,
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


class Shared(NamedTuple):
    """What all seeds of a device share: arrays, or their shapes and dtypes.

    Attributes:
        params: the pre-trained parameters.
        train: the training split, or the examples that seeds draw theirs from.
        validation: the validation split and its batches; None if each seed has its own.
        test: the test split, likewise.
        sample: the test examples on which representations are compared, likewise.
    """

    params: Any
    train: Examples
    validation: Split | None
    test: Split
    sample: Split

    @property
    def evaluated(self) -> Split | Examples:
        """What seeds are evaluated on: the validation split, or examples of `train` that are each seed's own."""
        return self.train if self.validation is None else self.validation


class Grids(NamedTuple):
    """The grids that the batches of each split fit into."""

    validation: BatchGrid
    test: BatchGrid
    sample: BatchGrid


class Starts(NamedTuple):
    """What W seeds start from, on the host.

    Attributes:
        seeds: [W, 2] int32, the seeds of initialisation and of dropout.
        steps: the examples of each step, with a leading axis.
        hyper: [W] float32 by config key.
        repeats: [W] int32.
        validation: the seeds' own validation examples, with a leading axis, if they have any.
    """

    seeds: Any
    steps: Steps
    hyper: Hyper
    repeats: Any
    validation: OwnValidation | None = None

    def inputs(self, keys: tuple[Any, Any]) -> SeedInputs:
        """The inputs of training, with the keys that the program `init` makes."""
        return SeedInputs(*keys, self.steps, self.hyper, self.repeats, self.validation)


class Lowered(NamedTuple):
    """Lowered programs by name, and the shapes of what they are called with.

    Attributes:
        programs: `init`, `train`, `evaluate`, `represent`, `take`, `put` and `empty`; also `logits` if representations
            are compared on a part of the test split only.
        state: of W seeds.
        inputs: of W seeds.
    """

    programs: dict[str, Any]
    state: TrainState
    inputs: SeedInputs


def share(recipe: Recipe, task: EncodedTask) -> tuple[Shared, Grids]:
    """Returns what all seeds share, on the host, and the grids of the splits that are predicted."""

    def columns(split: Examples) -> int:
        return max(recipe.grid.columns, split.input_ids.shape[1])

    def batched(split: Examples) -> tuple[Split, BatchGrid]:
        batches, grid = fixed_batches(np.asarray(split.lengths), columns(split), PREDICTION_BATCH)
        return (split, batches), grid

    def validated() -> tuple[Split | None, BatchGrid]:
        if task.draws is None or not task.draws.validation:
            return batched(task.validation)
        lengths, drawn = np.asarray(task.train.lengths), task.draws.validation
        return None, grid_of_subsets(lengths, drawn, columns(task.train), PREDICTION_BATCH)

    represented = represented_examples(len(task.test.labels))
    sample = _at(task.test, represented)
    validation, of_validation = validated()
    (test, of_test), (tested, of_sample) = batched(task.test), batched(sample)
    shared = Shared(recipe.pretrained.params, task.train, validation, test, tested)
    return shared, Grids(of_validation, of_test, of_sample)


def start_of(recipe: Recipe, task: EncodedTask, grids: Grids, jobs: Sequence[Job], width: int) -> Starts:
    """Returns what up to W seeds start from, padded with copies of the first.

    Args:
        recipe: recipe of the run.
        task: token arrays.
        grids: of the splits.
        jobs: the seeds.
        width: W.
    """
    padding = [0] * (width - len(jobs))
    examples = [_examples_of(recipe, task, grids, job.triple) for job in jobs]
    steps, validation = jax.tree.map(
        lambda *arrays: np.stack(arrays), *examples, *[examples[place] for place in padding]
    )
    padded = [jobs[place] for place in [*range(len(jobs)), *padding]]
    return Starts(
        np.asarray([(job.triple.init, job.triple.dropout) for job in padded], np.int32),
        steps,
        {key: np.asarray([job.hyper[key] for job in padded], np.float32) for key in jobs[0].hyper},
        np.asarray([job.triple.repeat for job in padded], np.int32),
        validation,
    )


def _examples_of(
    recipe: Recipe, task: EncodedTask, grids: Grids, triple: SeedTriple
) -> tuple[Steps, OwnValidation | None]:
    """The examples of each step of a seed, and its validation examples, where they are its own."""
    lengths, size, epochs = np.asarray(task.train.lengths), recipe.config.batch_size, recipe.config.epochs
    if task.draws is None:
        return example_orders(triple.order, lengths, recipe.grid, size, epochs), None

    def batches(examples: np.ndarray) -> Steps:
        return fixed_batches(lengths[examples], grids.validation.columns, PREDICTION_BATCH)[0]

    train, validation = draw(
        task.draws,
        np.asarray(task.train.labels),
        triple,
        can_train=lambda examples: have_orders(lengths[examples], recipe.grid, size),
        can_validate=lambda examples: bool(np.max(batches(examples).rows) <= grids.validation.rows[-1]),
    )
    steps = example_orders(triple.order, lengths[train], recipe.grid, size, epochs)
    steps = steps._replace(indices=np.where(steps.indices < 0, -1, train[steps.indices]).astype(np.int32))
    return steps, OwnValidation(validation.astype(np.int32), batches(validation)) if len(validation) else None


def lower(recipe: Recipe, shared: Shared, grids: Grids, starts: Starts) -> Lowered:
    """Lowers all programs of W seeds. Every argument that is an array is its shape and dtype, with its sharding.

    Args:
        recipe: recipe of the run.
        shared: what the seeds share.
        grids: of the splits.
        starts: what W seeds start from.
    """
    width, here = starts.seeds.shape[0], starts.seeds.sharding

    def init_one(params: Any, seeds: jax.Array, *others: Any) -> tuple[Keys, TrainState]:
        keys = _key(seeds[0], INIT), _key(seeds[1], DROPOUT)
        return keys, init_state(recipe, params, SeedInputs(*keys, *others))

    def evaluate_one(state: TrainState, inputs: SeedInputs, frozen: Any, shared: Any) -> tuple[TrainState, Evaluation]:
        own = inputs.validation
        examples, batches = shared if own is None else (_at(shared, own.examples), own.batches)
        return evaluate(recipe, state, recipe.context(inputs.hyper, frozen), examples, batches, grids.validation)

    def predict_one(grid: BatchGrid, params: Any, inputs: SeedInputs, frozen: Any, split: Split) -> Outputs:
        return predict(recipe, weights_in_use(recipe, params, recipe.context(inputs.hyper, frozen)), *split, grid)

    def logits_one(*arguments: Any) -> jax.Array:
        return predict_one(grids.test, *arguments).logits

    with jax.default_matmul_precision(MATMUL_PRECISION[recipe.config.precision]):
        _, one = jax.eval_shape(init_one, shared.params, *shapes_of_one(starts))
        of_state, of_params = seed_axes(one), seed_axes(one.evaluated)
        over = partial(over_seeds, width=width)
        init = over(init_one, axes=(None, 0, 0, 0, 0, 0), results=(0, of_state))
        keys, state = shapes_on(here, jax.eval_shape(init, shared.params, *starts))
        inputs, params = starts.inputs(keys), state.evaluated
        frozen, reference = frozen_part(recipe, shared.params), reference_part(recipe, shared.params)
        number = jax.ShapeDtypeStruct((), jnp.int32, sharding=here)
        step = partial(train_steps, recipe)
        train = over(step, axes=(of_state, 0, None, None, None, None), results=of_state, donated=True)
        evaluation = over(evaluate_one, axes=(of_state, 0, None, None), results=(of_state, 0), donated=True)
        representation = over(partial(predict_one, grids.sample), axes=(of_params, 0, None, None))
        programs = {
            "train": train.lower(state, inputs, reference, shared.train, number, number),
            "evaluate": evaluation.lower(state, inputs, frozen, shared.evaluated),
            "represent": representation.lower(params, inputs, frozen, shared.sample),
            "init": init.lower(shared.params, *starts),
            "take": xla.jit(take).lower(params, number),
            "put": xla.jit(put, donate_argnums=0).lower(params, shapes_on(here, shapes_of_one(params)), number),
            "empty": xla.jit(partial(_empty, params), out_shardings=here).lower(),
        }
        if not represents_all(shared):
            logits = over(logits_one, axes=(of_params, 0, None, None))
            programs["logits"] = logits.lower(params, inputs, frozen, shared.test)
    return Lowered(programs, state, inputs)


def represents_all(shared: Shared) -> bool:
    """Whether representations are compared on the whole test split."""
    (test, _), (sample, _) = shared.test, shared.sample
    return test.labels.shape == sample.labels.shape


def shapes_on(here: jax.sharding.Sharding, tree: Any) -> Any:
    """Returns the shapes and dtypes of a tree of arrays, with a sharding."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), tree)


def _at(split: Examples, places: Any) -> Examples:
    return jax.tree.map(lambda array: array[places], split)


def _key(seed: jax.Array, purpose: int) -> jax.Array:
    """A key from a seed. Threefry, because `rbg` gives all seeds of a vmapped group the same random bits."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), purpose)


def _empty(shapes: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
