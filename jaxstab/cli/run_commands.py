"""The commands about training: init, run, resume, plan, export."""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxstab.cli import completion
from jaxstab.config import expand_grid, load_config
from jaxstab.errors import InputError

if TYPE_CHECKING:
    from jaxstab.training.planning import Estimate, Plan

OVERRIDES = {"ignore_unknown_options": True}  # of a command that takes any key of a config


class InterruptedRunError(Exception):
    """A run was interrupted by the user or the system; the message says what is saved and how to resume it."""


@contextmanager
def _interruptible(advice: str) -> Iterator[None]:
    """Raises `InterruptedRunError` with this advice on Ctrl-C, on SIGTERM, and if another process ends first."""
    stopped_by_signal = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopped_by_signal
        stopped_by_signal = True
        raise KeyboardInterrupt

    # Schedulers send SIGTERM before they kill; treat it like Ctrl-C. JAX may have installed its own handler.
    before = [(number, signal.signal(number, stop)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        yield
    except KeyboardInterrupt as interrupt:  # from training, it says what is saved
        raise InterruptedRunError(f"{str(interrupt) or 'progress is saved'}; {advice}") from None
    except RuntimeError:  # JAX's collectives fail when another process has ended
        if not stopped_by_signal:
            raise
        raise InterruptedRunError(f"progress is saved; {advice}") from None
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _processes(command: Callable) -> Callable:
    """Adds the options for runs with several processes."""
    options = [
        click.option(
            "--distributed", is_flag=True, help="One of several processes, which JAX finds (SLURM, GKE, TPU)."
        ),
        click.option(
            "--coordinator", metavar="HOST:PORT", help="One of several processes: where the first one listens."
        ),
        click.option("--processes", type=int, metavar="N", help="How many there are."),
        click.option("--process", type=int, metavar="I", help="Which of them this is, from 0."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _join(distributed: bool, coordinator: str | None, processes: int | None, process: int | None) -> bool:
    """Connects with the other processes, if any; returns whether this process prints."""
    from jaxstab.training.processes import is_first, join

    if distributed or (coordinator, processes, process) != (None, None, None):
        join(coordinator, processes, process)
    return is_first()


def _config_command(name: str, short_help: str) -> Callable[[Callable[..., None]], click.Command]:
    """Makes a function a verb that takes a config, and values of its keys."""

    def decorate(command: Callable[..., None]) -> click.Command:
        takes_values = click.argument(
            "overrides",
            nargs=-1,
            type=click.UNPROCESSED,
            metavar="[--KEY VALUE]...",
            shell_complete=completion.values,
        )
        takes_config = click.argument("config", shell_complete=completion.configs)
        make = click.command(name, short_help=short_help, cls=completion.ConfigCommand, context_settings=OVERRIDES)
        return make(takes_config(takes_values(command)))

    return decorate


@_config_command("run", "Fine-tune all seeds of a config at once, and measure them.")
@click.option("--quiet", is_flag=True, help="Print nothing; the run directory holds everything.")
@_processes
def run_command(config: str, overrides: Sequence[str], quiet: bool, **others: Any) -> None:
    """Fine-tune every seed of CONFIG, a TOML file or bundled:quickstart, at once and measure how much they differ.

    Any key of the config can be changed on the command line:

    jaxstab run bundled:quickstart --seeds.count 20 --train.epochs 5

    A [grid] table of lists, such as train.learning_rate = [1e-5, 2e-5], makes one run of each combination, and a page
    that compares them:

    jaxstab run bundled:quickstart --grid.mitigation.method standard,llrd,lora

    The same command resumes a run that was interrupted, and shows the summary of one that has finished.

    On several machines, the same command on each:

    srun jaxstab run reviews.toml --distributed
    """
    loaded = load_config(config, overrides)
    expand_grid(loaded, config)  # raises where the grid is impossible
    from jaxstab.cli.display import Display
    from jaxstab.cli.printing import print_summary, print_table
    from jaxstab.experiment.run import run, run_grid  # after the config is checked: it imports JAX

    quiet = not _join(**others) or quiet
    if loaded.grid:
        with _interruptible("resume with the same command"):
            runs = run_grid(loaded, display=Display(quiet))
        if not quiet:
            print_table(runs)
            from jaxstab.report.writing import write_report

            page = runs[0].path.parent / "report.html"
            write_report(runs, page, brief=True)
            print(f"Page: {page}")
        return
    with _interruptible(f"resume with: jaxstab resume {loaded.directory}"):
        finished = run(loaded, display=Display(quiet))
    if not quiet:
        print_summary(finished)


@click.command("resume", short_help="Resume a run that was interrupted.")
@click.argument("run", shell_complete=completion.runs)
@click.option("--quiet", is_flag=True, help="Print nothing; the run directory holds everything.")
@_processes
def resume_command(run: str, quiet: bool, **others: Any) -> None:
    """Resume RUN, the directory of a run that was interrupted, on as many devices as there are now.

    Finished seeds are not trained again; others resume from their last checkpoints.

    jaxstab resume runs/quickstart
    """
    from jaxstab.cli.display import Display
    from jaxstab.cli.printing import print_summary
    from jaxstab.experiment.run import resume

    quiet = not _join(**others) or quiet
    with _interruptible(f"resume with: jaxstab resume {run}"):
        finished = resume(run, display=Display(quiet))
    if not quiet:
        print_summary(finished)


@_config_command("plan", "Say beforehand what a run will take: memory, time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def plan_command(config: str, overrides: Sequence[str], as_json: bool) -> None:
    """Say how a run of CONFIG would divide its seeds, what memory it needs and how long it takes.

    Compiles what the run will use and takes a few steps; nothing is written but the cache of compiled programs. Of a
    [grid] that needs several programs, each is planned.

    jaxstab plan bundled:quickstart --seeds.count 20
    """
    loaded = load_config(config, overrides)
    from jaxstab.cli.display import Display
    from jaxstab.experiment.run import plan_grid

    planned = plan_grid(loaded, display=Display(quiet=as_json))
    if as_json:
        found = [{"runs": names, **_plan_as_json(chosen, seconds)} for names, chosen, seconds in planned]
        print(json.dumps({"programs": found} if len(found) > 1 else found[0], indent=2))
    else:
        from jaxstab.cli.printing import print_plans

        print_plans(planned)


def _plan_as_json(chosen: "Plan", seconds: "Estimate") -> dict[str, Any]:
    times = asdict(seconds)
    sizes = {"needed_bytes": chosen.needed_bytes, "waiting_bytes": times.pop("waiting_bytes")}
    return {**asdict(chosen), **sizes, "seconds": times}


@click.command("init", short_help="Write a first config for your own data.")
@click.argument("data", required=False, shell_complete=completion.files)
@click.option("-o", "--output", metavar="FILE", help="The config; by default the name of the data with .toml.")
@click.option("--model", metavar="SOURCE", help="hub:OWNER/NAME, a directory, or bundled:minilm, the default.")
@click.option("--text", metavar="A,B", help="The text column, or two; guessed by default.")
@click.option("--label", metavar="NAME", help="The label column; guessed by default.")
def init_command(data: str | None, output: str | None, model: str | None, text: str | None, label: str | None) -> None:
    """Write a config for DATA, a file or a directory with train.*: csv, tsv, jsonl or parquet; asks without DATA.

    Columns are guessed; the score and the learning rate suit the data and the model. The comments say why:

    jaxstab init reviews.csv

    jaxstab init reviews.csv -o reviews-bert.toml --model hub:google-bert/bert-base-uncased
    """
    if data is None:
        try:
            data = click.prompt("Your data, a file or a directory")
            model = model or click.prompt("The model", default="bundled:minilm")
            output = output or click.prompt("Write the config to", default=f"{Path(data.rpartition(':')[2]).stem}.toml")
        except click.Abort:
            if sys.stdin.isatty():  # Ctrl-C
                raise
            raise InputError("nobody answers; name the data, as in: jaxstab init reviews.csv") from None
    from jaxstab.experiment.starting import MODEL, init

    columns = None if text is None else [name.strip() for name in text.split(",")]
    started = init(data, output, model=model or MODEL, text=columns, label=label)
    print(started)
    print(f"wrote {started.path}; read it, then: jaxstab run {started.path} (jaxstab plan says how long that takes)")


@click.command("export", short_help="Write one seed as a Hugging Face model.")
@click.argument("run", shell_complete=completion.runs)
@click.option("--seed", type=int, required=True, help="Whose weights.")
@click.option("--to", metavar="DIR", required=True, help="The directory to make.")
@click.option("--adapter", is_flag=True, help="Write what LoRA trained alone, as PEFT loads it.")
def export_command(run: str, seed: int, to: str, adapter: bool) -> None:
    """Write the weights of one seed of RUN as a Hugging Face model, with its config and tokenizer.

    RUN is the directory of a run with keep_weights in [output]:

    jaxstab run bundled:quickstart --output.keep_weights best

    jaxstab export runs/quickstart --seed 3 --to models/quickstart-3
    """
    from jaxstab.experiment.export import export

    print(export(run, seed, to, adapter))
