"""Writes the report of one or several runs: reads, analyses, draws and renders one page."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxstab.analysis.aggregates import performance_profile
from jaxstab.analysis.compare import compare
from jaxstab.analysis.comparison import ALL_TASKS, Comparison
from jaxstab.analysis.matching import by_task
from jaxstab.analysis.measuring import measure
from jaxstab.analysis.reference import Reference, load_reference
from jaxstab.analysis.sample import Sample, Sources, as_samples
from jaxstab.errors import InputError
from jaxstab.measures import MEASURES, Results
from jaxstab.report import drawing, figures, tables
from jaxstab.report.content import headline, run_section, slug
from jaxstab.report.page import Page, Picture, Section, render
from jaxstab.runs.files import write_text


def write_report(
    sources: Sources,
    to: str | Path | None = "report.html",
    *,
    directory: str | Path | None = None,
    baseline: str | None = None,
    reference: str | Path | None = None,
    texts: bool = True,
    brief: bool = False,
    delta: float | None = None,
    metric: str | None = None,
    labels: str | Path | None = None,
    task: str | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[Page, list[tables.Table]]:
    """Writes a page about runs, and compares runs on the same test examples.

    Args:
        sources: as for `jaxstab.compare`; one is enough.
        to: the HTML file to write; None writes no file.
        directory: directory for every figure as PNG and PDF; None writes no figures.
        baseline: name of the method that the others are compared with.
        reference: published numbers, see `load_reference`.
        texts: whether the page shows the examples' texts.
        brief: whether to write the comparison only, without a section for each run.
        delta: the largest difference in mean score that does not matter, see `jaxstab.compare`.
        metric: the score for sources read from a path; default: the run's own metric, otherwise accuracy.
        labels: file with the true labels, for sources that do not hold them.
        task: one task, for sources that hold several; default: all of them.
        progress: called with one line about each stage.

    Returns:
        The page, and the tables of measures and comparisons on it.

    Raises:
        InputError: something cannot be read or written.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(2, size=100)
        >>> votes = np.where(rng.random((8, 100)) < 0.8, labels, 1 - labels)
        >>> page, found = write_report([Sample.from_arrays("mine", predictions=votes, labels=labels)], "report.html")
        >>> page.title
        'jaxstab: mine'
    """
    published = None if reference is None else load_reference(reference)
    samples = as_samples(sources, metric=metric, labels=labels, task=task)
    by_task(samples)  # raises if a name occurs twice on a task
    results = []
    for sample in samples:
        progress(f"measuring {sample.name} on {sample.task}")
        results.append(measure(sample))
    comparison, note = _compare(samples, baseline, delta)
    sections, names = _compared(samples, comparison, published), list[str]()
    for sample, found in zip(samples, results, strict=True):
        if not brief or not sections:
            progress(f"drawing {sample.name} on {sample.task}")
            name = slug(f"{sample.task}-{sample.name}")
            names.append(name if name not in names else f"{name}-{len(names)}")
            sections.append(run_section(sample, found, names[-1], texts=texts, alone=len(samples) == 1))
    if note:
        sections[0] = replace(sections[0], notes=[*sections[0].notes, note])
    title = "jaxstab: " + ", ".join(dict.fromkeys(sample.name for sample in samples))
    page = Page(title, _headline(samples, comparison), sections)
    try:
        if to is not None:
            Path(to).parent.mkdir(parents=True, exist_ok=True)
            write_text(Path(to), render(page))
        if directory is not None:
            for picture in page.pictures:
                drawing.save(picture.figure, Path(directory), picture.name)
    except OSError as error:
        raise InputError(
            f"{error.filename or to}: cannot be written ({error.strerror}); choose another place"
        ) from None
    return page, _tables(samples, results, comparison)


def _compared(samples: Sequence[Sample], comparison: Comparison | None, published: Reference | None) -> list[Section]:
    """The sections before the runs: the comparison of methods, and published numbers."""
    sections = [] if comparison is None else [_comparison_section(comparison)]
    if published is not None:
        tasks = list(dict.fromkeys(sample.task for sample in samples))
        found = [tables.reference_table(published.of(task), task) for task in tasks]
        missing = [f"no published numbers of {task}" for task, one in zip(tasks, found, strict=True) if not one.rows]
        sections.append(Section("Published numbers", notes=missing, tables=[one for one in found if one.rows]))
    return sections


def _compare(
    samples: Sequence[Sample], baseline: str | None, delta: float | None
) -> tuple[Comparison | None, str | None]:
    """Returns the comparison, or the reason why nothing can be compared; raises if a baseline was asked for."""
    if len(samples) < 2:
        return None, None
    try:
        return compare(samples, baseline=baseline, delta=delta), None
    except InputError as error:
        if baseline is not None:
            raise
        return None, f"not compared: {error}"


def _headline(samples: Sequence[Sample], comparison: Comparison | None) -> str:
    if comparison is None:
        return headline(samples[0]) if len(samples) == 1 else f"{len(samples)} runs, each on its own."
    others = comparison.methods[1:]
    tasks = [ALL_TASKS] if len(comparison.values) > 1 else list(comparison.values)
    clear = [method for task in tasks for method in others if any(one.clear for one in comparison.of(task, method))]
    seeds = ", ".join(dict.fromkeys(comparison.count_seeds(task) for task in comparison.values))
    where = "over all tasks" if tasks == [ALL_TASKS] else f"on {tasks[0]}"
    if not clear:
        named = ", ".join(others)
        return f"With {seeds}, no difference from {comparison.baseline} can be told {where}: {named}."
    first = "; ".join(comparison.verdict(task, method) for task in tasks for method in clear)
    rest = [method for method in others if method not in clear]
    return first + (f". Cannot tell: {', '.join(rest)}." if rest else ".")


def _comparison_section(comparison: Comparison) -> Section:
    tasks = [ALL_TASKS] * (len(comparison.values) > 1) + list(comparison.values)
    parts = []
    for task in tasks:
        pictures = _profile_pictures(comparison) if task == ALL_TASKS else _score_pictures(comparison, task)
        pictures += [
            _difference_picture(comparison, task, method)
            for method in comparison.methods[1:]
            if comparison.of(task, method)
        ]
        shown = []
        if task != ALL_TASKS:
            paired = "paired" if comparison.paired[task] else "unpaired"
            title = f"{comparison.count_seeds(task)} ({paired})"
            shown.append(tables.values_table(title, comparison.values[task], comparison.metrics[task]))
        elif comparison.aggregates:
            shown.append(tables.aggregates_table(comparison))
        ranking = comparison.rankings.get(task)
        if ranking is not None:
            shown.append(tables.rankings_table(comparison, task))
            drawn = figures.correlations(ranking.tau, names=ranking.measures)
            pictures.append(Picture(f"{slug(task)}-tau", drawn, "Kendall's tau between the rankings of two measures."))
        sentences = [comparison.verdict(task, one) for one in comparison.methods[1:] if comparison.of(task, one)]
        sentences += [ranking.sentence] if ranking is not None else []
        parts.append(Section(task, sentences, pictures=pictures, tables=shown))
    if comparison.differences:
        parts.append(Section("everything", searched=[tables.all_differences_table(comparison)]))
    of_scores = [tables.scores_table(comparison)] if comparison.score_comparisons else []
    return Section("Methods compared", notes=comparison.notes, tables=of_scores, sections=parts)


def _profile_pictures(comparison: Comparison) -> list[Picture]:
    """The performance profile of every method that is on all tasks."""
    scores = {name: [of_task[name] for of_task in comparison.scores.values()] for name in comparison.aggregates}
    if not scores:
        return []
    every = np.concatenate([np.concatenate(tasks) for tasks in scores.values()])
    thresholds = np.linspace(every.min(), every.max(), 101)
    found = {name: performance_profile(tasks, thresholds) for name, tasks in scores.items()}
    drawn = figures.profiles(thresholds, [(name, one.shares, one.band) for name, one in found.items()])
    caption = "Share of seeds that score above each value, averaged over tasks; bands hold 95 % at each value."
    return [Picture("all-tasks-profiles", drawn, caption)]


def _score_pictures(comparison: Comparison, task: str) -> list[Picture]:
    scores = comparison.scores[task]
    if not all(scores.values()):
        return []
    drawn = figures.dots_by_method(
        [np.asarray(one) for one in scores.values()],
        names=list(scores),
        metric=comparison.metrics[task],
        failed=[np.zeros(len(one), bool) for one in scores.values()],
    )
    return [Picture(f"{slug(task)}-methods", drawn, "Test score of each seed by method; the line is the mean.")]


def _difference_picture(comparison: Comparison, task: str, method: str) -> Picture:
    found = [one for one in comparison.of(task, method) if one.measure in MEASURES]
    values = np.array([np.nan if one.effect is None else one.effect for one in found], np.float64)
    ends = np.array([one.effect_interval or [np.nan, np.nan] for one in found], np.float64).reshape(-1, 2)
    drawn = figures.differences(
        [one.measure for one in found],
        values,
        ends,
        np.array([one.clear for one in found], bool),
        xlabel=f"{method} / {comparison.baseline}",
        reference=1,
        log=True,
    )
    caption = f"{method}: ratio to {comparison.baseline}, 95 % intervals; left is more stable. Filled: clear at 5 %."
    return Picture(f"{slug(task)}-{slug(method)}-differences", drawn, caption)


def _tables(samples: Sequence[Sample], results: Sequence[Results], comparison: Comparison | None) -> list[tables.Table]:
    if comparison is not None:
        return tables.comparison_tables(comparison)
    return [
        replace(tables.measures_table(found), title=f"{sample.name} on {sample.task}")
        for sample, found in zip(samples, results, strict=True)
    ]
