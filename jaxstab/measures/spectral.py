"""Singular values and vectors: by LAPACK on a CPU, elsewhere by matrix products and a symmetric eigenproblem.

Accelerators multiply matrices fast, but their own singular value decompositions take them one by one (GPUs) or compile
for many minutes (TPUs). The polar decomposition M = H W needs products only, and H, symmetric with the singular values
of M as eigenvalues, has one batched eigenproblem.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.lax.linalg import EighImplementation, eigh
from jaxtyping import Array, Float

P = ParamSpec("P")
R = TypeVar("R")

JACOBI = EighImplementation.JACOBI  # for TPUs, where the default for large matrices compiles for five minutes
LARGEST_SCALE = 1.69770248526
LOWEST = 1e-7  # of a matrix's norm: what smaller singular values lose is less than they are


def in_full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a function trace all its matrix products in full float32, which accelerators by themselves do not use."""

    @wraps(function)
    def traced(*args: P.args, **kwargs: P.kwargs) -> R:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return traced


def svd(
    M: Float[Array, "N D"], bound: float | None = None
) -> tuple[Float[Array, "N K"], Float[Array, " K"], Float[Array, "K D"]]:
    """Returns U [N, K], s [K] in descending order and Vt [K, D] with M = U diag(s) Vt and K = min(N, D).

    `bound` as in `polar_nuclear_norm`.
    """
    by_products = partial(polar_svd, bound=bound)
    found: tuple[Array, Array, Array] = jax.lax.platform_dependent(M, cpu=_svd_by_lapack, default=by_products)
    return found


def nuclear_norm(M: Float[Array, "K K"], bound: float | None = None) -> Float[Array, ""]:
    """Returns the sum of the singular values of a square matrix; `bound` as in `polar_nuclear_norm`."""
    by_products = partial(polar_nuclear_norm, bound=bound)
    norm: Array = jax.lax.platform_dependent(M, cpu=_norm_by_lapack, default=by_products)
    return norm


def polar_svd(
    M: Float[Array, "N D"], bound: float | None = None
) -> tuple[Float[Array, "N K"], Float[Array, " K"], Float[Array, "K D"]]:
    """Returns what `svd` does, by products and one eigenproblem of size K.

    Rows of Vt (columns of U, where N > D) have length 1 only where singular values are not underestimated.
    Source: Higham & Papadimitriou (1994), "A parallel algorithm for computing the polar decomposition".
    """
    if M.shape[0] > M.shape[1]:
        U, s, Vt = polar_svd(M.T, bound)
        return Vt.T, s, U.T
    W = polar_factor(M, bound)
    H = jnp.matmul(M, W.T)
    U, s = jax.lax.platform_dependent((H + H.T) / 2, tpu=partial(eigh, implementation=JACOBI), default=eigh)
    U = U[:, ::-1]
    return U, jnp.maximum(s[::-1], 0), jnp.matmul(U.T, W)


def polar_nuclear_norm(M: Float[Array, "K K"], bound: float | None = None) -> Float[Array, ""]:
    """Returns the sum of the singular values as <polar factor of M, M>.

    Args:
        M: [K, K].
        bound: where no singular value exceeds this number, which saves steps; singular values below 1e-5 of it are
            underestimated then, instead of those below 1e-7 of the Frobenius norm.
    """
    return (polar_factor(M, bound) * M).sum()


def polar_factor(M: Float[Array, "K D"], bound: float | None = None) -> Float[Array, "K D"]:
    """Returns the nearest matrix with orthonormal rows, by scaled Newton-Schulz steps; arguments as above, K <= D.

    Source: Chen & Chow (2014), "A stable scaling of Newton-Schulz for improving the sign function computation".
    """
    norm = jnp.sqrt((M**2).sum()) if bound is None else jnp.asarray(bound, M.dtype)
    X = M / jnp.where(norm > 0, norm, 1)

    def step(X: Float[Array, "K D"], scale: Float[Array, ""]) -> tuple[Float[Array, "K D"], None]:
        return 1.5 * scale * X - 0.5 * scale**3 * jnp.matmul(jnp.matmul(X, X.T), X), None

    scales = schulz_scales(LOWEST if bound is None else 1e-5)
    factor: Array = jax.lax.scan(step, X, jnp.asarray(scales, M.dtype))[0]
    return factor


def schulz_scales(low: float) -> list[float]:
    """The best stable scale for each step, if singular values lie between `low` and 1, until they are 1 in float32.

    A step maps values up to 1 to values up to 1. The scale's limit keeps the image of 1 at .1: the best scale alone
    would map it to almost 0, where rounding changes its sign and the singular value counts as negative.
    """

    def image(value: float, scale: float) -> float:
        return 1.5 * scale * value - 0.5 * (scale * value) ** 3

    scales = []
    while 1 - low > 1e-8:
        scale = min((3 / (1 + low + low**2)) ** 0.5, LARGEST_SCALE)
        scales.append(scale)
        low = min(image(low, scale), image(1, scale))
    return scales


def _svd_by_lapack(M: Float[Array, "N D"]) -> tuple[Array, Array, Array]:
    U, s, Vt = jnp.linalg.svd(M, full_matrices=False)
    return U, s, Vt


def _norm_by_lapack(M: Float[Array, "K K"]) -> Float[Array, ""]:
    return jnp.linalg.svd(M, compute_uv=False).sum()
