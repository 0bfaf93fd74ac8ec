"""How long measuring representations will take, from a few seeds of random numbers."""

import time

import numpy as np

from jaxstab.measures.inputs import FEWEST_EXAMPLES
from jaxstab.measures.registry import select
from jaxstab.measures.representation import distances
from jaxstab.measures.subspaces import MAX_PAIRS, SUBSPACES, chosen_pairs

FEW, MORE = 8, 40  # seeds that are tried


def measuring_seconds(seeds: int, layers: int, examples: int, features: int) -> float:
    """Predicts how long a run's representations take to measure, by measuring a layer of a few seeds.

    Compilation is counted once. Most measures take a time for each seed, and little for each pair. Those that need
    singular values take as long for each pair that is measured (`chosen_pairs`) as for each seed.

    Args:
        seeds: S.
        layers: L.
        examples: N, those that are compared (`represented_examples`).
        features: D.

    Returns:
        Seconds, roughly.
    """
    if seeds < 2 or examples < FEWEST_EXAMPLES:
        return 0.0
    names = [one.name for one in select() if one.granularity == "representation"]
    rng = np.random.default_rng(0)
    few, more = (rng.standard_normal((some, examples, features), np.float32) for some in (FEW, MORE))
    subspaces = [name for name in names if name in SUBSPACES]
    others = [name for name in names if name not in SUBSPACES]
    compiling, of_few = _seconds(few, others)
    _, of_more = _seconds(more, others)
    compiling_subspaces, of_subspaces = _seconds(few, subspaces)
    of_pair = max(0.0, (of_more - of_few * MORE / FEW) / (_pairs(MORE) - _pairs(FEW) * MORE / FEW))
    of_seed = (of_few - of_pair * _pairs(FEW)) / FEW
    of_subspace = of_subspaces / (_pairs(FEW) + FEW)
    drawn = len(chosen_pairs(seeds, MAX_PAIRS))
    in_layer = of_pair * _pairs(seeds) + of_seed * seeds + of_subspace * (drawn + seeds)
    return compiling + compiling_subspaces + layers * in_layer


def _pairs(seeds: int) -> int:
    return seeds * (seeds - 1) // 2


def _seconds(tried: np.ndarray, names: list[str]) -> tuple[float, float]:
    """How much longer the first call takes than the second, which is compilation; and the second."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        distances(tried, names)
        times.append(time.perf_counter() - started)
    return max(0.0, times[0] - times[1]), times[1]
