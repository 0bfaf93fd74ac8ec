"""Fine-tuning with one seed, as pure functions: loss, schedule, step, prediction. No seed axis here."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxstab.config import TrainConfig
from jaxstab.data.batches import Batch, Examples, Steps, make_batch
from jaxstab.measures import score
from jaxstab.models.checkpoint import Pretrained, init_head
from jaxstab.models.encoder import Outputs, apply

UNDECAYED = ("bias", "scale")
ROUNDING = 2**31 - 1  # purpose that a step's key is folded for; the encoder's own are small


@dataclass(frozen=True)
class Recipe:
    """What is fixed for a whole run.

    Attributes:
        config: `[train]`.
        definition: of the model.
        classes: C, of the task.
        metric: the task's score.
        steps_per_epoch: optimiser steps per epoch.
        rows: of the grids that a training batch may be laid out in, ascending.
    """

    config: TrainConfig
    definition: nnx.GraphDef
    classes: int
    metric: str
    steps_per_epoch: int
    rows: tuple[int, ...]

    @property
    def total_steps(self) -> int:
        """Optimiser steps of one seed."""
        return self.config.epochs * self.steps_per_epoch


class TrainState(NamedTuple):
    """One seed between two steps.

    Attributes:
        params: current parameters, float32.
        opt_state: of the optimiser.
        best_params: parameters at the best validation score so far.
        best_score: that score; -inf before the first evaluation.
        loss_sum: training loss summed over the steps of this epoch, nats.
    """

    params: Any
    opt_state: optax.OptState
    best_params: Any
    best_score: Float[Array, ""]
    loss_sum: Float[Array, ""]


class Evaluation(NamedTuple):
    """One seed at the end of an epoch, or several along a leading axis, then as numpy arrays.

    Attributes:
        train_loss: mean over the steps of the epoch, nats.
        validation_loss: mean cross-entropy, nats.
        validation_score: the task's score.
    """

    train_loss: Float[Array | np.ndarray, "..."]
    validation_loss: Float[Array | np.ndarray, "..."]
    validation_score: Float[Array | np.ndarray, "..."]


def learning_rate_at(step: Int[Array, ""], config: TrainConfig, total_steps: int) -> Float[Array, ""]:
    """Returns the rate at a step counted from 0: linear rise over the warm-up share, then linear fall to 0.

    Source: Hugging Face's `get_linear_schedule_with_warmup`, so the very first step has rate 0.
    """
    warmup = int(config.warmup * total_steps)
    rise = step / max(1, warmup)
    fall = (total_steps - step) / max(1, total_steps - warmup)
    return config.learning_rate * jnp.clip(jnp.where(step < warmup, rise, fall), 0.0)


def untouched_decay(config: TrainConfig, total_steps: int, step: int) -> float:
    """Returns what AdamW makes of a weight without gradient by the end of so many steps, as a factor.

    So the embedding rows of tokens that are in no text of the task need not be trained.

    Args:
        config: of the run.
        total_steps: of the schedule.
        step: how many have been taken.
    """
    rates = jax.vmap(lambda number: learning_rate_at(number, config, total_steps))(jnp.arange(step))
    return float(np.prod(1 - config.weight_decay * np.asarray(rates, np.float64)))


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Returns AdamW with bias correction after clipping by global norm; the caller multiplies by the learning rate.

    Source: Loshchilov & Hutter (2019); biases and LayerNorm are not decayed.
    """

    def decayed(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in UNDECAYED, params)

    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(config.beta1, config.beta2, config.epsilon),
        optax.add_decayed_weights(config.weight_decay, decayed),
    )


def widened(opt_state: optax.OptState) -> optax.OptState:
    """Returns the state with its arrays of bfloat16 in float32."""
    return jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x, opt_state)


def narrowed(opt_state: optax.OptState, key: PRNGKeyArray) -> optax.OptState:
    """Returns the state with its arrays of float32 in bfloat16, each up or down at random, right on average.

    To the nearest, AdamW's second moment would stand still: it moves by a thousandth, bfloat16 by a 256th.

    Source: Zamirai et al. (2020), "Revisiting BFloat16 Training".
    """
    leaves, definition = jax.tree.flatten(opt_state)

    def rounded(number: int, x: Array) -> Array:
        bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
        words = jax.random.bits(jax.random.fold_in(key, number), (-(-x.size // 2),), jnp.uint32)
        noise = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
        # Bfloat16 is the upper half of float32: the sum carries into it as often as the lower half is large.
        upper = (bits + noise.astype(jnp.uint32)) >> 16
        return jax.lax.bitcast_convert_type(upper.astype(jnp.uint16), jnp.bfloat16)

    moved = [rounded(i, x) if x.dtype == jnp.float32 else x for i, x in enumerate(leaves)]
    return jax.tree.unflatten(definition, moved)


def init_state(recipe: Recipe, pretrained: Pretrained, params: Any, init_key: PRNGKeyArray) -> TrainState:
    """Starts one seed: pre-trained parameters, its own head, an empty optimiser.

    Args:
        recipe: of the run.
        pretrained: says what the checkpoint lacks.
        params: `pretrained.params` on the device.
        init_key: of this seed's initialisation.
    """
    params = {**params, **init_head(init_key, pretrained)}
    opt_state = make_optimizer(recipe.config).init(params)
    return TrainState(
        params=params,
        opt_state=narrowed(opt_state, init_key) if recipe.config.moments == "bfloat16" else opt_state,
        best_params=params,
        best_score=jnp.float32(-jnp.inf),
        loss_sum=jnp.float32(0),
    )


def loss_fn(params: Any, recipe: Recipe, batch: Batch, key: PRNGKeyArray | None) -> Float[Array, ""]:
    """Returns the mean cross-entropy of a batch in nats, over the examples that are there."""
    logits = apply(recipe.definition, params, batch, key).logits
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    return jnp.sum(losses * batch.weights) / jnp.sum(batch.weights)


def train_step(
    recipe: Recipe,
    state: TrainState,
    step: Int[Array, ""],
    steps: Steps,
    dropout_key: PRNGKeyArray,
    examples: Examples,
) -> TrainState:
    """Takes one optimiser step.

    Args:
        recipe: of the run.
        state: before the step.
        step: its number, from 0.
        steps: which examples make up each step, for all steps of the seed.
        dropout_key: of this seed; the step's own key is folded from it.
        examples: the training split.
    """
    key = jax.random.fold_in(dropout_key, step)
    indices, starts, needed = (jnp.asarray(array)[step] for array in steps)

    def in_grid(rows: int, params: Any) -> tuple[Array, Any]:
        return jax.value_and_grad(loss_fn)(params, recipe, make_batch(examples, indices, starts, rows), key)

    smallest = jnp.searchsorted(jnp.asarray(recipe.rows), needed)
    loss, gradients = jax.lax.switch(smallest, [partial(in_grid, rows) for rows in recipe.rows], state.params)
    updates, opt_state = make_optimizer(recipe.config).update(gradients, widened(state.opt_state), state.params)
    rate = learning_rate_at(step, recipe.config, recipe.total_steps)
    params = jax.tree.map(lambda value, update: value - rate * update, state.params, updates)
    if recipe.config.moments == "bfloat16":
        opt_state = narrowed(opt_state, jax.random.fold_in(key, ROUNDING))
    return state._replace(params=params, opt_state=opt_state, loss_sum=state.loss_sum + loss)


def train_steps(
    recipe: Recipe,
    state: TrainState,
    steps: Steps,
    dropout_key: PRNGKeyArray,
    examples: Examples,
    start: Int[Array, ""],
    stop: Int[Array, ""],
) -> TrainState:
    """Takes the steps from `start` up to `stop`; traced bounds, so that any stretch is the same program.

    Args:
        recipe: of the run.
        state: before the first of them.
        steps: which examples make up each step, for all steps of the seed.
        dropout_key: of this seed.
        examples: the training split.
        start: first step, from 0.
        stop: one past the last step.
    """

    def body(step: Int[Array, ""], state: TrainState) -> TrainState:
        return train_step(recipe, state, step, steps, dropout_key, examples)

    return jax.lax.fori_loop(start, stop, body, state)


def predict(recipe: Recipe, params: Any, examples: Examples, batches: Steps, rows: int) -> Outputs:
    """Runs the classifier without dropout over a split.

    Args:
        recipe: of the run.
        params: of one seed.
        examples: the split, N examples.
        batches: every index into it once, and -1 for none (`jaxstab.data.batches.fixed_batches`).
        rows: that each of these batches fits into.

    Returns:
        Outputs in the split's own order: logits [N, C] and first_tokens [L, N, D].
    """

    def one(batch: Steps) -> tuple[Array, Array]:
        outputs = apply(recipe.definition, params, make_batch(examples, batch.indices, batch.starts, rows))
        return outputs.logits, outputs.first_tokens

    logits, first_tokens = jax.lax.map(one, batches)
    count = examples.labels.shape[0]
    flat = batches.indices.reshape(-1)
    # The place of each example among the batches; empty places sort last and are cut off.
    places = jnp.argsort(jnp.where(flat < 0, count, flat))[:count]
    layers = jnp.moveaxis(first_tokens, 1, 0)
    return Outputs(
        logits.reshape(-1, logits.shape[-1])[places],
        layers.reshape(layers.shape[0], -1, layers.shape[-1])[:, places],
        None,
    )


def evaluate(
    recipe: Recipe, state: TrainState, examples: Examples, batches: Steps, rows: int
) -> tuple[TrainState, Evaluation]:
    """Scores the current parameters on the validation split and keeps them if they are the best so far.

    Arguments as for `predict`. The first of equal scores stays the best.
    """
    logits = predict(recipe, state.params, examples, batches, rows).logits
    labels = jnp.asarray(examples.labels)
    validation_score = score(recipe.metric, jnp.argmax(logits, axis=-1), labels, recipe.classes)
    evaluation = Evaluation(
        train_loss=state.loss_sum / recipe.steps_per_epoch,
        validation_loss=optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(),
        validation_score=validation_score,
    )
    better = validation_score > state.best_score
    best_params = jax.tree.map(lambda new, old: jnp.where(better, new, old), state.params, state.best_params)
    best_score = jnp.where(better, validation_score, state.best_score)
    return state._replace(best_params=best_params, best_score=best_score, loss_sum=jnp.float32(0)), evaluation
