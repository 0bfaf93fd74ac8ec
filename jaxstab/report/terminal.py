"""What the terminal shows: a live display while training, and the summary of a run."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from jaxstab.config import Config
from jaxstab.measures import example_disagreement
from jaxstab.store import Run

FLIPPING_EXAMPLES = 10
LONGEST_TEXT = 160


class Display:
    """Tells how training gets on: a bar on a terminal, plain lines elsewhere, nothing if quiet."""

    def __init__(self, quiet: bool = False, console: Console | None = None):
        """Creates a display.

        Args:
            quiet: print nothing at all.
            console: of rich; standard output by default.
        """
        self.quiet = quiet
        self.console = console or make_console(quiet)
        self._bar = Progress(
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
        self._waves: list[list[int]] = []
        self._info: dict[str, Any] = {}
        self._steps = self._done = 0

    @property
    def is_live(self) -> bool:
        """Whether there is a terminal that a bar can move on."""
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

    def prepared(self, config: Config, info: dict[str, Any]) -> None:
        """Says what is going to be trained."""
        self._info = info
        self._steps = info["steps_per_epoch"] * config.train.epochs
        self._epochs = config.train.epochs
        counts = ", ".join(f"{count} {name}" for name, count in info["examples"].items())
        self._print(f"{config.name}: {config.model.source} on {config.task.source}")
        self._print(f"examples: {counts}; {len(info['classes'])} classes; {info['metric']}")
        for note in info["notes"]:
            self._print(f"note: {note}")
        count, device = info["devices"], info["device"]
        where = f"one {device} device" if count == 1 else f"each of {count} {device} devices"
        self._print(
            f"{len(info['seeds'])} seeds, {info['group_size']} at once on {where}; "
            f"{self._steps} steps in {config.train.epochs} epochs"
        )

    def compiling(self) -> None:
        """Says that the first step will take a moment."""
        self._print("compiling ...")

    def compiled(self, seconds: float, waves: list[list[int]]) -> None:
        """Says how long compilation took; `waves` are the seeds that are to be trained."""
        self._waves = waves
        self._started = time.perf_counter()
        self._print(f"compiled in {seconds:.1f} s")
        self._task = self._bar.add_task("", total=self._steps * len(waves))

    def stepped(self, wave: int, step: int) -> None:
        """Moves the bar."""
        self._done = wave * self._steps + step
        description = f"wave {wave + 1} of {len(self._waves)}"
        self._bar.update(self._task, completed=self._done, description=description)

    def evaluated(self, wave: int, epoch: int, evaluation: Any) -> None:
        """Prints a line about an epoch of a wave."""
        scores = np.asarray(evaluation.validation_score, np.float64)
        seeds = self._waves[wave]
        failed = int(np.sum(scores <= self._info["majority_score"]["validation"]))
        spread = f" SD {scores.std(ddof=1):.3f}" if len(scores) > 1 else ""
        total = self._steps * len(self._waves)
        to_go = (time.perf_counter() - self._started) * (total / self._done - 1)
        self._print(
            f"wave {wave + 1}/{len(self._waves)} epoch {epoch}/{self._epochs}: "
            f"train loss {np.mean(evaluation.train_loss):.3f}, validation {self._info['metric']} "
            f"mean {scores.mean():.3f}{spread}, best {scores.max():.3f} (seed {seeds[scores.argmax()]}), "
            f"worst {scores.min():.3f} (seed {seeds[scores.argmin()]}), failed {failed} of {len(scores)}; "
            f"step {self._done}/{total}, {_minutes(to_go)} to go"
        )

    @contextmanager
    def measuring(self, seeds: int, shape: Sequence[int]) -> Iterator[None]:
        """Says how long measuring took; `shape` is that of a seed's representations."""
        layers, examples, features = shape
        started = time.perf_counter()
        self._print(f"measuring {seeds} seeds: {layers} layers, {examples} test examples, {features} features ...")
        yield
        self._print(f"measured in {time.perf_counter() - started:.1f} s")

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=not self.console.is_terminal)


def make_console(quiet: bool = False) -> Console:
    """Returns a console on standard output; lines to a file are never wrapped in the middle of a table."""
    console = Console(quiet=quiet)
    if not console.is_terminal:
        console.width = max(console.width, 110)
    return console


def print_summary(run: Run, console: Console | None = None) -> None:
    """Prints a finished run for people: scores, instability, failed seeds, and the examples that flip most."""
    console = console or make_console()
    console.print(_score_table(run))
    console.print(_instability_table(run))
    console.print(_flips_table(run))
    info, failed = run.info, run.info["failed_seeds"]
    if failed:
        console.print(f"Failed seeds (at or below the majority class at the end): {', '.join(map(str, failed))}")
    else:
        console.print("No seed failed (all end above the majority class).")
    seconds, count = info["wall_seconds"], len(info["seeds"])
    console.print(
        f"{count} seeds in {_minutes(seconds)} ({60 * count / seconds:.1f} seeds per minute). Run: {run.path}",
        markup=False,
    )


def _score_table(run: Run) -> Table:
    info, scores = run.info, run.scores
    table = Table(
        title=f"{escape(run.config.name)}: test {info['metric']} of {len(scores)} seeds", title_justify="left"
    )
    for name in ("mean", "SD", "worst", "median", "best", "majority class"):
        table.add_column(name, justify="right")
    sd = run.measures["measures"]["sd"]["value"]
    worst, best = scores.argmin(), scores.argmax()
    table.add_row(
        f"{scores.mean():.4f}",
        _number(sd),
        f"{scores[worst]:.4f} (seed {run.seeds[worst]})",
        f"{np.median(scores):.4f}",
        f"{scores[best]:.4f} (seed {run.seeds[best]})",
        f"{info['majority_score']['test']:.4f}",
    )
    return table


def _instability_table(run: Run) -> Table:
    table = Table(title="Instability (larger is less stable)", title_justify="left")
    for name in ("measure", "value", "what it says"):
        table.add_column(name, justify="right" if name == "value" else "left")
    for key, what in MEANINGS.items():
        table.add_row(key, _number(run.measures["measures"][key]["value"]), what)
    return table


MEANINGS = {
    "sd": "standard deviation of the test score over seeds",
    "pairwise_disagreement": "share of test examples on which two seeds predict different classes",
    "fleiss_kappa": "1 - kappa: the same, where 1 is what independent votes would give",
    "jsd": "Jensen-Shannon divergence of two seeds' class probabilities (nats, at most 0.693)",
}


def _flips_table(run: Run) -> Table:
    classes, predictions = run.info["classes"], run.logits.argmax(axis=-1)
    votes = np.stack([(predictions == c).sum(axis=0) for c in range(len(classes))], axis=1)
    order = np.argsort(-np.asarray(example_disagreement(predictions, len(classes))), kind="stable")
    table = Table(title="Examples on which seeds disagree most", title_justify="left", show_lines=True)
    table.add_column("id", justify="right")
    table.add_column("label")
    table.add_column("votes", min_width=12)
    table.add_column("text")
    text_columns = [name for name in run.texts.columns if name.startswith("text")]
    for row in order[:FLIPPING_EXAMPLES]:
        if votes[row].max() == len(predictions):
            break
        example = run.texts.iloc[row]
        cast = ", ".join(f"{classes[c]}: {votes[row, c]}" for c in np.argsort(-votes[row]) if votes[row, c])
        text = " / ".join(_shortened(example[name]) for name in text_columns)
        table.add_row(str(example["example_id"]), escape(str(example["label"])), escape(cast), escape(text))
    return table


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
