"""What is fixed for a whole run, and which parameters each seed trains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxstab.config import TrainConfig
from jaxstab.data.targets import Targets
from jaxstab.mitigation import Context, Method
from jaxstab.models.attention import choose_attention
from jaxstab.models.build import Build
from jaxstab.models.families import family_of, make_classifier
from jaxstab.models.pretrained import Pretrained
from jaxstab.runs.info import BatchGrid
from jaxstab.training.devices import platform
from jaxstab.training.optimizer import Hyper


@dataclass(frozen=True, eq=False)
class Recipe:
    """What is fixed for a whole run.

    Attributes:
        config: `[train]`, with the values that methods replace. Numbers that may differ between seeds are taken from
            `SeedInputs.hyper` instead.
        methods: the mitigation methods.
        pretrained: the pre-trained model that all seeds start from.
        definition: definition of the model in training.
        predictor: its definition in prediction, where a loop over layers is as fast as unrolled layers.
        classes: C, number of classes of the task; 1 of a regression.
        metric: the task's score.
        steps_per_epoch: optimiser steps per epoch.
        hyper: keys of the hyper-parameters in `SeedInputs.hyper`.
        grid: the grids that a training batch may be laid out in.
        rounding: whether repeats start from parameters moved by one unit in the last place.
        targets: class weights and label smoothing; None for the plain cross-entropy.
    """

    config: TrainConfig
    methods: tuple[Method, ...]
    pretrained: Pretrained
    definition: nnx.GraphDef
    predictor: nnx.GraphDef
    classes: int
    metric: str
    steps_per_epoch: int
    hyper: tuple[str, ...]
    grid: BatchGrid
    rounding: bool = False
    targets: Targets | None = None

    @property
    def total_steps(self) -> int:
        """Optimiser steps of one seed."""
        return self.config.epochs * self.steps_per_epoch

    def context(self, hyper: Hyper, pretrained: Any) -> Context:
        """Returns the context that methods may use."""
        return Context(
            hyper=hyper,
            pretrained=pretrained,
            head=family_of(self.pretrained.config).head,
            missing=self.pretrained.missing,
            initializer_range=self.pretrained.config.initializer_range,
            forgets=tuple(method.forgets for method in self.methods if method.forgets),
            targets=self.targets,
        )


def define(
    pretrained: Pretrained,
    config: TrainConfig,
    methods: Sequence[Method],
    remat: bool = False,
    unroll: bool = False,
) -> nnx.GraphDef:
    """Returns the definition of the model.

    Args:
        pretrained: has the sizes.
        config: has the precision.
        methods: may add adapters or freeze layers.
        remat: whether each layer is recomputed in the backward pass.
        unroll: whether there is no loop over layers.
    """
    dtype = jnp.bfloat16 if config.precision == "bfloat16" else jnp.float32
    adapters = next((method.adapters for method in methods if method.adapters), None)
    kind = platform()
    build = Build(
        dtype,
        remat,
        unroll=pretrained.config.num_hidden_layers if unroll else 1,
        lean=kind != "cpu",
        ordered=kind != "cpu",
        attention=choose_attention(kind, config.precision),
        adapters=adapters,
        frozen_layers=number_frozen(methods),
    )
    return make_classifier(pretrained.config, build)[0]


def number_frozen(methods: Sequence[Method]) -> int:
    """Returns the number of bottom encoder layers that methods freeze (`jaxstab.models.parameters.split_layers`)."""
    return max((method.frozen_layers for method in methods), default=0)


def trained_part(recipe: Recipe, params: Any) -> Any:
    """Returns the parameters that each seed trains."""
    return _select(params, lambda path: _trained(recipe, path))


def frozen_part(recipe: Recipe, params: Any) -> Any:
    """Returns the parameters that no seed trains."""
    return _select(params, lambda path: not _trained(recipe, path))


def reference_part(recipe: Recipe, params: Any) -> Any:
    """Returns the pre-trained values that a training step uses: frozen ones, or all if a method asks for them."""
    asked = any(method.needs_pretrained for method in recipe.methods)
    return params if asked else frozen_part(recipe, params)


def _trained(recipe: Recipe, path: tuple[str, ...]) -> bool:
    context = recipe.context({}, {})
    return all(method.trained(path, context) for method in recipe.methods if method.trained)


def _select(tree: Any, wanted: Callable[[tuple[str, ...]], bool], path: tuple[str, ...] = ()) -> Any:
    """The nested dict of the leaves with a wanted path."""
    found = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            value = _select(value, wanted, (*path, name))
            if value:
                found[name] = value
        elif wanted((*path, name)):
            found[name] = value
    return found
