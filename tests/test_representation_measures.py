"""Measures of representations against their definitions in float64, without shortcuts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from jaxstab.measures import representation, spectral, subspaces
from jaxstab.measures.representation import NEIGHBOURS, distances

SEEDS = 4
POINTS = ("cka", "cka_biased", "op", "svcca", "pwcca", "rsa", "distance_correlation", "knn_jaccard")
BY_COSINE, BY_CORRELATION = ("rsa_cosine", "knn_jaccard_cosine"), ("rsa_correlation", "knn_jaccard_correlation")
NAMES = (*POINTS, *BY_COSINE, *BY_CORRELATION)


def _centred(X):
    X = np.asarray(X, np.float64)
    return X - X.mean(axis=0)


def _hsic_unbiased(K, L):
    """Song et al. (2012), eq. 4."""
    n = len(K)
    K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    one = np.ones(n)
    return (np.trace(K @ L) + K.sum() * L.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ K @ L @ one) / (n * (n - 3))


def oracle_cka(X, Y):
    K, L = (np.asarray(Z, np.float64) @ np.asarray(Z, np.float64).T for Z in (_centred(X), _centred(Y)))
    return 1 - _hsic_unbiased(K, L) / np.sqrt(_hsic_unbiased(K, K) * _hsic_unbiased(L, L))


def oracle_cka_biased(X, Y):
    X, Y = _centred(X), _centred(Y)
    return 1 - np.linalg.norm(X.T @ Y) ** 2 / (np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y))


def oracle_op(X, Y):
    X, Y = (Z / np.linalg.norm(Z) for Z in (_centred(X), _centred(Y)))
    return 1 - np.linalg.svd(X.T @ Y, compute_uv=False).sum()


def _canonical(X, Y):
    """Canonical variates of X and Y as orthonormal columns, and their correlations, by QR; X and Y have full rank."""
    Qx, Qy = np.linalg.qr(X)[0], np.linalg.qr(Y)[0]
    P, correlations, Qt = np.linalg.svd(Qx.T @ Qy, full_matrices=False)
    return Qx @ P, Qy @ Qt.T, correlations


def oracle_svcca(X, Y):
    reduced = []
    for Z in (_centred(X), _centred(Y)):
        U, s, _ = np.linalg.svd(Z, full_matrices=False)
        k = max(1, int((np.cumsum(s) / s.sum() <= 0.99 + 1e-9).sum()))
        reduced.append(U[:, :k] * s[:k])
    return 1 - _canonical(*reduced)[2].mean()


def oracle_pwcca(X, Y):
    real = []
    for Z in (_centred(X), _centred(Y)):
        U, s, _ = np.linalg.svd(Z, full_matrices=False)
        real.append((U * s)[:, s > s[0] * max(Z.shape) * np.finfo(np.float32).eps])
    H, G, correlations = _canonical(*real)
    values = [
        np.abs(h.T @ Z).sum(axis=1) @ correlations / np.abs(h.T @ Z).sum()
        for h, Z in ((H, _centred(X)), (G, _centred(Y)))
    ]
    return 1 - np.mean(values)


def _distances(X, by):
    """Examples of zeros, or constant ones by correlation, are at distance 1 from others and 0 from each other."""
    X = np.asarray(X, np.float64)
    without = {"euclidean": np.zeros(len(X), bool), "cosine": (X == 0).all(1), "correlation": np.ptp(X, axis=1) == 0}
    without = without[by]
    X = np.where(without[:, None], np.arange(X.shape[1]), X)  # scipy gives NaN for those
    D = squareform(pdist(X, by))
    D[without ^ without[:, None]], D[without & without[:, None]] = 1, 0
    return D


def oracle_rsa(X, Y, by="euclidean"):
    pairs = np.triu_indices(len(X), 1)
    return 1 - spearmanr(_distances(X, by)[pairs], _distances(Y, by)[pairs]).statistic


def oracle_distance_correlation(X, Y):
    def u_centred(Z):
        D, n = squareform(pdist(np.asarray(Z, np.float64))), len(Z)
        rows = D.sum(axis=1) / (n - 2)
        A = D - rows[:, None] - rows + D.sum() / ((n - 1) * (n - 2))
        np.fill_diagonal(A, 0)
        return A

    A, B = u_centred(X), u_centred(Y)
    return 1 - (A * B).sum() / np.sqrt((A * A).sum() * (B * B).sum())


def oracle_knn_jaccard(X, Y, by="euclidean"):
    k = min(NEIGHBOURS, (len(X) - 1) // 2)
    near = []
    for Z in (X, Y):
        D = _distances(Z, by)
        np.fill_diagonal(D, np.inf)
        near.append([set(row[:k]) for row in np.argsort(D, axis=1, kind="stable")])
    return 1 - np.mean([len(a & b) / len(a | b) for a, b in zip(*near, strict=True)])


ORACLES = {name: globals()[f"oracle_{name}"] for name in POINTS} | {
    f"{name}_{by}": partial(ORACLE, by=by)
    for name, ORACLE in (("rsa", oracle_rsa), ("knn_jaccard", oracle_knn_jaccard))
    for by in ("cosine", "correlation")
}


def _draw(n, d, spread=0.7, decay=0.0, seed=0):
    """Seeds with a shared representation and independent noise; `decay` shrinks later directions."""
    rng = np.random.default_rng(seed)
    scales = np.exp(-decay * np.arange(d))
    return (rng.normal(size=(1, n, d)) + spread * rng.normal(size=(SEEDS, n, d))) * scales


def _duplicated(X):
    return np.concatenate([X, X[:, :, : X.shape[2] // 2]], axis=2)


def _with_constant_features(X):
    X = X.copy()
    X[:, :, 3] = 7.5
    X[1, :, 5] = -1e3
    return X


CASES = {
    "fewer examples than features": _draw(21, 48),
    "more examples than features": _draw(60, 16),
    "as many": _draw(24, 24),
    "a large common mean": _draw(40, 12) + 1e3,
    "duplicated features": _duplicated(_draw(48, 12)),
    "constant features": _with_constant_features(_draw(48, 12)),
    "seeds of different scale": _draw(40, 12) * np.array([1e-6, 1, 1e4, 30])[:, None, None],
    "a decaying spectrum": _draw(48, 20, decay=0.25),
    "a decaying spectrum, few examples": _draw(20, 48, decay=0.15),
    "nearly equal seeds": _draw(40, 12, spread=1e-3),
    "nothing in common": _draw(40, 12, spread=1e3),
    "two seeds equal": _draw(40, 12)[[0, 1, 1, 2]],
}


def _giant(n, d):
    """Like BERT's hidden states: three directions hold nearly all of the variance, and the others decay slowly.

    A spectrum that passes through the limit of float32's rank would make `pwcca` ill-conditioned on any device.
    """
    scales = np.exp(-3 * np.arange(d) / d)
    scales[:3] = 300, 100, 30
    return _draw(n, d) * scales


CASES |= {"giant directions, few examples": _giant(60, 120), "giant directions": _giant(120, 60)}


@pytest.fixture
def as_on_accelerators(monkeypatch):
    """Singular values and vectors by products, as on GPUs and TPUs."""
    monkeypatch.setattr(subspaces, "svd", spectral.polar_svd)
    monkeypatch.setattr(subspaces, "nuclear_norm", spectral.polar_nuclear_norm)
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.mark.parametrize("case", CASES)
def test_measures_of_subspaces_agree_on_accelerators(case, as_on_accelerators):
    X = CASES[case].astype(np.float32)
    for name, matrix in distances(X, ("op", "svcca", "pwcca")).items():
        for i, j in zip(*np.triu_indices(SEEDS, 1), strict=True):
            assert matrix[i, j] == pytest.approx(ORACLES[name](X[i], X[j]), abs=1e-4), f"{name} of {i} and {j}"


@pytest.mark.slow
@pytest.mark.parametrize("draw", [_draw, _giant])
def test_measures_of_subspaces_agree_at_full_size_on_accelerators(draw, as_on_accelerators):
    X = draw(522, 1024).astype(np.float32)
    for name, matrix in distances(X, ("op", "svcca", "pwcca")).items():
        for i, j in zip(*np.triu_indices(SEEDS, 1), strict=True):
            assert matrix[i, j] == pytest.approx(ORACLES[name](X[i], X[j]), abs=1e-4), f"{name} of {i} and {j}"


@pytest.mark.parametrize("case", CASES)
def test_all_measures_agree_with_their_definitions(case):
    X = CASES[case].astype(np.float32)
    found = distances(X, NAMES)
    for name in NAMES:
        matrix = np.asarray(found[name])
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_array_equal(np.diag(matrix), 0)
        for i in range(SEEDS):
            for j in range(i):
                assert matrix[i, j] == pytest.approx(ORACLES[name](X[i], X[j]), abs=1e-4), f"{name} of {i} and {j}"


# Four corners of a square, the same stretched by 3 in one direction or in the other, and each coordinate alone.
SQUARE = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
WIDE, HIGH = SQUARE * np.float32([3, 1]), SQUARE * np.float32([1, 3])
LEFT, UP, BOTH = SQUARE[:, :1], SQUARE[:, 1:], SQUARE.sum(axis=1, keepdims=True)
LINE = np.array([[0], [1], [3], [7]], np.float32)
ANGLES = np.radians([0, 10, 30, 70])
ARC = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)
LONGER = ARC * np.float32([[3], [1], [7], [2]])
PLANE = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])  # of the directions in which features sum to 0
LEVELS = (LONGER @ PLANE + [[3], [0], [-8], [1]]).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "X", "Y", "expected"),
    [
        # U-centred: 4/3 for the two pairs that share the coordinate, -2/3 for the other four. Over pairs of examples
        # <A, B> = 4 (4/3)(-2/3) + 2 (2/3)^2 = -8/3, <A, A> = 2 (4/3)^2 + 4 (2/3)^2 = 16/3.
        ("cka", LEFT, UP, 1.5),
        ("cka", LEFT, -3 * LEFT + 5, 0),
        # |X'Y|^2 = 12^2 + 4^2 = 160, |X'X|^2 = 4^2 + 4^2 = 32, |Y'Y|^2 = 36^2 + 4^2 = 1312.
        ("cka_biased", SQUARE, WIDE, 1 - 160 / np.sqrt(32 * 1312)),
        ("cka_biased", LEFT, UP, 1),
        # Frobenius norms sqrt 8 and sqrt 40; X'Y = diag(12, 4).
        ("op", SQUARE, WIDE, 1 - 16 / np.sqrt(8 * 40)),
        ("op", LEFT, UP, 1),
        # Singular values 6 and 2: the leading subspace is one direction (3/4 of the sum), the same or orthogonal.
        ("svcca", WIDE, WIDE * np.float32([1, -0.9]), 0),
        ("svcca", WIDE, HIGH, 1),
        # One variate each; correlation of x and x + y is 1 / sqrt 2.
        ("pwcca", LEFT, BOTH, 1 - np.sqrt(0.5)),
        ("pwcca", WIDE, HIGH, 0),
        # Ranks of sides and diagonals, less their mean: -1, -1, 2 and, stretched, -2, 0, 2, each twice.
        ("rsa", SQUARE, WIDE, 1 - 12 / np.sqrt(12 * 16)),
        ("rsa", SQUARE, 5 - 2 * SQUARE, 0),
        # Distances 0 and 2 are an affine function of the products above, so the cosine is the same.
        ("distance_correlation", LEFT, UP, 1.5),
        ("distance_correlation", SQUARE, 2 * SQUARE, 0),
        # One neighbour each: 1, 0, 1, 2 for the points 0, 1, 3, 7 and 2, 3, 0, 2 for 0, 7, 1, 3: only the last agrees.
        ("knn_jaccard", LINE, LINE * 2 + 1, 0),
        ("knn_jaccard", LINE, LINE[[0, 3, 1, 2]], 0.75),
        # Ranks of the six angles 1, 3, 6, 2, 5, 4 and 6, 1, 3, 5, 4, 2: 1 - rho is 6 (25 + 4 + 9 + 9 + 1 + 4) / (6 35).
        ("rsa_cosine", ARC, LONGER, 0),
        ("rsa_cosine", ARC, LONGER[[0, 3, 1, 2]], 52 / 35),
        ("rsa_correlation", ARC @ PLANE, LEVELS, 0),
        ("rsa_correlation", LEVELS, LEVELS[[0, 3, 1, 2]], 52 / 35),
        # Neighbours on an arc as on the line above.
        ("knn_jaccard_cosine", ARC, LONGER, 0),
        ("knn_jaccard_cosine", ARC, LONGER[[0, 3, 1, 2]], 0.75),
        ("knn_jaccard_correlation", LEVELS, LEVELS[[0, 3, 1, 2]], 0.75),
    ],
)
def test_cases_worked_by_hand(name, X, Y, expected):
    assert float(distances(np.float32([X, Y]), (name,))[name][0, 1]) == pytest.approx(expected, abs=1e-5)


INVARIANT = ("cka", "cka_biased", "op", "svcca", "rsa", "distance_correlation", "knn_jaccard")


@pytest.mark.parametrize("shape", [(21, 48), (60, 16)])
def test_rotations_scales_and_shifts_of_a_seed_do_not_matter(shape):
    X, rng = _draw(*shape), np.random.default_rng(1)
    moved = np.stack(
        [
            s * x @ np.linalg.qr(rng.normal(size=(shape[1],) * 2))[0] + 5 * s
            for x, s in zip(X, (1, 9, 0.1, 3), strict=True)
        ]
    )
    one, other = (distances(np.float32(A), INVARIANT) for A in (X, moved))
    for name in INVARIANT:
        np.testing.assert_allclose(one[name], other[name], atol=1e-4, err_msg=name)


def test_invertible_maps_do_not_matter_to_svcca_where_all_directions_are_kept(monkeypatch):
    monkeypatch.setattr(subspaces, "LEADING_SHARE", 1.0)
    jax.clear_caches()
    X, rng = _draw(60, 8), np.random.default_rng(1)
    mapped = np.stack([x @ rng.normal(size=(8, 8)) for x in X])
    one, other = (distances(np.float32(A), ("svcca", "op"))["svcca"] for A in (X, mapped))
    jax.clear_caches()
    assert float(one[0, 1]) > 0.05
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_order_of_seeds_and_of_examples_does_not_matter():
    X, rng = np.float32(_draw(40, 12)), np.random.default_rng(1)
    seeds, examples = rng.permutation(SEEDS), rng.permutation(40)
    one, other = distances(X, POINTS), distances(X[seeds][:, examples], POINTS)
    for name in POINTS:
        np.testing.assert_allclose(np.asarray(one[name])[np.ix_(seeds, seeds)], other[name], atol=2e-5, err_msg=name)


def test_constant_seeds_have_distance_1_and_0_among_each_other():
    X = np.float32(_draw(20, 12))
    X[1], X[3] = 1000.1, -3.3
    for name, matrix in distances(X, NAMES).items():
        matrix = np.asarray(matrix)
        assert matrix[1, 3] == 0, name
        np.testing.assert_array_equal(matrix[[1, 3]][:, [0, 2]], 1, err_msg=name)
        assert 0 < matrix[0, 2] < 1.2, name


def test_independent_data_look_unrelated_only_to_the_debiased_measures():
    X = np.float32(np.random.default_rng(0).normal(size=(6, 50, 200)))
    mean = {name: float(matrix.sum() / 30) for name, matrix in distances(X, POINTS).items()}
    for name in ("cka", "distance_correlation", "rsa"):
        assert mean[name] == pytest.approx(1, abs=0.05)
    for name in ("svcca", "pwcca", "cka_biased", "op"):
        assert mean[name] < 0.3


@pytest.mark.parametrize("case", ["fewer examples than features", "more examples than features"])
def test_blocks_do_not_change_anything(case, monkeypatch):
    X = np.float32(CASES[case])
    whole = distances(X, POINTS)
    monkeypatch.setattr(representation, "BLOCK", 1000)
    jax.clear_caches()
    blocks = distances(X, POINTS)
    jax.clear_caches()
    for name in POINTS:
        np.testing.assert_allclose(whole[name], blocks[name], atol=2e-6, err_msg=name)


@pytest.mark.parametrize(("n", "d"), [(20, 30), (90, 4)])
def test_products_of_gram_matrices_both_ways(n, d):
    """With 4 seeds, the first case is computed in the space of examples, the second in that of features."""
    X = np.float32(_draw(n, d))
    K = [x.astype(np.float64) @ x.T.astype(np.float64) for x in X]
    expected = np.array([[(a * b).sum() for b in K] for a in K])
    np.testing.assert_allclose(representation._gram_products(jnp.asarray(X)), expected, rtol=2e-6)


def test_a_decomposition_that_does_not_converge_is_tried_again_alone(monkeypatch):
    X = np.random.default_rng(0).normal(size=(4, 20, 5)).astype(np.float32)
    expected = representation.distances(X, ["pwcca", "cka"])

    tried = []

    def failing(array, names, compute=representation.compiled_layer_distances):
        found = {name: np.array(one) for name, one in compute(array, names).items()}
        tried.append(len(array))
        if len(array) > 2 and "pwcca" in found:
            found["pwcca"][1, 3] = found["pwcca"][3, 1] = np.nan
        elif tried.count(2) in (1, 2, 3):  # alone too, until examples are in another order
            found["pwcca"][:] = np.nan
        return found

    monkeypatch.setattr(representation, "compiled_layer_distances", failing)
    for name, matrix in representation.distances(X, ["pwcca", "cka"]).items():
        np.testing.assert_allclose(matrix, expected[name], atol=1e-6)


def test_lengths_of_examples_do_not_matter_by_cosine():
    X, rng = _draw(60, 16) + 1, np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    scaled = X @ rotation * np.exp(rng.normal(size=(SEEDS, 60, 1)))
    one, other = (distances(np.float32(A), ("rsa", *BY_COSINE)) for A in (X, scaled))
    for name in BY_COSINE:
        np.testing.assert_allclose(one[name], other[name], atol=1e-4, err_msg=name)
    assert np.abs(one["rsa"] - other["rsa"]).max() > 0.1
    shifted = distances(np.float32(X + 10 * rng.normal(size=16)), BY_COSINE)
    assert np.abs(one["rsa_cosine"] - shifted["rsa_cosine"]).max() > 0.01


def test_lengths_and_levels_of_examples_do_not_matter_by_correlation():
    X, rng = _draw(60, 16), np.random.default_rng(1)
    moved = X[..., rng.permutation(16)] * np.exp(rng.normal(size=(SEEDS, 60, 1))) + 9 * rng.normal(size=(SEEDS, 60, 1))
    one, other = (distances(np.float32(A), (*BY_COSINE, *BY_CORRELATION)) for A in (X, moved))
    for name in BY_CORRELATION:
        np.testing.assert_allclose(one[name], other[name], atol=1e-4, err_msg=name)
    assert np.abs(one["rsa_cosine"] - other["rsa_cosine"]).max() > 0.1


@pytest.mark.parametrize("rows", [[0], [1, 2, 5, 6]])
def test_examples_without_a_direction_are_at_distance_1(rows):
    X = _draw(60, 16)
    X[1, rows], X[2, rows] = 0, 7.3
    X = np.float32(X)
    for name, matrix in distances(X, (*BY_COSINE, *BY_CORRELATION)).items():
        assert np.isfinite(matrix).all(), name
        # All others are equally far from such an example; among them rounding decides.
        limit = len(rows) / 60 if "knn" in name else 5e-3
        for i, j in zip(*np.triu_indices(SEEDS, 1), strict=True):
            assert matrix[i, j] == pytest.approx(ORACLES[name](X[i], X[j]), abs=limit), f"{name} of {i} and {j}"


def test_examples_of_one_direction_are_a_constant_seed():
    X = _draw(20, 12)
    X[1] = np.abs(X[1, :, :1]) * X[1, :1]
    for name, matrix in distances(np.float32(X), BY_COSINE).items():
        np.testing.assert_array_equal(matrix[1, [0, 2, 3]], 1, err_msg=name)
