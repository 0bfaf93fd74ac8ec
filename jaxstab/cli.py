"""The command line: each verb one call of something that can be imported."""

import sys
from pathlib import Path
from typing import Annotated

import click
import typer

from jaxstab.config import InputError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="How much of my result is the random seed?")


@app.callback()
def _jaxstab() -> None:
    """Makes `run` a verb although it is the only one."""


@app.command("run", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run_command(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="TOML file of the experiment.", show_default=False)],
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing; the run directory holds everything.")] = False,
) -> None:
    """Fine-tune every seed of CONFIG at once and measure how much they differ.

    Any key of the config can be changed on the command line:

    jaxstab run configs/quickstart.toml --seeds.count 20 --train.learning_rate 5e-5
    """
    from jaxstab.config import load_config
    from jaxstab.experiment import run
    from jaxstab.report.terminal import Display, print_summary

    settings = load_config(config, context.args)
    finished = run(settings, display=Display(quiet))
    if not quiet:
        print_summary(finished)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: without the program's name; those of the process by default.

    Returns:
        0 done, 2 bad input (one line on standard error), 130 interrupted.
    """
    try:
        result = app(args=arguments, prog_name="jaxstab", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except InputError as error:
        print(f"jaxstab: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except click.ClickException as error:
        print(f"jaxstab: error: {error.format_message()}; see jaxstab --help", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort):
        print("jaxstab: interrupted; finished seeds are kept, the same command goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
