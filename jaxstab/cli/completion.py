"""What Tab completes besides commands and their options: keys of a config, their values, measures, scores, runs."""

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from jaxstab.config import Metric
from jaxstab.config.grid import FIXED
from jaxstab.config.keys import all_keys, choices


class ConfigCommand(click.Command):
    """A command that takes any key of a config, as `--train.epochs 3`."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Its options and the keys."""
        grids = [f"grid.{key}" for key in all_keys() if key.partition(".")[0] not in FIXED]
        keys = [f"--{key}" for key in (*all_keys(), *grids)]
        return super().shell_complete(ctx, incomplete) + _starting(keys, incomplete)


def values(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The values of the key before."""
    given = [one for one in ctx.params.get(param.name or "") or () if one != "="]
    key = given[-1].removeprefix("--").removeprefix("grid.").replace("-", "_") if given else ""
    before, comma, _ = incomplete.rpartition(",")
    return _starting([before + comma + one for one in choices(all_keys().get(key))], incomplete) if key else []


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Any files."""
    return [CompletionItem(incomplete, type="file")]


def configs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files, and the config that comes with the package."""
    return [*_starting(["bundled:quickstart"], incomplete), CompletionItem(incomplete, type="file")]


def runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Directories of runs at the next two levels, or else any files."""
    name, equals, start = incomplete.rpartition("=")
    within = Path(start.rpartition("/")[0] + "/" * start.startswith("/") or ".")
    found = sorted({str(file.parent) for below in ("*", "*/*") for file in within.glob(f"{below}/run.json")})
    return _starting([name + equals + one for one in found], incomplete) or [CompletionItem(incomplete, type="file")]


def measures(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of measures, also after commas."""
    from jaxstab.measures import MEASURES

    before, comma, _ = incomplete.rpartition(",")
    taken = before.split(",")
    return _starting([before + comma + one for one in MEASURES if one not in taken], incomplete)


def scores(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of scores."""
    return _starting(choices(Metric), incomplete)


def _starting(words: "list[str] | tuple[str, ...]", start: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(start)]
