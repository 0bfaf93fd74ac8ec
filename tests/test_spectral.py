"""Singular values and vectors by matrix products, against numpy in float64; and the precision of all products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxstab.measures import MEASURES, spectral
from jaxstab.measures.programs import OnDevice, pair_distances, set_values
from jaxstab.measures.representation import compiled_layer_distances
from jaxstab.measures.spectral import nuclear_norm, polar_factor, polar_nuclear_norm, polar_svd


@pytest.mark.parametrize("kind", ["full", "deficient", "zero", "steep", "orthogonal"])
def test_nuclear_norm_by_products_alone(kind):
    rng, n = np.random.default_rng(0), 48
    U, V = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    spectrum = {
        "full": rng.random(n),
        "deficient": np.r_[rng.random(5), np.zeros(n - 5)],
        "zero": np.zeros(n),
        "steep": np.exp(-np.arange(n) / 3.0),
        "orthogonal": np.ones(n),
    }[kind]
    spectrum = spectrum / max(np.linalg.norm(spectrum), 1)
    M = jnp.asarray(U * spectrum @ V, jnp.float32)
    value = float(polar_nuclear_norm(M))
    assert value == pytest.approx(spectrum.sum(), abs=1e-4)
    assert float(nuclear_norm(M)) == pytest.approx(spectrum.sum(), abs=1e-5)


@pytest.mark.parametrize("low", [1e-5, 1e-7])
def test_no_singular_value_changes_its_sign(low, monkeypatch):
    """Where a step maps a value to almost 0, rounding can make it negative: one value in a thousand, so many here."""
    monkeypatch.setattr(spectral, "schulz_scales", lambda _, scales=spectral.schulz_scales: scales(low))
    values = np.geomspace(low, 1, 100_001).astype(np.float32)
    factors = jax.vmap(lambda one: polar_factor(one[None, None], bound=1.0))(values)
    np.testing.assert_allclose(factors, 1, atol=1e-6)


@pytest.mark.parametrize("shape", [(30, 70), (70, 30), (40, 40), (9, 1)])
@pytest.mark.parametrize("decay", [0, 0.25])
def test_singular_vectors_by_products(shape, decay):
    M = np.random.default_rng(0).normal(size=shape) * np.exp(-decay * np.arange(shape[1]))
    U, s, Vt = polar_svd(jnp.asarray(M, jnp.float32))
    expected = np.linalg.svd(M, compute_uv=False)
    np.testing.assert_allclose(s, expected, atol=3e-6 * expected[0])
    np.testing.assert_allclose(U * s @ Vt, M, atol=1e-5 * expected[0])
    whole = U.T @ U if shape[0] <= shape[1] else Vt @ Vt.T
    np.testing.assert_allclose(whole, np.eye(len(s)), atol=1e-5)


def _products(jaxpr):
    """All matrix products of a program, also those in loops, branches and functions."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for inner in jax.tree.leaves(list(equation.params.values())):
            if hasattr(inner, "eqns"):
                yield from _products(getattr(inner, "jaxpr", inner))


@pytest.mark.parametrize("name", MEASURES)
def test_every_product_is_in_full_float32(name):
    row = MEASURES[name]
    kind = float if row.of == "numbers" else int
    arrays = OnDevice(jnp.ones((3, 8, 2)), jnp.ones((3, 8), kind), jnp.ones(8, int), "f1", 2)
    if row.granularity == "representation":
        shapes = [(3, 8, 12), (3, 12, 8), (3, 40, 2)]
        programs = [compiled_layer_distances.trace(jnp.ones(shape), names=(name,)) for shape in shapes]
        assert any(_products(programs[0].jaxpr.jaxpr))  # products are found at all
    elif row.compute is None:
        return  # computed in numpy
    elif row.shape == "pairs":
        programs = [pair_distances.trace(arrays, names=(name,))]
    else:
        programs = [set_values.trace(arrays, names=(name,), masks=jnp.ones((2, 3)))]
    for program in programs:
        for product in _products(program.jaxpr.jaxpr):
            assert product.params["precision"] == (jax.lax.Precision.HIGHEST,) * 2, product
