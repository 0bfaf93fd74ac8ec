"""The commands that analyse: measure, compare, validity, seeds, report, measures."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.console import Console

from jaxstab.cli import completion
from jaxstab.errors import InputError

MEASURES_OPTION = click.option(
    "--measures",
    "only",
    metavar="A,B",
    shell_complete=completion.measures,
    help="Only these; jaxstab measures lists them.",
)


def _without_pages(ctx: click.Context, param: click.Parameter, paths: Sequence[str]) -> tuple[str, ...]:
    """The paths without pages: runs/NAME/* also names the page of a grid."""
    return tuple(path for path in paths if not path.endswith(".html")) or tuple(paths)


RUNS_ARGUMENT = click.argument("runs", nargs=-1, required=True, shell_complete=completion.runs, callback=_without_pages)


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of how outputs are read."""
    for option in (
        click.option("--task", metavar="NAME", help="The task, where there are several."),
        click.option("--labels", metavar="FILE", help="The true labels, where they are not beside the predictions."),
        click.option(
            "--metric",
            metavar="NAME",
            shell_complete=completion.scores,
            help="The score (docs/measures.md#scores), or the column or key of given ones; default: accuracy.",
        ),
    ):
        command = option(command)
    return command


@click.command("measure", short_help="Measure the seeds of a run, or of anyone's outputs.")
@click.argument("path", shell_complete=completion.runs)
@MEASURES_OPTION
@click.option("--subset", metavar="seeds=0-9", help="Only these seeds, e.g. seeds=0-9 or seeds=0,3,5-7.")
@reading
@click.option("--compat", type=click.Choice(["paper"]), help="Show the released code's number beside the right one.")
@click.option(
    "--max-pairs",
    type=click.IntRange(min=1),
    metavar="N",
    default=2000,
    show_default=True,
    help="Of more pairs of seeds, svcca, pwcca and op are measured on so many, drawn at random.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def measure_command(
    path: str, only: str | None, subset: str | None, compat: str | None, max_pairs: int, as_json: bool, **how: Any
) -> None:
    """Measure how much the seeds in PATH differ, whatever they were trained with.

    PATH is a run directory; an npz file with any of logits [seeds, examples, classes], predictions [seeds, examples],
    labels [examples], representations [seeds, layers, examples, features] and scores [seeds]; a directory with a file
    or a folder for each seed (npy or csv of logits or of predicted labels, or Hugging Face's predict_results.txt), and
    perhaps labels.csv; the --log_samples of lm-evaluation-harness; or a csv of runs from Weights & Biases:

    jaxstab measure predictions.npz --measures jsd,fleiss_kappa --subset seeds=0-9

    jaxstab measure lm-eval-output/ --task rte
    """
    from jaxstab.analysis.measuring import measure
    from jaxstab.cli.display import share_bar

    with share_bar(Console(stderr=True), "measuring") as progress:
        results = measure(
            path, only=_names(only), subset=subset, compat=compat, max_pairs=max_pairs, progress=progress, **how
        )
    if as_json:
        print(json.dumps(results.as_json(), indent=2, allow_nan=False))
    else:
        from jaxstab.cli.printing import print_results

        print_results(results, title=path)


@click.command("compare", short_help="Say whether methods differ, and how sure that is.")
@RUNS_ARGUMENT
@click.option(
    "--baseline", metavar="NAME", help="What the others are compared with; by default the run without a method."
)
@MEASURES_OPTION
@reading
@click.option("--without-failed", is_flag=True, help="Leave failed seeds out.")
@click.option(
    "--delta", type=float, help="The difference in mean score that does not matter; by default a tenth of the SD."
)
@click.option("--reference", metavar="PATH", help="Published numbers beside them: a csv file or a directory of some.")
@click.option("--table", type=click.Choice(["latex", "markdown", "csv"]), help="Print the tables in this form.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def compare_command(
    runs: Sequence[str], only: str | None, reference: str | None, table: str | None, as_json: bool, **how: Any
) -> None:
    """Say whether methods differ, measure by measure, and whether that can be told from so many seeds.

    RUNS are at least two paths as for jaxstab measure, each perhaps as NAME=PATH. Runs of one name on several tasks are
    one method. Seeds that match are compared in pairs.

    jaxstab compare runs/standard runs/mixout

    jaxstab compare runs/rte/* runs/cola/*
    """
    from jaxstab.analysis.compare import compare
    from jaxstab.report.formats import to_text
    from jaxstab.report.tables import comparison_tables

    comparison = compare(runs, only=_names(only), **how)
    published = _published(reference, list(comparison.values))
    if as_json:
        print(json.dumps(comparison.as_json(), indent=2, allow_nan=False))
    elif table:
        print(to_text([*comparison_tables(comparison), *published], table), end="")  # type: ignore[arg-type]
    else:
        from jaxstab.cli.printing import print_comparison

        print_comparison(comparison, published)


@click.command("validity", short_help="Say which measures can be trusted.")
@RUNS_ARGUMENT
@MEASURES_OPTION
@click.option("--examples", metavar="10,50", default="10,50", help="Percentages of the test examples to sub-sample.")
@reading
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def validity_command(runs: Sequence[str], only: str | None, examples: str, as_json: bool, **how: Any) -> None:
    """Say which measures can be trusted: whether they agree, rise where they should, and need many examples.

    The framework of Du & Nguyen (2023): convergent validity (over seeds and layers), concurrent validity (depth, failed
    seeds), sub-samples of the test examples, and the values of unrelated seeds.

    jaxstab validity runs/quickstart
    """
    from jaxstab.analysis.validity import validity

    names, shares = _names(only), _percentages(examples)
    found = [validity(path, only=names, shares=shares, **how) for path in runs]
    if as_json:
        print(json.dumps([one.as_json() for one in found], indent=2, allow_nan=False))
    else:
        from jaxstab.cli.printing import print_validity

        for one in found:
            print_validity(one)


@click.command("seeds", short_help="Say how many seeds are needed, with a run as a pilot.")
@click.argument("run", shell_complete=completion.runs)
@click.option("--delta", type=float, default=0.01, show_default=True, help="The difference in mean score that matters.")
@click.option("--factor", type=float, default=1.25, show_default=True, help="Within which the SD is to be known.")
@click.option("--methods", type=int, default=5, show_default=True, help="How many are to be ranked.")
@click.option("--power", type=float, default=0.8, show_default=True, help="Probability of success.")
@reading
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def seeds_command(run: str, as_json: bool, **how: Any) -> None:
    """Say how many seeds are needed, with RUN as a pilot, and which randomness matters.

    Variance shares need a run whose seeds are crossed, the noise floor one whose seeds are repeated:

    jaxstab seeds runs/quickstart --delta 0.02

    jaxstab run configs/sst2-crossed.toml
    """
    from jaxstab.analysis.seed_study import study_seeds

    study = study_seeds(run, **how)
    if as_json:
        print(json.dumps(study.as_json(), indent=2, allow_nan=False))
    else:
        from jaxstab.cli.printing import print_study

        print_study(study)


@click.command("audit", short_help="Check what few seeds say against a run of many.")
@RUNS_ARGUMENT
@click.option("--sizes", metavar="5,10,20", default="5,10,20", help="Seeds of each small set.")
@click.option("--draws", type=click.IntRange(min=10), default=400, show_default=True, help="How many small sets.")
@MEASURES_OPTION
@reading
@click.option("--table", type=click.Choice(["latex", "markdown", "csv"]), help="Print the tables in this form.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def audit_command(
    runs: Sequence[str], sizes: str, only: str | None, table: str | None, as_json: bool, **how: Any
) -> None:
    """Draw many small sets of seeds from RUNS, and count how often what is said of them is true of all seeds.

    How often 95 % intervals hold the value of all seeds; how often two sets of one method are called different, which
    is wrong, and two sets of two methods, which is right where they are; how often so few seeds find the best method.
    RUNS are as for jaxstab compare, with at least four times as many seeds as a set; a hundred or more are good. Which
    measures say the same, and how they depend on the number of test examples, is what jaxstab validity says.

    jaxstab audit runs/standard-200 runs/mixout-200
    """
    from jaxstab.analysis.audit import audit
    from jaxstab.cli.display import share_bar
    from jaxstab.report.audit_tables import audit_tables
    from jaxstab.report.formats import to_text

    with share_bar(Console(stderr=True), "drawing sets of seeds") as progress:
        found = audit(runs, sizes=_sizes(sizes), only=_names(only), progress=progress, **how)
    if as_json:
        print(json.dumps(found.as_json(), indent=2, allow_nan=False))
    elif table:
        print(to_text(audit_tables(found), table), end="")  # type: ignore[arg-type]
    else:
        from jaxstab.cli.printing import print_audit

        print_audit(found)


@click.command("report", short_help="Put one or several runs on one HTML page.")
@RUNS_ARGUMENT
@click.option("-o", "--output", metavar="FILE", default="report.html", show_default=True, help="The page.")
@click.option("--figures", metavar="DIR", help="Write every figure there too, as PNG, SVG and PDF.")
@click.option("--table", type=click.Choice(["latex", "markdown", "csv"]), help="Print the tables in this form.")
@click.option(
    "--baseline", metavar="NAME", help="What the others are compared with; by default the run without a method."
)
@click.option(
    "--delta", type=float, help="The difference in mean score that does not matter; by default a tenth of the SD."
)
@click.option("--reference", metavar="PATH", help="Published numbers beside them: a csv file or a directory of some.")
@click.option("--brief", is_flag=True, help="Only what is compared, without a part for each run.")
@click.option("--no-texts", is_flag=True, help="Leave the examples' texts out, where they may not be passed on.")
@reading
def report_command(
    runs: Sequence[str], output: str, figures: str | None, table: str | None, no_texts: bool, **how: Any
) -> None:
    """Make one self-contained HTML page of RUNS: scores, instability, methods compared, examples that flip.

    RUNS are as for jaxstab compare; one is enough.

    jaxstab report runs/quickstart

    jaxstab report runs/standard runs/mixout -o methods.html --figures figures
    """
    from jaxstab.report.formats import to_text
    from jaxstab.report.writing import write_report

    def progress(line: str) -> None:
        print(line, file=sys.stderr)

    _, found = write_report(runs, output, directory=figures, texts=not no_texts, progress=progress, **how)
    if table:
        print(to_text(found, table), end="")  # type: ignore[arg-type]
    else:
        print(output)


@click.command("measures", short_help="List every measure.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
def measures_command(as_json: bool) -> None:
    """List every measure: what it says, its unit and range, and where it is defined.

    jaxstab measures
    """
    from jaxstab.measures import MEASURES

    if as_json:
        print(json.dumps([measure.as_json() for measure in MEASURES.values()], indent=2))
    else:
        from jaxstab.cli.printing import print_registry

        print_registry()


def _names(only: str | None) -> list[str] | None:
    """Names of measures from a command-line option."""
    return None if only is None else [name.strip() for name in only.split(",")]


def _sizes(text: str) -> list[int]:
    try:
        return sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise InputError(f"--sizes {text}: not understood; write numbers of seeds, as 5,10,20") from None


def _percentages(text: str) -> list[float]:
    try:
        shares = [float(part.strip().removesuffix("%")) / 100 for part in text.split(",")]
    except ValueError:
        raise InputError(f"--examples {text}: not understood; write percentages, as 10,50") from None
    if not all(0 < share <= 1 for share in shares):
        raise InputError(f"--examples {text}: out of range; write percentages above 0, up to 100")
    return shares


def _published(reference: str | None, tasks: Sequence[str]) -> list[Any]:
    """Tables of published numbers for these tasks."""
    if reference is None:
        return []
    from jaxstab.analysis.reference import load_reference
    from jaxstab.report.tables import reference_table

    found = load_reference(reference)
    return [reference_table(found.of(task), task) for task in tasks]
