"""Measures of saved outputs and samples, with and without failed seeds."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from jaxstab import measures
from jaxstab.analysis.failures import warn_failures
from jaxstab.analysis.loading import load_outputs
from jaxstab.analysis.sample import Sample, Source, check_options, why_failed
from jaxstab.errors import InputError
from jaxstab.measures import MEAN, Inputs, Results
from jaxstab.runs.directory import Run


def measure(
    source: Source,
    *,
    only: Iterable[str] | None = None,
    subset: str | None = None,
    metric: str | None = None,
    labels: str | Path | None = None,
    task: str | None = None,
    compat: str | None = None,
    max_pairs: int | None = measures.MAX_PAIRS,
    progress: Callable[[float], None] = lambda share: None,
) -> Results:
    """Measures how much the seeds of a run, of a sample, or of saved outputs of any framework differ.

    Arrays in memory are measured by `jaxstab.measures.all`.

    Args:
        source: a `Sample`; a run or its directory; an npz or npy file; a csv file of runs with their scores; or a
            directory with files by seed, samples of lm-evaluation-harness, output directories of Hugging Face's
            Trainer, or tables of Weights & Biases.
        only: names of measures; by default all but those on request (`Measure.default`).
        subset: which seeds, such as `seeds=0-9` or `seeds=0,3,5-7`.
        metric: the score for a source read from a path; default: the run's own metric, otherwise accuracy. Where scores
            are given, their column or key, such as `eval_accuracy`.
        labels: file with the true labels, for a source that does not hold them.
        task: the task, for a source that holds several.
        compat: `paper` adds the number of the released code of Du & Nguyen (2023) where it differs.
        max_pairs: if there are more pairs of seeds, `svcca`, `pwcca` and `op` are those of a random part of this size;
            None for all pairs. What a run or sample has recorded stays.
        progress: called with the share of the work that is done, from time to time.

    Returns:
        A mapping from names to values with intervals, and the reasons for measures that are missing.

    Raises:
        InputError: something cannot be read or measured; the message names the file.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(2, size=100)
        >>> votes = np.where(rng.random((8, 100)) < 0.8, labels, 1 - labels)
        >>> np.savez("outputs.npz", predictions=votes, labels=labels)
        >>> found = measure("outputs.npz", only=["pairwise_disagreement"])
        >>> print(found["pairwise_disagreement"]["interval"])
        0.2876 to 0.3885
    """
    if isinstance(source, Sample):
        check_options(source, metric, labels, task)
        return _measure_sample(source, only, subset, compat)
    outputs = load_outputs(source, labels, metric, task)
    try:
        # The subset comes first, so that a seed with odd values can be left out.
        places, diverged = _chosen(subset, outputs.numbers, outputs.diverged)
        outputs = outputs if subset is None else outputs.take(places)
        inputs = measures.check(**outputs.arrays, seeds=outputs.seeds, metric=outputs.metric)
        chosen = measures.select(only, inputs.of)
        if inputs.seeds < 2:
            raise ValueError("one seed only; instability needs at least two")
        results = measures.measure_inputs(
            inputs, outputs.metric, chosen, compat, max_pairs=max_pairs, progress=progress
        )
    except ValueError as error:
        raise InputError(f"{outputs.path}: {error}") from None
    if outputs.run is not None and "representations" not in outputs.arrays:
        _add_recorded(results, outputs.run, [one.name for one in chosen], inputs.names)
    results.warnings.extend(outputs.notes)
    return add_without_failed(results, inputs, why_failed(outputs, inputs), diverged)


def _measure_sample(sample: Sample, only: Iterable[str] | None, subset: str | None, compat: str | None) -> Results:
    """Measures a sample; nulls and warnings of its representations are those recorded with it."""
    try:
        chosen = measures.select(only, sample.inputs.of)
        places, diverged = _chosen(subset, sample.inputs.names, sample.diverged)
        sample = sample.take(places)
        results = measures.measure_inputs(replace(sample.inputs, representations=None), sample.metric, chosen, compat)
    except ValueError as error:
        raise InputError(f"{sample.source}: {error}") from None
    for one in chosen:
        if one.name in sample.nulls and one.name in sample.distances:
            nulls = {key: sample.nulls[one.name][key] for key in ("null", "null_shuffled")}
            measures.add_layers(results, one.name, sample.distances[one.name], nulls, sample.inputs.names)
    results.warnings.extend([*sample.warnings, *sample.notes])
    return add_without_failed(results, sample.inputs, sample.reasons, diverged)


def add_without_failed(
    results: Results, inputs: Inputs, reasons: Sequence[str | None], diverged: Sequence[int] = ()
) -> Results:
    """Measures again without failed seeds.

    Args:
        results: results for all seeds.
        inputs: the arrays that were measured.
        reasons: [S] why a seed counts as failed, or None.
        diverged: seeds that were not measured, because their logits are not finite; they count as failed.

    Returns:
        The same results, with `without_failed` filled in if some seeds failed and at least two did not, and a warning
        of what the number of failed seeds leaves open.
    """
    places = [place for place, reason in enumerate(reasons) if reason is None]
    if inputs.labels is None or results.scores is None:
        return results
    if diverged:
        named = ", ".join(map(str, diverged))
        results.warnings.insert(0, f"left out of every measure, because logits are not finite: seed {named}")
    seeds = len(reasons) + len(diverged)
    warning = warn_failures(seeds - len(places), seeds)
    results.warnings.extend([] if warning is None else [warning])
    if not 2 <= len(places) < len(reasons):
        return results
    rows = measures.rows([MEAN, *results], inputs, results.distances, results.scores["metric"], places)
    mean = rows.pop(MEAN)
    scores = {"mean": mean["value"], "interval": mean["interval"]}
    return replace(results, without_failed={"seeds": len(places), "scores": scores, "measures": rows})


def _chosen(subset: str | None, seeds: Sequence[int], diverged: Sequence[int]) -> tuple[list[int], list[int]]:
    """Positions of the seeds in a subset such as `seeds=0-9` or `seeds=0,3,5-7`, and the diverged seeds in it."""
    if subset is None:
        return list(range(len(seeds))), list(diverged)
    match = re.fullmatch(r"seeds=(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)", subset)
    if not match:
        raise ValueError(f"subset {subset!r} is not understood; write seeds=0-9 or seeds=0,3,5-7")
    wanted: set[int] = set()
    for part in match[1].split(","):
        first, _, last = part.partition("-")
        wanted |= set(range(int(first), int(last or first) + 1))
    there = sorted({*seeds, *diverged})
    unknown = sorted(wanted - set(there))
    if unknown:
        raise ValueError(f"there is no seed {unknown[0]}; there are {', '.join(map(str, there))}")
    return [i for i, seed in enumerate(seeds) if seed in wanted], [seed for seed in diverged if seed in wanted]


def _add_recorded(results: Results, run: Run, names: Sequence[str], seeds: Sequence[int]) -> None:
    """Adds measures of representations from the run's recorded distances, if it saved no representations."""
    recorded = {name: run.measures["measures"][name] for name in names if name in run.measures["measures"]}
    layered = {name: row for name, row in recorded.items() if row["value"] is not None and "layers" in row}
    if not layered:
        return
    places = [run.distances["seeds"].tolist().index(seed) for seed in seeds]
    for name, row in layered.items():
        nulls = {key: row[key] for key in ("null", "null_shuffled")}
        measures.add_layers(results, name, run.distances[name][:, places][:, :, places], nulls, seeds)
    others = measures.MEASURES.keys() - layered.keys()
    results.warnings.extend(one for one in run.measures["warnings"] if one.split()[0].rstrip(":") not in others)
