"""The seeds of one method on one task, as analyses see them: wherever they were trained."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxstab import measures
from jaxstab.analysis.failures import failures
from jaxstab.analysis.permutation import pseudo_values
from jaxstab.config import SeedTriple
from jaxstab.errors import InputError
from jaxstab.measures import MEAN, MEASURES, Inputs
from jaxstab.runs.directory import Run
from jaxstab.runs.outputs import Saved, load_saved

Floats = NDArray[np.float64]

PAPER = ("sd", "pairwise_disagreement", "fleiss_kappa", "jsd", "cka", "op", "svcca")  # the paper's seven
STANDARD_DEVIATIONS = ("sd", "calibration_spread")  # their squares behave like averages over pairs


@dataclass(frozen=True)
class Sample:
    """Seeds whose outputs are finite.

    Attributes:
        name: of the method, in tables.
        path: where they come from.
        task: in words.
        metric: the score.
        inputs: predictions and what else there is.
        distances: [L, S, S] of every measure of pairs.
        identities: [S] what a seed is matched by with those of other samples; None if it has no number.
        reasons: [S] why a seed counts as failed, or None.
        diverged: seeds that are left out because their logits are not finite.
        nulls: of measures of representations `null` and `null_shuffled`, as in `measures.Results`.
        run: if it is one.
    """

    name: str
    path: Path
    task: str
    metric: str
    inputs: Inputs
    distances: Mapping[str, np.ndarray]
    identities: tuple[Any, ...] | None
    reasons: tuple[str | None, ...]
    diverged: tuple[int, ...] = ()
    nulls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    run: Run | None = None

    @property
    def seeds(self) -> int:
        """S."""
        return self.inputs.seeds

    @property
    def failed(self) -> NDArray[np.bool_]:
        """[S]."""
        return np.array([reason is not None for reason in self.reasons], bool)

    @cached_property
    def scores(self) -> Floats | None:
        """[S]; None without labels."""
        if self.inputs.labels is None or self.inputs.predictions is None:
            return None
        predictions, labels = jnp.asarray(self.inputs.predictions), jnp.asarray(self.inputs.labels)
        return np.asarray(measures.scores(self.metric, predictions, labels, self.inputs.classes), np.float64)

    @cached_property
    def examples_key(self) -> str:
        """The same for samples of the same test examples, as far as labels tell."""
        labels = self.inputs.labels
        content = b"" if labels is None else np.ascontiguousarray(labels, np.int32).tobytes()
        return hashlib.sha256(content + str(self.inputs.examples).encode()).hexdigest()

    @property
    def names(self) -> list[str]:
        """The measures that there are, `mean` of the score first."""
        scored = [] if self.scores is None else [MEAN]
        sets = [one.name for one in MEASURES.values() if one.shape == "set" and one.needs <= self.inputs.available]
        return scored + [name for name in MEASURES if name in self.distances or name in sets]

    def take(self, rows: Sequence[int]) -> "Sample":
        """Some of the seeds, by their places."""
        rows = [int(row) for row in rows]
        return replace(
            self,
            inputs=self.inputs.take(rows),
            distances={name: one[:, rows][:, :, rows] for name, one in self.distances.items()},
            identities=None if self.identities is None else tuple(self.identities[i] for i in rows),
            reasons=tuple(self.reasons[i] for i in rows),
        )

    def without_failed(self) -> "Sample":
        """The seeds that did not fail."""
        return self.take(np.flatnonzero(~self.failed).tolist())

    def subsets(self, names: Sequence[str], keeps: NDArray[np.bool_]) -> dict[str, Floats]:
        """Measures of subsets of seeds [R, S]: [L, R] each, see `measures.subset_values`."""
        return measures.subset_values(
            names, keeps, scores=self.scores, distances=self.distances, inputs=self.inputs, metric=self.metric
        )

    def values_and_left_out(self, names: Sequence[str]) -> dict[str, tuple[Floats, Floats]]:
        """Of each measure [L] with all seeds, and [L, S] without each of them."""
        keeps = np.concatenate([np.ones((1, self.seeds), bool), ~np.eye(self.seeds, dtype=bool)])
        return {name: (values[:, 0], values[:, 1:]) for name, values in self.subsets(names, keeps).items()}

    def rows(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Value and 95 % interval of each measure; of representations those of the last layer."""
        rows = {}
        for name, (values, left_out) in self.values_and_left_out(names).items():
            low, high = bounds(name, self.metric)
            value = np.clip(values[-1], low, high)
            interval = measures.jackknife_interval(value, left_out[-1], low if name != MEAN else -np.inf, high)
            ends = np.maximum(interval, low) if self.seeds > 2 or name == MEAN else np.full(2, np.nan)
            rows[name] = {"value": finite(value), "interval": finite_interval(ends)}
        return rows

    def contributions(self, names: Sequence[str]) -> dict[str, Floats]:
        """Pseudo-values [S] of each measure (last layer); of a standard deviation those of its square."""
        found = {}
        for name, (values, left_out) in self.values_and_left_out(names).items():
            power = 2 if name in STANDARD_DEVIATIONS else 1
            found[name] = pseudo_values(values[-1] ** power, left_out[-1] ** power)
        return found


def load_sample(
    path: str | Path,
    name: str | None = None,
    *,
    metric: str | None = None,
    labels: str | Path | None = None,
    only: Iterable[str] | None = None,
) -> Sample:
    """Reads a run, or outputs of any other framework, and computes what their seeds are compared by.

    Args:
        path: as for `jaxstab.measure`.
        name: in tables; by default that of the directory or file.
        metric: the score; that of the run, otherwise accuracy.
        labels: a file with the true labels, where they are not beside the predictions.
        only: measures that are needed; all by default.

    Raises:
        InputError: something cannot be read or measured; names the file.
    """
    saved = load_saved(path, labels)
    name = name or saved.path.resolve().name.removesuffix(saved.path.suffix if saved.run is None else "")
    try:
        chosen = [one for one in measures.select(only) if one.shape == "pairs"]
        inputs = measures.check(**saved.arrays, seeds=saved.seeds)
        if saved.run is None:
            return _of_arrays(saved, name, metric or "accuracy", inputs, chosen)
        return _of_run(saved, name, metric or saved.metric, inputs, chosen)
    except ValueError as error:
        raise InputError(f"{saved.path}: {error}") from None


def load_named(path: str | Path, **how: Any) -> Sample:
    """Does what `load_sample` does for a path that may be given as `NAME=PATH`."""
    if not Path(path).exists() and "=" in str(path):
        name, _, path = str(path).partition("=")
        return load_sample(path, name, **how)
    return load_sample(path, **how)


def _of_arrays(saved: Saved, name: str, metric: str, inputs: Inputs, chosen: Sequence[measures.Measure]) -> Sample:
    results = measures.measure(inputs, metric, chosen)
    identities = None if saved.seeds is None else tuple((seed,) * 3 for seed in saved.seeds)
    task = f"{inputs.examples} examples"
    nulls = {key: row for key, row in results.measures.items() if "null" in row}
    reasons = find_failures(saved, inputs, metric)
    return Sample(name, saved.path, task, metric, inputs, results.distances, identities, reasons, nulls=nulls)


def _of_run(saved: Saved, name: str, metric: str, inputs: Inputs, chosen: Sequence[measures.Measure]) -> Sample:
    run = saved.run
    assert run is not None
    distances = {one.name: run.distances[one.name] for one in chosen if one.name in run.distances}
    triples = {triple.seed: triple for triple in run.config.seeds.resolve()}
    return Sample(
        name,
        saved.path,
        task=Path(run.config.task.source.rpartition(":")[2]).name,
        metric=metric,
        inputs=inputs,
        distances=distances,
        identities=tuple(_identity(triples[int(seed)]) for seed in inputs.names),
        reasons=find_failures(saved, inputs, metric),
        diverged=tuple(int(seed) for seed in run.seeds if int(seed) not in set(inputs.names)),
        nulls={key: row for key, row in run.measures["measures"].items() if "null" in row},
        run=run,
    )


def _identity(triple: SeedTriple) -> tuple[int, ...]:
    """What makes a seed the same in another run."""
    three = (triple.init, triple.order, triple.dropout)
    return (*three, triple.repeat) if triple.repeat else three


def find_failures(saved: Saved, inputs: Inputs, metric: str) -> tuple[str | None, ...]:
    """Says of each seed in `inputs` why it failed, if it did: of a run by its last parameters and its training loss."""
    run = saved.run
    if run is not None:
        losses = run.history.pivot(index="seed", columns="epoch", values="train_loss").loc[run.seeds].to_numpy()
        of_run = dict(zip(run.seeds.tolist(), failures(run.final_logits, run.labels, metric, losses), strict=True))
        return tuple(of_run[int(seed)] for seed in inputs.names)
    if inputs.predictions is None or inputs.labels is None:
        return (None,) * inputs.seeds
    votes = np.eye(inputs.classes, dtype=np.float32)[inputs.predictions]
    return tuple(failures(votes, inputs.labels, metric))


def bounds(name: str, metric: str) -> tuple[float, float]:
    """Smallest and largest possible value of a measure, or of the mean score."""
    if name == MEAN:
        return (-1 if metric == "matthews" else 0), 1
    return MEASURES[name].low, MEASURES[name].high


def finite(value: Any) -> float | None:
    """A plain float32, None if it is not finite."""
    return measures.plain(value) if np.isfinite(value) else None


def finite_interval(ends: Sequence[float] | Floats) -> list[float] | None:
    """Both ends as plain numbers; None if one is not finite."""
    return [measures.plain(end) for end in ends] if np.isfinite(ends).all() else None
