"""Prints runs and analyses on the terminal: summaries and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jaxstab.analysis.audit import Audit
from jaxstab.analysis.comparison import Comparison
from jaxstab.analysis.failures import say_failures
from jaxstab.analysis.sample import USUAL, disagreement_of
from jaxstab.analysis.seed_study import SeedStudy
from jaxstab.analysis.validity import Validity
from jaxstab.cli.display import describe_memory, make_console, minutes
from jaxstab.experiment.cautions import advise
from jaxstab.measures import (
    MEASURES,
    Results,
    example_disagreement,
    example_spread,
    explain,
    nulls_of,
    say_remaining,
    select,
)
from jaxstab.report import tables
from jaxstab.report.audit_tables import audit_tables
from jaxstab.report.formats import interval, number, to_rich, worth
from jaxstab.report.seed_tables import study_tables
from jaxstab.report.tables import guess_label
from jaxstab.runs.directory import Run
from jaxstab.training.planning import Estimate, Plan
from jaxstab.words import count

FLIPPING_EXAMPLES = 10
LONGEST_TEXT = 160


def print_plans(planned: Sequence[tuple[list[str], Plan, Estimate]], console: Console | None = None) -> None:
    """Prints the plan of each program, and how long all of them take together."""
    console = console or make_console()
    for names, plan, estimate in planned:
        if len(planned) > 1:
            console.print(f"{count('run', len(names))}: {', '.join(names)}", markup=False, soft_wrap=True)
        _print_plan(plan, estimate, console)
    if len(planned) > 1:
        seconds = [sum(getattr(one, name) for *_, one in planned) for name in ("compilation", "training", "measuring")]
        parts = zip(("compilation", "training", "measuring"), map(minutes, seconds), strict=True)
        said = ", ".join(f"{name} {text}" for name, text in parts)
        console.print(f"{len(planned)} programs, one after another: {minutes(sum(seconds))} ({said})", markup=False)


def _print_plan(plan: Plan, estimate: Estimate, console: Console) -> None:
    base = f" ({plan.base_bytes / 1e9:.2f} GB of them what no seed trains)" if plan.base_bytes else ""
    rows = {
        "seeds at once on each device": f"{plan.group_size}",
        "waves": f"{plan.waves}",
        "memory of each device": describe_memory(plan),
        "": f"{plan.fixed_bytes / 1e9:.2f} GB{base} and {plan.seed_bytes / 1e9:.2f} GB for each seed at once",
        "compilation": f"{estimate.compilation:.1f} s (cached for the next run)",
        "a step of a wave": f"{estimate.step:.3f} s",
        "an evaluation of a wave": f"{estimate.evaluation:.2f} s",
        "training of all seeds": minutes(estimate.training),
        "measuring": f"{minutes(estimate.measuring)}, and {estimate.waiting_bytes / 1e9:.2f} GB on disk until then",
    }
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def print_summary(run: Run, console: Console | None = None) -> None:
    """Prints the summary of a finished run: scores, instability, failed seeds, and the examples that flip most."""
    console = console or make_console()
    console.print(_score_table(run))
    _print_lines(console, "", say_remaining(run.measures["scores"]))
    usual = USUAL[run.info.of]
    rows = {name: run.measures["measures"][name] for name in usual if name in run.measures["measures"]}
    if len(run.seeds) > 1:
        title = "Instability (larger is less stable)"
        console.print(_instability_table(rows, title, run.measures.get("without_failed")))
        _print_lines(console, "note:", [*_explained(rows, len(run.seeds)), *run.measures["warnings"]])
    else:
        console.print("One seed differs from no other; how much seeds differ takes more: --seeds.count 10")
    flips = _flips_table(run) if run.info.classes else _spread_table(run)
    if flips.row_count:
        console.print(flips)
    info, seeds = run.info, len(run.info.seeds)
    reasons = {seed: info.failures.get(seed, "failed") for seed in info.failed_seeds}  # older versions have no reasons
    said = say_failures(reasons, seeds) or [f"No seed failed (all end above the {guess_label(info.metric)})."]
    _print_lines(console, "", [*said, *advise(run.config, info), *_early(run)])
    rate = f"{60 * seeds / info.wall_seconds:.1f} seeds per minute"
    console.print(
        f"{count('seed', seeds)} in {minutes(info.wall_seconds)} ({rate}). Run: {run.path}",
        markup=False,
        soft_wrap=True,
    )
    console.print(
        f"All {len(select(of=info.of))} measures, by layer: jaxstab measure {run.path}", markup=False, soft_wrap=True
    )


def _early(run: Run) -> list[str]:
    """How many seeds early stopping has stopped, and when."""
    taken, config = run.history.groupby("seed")["epoch"].max(), run.config
    epochs = (config.mitigation.longer or config.train).epochs
    early = taken[taken < epochs]
    if early.empty:
        return []
    when = f"{early.min()}" if early.min() == early.max() else f"{early.min()} to {early.max()}"
    return [f"{len(early)} of {len(taken)} seeds stopped early, after epoch {when} of {epochs}."]


def print_table(runs: Sequence[Run], console: Console | None = None) -> None:
    """Prints a table of runs: score, its spread, and how often two seeds disagree."""
    console = console or make_console()
    metric = runs[0].info.metric
    columns = ("run", "seeds", f"mean {metric}", "95 % interval", "SD", "95 % interval", "disagreement", "failed")
    table = Table(*columns)
    for run in runs:
        scores, found = run.measures["scores"], run.measures["measures"]
        sd, disagreement = (found.get(name, {}) for name in ("sd", disagreement_of(run.info.of)))
        table.add_row(
            run.path.name,
            f"{len(run.seeds)}",
            number(scores["mean"]),
            worth(scores),
            number(sd.get("value")),
            worth(sd),
            number(disagreement.get("value")),
            f"{len(run.info.failed_seeds)}",
        )
    console.print(table)
    console.print(f"Runs: {runs[0].path.parent}", markup=False)


def print_results(results: Results, title: str, console: Console | None = None) -> None:
    """Prints the results of measuring."""
    console = console or make_console()
    if results.scores is not None:
        scores, seeds = results.scores, results.seeds
        both = scores["joint_interval"]
        ends = [f"{worth(scores)} for other seeds"] if scores["interval"] else []
        ends += [f"{interval(both)} for other seeds and examples"] if both else []
        console.print(
            f"{title}: {scores['metric']} of {count('seed', seeds)}: mean {scores['mean']:.4f}"
            f"{'; 95 % ' if ends else ''}{', '.join(ends)}",
            markup=False,
            highlight=False,
        )
    console.print(_instability_table(results.measures, "Instability, with 95 % intervals", results.without_failed))
    layered = {name: row for name, row in results.measures.items() if len(row.get("layers", ())) > 1}
    if layered:
        console.print(_layers_table(layered))
    _print_lines(console, "", say_remaining(results.scores))
    _print_lines(console, "note:", [*_explained(results.measures, results.seeds), *results.warnings])
    for reason in sorted(set(results.left_out.values())):
        names = [name for name, why in results.left_out.items() if why == reason]
        console.print(f"left out ({reason}): {', '.join(names)}", markup=False, highlight=False)


def print_registry(console: Console | None = None) -> None:
    """Prints the list of all measures."""
    table = Table(title="Measures of instability; each is explained in docs/measures.md", title_justify="left")
    for name in ("measure", "compares", "unit", "range", "what it says", "source"):
        table.add_column(name, no_wrap=name in ("measure", "range"))
    on_request = [one.name for one in MEASURES.values() if not one.default]
    table.caption = f"Only on request, with --measures: {', '.join(on_request)}"
    table.caption_justify = "left"
    for one in MEASURES.values():
        low, high = (f"{end:.3g}" for end in (one.low, one.high))
        table.add_row(one.name, f"{one.granularity}s", one.unit, f"{low} to {high}", one.meaning, one.source)
    (console or make_console(width=150)).print(table)


def print_comparison(
    comparison: Comparison, published: Sequence[tables.Table] = (), console: Console | None = None
) -> None:
    """Prints methods side by side, with a verdict on each."""
    console = console or make_console(width=150)
    for table in [*tables.comparison_tables(comparison), *published]:
        console.print(to_rich(table))
    _print_lines(console, "ranking:", [f"{task}: {one.sentence}" for task, one in comparison.rankings.items()])
    _print_lines(console, "note:", comparison.notes)
    _print_lines(console, "", comparison.verdicts)


def print_validity(found: Validity, console: Console | None = None) -> None:
    """Prints which measures can be trusted."""
    console = console or make_console(width=150)
    for one in (found.over_seeds, found.over_layers):
        if one is not None:
            console.print(to_rich(tables.correlations_table(one, found.name)))
    shown = [tables.nulls_table(found), tables.failed_table(found)]
    for table in shown:
        if table.rows:
            console.print(to_rich(table))
    _print_lines(console, "note:", found.notes)
    _print_lines(console, f"{found.name}:", found.sentences)


def print_study(study: SeedStudy, console: Console | None = None) -> None:
    """Prints how many seeds are needed and which source of randomness matters."""
    console = console or make_console()
    for table in study_tables(study):
        console.print(to_rich(table))
    _print_lines(console, "note:", study.notes)
    _print_lines(console, f"{study.name}:", study.sentences)


def print_audit(found: Audit, console: Console | None = None) -> None:
    """Prints what is true of what is said of few seeds."""
    console = console or make_console(width=150)
    for table in audit_tables(found):
        console.print(to_rich(table))
    _print_lines(console, "note:", found.notes)
    _print_lines(console, "", found.sentences)


def _score_table(run: Run) -> Table:
    info, scores = run.info, run.scores
    table = Table(
        title=f"{escape(run.config.name)}: test {info.metric} of {count('seed', len(scores))}", title_justify="left"
    )
    for name in ("mean", "95 % interval", "SD", "worst", "median", "best", guess_label(info.metric)):
        table.add_column(name, justify="right")
    sd = run.measures["measures"]["sd"]["value"]
    worst, best = scores.argmin(), scores.argmax()
    table.add_row(
        f"{scores.mean():.4f}",
        worth(run.measures["scores"]),
        number(sd),
        f"{scores[worst]:.4f} (seed {run.seeds[worst]})",
        f"{np.median(scores):.4f}",
        f"{scores[best]:.4f} (seed {run.seeds[best]})",
        f"{info.majority_score.test:.4f}",
    )
    return table


def _instability_table(
    rows: Mapping[str, Mapping[str, Any]], title: str, without: Mapping[str, Any] | None = None
) -> Table:
    """A table with one row for each measure; empty columns are left out."""
    table = Table(title=title, title_justify="left")
    shown, with_paper = tables.null_columns(rows), any("paper" in row for row in rows.values())
    columns = ["measure", "value", "95 % interval", *shown, *["released code"] * with_paper]
    columns += [f"{without['seeds']} not failed"] if without else []
    for name in columns:
        table.add_column(name, justify="left" if name == "measure" else "right", no_wrap=True)
    table.add_column("what it says")
    for name, row in rows.items():
        cells = [name, number(row["value"]), worth(row)]
        cells += [number(null) if null is not None else "" for null in nulls_of(row)[2 - len(shown) :]]
        if with_paper:
            cells.append(number(row["paper"]) if "paper" in row else "")
        if without:
            cells.append(number(without["measures"].get(name, {}).get("value")))
        table.add_row(*cells, MEASURES[name].meaning)
    if shown:
        table.caption, table.caption_justify = " ".join(tables.say_nulls(shown)), "left"
    return table


def _explained(rows: Mapping[str, Mapping[str, Any]], seeds: int) -> list[str]:
    return explain([row["reason"] for row in rows.values() if "reason" in row], seeds)


def _layers_table(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title="By layer", title_justify="left")
    table.add_column("layer", justify="right")
    for name in rows:
        table.add_column(name, justify="right")
    for layer, values in enumerate(zip(*(row["layers"] for row in rows.values()), strict=True), start=1):
        table.add_row(str(layer), *map(number, values))
    return table


def _spread_table(run: Run) -> Table:
    spread = example_spread(run.logits[..., 0])
    table = Table(title="Examples on which predictions differ most", title_justify="left", show_lines=True)
    for name in ("id", "label", "mean", "SD"):
        table.add_column(name, justify="right")
    table.add_column("text")
    for row in np.argsort(-spread, kind="stable")[:FLIPPING_EXAMPLES]:
        example, mean = run.texts.iloc[row], run.logits[:, row, 0].mean(dtype=np.float64)
        numbers = [f"{one:.3g}" for one in (example["label"], mean, spread[row])]
        table.add_row(str(example["example_id"]), *numbers, escape(_joined(example)))
    return table


def _flips_table(run: Run) -> Table:
    classes, predictions = run.info.classes, run.logits.argmax(axis=-1)
    votes = np.stack([(predictions == c).sum(axis=0) for c in range(len(classes))], axis=1)
    order = np.argsort(-example_disagreement(predictions, len(classes)), kind="stable")
    table = Table(title="Examples on which seeds disagree most", title_justify="left", show_lines=True)
    table.add_column("id", justify="right")
    table.add_column("label")
    table.add_column("votes", min_width=12)
    table.add_column("text")
    for row in order[:FLIPPING_EXAMPLES]:
        if votes[row].max() == len(predictions):
            break
        example = run.texts.iloc[row]
        cast = ", ".join(f"{classes[c]}: {votes[row, c]}" for c in np.argsort(-votes[row]) if votes[row, c])
        label = escape(str(example["label"]))
        table.add_row(str(example["example_id"]), label, escape(cast), escape(_joined(example)))
    return table


def _joined(example: Any) -> str:
    """The texts of a test example in short."""
    return " / ".join(_shortened(example[name]) for name in example.index if name.startswith("text"))


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"


def _print_lines(console: Console, start: str, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(f"{start} {line}".strip(), markup=False, highlight=False, soft_wrap=True)
