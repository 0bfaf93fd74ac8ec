"""The BERT-like sequence classifier as Flax modules, on the packed layout of `jaxstab.data.batches`.

RoBERTa, ELECTRA, DistilBERT, ALBERT and MPNet differ from BERT in data alone: sizes are in `EncoderConfig`, the rest is
in `Variant`. How each family's files are read is in `jaxstab.models.bert_like`.

Source: Devlin et al. (2019), with the names and the arithmetic of Hugging Face's `*ForSequenceClassification`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxstab.data.batches import Batch
from jaxstab.models.attention import attend
from jaxstab.models.build import Build, Embed, LayerNorm, make_linear
from jaxstab.models.operations import ACTIVATIONS, activate, dropout, fold
from jaxstab.models.stack import Layered, Outputs

RELATIVE_BUCKETS = 32  # MPNet's; no other number is supported
FARTHEST = 128  # tokens; all larger distances share a bucket


@dataclass(frozen=True)
class Variant:
    """How a family's arithmetic differs from BERT's.

    Attributes:
        head_activation: between the two linear layers of the head.
        head_dropout_first: whether there is dropout before the head's first layer too.
        attention_output_dropout: whether there is dropout between attention and the residual sum.
        output_dropout: whether there is dropout between the feed-forward part and the residual sum.
        shared_layers: whether all layers have the same parameters.
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
        embedding_size: width of the embeddings if they are projected to `hidden_size`, else None.
        first_position: row of the position embeddings for an example's first token.
        relative_attention_num_buckets: number of buckets of distances with a learned attention bias; 0 for no bias.
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
        """Length in tokens of the longest example that the position embeddings allow."""
        return self.max_position_embeddings - self.first_position

    @property
    def head_activation(self) -> str:
        """Between the two linear layers of the head."""
        return self.variant.head_activation

    @property
    def head_rates(self) -> tuple[float, float]:
        """Dropout rates before the head's first linear layer and before its second."""
        rate = self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout
        return (rate if self.variant.head_dropout_first else 0.0), rate


class Embeddings(nnx.Module):
    """Sum of word embeddings and those of positions and segments where the model has them, normalised.

    Embeddings that are narrower than the hidden states are projected.
    """

    def __init__(self, config: EncoderConfig, build: Build, rngs: nnx.Rngs, positions: bool = True):
        width = config.embedding_size or config.hidden_size
        self.word = Embed(config.vocab_size, width, build, rngs)
        if positions:
            self.position = Embed(config.max_position_embeddings, width, build, rngs)
        if config.type_vocab_size:
            self.token_type = Embed(config.type_vocab_size, width, build, rngs)
        self.norm = LayerNorm(width, config.layer_norm_eps, rngs)
        if config.embedding_size:
            self.projection = nnx.Linear(width, config.hidden_size, dtype=build.dtype, rngs=rngs)
        self.positions = positions
        self.config = config
        self.dtype = build.dtype

    def __call__(self, batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "R T D"]:
        """Embeds the tokens of a batch."""
        summed = self.word(batch.input_ids)
        if self.config.type_vocab_size:
            # Some tokenizers number two segments for models that know one.
            segments = batch.token_type_ids if self.config.type_vocab_size > 1 else jnp.zeros_like(batch.input_ids)
            summed = summed + self.token_type(segments)
        if self.positions:
            summed = summed + self.position(batch.position_ids + self.config.first_position)
        embedded = dropout(self.norm(summed).astype(self.dtype), self.config.hidden_dropout_prob, key)
        return self.projection(embedded) if self.config.embedding_size else embedded


def relative_buckets(width: int) -> Int[np.ndarray, "T T"]:
    """Returns the bucket of the distance from each column of a grid (first axis) to each other column.

    Each small distance has a bucket of its own, larger ones are binned logarithmically. Distances to the right have the
    upper half of the buckets.

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

    def __init__(self, config: EncoderConfig, build: Build, rngs: nnx.Rngs):
        width = config.hidden_size
        self.query = make_linear("query", width, width, build, rngs)
        self.key = make_linear("key", width, width, build, rngs)
        self.value = make_linear("value", width, width, build, rngs)
        self.output = make_linear("output", width, width, build, rngs)
        self.heads = config.num_attention_heads
        self.rate = config.attention_probs_dropout_prob
        self.implementation = build.attention

    def __call__(
        self, hidden: Float[Array, "R T D"], batch: Batch, key: PRNGKeyArray | None, relative: Array | None
    ) -> Float[Array, "R T D"]:
        """Attends.

        Args:
            hidden: the tokens, which attend to each other.
            batch: where the tokens lie.
            key: for dropout of the probabilities; None drops nothing.
            relative: [1, H, T, T] float32, a bias on the scores for relative positions, or None.
        """
        query, keys, values = (self.by_head(project(hidden)) for project in (self.query, self.key, self.value))
        return self.mix(query * query.shape[-1] ** -0.5, keys, values, batch, relative, key)

    def by_head(self, projected: Float[Array, "... D"]) -> Float[Array, "... H d"]:
        """Divides features among the heads."""
        return projected.reshape(*projected.shape[:-1], self.heads, -1)

    def mix(
        self, query: Array, keys: Array, values: Array, batch: Batch, bias: Array | None, key: PRNGKeyArray | None
    ) -> Float[Array, "R T D"]:
        """Applies `attend` to the heads, and the output layer to its result."""
        mixed = attend(query, keys, values, batch.owners, None, bias, key, self.rate, self.implementation)
        return self.output(mixed)


class EncoderLayer(nnx.Module):
    """Attention and feed-forward, each followed by dropout, the residual sum and LayerNorm."""

    attention_type: type[Attention] = Attention

    def __init__(self, config: EncoderConfig, build: Build, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.attention = self.attention_type(config, build, rngs)
        self.attention_norm = LayerNorm(width, config.layer_norm_eps, rngs)
        self.intermediate = make_linear("intermediate", width, inner, build, rngs)
        self.output = make_linear("output", inner, width, build, rngs)
        self.output_norm = LayerNorm(width, config.layer_norm_eps, rngs)
        self.activation = config.hidden_act
        self.lean = build.lean
        self.attention_rate = config.hidden_dropout_prob if config.variant.attention_output_dropout else 0.0
        self.output_rate = config.hidden_dropout_prob if config.variant.output_dropout else 0.0

    def __call__(
        self, hidden: Float[Array, "R T D"], batch: Batch, key: PRNGKeyArray | None, relative: Array | None
    ) -> Float[Array, "R T D"]:
        """Applies the layer; `relative` is what its attention knows of relative positions."""
        attended = self.attention(hidden, batch, fold(key, 0), relative)
        hidden = self.attention_norm(hidden + dropout(attended, self.attention_rate, fold(key, 1)))
        transformed = self.feed_forward(hidden)
        return self.output_norm(hidden + dropout(transformed, self.output_rate, fold(key, 2)))

    def feed_forward(self, hidden: Float[Array, "R T D"]) -> Float[Array, "R T D"]:
        """The feed-forward part; for its backward pass a lean build keeps only what products return."""

        def apply(hidden: Array) -> Array:
            return self.output(activate(self.activation, self.intermediate(hidden)))

        return (jax.checkpoint(apply, policy=jax.checkpoint_policies.dots_saveable) if self.lean else apply)(hidden)


class SequenceClassifier(Layered):
    """Embeddings, a stack of layers, and a head: pooler and classifier.

    Args:
        config: sizes and rates.
        build: choices besides the config.
        rngs: random streams for the parameters.
        layer: class of the encoder layers.
        positions: whether there are embeddings of absolute positions.

    Raises:
        InputError: more frozen layers than there are, or some of those that share their parameters.
    """

    def __init__(
        self,
        config: EncoderConfig,
        build: Build,
        rngs: nnx.Rngs,
        layer: type[EncoderLayer] = EncoderLayer,
        positions: bool = True,
    ):
        super().__init__(layer, config, build, rngs, shared=config.variant.shared_layers)
        self.embeddings = Embeddings(config, build, rngs, positions)
        if config.relative_attention_num_buckets:
            heads = config.num_attention_heads
            self.relative_attention_bias = Embed(config.relative_attention_num_buckets, heads, build, rngs)
        self.pooler = nnx.Linear(config.hidden_size, config.hidden_size, rngs=rngs)
        self.classifier = nnx.Linear(config.hidden_size, config.num_labels, rngs=rngs)

    def __call__(self, batch: Batch, key: PRNGKeyArray | None = None, all_hidden_states: bool = False) -> Outputs:
        """Classifies a batch.

        Args:
            batch: B examples in a grid.
            key: of this step's dropout; without it nothing is dropped.
            all_hidden_states: also return every hidden state.
        """
        embedded = self.embeddings(batch, fold(key, 0))
        relative = self.make_relative(embedded.shape[1])

        def step(layer: EncoderLayer, hidden: Array, number: Array) -> Array:
            layer_key = fold(key, number + 2)
            return layer(hidden, batch, layer_key, relative(layer_key))

        hidden, representations, states = self.through_layers(embedded, batch, step, all_hidden_states)
        # Not from `representations`, so that a training step does not compute them.
        first = batch.first_tokens(hidden).astype(jnp.float32)
        return Outputs(self._head(first, fold(key, 1)), representations, states)

    def make_relative(self, width: int) -> Callable[[PRNGKeyArray | None], Any]:
        """Returns the function from a layer's key to what its attention knows of relative positions.

        Args:
            width: columns of the grid.
        """
        if not self.config.relative_attention_num_buckets:
            return lambda key: None
        bias = jnp.moveaxis(self.relative_attention_bias(relative_buckets(width)), -1, 0)[None]
        return lambda key: bias

    def _head(self, first: Float[Array, "B D"], key: PRNGKeyArray | None) -> Float[Array, "B C"]:
        before_pooler, before_classifier = self.config.head_rates
        pooled = self.pooler(dropout(first, before_pooler, fold(key, 0)))
        activated = ACTIVATIONS[self.config.head_activation](pooled)
        return self.classifier(dropout(activated, before_classifier, key))
