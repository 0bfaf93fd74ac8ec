"""Many seeds at once: waves of groups on all devices.

G seeds are trained at once on every device, by copies of one program. On an accelerator the program holds all G of them
(`vmap`); on a CPU it holds one, and G threads call it, because there a larger program gains nothing but memory. XLA's
reductions may change in the last bits with the shape of a batch, so G is fixed for a run: a group with fewer seeds is
filled up with dummies, and a seed's numbers do not depend on its neighbours, its place, how many waves or devices.

Seeds exchange nothing, so there is no mesh: XLA compiles a program for one partition otherwise than the same one for
several (`shard_map` over one and over two CPU devices differed by 4e-8 after 12 steps), and only independent copies of
one program give the same bits on any number of devices.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import jax
import numpy as np

from jaxstab.programs import Job, Programs
from jaxstab.train import Evaluation

Item = TypeVar("Item")
REPORTS_PER_EPOCH = 10
TIMED_STEPS = 8


class Progress(Protocol):
    """What wants to know how training gets on; `jaxstab.report.terminal` shows it."""

    def stepped(self, wave: int, step: int) -> None:
        """So many steps of a wave are done."""

    def evaluated(self, wave: int, epoch: int, evaluation: Evaluation) -> None:
        """An epoch of a wave is done; arrays are [seeds in the wave]."""


class SeedResult(NamedTuple):
    """What one seed leaves, as numpy arrays.

    Attributes:
        logits: [N, C] float32, of the best-validation parameters on the test split.
        final_logits: [N, C] float32, of the last parameters.
        representations: [L, M, D] float32, hidden state of the first token after each layer, of the best-validation
            parameters on `represented_examples` of the test split.
        train_loss: [E] float32, mean over each epoch, nats.
        validation_loss: [E] float32, nats.
        validation_score: [E] float32.
        weights: nested dict of what was trained, of the best validation score or the last; None unless kept.
    """

    logits: np.ndarray
    final_logits: np.ndarray
    representations: np.ndarray
    train_loss: np.ndarray
    validation_loss: np.ndarray
    validation_score: np.ndarray
    weights: Any = None


class Seconds(NamedTuple):
    """How long a wave takes, by its parts."""

    step: float
    evaluation: float
    prediction: float


def make_waves(jobs: Sequence[Item], wave_size: int) -> list[Sequence[Item]]:
    """Divides seeds into waves, the last of which may be shorter."""
    return [jobs[i : i + wave_size] for i in range(0, len(jobs), wave_size)]


class SeedTrainer:
    """Trains waves of seeds with compiled programs; `train_wave` may be called any number of times."""

    def __init__(self, programs: Sequence[Programs], keep: Literal["best", "final"] | None = None):
        """Shares out the seeds of a wave.

        Args:
            programs: one for each device.
            keep: which weights to return.
        """
        self._keep = keep
        self.recipe = programs[0].recipe
        self._width = programs[0].width
        self._groups = [_Group(one) for one in programs for _ in range(one.group_size // one.width)]
        self.wave_size = self._width * len(self._groups)

    def train_wave(self, jobs: Sequence[Job], wave: int, progress: Progress) -> list[SeedResult]:
        """Fine-tunes up to `wave_size` seeds from start to end.

        Args:
            jobs: the seeds.
            wave: its number, for `progress`.
            progress: told after every stretch of steps and every evaluation.
        """
        groups = self._start(jobs)
        steps = self.recipe.steps_per_epoch
        history: list[Evaluation] = []
        for epoch in range(self.recipe.config.epochs):
            stretches = list(_stretches(epoch * steps, (epoch + 1) * steps))

            def one_epoch(group: _Group, stretches: Sequence[tuple[int, int]] = stretches) -> Evaluation:
                for start, stop in stretches:
                    group.train(start, stop)
                    progress.stepped(wave, min(one.done for one in groups))
                return group.evaluate()

            history.append(Evaluation(*_gather(_each(groups, one_epoch), len(jobs))))
            progress.evaluated(wave, epoch + 1, history[-1])
        by_seed = _gather(_each(groups, _Group.predict), len(jobs))
        by_seed += [np.stack(values, axis=1) for values in zip(*history, strict=True)]
        results = [SeedResult(*(values[i] for values in by_seed)) for i in range(len(jobs))]
        if self._keep:
            kept = [group.weights(self._keep, place) for group in groups for place in range(self._width)]
            results = [one._replace(weights=weights) for one, weights in zip(results, kept, strict=False)]
        _each(groups, _Group.stop)
        return results

    def time_wave(self, jobs: Sequence[Job]) -> Seconds:
        """Times some steps, an evaluation and a prediction of a wave, each after one that does not count."""
        groups, count = self._start(jobs), min(TIMED_STEPS, self.recipe.steps_per_epoch)

        def seconds(call: Callable[[_Group], Any]) -> float:
            _each(groups, call)
            started = time.perf_counter()
            _each(groups, call)
            return time.perf_counter() - started

        step = seconds(lambda group: group.train(0, count)) / count
        parts = Seconds(step, seconds(_Group.evaluate), seconds(_Group.predict))
        _each(groups, _Group.stop)
        return parts

    def _start(self, jobs: Sequence[Job]) -> list["_Group"]:
        """Initialises seeds in as many groups as they need."""
        parts = make_waves(jobs, self._width)
        groups = self._groups[: len(parts)]
        for group, part in zip(groups, parts, strict=True):
            group.start(part)
        return groups


class _Group:
    """W seeds of one device in one state."""

    def __init__(self, programs: Programs):
        self._programs = programs

    def start(self, jobs: Sequence[Job]) -> None:
        """Initialises up to W seeds."""
        self._inputs = self._programs.inputs(jobs)
        self._state = self._programs.init(self._inputs)
        self.done, self.cancelled = 0, False

    def stop(self) -> None:
        """Frees the memory of the seeds."""
        del self._state, self._inputs

    def train(self, start: int, stop: int) -> None:
        """Takes the steps from `start` up to `stop`."""
        if self.cancelled:
            raise CancelledError
        self._state = self._programs.train(self._state, self._inputs, start, stop)
        jax.block_until_ready(self._state.loss_sum)
        self.done = stop

    def evaluate(self) -> Evaluation:
        """Scores every seed; values are [W]."""
        self._state, evaluation = self._programs.evaluate(self._state, self._inputs)
        return jax.device_get(evaluation)

    def predict(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Test logits [W, N, C] of the best and of the last parameters, and representations [W, L, M, D]."""
        return jax.device_get(self._programs.predict(self._state, self._inputs))

    def weights(self, which: Literal["best", "final"], place: int) -> Any:
        """What was trained with the seed at a place."""
        kept = self._state.best_params if which == "best" else self._state.evaluated
        return jax.device_get(jax.tree.map(lambda leaf: leaf[place], kept))


def _each(groups: Sequence[_Group], call: Callable[[_Group], Any]) -> list[Any]:
    """Calls a function of every group at the same time; where one fails, or the user interrupts, the others stop."""
    with ThreadPoolExecutor(len(groups)) as threads:
        try:
            return list(threads.map(call, groups))
        except BaseException:
            for group in groups:
                group.cancelled = True
            raise


def _gather(by_group: Sequence[Sequence[np.ndarray]], count: int) -> list[np.ndarray]:
    """Puts each of the groups' arrays [W, ...] together and cuts off dummies."""
    return [np.concatenate(arrays)[:count] for arrays in zip(*by_group, strict=True)]


def _stretches(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Divides an epoch's steps, so that progress can be shown."""
    bounds = np.linspace(start, stop, min(REPORTS_PER_EPOCH, stop - start) + 1).round().astype(int)
    yield from zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
