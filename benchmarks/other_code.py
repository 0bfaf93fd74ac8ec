"""How far numbers of other people's code are from ours, on simulated seeds: the table in docs/measures.md.

    python benchmarks/other_code.py

Two seeds, 600 examples, 128 features of mean 1 whose variance falls as 1, 1/2, 1/3, ... over rotated directions. In
`related` a fifth of the variance is a seed's own, in `unrelated` all of it. What others compute is written here from
their formulas, in float64.
"""

import numpy as np
from scipy.spatial.distance import pdist, squareform

from jaxstab import measures

EXAMPLES, FEATURES = 600, 128


def draw(own: float) -> np.ndarray:
    """Two seeds [2, N, D] that have this share of the variance each to itself."""
    rng = np.random.default_rng(0)
    scales = np.arange(1, FEATURES + 1) ** -0.5
    common = rng.standard_normal((EXAMPLES, FEATURES))
    seeds = []
    for _ in range(2):
        each = rng.standard_normal((EXAMPLES, FEATURES))
        rotation = np.linalg.qr(rng.standard_normal((FEATURES, FEATURES)))[0]
        seeds.append(1 + (np.sqrt(1 - own) * common + np.sqrt(own) * each) * scales @ rotation)
    return np.stack(seeds)


def decompose(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Singular values and vectors of the centred [N, D]."""
    return np.linalg.svd(X - X.mean(axis=0), full_matrices=False)


def canonical_distance(X: np.ndarray, Y: np.ndarray, kept: int) -> float:
    """1 - the mean canonical correlation of this many leading directions."""
    U, V = decompose(X)[0][:, :kept], decompose(Y)[0][:, :kept]
    return 1 - np.linalg.svd(U.T @ V, compute_uv=False).mean()


def kept_by_resi(X: np.ndarray) -> int:
    """Directions until their share of the squares reaches .99 times the sum of squares; 1 if no share does."""
    squares = decompose(X)[1] ** 2
    return int(np.argmax(np.cumsum(squares) / squares.sum() >= 0.99 * squares.sum())) + 1


def root_of_biased_correlation(X: np.ndarray, Y: np.ndarray) -> float:
    """1 - the root of the biased squared distance correlation."""
    centring = np.eye(len(X)) - 1 / len(X)
    A, B = (centring @ squareform(pdist(Z)) @ centring for Z in (X, Y))
    return 1 - np.sqrt((A * B).sum() / np.sqrt((A * A).sum() * (B * B).sum()))


def pwcca_by_google(X: np.ndarray, Y: np.ndarray) -> float:
    """PWCCA with Google's weights: rotated features, means added, orthonormalised, on features with their means."""
    (Ux, _, Vx), (Uy, _, Vy) = decompose(X), decompose(Y)
    P, correlations, _ = np.linalg.svd(Vx.T @ Ux.T @ Uy @ Vy)
    mean = X.mean(axis=0)
    directions = np.linalg.qr((X - mean) @ P + mean)[0]
    weights = np.abs(directions.T @ X).sum(axis=1)
    return 1 - weights @ correlations / weights.sum()


def main() -> None:
    """Prints a row for each difference."""
    related, unrelated = draw(0.2), draw(1)
    ours = [measures.all(representations=X[:, None], only=NAMES) for X in (related, unrelated)]
    print(f"{'':34}{'related':>18}{'unrelated':>18}")
    print(f"{'':34}{'here':>9}{'theirs':>9}{'here':>9}{'theirs':>9}")
    for name, label, theirs in ROWS:
        cells = [
            f"{found[name]['value']:9.3f}{theirs(X, found):9.3f}"
            for X, found in zip((related, unrelated), ours, strict=True)
        ]
        print(f"{label:34}{''.join(cells)}")
    print(f"ReSi's SVCCA keeps {kept_by_resi(related[0])} of {FEATURES} directions.")


NAMES = (
    *("cka", "cka_biased", "op", "svcca", "pwcca", "distance_correlation"),
    *("rsa", "rsa_correlation", "knn_jaccard", "knn_jaccard_cosine"),
)
ROWS = (
    ("svcca", "svcca, ReSi", lambda X, _: canonical_distance(*X, min(map(kept_by_resi, X)))),
    ("svcca", "svcca, Google's tutorial (20)", lambda X, _: canonical_distance(*X, 20)),
    ("pwcca", "pwcca, Google and ReSi", lambda X, _: pwcca_by_google(*X)),
    ("distance_correlation", "distance_correlation, ReSi", lambda X, _: root_of_biased_correlation(*X)),
    ("cka", "cka, ReSi", lambda _, found: found["cka_biased"]["value"]),
    ("op", "op, ReSi", lambda _, found: np.sqrt(2 * found["op"]["value"])),
    ("rsa", "rsa, ReSi", lambda _, found: found["rsa_correlation"]["value"]),
    ("knn_jaccard", "knn_jaccard, ReSi", lambda _, found: found["knn_jaccard_cosine"]["value"]),
)

if __name__ == "__main__":
    main()
