"""The DeBERTa-v2 and v3 sequence classifier: attention by content and by relative position, disentangled.

Source: He et al. (2021), "DeBERTa", section 3, and "DeBERTaV3"; names and arithmetic of Hugging Face's
`DebertaV2ForSequenceClassification`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxstab.data.batches import Batch
from jaxstab.errors import InputError
from jaxstab.models.encoder import (
    Adapters,
    Attention,
    EncoderConfig,
    EncoderLayer,
    Outputs,
    make_linear,
)
from jaxstab.models.operations import ACTIVATIONS, attend, dropout, random_levels
from jaxstab.models.reading import check_choice, check_heads, read_fields
from jaxstab.models.stack import Layered, fold
from jaxstab.models.weight_names import Entry, linear, norm

PREFIX = "deberta."
ATTENTION_TYPES = ("c2p", "p2c")


@dataclass(frozen=True)
class DebertaConfig(EncoderConfig):
    """Sizes and rates, under the names of Hugging Face's `config.json`.

    Attributes:
        type_vocab_size: number of segments, 0 for a model without them.
        position_biased_input: whether absolute positions are added to the embeddings.
        position_buckets: of distances to one side; 0 for a bucket for each distance.
        max_relative_positions: distance from which on all share a bucket.
        pos_att_type: which of content to position, `c2p`, and position to content, `p2c`, there is.
        share_att_key: whether relative positions are projected like contents.
        norm_rel_ebd: `layer_norm` if the embeddings of relative positions are normalised.
        pooler_dropout: before the head's first layer.
        pooler_hidden_act: after it.
    """

    model_type: str = "deberta-v2"
    layer_norm_eps: float = 1e-7
    position_biased_input: bool = True
    position_buckets: int = 0
    max_relative_positions: int = 512
    pos_att_type: tuple[str, ...] = ATTENTION_TYPES
    share_att_key: bool = False
    norm_rel_ebd: str = "none"
    pooler_dropout: float = 0.0
    pooler_hidden_act: str = "gelu"

    @property
    def span(self) -> int:
        """Buckets to one side; there are twice as many embeddings of relative positions."""
        return self.position_buckets or self.max_relative_positions


def read_config(values: Mapping[str, Any], num_labels: int, dropout: float | None) -> DebertaConfig:
    """Returns the config that config.json describes.

    Args:
        values: of config.json.
        num_labels: classes of the task.
        dropout: replaces all dropout rates if given.

    Raises:
        InputError: a size is missing, or an arithmetic that is not supported.
    """
    known = read_fields(DebertaConfig, {"type_vocab_size": 0, **values}, {"classifier_dropout": "cls_dropout"})
    width, heads = known["hidden_size"], known["num_attention_heads"]
    check_heads(width, heads)
    required = {
        "relative_attention": (False, True),
        "conv_kernel_size": (0, 0),
        "embedding_size": (width, width),
        "pooler_hidden_size": (width, width),
        "attention_head_size": (width // heads, width // heads),
    }
    for key, (default, value) in required.items():
        if values.get(key, default) != value:
            raise InputError(f"{key} {values.get(key, default)!r}: only {value!r} is supported; use DeBERTa-v3")
    types = known.get("pos_att_type", ())
    known["pos_att_type"] = tuple(
        part.strip() for part in (types.lower().split("|") if isinstance(types, str) else types)
    )
    if not known["pos_att_type"] or not set(known["pos_att_type"]) <= set(ATTENTION_TYPES):
        raise InputError(f"pos_att_type {types!r}: only c2p, p2c or both are supported; use DeBERTa-v3")
    known["position_buckets"] = max(known.get("position_buckets", 0), 0)
    if known.get("max_relative_positions", -1) < 1:
        known["max_relative_positions"] = known["max_position_embeddings"]
    known["norm_rel_ebd"] = known.get("norm_rel_ebd", "none").strip().lower()
    if dropout is not None:
        rates = "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "pooler_dropout"
        known |= dict.fromkeys(rates, dropout)
    config = DebertaConfig(**{**known, "num_labels": num_labels, "embedding_size": None})
    check_choice("hidden_act", config.hidden_act)
    check_choice("pooler_hidden_act", config.pooler_hidden_act)
    check_choice("norm_rel_ebd", config.norm_rel_ebd, ("none", "layer_norm"))
    return config


def table(config: DebertaConfig) -> list[Entry]:
    """Returns the rows for every parameter of a config, with names as in a file of the whole classifier."""
    embeddings, encoder = f"{PREFIX}embeddings", f"{PREFIX}encoder"
    layer = f"{encoder}.layer.{{layer}}"
    rows = [Entry(f"{embeddings}.word_embeddings.weight", ("embeddings", "word", "embedding"))]
    if config.position_biased_input:
        rows += [Entry(f"{embeddings}.position_embeddings.weight", ("embeddings", "position", "embedding"))]
    if config.type_vocab_size:
        rows += [Entry(f"{embeddings}.token_type_embeddings.weight", ("embeddings", "token_type", "embedding"))]
    rows += norm(f"{embeddings}.LayerNorm", "embeddings", "norm")
    rows += [Entry(f"{encoder}.rel_embeddings.weight", ("relative", "embedding"))]
    if config.norm_rel_ebd == "layer_norm":
        rows += norm(f"{encoder}.LayerNorm", "relative_norm")
    for name, path in _projections(config).items():
        rows += linear(f"{layer}.attention.self.{name}", "layers", "attention", path)
    return [
        *rows,
        *linear(f"{layer}.attention.output.dense", "layers", "attention", "output"),
        *norm(f"{layer}.attention.output.LayerNorm", "layers", "attention_norm"),
        *linear(f"{layer}.intermediate.dense", "layers", "intermediate"),
        *linear(f"{layer}.output.dense", "layers", "output"),
        *norm(f"{layer}.output.LayerNorm", "layers", "output_norm"),
        *linear("pooler.dense", "pooler"),
        *linear("classifier", "classifier"),
    ]


def _projections(config: DebertaConfig) -> dict[str, str]:
    """Our names of the linear layers that attention scores and mixes by, by their names in files."""
    names = {"query_proj": "query", "key_proj": "key", "value_proj": "value"}
    if not config.share_att_key and "c2p" in config.pos_att_type:
        names["pos_key_proj"] = "position_key"
    if not config.share_att_key and "p2c" in config.pos_att_type:
        names["pos_query_proj"] = "position_query"
    return names


def relative_rows(config: DebertaConfig, width: int) -> Int[np.ndarray, " W"]:
    """Returns which embedding stands for each distance of a key to the right of its query, from 1 - T to T - 1.

    Half of the buckets hold one distance each, the others are binned logarithmically, in float32 as in training.

    Args:
        config: with the buckets.
        width: T, columns of a grid; W is 2 T - 1.
    """
    # Tokens of an example are neighbours in a row, so that the distance of columns is that of their positions.
    distance = -np.arange(1 - width, width)
    if config.position_buckets:
        middle = config.position_buckets // 2
        far = np.maximum(np.abs(distance), middle).astype(np.float32) / np.float32(middle)
        farthest = np.log(np.float32((config.max_relative_positions - 1) / middle))
        binned = np.ceil(np.log(far) / farthest * np.float32(middle - 1)) + np.float32(middle)
        distance = np.where(np.abs(distance) <= middle, distance, np.sign(distance) * binned.astype(np.int64))
    return np.clip(distance + config.span, 0, 2 * config.span - 1)


def by_key(scores: Float[Array, "... T W"]) -> Float[Array, "... T T"]:
    """Turns scores by distance, from 1 - T to T - 1, into scores by column.

    Row i of the result is columns T - 1 - i to 2 T - 2 - i. They are cut out by a change of shape, whose gradient is
    as cheap, unlike that of gathering (Dai et al., 2019, appendix B).
    """
    *batch, width, distances = scores.shape
    padded = jnp.pad(scores, [*[(0, 0)] * (len(batch) + 1), (0, 1)]).reshape(*batch, -1)
    start = width - 1
    return padded[..., start : start + width * distances].reshape(*batch, width, distances)[..., :width]


class Embeddings(nnx.Module):
    """Word embeddings, with positions and segments where the model has them, normalised."""

    def __init__(self, config: DebertaConfig, dtype: jnp.dtype, rngs: nnx.Rngs):
        width = config.hidden_size
        self.word = nnx.Embed(config.vocab_size, width, rngs=rngs)
        if config.position_biased_input:
            self.position = nnx.Embed(config.max_position_embeddings, width, rngs=rngs)
        if config.type_vocab_size:
            self.token_type = nnx.Embed(config.type_vocab_size, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, epsilon=config.layer_norm_eps, dtype=jnp.float32, rngs=rngs)
        self.config = config
        self.dtype = dtype

    def __call__(self, batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "R T D"]:
        """Embeds the tokens of a batch."""
        summed = self.word(batch.input_ids)
        if self.config.position_biased_input:
            summed = summed + self.position(batch.position_ids)
        if self.config.type_vocab_size:
            summed = summed + self.token_type(batch.token_type_ids)
        return dropout(self.norm(summed).astype(self.dtype), self.config.hidden_dropout_prob, key)


class DisentangledAttention(Attention):
    """Multi-head self-attention within each example, whose scores are the sum of up to three products.

    Those of query and key, of query and the key's relative position, and of key and the query's.
    """

    def __init__(self, config: DebertaConfig, linear: Callable[[str, int, int], nnx.Linear]):
        super().__init__(config, linear)
        width = config.hidden_size
        if not config.share_att_key and "c2p" in config.pos_att_type:
            self.position_key = linear("position_key", width, width)
        if not config.share_att_key and "p2c" in config.pos_att_type:
            self.position_query = linear("position_query", width, width)
        self.types = config.pos_att_type
        self.shared = config.share_att_key

    def __call__(  # type: ignore[override]  # positions are not optional here
        self,
        hidden: Float[Array, "R T D"],
        batch: Batch,
        key: PRNGKeyArray | None,
        positions: Float[Array, "W D"],
    ) -> Float[Array, "R T D"]:
        """Attends; `key` drops attention probabilities and `positions`, an embedding for each distance."""

        def heads(grid: Array) -> Float[Array, "... H T d"]:
            return grid.reshape(*grid.shape[:-1], self.heads, -1).swapaxes(-2, -3)

        query, keys, values = heads(self.query(hidden)), heads(self.key(hidden)), heads(self.value(hidden))
        scale = (query.shape[-1] * (1 + len(self.types))) ** -0.5
        by_distance = partial(jnp.einsum, "rhtd,hwd->rhtw", preferred_element_type=jnp.float32)
        bias = jnp.float32(0)
        if "c2p" in self.types:
            project = self.key if self.shared else self.position_key
            bias += by_key(by_distance(query * scale, heads(project(positions))))
        if "p2c" in self.types:
            project = self.query if self.shared else self.position_query
            bias += by_key(by_distance(keys * scale, heads(project(positions))[:, ::-1])).swapaxes(-1, -2)
        return self.output(self._mix(query * scale, keys, values, bias, batch, key))

    def _mix(
        self, query: Array, keys: Array, values: Array, bias: Array, batch: Batch, key: PRNGKeyArray | None
    ) -> Float[Array, "R T D"]:
        # Finite, so that no row of scores is empty; where there is no token, the others like it are attended to.
        other = batch.owners[:, None, :, None] != batch.owners[:, None, None, :]
        mask = jnp.where(other, jnp.finfo(jnp.float32).min, 0.0)
        rate, levels = 0.0, None
        if key is not None:
            rate, levels = self.rate, random_levels(key, bias.shape)

        def row(*arrays: Array) -> Float[Array, "T D"]:
            query, keys, values, mask, bias, *levels = (array[None] for array in arrays)
            return attend(query, keys, values, mask, levels[0] if levels else None, rate, bias)[0]

        # `attend` knows one bias for all rows, and here every row has its own.
        return jax.vmap(row)(query, keys, values, mask, bias, *([] if levels is None else [levels]))


class DebertaLayer(EncoderLayer):
    """An encoder layer with disentangled attention."""

    def __init__(self, config: DebertaConfig, dtype: jnp.dtype, adapters: Adapters | None, rngs: nnx.Rngs):
        super().__init__(config, dtype, adapters, rngs)
        self.attention = DisentangledAttention(config, partial(make_linear, dtype=dtype, adapters=adapters, rngs=rngs))


class DebertaClassifier(Layered):
    """Embeddings, a stack of layers that share embeddings of relative positions, pooler and classifier.

    Args:
        config: its sizes.
        dtype: of matrix products and hidden states.
        remat: recompute each layer in the backward pass.
        rngs: of the parameters.
        adapters: beside linear layers that are not frozen.
        frozen_layers: how many layers at the bottom form a stack of their own.

    Raises:
        InputError: more frozen layers than there are.
    """

    def __init__(
        self,
        config: DebertaConfig,
        dtype: jnp.dtype,
        remat: bool,
        rngs: nnx.Rngs,
        adapters: Adapters | None = None,
        frozen_layers: int = 0,
    ):
        def make_layer(adapters: Adapters | None, rngs: nnx.Rngs) -> DebertaLayer:
            return DebertaLayer(config, dtype, adapters, rngs)

        super().__init__(make_layer, config.num_hidden_layers, remat, rngs, adapters, frozen_layers)
        width = config.hidden_size
        self.embeddings = Embeddings(config, dtype, rngs)
        self.relative = nnx.Embed(2 * config.span, width, rngs=rngs)
        if config.norm_rel_ebd == "layer_norm":
            self.relative_norm = nnx.LayerNorm(width, epsilon=config.layer_norm_eps, dtype=jnp.float32, rngs=rngs)
        self.pooler = nnx.Linear(width, width, rngs=rngs)
        self.classifier = nnx.Linear(width, config.num_labels, rngs=rngs)
        self.config = config
        self.dtype = dtype

    def __call__(self, batch: Batch, key: PRNGKeyArray | None = None, all_hidden_states: bool = False) -> Outputs:
        """Classifies a batch.

        Args:
            batch: B examples in a grid.
            key: of this step's dropout; without it nothing is dropped.
            all_hidden_states: also return every hidden state.
        """
        positions = self._positions()
        rows = relative_rows(self.config, batch.owners.shape[1])

        def step(layer: DebertaLayer, hidden: Array, number: Array) -> Array:
            layer_key = fold(key, number + 2)
            kept = dropout(positions, self.config.hidden_dropout_prob, fold(layer_key, 3))
            return layer(hidden, batch, layer_key, kept[rows])

        embedded = self.embeddings(batch, fold(key, 0))
        _, first_tokens, states = self.through_layers(embedded, batch, step, all_hidden_states)
        return Outputs(self._head(first_tokens[-1], fold(key, 1)), first_tokens, states)

    def _positions(self) -> Float[Array, "P D"]:
        positions = self.relative.embedding[...]
        if self.config.norm_rel_ebd == "layer_norm":
            positions = self.relative_norm(positions)
        return positions.astype(self.dtype)

    def _head(self, first: Float[Array, "B D"], key: PRNGKeyArray | None) -> Float[Array, "B C"]:
        config = self.config
        rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        pooled = self.pooler(dropout(first, config.pooler_dropout, fold(key, 0)))
        return self.classifier(dropout(ACTIVATIONS[config.pooler_hidden_act](pooled), rate, key))
