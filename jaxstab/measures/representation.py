"""Distances [S, S] between seeds by one layer's representations [S, N, D].

Every seed is centred and scaled to unit Frobenius norm. Measures of Gram or distance matrices are cosines of long
vectors, computed in blocks of rows. Those of subspaces are in `subspaces.py`. Memory is a few times that of the
representations, and for `rsa` S N^2 / 2 numbers. Distances by cosine and by correlation are Euclidean ones between
examples scaled to length 1, so `rsa` and `knn_jaccard` serve for them too.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from threadpoolctl import threadpool_limits

from jaxstab import xla
from jaxstab.measures.spectral import in_full_precision
from jaxstab.measures.subspaces import (
    BLOCK,
    FACTOR,
    MAX_PAIRS,
    SUBSPACES,
    Factors,
    chosen_pairs,
    factor,
    pair_values,
    pairs_per_call,
    work,
)

NEIGHBOURS = 10
TRIES = 8  # of a decomposition that does not converge


def distances(
    representations: Float[np.ndarray, "S N D"],
    names: Sequence[str],
    max_pairs: int | None = MAX_PAIRS,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, np.ndarray]:
    """Computes measures of one layer for pairs of seeds, as numpy arrays [S, S]; see `layer_distances`.

    Args:
        representations: [S, N, D] with N >= 4.
        names: names of measures.
        max_pairs: of more pairs, `svcca`, `pwcca` and `op` are computed for so many (`chosen_pairs`), and are NaN for
            the others; None for all.
        progress: called with the share of the work that is done, from time to time.
    """
    seeds, n, d = representations.shape
    pairs, at_once = chosen_pairs(seeds, max_pairs), pairs_per_call(n, d)
    whole = len(pairs) == seeds * (seeds - 1) // 2 <= at_once
    subspaces, others = ([one for one in names if (one in SUBSPACES) == either] for either in (True, False))
    # Two programs, because in one of all measures XLA's threads on a CPU sometimes wait for each other forever.
    calls = [others] if 4 * (seeds * n) ** 2 <= work() else [[one] for one in others]
    programs = [tuple(some) for some in [*calls, subspaces if whole else []] if some]
    steps, size = len(programs), -(-at_once // FACTOR)
    if subspaces and not whole:
        steps += -(-seeds // size) - (-len(pairs) // at_once)
    taken = itertools.count(1)

    def step() -> None:
        progress(next(taken) / steps)

    found: dict[str, np.ndarray] = {}
    # XLA calls LAPACK from several threads. If each call starts its own threads, the work takes up to 20 times as
    # long.
    with threadpool_limits(1, user_api="blas"):
        for some in programs:
            found |= xla.fetch(compiled_layer_distances, representations, some)
            step()
        if subspaces and not whole:
            everyone = np.arange(seeds)
            factors, constant = _in_blocks(lambda part: compiled_factors(representations[part]), everyone, size, step)
            factors = jax.device_put(factors)
            values = _in_blocks(lambda part: compiled_pairs(factors, part, tuple(subspaces)), pairs, at_once, step)
            found |= {name: _matrix(values[name], pairs, constant) for name in subspaces}
        for name, matrix in found.items():
            for i, j in pairs[~np.isfinite(matrix[tuple(pairs.T)])]:
                matrix[i, j] = matrix[j, i] = _again(representations[[j, i]], name)
    return {name: found[name] for name in names}


@in_full_precision
def layer_distances(representations: Float[Array, "S N D"], names: tuple[str, ...]) -> dict[str, Float[Array, "S S"]]:
    """Computes measures of one layer for all pairs of seeds; to be compiled, as `distances` does.

    Args:
        representations: [S, N, D] with N >= 4, float32.
        names: which of `cka`, `cka_biased`, `distance_correlation`, `rsa`, `knn_jaccard`, `svcca`, `pwcca`, `op`,
            `rsa_cosine`, `rsa_correlation`, `knn_jaccard_cosine`, `knn_jaccard_correlation`.

    Returns:
        For each name a symmetric matrix [S, S] with a zero diagonal. The distance between a constant representation
        and a varying one is 1, between two constant ones 0.
    """
    X, constant = center(representations)
    found = _subspace_distances(X, [name for name in SUBSPACES if name in names])
    for name, measure in MATRICES.items():
        if name in names:
            found[name] = measure(X)
    constants = dict.fromkeys(found, constant)
    for name, (measure, of_direction) in DIRECTIONS.items():
        if name in names:
            X, constants[name] = center(of_direction(representations))
            found[name] = measure(X)
    return {name: _settle(found[name], constants[name]) for name in names}


compiled_layer_distances = xla.jit(layer_distances, static_argnames="names")
compiled_pairs = xla.jit(in_full_precision(pair_values), static_argnames="names")


@xla.jit
@in_full_precision
def compiled_factors(representations: Float[Array, "S N D"]) -> tuple[Factors, Bool[Array, " S"]]:
    """Centres and factors representations; also returns which are constant."""
    X, constant = center(representations)
    return factor(X), constant


def center(representations: Float[Array, "S N D"]) -> tuple[Float[Array, "S N D"], Bool[Array, " S"]]:
    """Removes each seed's mean over examples and scales it to unit Frobenius norm.

    Returns:
        The centred representations, and [S] whether each is constant up to float32 rounding; constant ones become all
        zeros.
    """
    X, constant = _normalise(representations, mean=1, norm=(1, 2))
    return X, constant[:, 0, 0]


def cosine_directions(representations: Float[Array, "S N D"]) -> Float[Array, "S N D+1"]:
    """Scales each example to length 1, so that half a squared Euclidean distance is 1 - the cosine.

    The last feature is 1 for an example without a direction and 0 for others: such examples are at distance 1 from
    others, and at 0 from each other.
    """
    X, without = _normalise(representations, mean=None, norm=(2,))
    return jnp.concatenate([X, without.astype(X.dtype)], axis=2)


def correlation_directions(representations: Float[Array, "S N D"]) -> Float[Array, "S N D+1"]:
    """As `cosine_directions`, after the mean over features is removed from each example: 1 - Pearson's correlation."""
    X, without = _normalise(representations, mean=2, norm=(2,))
    return jnp.concatenate([X, without.astype(X.dtype)], axis=2)


def cka(X: Float[Array, "S N D"]) -> Float[Array, "S S"]:
    """Returns 1 - debiased linear CKA of centred representations; about 1 for independent data, and may exceed it.

    Source: Kornblith et al. (2019) with the unbiased HSIC of Song et al. (2012), eq. 4. For centred features the rows
    of a Gram matrix K sum to 0, so that HSIC_u(K, L) n (n - 3) is
    <K, L> - n / (n - 2) sum_i K_ii L_ii + tr K tr L / ((n - 1)(n - 2)).
    """
    n, diagonals = X.shape[1], (X**2).sum(axis=-1)
    traces = diagonals.sum(axis=-1)
    products = _gram_products(X) - n / (n - 2) * jnp.matmul(diagonals, diagonals.T)
    return _one_minus_cosine(products + traces[:, None] * traces / ((n - 1) * (n - 2)))


def cka_biased(X: Float[Array, "S N D"]) -> Float[Array, "S S"]:
    """Returns 1 - linear CKA of centred representations; falls towards 0 for independent data where N < D.

    Source: Kornblith et al. (2019), eq. 3.
    """
    return _one_minus_cosine(_gram_products(X))


def distance_correlation(X: Float[Array, "S N D"]) -> Float[Array, "S S"]:
    """Returns 1 - the bias-corrected squared distance correlation; about 1 for independent data, and may exceed it.

    Source: Szekely & Rizzo (2014), eqs. 2.3 to 2.6: the cosine of U-centred matrices of Euclidean distances.
    """
    n = X.shape[1]

    def row_sums(rows: Float[Array, "S B N"], indices: Int[Array, " B"]) -> Float[Array, "S B"]:
        return jnp.sqrt(rows).sum(axis=-1)

    sums = jnp.moveaxis(_map_rows(X, row_sums), 0, 1).reshape(len(X), -1)[:, :n]
    total = sums.sum(axis=-1)[:, None, None] / ((n - 1) * (n - 2))

    def products(rows: Float[Array, "S B N"], indices: Int[Array, " B"]) -> Float[Array, "S S"]:
        own = sums[:, jnp.minimum(indices, n - 1), None] / (n - 2)
        centred = jnp.sqrt(rows) - own - sums[:, None] / (n - 2) + total
        counts = (indices[:, None] != jnp.arange(n)) & (indices < n)[:, None]
        flat = jnp.where(counts, centred, 0).reshape(len(X), -1)
        return jnp.matmul(flat, flat.T)

    return _one_minus_cosine(_map_rows(X, products).sum(axis=0))


def rsa(X: Float[Array, "S N D"]) -> Float[Array, "S S"]:
    """Returns 1 - the Spearman correlation of two seeds' Euclidean distances between examples, in [0, 2].

    Source: Kriegeskorte et al. (2008); ties get their mean rank.
    """
    pairs = np.triu_indices(X.shape[1], 1)

    def ranks(one: Float[Array, "N D"]) -> Float[Array, " M"]:
        ranks = mean_ranks(_squared_distances(one[None], one[None])[0][pairs])
        return (ranks - (len(pairs[0]) - 1) / 2) / len(pairs[0])

    vectors: Array = jax.lax.map(ranks, X)
    return _one_minus_cosine(jnp.matmul(vectors, vectors.T))


def mean_ranks(values: Float[Array, " M"]) -> Float[Array, " M"]:
    """Returns ranks from 0; equal values get their mean rank.

    Sorts once, where `jax.scipy.stats.rankdata` sorts twice: sorting is what compiles slowly on accelerators.
    """
    order = jnp.argsort(values, stable=False)
    places, ordered = jnp.arange(len(values)), values[order]
    differs, end = ordered[1:] != ordered[:-1], jnp.ones(1, bool)
    first = jax.lax.cummax(jnp.where(jnp.concatenate([end, differs]), places, 0))
    last = jax.lax.cummin(jnp.where(jnp.concatenate([differs, end]), places, len(values) - 1), reverse=True)
    mean = (first + last).astype(jnp.float32) / 2
    ranks: Array = jnp.zeros_like(mean).at[order].set(mean, unique_indices=True)
    return ranks


def knn_jaccard(X: Float[Array, "S N D"]) -> Float[Array, "S S"]:
    """Returns 1 - the Jaccard similarity of an example's nearest neighbours in two seeds, averaged over examples.

    In [0, 1]. Uses 10 neighbours by Euclidean distance, but fewer than half of the examples; the earlier example wins a
    tie. Source: Klabunde et al. (2025), section 3.4.
    """
    n = X.shape[1]
    k = max(1, min(NEIGHBOURS, (n - 1) // 2))

    def similarities(rows: Float[Array, "S B N"], indices: Int[Array, " B"]) -> Float[Array, "S S"]:
        others = jnp.where(indices[:, None] == jnp.arange(n), jnp.inf, rows)
        nearest = jax.lax.top_k(-others, k)[1]
        member = (nearest[..., None] == jnp.arange(n)).any(axis=-2).astype(jnp.float32)
        shared = jnp.einsum("ibn,jbn->bij", member, member)
        return jnp.where((indices < n)[:, None, None], shared / (2 * k - shared), 0).sum(axis=0)

    # Besides its N distances, a row has S similarities to the seeds.
    return 1 - _map_rows(X, similarities, width=n + len(X)).sum(axis=0) / n


MATRICES: dict[str, Callable[[Float[Array, "S N D"]], Float[Array, "S S"]]] = {
    "cka": cka,
    "cka_biased": cka_biased,
    "distance_correlation": distance_correlation,
    "rsa": rsa,
    "knn_jaccard": knn_jaccard,
}


DIRECTIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "rsa_cosine": (rsa, cosine_directions),
    "rsa_correlation": (rsa, correlation_directions),
    "knn_jaccard_cosine": (knn_jaccard, cosine_directions),
    "knn_jaccard_correlation": (knn_jaccard, correlation_directions),
}


def _again(pair: Float[np.ndarray, "2 N D"], name: str) -> float:
    """Measures two seeds once more, where LAPACK's iteration did not converge.

    The order of examples does not matter to any measure, but changes rounding, with which the iteration converges.
    """
    rng, distance = np.random.default_rng(0), np.nan
    for _ in range(TRIES):
        distance = float(compiled_layer_distances(pair, (name,))[name][0, 1])
        if np.isfinite(distance):
            break
        pair = pair[:, rng.permutation(pair.shape[1])]
    return distance


def _in_blocks(function: Callable[[np.ndarray], Any], items: np.ndarray, size: int, step: Callable[[], None]) -> Any:
    """Calls a function of blocks of items, all of the same size, and puts the arrays that it returns together again.

    `step` is called after each block. An interruption is heard then, too.
    """
    count = -(-len(items) // size)
    blocks, found = np.resize(items, (count, -(-len(items) // count), *items.shape[1:])), []
    for block in blocks:
        found.append(jax.device_get(function(block)))
        step()
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(items)], *found)


def _matrix(
    values: Float[np.ndarray, " P"], pairs: Int[np.ndarray, "P 2"], constant: Bool[np.ndarray, " S"]
) -> Float[np.ndarray, "S S"]:
    """The values of pairs as a symmetric matrix, 0 on its diagonal and NaN for other pairs; constant ones as agreed."""
    matrix = np.full((len(constant), len(constant)), np.nan, np.float32)
    np.fill_diagonal(matrix, 0)
    one, other = pairs.T
    values = np.where(constant[one] & constant[other], 0, np.where(constant[one] ^ constant[other], 1, values))
    matrix[one, other] = matrix[other, one] = values
    return matrix


def _subspace_distances(X: Float[Array, "S N D"], names: Sequence[str]) -> dict[str, Float[Array, "S S"]]:
    """`svcca`, `pwcca` and `op` of all pairs."""
    if not names:
        return {}
    rows, columns = chosen_pairs(len(X)).T
    values = pair_values(factor(X), jnp.stack([rows, columns], axis=1), names)
    empty = jnp.zeros((len(X), len(X)))
    return {name: empty.at[rows, columns].set(one).at[columns, rows].set(one) for name, one in values.items()}


def _normalise(
    X: Float[Array, "S N D"], mean: int | None, norm: tuple[int, ...]
) -> tuple[Float[Array, "S N D"], Bool[Array, "S ..."]]:
    """Removes the mean over one axis, then scales to norm 1 over `norm`.

    Also returns where nothing but float32 rounding is left to scale; that becomes 0.
    """
    largest = jnp.abs(X).max(axis=norm, keepdims=True)
    X = X / jnp.where(largest > 0, largest, 1)
    if mean is not None:
        # Centred twice, because the first mean is inexact for values far from 0.
        X = X - X.mean(axis=mean, keepdims=True)
        X = X - X.mean(axis=mean, keepdims=True)
    spread = jnp.abs(X).max(axis=norm, keepdims=True)
    nothing: Array = spread <= 4 * np.finfo(X.dtype).eps
    X = X / jnp.where(nothing, 1, spread)
    X = X / jnp.where(nothing, 1, jnp.sqrt((X**2).sum(axis=norm, keepdims=True)))
    return jnp.where(nothing, 0, X), nothing


def _settle(matrix: Float[Array, "S S"], constant: Bool[Array, " S"]) -> Float[Array, "S S"]:
    """Makes a matrix exactly symmetric, 0 on its diagonal, and what is agreed for constant seeds."""
    one, both = constant[:, None] ^ constant, constant[:, None] & constant
    off_diagonal = ~np.eye(len(constant), dtype=bool)
    return jnp.where(both | ~off_diagonal, 0.0, jnp.where(one, 1.0, (matrix + matrix.T) / 2))


def _gram_products(X: Float[Array, "S N D"]) -> Float[Array, "S S"]:
    """<K_i, K_j> for all pairs of Gram matrices K = X X^T, by the cheaper of two formulas."""
    seeds, n, d = X.shape
    if 2 * n <= seeds * d:

        def products(block: tuple[Float[Array, "S B D"], Int[Array, " B"]]) -> Float[Array, "S S"]:
            flat = jnp.einsum("sbd,snd->sbn", block[0], X).reshape(seeds, -1)
            return jnp.matmul(flat, flat.T)

        summed: Array = jax.lax.map(products, _row_blocks(X, n)).sum(axis=0)
        return summed
    # <X X^T, Y Y^T> = |X^T Y|^2

    def of_seed(one: Float[Array, "N D"]) -> Float[Array, " S"]:
        return (jnp.einsum("nd,sne->sde", one, X) ** 2).sum(axis=(1, 2))

    products_of_seed: Array = jax.lax.map(of_seed, X)
    return products_of_seed


def _map_rows(X: Float[Array, "S N D"], function: Callable[[Array, Array], Array], width: int | None = None) -> Array:
    """Maps a function over blocks of rows of the squared distances [S, B, N] and the rows' indices [B].

    The last block may be padded with rows whose index is N or more.
    """
    found: Array = jax.lax.map(
        lambda block: function(_squared_distances(block[0], X, block[1]), block[1]),
        _row_blocks(X, width or X.shape[1]),
    )
    return found


def _row_blocks(X: Float[Array, "S N D"], width: int) -> tuple[Float[Array, "M S B D"], Int[Array, "M B"]]:
    """Divides examples into M blocks of B rows such that [S, B, width] has at most BLOCK numbers."""
    seeds, n, d = X.shape
    count = -(-n // max(1, BLOCK // (seeds * width)))
    rows = -(-n // count)
    filled = jnp.pad(X, ((0, 0), (0, count * rows - n), (0, 0)))
    return jnp.moveaxis(filled.reshape(seeds, count, rows, d), 1, 0), jnp.arange(count * rows).reshape(count, rows)


def _squared_distances(
    rows: Float[Array, "S B D"], X: Float[Array, "S N D"], indices: Int[Array, " B"] | None = None
) -> Float[Array, "S B N"]:
    """Squared distances between examples; exactly 0 between an example and itself."""
    squares = (X**2).sum(axis=-1)[:, None]
    found = (rows**2).sum(axis=-1)[..., None] + squares - 2 * jnp.einsum("sbd,snd->sbn", rows, X)
    indices = jnp.arange(rows.shape[1]) if indices is None else indices
    return jnp.where(indices[:, None] == jnp.arange(X.shape[1]), 0, jnp.maximum(found, 0))


def _one_minus_cosine(products: Float[Array, "S S"]) -> Float[Array, "S S"]:
    """1 - cosine from inner products. A zero vector has distance 1 to others, and 0 to another zero vector."""
    squares = jnp.diagonal(products)
    there = squares > 0
    lengths = jnp.sqrt(jnp.where(there, squares, 1))
    cosines = jnp.where(there[:, None] & there, products / lengths[:, None] / lengths, 0)
    return jnp.where(~there[:, None] & ~there, 0, 1 - cosines)
