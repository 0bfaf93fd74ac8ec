"""What representation measures say of representations that have nothing to do with each other."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from jaxstab.measures.representation import distances
from jaxstab.measures.resampling import mean_over_pairs

NULL_SEEDS = 6
VERSION = 1  # of the measures' definitions: a change makes cached values unused


def gaussian_null(names: Sequence[str], examples: int, features: int) -> dict[str, float]:
    """Returns measures of independent standard normal representations, simulated once and cached on disk.

    Args:
        names: of representation measures.
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
    """Returns measures of a layer whose examples are shuffled in each seed apart: as spread out, but unrelated.

    Args:
        names: of representation measures.
        representations: [S, N, D] of one layer; the first six seeds are used.
    """
    rng = np.random.default_rng(0)
    shuffled = np.stack([one[rng.permutation(len(one))] for one in representations[:NULL_SEEDS]])
    found = distances(shuffled, names)
    return {name: float(mean_over_pairs(matrix)) for name, matrix in found.items()}


def _load(path: Path) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _save(path: Path, values: dict[str, float]) -> None:
    """Written whole; a cache that cannot be written is none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(values))
        temporary.replace(path)
    except OSError:
        pass
