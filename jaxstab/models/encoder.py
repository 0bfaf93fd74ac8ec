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
from jaxstab.models.operations import activate, attend, dropout, random_levels


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


class Embeddings(nnx.Module):
    """Sum of word, position and segment embeddings, normalised."""

    def __init__(self, config: EncoderConfig, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.word = nnx.Embed(config.vocab_size, config.hidden_size, rngs=rngs)
        self.position = nnx.Embed(config.max_position_embeddings, config.hidden_size, rngs=rngs)
        self.token_type = nnx.Embed(config.type_vocab_size, config.hidden_size, rngs=rngs)
        self.norm = nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, dtype=jnp.float32, rngs=rngs)
        self.rate = config.hidden_dropout_prob
        self.dtype = dtype

    def __call__(self, batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "R T D"]:
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

    def __call__(self, hidden: Float[Array, "R T D"], batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "R T D"]:
        """Attends; `key` drops attention probabilities."""

        def heads(grid: Array) -> Float[Array, "R H T d"]:
            return grid.reshape(*grid.shape[:2], self.heads, -1).swapaxes(1, 2)

        query, keys, values = heads(self.query(hidden)), heads(self.key(hidden)), heads(self.value(hidden))
        # Finite, so that no row of scores is empty; where there is no token, the others like it are attended to.
        other = batch.owners[:, None, :, None] != batch.owners[:, None, None, :]
        bias = jnp.where(other, jnp.finfo(jnp.float32).min, 0.0)
        width = query.shape[2]
        rate, levels = 0.0, None
        if key is not None:
            rate, levels = self.rate, random_levels(key, (*query.shape[:2], width, width))
        return self.output(attend(query * query.shape[-1] ** -0.5, keys, values, bias, levels, rate))


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

    def __call__(self, hidden: Float[Array, "R T D"], batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "R T D"]:
        """Applies the layer; LayerNorm is computed in float32."""
        attended = self.attention(hidden, batch, _fold(key, 0))
        summed = hidden + dropout(attended, self.rate, _fold(key, 1))
        hidden = self.attention_norm(summed.astype(jnp.float32)).astype(hidden.dtype)
        transformed = self.output(activate(self.activation, self.intermediate(hidden)))
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
            batch: B examples in a grid.
            key: of this step's dropout; without it nothing is dropped.
            all_hidden_states: also return every hidden state.
        """
        embedded = self.embeddings(batch, _fold(key, 0))
        definition, layers = nnx.split(self.layers)

        def layer(hidden: Array, scanned: tuple[nnx.State, Array]) -> tuple[Array, tuple[Array, Array | None]]:
            params, index = scanned
            hidden = nnx.merge(definition, params)(hidden, batch, _fold(key, index + 2))
            first = batch.first_tokens(hidden).astype(jnp.float32)
            return hidden, (first, batch.by_example(hidden) if all_hidden_states else None)

        body = jax.checkpoint(layer) if self.remat else layer
        depth = jax.tree.leaves(layers)[0].shape[0]
        _, (first_tokens, states) = jax.lax.scan(body, embedded, (layers, jnp.arange(depth)))
        pooled = jnp.tanh(self.pooler(first_tokens[-1]))
        logits = self.classifier(dropout(pooled, self.rate, _fold(key, 1)))
        if states is not None:
            states = jnp.concatenate([batch.by_example(embedded)[None], states])
        return Outputs(logits, first_tokens, states)


@dataclass(frozen=True)
class Adapters:
    """Low-rank adapters."""

    rank: int
    targets: tuple[str, ...]


def make_classifier(
    config: EncoderConfig,
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

    Returns:
        The definition, for `apply`, and the parameters' shapes as a nested dict of `jax.ShapeDtypeStruct`.
    """
    dtype = jnp.dtype("bfloat16" if precision == "bfloat16" else "float32")
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
