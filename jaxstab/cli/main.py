"""The command line: its commands, and its exit codes."""

import json
import os
import sys
from collections.abc import Sequence

import click

from jaxstab import libraries
from jaxstab.cli import analysis_commands, run_commands
from jaxstab.cli.interrupts import interrupts
from jaxstab.cli.run_commands import InterruptedRunError
from jaxstab.errors import InputError

INTERRUPTED = 130  # exit code


class _InOrder(click.Group):
    """Lists commands in the order in which they are added: as one comes to need them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names."""
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jaxstab")
def cli() -> None:
    """How much of my result is the random seed?

    jaxstab run bundled:quickstart
    """


@click.command("doctor", short_help="Say whether this machine is ready, and what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def doctor_command(as_json: bool) -> None:
    """Say what this machine has: versions, devices, memory, caches, and what is wrong. Exits with 1 if something is.

    jaxstab doctor
    """
    from jaxstab.cli.doctor import diagnose

    found = diagnose()
    if as_json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        for name, fact in found.facts.items():
            print(f"{name + ':':16}{fact}")
        print("\n".join(f"problem: {line}" for line in found.problems) or "No problem found.")
    if found.problems:
        raise click.exceptions.Exit(1)


for command in (
    run_commands.init_command,
    run_commands.run_command,
    run_commands.resume_command,
    run_commands.plan_command,
    run_commands.export_command,
    analysis_commands.measure_command,
    analysis_commands.compare_command,
    analysis_commands.validity_command,
    analysis_commands.seeds_command,
    analysis_commands.audit_command,
    analysis_commands.report_command,
    analysis_commands.measures_command,
    doctor_command,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: without the program's name; default: the arguments of this process.

    Returns:
        0 done, 1 the machine has a problem (`doctor`), 2 bad input (one line on standard error), 130 interrupted.
    """
    if arguments is not None:
        return _main(arguments)
    libraries.own_process = True
    code = _main(None)
    if code == INTERRUPTED:  # all is saved and said; Python would wait for threads that wait for XLA
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _main(arguments: Sequence[str] | None) -> int:
    try:
        with interrupts():
            return cli.main(arguments, prog_name="jaxstab", standalone_mode=False) or 0
    except InputError as error:
        return _fail(str(error))
    except click.ClickException as error:
        return _fail(f"{error.format_message()}; see jaxstab --help")
    except InterruptedRunError as error:
        from jaxstab.training.processes import leave

        print(f"jaxstab: interrupted; {error}", file=sys.stderr)
        leave(INTERRUPTED)
        return INTERRUPTED
    except (KeyboardInterrupt, click.Abort):
        print("jaxstab: interrupted", file=sys.stderr)
        return INTERRUPTED


def _fail(message: str) -> int:
    print(f"jaxstab: error: {' '.join(message.split())}", file=sys.stderr)
    return 2
