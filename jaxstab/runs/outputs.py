"""The outputs of seeds, of a run or of any other framework: what readers return and analyses take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from jaxstab.config import Metric
from jaxstab.runs.directory import Run

ARRAYS = ("logits", "predictions", "labels", "representations", "scores")
METRICS: tuple[str, ...] = get_args(Metric)  # scores of predictions and labels


@dataclass(frozen=True)
class Outputs:
    """What a path holds of one task.

    Attributes:
        path: where it lies.
        seeds: [S] numbers of the seeds; 0, 1, ... if None.
        arrays: some of `logits` [S, N, C], `predictions` [S, N], `labels` [N], `representations` [S, L, N, D] and, if
            they do not follow from labels, `scores` [S].
        metric: the score; None if none is asked for, which leaves it to what the arrays are.
        run: the run that it is, if it is one.
        diverged: numbers of the seeds that are left out, because their logits are not finite.
        task: name of the task, if it is known.
        examples: a key that is the same for the same test examples, if one is known.
        notes: what a user should know of how they were read, one line each.
    """

    path: Path
    seeds: list[int] | None
    arrays: dict[str, Any]
    metric: str | None = None
    run: Run | None = None
    diverged: tuple[int, ...] = ()
    task: str | None = None
    examples: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """[S] numbers of the seeds; 0, 1, ... where none are given."""
        if self.seeds is not None:
            return self.seeds
        first = next(array for name, array in self.arrays.items() if name != "labels")
        return list(range(len(np.atleast_1d(first))))

    def take(self, places: Sequence[int]) -> "Outputs":
        """The outputs of the seeds at these positions."""
        numbers = self.numbers

        def by_seed(name: str, array: Any) -> bool:  # arrays of the wrong shape are named later
            return name != "labels" and getattr(array, "ndim", 1) > 0 and len(array) == len(numbers)

        arrays = {name: array[list(places)] if by_seed(name, array) else array for name, array in self.arrays.items()}
        return replace(self, seeds=[numbers[place] for place in places], arrays=arrays)

    def without_diverged(self) -> "Outputs":
        """Leaves out seeds whose logits are not finite, if others are left.

        In a run, one such example is enough. Of other outputs no example may be finite, because a single value is
        rather a mistake in the file.
        """
        logits = self.arrays.get("logits")
        if not isinstance(logits, np.ndarray) or logits.ndim != 3 or logits.dtype.kind != "f":
            return self  # no logits, or an error that is found later
        finite, seeds = np.asarray(np.isfinite(logits).all(axis=2)), self.numbers
        good = np.asarray(finite.any(axis=1) if self.run is None else finite.all(axis=1))
        if good.all() or not good.any() or len(seeds) != len(logits):
            return self
        diverged = tuple(seed for seed, one in zip(seeds, good, strict=True) if not one)
        return replace(self.take(np.flatnonzero(good).tolist()), diverged=diverged)
