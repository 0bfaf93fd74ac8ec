"""A BERT sequence classifier as Flax modules, on the packed layout of `jaxstab.data.batches`.

Source: Devlin et al. (2019), with the names and the arithmetic of Hugging Face's `BertForSequenceClassification`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from jaxstab.data.batches import Batch

DROPOUT_LEVELS = 256


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes and rates, under the names of Hugging Face's `config.json`."""

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


ACTIVATIONS = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_new": jax.nn.gelu,
    "gelu_pytorch_tanh": jax.nn.gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


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


def dropout(x: Array, rate: float, key: PRNGKeyArray | None) -> Array:
    """Zeroes elements with probability `rate` and rescales the rest; without a key, returns `x`.

    Four elements share one 32-bit random word, so the rate is rounded to a multiple of 1/256 (0.1 becomes 0.1016);
    the scale is that of the rounded rate, so that the expectation of the result is exactly `x`.
    """
    dropped = round(rate * DROPOUT_LEVELS)
    if key is None or dropped == 0:
        return x
    words = jax.random.bits(key, (-(-x.size // 4),), jnp.uint32)
    levels = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[: x.size].reshape(x.shape)
    return jnp.where(levels >= dropped, x * (DROPOUT_LEVELS / (DROPOUT_LEVELS - dropped)), jnp.zeros_like(x))


def _fold(key: PRNGKeyArray | None, site: int | Array) -> PRNGKeyArray | None:
    return None if key is None else jax.random.fold_in(key, site)


class Embeddings(nnx.Module):
    """Sum of word, position and segment embeddings, normalised."""

    def __init__(self, config: EncoderConfig, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.word = nnx.Embed(config.vocab_size, config.hidden_size, rngs=rngs)
        self.position = nnx.Embed(config.max_position_embeddings, config.hidden_size, rngs=rngs)
        self.token_type = nnx.Embed(config.type_vocab_size, config.hidden_size, rngs=rngs)
        self.norm = nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, dtype=jnp.float32, rngs=rngs)
        self.rate = config.hidden_dropout_prob
        self.dtype = dtype

    def __call__(self, batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "K D"]:
        """Embeds the tokens of a batch."""
        summed = self.word(batch.input_ids) + self.token_type(batch.token_type_ids) + self.position(batch.position_ids)
        return dropout(self.norm(summed).astype(self.dtype), self.rate, key)


class Attention(nnx.Module):
    """Multi-head self-attention within each example."""

    def __init__(self, config: EncoderConfig, dtype: jnp.dtype, rngs: nnx.Rngs):
        width = config.hidden_size
        self.query = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.key = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.output = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.heads = config.num_attention_heads
        self.rate = config.attention_probs_dropout_prob

    def __call__(self, hidden: Float[Array, "K D"], batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "K D"]:
        """Attends; `key` drops attention probabilities."""

        def heads(line: Array) -> Float[Array, "B H T d"]:
            rows = batch.to_rows(line)
            return rows.reshape(*rows.shape[:2], self.heads, -1).swapaxes(1, 2)

        query, keys, values = heads(self.query(hidden)), heads(self.key(hidden)), heads(self.value(hidden))
        query = query * query.shape[-1] ** -0.5
        # Finite, so that an empty place in the batch gives uniform attention to zeros instead of NaN; added instead of
        # selected, because a sum leaves nothing to store for the backward pass.
        absent = jnp.arange(query.shape[2]) >= batch.lengths[:, None]
        bias = jnp.where(absent, jnp.finfo(jnp.float32).min, 0.0)[:, None, None, :]
        scores = jnp.einsum("bhtd,bhsd->bhts", query, keys, preferred_element_type=jnp.float32) + bias
        probabilities = dropout(jax.nn.softmax(scores).astype(values.dtype), self.rate, key)
        mixed = jnp.einsum("bhts,bhsd->bhtd", probabilities, values).swapaxes(1, 2)
        return self.output(batch.to_line(mixed.reshape(*mixed.shape[:2], -1)))


class EncoderLayer(nnx.Module):
    """Attention and feed-forward, each followed by dropout, the residual sum and LayerNorm."""

    def __init__(self, config: EncoderConfig, dtype: jnp.dtype, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.attention = Attention(config, dtype, rngs)
        self.attention_norm = nnx.LayerNorm(width, epsilon=config.layer_norm_eps, dtype=jnp.float32, rngs=rngs)
        self.intermediate = nnx.Linear(width, inner, dtype=dtype, rngs=rngs)
        self.output = nnx.Linear(inner, width, dtype=dtype, rngs=rngs)
        self.output_norm = nnx.LayerNorm(width, epsilon=config.layer_norm_eps, dtype=jnp.float32, rngs=rngs)
        self.activation = config.hidden_act
        self.rate = config.hidden_dropout_prob

    def __call__(self, hidden: Float[Array, "K D"], batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "K D"]:
        """Applies the layer; LayerNorm is computed in float32."""
        attended = self.attention(hidden, batch, _fold(key, 0))
        summed = hidden + dropout(attended, self.rate, _fold(key, 1))
        hidden = self.attention_norm(summed.astype(jnp.float32)).astype(hidden.dtype)
        transformed = self.output(ACTIVATIONS[self.activation](self.intermediate(hidden)))
        summed = hidden + dropout(transformed, self.rate, _fold(key, 2))
        return self.output_norm(summed.astype(jnp.float32)).astype(hidden.dtype)


class SequenceClassifier(nnx.Module):
    """Embeddings, a stack of layers (one set of parameters with a leading layer axis), pooler and classifier."""

    def __init__(self, config: EncoderConfig, dtype: jnp.dtype, remat: bool, rngs: nnx.Rngs):
        @nnx.split_rngs(splits=config.num_hidden_layers)
        @nnx.vmap
        def stack(rngs: nnx.Rngs) -> EncoderLayer:
            return EncoderLayer(config, dtype, rngs)

        self.embeddings = Embeddings(config, dtype, rngs)
        self.layers = stack(rngs)
        self.pooler = nnx.Linear(config.hidden_size, config.hidden_size, rngs=rngs)
        self.classifier = nnx.Linear(config.hidden_size, config.num_labels, rngs=rngs)
        self.remat = remat
        dropout_rate = config.classifier_dropout
        self.rate = config.hidden_dropout_prob if dropout_rate is None else dropout_rate

    def __call__(self, batch: Batch, key: PRNGKeyArray | None = None, all_hidden_states: bool = False) -> Outputs:
        """Classifies a batch.

        Args:
            batch: B examples in a line of K tokens.
            key: of this step's dropout; without it nothing is dropped.
            all_hidden_states: also return every hidden state.
        """
        embedded = self.embeddings(batch, _fold(key, 0))
        definition, layers = nnx.split(self.layers)

        def layer(hidden: Array, scanned: tuple[nnx.State, Array]) -> tuple[Array, tuple[Array, Array | None]]:
            params, index = scanned
            hidden = nnx.merge(definition, params)(hidden, batch, _fold(key, index + 2))
            first = jnp.take(hidden, batch.rows[:, 0], axis=0, mode="fill", fill_value=0)
            return hidden, (first.astype(jnp.float32), batch.to_rows(hidden) if all_hidden_states else None)

        body = jax.checkpoint(layer) if self.remat else layer
        depth = jax.tree.leaves(layers)[0].shape[0]
        _, (first_tokens, states) = jax.lax.scan(body, embedded, (layers, jnp.arange(depth)))
        pooled = jnp.tanh(self.pooler(first_tokens[-1]))
        logits = self.classifier(dropout(pooled, self.rate, _fold(key, 1)))
        if states is not None:
            states = jnp.concatenate([batch.to_rows(embedded)[None], states])
        return Outputs(logits, first_tokens, states)


def make_classifier(
    config: EncoderConfig, precision: str = "float32", remat: bool = False
) -> tuple[nnx.GraphDef, dict]:
    """Defines the model without allocating anything.

    Args:
        config: its sizes.
        precision: dtype of the matrix products and hidden states; parameters are float32.
        remat: recompute each layer in the backward pass.

    Returns:
        The definition, for `apply`, and the parameters' shapes as a nested dict of `jax.ShapeDtypeStruct`.
    """
    dtype = jnp.dtype(precision)
    abstract = nnx.eval_shape(lambda: SequenceClassifier(config, dtype, remat, nnx.Rngs(0)))
    definition, params = nnx.split(abstract, nnx.Param)
    return definition, nnx.to_pure_dict(params)


def apply(
    definition: nnx.GraphDef,
    params: dict,
    batch: Batch,
    key: PRNGKeyArray | None = None,
    all_hidden_states: bool = False,
) -> Outputs:
    """Runs the classifier that `make_classifier` defined, as a pure function of its parameters."""
    return nnx.merge(definition, params)(batch, key, all_hidden_states)
