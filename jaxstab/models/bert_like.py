"""The BERT-like families as data: names of their weights, keys of their config.json, differences in arithmetic."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from jaxstab.models.encoder import RELATIVE_BUCKETS, EncoderConfig, Variant
from jaxstab.models.reading import check_choice, check_heads, check_only, read_fields
from jaxstab.models.weight_names import Entry, linear, norm

RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")


class LayerNames(NamedTuple):
    """Names in files of the parts of a BERT-like encoder layer."""

    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    intermediate: str
    output: str
    output_norm: str


BERT_LAYER = LayerNames(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    attention_output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    intermediate="intermediate.dense",
    output="output.dense",
    output_norm="output.LayerNorm",
)


@dataclass(frozen=True)
class BertLike:
    """How one family differs from BERT: in the names of its weights, in its config.json and in its arithmetic.

    Attributes:
        model_type: the family's name in config.json.
        prefix: with which the names of the encoder's weights begin.
        layer: name of a layer, after the prefix.
        parts: names of the parts of a layer, after the layer's name.
        pooler: full name of the head's first linear layer.
        classifier: full name of the head's second linear layer.
        projection: name of the embeddings' projection, after the prefix; empty without one.
        always_projected: whether the embeddings are projected even if they are as wide as the hidden states.
        keys: names in config.json that differ from ours, by our name.
        defaults: values of keys that config.json may lack, by our name.
        fixed: values that replace those of config.json, by our name.
        required: the only supported values of other keys in config.json.
        positions_after_padding: whether positions are counted from the number of the padding token.
        variant: differences in arithmetic.
    """

    model_type: str
    prefix: str
    layer: str = "encoder.layer.{layer}"
    parts: LayerNames = BERT_LAYER
    pooler: str = "classifier.dense"
    classifier: str = "classifier.out_proj"
    projection: str = ""
    always_projected: bool = False
    keys: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    required: Mapping[str, Any] = field(default_factory=dict)
    positions_after_padding: bool = False
    variant: Variant = field(default_factory=Variant)

    def read_config(self, values: Mapping[str, Any], num_labels: int, dropout: float | None) -> EncoderConfig:
        """Returns the config that config.json describes.

        Args:
            values: the contents of config.json.
            num_labels: number of the task's classes.
            dropout: replaces all dropout rates if given.

        Raises:
            InputError: config.json lacks a size, or asks for something that is not supported.
        """
        known = self._read(values)
        if not self.projection or (not self.always_projected and known["embedding_size"] == known["hidden_size"]):
            known["embedding_size"] = None
        if self.positions_after_padding:
            padding = values.get("pad_token_id")
            known["first_position"] = (1 if padding is None else padding) + 1
        if dropout is not None:
            known |= dict.fromkeys(RATES, dropout)
        own = {"num_labels": num_labels, "model_type": self.model_type, "variant": self.variant}
        config = EncoderConfig(**{**known, **own})
        check_choice(self._key("hidden_act"), config.hidden_act)
        names = self._key("hidden_size"), self._key("num_attention_heads")
        check_heads(config.hidden_size, config.num_attention_heads, names)
        return config

    def _key(self, name: str) -> str:
        return self.keys.get(name, name)

    def _read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Sizes and rates by our names."""
        for key, value in {"position_embedding_type": "absolute", **self.required}.items():
            check_only(key, values.get(key, value), value)
        given = {key: value for key, value in values.items() if value is not None}
        defaults = {self._key(name): value for name, value in self.defaults.items()}
        fixed = {self._key(name): value for name, value in self.fixed.items()}
        also = ("embedding_size",) if self.projection else ()
        return read_fields(EncoderConfig, {**defaults, **given, **fixed}, self.keys, also)

    def table(self, config: EncoderConfig) -> list[Entry]:
        """Returns a row for every parameter of a model with this config."""
        embeddings, layer = f"{self.prefix}embeddings", f"{self.prefix}{self.layer}"
        rows = [
            Entry(f"{embeddings}.word_embeddings.weight", ("embeddings", "word", "embedding")),
            Entry(f"{embeddings}.position_embeddings.weight", ("embeddings", "position", "embedding")),
        ]
        if config.type_vocab_size:
            rows += [Entry(f"{embeddings}.token_type_embeddings.weight", ("embeddings", "token_type", "embedding"))]
        rows += norm(f"{embeddings}.LayerNorm", "embeddings", "norm")
        if config.embedding_size:
            rows += linear(f"{self.prefix}{self.projection}", "embeddings", "projection")
        if config.relative_attention_num_buckets:
            name = f"{self.prefix}encoder.relative_attention_bias.weight"
            rows += [Entry(name, ("relative_attention_bias", "embedding"))]
        return [
            *rows,
            *linear(f"{layer}.{self.parts.query}", "layers", "attention", "query"),
            *linear(f"{layer}.{self.parts.key}", "layers", "attention", "key"),
            *linear(f"{layer}.{self.parts.value}", "layers", "attention", "value"),
            *linear(f"{layer}.{self.parts.attention_output}", "layers", "attention", "output"),
            *linear(f"{layer}.{self.parts.intermediate}", "layers", "intermediate"),
            *linear(f"{layer}.{self.parts.output}", "layers", "output"),
            *norm(f"{layer}.{self.parts.attention_norm}", "layers", "attention_norm"),
            *norm(f"{layer}.{self.parts.output_norm}", "layers", "output_norm"),
            *linear(self.pooler, "pooler"),
            *linear(self.classifier, "classifier"),
        ]


BERT = BertLike("bert", "bert.", pooler="bert.pooler.dense", classifier="classifier")
ROBERTA = BertLike("roberta", "roberta.", positions_after_padding=True, variant=Variant(head_dropout_first=True))
XLM_ROBERTA = replace(ROBERTA, model_type="xlm-roberta")
ELECTRA = BertLike(
    "electra",
    "electra.",
    projection="embeddings_project",
    variant=Variant(head_activation="gelu", head_dropout_first=True),
)
DISTILBERT = BertLike(
    "distilbert",
    "distilbert.",
    layer="transformer.layer.{layer}",
    parts=LayerNames(
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_output="attention.out_lin",
        attention_norm="sa_layer_norm",
        intermediate="ffn.lin1",
        output="ffn.lin2",
        output_norm="output_layer_norm",
    ),
    pooler="pre_classifier",
    classifier="classifier",
    keys={
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "classifier_dropout": "seq_classif_dropout",
    },
    defaults={"classifier_dropout": 0.2},
    fixed={"type_vocab_size": 0, "layer_norm_eps": 1e-12},
    required={"sinusoidal_pos_embds": False},
    variant=Variant(head_activation="relu", attention_output_dropout=False),
)
ALBERT = BertLike(
    "albert",
    "albert.",
    layer="encoder.albert_layer_groups.{layer}.albert_layers.0",
    parts=LayerNames(
        query="attention.query",
        key="attention.key",
        value="attention.value",
        attention_output="attention.dense",
        attention_norm="attention.LayerNorm",
        intermediate="ffn",
        output="ffn_output",
        output_norm="full_layer_layer_norm",
    ),
    pooler="albert.pooler",
    classifier="classifier",
    projection="encoder.embedding_hidden_mapping_in",
    always_projected=True,
    keys={"classifier_dropout": "classifier_dropout_prob"},
    defaults={
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": 0.1,
    },
    required={"num_hidden_groups": 1, "inner_group_num": 1},
    variant=Variant(output_dropout=False, shared_layers=True),
)
MPNET = BertLike(
    "mpnet",
    "mpnet.",
    parts=LayerNames(
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attention_output="attention.attn.o",
        attention_norm="attention.LayerNorm",
        intermediate="intermediate.dense",
        output="output.dense",
        output_norm="output.LayerNorm",
    ),
    fixed={
        "type_vocab_size": 0,
        "first_position": 2,  # does not depend on the padding token
        "classifier_dropout": None,
        "relative_attention_num_buckets": RELATIVE_BUCKETS,
    },
    required={"relative_attention_num_buckets": RELATIVE_BUCKETS},
    variant=Variant(head_dropout_first=True),
)
BERT_LIKE = (BERT, ROBERTA, XLM_ROBERTA, ELECTRA, DISTILBERT, ALBERT, MPNET)
