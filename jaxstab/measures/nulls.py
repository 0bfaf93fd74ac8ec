"""Nulls of measures of representations and of predicted numbers: their values for unrelated seeds."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from jaxstab.measures.inputs import Inputs
from jaxstab.measures.programs import OnDevice, pair_distances
from jaxstab.measures.registry import MEASURES
from jaxstab.measures.representation import distances
from jaxstab.measures.resampling import mean_over_pairs
from jaxstab.measures.subsets import subset_values

NULL_SEEDS = 6
VERSION = 1  # version of the measures' definitions; increase it to invalidate cached values


def gaussian_null(names: Sequence[str], examples: int, features: int) -> dict[str, float]:
    """Returns measures of independent standard normal representations; simulated once, then cached on disk.

    Args:
        names: names of representation measures.
        examples: N.
        features: D.
    """
    path = user_cache_path("jaxstab") / "nulls" / f"v{VERSION}-{examples}-{features}.json"
    known = _load(path)
    missing = [name for name in names if name not in known]
    if missing:
        draws = np.random.default_rng(0).standard_normal((NULL_SEEDS, examples, features), np.float32)
        found = distances(draws, missing)
        known |= {name: float(mean_over_pairs(matrix)) for name, matrix in found.items()}
        _save(path, known)
    return {name: known[name] for name in names}


def shuffled_null(names: Sequence[str], representations: np.ndarray) -> dict[str, float]:
    """Returns measures of a layer whose examples are shuffled independently in each seed.

    Shuffling leaves the spread of each representation unchanged and makes the seeds unrelated.

    Args:
        names: names of representation measures.
        representations: [S, N, D] of one layer; the first six seeds are used.
    """
    rng = np.random.default_rng(0)
    shuffled = np.stack([one[rng.permutation(len(one))] for one in representations[:NULL_SEEDS]])
    found = distances(shuffled, names)
    return {name: float(mean_over_pairs(matrix)) for name, matrix in found.items()}


def shuffled_number_null(names: Sequence[str], inputs: Inputs) -> dict[str, float]:
    """Returns measures of predicted numbers whose examples are shuffled independently in each seed.

    Args:
        names: names of measures of numbers.
        inputs: the predictions; the first six seeds are used.
    """
    if not names or inputs.predictions is None:
        return {}
    rng = np.random.default_rng(0)
    shuffled = np.stack([one[rng.permutation(len(one))] for one in inputs.predictions[:NULL_SEEDS]])
    seeds = len(shuffled)
    unrelated = Inputs(1, None, shuffled, None, None, range(seeds))
    of_pairs = tuple(name for name in names if MEASURES[name].shape == "pairs")
    matrices = pair_distances(OnDevice.of(unrelated, "pearson"), of_pairs) if of_pairs else {}
    of_all = {name: np.asarray(matrix)[None] for name, matrix in matrices.items()}
    values = subset_values(names, np.ones((1, seeds), bool), inputs=unrelated, distances=of_all)
    return {name: float(value[0, 0]) for name, value in values.items()}


def _load(path: Path) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _save(path: Path, values: dict[str, float]) -> None:
    """Writes the cache file atomically; if it cannot be written, nothing is cached."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(values))
        temporary.replace(path)
    except OSError:
        pass
