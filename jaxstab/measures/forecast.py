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

    Compilation is not counted. Most measures take a time that grows with the number of seeds, and little for each pair.
    Those that need singular values take as long for each pair that is measured (`chosen_pairs`) as for each seed.

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
    others = [name for name in names if name not in SUBSPACES]
    of_few, of_more = _seconds(few, others), _seconds(more, others)
    of_pair = max(0.0, (of_more - of_few * MORE / FEW) / (_pairs(MORE) - _pairs(FEW) * MORE / FEW))
    of_seed = (of_few - of_pair * _pairs(FEW)) / FEW
    of_subspace = _seconds(few, [name for name in names if name in SUBSPACES]) / (_pairs(FEW) + FEW)
    drawn = len(chosen_pairs(seeds, MAX_PAIRS))
    return layers * (of_pair * _pairs(seeds) + of_seed * seeds + of_subspace * (drawn + seeds))


def _pairs(seeds: int) -> int:
    return seeds * (seeds - 1) // 2


def _seconds(tried: np.ndarray, names: list[str]) -> float:
    distances(tried, names)  # compiles
    started = time.perf_counter()
    distances(tried, names)
    return time.perf_counter() - started
