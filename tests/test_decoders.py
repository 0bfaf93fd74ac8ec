"""The families of decoders against PyTorch transformers: golden arrays, live outputs, and exported weights."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny import DECODER_SIZES, random_weights, write_checkpoint

from jaxstab.config import ModelConfig
from jaxstab.data.batches import Batch, Examples, make_batch, pack
from jaxstab.errors import InputError
from jaxstab.models.build import Adapters, Build
from jaxstab.models.families import FAMILIES, apply, family_of, make_classifier
from jaxstab.models.parameters import join_layers, merge_adapters, split_layers
from jaxstab.models.pretrained import init_head, load_encoder_config, load_pretrained, to_tensors
from jaxstab.models.rotary import Rope

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-5
PROGRAM = jax.jit(apply, static_argnums=(0, 4))

# The first two have every part of a layer between them; those that are neither are close relatives of others.
QUICK, SLOW = ("qwen2", "gemma3_text"), ("llama", "gpt2")
BY_LAYER = [
    pytest.param(
        name, marks=[pytest.mark.slow] * (name not in QUICK) + [pytest.mark.release] * (name not in QUICK + SLOW)
    )
    for name in DECODER_SIZES
]

# Further configs, compared with PyTorch live.
TODAYS_ROPE = {"rope_type": "linear", "rope_theta": 700.0, "factor": 2.0}
VARIED = {
    "llama": {
        "num_key_value_heads": None,
        "attention_bias": True,
        "mlp_bias": True,
        "head_dim": 6,
        "hidden_act": "gelu",
    },
    "mistral": {"sliding_window": None, "head_dim": None, "rope_parameters": TODAYS_ROPE},
    "qwen2": {"use_sliding_window": False, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "qwen3": {
        "attention_bias": True,
        "layer_types": ["sliding_attention", "full_attention"],
        "use_sliding_window": True,
    },
    "gemma": {"attention_bias": True, "hidden_size": 48},
    "gpt2": {"n_inner": 40, "n_head": 2, "activation_function": "relu", "layer_norm_epsilon": 1e-3},
    "gemma3_text": {"rope_scaling": None, "rope_local_base_freq": 100.0, "sliding_window": 3, "attention_bias": True},
}


def _load(directory, classes=3, dropout=None):
    config = load_encoder_config(directory, classes, ModelConfig(source=""), dropout)
    return load_pretrained(directory, config)


def _batch(inputs, packed=True) -> Batch:
    count, width = inputs["input_ids"].shape
    examples = Examples(inputs["input_ids"], inputs["token_type_ids"], inputs["lengths"], np.zeros(count, np.int32))
    steps = pack(np.arange(count)[None], inputs["lengths"], width)
    starts, rows = (steps.starts[0], int(steps.rows[0])) if packed else (width * np.arange(count), count)
    return make_batch(examples, np.arange(count), starts, rows)


def _run(config, params, batch, key=None, **options):
    definition, _ = make_classifier(config, Build(**options))
    return PROGRAM(definition, params, batch, key, True)


def _golden(name):
    golden = np.load(GOLDEN / f"{name}.npz")
    return golden, {key: golden[key] for key in ("input_ids", "token_type_ids", "lengths")}


def _torch():
    pytest.importorskip("torch")
    sys.path.insert(0, str(GOLDEN))
    import make_golden

    return make_golden


@pytest.fixture(scope="module", params=DECODER_SIZES)
def loaded(request, tmp_path_factory):
    """A tiny model of each family with its head."""
    directory = tmp_path_factory.mktemp(request.param)
    return _load(write_checkpoint(directory, DECODER_SIZES[request.param], classes=3))


@pytest.mark.parametrize("packed", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["packed", "padded"])
def test_agrees_with_pytorch_transformers(loaded, packed):
    name = loaded.config.model_type
    golden, inputs = _golden(name)
    weights = random_weights(DECODER_SIZES[name], classes=3)
    checksum = sum(float(np.abs(value).sum()) for value in weights.values())
    assert checksum == pytest.approx(float(golden["checksum"])), "numpy draws other weights: run make_golden.py"
    assert loaded.missing == ()
    batch = _batch(inputs, packed)
    assert batch.owners.shape[0] == (3 if packed else 4)  # two examples share a row
    outputs = _run(loaded.config, loaded.params, batch)
    last = golden["hidden_states"][1:, np.arange(4), inputs["lengths"] - 1]
    np.testing.assert_allclose(outputs.logits, golden["logits"], atol=TOLERANCE)
    np.testing.assert_allclose(outputs.hidden_states, golden["hidden_states"], atol=TOLERANCE)
    np.testing.assert_allclose(outputs.representations, last, atol=TOLERANCE)


@pytest.mark.parametrize("name", VARIED)
def test_agrees_with_pytorch_live(name, tmp_path):
    make_golden = _torch()
    sizes = {**DECODER_SIZES[name], **VARIED[name]}
    if "rope_parameters" in sizes:
        sizes = {key: value for key, value in sizes.items() if key not in ("rope_scaling", "rope_theta")}
    directory = write_checkpoint(tmp_path, sizes, seed=5, classes=3)
    inputs = make_golden.make_inputs(sizes["vocab_size"], seed=3)
    expected = make_golden.run_torch(directory, inputs)
    loaded = _load(directory)
    outputs = _run(loaded.config, loaded.params, _batch(inputs))
    np.testing.assert_allclose(outputs.logits, expected["logits"], atol=TOLERANCE)
    np.testing.assert_allclose(outputs.hidden_states, expected["hidden_states"], atol=TOLERANCE)


def test_written_weights_are_read_by_pytorch(loaded, tmp_path):
    make_golden = _torch()
    from transformers import AutoModelForSequenceClassification

    name = loaded.config.model_type
    tensors = to_tensors(loaded.config, loaded.params)
    weights = random_weights(DECODER_SIZES[name], classes=3)
    assert sorted(tensors) == sorted(weights)
    for key, value in weights.items():
        np.testing.assert_array_equal(tensors[key], value)
    (tmp_path / "config.json").write_text(json.dumps(DECODER_SIZES[name]))
    save_file(tensors, tmp_path / "model.safetensors")
    _, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    golden, inputs = _golden(name)
    np.testing.assert_allclose(make_golden.run_torch(tmp_path, inputs)["logits"], golden["logits"], atol=TOLERANCE)


def test_every_parameter_has_one_name(loaded):
    _, shapes = make_classifier(loaded.config)
    paths = [tuple(p.key for p in path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    table = family_of(loaded.config).table(loaded.config)
    assert sorted(paths) == sorted(entry.path for entry in table)
    assert len({entry.file_name for entry in table}) == len(table)


def test_no_token_sees_a_later_one(loaded):
    inputs = _golden(loaded.config.model_type)[1]
    changed = {**inputs, "input_ids": inputs["input_ids"].copy()}
    changed["input_ids"][:, 7:] = 4
    states, others = (_run(loaded.config, loaded.params, _batch(one)).hidden_states for one in (inputs, changed))
    np.testing.assert_array_equal(states[:, :, :7], others[:, :, :7])
    assert np.abs(states[:, 0, 7:] - others[:, 0, 7:]).max() > 0.1


@pytest.mark.parametrize("loaded", BY_LAYER, indirect=True)
def test_what_trains_differs_from_the_plain_model_in_rounding_alone(loaded):
    """Rematerialised, lean, in bfloat16, with the bottom frozen: the same numbers, and gradients for all parameters."""
    batch = _batch(_golden(loaded.config.model_type)[1])
    plain = _run(loaded.config, loaded.params, batch)
    split = split_layers(loaded.params, 1)
    for params, options in ((loaded.params, {"remat": True}), (split, {"frozen_layers": 1})):
        found = _run(loaded.config, params, batch, **options)
        np.testing.assert_allclose(found.representations, plain.representations, atol=TOLERANCE)
    jax.tree.map(np.testing.assert_array_equal, join_layers(split), loaded.params)
    low = _run(loaded.config, loaded.params, batch, dtype=jnp.bfloat16).logits
    assert 0 < np.abs(low - plain.logits).max() < 0.2


@pytest.mark.slow
def test_gradients_of_the_accelerators_program(loaded):
    batch, key = _batch(_golden(loaded.config.model_type)[1]), jax.random.key(3)

    def gradient(**options):
        definition, _ = make_classifier(loaded.config, Build(**options))
        return jax.jit(jax.grad(lambda params: jnp.sum(apply(definition, params, batch, key).logits ** 2)))

    found = gradient(lean=True, ordered=True, unroll=True)(loaded.params)
    expected = gradient(attention="automatic")(loaded.params)
    for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        scale = np.abs(other).max()
        if path[-1].key != "bias" or path[-2].key != "key":  # the softmax cancels key biases
            assert scale > 0, path
        np.testing.assert_allclose(one / (scale + 1e-3), other / (scale + 1e-3), atol=5e-5, err_msg=str(path))


@pytest.mark.parametrize("loaded", BY_LAYER, indirect=True)
def test_adapters_do_what_merged_weights_do(loaded):
    attention = ("qkv",) if loaded.config.model_type == "gpt2" else ("query", "value", "gate")
    adapters = Adapters(2, (*attention, "output"))
    _, shapes = make_classifier(loaded.config, Build(adapters=adapters))
    rng = np.random.default_rng(1)

    def filled(path, shape):
        value = loaded.params
        for key in path:
            if key.key == "lora":
                return 0.3 * rng.standard_normal(shape.shape).astype(np.float32)
            value = value[key.key]
        return value

    params = jax.tree_util.tree_map_with_path(filled, shapes)
    batch = _batch(_golden(loaded.config.model_type)[1])
    found = _run(loaded.config, params, batch, adapters=adapters).logits
    merged = merge_adapters(params, 1.0)
    assert jax.tree.structure(merged) == jax.tree.structure(loaded.params)
    np.testing.assert_allclose(found, _run(loaded.config, merged, batch).logits, atol=5e-5)


def test_the_default_targets_of_lora_exist(loaded):
    layers = make_classifier(loaded.config, Build(adapters=Adapters(2, ("query", "value"))))[1]["layers"]
    paths = [[key.key for key in path] for path, _ in jax.tree_util.tree_leaves_with_path(layers)]
    adapted = {path[-3] for path in paths if "lora" in path}
    assert adapted == ({"qkv"} if loaded.config.model_type == "gpt2" else {"query", "value"})


def test_a_pretrained_file_lacks_the_head_and_may_have_another(loaded, tmp_path):
    name = loaded.config.model_type
    family = FAMILIES[name]
    weights = random_weights(DECODER_SIZES[name])
    write_checkpoint(tmp_path, DECODER_SIZES[name])
    save_file({**weights, "lm_head.weight": np.ones((2, 2), np.float32)}, tmp_path / "model.safetensors")
    pretrained = _load(tmp_path)
    assert pretrained.missing == ("classifier",)
    head = init_head(jax.random.key(0), pretrained)
    assert head["classifier"]["kernel"].shape == (32, 3)
    assert set(head["classifier"]) == {"kernel"}
    bare = {key.removeprefix(family.prefix): value for key, value in weights.items()}
    save_file(bare, tmp_path / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, _load(tmp_path).params, pretrained.params)


@pytest.mark.parametrize("rope_type", ["default", "linear", "llama3"])
def test_frequencies_are_those_of_pytorch(rope_type):
    pytest.importorskip("torch")
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    settings = {
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    used = {"default": {}, "linear": {"factor": 4.0}, "llama3": settings}[rope_type]
    rope = {"rope_type": rope_type, "rope_theta": 500_000.0, **used}
    config = LlamaConfig(hidden_size=512, num_attention_heads=4, max_position_embeddings=131_072, rope_parameters=rope)
    expected = LlamaRotaryEmbedding(config).inv_freq.numpy()
    np.testing.assert_allclose(Rope(500_000.0, rope_type, **used).frequencies(128), expected, rtol=2e-6)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "llama",
            {"rope_scaling": {"type": "yarn", "factor": 2.0}},
            "rope_type 'yarn' is not one of default, linear, llama3",
        ),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "'llama3' without low_freq_factor, high"),
        ("llama", {"partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 0.5}}, "only 1.0"),
        ("llama", {"num_key_value_heads": 3}, "num_attention_heads 4 is no multiple of num_key_value_heads 3"),
        ("llama", {"num_attention_heads": 5}, "hidden_size 32 is no multiple of num_attention_heads 5"),
        ("llama", {"intermediate_size": None}, "incomplete, without intermediate_size"),
        ("llama", {"hidden_act": "swish9"}, "hidden_act 'swish9' is not one of gelu"),
        ("qwen3", {"head_dim": 7}, "head_dim 7 is odd"),
        ("qwen2", {"layer_types": ["full_attention"]}, "layer_types has 1 items, num_hidden_layers is 2"),
        ("gpt2", {"n_layer": None}, "incomplete, without n_layer"),
        ("gpt2", {"n_head": 3}, "n_embd 32 is no multiple of n_head 3"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True: only False"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention True: only False"),
    ],
)
def test_what_is_not_supported_is_said_in_one_line(name, changes, message, tmp_path):
    sizes = {key: value for key, value in {**DECODER_SIZES[name], **changes}.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    with pytest.raises(InputError, match=message) as failure:
        _load(tmp_path)
    assert "\n" not in str(failure.value)
    assert "config.json" in str(failure.value)
