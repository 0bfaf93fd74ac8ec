"""The command line: each verb one call of something that can be imported."""

from jaxstab.cli.main import cli as cli
from jaxstab.cli.main import main as main
