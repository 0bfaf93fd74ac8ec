"""What the terminal shows: a live display while training, and the summary of a run."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from jaxstab.config import Config
from jaxstab.measures import MEASURES, Results, example_disagreement
from jaxstab.planning import Estimate, Plan
from jaxstab.store import Run

FLIPPING_EXAMPLES = 10
LONGEST_TEXT = 160
SUMMARISED = ("sd", "pairwise_disagreement", "fleiss_kappa", "jsd", "cka", "op", "svcca")  # the paper's seven


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
        self._waves: list[list[str]] = []
        self._info: dict[str, Any] = {}
        self._steps = self._done = 0
        self._before: int | None = None  # steps that were done when training began

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

    def prepared(self, configs: Sequence[Config], epochs: int, info: dict[str, Any]) -> None:
        """Says what is going to be trained: one run, or several that share a program."""
        config = configs[0]
        self._info = info
        self._steps = info["steps_per_epoch"] * epochs
        self._epochs = epochs
        counts = ", ".join(f"{count} {name}" for name, count in info["examples"].items())
        name = config.name if len(configs) == 1 else f"{config.directory.parent} ({len(configs)} settings)"
        self._print(f"{name}: {config.model.source} on {config.task.source}")
        if config.mitigation.names:
            self._print(f"methods: {', '.join(config.mitigation.names)}")
        self._print(f"examples: {counts}; {len(info['classes'])} classes; {info['metric']}")
        for note in info["notes"]:
            self._print(f"note: {note}")
        count, device = info["devices"], info["device"]
        where = f"one {device} device" if count == 1 else f"each of {count} {device} devices"
        seeds = f"{len(info['seeds'])} seeds" if len(configs) == 1 else f"{len(configs)} x {len(info['seeds'])} seeds"
        self._print(f"{seeds} on {where}; {self._steps} steps in {epochs} epochs")
        if info["processes"] > 1:
            self._print(f"{info['processes']} processes; the lines below are about the seeds of the first")

    def compiling(self) -> None:
        """Says that the first step will take a moment."""
        self._print("compiling ...")

    def compiled(self, seconds: float, waves: list[list[str]], plan: Plan) -> None:
        """Says how long compilation took and what is planned; `waves` are the seeds that are to be trained."""
        self._waves = waves
        before, self._started = time.perf_counter() - self._started, time.perf_counter()
        self._print(
            f"compiled in {seconds:.1f} s, first step {before:.1f} s after the start; "
            f"{plan.group_size} seeds at once on each device, {describe_memory(plan)}"
        )
        self._task = self._bar.add_task("", total=self._steps * len(waves))

    def stepped(self, wave: int, step: int) -> None:
        """Moves the bar."""
        self._done = wave * self._steps + step
        if self._before is None:
            self._before = self._done
        description = f"wave {wave + 1} of {len(self._waves)}"
        self._bar.update(self._task, completed=self._done, description=description)

    def evaluated(self, wave: int, epoch: int, evaluation: Any) -> None:
        """Prints a line about an epoch; of later waves about the last one only."""
        if wave > 0 and epoch < self._epochs:
            return
        scores = np.asarray(evaluation.validation_score, np.float64)
        seeds = self._waves[wave]
        failed = int(np.sum(scores <= self._info["majority_score"]["validation"]))
        spread = f" SD {scores.std(ddof=1):.3f}" if len(scores) > 1 else ""
        total = self._steps * len(self._waves)
        to_go = (time.perf_counter() - self._started) * (total - self._done) / max(1, self._done - (self._before or 0))
        self._print(
            f"wave {wave + 1}/{len(self._waves)} epoch {epoch}/{self._epochs}: "
            f"train loss {np.mean(evaluation.train_loss):.3f}, validation {self._info['metric']} "
            f"mean {scores.mean():.3f}{spread}, best {scores.max():.3f} (seed {seeds[scores.argmax()]}), "
            f"worst {scores.min():.3f} (seed {seeds[scores.argmin()]}), failed {failed} of {len(scores)}; "
            f"step {self._done}/{total}, {_minutes(to_go)} to go"
        )

    def warn(self, line: str) -> None:
        """Says what may matter later; training goes on."""
        self._print(f"note: {line}")

    def out_of_memory(self, group_size: int) -> None:
        """Says that the seeds go on in smaller groups."""
        self._bar.remove_task(self._task)
        self._print(f"out of memory; going on with {group_size} seeds at once on each device")

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


def describe_memory(plan: Plan) -> str:
    """Returns predicted and usable memory, in words."""
    needed, limit = (f"{value / 1e9:.1f}" for value in (plan.needed_bytes, plan.limit_bytes))
    remat = ", activations recomputed" if plan.remat else ""
    return f"{needed} of {limit} GB of memory{remat}{'' if plan.fits else ' (may not suffice)'}"


def print_plan(plan: Plan, estimate: Estimate, console: Console | None = None) -> None:
    """Prints what a run would do."""
    console = console or make_console()
    rows = {
        "seeds at once on each device": f"{plan.group_size}",
        "waves": f"{plan.waves}",
        "memory of each device": describe_memory(plan),
        "": f"{plan.fixed_bytes / 1e9:.2f} GB and {plan.seed_bytes / 1e9:.2f} GB for each seed at once",
        "compilation": f"{estimate.compilation:.1f} s (kept for the next run)",
        "a step of a wave": f"{estimate.step:.3f} s",
        "an evaluation of a wave": f"{estimate.evaluation:.2f} s",
        "training of all seeds": _minutes(estimate.training),
    }
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def make_console(quiet: bool = False, width: int = 120) -> Console:
    """Returns a console on standard output; to a file its lines have at least so many characters."""
    console = Console(quiet=quiet)
    if not console.is_terminal:
        console.width = max(console.width, width)
    return console


def print_summary(run: Run, console: Console | None = None) -> None:
    """Prints a finished run for people: scores, instability, failed seeds, and the examples that flip most."""
    console = console or make_console()
    console.print(_score_table(run))
    rows = {name: run.measures["measures"][name] for name in SUMMARISED if name in run.measures["measures"]}
    title = "Instability (larger is less stable)"
    console.print(_instability_table(rows, title, run.measures.get("without_failed")))
    for warning in run.measures["warnings"]:
        console.print(f"note: {warning}", markup=False, highlight=False)
    console.print(_flips_table(run))
    info, failed = run.info, run.info["failed_seeds"]
    if failed:
        reasons = info.get("failures", {})
        named = ", ".join(f"{seed} ({reasons[str(seed)]})" if str(seed) in reasons else f"{seed}" for seed in failed)
        console.print(f"Failed seeds: {named}", markup=False, highlight=False)
    else:
        console.print("No seed failed (all end above the majority class).")
    seconds, count = info["wall_seconds"], len(info["seeds"])
    console.print(
        f"{count} seeds in {_minutes(seconds)} ({60 * count / seconds:.1f} seeds per minute). Run: {run.path}",
        markup=False,
    )
    console.print(f"All {len(MEASURES)} measures, by layer: jaxstab measure {run.path}", markup=False, soft_wrap=True)


def print_table(runs: Sequence[Run], console: Console | None = None) -> None:
    """Prints runs below each other: score, its spread and how often two seeds disagree."""
    console = console or make_console()
    metric = runs[0].info["metric"]
    columns = ("run", "seeds", f"mean {metric}", "95 % interval", "SD", "95 % interval", "disagreement", "failed")
    table = Table(*columns)
    for run in runs:
        scores, found = run.measures["scores"], run.measures["measures"]
        sd, disagreement = (found.get(name, {}) for name in ("sd", "pairwise_disagreement"))
        table.add_row(
            run.path.name,
            f"{len(run.seeds)}",
            _number(scores["mean"]),
            _interval(scores.get("interval")),
            _number(sd.get("value")),
            _interval(sd.get("interval")),
            _number(disagreement.get("value")),
            f"{len(run.info['failed_seeds'])}",
        )
    console.print(table)
    console.print(f"Runs: {runs[0].path.parent}", markup=False)


def print_results(results: Results, title: str, console: Console | None = None) -> None:
    """Prints what measuring found, for people."""
    console = console or make_console()
    if results.scores is not None:
        scores, seeds = results.scores, len(results.scores["per_seed"])
        console.print(
            f"{title}: {scores['metric']} of {seeds} seeds: mean {scores['mean']:.4f}; 95 % "
            f"{_interval(scores['interval'])} for other seeds, {_interval(scores['joint_interval'])} for other seeds "
            "and examples",
            markup=False,
            highlight=False,
        )
    console.print(_instability_table(results.measures, "Instability, with 95 % intervals", results.without_failed))
    layered = {name: row for name, row in results.measures.items() if len(row.get("layers", ())) > 1}
    if layered:
        console.print(_layers_table(layered))
    for warning in results.warnings:
        console.print(f"note: {warning}", markup=False, highlight=False)
    for reason in sorted(set(results.left_out.values())):
        names = [name for name, why in results.left_out.items() if why == reason]
        console.print(f"left out ({reason}): {', '.join(names)}", markup=False, highlight=False)


def print_registry(console: Console | None = None) -> None:
    """Prints what every measure is."""
    table = Table(title="Measures of instability; each is explained in docs/measures.md", title_justify="left")
    for name in ("measure", "compares", "unit", "range", "what it says", "source"):
        table.add_column(name, no_wrap=name in ("measure", "range"))
    for one in MEASURES.values():
        low, high = (f"{end:.3g}" for end in (one.low, one.high))
        table.add_row(one.name, f"{one.granularity}s", one.unit, f"{low} to {high}", one.meaning, one.source)
    (console or make_console(width=150)).print(table)


def _score_table(run: Run) -> Table:
    info, scores = run.info, run.scores
    table = Table(
        title=f"{escape(run.config.name)}: test {info['metric']} of {len(scores)} seeds", title_justify="left"
    )
    for name in ("mean", "95 % interval", "SD", "worst", "median", "best", "majority class"):
        table.add_column(name, justify="right")
    sd = run.measures["measures"]["sd"]["value"]
    worst, best = scores.argmin(), scores.argmax()
    table.add_row(
        f"{scores.mean():.4f}",
        _interval(run.measures["scores"]["interval"]),
        _number(sd),
        f"{scores[worst]:.4f} (seed {run.seeds[worst]})",
        f"{np.median(scores):.4f}",
        f"{scores[best]:.4f} (seed {run.seeds[best]})",
        f"{info['majority_score']['test']:.4f}",
    )
    return table


def _instability_table(
    rows: Mapping[str, Mapping[str, Any]], title: str, without: Mapping[str, Any] | None = None
) -> Table:
    """One row for each measure; columns that no row fills are left out."""
    table = Table(title=title, title_justify="left")
    with_null, with_paper = (any(key in row for row in rows.values()) for key in ("null_shuffled", "paper"))
    columns = ["measure", "value", "95 % interval", *["null", "shuffled"] * with_null, *["released code"] * with_paper]
    columns += [f"{without['seeds']} not failed"] if without else []
    for name in columns:
        table.add_column(name, justify="left" if name == "measure" else "right", no_wrap=True)
    table.add_column("what it says")
    for name, row in rows.items():
        cells = [name, _number(row["value"]), _interval(row["interval"])]
        if with_null:
            cells += [_number(row["null"]), _number(row["null_shuffled"][-1])] if "null" in row else ["", ""]
        if with_paper:
            cells.append(_number(row["paper"]) if "paper" in row else "")
        if without:
            cells.append(_number(without["measures"].get(name, {}).get("value")))
        exact = row.get("chi_square_interval")
        normal = f" ({_interval(exact)} if scores are normal)" if exact else ""
        table.add_row(*cells, MEASURES[name].meaning + normal)
    if with_null:
        table.caption = (
            "Representations: last layer. null: independent normal data of the same size; "
            "shuffled: these data with each seed's examples in another order."
        )
        table.caption_justify = "left"
    return table


def _layers_table(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="By layer", title_justify="left")
    table.add_column("layer", justify="right")
    for name in rows:
        table.add_column(name, justify="right")
    for layer, values in enumerate(zip(*(row["layers"] for row in rows.values()), strict=True), start=1):
        table.add_row(str(layer), *map(_number, values))
    return table


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


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
