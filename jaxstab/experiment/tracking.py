"""Follows training: passes its events on to the display, and writes the learning curves of every seed as it goes."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from jaxstab import libraries
from jaxstab.config import SeedTriple
from jaxstab.experiment.curves import MAX, MIN, Curves, open_bands, open_curves
from jaxstab.experiment.progress import Progress
from jaxstab.experiment.status import PendingRun
from jaxstab.runs.directory import seed_file
from jaxstab.runs.files import load_arrays
from jaxstab.training import processes
from jaxstab.training.lowering import Job
from jaxstab.training.step import Evaluation
from jaxstab.training.waves import SeedResult


class Tracker:
    """Writes learning curves where the config wants them. If that fails, training continues without it.

    It receives the events of `training.waves.Progress`, and of seeds that are finished.
    """

    def __init__(self, pending: Sequence[PendingRun], waves: Sequence[Sequence[Sequence[Job]]], display: Progress):
        """Opens nothing yet.

        Args:
            pending: the runs.
            waves: the groups of seeds that this process trains; a wave of padding is empty.
            display: is told everything that happens in training.
        """
        self._display = display
        self._waves = [[job for group in wave for job in group] for wave in waves]
        self._wave = -1
        outputs = [one.config.output for one in pending]
        self._runs = {one.run.path: _RunCurves(one) for one in pending}
        self._fails = not any(output.tensorboard or output.wandb for output in outputs)

    def __enter__(self) -> "Tracker":
        """Gets ready."""
        for run in self._runs.values():
            self._try(run.load_finished)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends all curves."""
        for run in self._runs.values():
            self._try(run.close)

    def stepped(self, wave: int, step: int) -> None:
        """A wave has taken `step` steps; before the first, the curves of its seeds are opened."""
        if wave != self._wave:
            self._wave = wave
            for job in self._waves[wave]:
                self._try(self._runs[job.run].begin, job.triple)
        self._display.stepped(wave, step)

    def restored(self, wave: int, history: Sequence[Evaluation]) -> None:
        """A wave continues from checkpoints; their curves are written again."""
        self._display.restored(wave, history)
        for evaluation in history:
            self._add(wave, evaluation)

    def evaluated(self, wave: int, epoch: int, evaluation: Evaluation) -> None:
        """An epoch of a wave is done."""
        self._display.evaluated(wave, epoch, evaluation)
        self._add(wave, evaluation)

    def finished(self, job: Job, result: SeedResult) -> None:
        """A seed has been trained to the end, perhaps by another process."""
        curves = Evaluation(result.train_loss, result.validation_loss, result.validation_score)
        self._try(self._runs[job.run].finish, job.triple.seed, curves)

    def _add(self, wave: int, evaluation: Evaluation) -> None:
        for place, job in enumerate(self._waves[wave]):
            values = Evaluation(*(array[place] for array in evaluation))
            self._try(self._runs[job.run].add, job.triple.seed, values)

    def _try(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._fails:
            return
        try:
            call(*arguments)
        except Exception as error:  # each library has its own
            self._fails = True
            reason = libraries.reason(error)
            self._display.warn(f"learning curves are no longer written ({reason}); training continues")


class _RunCurves:
    """The curves of a run: those of the seeds in training, and bands over all seeds."""

    def __init__(self, pending: PendingRun):
        self._pending = pending
        self._names = ("train_loss", "validation_loss", f"validation_{pending.info.metric}")
        self._open: dict[int, list[Curves]] = {}
        self._bands: list[Curves] = []
        self._banded = 0  # epochs
        self._history: dict[int, list[Evaluation]] = {}

    def load_finished(self) -> None:
        """Reads the curves of the seeds that had finished before."""
        for triple in self._pending.info.seeds:
            path = seed_file(self._pending.run, triple.seed)
            if path.exists():
                arrays = load_arrays(path)
                self._history[triple.seed] = _by_epoch(Evaluation(*(arrays[name] for name in Evaluation._fields)))

    def begin(self, triple: SeedTriple) -> None:
        """Opens the curves of a seed."""
        self._history[triple.seed] = []
        self._open[triple.seed] = open_curves(self._pending.config, self._pending.run, triple)

    def add(self, seed: int, values: Evaluation) -> None:
        """Adds the next epoch of a seed."""
        self._history[seed].append(values)
        named = {name: float(value) for name, value in zip(self._names, values, strict=True)}
        self._write(self._open[seed], len(self._history[seed]), named)
        self._write_bands()

    def finish(self, seed: int, curves: Evaluation) -> None:
        """Ends a seed's curves [E]; they may be those of another process."""
        self._history[seed] = _by_epoch(curves)
        self._write_bands()
        for one in self._open.pop(seed, []):
            one.close(complete=True)

    def close(self) -> None:
        """Ends what is open."""
        for one in [*self._bands, *(one for curves in self._open.values() for one in curves)]:
            one.close(complete=False)

    def _write_bands(self) -> None:
        """Adds the epochs that all seeds have by now; one process does it for all."""
        if len(self._history) < len(self._pending.info.seeds) or not processes.is_first():
            return
        while self._banded < min(map(len, self._history.values())):
            if not self._bands:
                self._bands = open_bands(self._pending.config, self._pending.run)
            of_seeds = zip(*(curves[self._banded] for curves in self._history.values()), strict=True)
            self._banded += 1
            self._write(
                self._bands,
                self._banded,
                {
                    name + end: value
                    for name, values in zip(self._names, of_seeds, strict=True)
                    for end, value in _band(np.asarray(values)).items()
                },
            )

    def _write(self, curves: Sequence[Curves], epoch: int, values: Mapping[str, float]) -> None:
        for one in curves:
            one.add(epoch * self._pending.info.steps_per_epoch, values)


def _band(values: np.ndarray) -> dict[str, float]:
    """The mean of the seeds, under the name of their own curves, and the ends of the band; without diverged seeds."""
    finite = values[np.isfinite(values)]
    return {"": finite.mean(), MIN: finite.min(), MAX: finite.max()} if len(finite) else {}


def _by_epoch(curves: Evaluation) -> list[Evaluation]:
    return [Evaluation(*values) for values in zip(*curves, strict=True)]
