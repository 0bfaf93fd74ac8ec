"""Attention against its definition in float64, and its gradients against automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstab.errors import InputError
from jaxstab.models.attention import IMPLEMENTATIONS, attend, choose_attention
from jaxstab.models.fused_attention import WIDEST
from jaxstab.models.operations import random_levels

ROWS, WIDTH, HEADS, FEATURES = SHAPE = (3, 8, 2, 4)
# Two or three examples in a row; 3 where there is no token.
OWNERS = np.array([[0, 0, 0, 0, 0, 1, 1, 3], [2, 2, 2, 2, 2, 2, 2, 2], [0, 0, 1, 1, 2, 3, 3, 3]], np.int32)
KEY = jax.random.key(1)
RATES = [0.0, 0.1, 0.5]
BIASES = [None, 1, ROWS]


def _inputs(bias_rows=None, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=SHAPE), dtype) for _ in range(3)]
    bias = None if bias_rows is None else jnp.asarray(rng.normal(size=(bias_rows, HEADS, WIDTH, WIDTH)), jnp.float32)
    return (*arrays, bias)


def _attend(inputs, window=None, rate=0.0, name="reference", key=KEY, causal=False):
    *arrays, bias = inputs
    return attend(*arrays, jnp.asarray(OWNERS), window, bias, key, rate, name, causal)


def _by_definition(inputs, window, rate, causal=False):
    """Attention for one row, head and query at a time, in float64, with the random bytes of `random_levels`."""
    query, keys, values = (np.asarray(x, np.float64) for x in inputs[:3])
    bias = np.zeros((1, 1, 1, 1)) if inputs[3] is None else np.asarray(inputs[3], np.float64)
    bias = np.broadcast_to(bias, (ROWS, HEADS, WIDTH, WIDTH))
    levels, dropped = np.asarray(random_levels(KEY, bias.shape)), round(256 * rate)
    result = np.zeros((ROWS, WIDTH, HEADS, FEATURES))
    for r, h, t in np.ndindex(ROWS, HEADS, WIDTH):
        seen = [s for s in range(t + 1 if causal else WIDTH) if OWNERS[r, s] == OWNERS[r, t]]
        seen = [s for s in seen if window is None or abs(s - t) <= window]
        scores = np.exp(keys[r, seen, h] @ query[r, t, h] + bias[r, h, t, seen])
        probabilities = scores / scores.sum() * (levels[r, h, t, seen] >= dropped) / (1 - dropped / 256)
        result[r, t, h] = probabilities @ values[r, seen, h]
    return result.reshape(ROWS, WIDTH, -1)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("bias_rows", BIASES)
@pytest.mark.parametrize("window", [None, 0, 2])
@pytest.mark.parametrize("rate", RATES)
def test_attention_is_that_of_the_definition(name, bias_rows, window, rate):
    inputs = _inputs(bias_rows)
    found = _attend(inputs, window, rate, name)
    assert found.shape == (ROWS, WIDTH, HEADS * FEATURES)
    np.testing.assert_allclose(found, _by_definition(inputs, window, rate), atol=2e-6)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("window", [None, 2])
def test_causal_attention_and_its_gradient(name, window):
    inputs = _inputs()
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(ROWS, WIDTH, HEADS * FEATURES)), jnp.float32)

    def loss(inputs, name):
        found = _attend(inputs, window, 0.1, name, causal=True)
        return jnp.sum(found * weights), found

    (_, found), gradients = jax.value_and_grad(loss, has_aux=True)(inputs, name)
    np.testing.assert_allclose(found, _by_definition(inputs, window, 0.1, causal=True), atol=2e-6)
    expected = jax.grad(loss, has_aux=True)(inputs, "automatic")[0]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=5e-6), gradients, expected)


@pytest.mark.parametrize("bias_rows", BIASES)
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("rate", RATES)
def test_gradients_of_all_implementations_agree(bias_rows, window, rate):
    inputs = _inputs(bias_rows)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(ROWS, WIDTH, HEADS * FEATURES)), jnp.float32)

    def gradients(name):
        return jax.jit(jax.grad(lambda x: jnp.sum(_attend(x, window, rate, name) * weights)))(inputs)

    expected = gradients("automatic")
    for name in IMPLEMENTATIONS:
        for found, wanted in zip(jax.tree.leaves(gradients(name)), jax.tree.leaves(expected), strict=True):
            assert found.dtype == wanted.dtype
            np.testing.assert_allclose(found, wanted, atol=5e-6)
            assert np.abs(wanted).max() > 0.01


@pytest.mark.parametrize("bias_rows", [1, ROWS])
def test_gradients_are_those_of_differences(bias_rows):
    inputs = _inputs(bias_rows)
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(ROWS, WIDTH, HEADS * FEATURES))
    directions = tuple(rng.normal(size=x.shape) for x in inputs)

    def moved(by):
        there = tuple(np.asarray(x, np.float64) + by * d for x, d in zip(inputs, directions, strict=True))
        return (_by_definition(there, 2, 0.1) * weights).sum()

    gradients = jax.grad(lambda x: jnp.sum(_attend(x, 2, 0.1) * jnp.asarray(weights, jnp.float32)))(inputs)
    found = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    assert found == pytest.approx((moved(1e-5) - moved(-1e-5)) / 2e-5, rel=1e-4)


def test_a_traced_window_is_as_good_as_a_number():
    inputs = _inputs()
    traced = jax.jit(lambda window: _attend(inputs, window))
    for window in (0, 3, WIDTH):
        np.testing.assert_allclose(traced(jnp.int32(window)), _attend(inputs, window), atol=1e-6)
    np.testing.assert_array_equal(_attend(inputs, WIDTH), _attend(inputs))


@pytest.mark.parametrize("name", ["reference", "fused"])
@pytest.mark.parametrize("bias_rows", BIASES)
def test_an_axis_of_seeds_changes_nothing(bias_rows, name):
    """Each of two seeds has its own inputs and keys; owners and window are shared."""
    inputs = jax.tree.map(lambda x: jnp.stack([x, -x]), _inputs(bias_rows))
    keys = jax.random.split(KEY, 2)

    def loss(inputs, key):
        return jnp.sum(_attend(inputs, jnp.int32(2), 0.1, name, key) ** 2)

    found = jax.vmap(jax.value_and_grad(loss))(inputs, keys)
    for seed in range(2):
        alone = jax.value_and_grad(loss)(jax.tree.map(lambda x, seed=seed: x[seed], inputs), keys[seed])
        own = jax.tree.map(lambda x, seed=seed: x[seed], found)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=2e-6), own, alone)


def test_attention_does_not_see_other_examples_of_its_row():
    inputs = _inputs()
    alone = attend(*(x[:1, 5:7] for x in inputs[:3]), jnp.zeros((1, 2), jnp.int32))
    np.testing.assert_allclose(_attend(inputs)[:1, 5:7], alone, atol=1e-6)


@pytest.mark.parametrize(("columns", "features"), [(24, 20), (16, 32), (WIDEST + 2, 4)])
def test_the_fused_kernels_know_every_size(columns, features):
    """They work on powers of two: what lies beyond the arrays is masked. Wider rows are left to the reference."""
    rng = np.random.default_rng(3)
    inputs = [jnp.asarray(rng.normal(size=(2, columns, 2, features)), jnp.float32) for _ in range(3)]
    weights = jnp.asarray(rng.normal(size=(2, columns, 2 * features)), jnp.float32)
    owners = jnp.asarray(np.sort(rng.integers(0, 3, (2, columns)), axis=1), jnp.int32)

    def loss(inputs, name):
        found = attend(*inputs, owners, None, None, KEY, 0.1, name)
        return jnp.sum(found * weights), found

    found, expected = (jax.value_and_grad(loss, has_aux=True)(inputs, name) for name in ("fused", "automatic"))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), found, expected)
    assert ("pallas_call" in str(jax.make_jaxpr(lambda x: loss(x, "fused"))(inputs))) == (columns <= WIDEST)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("bias_rows", [None, ROWS])
def test_bfloat16_stays_near_float32(name, bias_rows):
    inputs, low = _inputs(bias_rows), _inputs(bias_rows, jnp.bfloat16)
    found = _attend(low, 3, 0.1, name)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), _attend(inputs, 3, 0.1, name), atol=0.05)
    gradients = jax.grad(lambda x: jnp.sum(_attend(x, 3, 0.1, name).astype(jnp.float32)))(low)
    assert [g.dtype for g in jax.tree.leaves(gradients)] == [x.dtype for x in jax.tree.leaves(low)]


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("rate", "key", "drawn"), [(0.1, KEY, True), (0.0, KEY, False), (0.001, KEY, False), (0.5, None, False)]
)
def test_nothing_random_is_drawn_where_nothing_is_dropped(name, rate, key, drawn):
    program = str(jax.make_jaxpr(lambda x: _attend(x, None, rate, name, key))(_inputs()))
    assert ("random_bits" in program) == drawn


def test_the_implementation_is_chosen_by_name_and_bad_names_are_refused():
    assert choose_attention("cpu", "float32") == choose_attention("gpu", "tensorfloat32") == "reference"
    assert choose_attention("gpu", "bfloat16") == "fused"
    with pytest.raises(InputError, match="attention 'flash' is not one of reference, automatic") as failure:
        _attend(_inputs(), name="flash")
    assert "\n" not in str(failure.value)


def test_the_override_reaches_the_program():
    automatic = str(jax.make_jaxpr(lambda x: _attend(x, name="automatic"))(_inputs()))
    chosen = str(jax.make_jaxpr(lambda x: _attend(x))(_inputs()))
    assert "custom_vjp" in chosen
    assert "custom_vjp" not in automatic
