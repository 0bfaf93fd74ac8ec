"""The DeBERTa-v2 and v3 sequence classifier: attention by content and by relative position, disentangled.

Source: He et al. (2021), "DeBERTa", section 3, and "DeBERTaV3"; names and arithmetic of Hugging Face's
`DebertaV2ForSequenceClassification`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxstab.data.batches import Batch
from jaxstab.errors import InputError
from jaxstab.models.build import Build, Embed, LayerNorm, make_linear
from jaxstab.models.encoder import Attention, EncoderConfig, EncoderLayer, SequenceClassifier
from jaxstab.models.operations import dropout, fold, look_up
from jaxstab.models.reading import check_choice, check_heads, check_only, read_fields
from jaxstab.models.weight_names import Entry, linear, norm

PREFIX = "deberta."
ATTENTION_TYPES = ("c2p", "p2c")


@dataclass(frozen=True)
class DebertaConfig(EncoderConfig):
    """Sizes and rates, under the names of Hugging Face's `config.json`.

    Attributes:
        type_vocab_size: number of segments, 0 for a model without them.
        position_biased_input: whether absolute positions are added to the embeddings.
        position_buckets: number of buckets of distances to one side; 0 for a bucket for each distance.
        max_relative_positions: all distances from this one on share a bucket.
        pos_att_type: which products with positions there are: content to position, `c2p`, position to content, `p2c`.
        share_att_key: whether relative positions are projected by the layers that project the content.
        norm_rel_ebd: `layer_norm` if the embeddings of relative positions are normalised.
        pooler_dropout: dropout rate before the head's first layer.
        pooler_hidden_act: activation after the head's first layer.
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

    @property
    def head_activation(self) -> str:
        """Between the two linear layers of the head."""
        return self.pooler_hidden_act

    @property
    def head_rates(self) -> tuple[float, float]:
        """Dropout rates before the head's first linear layer and before its second."""
        return self.pooler_dropout, super().head_rates[1]


def read_config(values: Mapping[str, Any], num_labels: int, dropout: float | None) -> DebertaConfig:
    """Returns the config that config.json describes.

    Args:
        values: the contents of config.json.
        num_labels: number of the task's classes.
        dropout: replaces all dropout rates if given.

    Raises:
        InputError: config.json lacks a size, or asks for something that is not supported.
    """
    known = read_fields(DebertaConfig, {"type_vocab_size": 0, **values}, {"classifier_dropout": "cls_dropout"})
    width, heads = known["hidden_size"], known["num_attention_heads"]
    check_heads(width, heads)
    needed = {  # what config.json says without the key, and what it must say
        "relative_attention": (False, True),
        "conv_kernel_size": (0, 0),
        "embedding_size": (width, width),
        "pooler_hidden_size": (width, width),
        "attention_head_size": (width // heads, width // heads),
    }
    for key, (default, value) in needed.items():
        check_only(key, values.get(key, default), value, "use DeBERTa-v3")
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
    """Returns a row for every parameter of a config, with names as in a file of the whole classifier."""
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
    """Our names of the linear layers before attention, by their names in files."""
    names = {"query_proj": "query", "key_proj": "key", "value_proj": "value"}
    if not config.share_att_key and "c2p" in config.pos_att_type:
        names["pos_key_proj"] = "position_key"
    if not config.share_att_key and "p2c" in config.pos_att_type:
        names["pos_query_proj"] = "position_query"
    return names


def relative_rows(config: DebertaConfig, width: int) -> Int[np.ndarray, " W"]:
    """Returns the row of the embedding for each distance of a key to the right of its query, from 1 - T to T - 1.

    Half of the buckets hold one distance each, the others are binned logarithmically, in float32 as in pre-training.

    Args:
        config: with the buckets.
        width: T, columns of a grid; W is 2 T - 1.
    """
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

    Row i of the result is columns T - 1 - i to 2 T - 2 - i of row i. They are cut out by a change of shape, which is
    cheap in both directions; the gradient of a gather is not (Dai et al., 2019, appendix B).
    """
    *batch, width, distances = scores.shape
    padded = jnp.pad(scores, [*[(0, 0)] * (len(batch) + 1), (0, 1)]).reshape(*batch, -1)
    start = width - 1
    return padded[..., start : start + width * distances].reshape(*batch, width, distances)[..., :width]


class DisentangledAttention(Attention):
    """Multi-head self-attention within each example, whose scores are the sum of up to three products.

    The products are of query and key, of query and the key's relative position (content to position), and of key and
    the query's relative position (position to content).
    """

    def __init__(self, config: DebertaConfig, build: Build, rngs: nnx.Rngs):
        super().__init__(config, build, rngs)
        width = config.hidden_size
        if not config.share_att_key and "c2p" in config.pos_att_type:
            self.position_key = make_linear("position_key", width, width, build, rngs)
        if not config.share_att_key and "p2c" in config.pos_att_type:
            self.position_query = make_linear("position_query", width, width, build, rngs)
        self.types = config.pos_att_type
        self.shared = config.share_att_key

    def __call__(  # type: ignore[override]  # relative positions are not optional here
        self,
        hidden: Float[Array, "R T D"],
        batch: Batch,
        key: PRNGKeyArray | None,
        relative: Float[Array, "W D"],
    ) -> Float[Array, "R T D"]:
        """Attends; as `Attention`, but `relative` holds an embedding for each distance."""
        query, keys, values = (self.by_head(project(hidden)) for project in (self.query, self.key, self.value))
        scale = (query.shape[-1] * (1 + len(self.types))) ** -0.5
        by_distance = partial(jnp.einsum, "rthd,whd->rhtw", preferred_element_type=jnp.float32)
        bias = jnp.float32(0)
        if "c2p" in self.types:
            project = self.key if self.shared else self.position_key
            bias += by_key(by_distance(query * scale, self.by_head(project(relative))))
        if "p2c" in self.types:
            project = self.query if self.shared else self.position_query
            by_query = by_key(by_distance(keys * scale, self.by_head(project(relative))[::-1]))
            bias += by_query.swapaxes(-1, -2)
        return self.mix(query * scale, keys, values, batch, bias, key)


class DebertaLayer(EncoderLayer):
    """An encoder layer with disentangled attention."""

    attention_type = DisentangledAttention


class DebertaClassifier(SequenceClassifier):
    """The classifier whose layers share embeddings of relative positions.

    Arguments and errors as for `SequenceClassifier`.
    """

    def __init__(self, config: DebertaConfig, build: Build, rngs: nnx.Rngs):
        super().__init__(config, build, rngs, DebertaLayer, positions=config.position_biased_input)
        self.relative = Embed(2 * config.span, config.hidden_size, build, rngs)
        if config.norm_rel_ebd == "layer_norm":
            self.relative_norm = LayerNorm(config.hidden_size, config.layer_norm_eps, rngs)

    def make_relative(self, width: int) -> Callable[[PRNGKeyArray | None], Float[Array, "W D"]]:
        """Returns the function from a layer's key to an embedding for each distance, with dropout.

        Args:
            width: columns of the grid.
        """
        positions = self.relative.embedding[...]
        if self.config.norm_rel_ebd == "layer_norm":
            positions = self.relative_norm(positions)
        positions = positions.astype(self.build.dtype)
        rows = jnp.asarray(relative_rows(self.config, width))
        rate, ordered = self.config.hidden_dropout_prob, self.build.ordered
        return lambda key: look_up(ordered, dropout(positions, rate, fold(key, 3)), rows)
