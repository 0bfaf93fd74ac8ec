"""Attention and activations against automatic differentiation of their definitions; dropout against its rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxstab.models.operations import ACTIVATIONS, activate, attend, dropout, random_levels

RNG = np.random.default_rng(0)
SHAPE = (3, 2, 8, 4)  # rows, heads, columns, features


def _normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def _by_definition(query, keys, values, mask, levels, rate, bias=0.0):
    scores = jnp.einsum("rhtd,rhsd->rhts", query, keys) + mask + bias
    probabilities = jax.nn.softmax(scores)
    if levels is not None:
        dropped = round(rate * 256)
        probabilities = jnp.where(levels >= dropped, probabilities / (1 - dropped / 256), 0.0)
    mixed = jnp.einsum("rhts,rhsd->rhtd", probabilities, values)
    return mixed.swapaxes(1, 2).reshape(3, 8, 8)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
def test_attention_and_its_gradient_are_those_of_the_definition(rate, biased):
    query, keys, values = (_normal(*SHAPE) for _ in range(3))
    owners = jnp.asarray(RNG.integers(0, 3, (3, 8)))
    mask = jnp.where(owners[:, None, :, None] == owners[:, None, None, :], 0.0, jnp.finfo(jnp.float32).min)
    levels = random_levels(jax.random.key(1), (3, 2, 8, 8)) if rate else None
    weights = _normal(3, 8, 8)

    def loss(function, inputs):
        return jnp.sum(function(*inputs[:3], mask, levels, rate, *inputs[3:]) * weights)

    inputs = (query, keys, values, *([_normal(1, 2, 8, 8)] if biased else []))
    value, gradients = jax.value_and_grad(lambda x: loss(attend, x))(inputs)
    expected, expected_gradients = jax.value_and_grad(lambda x: loss(_by_definition, x))(inputs)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_attention_does_not_see_other_examples_of_its_row():
    query, keys, values = (_normal(*SHAPE) for _ in range(3))
    owners = jnp.asarray([[0, 0, 0, 1, 1, 1, 1, 2]] * 3)
    bias = jnp.where(owners[:, None, :, None] == owners[:, None, None, :], 0.0, jnp.finfo(jnp.float32).min)
    mixed = attend(query, keys, values, bias, None, 0.0)
    alone = attend(*(x[:, :, 3:7] for x in (query, keys, values)), jnp.zeros((3, 1, 4, 4)), None, 0.0)
    np.testing.assert_allclose(mixed[:, 3:7], alone, atol=1e-6)


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
