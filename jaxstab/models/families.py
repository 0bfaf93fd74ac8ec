"""Every family of encoders once: how its config.json is read, which module it is, and the names of its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxstab.errors import InputError
from jaxstab.models import deberta, modernbert
from jaxstab.models.bert_like import BERT_LIKE
from jaxstab.models.encoder import Adapters, SequenceClassifier
from jaxstab.models.weight_names import Entry


@dataclass(frozen=True)
class Family:
    """One row of the registry.

    Attributes:
        read_config: from the values of config.json, the number of classes and perhaps a rate that replaces all dropout
            rates to a config. All have in common `model_type`, `vocab_size`, `hidden_size`, `num_hidden_layers`,
            `num_labels`, `initializer_range`, the three dropout rates of BERT, and `max_length` in tokens. Raises
            InputError without the file's name.
        module: takes config, dtype, remat, rngs, adapters and frozen layers, and is called like `SequenceClassifier`.
        table: from a config to the rows for every parameter, with names as in a file of the whole classifier.
        prefix: of the encoder's names in such a file; files of the encoder alone have names without it.
        head: top-level parameters that a pre-trained file may lack; the last one has a row for each class.
    """

    read_config: Callable[[Mapping[str, Any], int, float | None], Any]
    module: Callable[..., nnx.Module]
    table: Callable[[Any], list[Entry]]
    prefix: str
    head: tuple[str, ...] = ("pooler", "classifier")


FAMILIES = {
    like.model_type: Family(like.read_config, SequenceClassifier, like.table, like.prefix) for like in BERT_LIKE
}
FAMILIES["deberta-v2"] = Family(deberta.read_config, deberta.DebertaClassifier, deberta.table, deberta.PREFIX)
FAMILIES["modernbert"] = Family(
    modernbert.read_config, modernbert.ModernBertClassifier, modernbert.table, modernbert.PREFIX, modernbert.HEAD
)


def family_of(config: Any) -> Family:
    """Returns the family that a config belongs to."""
    return FAMILIES[config.model_type]


def make_classifier(
    config: Any,
    precision: str = "float32",
    remat: bool = False,
    adapters: Adapters | None = None,
    frozen_layers: int = 0,
) -> tuple[nnx.GraphDef, dict]:
    """Defines the model without allocating anything.

    Args:
        config: its sizes.
        precision: `bfloat16` for matrix products and hidden states; anything else is float32. Parameters are float32.
        remat: recompute each layer in the backward pass.
        adapters: low-rank ones beside linear layers of the encoder layers, whose parameters are then in
            `lora/lora_a` [L, in, rank] and `lora/lora_b` [L, rank, out] beside `kernel`.
        frozen_layers: how many layers at the bottom have their parameters in `frozen_layers` instead of `layers`;
            those have no adapters.

    Returns:
        The definition, for `apply`, and the parameters' shapes as a nested dict of `jax.ShapeDtypeStruct`.

    Raises:
        InputError: no linear layer is called like one of the adapters' targets, or layers that cannot be frozen.
    """
    dtype = jnp.dtype("bfloat16" if precision == "bfloat16" else "float32")
    module = family_of(config).module
    abstract = nnx.eval_shape(lambda: module(config, dtype, remat, nnx.Rngs(0), adapters, frozen_layers))
    definition, state = nnx.split(abstract, nnx.Param)
    shapes = nnx.to_pure_dict(state)
    if adapters is not None:
        _check_targets(adapters, shapes["layers"])
    return definition, shapes


def _check_targets(adapters: Adapters, layers: Mapping[str, Any]) -> None:
    paths = [[key.key for key in path] for path, _ in jax.tree_util.tree_leaves_with_path(layers)]
    known = {path[-2] for path in paths if path[-1] == "kernel"}
    for target in adapters.targets:
        if target not in known:
            raise InputError(f"no linear layer {target!r} for an adapter; there are {', '.join(sorted(known))}")
