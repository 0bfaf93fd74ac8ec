"""The live display of training: a progress bar on a terminal, plain lines elsewhere."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from types import TracebackType
from typing import Any

import numpy as np
import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from jaxstab.config import Config
from jaxstab.experiment.progress import Progress
from jaxstab.runs.directory import TENSORBOARD
from jaxstab.runs.info import RunInfo
from jaxstab.training.planning import Plan
from jaxstab.words import count


class Display(Progress):
    """Shows the progress of training: a progress bar on a terminal, plain lines elsewhere, nothing if quiet."""

    def __init__(self, quiet: bool = False, console: Console | None = None):
        """Creates a display.

        Args:
            quiet: print nothing at all.
            console: rich console; standard output by default.
        """
        self.quiet = quiet
        self.console = console or make_console(quiet)
        self._bar = rich.progress.Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps, to go:"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.is_live,
            transient=True,
        )
        self._started = time.perf_counter()
        self._waves: list[list[str]] = []
        self._steps = self._done = self._before = 0  # steps of a wave; of all waves; and of these, before a resume

    @property
    def is_live(self) -> bool:
        """Whether a progress bar can be shown, that is, whether the output is a terminal."""
        return not self.quiet and self.console.is_terminal

    def __enter__(self) -> "Display":
        """Starts the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Removes the bar."""
        self._bar.stop()

    def prepared(self, configs: Sequence[Config], epochs: int, info: RunInfo) -> None:
        """Prints what will be trained: one run, or several that share programs."""
        config = configs[0]
        self._info = info
        self._steps = info.steps_per_epoch * epochs
        self._epochs = epochs
        counts = ", ".join(f"{number} {name}" for name, number in asdict(info.examples).items())
        name = config.name if len(configs) == 1 else f"{config.directory.parent} ({len(configs)} runs)"
        self._print(f"{name}: {config.model.source} on {config.task.source}")
        if config.mitigation.names:
            self._print(f"methods: {', '.join(config.mitigation.names)}")
        kind = count("class", len(info.classes)) if info.classes else "regression"
        self._print(f"examples: {counts}; {kind}; {info.metric}")
        for note in info.notes:
            self._print(f"note: {note}")
        number, device = info.devices, info.device
        where = f"one {device} device" if number == 1 else f"each of {number} {device} devices"
        seeds = f"{len(configs)} x " * (len(configs) > 1) + count("seed", len(info.seeds))
        length = f"{count('step', self._steps)} in {count('epoch', epochs)}"
        self._print(f"{seeds} on {where} in {config.train.precision}; {length}")
        if config.output.tensorboard:
            files = config.directory / TENSORBOARD if len(configs) == 1 else config.directory.parent
            self._print(f"learning curves: tensorboard --logdir {files}")
        if config.output.wandb:
            self._print(f"learning curves: project {config.output.wandb} of Weights & Biases")
        if info.processes > 1:
            self._print(f"{info.processes} processes; the lines below are about the seeds of the first")

    def resumed(self, finished: int, steps: Sequence[int]) -> None:
        """Prints where training continues."""
        counts = Counter(min(step // self._info.steps_per_epoch + 1, self._epochs) for step in steps if step)
        places = [
            f"epoch {epoch} of {self._epochs} ({count('seed', number)})"
            for epoch, number in sorted(counts.items(), reverse=True)
        ]
        others = {"finished before": finished, "not begun": sum(not step for step in steps)}
        rest = [f"{count('seed', number)} {name}" for name, number in others.items() if number]
        where = [f"resumed at {', '.join(places)}"] if places else ["resumed"]
        self._print("; ".join([*where, *rest]))

    def compiling(self) -> None:
        """Prints that compilation begins."""
        self._print("compiling ...")

    def compiled(self, seconds: float, waves: list[list[str]], taken: list[int], plan: Plan) -> None:
        """Prints the compile time and the plan."""
        self._waves, self._taken = waves, taken
        self._total, self._done = self._steps * len(waves), sum(taken)
        self._before, self._is_training = self._done, False
        before, self._started = time.perf_counter() - self._started, time.perf_counter()
        self._print(
            f"compiled in {seconds:.1f} s, first step {before:.1f} s after the start; "
            f"{count('seed', plan.group_size)} at once on each device, {describe_memory(plan)}"
        )
        self._task = self._bar.add_task("", total=self._total, completed=self._done)

    def stepped(self, wave: int, step: int) -> None:
        """Moves the bar."""
        if not self._is_training:  # the checkpoints have been loaded; from here on, time is a matter of steps
            self._is_training, self._started = True, time.perf_counter()
        self._done = self._steps * wave + step + sum(self._taken[wave + 1 :])
        description = f"wave {wave + 1} of {len(self._waves)}"
        self._bar.update(self._task, completed=self._done, description=description)

    def evaluated(self, wave: int, epoch: int, evaluation: Any) -> None:
        """Prints a line for each epoch of the first wave, and for the last epoch of later waves."""
        if wave > 0 and epoch < self._epochs:
            return
        scores = np.asarray(evaluation.validation_score, np.float64)
        seeds = self._waves[wave]
        failed = int(np.sum(scores <= self._info.majority_score.validation))
        spread = f" SD {scores.std(ddof=1):.3f}" if len(scores) > 1 else ""
        seconds_per_step = (time.perf_counter() - self._started) / max(1, self._done - self._before)
        self._print(
            f"wave {wave + 1}/{len(self._waves)} epoch {epoch}/{self._epochs}: "
            f"train loss {np.mean(evaluation.train_loss):.3f}, validation {self._info.metric} "
            f"mean {scores.mean():.3f}{spread}, best {scores.max():.3f} (seed {seeds[scores.argmax()]}), "
            f"worst {scores.min():.3f} (seed {seeds[scores.argmin()]}), failed {failed} of {len(scores)}; "
            f"step {self._done}/{self._total}, {minutes(seconds_per_step * (self._total - self._done))} to go"
        )

    def warn(self, line: str) -> None:
        """Prints a warning; training continues."""
        self._print(f"note: {line}")

    def out_of_memory(self, group_size: int) -> None:
        """Prints that training continues with smaller groups."""
        self._bar.remove_task(self._task)
        self._print(f"out of memory; continuing with {count('seed', group_size)} at once on each device")

    @contextmanager
    def measuring(self, seeds: int, shape: Sequence[int]) -> Iterator[Callable[[float], None]]:
        """Prints how long measuring took; `shape` is that of a seed's representations."""
        layers, examples, features = shape
        counted = f"{count('seed', seeds)}: {count('layer', layers)}, {count('test example', examples)}"
        started = time.perf_counter()
        self._print(f"measuring {counted}, {features} features ...")
        with share_bar(self.console, "measuring") as progress:
            yield progress
        self._print(f"measured in {time.perf_counter() - started:.1f} s")

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=not self.console.is_terminal)


@contextmanager
def share_bar(console: Console, description: str) -> Iterator[Callable[[float], None]]:
    """Shows a progress bar, which is gone at the end, on a terminal and nothing elsewhere.

    Yields a function to be called with the share of the work that is done.
    """
    with rich.progress.Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("to go:"),
        TimeRemainingColumn(),
        console=console,
        disable=console.quiet or not console.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task(description, total=1.0)
        yield lambda share: bar.update(task, completed=share)


def describe_memory(plan: Plan) -> str:
    """Returns predicted and usable memory as text."""
    needed, limit = (f"{value / 1e9:.1f}" for value in (plan.needed_bytes, plan.limit_bytes))
    choices = (", layers unrolled" if plan.unroll else "") + (", activations recomputed" if plan.remat else "")
    return f"{needed} of {limit} GB of memory{choices}{'' if plan.fits else ' (may not suffice)'}"


def make_console(quiet: bool = False, width: int = 120) -> Console:
    """Returns a console on standard output; in a file its lines may have at least `width` characters."""
    console = Console(quiet=quiet)
    if not console.is_terminal:
        console.width = max(console.width, width)
    return console


def minutes(seconds: float) -> str:
    """Returns a duration as minutes and seconds, such as 1:05 min."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
