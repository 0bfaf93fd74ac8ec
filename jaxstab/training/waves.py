"""Many seeds at once: waves of groups on all devices.

Every device trains G seeds at once, with copies of one program. On an accelerator the program holds all G seeds
(`vmap`). On a CPU it holds one and G threads call it, because a larger program is no faster there. The last bits of
XLA's sums may change with the shape of a batch, so G is fixed for a run and smaller groups are padded. A seed's
numbers therefore do not depend on its neighbours, its slot, or the number of waves or devices.

Seeds do not communicate, so there is no mesh. XLA compiles a program differently for one partition than for several
(`shard_map` over one and over two CPU devices differed by 4e-8 after 12 steps). Only independent copies of one program
give the same bits on any number of devices.
"""

import collections
import functools
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np

from jaxstab.training.checkpoints import Checkpoints
from jaxstab.training.lowering import Job
from jaxstab.training.programs import Programs
from jaxstab.training.step import Evaluation
from jaxstab.training.stopping import last_epochs

Item = TypeVar("Item")
REPORTS_PER_EPOCH = 10
LONGEST_STRETCH = 20  # steps between stop checks
TIMED_STEPS = 8
CURVES = tuple(f"curves.{name}" for name in Evaluation._fields)  # learning curves, in a checkpoint beside the state


@runtime_checkable
class Progress(Protocol):
    """Receives the events of training (`jaxstab.experiment.progress`)."""

    def stepped(self, wave: int, step: int) -> None:
        """A wave has taken `step` steps."""

    def restored(self, wave: int, history: Sequence[Evaluation]) -> None:
        """A wave continues from checkpoints, which hold these evaluations, one for each epoch that is done."""

    def evaluated(self, wave: int, epoch: int, evaluation: Evaluation) -> None:
        """An epoch of a wave is done; arrays are [seeds in the wave]."""


class SeedResult(NamedTuple):
    """The results of one seed as numpy arrays.

    Attributes:
        logits: [N, C] float32, from the best-validation parameters on the test split.
        final_logits: [N, C] float32, from the last parameters.
        representations: [L, M, D] float32, hidden state after each layer of the token that the head reads, from the
            best-validation parameters on `represented_examples` of the test split.
        train_loss: [E] float32, mean over each epoch, nats. Curves of a stopped seed stay where they were.
        validation_loss: [E] float32, nats.
        validation_score: [E] float32.
        weights: nested dict of the trained parameters, best-validation or last; None unless asked for.
    """

    logits: np.ndarray
    final_logits: np.ndarray
    representations: np.ndarray
    train_loss: np.ndarray
    validation_loss: np.ndarray
    validation_score: np.ndarray
    weights: Any = None


class Seconds(NamedTuple):
    """The duration of each part of a wave, in seconds."""

    step: float
    evaluation: float
    prediction: float


def make_groups(jobs: Sequence[Job], width: int) -> list[Sequence[Job]]:
    """Divides seeds into groups of at most `width`; all seeds of a group resume from the same step."""
    groups: list[Sequence[Job]] = []
    for _, same in itertools.groupby(jobs, lambda job: job.step):
        groups += _chunks(list(same), width)
    return groups


def make_waves(jobs: Sequence[Job], width: int, groups: int) -> list[list[Sequence[Job]]]:
    """Divides seeds into waves of `groups` groups, most advanced seeds first; the last wave may be smaller.

    Args:
        jobs: the seeds.
        width: W, seeds in a group.
        groups: number of groups trained at once.
    """
    ordered = sorted(jobs, key=lambda job: -job.step)
    return [list(wave) for wave in _chunks(make_groups(ordered, width), groups)]


class SeedTrainer:
    """Trains waves of seeds with compiled programs; `train_wave` may be called any number of times."""

    def __init__(self, programs: Sequence[Programs], weights: Literal["best", "final"] | None = None):
        """Creates the groups that train the seeds of a wave.

        Args:
            programs: one for each device.
            weights: which weights of each seed to return: best, final, or none.
        """
        self._weights = weights
        self.recipe = programs[0].recipe
        self.width = programs[0].width
        self._groups = [_Group(one) for one in programs for _ in range(one.group_size // one.width)]
        self.groups = len(self._groups)

    def train_wave(
        self, wave: Sequence[Sequence[Job]], number: int, progress: Progress, checkpoints: Checkpoints | None = None
    ) -> list[SeedResult]:
        """Fine-tunes up to `groups` groups of up to `width` seeds to the end.

        Args:
            wave: the groups (`make_waves`).
            number: number of the wave, for `progress`.
            progress: called after every stretch of steps and every evaluation, and with those of checkpoints.
            checkpoints: saves the seeds when a checkpoint is due, and on an interrupt.

        Raises:
            KeyboardInterrupt: after an interrupt; its text says what is saved.
        """
        groups, count = self._start(wave, checkpoints), sum(map(len, wave))
        history = [_evaluation(groups, wave, epoch) for epoch in range(min(len(group.history) for group in groups))]

        def report() -> None:
            progress.stepped(number, min(one.done for one in groups))

        def one_round(group: _Group) -> None:
            group.train_epoch(len(history), report, checkpoints.due if checkpoints else None)

        try:
            report()
            if history:
                progress.restored(number, list(history))
            while len(history) < self.recipe.config.epochs:
                _each(groups, one_round)
                if checkpoints and checkpoints.due():
                    _save(groups, checkpoints)
                    checkpoints.saved()
                if all(len(group.history) > len(history) for group in groups):
                    history.append(_evaluation(groups, wave, len(history)))
                    progress.evaluated(number, len(history), history[-1])
            by_seed = _gather(_each(groups, _Group.predict), wave)
        except KeyboardInterrupt:
            if checkpoints is None:
                raise
            raise KeyboardInterrupt(_save_in_time(groups, checkpoints, self.recipe.steps_per_epoch)) from None
        by_seed += [np.stack(values, axis=1) for values in zip(*history, strict=True)]
        results = [SeedResult(*(values[i] for values in by_seed)) for i in range(count)]
        if self._weights:
            trained = [group.weights(self._weights, place) for group in groups for place in range(len(group.jobs))]
            results = [one._replace(weights=weights) for one, weights in zip(results, trained, strict=True)]
        _each(groups, _Group.stop)
        return results

    def time_wave(self, wave: Sequence[Sequence[Job]]) -> Seconds:
        """Times some steps, an evaluation and a prediction of a wave, each after one warm-up call."""
        groups, count = self._start(wave), min(TIMED_STEPS, self.recipe.steps_per_epoch)

        def seconds(call: Callable[[_Group], Any]) -> float:
            _each(groups, call)
            started = time.perf_counter()
            _each(groups, call)
            return time.perf_counter() - started

        step = seconds(lambda group: group.train(0, count)) / count
        parts = Seconds(step, seconds(_Group.evaluate), seconds(_Group.predict))
        _each(groups, _Group.stop)
        return parts

    def _start(self, wave: Sequence[Sequence[Job]], checkpoints: Checkpoints | None = None) -> list["_Group"]:
        """Initialises seeds, or loads their checkpoints."""
        groups = self._groups[: len(wave)]
        for group, jobs in zip(groups, wave, strict=True):
            group.start(jobs, checkpoints)
        return groups


class _Group:
    """The state of W seeds on one device, and their best parameters so far on the host."""

    def __init__(self, programs: Programs):
        self._programs = programs
        # After an interrupt a thread may still be in a step; a checkpoint must be taken between steps.
        self._lock = threading.Lock()

    def start(self, jobs: Sequence[Job], checkpoints: Checkpoints | None) -> None:
        """Initialises up to W seeds, or loads their checkpoints."""
        self.jobs, self.done, self.stopped = jobs, jobs[0].step, False
        self.history: list[Evaluation] = []
        self._best: list[Any] = [None] * len(jobs)
        self._inputs, self._state = self._programs.start(jobs)
        if self.done and checkpoints:
            self._resume(checkpoints)

    def _resume(self, checkpoints: Checkpoints) -> None:
        epochs, curves = self.done // self._programs.recipe.steps_per_epoch, []
        shapes = self._programs.saved_shapes(evaluated=epochs > 0) | self._curve_shapes
        for place, job in enumerate(self.jobs):
            arrays = checkpoints.load(job, shapes)
            self._state, self._best[place] = self._programs.load(self._state, arrays, place)
            curves.append([arrays[name][:epochs] for name in CURVES])
        self.history = [Evaluation(*values) for values in np.transpose(curves, (2, 1, 0))]

    def stop(self) -> None:
        """Frees the memory of the seeds."""
        del self._state, self._inputs, self._best

    def train(self, start: int, stop: int) -> None:
        """Takes the steps from `start` up to `stop`."""
        self._state = self._programs.train(self._state, self._inputs, start, stop)
        jax.block_until_ready(self._state.loss_sum)
        self.done = stop

    def train_epoch(self, epoch: int, report: Callable[[], None], is_due: Callable[[], bool] | None) -> None:
        """Trains to the end of an epoch and evaluates; pauses early if a checkpoint is due or the group is stopped.

        Args:
            epoch: number of the epoch, from 0; an epoch that is already done is skipped.
            report: called after every stretch of steps.
            is_due: called after every stretch of steps; training pauses if it returns true.
        """
        steps = self._programs.recipe.steps_per_epoch
        end, longest = (epoch + 1) * steps, min(LONGEST_STRETCH, -(-steps // REPORTS_PER_EPOCH))
        while self.done < end and not self.stopped:
            with self._lock:
                if self._have_stopped().all():
                    self.done = end
                    self.history.append(self.history[-1])
                else:
                    self.train(self.done, min(self.done + longest, end))
                    if self.done == end:  # under the lock, so that the step count tells which epochs were evaluated
                        self.evaluate()
            report()
            if is_due and is_due():
                return

    def evaluate(self) -> None:
        """Scores every seed, and copies the parameters of those that are better than before to the host."""
        self._state, evaluation = self._programs.evaluate(self._state, self._inputs)
        values = Evaluation(*(values[: len(self.jobs)] for values in jax.device_get(evaluation)))
        stopped = self._have_stopped()
        if stopped.any():  # their curves stay where they were
            values = Evaluation(*(np.where(stopped, *pair) for pair in zip(self.history[-1], values, strict=True)))
        self.history.append(values)
        for place in np.flatnonzero(self._improved()):
            self._best[place] = None  # frees its memory first
            self._best[place] = self._programs.take(self._state.evaluated, int(place))

    def _have_stopped(self) -> np.ndarray:
        """Which seeds early stopping has stopped."""
        scores = np.array([one.validation_score for one in self.history]).reshape(-1, len(self.jobs))
        return last_epochs(scores.T, self._programs.recipe.config.patience) <= len(self.history)

    def _improved(self) -> np.ndarray:
        """Which seeds have their best score in the last evaluation; of equal scores, the first counts as the best."""
        *before, last = (one.validation_score for one in self.history)
        return last > np.max(before, axis=0, initial=-np.inf)

    def state(self, place: int) -> tuple[int, dict[str, np.ndarray]]:
        """The number of steps of a seed, and its state and learning curves as arrays by name."""
        with self._lock:
            arrays = self._programs.save(self._state, self._best[place], place)
            return self.done, arrays | self._curves(place)

    @functools.cached_property
    def state_bytes(self) -> int:
        """Size of the state of a seed."""
        shapes = self._programs.saved_shapes(evaluated=True) | self._curve_shapes
        return sum(shape.size * shape.dtype.itemsize for shape in shapes.values())

    def _curves(self, place: int) -> dict[str, np.ndarray]:
        curves = {name: np.zeros(shape.shape, shape.dtype) for name, shape in self._curve_shapes.items()}
        for epoch, evaluation in enumerate(self.history):
            for name, values in zip(CURVES, evaluation, strict=True):
                curves[name][epoch] = values[place]
        return curves

    def predict(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Test logits [W, N, C] of best and of last parameters, and representations [W, L, M, D] of the best."""
        all_last = bool(self._improved().all())
        last, represented = self._programs.predict(self._state.evaluated, self._inputs, represent=all_last)
        if all_last:
            return jax.device_get((last, last, represented))
        last = jax.device_get(last)
        del represented  # its memory is needed
        best, represented = self._programs.predict(self._programs.put(self._best), self._inputs, represent=True)
        return jax.device_get((best, last, represented))

    def weights(self, which: Literal["best", "final"], place: int) -> Any:
        """The trained parameters of the seed in slot `place`."""
        kept = self._best[place] if which == "best" else self._programs.take(self._state.evaluated, place)
        return jax.device_get(kept)

    @property
    def _curve_shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        curve = jax.ShapeDtypeStruct((self._programs.recipe.config.epochs,), np.float32)
        return dict.fromkeys(CURVES, curve)


def _save(groups: Sequence[_Group], checkpoints: Checkpoints) -> None:
    """Gives the seeds to the checkpoints, those with most to lose first."""
    places = [(group, place) for group in groups for place in range(len(group.jobs))]
    for group, place in sorted(places, key=lambda one: -checkpoints.unsaved(one[0].jobs[one[1]], one[0].done)):
        if checkpoints.wants(group.jobs[place], group.done, group.state_bytes):
            checkpoints.save(group.jobs[place], *group.state(place))


def _save_in_time(groups: Sequence[_Group], checkpoints: Checkpoints, steps_per_epoch: int) -> str:
    """Saves as many seeds as there is time for, and says which resume from where."""
    checkpoints.hurry()
    _save(groups, checkpoints)
    checkpoints.wait()
    seeds = [(job, group.done) for group in groups for job in group.jobs]
    behind = [step - left for job, step in seeds if (left := checkpoints.unsaved(job, step))]
    if not behind:
        return "progress is saved"
    counts = sorted(collections.Counter(behind).items(), reverse=True)
    where = [f"{n} resume from {f'epoch {step / steps_per_epoch:.3g}' if step else 'the start'}" for step, n in counts]
    return f"saved {len(seeds) - len(behind)} of {len(seeds)} seeds in training; {', '.join(where)}"


def _each(groups: Sequence[_Group], call: Callable[[_Group], Any]) -> list[Any]:
    """Calls a function for all groups in parallel; after an error or an interrupt the other groups stop."""
    with ThreadPoolExecutor(len(groups)) as threads:
        try:
            return list(threads.map(call, groups))
        except BaseException:
            for group in groups:
                group.stopped = True
            raise


def _evaluation(groups: Sequence[_Group], wave: Sequence[Sequence[Job]], epoch: int) -> Evaluation:
    """The evaluation of all seeds of a wave after an epoch, counted from 0."""
    return Evaluation(*_gather([group.history[epoch] for group in groups], wave))


def _gather(by_group: Sequence[Any], wave: Sequence[Sequence[Job]]) -> list[np.ndarray]:
    """Concatenates the groups' arrays [W, ...] without their padding."""
    cut = [[array[: len(jobs)] for array in arrays] for arrays, jobs in zip(by_group, wave, strict=True)]
    return [np.concatenate(arrays) for arrays in zip(*cut, strict=True)]


def _chunks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
