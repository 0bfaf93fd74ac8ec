"""What the terminal shows of analyses."""

from collections.abc import Sequence

from rich.console import Console

from jaxstab.analysis.comparison import Comparison
from jaxstab.analysis.seed_study import SeedStudy
from jaxstab.analysis.validity import Validity
from jaxstab.report import tables
from jaxstab.report.terminal import make_console


def print_comparison(
    comparison: Comparison, published: Sequence[tables.Table] = (), console: Console | None = None
) -> None:
    """Prints methods side by side, and a verdict on each."""
    console = console or make_console(width=150)
    for table in [*tables.comparison_tables(comparison), *published]:
        console.print(tables.to_rich(table))
    _print_lines(console, "ranking:", [f"{task}: {one.sentence}" for task, one in comparison.rankings.items()])
    _print_lines(console, "note:", comparison.notes)
    _print_lines(console, "", comparison.verdicts)


def print_validity(found: Validity, console: Console | None = None) -> None:
    """Prints what can be trusted."""
    console = console or make_console(width=150)
    for one in (found.over_seeds, found.over_layers):
        if one is not None:
            console.print(tables.to_rich(tables.correlations_table(one, found.name)))
    shown = [tables.nulls_table(found), tables.failed_table(found)]
    for table in shown:
        if table.rows:
            console.print(tables.to_rich(table))
    _print_lines(console, "note:", found.notes)
    _print_lines(console, f"{found.name}:", found.sentences)


def print_study(study: SeedStudy, console: Console | None = None) -> None:
    """Prints how many seeds are needed and which randomness matters."""
    console = console or make_console()
    shown = [tables.needed_table(study), tables.shares_table(study), tables.floor_table(study)]
    for table in shown:
        if table.rows:
            console.print(tables.to_rich(table))
    _print_lines(console, "note:", study.notes)
    _print_lines(console, f"{study.name}:", study.sentences)


def _print_lines(console: Console, start: str, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(f"{start} {line}".strip(), markup=False, highlight=False, soft_wrap=True)
