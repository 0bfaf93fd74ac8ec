"""Measures of pairs of seeds by the singular vectors of one layer: `svcca`, `pwcca` and `op`.

Every seed is factored once, but each pair needs the singular values of a matrix of size K = min(N, D), which costs far
more than other measures do. So pairs come in blocks, and of many seeds only a random part of all pairs is measured.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxstab.measures.spectral import nuclear_norm, svd

SUBSPACES = ("svcca", "pwcca", "op")
LEADING_SHARE = 0.99  # share of the sum of singular values, for `svcca`
MAX_PAIRS = 2000  # what is measured of more pairs; all pairs of 63 seeds
BLOCK = 2**24  # numbers in a block, 64 MiB
WORK = 2**31  # K^3 of all pairs in a call, at most: a second or two on two CPU cores
FASTER = 64  # accelerators, roughly
FACTOR = 8  # pairs take as long as one seed's own factors


class Factors(NamedTuple):
    """The singular value decompositions X = U diag(s) Vt of S seeds.

    Attributes:
        U: [S, N, K].
        s: [S, K] in descending order.
        SVt: [S, K, D], diag(s) Vt = U^T X.
        rank: [S].
        dimensions: [S] how many leading directions `svcca` compares.
    """

    U: Float[Array, "S N K"]
    s: Float[Array, "S K"]
    SVt: Float[Array, "S K D"]
    rank: Int[Array, " S"]
    dimensions: Int[Array, " S"]


def chosen_pairs(seeds: int, at_most: int | None = None) -> Int[np.ndarray, "P 2"]:
    """Returns all pairs of seeds if there are at most so many; otherwise a random part, each seed equally often.

    It depends on the number of seeds only. The seeds stand in a circle in random order; each is paired with the next
    `at_most // S` of them, but with one at least.

    Args:
        seeds: S.
        at_most: how many pairs; by default all.

    Returns:
        [P, 2] places i < j.
    """
    if at_most is None or seeds * (seeds - 1) // 2 <= at_most:
        return np.stack(np.triu_indices(seeds, 1), axis=1)
    circle = np.random.default_rng(0).permutation(seeds)
    steps = range(1, max(1, at_most // seeds) + 1)
    return np.sort(np.concatenate([np.stack([circle, np.roll(circle, step)], axis=1) for step in steps]), axis=1)


def factor(X: Float[Array, "S N D"]) -> Factors:
    """Factors centred representations; to be compiled."""
    n, d = X.shape[1:]
    U, s, _ = jax.vmap(svd)(X)
    total = s.sum(axis=-1, keepdims=True)
    rank = jnp.sum(s > s[:, :1] * max(n, d) * np.finfo(s.dtype).eps, axis=-1)
    # The margin makes the test robust to rounding when a sum is exactly this share.
    dimensions = jnp.maximum(jnp.sum(jnp.cumsum(s, axis=-1) <= (LEADING_SHARE + 1e-6) * total, axis=-1), 1)
    return Factors(U, s, jnp.einsum("snk,snd->skd", U, X), rank, dimensions)


def pair_values(factors: Factors, pairs: Int[Array, "P 2"], names: Sequence[str]) -> dict[str, Float[Array, " P"]]:
    """Measures pairs of seeds, in blocks that bound memory; to be compiled.

    - `op`: 1 - nuclear norm of X^T Y = that of diag(s) U^T U' diag(s'). Source: Ding et al. (2021), halved.
    - `svcca`: 1 - mean canonical correlation of the leading singular subspaces. Source: Raghu et al. (2017).
    - `pwcca`: 1 - mean of all canonical correlations, each weighted by sum_j |<h, x_j>|, its variate's share in the
      features; the mean of both directions. Source: Morcos et al. (2018), section 2.2.
    """
    U, s, SVt, rank, dimensions = factors
    (_, n, size), d = U.shape, SVt.shape[-1]
    places = jnp.arange(size)

    def of_pair(pair: Int[Array, " 2"]) -> dict[str, Float[Array, ""]]:
        i, j = pair
        C = jnp.matmul(U[i].T, U[j])
        found = {}
        if "op" in names:
            found["op"] = 1 - nuclear_norm(s[i][:, None] * C * s[j])
        if "svcca" in names:
            leading = (places < dimensions[i])[:, None] & (places < dimensions[j])
            fewest = jnp.minimum(dimensions[i], dimensions[j]).astype(C.dtype)
            found["svcca"] = 1 - nuclear_norm(jnp.where(leading, C, 0), bound=1) / fewest
        if "pwcca" in names:
            real = (places < rank[i])[:, None] & (places < rank[j])
            P, correlations, Qt = svd(jnp.where(real, C, 0), bound=1)
            common = places < jnp.minimum(rank[i], rank[j])
            weights = jnp.stack(
                [
                    jnp.abs(jnp.matmul(P.T, SVt[i])).sum(axis=-1),
                    jnp.abs(jnp.matmul(Qt, SVt[j])).sum(axis=-1),
                ]
            )
            weights = jnp.where(common, weights, 0)
            totals = jnp.maximum(weights.sum(axis=-1), np.finfo(s.dtype).tiny)
            found["pwcca"] = 1 - (jnp.matmul(weights, jnp.minimum(correlations, 1)) / totals).mean()
        return {name: jnp.maximum(value, 0) for name, value in found.items()}

    count = -(-len(pairs) // max(1, BLOCK // (4 * size * max(size, n if size == d else d))))
    block = -(-len(pairs) // count)
    filled = jnp.concatenate([pairs, jnp.repeat(pairs[:1], count * block - len(pairs), axis=0)])
    blocks = jax.lax.map(jax.vmap(of_pair), filled.reshape(count, block, 2))
    return {name: values.reshape(-1)[: len(pairs)] for name, values in blocks.items()}


def pairs_per_call(examples: int, features: int) -> int:
    """Returns how many pairs are measured in one call, so that it can be interrupted after a second or two."""
    return max(1, work() // min(examples, features) ** 3)


def work() -> int:
    """Returns how much is done in one call, in multiplications of a matrix product."""
    return WORK if jax.default_backend() == "cpu" else FASTER * WORK
