"""Every family against PyTorch transformers: golden arrays, live outputs, and exported weights."""

import json
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny import FAMILY_SIZES, random_weights, write_checkpoint

from jaxstab.config import ModelConfig
from jaxstab.data.batches import Batch, Examples, make_batch, pack
from jaxstab.errors import InputError
from jaxstab.models.build import Adapters, Build
from jaxstab.models.encoder import relative_buckets
from jaxstab.models.families import FAMILIES, apply, family_of, make_classifier
from jaxstab.models.parameters import join_layers, merge_adapters, split_layers
from jaxstab.models.pretrained import init_head, load_encoder_config, load_pretrained, to_tensors

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-5
OTHERS = [name for name in FAMILY_SIZES if name != "bert"]

# All tests share compiled programs: one for each definition and batch shape, with and without dropout.
PROGRAM = jax.jit(apply, static_argnums=(0, 4))

# These families have BERT's layers. Tests about layers alone run with them only in the complete test run.
LIKE_BERT = ("roberta", "xlm-roberta", "electra", "distilbert")
BY_LAYER = [pytest.param(name, marks=pytest.mark.slow) if name in LIKE_BERT else name for name in FAMILY_SIZES]

# Further configs, compared with PyTorch live.
VARIED = {
    "roberta": {"num_hidden_layers": 1, "pad_token_id": 3, "hidden_act": "gelu_new", "max_position_embeddings": 20},
    "xlm-roberta": {"hidden_size": 24, "num_attention_heads": 3, "type_vocab_size": 2},
    "electra": {"embedding_size": 32, "intermediate_size": 40, "hidden_act": "relu"},
    "distilbert": {"dim": 24, "n_heads": 2, "n_layers": 3, "hidden_dim": 40, "activation": "relu"},
    "albert": {"embedding_size": 32, "num_hidden_layers": 4, "hidden_act": "gelu"},
    "mpnet": {"num_attention_heads": 2, "layer_norm_eps": 1e-5},
    "modernbert": {"classifier_pooling": "mean", "norm_bias": True, "attention_bias": True, "mlp_bias": True},
    "deberta-v2": {"share_att_key": False, "position_buckets": 4, "norm_rel_ebd": "none", "num_hidden_layers": 3},
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


def _inputs(name="roberta"):
    golden = np.load(GOLDEN / f"{name}.npz")
    return {key: golden[key] for key in ("input_ids", "token_type_ids", "lengths")}


def _torch():
    pytest.importorskip("torch")
    sys.path.insert(0, str(GOLDEN))
    import make_golden

    return make_golden


@pytest.fixture(scope="module", params=FAMILY_SIZES)
def loaded(request, tmp_path_factory):
    """A tiny model of each family with its complete head."""
    directory = tmp_path_factory.mktemp(request.param)
    return _load(write_checkpoint(directory, FAMILY_SIZES[request.param], classes=3))


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("name", OTHERS)
def test_agrees_with_pytorch_transformers(name, packed, tmp_path):
    golden = np.load(GOLDEN / f"{name}.npz")
    weights = random_weights(FAMILY_SIZES[name], classes=3)
    checksum = sum(float(np.abs(value).sum()) for value in weights.values())
    assert checksum == pytest.approx(float(golden["checksum"])), "numpy draws other weights: run make_golden.py"
    loaded = _load(write_checkpoint(tmp_path, FAMILY_SIZES[name], classes=3))
    assert loaded.missing == ()
    outputs = _run(loaded.config, loaded.params, _batch(_inputs(name), packed))
    np.testing.assert_allclose(outputs.logits, golden["logits"], atol=TOLERANCE)
    np.testing.assert_allclose(outputs.hidden_states, golden["hidden_states"], atol=TOLERANCE)
    np.testing.assert_allclose(outputs.representations, golden["hidden_states"][1:, :, 0], atol=TOLERANCE)


@pytest.mark.parametrize("name", VARIED)
def test_agrees_with_pytorch_live(name, tmp_path):
    make_golden = _torch()
    sizes = {**FAMILY_SIZES[name], **VARIED[name]}
    directory = write_checkpoint(tmp_path, sizes, seed=5, classes=3)
    inputs = make_golden.make_inputs(sizes["vocab_size"], seed=3)
    expected = make_golden.run_torch(directory, inputs)
    loaded = _load(directory)
    outputs = _run(loaded.config, loaded.params, _batch(inputs))
    np.testing.assert_allclose(outputs.logits, expected["logits"], atol=TOLERANCE)
    np.testing.assert_allclose(outputs.hidden_states, expected["hidden_states"], atol=TOLERANCE)


def test_distances_fall_into_the_buckets_of_pytorch():
    pytest.importorskip("torch")
    import torch
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    distance = torch.arange(520)[None, :] - torch.arange(520)[:, None]
    np.testing.assert_array_equal(relative_buckets(520), MPNetEncoder.relative_position_bucket(distance).numpy())


def test_written_weights_are_read_by_pytorch(loaded, tmp_path):
    make_golden = _torch()
    from transformers import AutoModelForSequenceClassification

    name = loaded.config.model_type
    tensors = to_tensors(loaded.config, loaded.params)
    assert all(value.dtype == np.float32 for value in tensors.values())
    (tmp_path / "config.json").write_text(json.dumps(FAMILY_SIZES[name]))
    save_file(tensors, tmp_path / "model.safetensors")
    _, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    if name != "bert":  # BERT's head is replaced there
        expected = make_golden.run_torch(tmp_path, _inputs())["logits"]
        np.testing.assert_allclose(
            _run(loaded.config, loaded.params, _batch(_inputs())).logits, expected, atol=TOLERANCE
        )


def test_weights_written_and_read_are_the_same(loaded):
    name = loaded.config.model_type
    weights = random_weights(FAMILY_SIZES[name], classes=3)
    written = to_tensors(loaded.config, loaded.params)
    assert sorted(written) == sorted(weights)
    for key, value in weights.items():
        np.testing.assert_array_equal(written[key], value)


def test_every_parameter_has_one_name(loaded):
    _, shapes = make_classifier(loaded.config)
    paths = [tuple(p.key for p in path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    table = family_of(loaded.config).table(loaded.config)
    assert sorted(paths) == sorted(entry.path for entry in table)
    assert len({entry.file_name for entry in table}) == len(table)


@pytest.mark.slow
def test_gradients_are_finite_and_reach_every_parameter(loaded):
    definition, _ = make_classifier(loaded.config)
    batch = _batch(_inputs())
    key = jax.random.key(0)

    def loss(params):
        return (apply(definition, params, batch, key).logits ** 2).sum()

    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(loaded.params)):
        assert np.isfinite(leaf).all(), path
        if path[-1].key != "bias" or path[-2].key != "key":  # the softmax cancels key biases
            assert np.abs(leaf).max() > 0, path


def test_the_gradient_of_the_relative_bias_is_that_of_differences(tmp_path):
    loaded = _load(write_checkpoint(tmp_path, FAMILY_SIZES["mpnet"], classes=3))
    definition, _ = make_classifier(loaded.config)
    batch = _batch(_inputs())

    @jax.jit
    def loss(bias):
        params = {**loaded.params, "relative_attention_bias": {"embedding": bias}}
        return (apply(definition, params, batch).logits ** 2).sum()

    bias = loaded.params["relative_attention_bias"]["embedding"]
    direction = np.random.default_rng(0).standard_normal(bias.shape).astype(np.float32)
    found = float((jax.grad(loss)(bias) * direction).sum())
    step = np.float32(0.02)
    expected = float(loss(bias + step * direction) - loss(bias - step * direction)) / (2 * float(step))
    assert found == pytest.approx(expected, rel=0.02)


def test_bfloat16_and_rematerialisation(loaded):
    batch = _batch(_inputs())
    plain = _run(loaded.config, loaded.params, batch).logits
    np.testing.assert_allclose(_run(loaded.config, loaded.params, batch, remat=True).logits, plain, atol=1e-6)
    low = _run(loaded.config, loaded.params, batch, dtype=jnp.bfloat16).logits
    assert 0 < np.abs(low - plain).max() < 0.1


@pytest.mark.slow
def test_what_accelerators_train_is_the_same_but_adds_nothing_in_random_order(loaded):
    """With dropout and packed rows: the gradients of a lean, ordered and unrolled model are those of a plain one."""
    batch, key = _batch(_inputs()), jax.random.key(3)

    def gradient(**options):
        definition, _ = make_classifier(loaded.config, Build(**options))
        return jax.jit(jax.grad(lambda params: jnp.sum(apply(definition, params, batch, key).logits ** 2)))

    accelerator = gradient(lean=True, ordered=True, unroll=True)
    found, expected = accelerator(loaded.params), gradient()(loaded.params)
    for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        scale = np.abs(other).max() + 1e-3
        np.testing.assert_allclose(one / scale, other / scale, atol=2e-5, err_msg=jax.tree_util.keystr(path))
    text = accelerator.lower(loaded.params).as_text()
    scatters = re.findall(r'"stablehlo.scatter".*?unique_indices = (true|false)', text)
    assert set(scatters) <= {"true"}


def test_the_record_chooses_the_implementation_of_attention(loaded):
    def written_out(name):
        definition, _ = make_classifier(loaded.config, Build(attention=name))
        program = jax.make_jaxpr(lambda params: apply(definition, params, _batch(_inputs())))(loaded.params)
        return str(program).count("custom_vjp_call")

    assert written_out("reference") == written_out("automatic") + 1
    with pytest.raises(InputError, match="attention 'flash' is not one of"):
        written_out("flash")


def test_a_pretrained_file_lacks_the_head_and_has_other_weights(loaded, tmp_path):
    name = loaded.config.model_type
    sizes = FAMILY_SIZES[name]
    own = "pooler" if name in ("bert", "albert") else None
    weights = random_weights(sizes, pooler=own is not None)
    extra = {
        "lm_head.dense.weight": np.ones((2, 2), np.float32),
        "discriminator_predictions.dense.weight": np.ones((2, 2), np.float32),
        f"{FAMILIES[name].prefix}embeddings.position_ids": np.arange(4)[None],
    }
    write_checkpoint(tmp_path, sizes)
    save_file({**weights, **extra}, tmp_path / "model.safetensors")
    pretrained = _load(tmp_path)
    assert pretrained.missing == (("classifier",) if own else FAMILIES[name].head)
    head = init_head(jax.random.key(0), pretrained)
    assert sorted(head) == sorted(pretrained.missing)
    assert head["classifier"]["kernel"].shape == (32, 3)
    for path, leaf in jax.tree_util.tree_leaves_with_path(head):
        if path[-1].key != "kernel":
            np.testing.assert_array_equal(leaf, path[-1].key == "scale")
    bare = {key.removeprefix(FAMILIES[name].prefix): value for key, value in weights.items()}
    save_file(bare, tmp_path / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, _load(tmp_path).params, pretrained.params)


def test_a_missing_weight_of_the_encoder_is_named(loaded, tmp_path):
    name = loaded.config.model_type
    write_checkpoint(tmp_path, FAMILY_SIZES[name])
    weights = random_weights(FAMILY_SIZES[name])
    gone = sorted(key for key in weights if re.search("(word|tok)_embeddings", key))[0]
    save_file({key: value for key, value in weights.items() if key != gone}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=f"weight {gone} is missing"):
        _load(tmp_path)


def test_the_dropout_of_a_config_sets_all_rates(loaded, tmp_path):
    directory = write_checkpoint(tmp_path, FAMILY_SIZES[loaded.config.model_type])
    config = load_encoder_config(directory, 3, ModelConfig(source=""), 0.3)
    rates = config.hidden_dropout_prob, config.attention_probs_dropout_prob, config.classifier_dropout
    assert rates == (0.3, 0.3, 0.3)
    assert config.max_length == 24 - (2 if config.model_type in ("roberta", "xlm-roberta", "mpnet") else 0)


def test_rates_of_other_names_are_read():
    sizes = {**FAMILY_SIZES["distilbert"], "dropout": 0.4, "attention_dropout": 0.5, "activation": "relu"}
    config = FAMILIES["distilbert"].read_config(sizes, 2, None)
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.4, 0.5)
    assert (config.classifier_dropout, config.hidden_act, config.layer_norm_eps) == (0.2, "relu", 1e-12)
    albert = FAMILIES["albert"].read_config({**FAMILY_SIZES["albert"], "classifier_dropout_prob": 0.6}, 2, None)
    assert albert.classifier_dropout == 0.6


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("albert", {"num_hidden_groups": 2}, "num_hidden_groups 2: only 1 is supported"),
        ("albert", {"inner_group_num": 2}, "inner_group_num 2: only 1"),
        ("mpnet", {"relative_attention_num_buckets": 64}, "relative_attention_num_buckets 64: only 32"),
        ("distilbert", {"sinusoidal_pos_embds": True}, "sinusoidal_pos_embds True: only False"),
        ("distilbert", {"activation": "swish9"}, "activation 'swish9' is not one of gelu"),
        ("xlm-roberta", {"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ("electra", {"embedding_size": None}, "incomplete, without embedding_size"),
        ("distilbert", {"n_heads": 3}, "dim 32 is no multiple of n_heads 3"),
        ("distilbert", {"dim": None}, "incomplete, without dim"),
        ("deberta-v2", {"relative_attention": False}, "relative_attention False: only True is supported"),
        ("deberta-v2", {"conv_kernel_size": 3}, "conv_kernel_size 3: only 0"),
        ("deberta-v2", {"pos_att_type": "p2p"}, "pos_att_type 'p2p': only c2p, p2c or both"),
        ("modernbert", {"classifier_pooling": "max"}, "classifier_pooling 'max' is not one of cls, mean"),
        ("modernbert", {"layer_types": ["full_attention"]}, "layer_types has 1 items"),
        ("modernbert", {"rope_scaling": {"rope_type": "yarn"}}, "rope_type 'yarn': only 'default'"),
    ],
)
def test_what_is_not_supported_is_said_in_one_line(name, changes, message, tmp_path):
    sizes = {key: value for key, value in {**FAMILY_SIZES[name], **changes}.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    with pytest.raises(InputError, match=message) as failure:
        _load(tmp_path)
    assert "\n" not in str(failure.value)
    assert "config.json" in str(failure.value)


def _adapted(loaded, adapters, seed):
    """Parameters with adapters whose factors are both random."""
    _, shapes = make_classifier(loaded.config, Build(adapters=adapters))
    rng = np.random.default_rng(seed)

    def filled(path, shape):
        value = loaded.params
        for key in path:
            if key.key == "lora":
                return 0.3 * rng.standard_normal(shape.shape).astype(np.float32)
            value = value[key.key]
        return value

    return jax.tree_util.tree_map_with_path(filled, shapes)


def _attention(loaded):
    """Names of the linear layers that make queries, keys and values."""
    return ("qkv",) if loaded.config.model_type == "modernbert" else ("query", "key", "value")


@pytest.mark.parametrize("loaded", BY_LAYER, indirect=True)
def test_adapters_do_what_merged_weights_do(loaded):
    adapters = Adapters(2, (*_attention(loaded), "output", "intermediate"))
    params = _adapted(loaded, adapters, seed=1)
    depth = params["layers"]["intermediate"]["kernel"].shape[0]
    first = params["layers"]["attention"][_attention(loaded)[0]]
    assert first["lora"]["lora_a"].shape == (depth, 32, 2)
    assert first["lora"]["lora_b"].shape == (depth, 2, first["kernel"].shape[-1])
    batch = _batch(_inputs())
    found = _run(loaded.config, params, batch, adapters=adapters).logits
    merged = merge_adapters(params, 1.0)
    assert jax.tree.structure(merged) == jax.tree.structure(loaded.params)
    np.testing.assert_allclose(found, _run(loaded.config, merged, batch).logits, atol=2e-5)
    plain = _run(loaded.config, loaded.params, batch).logits
    assert np.abs(found - plain).max() > 1e-3
    without = jax.tree_util.tree_map_with_path(lambda path, leaf: leaf * np.float32(path[-1].key != "lora_b"), params)
    np.testing.assert_allclose(_run(loaded.config, without, batch, adapters=adapters).logits, plain, atol=1e-6)
    low = _run(loaded.config, params, batch, adapters=adapters, dtype=jnp.bfloat16).logits
    assert 0 < np.abs(low - found).max() < 0.2
    jax.tree.map(np.testing.assert_array_equal, merge_adapters(params, 0.0), loaded.params)
    with pytest.raises(ValueError, match="merge_adapters"):
        to_tensors(loaded.config, params)


def test_only_targets_have_adapters(loaded):
    targets = _attention(loaded)[:2]
    layers = make_classifier(loaded.config, Build(adapters=Adapters(2, targets)))[1]["layers"]
    paths = [[key.key for key in path] for path, _ in jax.tree_util.tree_leaves_with_path(layers)]
    assert {path[-3] for path in paths if "lora" in path} == set(targets)


def test_an_adapter_for_no_layer(loaded):
    known = ", ".join(sorted((*_attention(loaded), "intermediate", "output")))
    with pytest.raises(InputError, match=f"no linear layer 'dense' for an adapter; there are {known}"):
        make_classifier(loaded.config, Build(adapters=Adapters(2, ("output", "dense"))))


@pytest.mark.slow
@pytest.mark.parametrize("loaded", BY_LAYER, indirect=True)
@pytest.mark.parametrize(("frozen_layers", "dropped"), [(1, True), (2, False)])
def test_frozen_layers_change_nothing(loaded, frozen_layers, dropped):
    if loaded.config.model_type == "albert":
        with pytest.raises(InputError, match="layers of albert share their weights"):
            make_classifier(loaded.config, Build(frozen_layers=frozen_layers))
        return
    batch, key = _batch(_inputs()), jax.random.key(4) if dropped else None
    params = split_layers(loaded.params, frozen_layers)
    _, shapes = make_classifier(loaded.config, Build(frozen_layers=frozen_layers))
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    found = _run(loaded.config, params, batch, key, frozen_layers=frozen_layers)
    expected = _run(loaded.config, loaded.params, batch, key)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, join_layers(params), loaded.params)
    with pytest.raises(ValueError, match="join_layers"):
        to_tensors(loaded.config, params)


def test_frozen_layers_have_no_adapters_and_are_not_more_than_there_are(loaded):
    if loaded.config.model_type == "albert":
        return
    _, shapes = make_classifier(loaded.config, Build(adapters=Adapters(2, ("output",)), frozen_layers=1))
    assert "lora" not in shapes["frozen_layers"]["attention"]["output"]
    assert "lora" in shapes["layers"]["attention"]["output"]
    depth = loaded.config.num_hidden_layers
    with pytest.raises(InputError, match=f"{depth + 1} layers to freeze: the model has {depth}"):
        make_classifier(loaded.config, Build(frozen_layers=depth + 1))
