"""The GPT-2 sequence classifier: a causal decoder with learned positions, LayerNorms and biases.

Source: Radford et al. (2019), section 2.3; names and arithmetic of Hugging Face's `GPT2ForSequenceClassification`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from jaxstab.data.batches import Batch
from jaxstab.models.attention import attend
from jaxstab.models.build import Build, Embed, LayerNorm, make_linear
from jaxstab.models.operations import activate, dropout, fold
from jaxstab.models.reading import check_choice, check_heads, check_only, read_fields
from jaxstab.models.stack import Causal, Outputs
from jaxstab.models.weight_names import Entry, norm

PREFIX = "transformer."
HEAD = ("classifier",)
KEYS = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
    "hidden_act": "activation_function",
    "layer_norm_eps": "layer_norm_epsilon",
    "embedding_dropout": "embd_pdrop",
    "hidden_dropout_prob": "resid_pdrop",
    "attention_probs_dropout_prob": "attn_pdrop",
}
REQUIRED = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}


@dataclass(frozen=True)
class GPT2Config:
    """Sizes and rates, under BERT's names.

    Attributes:
        embedding_dropout: dropout rate of the embeddings.
        hidden_dropout_prob: dropout rate of what attention and the feed-forward part add.
        attention_probs_dropout_prob: dropout rate of attention probabilities.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    num_labels: int
    hidden_act: str = "gelu_new"
    embedding_dropout: float = 0.1
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    model_type: str = "gpt2"

    @property
    def max_length(self) -> int:
        """Tokens of the longest example."""
        return self.max_position_embeddings


def read_config(values: Mapping[str, Any], num_labels: int, dropout: float | None) -> GPT2Config:
    """Returns the config that config.json describes.

    Args:
        values: the contents of config.json.
        num_labels: number of the task's classes.
        dropout: replaces all dropout rates if given.

    Raises:
        InputError: config.json lacks a size, or asks for something that is not supported.
    """
    for key, value in REQUIRED.items():
        check_only(key, values.get(key, value), value)
    given = {key: value for key, value in values.items() if value is not None}
    known = read_fields(GPT2Config, {"n_inner": 4 * given.get("n_embd", 0)} | given, KEYS)
    if dropout is not None:
        known |= dict.fromkeys(("embedding_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob"), dropout)
    config = GPT2Config(**known, num_labels=num_labels)
    check_choice("activation_function", config.hidden_act)
    check_heads(config.hidden_size, config.num_attention_heads, ("n_embd", "n_head"))
    return config


def _linear(file_name: str, *path: str) -> list[Entry]:
    """The rows of a linear layer; GPT-2's files hold kernels as Flax does, [in, out]."""
    return [Entry(f"{file_name}.weight", (*path, "kernel")), Entry(f"{file_name}.bias", (*path, "bias"))]


def table(config: GPT2Config) -> list[Entry]:
    """Returns a row for every parameter of a config, with names as in a file of the whole classifier."""
    layer = f"{PREFIX}h.{{layer}}"
    return [
        Entry(f"{PREFIX}wte.weight", ("embeddings", "word", "embedding")),
        Entry(f"{PREFIX}wpe.weight", ("embeddings", "position", "embedding")),
        *norm(f"{layer}.ln_1", "layers", "attention_norm"),
        *_linear(f"{layer}.attn.c_attn", "layers", "attention", "qkv"),
        *_linear(f"{layer}.attn.c_proj", "layers", "attention", "output"),
        *norm(f"{layer}.ln_2", "layers", "output_norm"),
        *_linear(f"{layer}.mlp.c_fc", "layers", "intermediate"),
        *_linear(f"{layer}.mlp.c_proj", "layers", "output"),
        *norm(f"{PREFIX}ln_f", "final_norm"),
        Entry("score.weight", ("classifier", "kernel"), True),
    ]


class Embeddings(nnx.Module):
    """Sum of the embeddings of words and positions."""

    def __init__(self, config: GPT2Config, build: Build, rngs: nnx.Rngs):
        self.word = Embed(config.vocab_size, config.hidden_size, build, rngs)
        self.position = Embed(config.max_position_embeddings, config.hidden_size, build, rngs)
        self.rate = config.embedding_dropout
        self.dtype = build.dtype

    def __call__(self, batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "R T D"]:
        """Embeds the tokens of a batch."""
        summed = self.word(batch.input_ids) + self.position(batch.position_ids)
        return dropout(summed.astype(self.dtype), self.rate, key)


class Attention(nnx.Module):
    """Causal multi-head self-attention within each example."""

    def __init__(self, config: GPT2Config, build: Build, rngs: nnx.Rngs):
        width = config.hidden_size
        self.qkv = make_linear("qkv", width, 3 * width, build, rngs)
        self.output = make_linear("output", width, width, build, rngs)
        self.heads = config.num_attention_heads
        self.rate = config.attention_probs_dropout_prob
        self.implementation = build.attention

    def __call__(self, hidden: Float[Array, "R T D"], batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "R T D"]:
        """Attends; `key` is for dropout of the probabilities."""
        rows, width, _ = hidden.shape
        query, keys, values = jnp.moveaxis(self.qkv(hidden).reshape(rows, width, 3, self.heads, -1), 2, 0)
        query = query * query.shape[-1] ** -0.5
        owners, rate = batch.owners, self.rate
        return self.output(attend(query, keys, values, owners, None, None, key, rate, self.implementation, causal=True))


class GPT2Layer(nnx.Module):
    """Attention and feed-forward. Each is applied to the normalised hidden state, and added to it after dropout."""

    def __init__(self, config: GPT2Config, build: Build, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.attention_norm = LayerNorm(width, config.layer_norm_eps, rngs)
        self.attention = Attention(config, build, rngs)
        self.output_norm = LayerNorm(width, config.layer_norm_eps, rngs)
        self.intermediate = make_linear("intermediate", width, inner, build, rngs)
        self.output = make_linear("output", inner, width, build, rngs)
        self.activation = config.hidden_act
        self.rate = config.hidden_dropout_prob
        self.lean = build.lean

    def __call__(self, hidden: Float[Array, "R T D"], batch: Batch, key: PRNGKeyArray | None) -> Float[Array, "R T D"]:
        """Applies the layer."""
        attended = self.attention(self.attention_norm(hidden), batch, fold(key, 0))
        hidden = hidden + dropout(attended, self.rate, fold(key, 1))

        def activate_and_project(inner: Array) -> Array:
            return self.output(activate(self.activation, inner))

        last = jax.checkpoint(activate_and_project) if self.lean else activate_and_project
        return hidden + dropout(last(self.intermediate(self.output_norm(hidden))), self.rate, fold(key, 2))


class GPT2Classifier(Causal):
    """Embeddings, a stack of layers, a last LayerNorm, and a classifier without bias.

    Args:
        config: sizes and rates.
        build: choices besides the config.
        rngs: random streams for the parameters.

    Raises:
        InputError: more frozen layers than there are.
    """

    def __init__(self, config: GPT2Config, build: Build, rngs: nnx.Rngs):
        super().__init__(GPT2Layer, config, build, rngs)
        self.embeddings = Embeddings(config, build, rngs)
        self.final_norm = LayerNorm(config.hidden_size, config.layer_norm_eps, rngs)
        self.classifier = nnx.Linear(config.hidden_size, config.num_labels, use_bias=False, rngs=rngs)

    def __call__(self, batch: Batch, key: PRNGKeyArray | None = None, all_hidden_states: bool = False) -> Outputs:
        """Classifies a batch; arguments as for the other families."""

        def step(layer: GPT2Layer, hidden: Array, number: Array) -> Array:
            return layer(hidden, batch, fold(key, number + 2))

        embedded = self.embeddings(batch, fold(key, 0))
        return self.read_last(self.through_layers(embedded, batch, step, all_hidden_states), batch)
