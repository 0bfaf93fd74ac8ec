"""The command line: each verb one call of something that can be imported."""

import sys
from collections.abc import Sequence

import click

from jaxstab.config import InputError, load_config


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jaxstab")
def cli() -> None:
    """How much of my result is the random seed?"""


@cli.command("run", context_settings={"ignore_unknown_options": True})
@click.argument("config")
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--KEY VALUE]...")
@click.option("--quiet", is_flag=True, help="Print nothing; the run directory holds everything.")
def run_command(config: str, overrides: Sequence[str], quiet: bool) -> None:
    """Fine-tune every seed of CONFIG, a TOML file, at once and measure how much they differ.

    Any key of the config can be changed on the command line:

    jaxstab run configs/quickstart.toml --seeds.count 20 --train.epochs 5

    The same command goes on with a run that was interrupted, and shows the summary of one that has finished.
    """
    settings = load_config(config, overrides)
    from jaxstab.experiment import run  # imports JAX, which a mistake in the config need not wait for
    from jaxstab.report.terminal import Display, print_summary

    finished = run(settings, display=Display(quiet))
    if not quiet:
        print_summary(finished)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: without the program's name; those of the process by default.

    Returns:
        0 done, 2 bad input (one line on standard error), 130 interrupted.
    """
    try:
        cli.main(arguments, prog_name="jaxstab", standalone_mode=False)
    except InputError as error:
        return _fail(str(error))
    except click.ClickException as error:
        return _fail(f"{error.format_message()}; see jaxstab --help")
    except (KeyboardInterrupt, click.Abort):
        print("jaxstab: interrupted; finished seeds are kept, the same command goes on from there", file=sys.stderr)
        return 130
    return 0


def _fail(message: str) -> int:
    print(f"jaxstab: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
