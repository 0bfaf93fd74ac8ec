"""Every family of models once: how its config.json is read, its module, and the names of its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
from flax import nnx
from jaxtyping import PRNGKeyArray

from jaxstab.data.batches import Batch
from jaxstab.errors import InputError
from jaxstab.models import deberta, gpt2, llama_like, modernbert
from jaxstab.models.bert_like import BERT_LIKE
from jaxstab.models.build import Adapters, Build
from jaxstab.models.decoder import DecoderClassifier
from jaxstab.models.encoder import SequenceClassifier
from jaxstab.models.stack import Causal, Layered, Outputs
from jaxstab.models.weight_names import Entry


@dataclass(frozen=True)
class Family:
    """One row of the registry.

    Attributes:
        read_config: from (contents of config.json, number of classes, a rate for all dropout or None) to a config.
            Every config has `model_type`, `vocab_size`, `hidden_size`, `num_hidden_layers`, `num_labels`,
            `initializer_range`, and `max_length` in tokens. Raises InputError, to which the caller adds the file's
            name.
        module: from (config, `Build`, random streams) to a module that is called like `SequenceClassifier`.
        table: from a config to a row for every parameter, with names as in a file of the whole classifier.
        prefix: of the encoder's names in such a file; files of the encoder alone have names without it.
        head: top-level parameters that a pre-trained file may lack; the last one has a row for each class.
    """

    read_config: Callable[[Mapping[str, Any], int, float | None], Any]
    module: Callable[..., Layered]
    table: Callable[[Any], list[Entry]]
    prefix: str
    head: tuple[str, ...] = ("pooler", "classifier")

    @property
    def is_causal(self) -> bool:
        """Whether it is a decoder, whose head reads the last token."""
        return isinstance(self.module, type) and issubclass(self.module, Causal)


FAMILIES = {
    like.model_type: Family(like.read_config, SequenceClassifier, like.table, like.prefix) for like in BERT_LIKE
}
FAMILIES["deberta-v2"] = Family(deberta.read_config, deberta.DebertaClassifier, deberta.table, deberta.PREFIX)
FAMILIES["modernbert"] = Family(
    modernbert.read_config, modernbert.ModernBertClassifier, modernbert.table, modernbert.PREFIX, modernbert.HEAD
)
FAMILIES["gpt2"] = Family(gpt2.read_config, gpt2.GPT2Classifier, gpt2.table, gpt2.PREFIX, gpt2.HEAD)
FAMILIES |= {
    like.model_type: Family(like.read_config, DecoderClassifier, like.table, llama_like.PREFIX, llama_like.HEAD)
    for like in llama_like.LLAMA_LIKE
}


def family_of(config: Any) -> Family:
    """Returns the family that a config belongs to."""
    return FAMILIES[config.model_type]


def make_classifier(config: Any, build: Build = Build()) -> tuple[nnx.GraphDef, dict]:  # noqa: B008 (it is frozen)
    """Defines the model without allocating anything.

    With adapters, their parameters are in `lora/lora_a` [L, in, rank] and `lora/lora_b` [L, rank, out] beside `kernel`,
    and if they have dropout, the keys of a step in `lora/dropout_key` [L, 2] uint32.
    With frozen layers, the parameters of so many layers at the bottom are in `frozen_layers` instead of `layers`.

    Args:
        config: what `Family.read_config` returns.
        build: what can be chosen besides; float32 and the platform's attention by default.

    Returns:
        The definition, for `apply`, and the parameters' shapes as a nested dict of `jax.ShapeDtypeStruct`.

    Raises:
        InputError: no linear layer is called like one of the adapters' targets, or layers that cannot be frozen.
    """
    module = family_of(config).module
    abstract = nnx.eval_shape(lambda: module(config, build, nnx.Rngs(0)))
    definition, state = nnx.split(abstract, nnx.Param)
    shapes = nnx.to_pure_dict(state)
    if build.adapters is not None:
        _check_targets(build.adapters, shapes["layers"])
    return definition, shapes


def apply(
    definition: nnx.GraphDef,
    params: dict,
    batch: Batch,
    key: PRNGKeyArray | None = None,
    all_hidden_states: bool = False,
) -> Outputs:
    """Runs the classifier that `make_classifier` defined, as a pure function of its parameters.

    Args:
        definition: what `make_classifier` returns first.
        params: nested dict of arrays.
        batch: B examples in a grid.
        key: of this step's dropout; without it nothing is dropped.
        all_hidden_states: also return every hidden state.
    """
    return nnx.merge(definition, params)(batch, key, all_hidden_states)


def _check_targets(adapters: Adapters, layers: Mapping[str, Any]) -> None:
    paths = [[key.key for key in path] for path, _ in jax.tree_util.tree_leaves_with_path(layers)]
    known = {path[-2] for path in paths if path[-1] == "kernel"}
    for target in adapters.targets:
        if not any(map(replace(adapters, targets=(target,)).stand_beside, known)):
            raise InputError(
                f"no linear layer {target!r} for an adapter; there are {', '.join(sorted(known))}, and all"
            )
