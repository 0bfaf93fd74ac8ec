"""Fine-tuning of one seed as pure functions: loss, step, prediction. There is no seed axis here."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxstab.data.batches import Batch, Examples, Steps, make_batch
from jaxstab.data.targets import cross_entropy, losses_of_examples
from jaxstab.measures import score_of_logits
from jaxstab.mitigation import Context, ValueAndGrad
from jaxstab.models.families import apply
from jaxstab.models.parameters import merged, nudged
from jaxstab.models.pretrained import init_head
from jaxstab.models.stack import Outputs
from jaxstab.runs.info import BatchGrid
from jaxstab.training.optimizer import Hyper, Tree, learning_rate_at, make_optimizer, narrowed, widened
from jaxstab.training.recipe import Recipe, trained_part
from jaxstab.training.stopping import Waiting, begin_waiting, has_stopped, wait

ROUNDING, MITIGATION, REPEAT = (2**31 - n for n in (1, 2, 3))  # purposes folded into a key; the encoder's are small


class OwnValidation(NamedTuple):
    """A seed's own validation examples.

    Attributes:
        examples: [m] int32 indices into the examples that all seeds share.
        batches: their batches (`jaxstab.data.batches.fixed_batches`).
    """

    examples: Int[Array | np.ndarray, " m"]
    batches: Steps


class SeedInputs(NamedTuple):
    """The inputs of training one seed.

    Attributes:
        init_key: key of its initialisation.
        dropout_key: key from which each step's key is folded.
        steps: the examples of each step, for all steps.
        hyper: hyper-parameters by config key, scalars (`jaxstab.config.hyperparameters`).
        repeat: number of the repeat of this seed, int32.
        validation: its validation examples, where they are its own.
    """

    init_key: PRNGKeyArray
    dropout_key: PRNGKeyArray
    steps: Steps
    hyper: Hyper
    repeat: Int[Array, ""] | int = 0
    validation: OwnValidation | None = None


class TrainState(NamedTuple):
    """The state of one seed between two steps.

    Attributes:
        params: current trained parameters, float32.
        average: average of the parameters over steps, evaluated in their place; None unless a method uses one.
        opt_state: state of the optimiser.
        loss_sum: training loss summed over the steps of this epoch.
        waiting: for a better validation score; None without early stopping.
    """

    params: Any
    average: Any
    opt_state: Tree
    loss_sum: Float[Array, ""]
    waiting: Waiting | None = None

    @property
    def evaluated(self) -> Any:
        """The parameters to evaluate: the average if there is one."""
        return self.params if self.average is None else self.average


class Evaluation(NamedTuple):
    """Losses and score of one seed at the end of an epoch; for several seeds, numpy arrays with a leading axis.

    Attributes:
        train_loss: mean over the steps of the epoch, likewise.
        validation_loss: mean cross-entropy, nats; of a regression the mean squared error.
        validation_score: the task's score.
    """

    train_loss: Float[Array | np.ndarray, "..."]
    validation_loss: Float[Array | np.ndarray, "..."]
    validation_score: Float[Array | np.ndarray, "..."]


def init_state(recipe: Recipe, pretrained: Any, inputs: SeedInputs) -> TrainState:
    """Initialises one seed: pre-trained parameters, its own head, the methods' changes, and a new optimiser state.

    Args:
        recipe: recipe of the run.
        pretrained: `recipe.pretrained.params` on the device.
        inputs: inputs of the seed.
    """
    context = recipe.context(inputs.hyper, pretrained)
    params = {**pretrained, **init_head(inputs.init_key, recipe.pretrained)}
    for number, method in enumerate(recipe.methods):
        if method.initial:
            key = jax.random.fold_in(jax.random.fold_in(inputs.init_key, MITIGATION), number)
            params = method.initial(params, key, context)
    params = trained_part(recipe, params)
    if recipe.rounding:
        params = nudged(params, jax.random.fold_in(inputs.init_key, REPEAT), inputs.repeat)
    opt_state = make_optimizer(recipe.config, inputs.hyper).init(params)
    return TrainState(
        params=params,
        average=params if any(method.average for method in recipe.methods) else None,
        opt_state=narrowed(opt_state, inputs.init_key) if recipe.config.moments == "bfloat16" else opt_state,
        loss_sum=jnp.float32(0),
        waiting=None if recipe.config.patience is None else begin_waiting(),
    )


def weights_in_use(recipe: Recipe, params: Any, context: Context, key: PRNGKeyArray | None = None) -> Any:
    """Returns all parameters of the model: trained and shared ones, as transformed by the methods.

    Args:
        recipe: recipe of the run.
        params: trained parameters of one seed.
        context: context for methods.
        key: key of a training step; None for no randomness.
    """
    weights = merged(context.pretrained, params)
    for number, method in enumerate(recipe.methods):
        if method.weights:
            own = None if key is None else jax.random.fold_in(jax.random.fold_in(key, MITIGATION), number)
            weights = method.weights(weights, own, context)
    return weights


def loss_fn(params: Any, recipe: Recipe, batch: Batch, key: PRNGKeyArray | None, context: Context) -> Float[Array, ""]:
    """Returns the training loss: its mean over examples that are not padding, or a method's loss.

    It is the cross-entropy in nats, in which class weights and label smoothing count, or the squared error.
    """

    def logits_of(key: PRNGKeyArray | None) -> Array:
        definition = recipe.predictor if key is None else recipe.definition
        return apply(definition, weights_in_use(recipe, params, context, key), batch, key).logits

    for method in recipe.methods:
        if method.loss and key is not None:
            return method.loss(logits_of, batch, key, context)
    if recipe.targets is not None:
        return cross_entropy(jax.nn.log_softmax(logits_of(key)), batch, recipe.targets)
    losses = losses_of_examples(logits_of(key), batch.labels)
    return jnp.sum(losses * batch.weights) / jnp.sum(batch.weights)


def optimizer_step(
    recipe: Recipe, state: TrainState, gradients: Any, step: Int[Array, ""], context: Context
) -> TrainState:
    """Updates the parameters with a gradient, through the optimiser and the methods.

    Args:
        recipe: recipe of the run.
        state: state before the step.
        gradients: gradients of the trained parameters.
        step: number of the step, from 0.
        context: context for methods.
    """
    params, target = state.params, None
    for method in recipe.methods:
        if method.decay_target:
            target = method.decay_target(params, context)
    away = params if target is None else jax.tree.map(jnp.subtract, params, target)
    optimizer = make_optimizer(recipe.config, context.hyper)
    updates, opt_state = optimizer.update(gradients, widened(state.opt_state), away)
    for method in recipe.methods:
        updates = method.rates(updates, context) if method.rates else updates
    rate = learning_rate_at(step, context.hyper, recipe.total_steps)
    params = jax.tree.map(lambda value, update: value - rate * update, params, updates)
    average = state.average
    for method in recipe.methods:
        average = method.average(average, params, context) if method.average else average
    return state._replace(params=params, average=average, opt_state=opt_state)


def untouched_decay(recipe: Recipe, hyper: Hyper, step: int) -> float:
    """Returns the factor by which weight decay shrinks an embedding row without gradient over `step` steps.

    Rows of tokens that occur in no text of the task then need no training: one number, updated by the same optimiser
    and methods, stands for all of them.

    Args:
        recipe: recipe of the run.
        hyper: hyper-parameters of the seed.
        step: number of steps taken.
    """
    layers = jax.tree.leaves(recipe.pretrained.params["layers"])[0].shape[0]
    probe = {"embeddings": {"word": {"embedding": jnp.ones((1, 1))}}, "layers": {"bias": jnp.zeros((layers, 1))}}
    params = trained_part(recipe, probe)
    if "embeddings" not in params:
        return 1.0
    context = recipe.context(hyper, probe)
    average = params if any(method.average for method in recipe.methods) else None
    opt_state = make_optimizer(recipe.config, hyper).init(params)
    state = TrainState(params, average, opt_state, jnp.float32(0))
    still = jax.tree.map(jnp.zeros_like, params)
    state = jax.lax.fori_loop(0, step, lambda i, state: optimizer_step(recipe, state, still, i, context), state)
    return float(state.evaluated["embeddings"]["word"]["embedding"][0, 0])


def train_step(
    recipe: Recipe, state: TrainState, step: Int[Array, ""], inputs: SeedInputs, pretrained: Any, examples: Examples
) -> TrainState:
    """Takes one optimiser step.

    Args:
        recipe: recipe of the run.
        state: state before the step.
        step: number of the step, from 0.
        inputs: inputs of the seed.
        pretrained: result of `reference_part`.
        examples: the training split.
    """
    key = jax.random.fold_in(inputs.dropout_key, step)
    context = recipe.context(inputs.hyper, pretrained)
    indices, starts, needed = (jnp.asarray(array)[step] for array in inputs.steps)

    def in_grid(rows: int, params: Any) -> tuple[Array, Any]:
        batch = make_batch(examples, indices, starts, rows, recipe.grid.columns)
        value_and_grad: ValueAndGrad = jax.value_and_grad(lambda params: loss_fn(params, recipe, batch, key, context))
        for method in recipe.methods:
            if method.gradient:
                value_and_grad = method.gradient(value_and_grad, context)
        return value_and_grad(params)

    smallest = jnp.searchsorted(jnp.asarray(recipe.grid.rows), needed)
    loss, gradients = jax.lax.switch(smallest, [partial(in_grid, rows) for rows in recipe.grid.rows], state.params)
    state = optimizer_step(recipe, state, gradients, step, context)
    if recipe.config.moments == "bfloat16":
        state = state._replace(opt_state=narrowed(state.opt_state, jax.random.fold_in(key, ROUNDING)))
    return state._replace(loss_sum=state.loss_sum + loss)


def train_steps(
    recipe: Recipe,
    state: TrainState,
    inputs: SeedInputs,
    pretrained: Any,
    examples: Examples,
    start: Int[Array, ""],
    stop: Int[Array, ""],
) -> TrainState:
    """Trains from step `start` up to `stop`. The bounds are traced, so one program serves all of them.

    A seed that early stopping has stopped takes no step; `vmap` masks it, because its loop ends before the others'.

    Args:
        recipe: recipe of the run.
        state: state before the first step.
        inputs: inputs of the seed.
        pretrained: result of `reference_part`.
        examples: the training split.
        start: first step, from 0.
        stop: one past the last step.
    """

    def body(step: Int[Array, ""], state: TrainState) -> TrainState:
        return train_step(recipe, state, step, inputs, pretrained, examples)

    if state.waiting is not None and recipe.config.patience is not None:
        stop = jnp.where(has_stopped(state.waiting, recipe.config.patience), start, stop)
    return jax.lax.fori_loop(start, stop, body, state)


def predict(recipe: Recipe, params: Any, examples: Examples, batches: Steps, grid: BatchGrid) -> Outputs:
    """Runs the classifier without dropout over a split.

    Args:
        recipe: recipe of the run.
        params: all parameters of the model (`weights_in_use`).
        examples: the split, N examples.
        batches: indices into the split, each once, and -1 for padding (`jaxstab.data.batches.fixed_batches`).
        grid: the grid that every batch fits into.

    Returns:
        Outputs in the split's own order: logits [N, C] and representations [L, N, D].
    """

    def one(batch: Steps) -> tuple[Array, Array]:
        laid_out = make_batch(examples, batch.indices, batch.starts, grid.rows[-1], grid.columns)
        outputs = apply(recipe.predictor, params, laid_out)
        return outputs.logits, outputs.representations

    logits, representations = jax.lax.map(one, batches)
    count = examples.labels.shape[0]
    flat = batches.indices.reshape(-1)
    # The position of each example among the batches; padding sorts last and is cut off.
    places = jnp.argsort(jnp.where(flat < 0, count, flat))[:count]
    layers = jnp.moveaxis(representations, 1, 0)
    return Outputs(
        logits.reshape(-1, logits.shape[-1])[places],
        layers.reshape(layers.shape[0], -1, layers.shape[-1])[:, places],
        None,
    )


def evaluate(
    recipe: Recipe, state: TrainState, context: Context, examples: Examples, batches: Steps, grid: BatchGrid
) -> tuple[TrainState, Evaluation]:
    """Scores the current parameters, or their average, on the validation split, and starts a new sum of losses.

    Arguments as for `predict`.
    """
    logits = predict(recipe, weights_in_use(recipe, state.evaluated, context), examples, batches, grid).logits
    labels = jnp.asarray(examples.labels)
    evaluation = Evaluation(
        train_loss=state.loss_sum / recipe.steps_per_epoch,
        validation_loss=losses_of_examples(logits, labels).mean(),
        validation_score=score_of_logits(recipe.metric, logits, labels),
    )
    waiting = None if state.waiting is None else wait(state.waiting, evaluation.validation_score)
    return state._replace(loss_sum=jnp.float32(0), waiting=waiting), evaluation
