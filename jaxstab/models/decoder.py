"""The Llama-like sequence classifier as Flax modules, on the packed layout of `jaxstab.data.batches`.

Llama, Mistral, Qwen2, Qwen3, Gemma and Gemma 3 differ in data alone: sizes are in `DecoderConfig`, the rest is in
`Variant`. How each family's files are read is in `jaxstab.models.llama_like`.

Source: Touvron et al. (2023), section 2.2, with the names and the arithmetic of Hugging Face's
`*ForSequenceClassification`, which reads the last token of each example.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from jaxstab.data.batches import Batch
from jaxstab.models.attention import attend
from jaxstab.models.build import Build, Embed, RMSNorm, make_linear
from jaxstab.models.operations import activate, fold
from jaxstab.models.rotary import Rope, Sight, rotate
from jaxstab.models.stack import Causal, Outputs

FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class Variant:
    """How a family's arithmetic differs from Llama's.

    Attributes:
        query_key_norm: whether queries and keys are normalised, each head by itself.
        norms_after: whether the results of attention and of the feed-forward part are normalised too.
        around_one: whether the norms' parameters are added to a scale of 1.
        scaled_embeddings: whether embeddings are multiplied by the square root of their width.
    """

    query_key_norm: bool = False
    norms_after: bool = False
    around_one: bool = False
    scaled_embeddings: bool = False


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and rates, under the names of Hugging Face's `config.json` or of BERT's.

    Attributes:
        num_key_value_heads: keys and values have so many heads; each serves several heads of queries.
        head_dim: number of features of a head.
        layer_types: `full_attention` or `sliding_attention` for each layer.
        ropes: rotary positions of layers with full attention, and of those with windows.
        sliding_window: how many tokens, itself included, a token attends to in layers with windows.
        query_key_value_bias: whether queries, keys and values have biases.
        attention_output_bias: whether attention's output has one.
        query_scale: factor on the scores of attention.
        layer_norm_eps: added to the mean square in norms.
        attention_probs_dropout_prob: dropout rate of attention probabilities; there is no other dropout.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int
    num_labels: int
    layer_types: tuple[str, ...]
    ropes: tuple[Rope, Rope]
    query_scale: float
    sliding_window: int | None = None
    hidden_act: str = "silu"
    query_key_value_bias: bool = False
    attention_output_bias: bool = False
    mlp_bias: bool = False
    attention_probs_dropout_prob: float = 0.0
    layer_norm_eps: float = 1e-6
    initializer_range: float = 0.02
    model_type: str = "llama"
    variant: Variant = Variant()

    @property
    def max_length(self) -> int:
        """Tokens of the longest example."""
        return self.max_position_embeddings


def sights(config: DecoderConfig, batch: Batch) -> tuple[Sight, Sight]:
    """Returns what attention knows in layers with full attention, and what it knows in layers with windows."""
    width = batch.owners.shape[1]
    everywhere, nearby = (rope.angles(batch.position_ids, config.head_dim) for rope in config.ropes)
    window = width if config.sliding_window is None else config.sliding_window - 1
    return Sight(everywhere, jnp.int32(width)), Sight(nearby, jnp.int32(window))


class Attention(nnx.Module):
    """Causal self-attention within each example, on rotary positions; heads of queries share keys and values."""

    def __init__(self, config: DecoderConfig, build: Build, rngs: nnx.Rngs):
        width, use_bias = config.hidden_size, config.query_key_value_bias
        queries, keys = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
        self.query = make_linear("query", width, queries, build, rngs, use_bias)
        self.key = make_linear("key", width, keys, build, rngs, use_bias)
        self.value = make_linear("value", width, keys, build, rngs, use_bias)
        self.output = make_linear("output", queries, width, build, rngs, config.attention_output_bias)
        if config.variant.query_key_norm:
            self.query_norm = RMSNorm(config.head_dim, config.layer_norm_eps, config.variant.around_one)
            self.key_norm = RMSNorm(config.head_dim, config.layer_norm_eps, config.variant.around_one)
        self.config = config
        self.implementation = build.attention

    def __call__(
        self, hidden: Float[Array, "R T D"], batch: Batch, sight: Sight, key: PRNGKeyArray | None
    ) -> Float[Array, "R T D"]:
        """Attends; `key` is for dropout of the probabilities."""
        config = self.config
        by_head = (*hidden.shape[:2], -1, config.head_dim)
        query, keys, values = (project(hidden).reshape(by_head) for project in (self.query, self.key, self.value))
        if config.variant.query_key_norm:
            query, keys = self.query_norm(query), self.key_norm(keys)
        query, keys = rotate(query, sight.angles) * config.query_scale, rotate(keys, sight.angles)
        shared_by = config.num_attention_heads // config.num_key_value_heads
        keys, values = (jnp.repeat(one, shared_by, axis=2) for one in (keys, values))
        rate, owners = config.attention_probs_dropout_prob, batch.owners
        mixed = attend(query, keys, values, owners, sight.window, None, key, rate, self.implementation, causal=True)
        return self.output(mixed)


class DecoderLayer(nnx.Module):
    """Attention and a gated feed-forward part. Each is applied to the normalised hidden state and added to it."""

    def __init__(self, config: DecoderConfig, build: Build, rngs: nnx.Rngs):
        width, inner, use_bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.attention_norm = _make_norm(config)
        self.attention = Attention(config, build, rngs)
        self.output_norm = _make_norm(config)
        self.gate = make_linear("gate", width, inner, build, rngs, use_bias)
        self.intermediate = make_linear("intermediate", width, inner, build, rngs, use_bias)
        self.output = make_linear("output", inner, width, build, rngs, use_bias)
        if config.variant.norms_after:
            self.after_attention_norm = _make_norm(config)
            self.after_output_norm = _make_norm(config)
        self.norms_after = config.variant.norms_after
        self.activation = config.hidden_act
        self.lean = build.lean

    def __call__(
        self, hidden: Float[Array, "R T D"], batch: Batch, sight: Sight, key: PRNGKeyArray | None
    ) -> Float[Array, "R T D"]:
        """Applies the layer."""
        attended = self.attention(self.attention_norm(hidden), batch, sight, key)
        hidden = hidden + (self.after_attention_norm(attended) if self.norms_after else attended)
        transformed = self.feed_forward(self.output_norm(hidden))
        return hidden + (self.after_output_norm(transformed) if self.norms_after else transformed)

    def feed_forward(self, hidden: Float[Array, "R T D"]) -> Float[Array, "R T D"]:
        """The feed-forward part; for its backward pass a lean build keeps only what products return."""

        def activate_and_project(gate: Array, inner: Array) -> Array:
            return self.output(activate(self.activation, gate) * inner)

        last = jax.checkpoint(activate_and_project) if self.lean else activate_and_project
        return last(self.gate(hidden), self.intermediate(hidden))


class Embeddings(nnx.Module):
    """Word embeddings."""

    def __init__(self, config: DecoderConfig, build: Build, rngs: nnx.Rngs):
        self.word = Embed(config.vocab_size, config.hidden_size, build, rngs)
        self.scale = config.hidden_size**0.5 if config.variant.scaled_embeddings else 1.0
        self.dtype = build.dtype

    def __call__(self, batch: Batch) -> Float[Array, "R T D"]:
        """Embeds the tokens of a batch."""
        return (self.word(batch.input_ids) * self.scale).astype(self.dtype)


class DecoderClassifier(Causal):
    """Embeddings, a stack of layers, a last norm, and a classifier without bias.

    Args:
        config: sizes and rates.
        build: choices besides the config.
        rngs: random streams for the parameters.

    Raises:
        InputError: more frozen layers than there are.
    """

    def __init__(self, config: DecoderConfig, build: Build, rngs: nnx.Rngs):
        super().__init__(DecoderLayer, config, build, rngs)
        self.embeddings = Embeddings(config, build, rngs)
        self.final_norm = _make_norm(config)
        self.classifier = nnx.Linear(config.hidden_size, config.num_labels, use_bias=False, rngs=rngs)

    def __call__(self, batch: Batch, key: PRNGKeyArray | None = None, all_hidden_states: bool = False) -> Outputs:
        """Classifies a batch.

        Args:
            batch: B examples in a grid.
            key: of this step's dropout; without it nothing is dropped.
            all_hidden_states: also return every hidden state; the last one is normalised.
        """
        full, sliding = sights(self.config, batch)
        is_full = jnp.asarray([kind == FULL for kind in self.config.layer_types])

        def step(layer: DecoderLayer, hidden: Array, number: Array) -> Array:
            sight = jax.tree.map(lambda *kinds: jnp.where(is_full[number], *kinds), full, sliding)
            return layer(hidden, batch, sight, fold(key, number + 2))

        return self.read_last(self.through_layers(self.embeddings(batch), batch, step, all_hidden_states), batch)


def _make_norm(config: DecoderConfig) -> RMSNorm:
    return RMSNorm(config.hidden_size, config.layer_norm_eps, config.variant.around_one)
