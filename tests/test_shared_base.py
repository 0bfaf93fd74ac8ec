"""What no seed trains is there once for all seeds: its arrays, its products, and its precision."""

import re
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file
from test_step import EXAMPLES
from tiny import DECODER_SIZES, SIZES, write_checkpoint
from training_one_seed import Setup

from jaxstab.config import make_config
from jaxstab.data.batches import make_batch
from jaxstab.errors import InputError
from jaxstab.mitigation.lora import scale
from jaxstab.models.build import Adapters, Build, make_linear
from jaxstab.models.operations import random_levels
from jaxstab.models.parameters import merge_adapters, merged
from jaxstab.training.recipe import frozen_part
from jaxstab.training.seed_axis import over_seeds, seed_axes
from jaxstab.training.step import init_state, loss_fn, train_steps

pytestmark = pytest.mark.optimiser

SEEDS, ROWS, COLUMNS, WIDTH, INNER, RANK = 5, 8, 16, 40, 56, 3  # no two dimensions are equal by chance
WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ALL = {"rank": RANK, "targets": "all"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    sizes = {**SIZES, **WITHOUT_DROPOUT, "hidden_size": WIDTH, "intermediate_size": INNER}
    return write_checkpoint(tmp_path_factory.mktemp("model"), sizes)


def _compile(directory):
    """Training of all seeds in one program, as on accelerators."""
    ours = Setup(directory, "lora", lora={**ALL, "dropout": 0.1})

    def start(key):
        return init_state(ours.recipe, ours.pretrained, ours.inputs._replace(init_key=key))

    axes = seed_axes(ours.start)
    states = jax.vmap(start, out_axes=axes)(jax.random.split(jax.random.key(0), SEEDS))
    inputs = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * SEEDS), ours.inputs)
    step = over_seeds(partial(train_steps, ours.recipe), SEEDS, (axes, 0, None, None, None, None), axes, donated=True)
    return step.lower(states, inputs, ours.reference, EXAMPLES, jnp.int32(0), jnp.int32(2)).compile()


@pytest.fixture(scope="module")
def compiled(directory):
    return _compile(directory)


def _products_of_all_seeds(compiled):
    """The widths of the results of products that all seeds share, and how many products are each seed's own."""
    products = re.findall(r"= f32\[([\d,]+)\]\S* dot\(.*?lhs_(batch|contracting)_dims", compiled.as_text())
    rows = f"{SEEDS * ROWS * COLUMNS},"
    shared = [int(shape.removeprefix(rows)) for shape, first in products if first == "contracting" and rows in shape]
    return Counter(shared), sum(shape.startswith(f"{SEEDS},{ROWS * COLUMNS},") for shape, _ in products)


def test_one_product_serves_all_seeds_in_both_directions(compiled):
    """Of each frozen linear layer: one product forward and one for the gradient of its input, none for its kernel's."""
    shared, own = _products_of_all_seeds(compiled)
    # Forward and backward five with outputs of the hidden size, and one with those of the feed-forward part.
    assert shared == {WIDTH: 2 * 5, INNER: 2}
    assert own >= 2 * 2 * 6  # the adapters' are each seed's own


def test_one_product_serves_all_seeds_of_a_decoder(tmp_path):
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": WIDTH // 4}
    sizes = {**DECODER_SIZES["llama"], **heads, "hidden_size": WIDTH, "intermediate_size": INNER}
    shared, own = _products_of_all_seeds(_compile(write_checkpoint(tmp_path / "model", sizes)))
    # Forward: query, output and down; gate and up; key and value. Backward: the gradients of their seven inputs.
    assert shared == {WIDTH: 3 + 6, INNER: 2 + 1, WIDTH // 2: 2}
    assert own >= 2 * 2 * 7


def test_no_seed_has_a_copy_of_the_base(compiled):
    shapes = set(re.findall(r"\w+\[([\d,]+)\]", compiled.as_text()))
    kernels = [f"{a},{b}" for a, b in ((WIDTH, WIDTH), (WIDTH, INNER), (INNER, WIDTH))]
    assert {f"2,{kernel}" for kernel in kernels} <= shapes  # of both layers, once
    for kernel in kernels:
        assert not {f"{SEEDS},{kernel}", f"2,{SEEDS},{kernel}", f"{SEEDS},2,{kernel}"} & shapes


def test_a_base_in_bfloat16_is_that_of_rounded_weights(directory, tmp_path):
    """The same bits as with weights in the file that bfloat16 can hold; trained weights stay float32."""
    import ml_dtypes

    rounded = tmp_path / "rounded"
    rounded.mkdir()
    weights = load_file(directory / "model.safetensors")
    large = {name for name, value in weights.items() if value.ndim == 2 and "pooler" not in name}
    for name in large:
        weights[name] = weights[name].astype(ml_dtypes.bfloat16).astype(np.float32)
    save_file(weights, rounded / "model.safetensors")
    (rounded / "config.json").write_text((directory / "config.json").read_text())
    ours = Setup(directory, "lora", lora=ALL, model={"base_precision": "bfloat16"})
    theirs = Setup(rounded, "lora", lora=ALL)
    base = frozen_part(ours.recipe, ours.recipe.pretrained.params)
    assert base["layers"]["output"]["kernel"].dtype == np.uint16  # the bits of bfloat16
    assert base["layers"]["output_norm"]["scale"].dtype == np.float32
    size, whole = (sum(leaf.nbytes for leaf in jax.tree.leaves(one.reference)) for one in (ours, theirs))
    assert size < 0.6 * whole
    for found, expected in zip(jax.tree.leaves(ours.train(2)), jax.tree.leaves(theirs.train(2)), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_kernels_are_converted_once_for_products_in_bfloat16(directory):
    ours = Setup(directory, "bitfit", train={"precision": "bfloat16"})
    base = ours.recipe.pretrained.params
    assert base["layers"]["output"]["kernel"].dtype == np.uint16
    assert base["embeddings"]["word"]["embedding"].dtype == np.float32
    assert base["layers"]["output"]["bias"].dtype == np.float32


def test_dropout_and_scale_are_those_of_peft():
    """`result = base(x) + lora_B(lora_A(dropout(x))) * scaling`, in peft's `Linear.forward`, in float64."""
    layer = make_linear("query", 12, 7, Build(adapters=Adapters(RANK, ("all",), 0.25)), nnx.Rngs(0))
    rng, key = np.random.default_rng(0), jax.random.key(5)
    down, up = rng.normal(size=(12, RANK)), rng.normal(size=(RANK, 7))
    layer.lora.lora_a[...], layer.lora.lora_b[...] = jnp.float32(down), jnp.float32(up)
    layer.lora.dropout_key[...] = jax.random.key_data(key)
    x = rng.normal(size=(30, 12)).astype(np.float32)
    kept = np.asarray(random_levels(key, x.shape)) >= 64
    assert 0.15 < 1 - kept.mean() < 0.35
    expected = x @ np.asarray(layer.kernel[...], np.float64) + (x * kept / 0.75) @ down @ up
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, atol=1e-5)
    assert scale(16.0, 4, rank_stabilised=False) == 4  # `lora_alpha / r`
    assert scale(16.0, 4, rank_stabilised=True) == 8  # `lora_alpha / math.sqrt(r)` with `use_rslora`


def test_every_adapter_and_step_drops_something_else(directory):
    ours = Setup(directory, "lora", lora={**ALL, "dropout": 0.1})
    (method,) = ours.recipe.methods

    def keys(key):
        in_use = method.weights(merged(ours.reference, ours.start.params), key, ours.context)
        paths = jax.tree_util.tree_leaves_with_path(in_use)
        return [tuple(row) for path, leaf in paths if path[-1].key == "dropout_key" for row in np.asarray(leaf)]

    first, second = keys(jax.random.key(0)), keys(jax.random.key(1))
    assert len(set(first) | set(second)) == 2 * 2 * 6  # two steps, two layers, six linear layers
    assert keys(None) == []
    params = jax.tree.map(lambda leaf: leaf + 0.1, ours.start.params)
    batch = make_batch(EXAMPLES, np.arange(4), COLUMNS * np.arange(4), 4)
    losses = [loss_fn(params, ours.recipe, batch, key, ours.context) for key in (jax.random.key(0), None)]
    assert losses[0] != losses[1]


def test_all_linear_layers_but_the_head_and_the_rank_stabilised_scale(directory):
    """Merged, the adapters give the same logits; the scale is alpha / sqrt(rank)."""
    ours = Setup(directory, "lora", lora={**ALL, "alpha": 6.0, "rank_stabilised": True})
    params = jax.tree.map(lambda leaf: leaf + 0.1, ours.start.params)
    layers = params["layers"]
    assert {*layers, *layers["attention"]} == {"attention", "intermediate", "output", "query", "key", "value"}
    assert set(params) == {"classifier", "layers"}
    in_use = ours.weights(ours.start._replace(params=params))
    up = np.asarray(in_use["layers"]["intermediate"]["lora"]["lora_b"])
    np.testing.assert_allclose(up, 0.1 * 6 / 3**0.5, rtol=1e-6)
    whole = merge_adapters({"kernel": jnp.zeros((WIDTH, WIDTH)), **layers["attention"]["query"]}, scale(6.0, 3, True))
    down = np.asarray(layers["attention"]["query"]["lora"]["lora_a"], np.float64)
    np.testing.assert_allclose(whole["kernel"], down @ np.full((2, 3, WIDTH), 0.1) * 6 / 3**0.5, atol=1e-5)


def test_weights_are_used_where_they_were_read(directory):
    """On a CPU the arrays of the device are those of the reader, so that the base is in memory once."""
    ours = Setup(directory, "lora")
    for leaf in jax.tree.leaves(ours.recipe.pretrained.params):
        assert jax.device_put(leaf, jax.devices()[0]).unsafe_buffer_pointer() == leaf.ctypes.data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "model.base_precision = 'bfloat16': every parameter is trained, in float32; add a method such as lora"),
        ({"methods": ["freeze", "mixout"]}, "mixout needs pre-trained values in float32; leave one of the two out"),
    ],
)
def test_nothing_to_store_in_another_precision(settings, changes, message):
    from jaxstab.experiment.inputs import load_inputs

    settings["model"]["base_precision"] = "bfloat16"
    with pytest.raises(InputError) as caught:
        load_inputs(make_config({**settings, "mitigation": changes}))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"dropout": 1.0}, "mitigation.lora.dropout = 1.0: should be less than 1"),
        ({"targets": []}, "mitigation.lora.targets"),
        ({"targets": 3}, "mitigation.lora.targets = 3"),
        ({"rank_stabilised": 1}, "mitigation.lora.rank_stabilised = 1"),
    ],
)
def test_bad_settings_of_adapters(lora, message):
    with pytest.raises(InputError) as caught:
        make_config({"model": {"source": "m"}, "task": {"source": "t"}, "mitigation": {"method": "lora", "lora": lora}})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
