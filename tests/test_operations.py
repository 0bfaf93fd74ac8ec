"""Activations against their definitions and automatic differentiation; dropout against its rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxstab.models.operations import ACTIVATIONS, activate, dropout, look_up, normalise, normalise_rms


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_derivatives(name):
    x = jnp.linspace(-6, 6, 201)
    expected = {"gelu": lambda x: x * scipy.special.ndtr(x), "silu": lambda x: x * scipy.special.expit(x)}
    if name in expected:
        np.testing.assert_allclose(activate(name, x), expected[name](np.asarray(x, np.float64)), atol=2e-6)
    found = jax.grad(lambda x: jnp.sum(activate(name, x) ** 2))(x)
    np.testing.assert_allclose(found, jax.grad(lambda x: jnp.sum(ACTIVATIONS[name](x) ** 2))(x), atol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_dropout_has_its_rate_and_keeps_the_expectation(rate):
    ones = jnp.ones((1000, 999))
    dropped = np.asarray(dropout(ones, rate, jax.random.key(0)))
    rounded = round(rate * 256) / 256
    assert abs((dropped == 0).mean() - rounded) < 5 * np.sqrt(rounded * (1 - rounded) / ones.size)
    assert abs(dropped.mean() - 1) < 5 * np.sqrt(rounded / (1 - rounded) / ones.size)
    assert set(np.unique(dropped)) == {0, np.float32(1 / (1 - rounded))}


def test_dropout_without_key_or_rate_is_the_identity():
    x = jnp.arange(6.0)
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x


def test_dropout_masks_of_seeds_and_neighbours_are_independent():
    keys = jax.random.split(jax.random.key(1), 2)
    masks = np.asarray(jax.vmap(lambda key: dropout(jnp.ones(40_000), 0.5, key))(keys)) > 0
    assert abs(np.corrcoef(masks)[0, 1]) < 0.03
    assert all(abs(np.corrcoef(masks[0, :-shift], masks[0, shift:])[0, 1]) < 0.03 for shift in (1, 2, 3, 4, 10_000))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("with_bias", [True, False])
def test_layer_norm_and_its_gradients_are_those_of_float64(dtype, with_bias):
    rng = np.random.default_rng(0)
    x, cotangent = (jnp.asarray(rng.normal(1, 3, (3, 5, 16)), dtype) for _ in range(2))
    scale, bias = (jnp.asarray(rng.normal(1, 0.3, 16), jnp.float32) for _ in range(2))
    bias = bias if with_bias else None
    found, pull = jax.vjp(lambda *arguments: normalise(1e-5, *arguments), x, scale, bias)
    for_x, for_scale, for_bias = pull(cotangent)
    assert found.dtype == for_x.dtype == dtype
    exact = [np.asarray(one, np.float64) for one in (x, cotangent, scale)]
    mean, deviation = exact[0].mean(-1, keepdims=True), np.sqrt(exact[0].var(-1, keepdims=True) + 1e-5)
    normal = (exact[0] - mean) / deviation
    tolerance = 2e-5 if dtype == jnp.float32 else 0.05
    expected = normal * exact[2] + (np.asarray(bias) if with_bias else 0)
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, atol=tolerance)
    np.testing.assert_allclose(for_scale, (exact[1] * normal).sum((0, 1)), rtol=1e-3, atol=1e-3)
    # The derivative by x from differences: a small step along a random direction.
    direction, step = rng.normal(size=x.shape), 1e-6

    def value(x):
        centred = x - x.mean(-1, keepdims=True)
        return np.sum(exact[1] * exact[2] * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5))

    difference = (value(exact[0] + step * direction) - value(exact[0] - step * direction)) / (2 * step)
    along = np.sum(np.asarray(for_x, np.float64) * direction)
    assert along == pytest.approx(difference, rel=1e-3 if dtype == jnp.float32 else 0.05)
    if with_bias:
        np.testing.assert_allclose(for_bias, exact[1].sum((0, 1)), rtol=1e-3)
    else:
        assert for_bias is None


@pytest.mark.parametrize("rows", [7, 60, 500])
def test_both_gradients_of_a_look_up_are_the_sums_by_row(rows):
    """Few rows and many, because the ordered gradient takes another way when there are more rows than places."""
    rng = np.random.default_rng(rows)
    table = jnp.asarray(rng.normal(size=(rows, 6)), jnp.float32)
    indices = rng.integers(0, min(rows, 40), (5, 12))
    cotangent = rng.normal(size=(5, 12, 6)).astype(np.float32) * 10.0 ** rng.integers(-6, 6, (5, 12, 1))
    expected = np.zeros((rows, 6))
    np.add.at(expected, indices, cotangent.astype(np.float64))
    sizes = np.zeros((rows, 6))  # of what was added, which rounding is relative to
    np.add.at(sizes, indices, np.abs(cotangent).astype(np.float64))
    for ordered in (True, False):
        found, pull = jax.vjp(lambda table, ordered=ordered: look_up(ordered, table, jnp.asarray(indices)), table)
        np.testing.assert_array_equal(found, np.asarray(table)[indices])
        (gradient,) = pull(jnp.asarray(cotangent, jnp.float32))
        assert np.abs(gradient - expected).max() > 0 or rows == 0
        np.testing.assert_array_less(np.abs(gradient - expected), 1e-6 * sizes + 1e-30)


def test_an_ordered_look_up_adds_nothing_in_place():
    """No sum in place may meet two equal indices: on a GPU their order is random."""
    indices = np.array([3, 1, 3, 3])
    for rows, scatters in ((2, 0), (500, 1)):
        gradient = jax.grad(lambda table: look_up(True, table, jnp.asarray(indices % len(table))).sum())
        text = jax.jit(gradient).lower(jnp.ones((rows, 6), jnp.float32)).as_text()
        assert text.count('"stablehlo.scatter"') == scatters
        assert text.count("unique_indices = true") == scatters


def test_rms_norm_and_its_gradients_are_those_of_automatic_differentiation():
    rng = np.random.default_rng(0)
    x, cotangent = (jnp.asarray(rng.normal(1, 3, (3, 5, 16)), jnp.float32) for _ in range(2))
    scale = jnp.asarray(rng.normal(1, 0.3, 16), jnp.float32)
    found, pull = jax.vjp(lambda *arguments: normalise_rms(1e-5, *arguments), x, scale)
    wide = np.asarray(x, np.float64)
    expected = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5) * np.asarray(scale)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    plain = jax.vjp(lambda x, scale: x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5) * scale, x, scale)[1]
    for one, other in zip(pull(cotangent), plain(cotangent), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    assert normalise_rms(1e-5, x.astype(jnp.bfloat16), scale).dtype == jnp.bfloat16
