"""What is fixed for a whole run, and which parameters each seed trains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxstab.config import TrainConfig
from jaxstab.data.targets import Targets
from jaxstab.mitigation import Context, Method, Path, map_named
from jaxstab.models.attention import choose_attention
from jaxstab.models.build import Adapters, Build
from jaxstab.models.families import family_of, make_classifier
from jaxstab.models.pretrained import Pretrained
from jaxstab.runs.info import BatchGrid
from jaxstab.training.devices import platform
from jaxstab.training.optimizer import Hyper
from jaxstab.training.seed_axis import STACKED


@dataclass(frozen=True, eq=False)
class Recipe:
    """What is fixed for a whole run.

    Attributes:
        config: `[train]`, with the values that methods replace. Numbers that may differ between seeds are taken from
            `SeedInputs.hyper` instead.
        methods: the mitigation methods.
        pretrained: the pre-trained model that all seeds start from.
        definition: definition of the model in training.
        predictor: its definition in prediction, where a loop over layers is as fast as unrolled layers, and nothing is
            dropped.
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
        return replace(
            _context(self.pretrained.config, self.pretrained.missing),
            hyper=hyper,
            pretrained=pretrained,
            forgets=tuple(method.forgets for method in self.methods if method.forgets),
            targets=self.targets,
        )


def _context(encoder: Any, missing: tuple[str, ...] = ()) -> Context:
    """The context of a model without values."""
    return Context({}, {}, family_of(encoder).head, missing, encoder.initializer_range)


def define(
    pretrained: Pretrained,
    config: TrainConfig,
    methods: Sequence[Method],
    remat: bool = False,
    unroll: bool = False,
    predicting: bool = False,
) -> nnx.GraphDef:
    """Returns the definition of the model.

    Args:
        pretrained: has the sizes.
        config: has the precision.
        methods: may add adapters or freeze layers.
        remat: whether each layer is recomputed in the backward pass.
        unroll: whether there is no loop over layers.
        predicting: whether it is for prediction, where adapters have no dropout.
    """
    dtype = jnp.bfloat16 if config.precision == "bfloat16" else jnp.float32
    adapters = adapters_of(methods)
    if adapters and predicting:
        adapters = replace(adapters, dropout=0.0)
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


def dtype_in_memory(
    base_precision: str, precision: str, methods: Sequence[Method], encoder: Any
) -> Callable[[Path], Any]:
    """Returns the dtype in which a pre-trained value is kept in memory, as a function of its path.

    All are float32 but large arrays that no seed trains: they are bfloat16 if that is asked for, and kernels also if
    products are bfloat16, which converts them once and not in every step.

    Args:
        base_precision: `[model] base_precision`.
        precision: of products, `[train] precision`.
        methods: the mitigation methods; if one looks at pre-trained values while training, all of these are float32.
        encoder: the config of the model.
    """
    head, looked_at = family_of(encoder).head, any(method.needs_pretrained for method in methods)

    def dtype(path: Path) -> Any:
        if looked_at or is_trained(methods, path, encoder):
            return np.float32
        in_layers = path[0] in STACKED and path[-1] == "kernel"
        large = in_layers or (path[0] not in head and path[-1] in ("kernel", "embedding"))
        narrow = (large and base_precision == "bfloat16") or (in_layers and precision == "bfloat16")
        return jnp.bfloat16 if narrow else np.float32

    return dtype


def to_memory(params: Any, dtype: Callable[[Path], Any]) -> Any:
    """Returns numpy arrays in the dtypes of `dtype_in_memory`; on a CPU bfloat16 as its bits, in uint16.

    XLA for CPUs has few operations on bfloat16. It converts whole arrays before it takes a layer or some rows of them.
    """

    def narrow(path: Path, value: Any) -> Any:
        if dtype(path) == np.float32:
            return value
        value = value.astype(jnp.bfloat16, copy=False)
        return value.view(np.uint16) if platform() == "cpu" else value

    return map_named(narrow, params)


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


def _trained(recipe: Recipe, path: Path) -> bool:
    return is_trained(recipe.methods, path, recipe.pretrained.config, recipe.pretrained.missing)


def is_trained(methods: Sequence[Method], path: Path, encoder: Any, missing: tuple[str, ...] = ()) -> bool:
    """Returns whether seeds train a parameter.

    Args:
        methods: the mitigation methods.
        path: of the parameter.
        encoder: the config of the model.
        missing: parts of the head that each seed initialises for itself.
    """
    context = _context(encoder, missing)
    return all(method.trained(path, context) for method in methods if method.trained)


def adapters_of(methods: Sequence[Method]) -> Adapters | None:
    """Returns the adapters that a method adds, if one does."""
    return next((method.adapters for method in methods if method.adapters), None)


def _select(tree: Any, wanted: Callable[[Path], bool], path: Path = ()) -> Any:
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
