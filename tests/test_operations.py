"""Activations against their definitions and automatic differentiation; dropout against its rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxstab.models.operations import ACTIVATIONS, activate, dropout


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
