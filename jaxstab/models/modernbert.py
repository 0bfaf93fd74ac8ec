"""The ModernBERT sequence classifier: rotary positions, gated feed-forward, windows of attention in most layers.

Source: Warner et al. (2024), "Smarter, Better, Faster, Longer", section 2.1; names and arithmetic of Hugging Face's
`ModernBertForSequenceClassification`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from jaxstab.data.batches import Batch
from jaxstab.errors import InputError
from jaxstab.models.attention import attend
from jaxstab.models.build import Build, Embed, LayerNorm, make_linear
from jaxstab.models.operations import activate, dropout, fold
from jaxstab.models.reading import check_choice, check_heads, check_only, read_fields
from jaxstab.models.rotary import Rope, Sight, rotate
from jaxstab.models.stack import Layered, Outputs
from jaxstab.models.weight_names import Entry, linear, norm

PREFIX = "model."
HEAD = ("head", "classifier")
FULL, SLIDING = "full_attention", "sliding_attention"
KEYS = {
    "layer_norm_eps": "norm_eps",
    "attention_probs_dropout_prob": "attention_dropout",
    "hidden_dropout_prob": "mlp_dropout",
}


@dataclass(frozen=True)
class ModernBertConfig:
    """Sizes and rates, under the names of Hugging Face's `config.json` or of BERT's.

    Attributes:
        local_attention: width of the window; a token attends to half of it on each side.
        layer_types: `full_attention` or `sliding_attention` for each layer.
        global_rope_theta: base of the rotary angles in layers with full attention.
        local_rope_theta: base of the rotary angles in layers with windows.
        embedding_dropout: dropout rate of the embeddings.
        hidden_dropout_prob: dropout rate inside the feed-forward part.
        attention_probs_dropout_prob: dropout rate of attention probabilities and of attention's output.
        classifier_dropout: dropout rate before the classifier.
        classifier_pooling: `cls` for the first token, `mean` for the mean over tokens.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    num_labels: int
    layer_types: tuple[str, ...]
    global_rope_theta: float = 160_000.0
    local_rope_theta: float = 10_000.0
    local_attention: int = 128
    hidden_activation: str = "gelu"
    classifier_activation: str = "gelu"
    classifier_pooling: str = "cls"
    attention_bias: bool = False
    mlp_bias: bool = False
    norm_bias: bool = False
    classifier_bias: bool = False
    embedding_dropout: float = 0.0
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    classifier_dropout: float = 0.0
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    model_type: str = "modernbert"

    @property
    def max_length(self) -> int:
        """Tokens of the longest example."""
        return self.max_position_embeddings


def read_config(values: Mapping[str, Any], num_labels: int, dropout: float | None) -> ModernBertConfig:
    """Returns the config that config.json describes.

    Args:
        values: the contents of config.json, with or without the newer `layer_types` and `rope_parameters`.
        num_labels: number of the task's classes.
        dropout: replaces all dropout rates if given.

    Raises:
        InputError: config.json lacks a size, or asks for something that is not supported.
    """
    period = values.get("global_attn_every_n_layers", 3)
    if period < 1:
        raise InputError(f"global_attn_every_n_layers {period}: must be 1 or more; correct it")
    types = [SLIDING if layer % period else FULL for layer in range(values.get("num_hidden_layers", 0))]
    given = {key: value for key, value in values.items() if value is not None}
    known = read_fields(ModernBertConfig, {"layer_types": types, **given}, KEYS)
    known["layer_types"] = tuple(known["layer_types"])
    known |= _thetas(values)
    if dropout is not None:
        rates = "embedding_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"
        known |= dict.fromkeys(rates, dropout)
    config = ModernBertConfig(**known, num_labels=num_labels)
    _check(config)
    return config


def _thetas(values: Mapping[str, Any]) -> dict[str, float]:
    """Bases of rotary angles, if config.json has one for each type of layer."""
    thetas = {}
    for kind, name in ((FULL, "global_rope_theta"), (SLIDING, "local_rope_theta")):
        rope = (values.get("rope_parameters") or {}).get(kind) or {}
        scaling = {**rope, **(values.get("rope_scaling") or {})}
        check_only("rope_type", scaling.get("rope_type", "default"), "default")
        if "rope_theta" in rope:
            thetas[name] = float(rope["rope_theta"])
    return thetas


def _check(config: ModernBertConfig) -> None:
    check_choice("hidden_activation", config.hidden_activation)
    check_choice("classifier_activation", config.classifier_activation)
    check_choice("classifier_pooling", config.classifier_pooling, ("cls", "mean"))
    for kind in config.layer_types:
        check_choice("layer_types", kind, (FULL, SLIDING))
    if len(config.layer_types) != config.num_hidden_layers:
        raise InputError(
            f"layer_types has {len(config.layer_types)} items, num_hidden_layers is {config.num_hidden_layers}; "
            "correct one of them"
        )
    check_heads(config.hidden_size, config.num_attention_heads)
    if config.hidden_size // config.num_attention_heads % 2:
        raise InputError(
            f"hidden_size {config.hidden_size} divided by num_attention_heads {config.num_attention_heads} is odd; "
            "rotary positions need an even number"
        )


class AttentionNormEntry(Entry):
    """The row of the LayerNorms before attention.

    The first layer has none, because the embeddings are normalised already. Its place in the stack holds a copy of the
    embeddings' LayerNorm, which has no effect.
    """

    def file_names(self, layers: int) -> list[str]:
        """Returns the names in files for each of so many layers."""
        return [f"{PREFIX}embeddings.norm.{self.file_name.rpartition('.')[2]}", *super().file_names(layers)[1:]]


def table(config: ModernBertConfig) -> list[Entry]:
    """Returns a row for every parameter of a config, with names as in a file of the whole classifier."""
    layer = f"{PREFIX}layers.{{layer}}"
    norms = 1 + config.norm_bias
    attention, mlp = 1 + config.attention_bias, 1 + config.mlp_bias
    before_attention = norm(f"{layer}.attn_norm", "layers", "attention_norm")[:norms]
    return [
        Entry(f"{PREFIX}embeddings.tok_embeddings.weight", ("embeddings", "word", "embedding")),
        *[AttentionNormEntry(*entry) for entry in before_attention],
        *linear(f"{layer}.attn.Wqkv", "layers", "attention", "qkv")[:attention],
        *linear(f"{layer}.attn.Wo", "layers", "attention", "output")[:attention],
        *norm(f"{layer}.mlp_norm", "layers", "output_norm")[:norms],
        *linear(f"{layer}.mlp.Wi", "layers", "intermediate")[:mlp],
        *linear(f"{layer}.mlp.Wo", "layers", "output")[:mlp],
        # After the norms before attention: when a file is written, the last of two rows with one name counts.
        *norm(f"{PREFIX}embeddings.norm", "embeddings", "norm")[:norms],
        *norm(f"{PREFIX}final_norm", "final_norm")[:norms],
        *linear("head.dense", "head", "dense")[: 1 + config.classifier_bias],
        *norm("head.norm", "head", "norm")[:norms],
        *linear("classifier", "classifier"),
    ]


def sights(config: ModernBertConfig, batch: Batch) -> tuple[Sight, Sight]:
    """Returns what attention knows in layers with full attention, and what it knows in layers with windows."""
    size = config.hidden_size // config.num_attention_heads
    everywhere = Rope(config.global_rope_theta).angles(batch.position_ids, size)
    nearby = Rope(config.local_rope_theta).angles(batch.position_ids, size)
    full, local = batch.owners.shape[1], config.local_attention // 2
    return Sight(everywhere, jnp.int32(full)), Sight(nearby, jnp.int32(local))


class Embeddings(nnx.Module):
    """Word embeddings, normalised."""

    def __init__(self, config: ModernBertConfig, build: Build, rngs: nnx.Rngs):
        self.word = Embed(config.vocab_size, config.hidden_size, build, rngs)
        self.norm = _make_norm(config, rngs)
        self.rate = config.embedding_dropout
        self.dtype = build.dtype

    def __call__(self, batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "R T D"]:
        """Embeds the tokens of a batch."""
        return dropout(self.norm(self.word(batch.input_ids)).astype(self.dtype), self.rate, key)


class Attention(nnx.Module):
    """Multi-head self-attention within each example, on rotary positions."""

    def __init__(self, config: ModernBertConfig, build: Build, rngs: nnx.Rngs):
        width, use_bias = config.hidden_size, config.attention_bias
        self.qkv = make_linear("qkv", width, 3 * width, build, rngs, use_bias)
        self.output = make_linear("output", width, width, build, rngs, use_bias)
        self.heads = config.num_attention_heads
        self.rate = config.attention_probs_dropout_prob
        self.implementation = build.attention

    def __call__(
        self, hidden: Float[Array, "R T D"], batch: Batch, sight: Sight, key: PRNGKeyArray | None
    ) -> Float[Array, "R T D"]:
        """Attends; `key` is for dropout of the probabilities."""
        rows, width, _ = hidden.shape
        query, keys, values = jnp.moveaxis(self.qkv(hidden).reshape(rows, width, 3, self.heads, -1), 2, 0)
        query, keys = rotate(query, sight.angles), rotate(keys, sight.angles)
        query = query * query.shape[-1] ** -0.5
        owners, rate = batch.owners, self.rate
        return self.output(attend(query, keys, values, owners, sight.window, None, key, rate, self.implementation))


class ModernBertLayer(nnx.Module):
    """Attention and a gated feed-forward part. Each is applied to the normalised hidden state and added to it."""

    def __init__(self, config: ModernBertConfig, build: Build, rngs: nnx.Rngs):
        width, inner, use_bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.attention_norm = _make_norm(config, rngs)
        self.attention = Attention(config, build, rngs)
        self.output_norm = _make_norm(config, rngs)
        self.intermediate = make_linear("intermediate", width, 2 * inner, build, rngs, use_bias)
        self.output = make_linear("output", inner, width, build, rngs, use_bias)
        self.activation = config.hidden_activation
        self.attention_rate = config.attention_probs_dropout_prob
        self.rate = config.hidden_dropout_prob
        self.lean = build.lean

    def __call__(
        self, hidden: Float[Array, "R T D"], batch: Batch, is_first: Array, sight: Sight, key: PRNGKeyArray | None
    ) -> Float[Array, "R T D"]:
        """Applies the layer; the first one has no LayerNorm before attention."""
        attended = self.attention(jnp.where(is_first, hidden, self.attention_norm(hidden)), batch, sight, fold(key, 0))
        hidden = hidden + dropout(attended, self.attention_rate, fold(key, 1))

        def activate_and_project(inner: Array) -> Array:
            active, gate = jnp.split(inner, 2, axis=-1)
            return self.output(dropout(activate(self.activation, active) * gate, self.rate, fold(key, 2)))

        last = jax.checkpoint(activate_and_project) if self.lean else activate_and_project
        return hidden + last(self.intermediate(self.output_norm(hidden)))


class Head(nnx.Module):
    """A dense layer, its activation and LayerNorm."""

    def __init__(self, config: ModernBertConfig, rngs: nnx.Rngs):
        self.dense = nnx.Linear(config.hidden_size, config.hidden_size, use_bias=config.classifier_bias, rngs=rngs)
        self.norm = _make_norm(config, rngs)
        self.activation = config.classifier_activation

    def __call__(self, pooled: Float[Array, "B D"]) -> Float[Array, "B D"]:
        """Transforms the pooled hidden state."""
        return self.norm(activate(self.activation, self.dense(pooled)))


class ModernBertClassifier(Layered):
    """Embeddings, a stack of layers, a last LayerNorm, head and classifier.

    Args:
        config: sizes and rates.
        build: choices besides the config.
        rngs: random streams for the parameters.

    Raises:
        InputError: more frozen layers than there are.
    """

    def __init__(self, config: ModernBertConfig, build: Build, rngs: nnx.Rngs):
        super().__init__(ModernBertLayer, config, build, rngs)
        self.embeddings = Embeddings(config, build, rngs)
        self.final_norm = _make_norm(config, rngs)
        self.head = Head(config, rngs)
        self.classifier = nnx.Linear(config.hidden_size, config.num_labels, rngs=rngs)

    def __call__(self, batch: Batch, key: PRNGKeyArray | None = None, all_hidden_states: bool = False) -> Outputs:
        """Classifies a batch.

        Args:
            batch: B examples in a grid.
            key: of this step's dropout; without it nothing is dropped.
            all_hidden_states: also return every hidden state; the last one is normalised.
        """
        full, sliding = sights(self.config, batch)
        is_full = jnp.asarray([kind == FULL for kind in self.config.layer_types])

        def step(layer: ModernBertLayer, hidden: Array, number: Array) -> Array:
            sight = jax.tree.map(lambda *kinds: jnp.where(is_full[number], *kinds), full, sliding)
            return layer(hidden, batch, number == 0, sight, fold(key, number + 2))

        embedded = self.embeddings(batch, fold(key, 0))
        hidden, representations, states = self.through_layers(embedded, batch, step, all_hidden_states)
        hidden = self.final_norm(hidden.astype(jnp.float32))
        first = batch.first_tokens(hidden)
        representations = representations.at[-1].set(first)
        if states is not None:
            states = states.at[-1].set(batch.by_example(hidden).astype(states.dtype))
        pooled = first if self.config.classifier_pooling == "cls" else mean_over_tokens(batch, hidden)
        dropped = dropout(self.head(pooled), self.config.classifier_dropout, fold(key, 1))
        return Outputs(self.classifier(dropped), representations, states)


def mean_over_tokens(batch: Batch, hidden: Float[Array, "R T D"]) -> Float[Array, "B D"]:
    """Averages over each example's tokens, zero for an empty place."""
    owned = (batch.owners == jnp.arange(len(batch.starts))[:, None, None]).astype(hidden.dtype)
    counts = jnp.maximum(owned.sum(axis=(1, 2)), 1)
    return jnp.einsum("brt,rtd->bd", owned, hidden) / counts[:, None]


def _make_norm(config: ModernBertConfig, rngs: nnx.Rngs) -> LayerNorm:
    return LayerNorm(config.hidden_size, config.layer_norm_eps, rngs, config.norm_bias)
