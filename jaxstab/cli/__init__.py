"""The command line: each command is one call of an importable function."""

from jaxstab.cli.main import cli as cli
from jaxstab.cli.main import main as main
