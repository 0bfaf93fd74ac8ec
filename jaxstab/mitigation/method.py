"""What a mitigation method is: a record of what it does to initial weights, forward pass, loss, gradient and update."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxstab.data.batches import Batch
from jaxstab.data.targets import Targets

Params = dict[str, Any]
Path = tuple[str, ...]
LogitsOf = Callable[[PRNGKeyArray], Float[Array, "B C"]]
ValueAndGrad = Callable[[Params], tuple[Float[Array, ""], Params]]


@dataclass(frozen=True)
class Context:
    """What a method may look at besides the parameters.

    Attributes:
        hyper: numbers by their key in the config, such as `mitigation.mixout.p`; they may differ between seeds.
        pretrained: pre-trained values, stored once for all seeds.
        head: names of the parts on top of the encoder: pooler, classifier.
        missing: those of them that the checkpoint lacks, so that each seed initialises its own.
        initializer_range: standard deviation of newly initialised kernels.
        forgets: of the methods in use.
        targets: class weights and label smoothing; None for the plain cross-entropy.
    """

    hyper: Mapping[str, Any]
    pretrained: Params
    head: tuple[str, ...]
    missing: tuple[str, ...]
    initializer_range: float
    forgets: tuple[Callable[[Path, Array, "Context"], Array], ...] = ()
    targets: Targets | None = None


@dataclass(frozen=True)
class Method:
    """What one method does, and no more; what is not given stays as in the standard recipe.

    Parameters are nested dicts of float32; `layers` have a leading axis, bottom first.

    Attributes:
        about: in one sentence.
        source: the paper.
        train: keys of `[train]` that it replaces.
        initial: (params, key, context) -> params at the start.
        forgets: (path, value, context) -> mask, true where `initial` has left nothing of the pre-trained value.
        weights: (params, key, context) -> params as the model sees them; the key is None where nothing is trained.
        loss: (logits of a key, batch, key, context) -> loss in nats, instead of cross-entropy.
        gradient: (value and gradient of the loss, context) -> another such function of params.
        decay_target: (params, context) -> what weight decay pulls to, instead of 0.
        rates: (updates, context) -> updates with learning rates of their own.
        average: (average so far, params, context) -> average, which is evaluated instead of the params.
        trained: (path, context) -> whether a parameter is trained; others are stored once for all seeds.
        needs_pretrained: whether it looks at `context.pretrained` while training.
        adapters: rank and targets of low-rank adapters.
        frozen_layers: how many of the bottom encoder layers are not trained.
    """

    about: str
    source: str
    train: Mapping[str, Any] = field(default_factory=dict)
    initial: Callable[[Params, PRNGKeyArray, Context], Params] | None = None
    forgets: Callable[[Path, Array, Context], Array] | None = None
    weights: Callable[[Params, PRNGKeyArray | None, Context], Params] | None = None
    loss: Callable[[LogitsOf, Batch, PRNGKeyArray, Context], Float[Array, ""]] | None = None
    gradient: Callable[[ValueAndGrad, Context], ValueAndGrad] | None = None
    decay_target: Callable[[Params, Context], Params] | None = None
    rates: Callable[[Params, Context], Params] | None = None
    average: Callable[[Params, Params, Context], Params] | None = None
    trained: Callable[[Path, Context], bool] | None = None
    needs_pretrained: bool = False
    adapters: Any = None
    frozen_layers: int = 0


def map_named(function: Callable[..., Any], tree: Params, *others: Params) -> Params:
    """Applies a function of (path, leaf, leaves of the others) to every parameter."""
    return jax.tree_util.tree_map_with_path(
        lambda path, *leaves: function(tuple(entry.key for entry in path), *leaves), tree, *others
    )


def map_drawn(function: Callable[..., Array], key: PRNGKeyArray, tree: Params, *others: Params) -> Params:
    """Applies a function of (path, key of its own, leaf, leaves of the others) to every parameter."""
    leaves, definition = jax.tree.flatten(tree)
    keys = jax.tree.unflatten(definition, [jax.random.fold_in(key, number) for number in range(len(leaves))])
    return map_named(lambda path, leaf, key, *rest: function(path, key, leaf, *rest), tree, keys, *others)


def pretrained_or(default: Params, context: Context) -> Params:
    """Returns pre-trained values, where there are none (head, adapters, forgotten layers) those of `default`."""

    def choose(path: Path, value: Array) -> Array:
        anchor: Any = context.pretrained
        for name in path:
            anchor = anchor.get(name)
            if anchor is None:
                return value
        for forgets in context.forgets:
            anchor = jnp.where(forgets(path, value, context), value, anchor)
        return anchor

    return map_named(choose, default)


def number_of_layers(params: Params) -> int:
    """Returns how many encoder layers there are among the parameters."""
    leaves = jax.tree.leaves(params.get("layers", {}))
    return leaves[0].shape[0] if leaves else 0


def by_layer(values: Array, stacked: Array) -> Array:
    """Gives [L] values the shape [L, 1, ...] that a stacked parameter needs."""
    return values.reshape(-1, *[1] * (stacked.ndim - 1))
