"""The Llama-like families as data: how their config.json is read, names of their weights, differences in arithmetic."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxstab.errors import InputError
from jaxstab.models.decoder import FULL, SLIDING, DecoderConfig, Variant
from jaxstab.models.reading import check_choice, check_heads, check_only, read_fields
from jaxstab.models.rotary import Rope, read_rope
from jaxstab.models.weight_names import Entry, linear

PREFIX = "model."
HEAD = ("classifier",)
KEYS = {"layer_norm_eps": "rms_norm_eps", "attention_probs_dropout_prob": "attention_dropout"}


def _full(values: Mapping[str, Any]) -> list[str]:
    """No layer has a window."""
    return [FULL] * values.get("num_hidden_layers", 0)


def _sliding(values: Mapping[str, Any]) -> list[str]:
    """Every layer has a window if there is one."""
    return _full(values) if values.get("sliding_window") is None else [SLIDING] * values.get("num_hidden_layers", 0)


def _upper_sliding(values: Mapping[str, Any]) -> list[str]:
    """The layers from `max_window_layers` on have windows, if windows are used."""
    if not values.get("use_sliding_window") or values.get("sliding_window") is None:
        return _full(values)
    first, depth = values.get("max_window_layers", 28), values.get("num_hidden_layers", 0)
    return values.get("layer_types") or [SLIDING if layer >= first else FULL for layer in range(depth)]


def _mostly_sliding(values: Mapping[str, Any]) -> list[str]:
    """All layers but every sixth have windows."""
    period, depth = values.get("sliding_window_pattern", 6), values.get("num_hidden_layers", 0)
    return values.get("layer_types") or [FULL if layer % period == 0 else SLIDING for layer in range(1, depth + 1)]


@dataclass(frozen=True)
class LlamaLike:
    """How one family differs from Llama: in its config.json and in its arithmetic. The names of weights are the same.

    Attributes:
        model_type: the family's name in config.json.
        layer_types: from config.json to the kind of attention of each layer.
        keys: names in config.json that differ from ours, by our name.
        defaults: values of keys that config.json may lack.
        required: the only supported values of other keys in config.json; null means that one.
        activations: what a name of `hidden_act`, or none, stands for, if not for itself.
        query_bias: whether queries, keys and values have biases; None where `attention_bias` says so for all.
        mlp_bias: whether config.json may give the feed-forward part biases.
        ropes_by_type: whether layers with windows have rotary positions of their own.
        variant: differences in arithmetic.
    """

    model_type: str
    layer_types: Callable[[Mapping[str, Any]], list[str]] = _full
    keys: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    required: Mapping[str, Any] = field(default_factory=dict)
    activations: Mapping[str | None, str] = field(default_factory=dict)
    query_bias: bool | None = None
    mlp_bias: bool = False
    ropes_by_type: bool = False
    variant: Variant = field(default_factory=Variant)

    def read_config(self, values: Mapping[str, Any], num_labels: int, dropout: float | None) -> DecoderConfig:
        """Returns the config that config.json describes.

        Args:
            values: the contents of config.json.
            num_labels: number of the task's classes.
            dropout: replaces the dropout rate of attention if given.

        Raises:
            InputError: config.json lacks a size, or asks for something that is not supported.
        """
        values = {key: value for key, value in {**self.defaults, **values}.items() if value is not None}
        for key, value in self.required.items():
            check_only(key, values.get(key, value), value)
        heads = values.get("num_attention_heads")
        if heads and "head_dim" not in values and "hidden_size" in values:
            check_heads(values["hidden_size"], heads)
            values["head_dim"] = values["hidden_size"] // heads
        bias = bool(values.get("attention_bias", False))
        derived = {
            "num_key_value_heads": values.get("num_key_value_heads", heads),
            "layer_types": tuple(self.layer_types(values)),
            "ropes": self._read_ropes(values),
            "query_scale": values.get("query_pre_attn_scalar", values.get("head_dim", 1)) ** -0.5,
            "query_key_value_bias": bias if self.query_bias is None else self.query_bias,
            "attention_output_bias": bias and self.query_bias is None,
            "mlp_bias": self.mlp_bias and bool(values.get("mlp_bias", False)),
            "model_type": self.model_type,
            "variant": self.variant,
        }
        if self.activations:
            values["hidden_act"] = self.activations.get(values.get("hidden_act"), values.get("hidden_act"))
        known = read_fields(DecoderConfig, values | derived, {**KEYS, **self.keys})
        if dropout is not None:
            known["attention_probs_dropout_prob"] = dropout
        config = DecoderConfig(**known, num_labels=num_labels)
        self._check(config)
        return config

    def _read_ropes(self, values: Mapping[str, Any]) -> tuple[Rope, Rope]:
        theta = values.get("rope_theta", 10_000.0)
        if not self.ropes_by_type:
            rope = read_rope(values, theta)
            return rope, rope
        local = values.get("rope_local_base_freq", 10_000.0)
        return read_rope(values, theta, FULL), read_rope(values, local, SLIDING)

    def _check(self, config: DecoderConfig) -> None:
        check_choice(self.keys.get("hidden_act", "hidden_act"), config.hidden_act)
        for kind in config.layer_types:
            check_choice("layer_types", kind, (FULL, SLIDING))
        if len(config.layer_types) != config.num_hidden_layers:
            raise InputError(
                f"layer_types has {len(config.layer_types)} items, num_hidden_layers is {config.num_hidden_layers}; "
                "correct one of them"
            )
        if SLIDING in config.layer_types and config.sliding_window is None:
            raise InputError("layer_types asks for sliding_attention without sliding_window; correct one of them")
        check_heads(
            config.num_attention_heads, config.num_key_value_heads, ("num_attention_heads", "num_key_value_heads")
        )
        if config.head_dim % 2:
            raise InputError(f"head_dim {config.head_dim} is odd; rotary positions need an even number")

    def table(self, config: DecoderConfig) -> list[Entry]:
        """Returns a row for every parameter of a config, with names as in a file of the whole classifier."""
        layer, after = f"{PREFIX}layers.{{layer}}", self.variant.norms_after
        queries, outputs, mlp = (
            1 + bias for bias in (config.query_key_value_bias, config.attention_output_bias, config.mlp_bias)
        )
        rows = [
            Entry(f"{PREFIX}embed_tokens.weight", ("embeddings", "word", "embedding")),
            self._norm(f"{layer}.input_layernorm", "layers", "attention_norm"),
            *linear(f"{layer}.self_attn.q_proj", "layers", "attention", "query")[:queries],
            *linear(f"{layer}.self_attn.k_proj", "layers", "attention", "key")[:queries],
            *linear(f"{layer}.self_attn.v_proj", "layers", "attention", "value")[:queries],
            *linear(f"{layer}.self_attn.o_proj", "layers", "attention", "output")[:outputs],
        ]
        if self.variant.query_key_norm:
            rows += [
                self._norm(f"{layer}.self_attn.q_norm", "layers", "attention", "query_norm"),
                self._norm(f"{layer}.self_attn.k_norm", "layers", "attention", "key_norm"),
            ]
        if after:
            rows += [
                self._norm(f"{layer}.post_attention_layernorm", "layers", "after_attention_norm"),
                self._norm(f"{layer}.post_feedforward_layernorm", "layers", "after_output_norm"),
            ]
        before_output = "pre_feedforward_layernorm" if after else "post_attention_layernorm"
        return [
            *rows,
            self._norm(f"{layer}.{before_output}", "layers", "output_norm"),
            *linear(f"{layer}.mlp.gate_proj", "layers", "gate")[:mlp],
            *linear(f"{layer}.mlp.up_proj", "layers", "intermediate")[:mlp],
            *linear(f"{layer}.mlp.down_proj", "layers", "output")[:mlp],
            self._norm(f"{PREFIX}norm", "final_norm"),
            Entry("score.weight", ("classifier", "kernel"), True),
        ]

    def _norm(self, file_name: str, *path: str) -> Entry:
        return Entry(f"{file_name}.weight", (*path, "gain" if self.variant.around_one else "scale"))


GEMMA_ACTIVATION = "gelu_pytorch_tanh"
LLAMA_LIKE = (
    LlamaLike("llama", defaults={"max_position_embeddings": 2048}, mlp_bias=True),
    LlamaLike("mistral", _sliding, defaults={"num_key_value_heads": 8, "sliding_window": 4096}, query_bias=False),
    LlamaLike("qwen2", _upper_sliding, defaults={"sliding_window": 4096}, query_bias=True),
    LlamaLike(
        "qwen3",
        _upper_sliding,
        defaults={"head_dim": 128, "sliding_window": 4096},
        variant=Variant(query_key_norm=True),
    ),
    LlamaLike(
        "gemma",
        defaults={"head_dim": 256},
        required={"use_bidirectional_attention": False},
        activations={None: GEMMA_ACTIVATION, "gelu": GEMMA_ACTIVATION},
        variant=Variant(around_one=True, scaled_embeddings=True),
    ),
    LlamaLike(
        "gemma3_text",
        _mostly_sliding,
        keys={"hidden_act": "hidden_activation"},
        defaults={
            "head_dim": 256,
            "hidden_activation": GEMMA_ACTIVATION,
            "query_pre_attn_scalar": 256,
            "rope_theta": 1_000_000.0,
            "sliding_window": 4096,
        },
        required={"use_bidirectional_attention": False},
        ropes_by_type=True,
        variant=Variant(query_key_norm=True, norms_after=True, around_one=True, scaled_embeddings=True),
    ),
)
