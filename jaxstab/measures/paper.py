"""The numbers of the released code of Du & Nguyen (2023), where it departs from the definitions.

For comparison with published values only. float64 numpy.
"""

import numpy as np

from jaxstab.measures.resampling import mean_over_pairs


def sd(scores: np.ndarray) -> float:
    """The standard deviation with denominator S: 2.5 % low for 20 seeds, 5.1 % for 10."""
    return float(np.std(scores))


def fleiss_kappa(predictions: np.ndarray, classes: int) -> float:
    """1 - kappa with the vote table [N, C] summed along the wrong axis, so that chance agreement is 1 / N.

    It equals pairwise disagreement times N / (N - 1), whatever the class shares.

    Args:
        predictions: [S, N] class indices.
        classes: C.
    """
    seeds = len(predictions)
    votes = np.stack([(predictions == c).sum(axis=0) for c in range(classes)], axis=1)
    agreement = (((votes**2).sum(axis=1) - seeds) / (seeds * (seeds - 1))).mean()
    chance = ((votes.sum(axis=1) / votes.sum()) ** 2).sum()
    return float(1 - (agreement - chance) / (1 - chance))


def svcca(representations: np.ndarray, share: float = 0.99) -> float:
    """1 - SVCCA with the singular value decomposition taken before centring, averaged over pairs.

    Args:
        representations: [S, N, D] of one layer.
        share: of the sum of singular values.
    """
    bases = []
    for X in np.asarray(representations, np.float64):
        U, s, _ = np.linalg.svd(X, full_matrices=False)
        k = max(1, int(np.sum(np.cumsum(s) <= (share + 1e-6) * s.sum())))
        reduced = U[:, :k] * s[:k]
        Q, spread, _ = np.linalg.svd(reduced - reduced.mean(axis=0), full_matrices=False)
        bases.append(Q[:, spread > 1e-10 * max(spread[0], 1e-300)])
    matrix = np.zeros((len(bases), len(bases)))
    for i, one in enumerate(bases):
        for j, other in enumerate(bases[:i]):
            correlations = np.linalg.svd(one.T @ other, compute_uv=False)
            matrix[i, j] = matrix[j, i] = 1 - correlations.mean() if len(correlations) else 0
    return float(mean_over_pairs(matrix))
