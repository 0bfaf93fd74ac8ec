"""The BERT-like sequence classifier as Flax modules, on the packed layout of `jaxstab.data.batches`.

What sets RoBERTa, ELECTRA, DistilBERT, ALBERT and MPNet apart from BERT is data: sizes in `EncoderConfig`, the rest in
`Variant`. Their rows are in `jaxstab.models.families`.

Source: Devlin et al. (2019), with the names and the arithmetic of Hugging Face's `*ForSequenceClassification`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxstab.data.batches import Batch
from jaxstab.errors import InputError
from jaxstab.models.operations import ACTIVATIONS, activate, attend, dropout, random_levels

RELATIVE_BUCKETS = 32  # of MPNet, whatever its config.json says
FARTHEST = 128  # distance in tokens from which on all share a bucket


@dataclass(frozen=True)
class Variant:
    """How a family's arithmetic differs from BERT's.

    Attributes:
        head_activation: between the two linear layers of the head.
        head_dropout_first: whether the first token is dropped out before the head's first layer too.
        attention_output_dropout: whether there is dropout between attention and the residual sum.
        output_dropout: likewise after the feed-forward part.
        shared_layers: whether all layers have the same parameters, which are then a stack of one.
    """

    head_activation: str = "tanh"
    head_dropout_first: bool = False
    attention_output_dropout: bool = True
    output_dropout: bool = True
    shared_layers: bool = False


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes and rates, under the names of Hugging Face's `config.json`.

    Attributes:
        type_vocab_size: number of segments, 0 for a model without them.
        embedding_size: width of the embeddings where a projection leads from it to `hidden_size`, else None.
        first_position: row of the position embedding that an example's first token has.
        relative_attention_num_buckets: of distances with a learned attention bias; 0 for none.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    num_labels: int
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    model_type: str = "bert"
    embedding_size: int | None = None
    first_position: int = 0
    relative_attention_num_buckets: int = 0
    variant: Variant = Variant()

    @property
    def max_length(self) -> int:
        """Tokens of the longest example that there are positions for."""
        return self.max_position_embeddings - self.first_position


@dataclass(frozen=True)
class Adapters:
    """Low-rank adapters beside linear layers of the encoder layers: y = x W + b + (x A) B.

    Source: Hu et al. (2022), section 4.1, without its scale: the caller scales B.

    Attributes:
        rank: of the product A B.
        targets: names of linear layers, the last part of their paths: `query`, `value`, ...
    """

    rank: int
    targets: tuple[str, ...]


class Outputs(NamedTuple):
    """What the classifier returns.

    Attributes:
        logits: [B, C] float32.
        first_tokens: [L, B, D] float32, hidden state of the first token after each encoder layer.
        hidden_states: [L + 1, B, T, D], of the embeddings and after each layer, zero on padding; only if asked for.
    """

    logits: Float[Array, "B C"]
    first_tokens: Float[Array, "L B D"]
    hidden_states: Float[Array, "M B T D"] | None


def _fold(key: PRNGKeyArray | None, site: int | Array) -> PRNGKeyArray | None:
    return None if key is None else jax.random.fold_in(key, site)


def make_linear(
    name: str, inputs: int, outputs: int, *, dtype: jnp.dtype, adapters: Adapters | None, rngs: nnx.Rngs
) -> nnx.Linear:
    """Returns a linear layer of an encoder layer, with an adapter if its name is among the targets."""
    if adapters is None or name not in adapters.targets:
        return nnx.Linear(inputs, outputs, dtype=dtype, rngs=rngs)
    return nnx.LoRALinear(inputs, outputs, lora_rank=adapters.rank, dtype=dtype, lora_dtype=dtype, rngs=rngs)


class Embeddings(nnx.Module):
    """Sum of word, position and perhaps segment embeddings, normalised, and projected where they are narrower."""

    def __init__(self, config: EncoderConfig, dtype: jnp.dtype, rngs: nnx.Rngs):
        width = config.embedding_size or config.hidden_size
        self.word = nnx.Embed(config.vocab_size, width, rngs=rngs)
        self.position = nnx.Embed(config.max_position_embeddings, width, rngs=rngs)
        if config.type_vocab_size:
            self.token_type = nnx.Embed(config.type_vocab_size, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, epsilon=config.layer_norm_eps, dtype=jnp.float32, rngs=rngs)
        if config.embedding_size:
            self.projection = nnx.Linear(width, config.hidden_size, dtype=dtype, rngs=rngs)
        self.config = config
        self.dtype = dtype

    def __call__(self, batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "R T D"]:
        """Embeds the tokens of a batch."""
        summed = self.word(batch.input_ids)
        if self.config.type_vocab_size:
            # Some tokenizers number two segments for models that know one.
            segments = batch.token_type_ids if self.config.type_vocab_size > 1 else jnp.zeros_like(batch.input_ids)
            summed = summed + self.token_type(segments)
        summed = summed + self.position(batch.position_ids + self.config.first_position)
        embedded = dropout(self.norm(summed).astype(self.dtype), self.config.hidden_dropout_prob, key)
        return self.projection(embedded) if self.config.embedding_size else embedded


def relative_buckets(width: int) -> Int[np.ndarray, "T T"]:
    """Returns the bucket of the distance from each column of a grid (first axis) to each other.

    Small distances have a bucket each, larger ones are binned logarithmically; those to the right have the upper half.
    Tokens of an example are neighbours in a row, so that the distance of columns is that of their positions.

    Source: Raffel et al. (2020), section 2.1; in float32, as MPNet was trained.
    """
    half = RELATIVE_BUCKETS // 2
    exact = half // 2
    distance = np.arange(width) - np.arange(width)[:, None]
    far = np.maximum(np.abs(distance), exact).astype(np.float32)
    logarithmic = np.log(far / np.float32(exact)) / np.float32(np.log(FARTHEST / exact)) * np.float32(half - exact)
    bucket = np.minimum(exact + logarithmic.astype(np.int32), half - 1)
    return np.where(distance > 0, half, 0) + np.where(np.abs(distance) < exact, np.abs(distance), bucket)


class Attention(nnx.Module):
    """Multi-head self-attention within each example."""

    def __init__(self, config: EncoderConfig, linear: Callable[[str, int, int], nnx.Linear]):
        width = config.hidden_size
        self.query = linear("query", width, width)
        self.key = linear("key", width, width)
        self.value = linear("value", width, width)
        self.output = linear("output", width, width)
        self.heads = config.num_attention_heads
        self.rate = config.attention_probs_dropout_prob

    def __call__(
        self,
        hidden: Float[Array, "R T D"],
        batch: Batch,
        key: PRNGKeyArray | None,
        bias: Float[Array, "1 H T T"] | None,
    ) -> Float[Array, "R T D"]:
        """Attends; `key` drops attention probabilities, `bias` is added to the scores."""

        def heads(grid: Array) -> Float[Array, "R H T d"]:
            return grid.reshape(*grid.shape[:2], self.heads, -1).swapaxes(1, 2)

        query, keys, values = heads(self.query(hidden)), heads(self.key(hidden)), heads(self.value(hidden))
        # Finite, so that no row of scores is empty; where there is no token, the others like it are attended to.
        other = batch.owners[:, None, :, None] != batch.owners[:, None, None, :]
        mask = jnp.where(other, jnp.finfo(jnp.float32).min, 0.0)
        width = query.shape[2]
        rate, levels = 0.0, None
        if key is not None:
            rate, levels = self.rate, random_levels(key, (*query.shape[:2], width, width))
        return self.output(attend(query * query.shape[-1] ** -0.5, keys, values, mask, levels, rate, bias))


class EncoderLayer(nnx.Module):
    """Attention and feed-forward, each followed by dropout, the residual sum and LayerNorm."""

    def __init__(self, config: EncoderConfig, dtype: jnp.dtype, adapters: Adapters | None, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        linear = partial(make_linear, dtype=dtype, adapters=adapters, rngs=rngs)
        self.attention = Attention(config, linear)
        self.attention_norm = nnx.LayerNorm(width, epsilon=config.layer_norm_eps, dtype=jnp.float32, rngs=rngs)
        self.intermediate = linear("intermediate", width, inner)
        self.output = linear("output", inner, width)
        self.output_norm = nnx.LayerNorm(width, epsilon=config.layer_norm_eps, dtype=jnp.float32, rngs=rngs)
        self.activation = config.hidden_act
        self.attention_rate = config.hidden_dropout_prob if config.variant.attention_output_dropout else 0.0
        self.output_rate = config.hidden_dropout_prob if config.variant.output_dropout else 0.0

    def __call__(
        self,
        hidden: Float[Array, "R T D"],
        batch: Batch,
        key: PRNGKeyArray | None,
        bias: Float[Array, "1 H T T"] | None = None,
    ) -> Float[Array, "R T D"]:
        """Applies the layer; LayerNorm is computed in float32."""
        attended = self.attention(hidden, batch, _fold(key, 0), bias)
        summed = hidden + dropout(attended, self.attention_rate, _fold(key, 1))
        hidden = self.attention_norm(summed.astype(jnp.float32)).astype(hidden.dtype)
        transformed = self.output(activate(self.activation, self.intermediate(hidden)))
        summed = hidden + dropout(transformed, self.output_rate, _fold(key, 2))
        return self.output_norm(summed.astype(jnp.float32)).astype(hidden.dtype)


class SequenceClassifier(nnx.Module):
    """Embeddings, a stack of layers (one set of parameters with a leading layer axis), pooler and classifier.

    Args:
        config: its sizes.
        dtype: of matrix products and hidden states.
        remat: recompute each layer in the backward pass.
        rngs: of the parameters.
        adapters: beside linear layers that are not frozen.
        frozen_layers: how many layers at the bottom form a stack of their own.

    Raises:
        InputError: more frozen layers than there are, or some of those that share their parameters.
    """

    def __init__(
        self,
        config: EncoderConfig,
        dtype: jnp.dtype,
        remat: bool,
        rngs: nnx.Rngs,
        adapters: Adapters | None = None,
        frozen_layers: int = 0,
    ):
        depth, shared = config.num_hidden_layers, config.variant.shared_layers
        if frozen_layers > depth:
            raise InputError(f"{frozen_layers} layers to freeze: the model has {depth}; freeze fewer")
        if frozen_layers and shared:
            raise InputError(f"layers of {config.model_type} share their weights; freeze none, or another model's")

        def stack(size: int, adapters: Adapters | None) -> EncoderLayer:
            make = nnx.vmap(lambda rngs: EncoderLayer(config, dtype, adapters, rngs))
            return nnx.split_rngs(splits=size)(make)(rngs)

        self.embeddings = Embeddings(config, dtype, rngs)
        if config.relative_attention_num_buckets:
            heads = config.num_attention_heads
            self.relative_attention_bias = nnx.Embed(config.relative_attention_num_buckets, heads, rngs=rngs)
        if frozen_layers:
            self.frozen_layers = stack(frozen_layers, None)
        self.layers = stack(1 if shared else depth - frozen_layers, adapters)
        self.pooler = nnx.Linear(config.hidden_size, config.hidden_size, rngs=rngs)
        self.classifier = nnx.Linear(config.hidden_size, config.num_labels, rngs=rngs)
        self.config = config
        self.remat = remat
        self.frozen = frozen_layers

    def __call__(self, batch: Batch, key: PRNGKeyArray | None = None, all_hidden_states: bool = False) -> Outputs:
        """Classifies a batch.

        Args:
            batch: B examples in a grid.
            key: of this step's dropout; without it nothing is dropped.
            all_hidden_states: also return every hidden state.
        """
        embedded = self.embeddings(batch, _fold(key, 0))
        bias = self._bias(embedded.shape[1])

        def through(stack: EncoderLayer, hidden: Array, numbers: Array) -> tuple[Array, tuple[Array, Array | None]]:
            definition, params = nnx.split(stack)
            # Shared layers are scanned by number alone.
            only = jax.tree.map(lambda leaf: leaf[0], params) if self.config.variant.shared_layers else None

            def layer(hidden: Array, scanned: tuple[nnx.State | None, Array]) -> tuple[Array, tuple]:
                own, number = scanned
                applied = nnx.merge(definition, only if own is None else own)
                hidden = applied(hidden, batch, _fold(key, number + 2), bias)
                first = batch.first_tokens(hidden).astype(jnp.float32)
                return hidden, (first, batch.by_example(hidden) if all_hidden_states else None)

            body = jax.checkpoint(layer) if self.remat else layer
            return jax.lax.scan(body, hidden, (params if only is None else None, numbers))

        depth = self.config.num_hidden_layers
        hidden, collected = embedded, []
        if self.frozen:
            hidden, of_frozen = through(self.frozen_layers, hidden, jnp.arange(self.frozen))
            collected.append(of_frozen)
        collected.append(through(self.layers, hidden, jnp.arange(self.frozen, depth))[1])
        first_tokens, states = jax.tree.map(lambda *parts: jnp.concatenate(parts), *collected)
        if states is not None:
            states = jnp.concatenate([batch.by_example(embedded)[None], states])
        return Outputs(self._head(first_tokens[-1], _fold(key, 1)), first_tokens, states)

    def _bias(self, width: int) -> Float[Array, "1 H T T"] | None:
        if not self.config.relative_attention_num_buckets:
            return None
        return jnp.moveaxis(self.relative_attention_bias(jnp.asarray(relative_buckets(width))), -1, 0)[None]

    def _head(self, first: Float[Array, "B D"], key: PRNGKeyArray | None) -> Float[Array, "B C"]:
        config = self.config
        rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        if config.variant.head_dropout_first:
            first = dropout(first, rate, _fold(key, 0))
        pooled = ACTIVATIONS[config.variant.head_activation](self.pooler(first))
        return self.classifier(dropout(pooled, rate, key))


def apply(
    definition: nnx.GraphDef,
    params: dict,
    batch: Batch,
    key: PRNGKeyArray | None = None,
    all_hidden_states: bool = False,
) -> Outputs:
    """Runs the classifier that `make_classifier` defined, as a pure function of its parameters."""
    return nnx.merge(definition, params)(batch, key, all_hidden_states)
