"""Writes the report of one or several runs: reads, analyses, draws and renders one page."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from jaxstab.analysis.compare import compare
from jaxstab.analysis.comparison import Comparison
from jaxstab.analysis.matching import by_task
from jaxstab.analysis.measuring import measure
from jaxstab.analysis.reference import Reference, load_reference
from jaxstab.analysis.sample import Sample, Sources, as_samples
from jaxstab.errors import InputError
from jaxstab.measures import Results
from jaxstab.report import content, drawing, methods, tables
from jaxstab.report.content import run_section
from jaxstab.report.formats import Table, slug
from jaxstab.report.page import Page, Section, render
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
) -> tuple[Page, list[Table]]:
    """Writes a page about runs, and compares runs on the same test examples.

    Args:
        sources: as for `jaxstab.compare`; one is enough.
        to: the HTML file to write; None writes no file.
        directory: directory for every figure as PNG, SVG and PDF; None writes no figures.
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

    Examples:
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
    sections, names = _compared(samples, comparison, published, delta), list[str]()
    for sample, found in zip(samples, results, strict=True):
        if not brief or not sections:
            progress(f"drawing {sample.name} on {sample.task}")
            name = slug(f"{sample.task}-{sample.name}")
            names.append(name if name not in names else f"{name}-{len(names)}")
            alone, folded = len(samples) == 1, comparison is not None
            sections.append(run_section(sample, found, names[-1], texts=texts, alone=alone, folded=folded))
    if note:
        sections[0] = replace(sections[0], notes=[*sections[0].notes, note])
    names_of_methods = list(dict.fromkeys(sample.name for sample in samples))
    page = Page(
        f"jaxstab: {', '.join(names_of_methods)}",
        _headline(samples, comparison),
        sections,
        list(dict.fromkeys(sample.task for sample in samples)) if comparison is None else list(comparison.values),
        names_of_methods if comparison is None else comparison.methods,
    )
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


def _compared(
    samples: Sequence[Sample], comparison: Comparison | None, published: Reference | None, delta: float | None
) -> list[Section]:
    """The sections before the runs: the comparison of methods, and published numbers."""
    sections = []
    if comparison is not None:
        groups = {task: group for task, group in by_task(samples).items() if task in comparison.values}
        sections.append(methods.comparison_section(comparison, groups, delta))
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
    if comparison is not None:
        return methods.headline(comparison)
    return content.headline(samples[0]) if len(samples) == 1 else f"{len(samples)} runs, each on its own."


def _tables(samples: Sequence[Sample], results: Sequence[Results], comparison: Comparison | None) -> list[Table]:
    if comparison is not None:
        return tables.comparison_tables(comparison)
    return [
        replace(tables.measures_table(found), title=f"{sample.name} on {sample.task}")
        for sample, found in zip(samples, results, strict=True)
    ]
