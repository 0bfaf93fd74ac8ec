"""Measures of saved outputs, with and without the seeds that failed."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from jaxstab import measures
from jaxstab.analysis.sample import Sample, find_failures
from jaxstab.errors import InputError
from jaxstab.measures import MEAN, Inputs, Results
from jaxstab.runs.directory import Run
from jaxstab.runs.outputs import load_saved


def measure(
    path: str | Path,
    *,
    only: Iterable[str] | None = None,
    subset: str | None = None,
    metric: str | None = None,
    labels: str | Path | None = None,
    compat: str | None = None,
) -> Results:
    """Measures saved outputs, of a run or of any other framework.

    Args:
        path: a run directory; an npz or npy file; or a directory with a file for each seed.
        only: names of measures; all by default.
        subset: which seeds, as `seeds=0-9` or `seeds=0,3,5-7`.
        metric: the score; that of the run, otherwise accuracy.
        labels: a file with the true labels, where they are not beside the predictions.
        compat: `paper` adds the number of the released code of Du & Nguyen (2023) where it differs.

    Raises:
        InputError: something cannot be read or measured; names the file.
    """
    saved = load_saved(path, labels)
    try:
        chosen = measures.select(only)
        inputs = measures.check(**saved.arrays, seeds=saved.seeds)
        inputs = inputs.take(_rows(subset, inputs.names))
        if inputs.seeds < 2:
            raise ValueError("one seed only; instability needs at least two")
        results = measures.measure(inputs, metric or saved.metric, chosen, compat)
    except ValueError as error:
        raise InputError(f"{saved.path}: {error}") from None
    if saved.run is not None and "representations" not in saved.arrays:
        _add_recorded(results, saved.run, [one.name for one in chosen], inputs.names)
    return add_without_failed(results, inputs, find_failures(saved, inputs, metric or saved.metric))


def measure_sample(sample: Sample) -> Results:
    """Measures a sample; of representations what was recorded when they were compared."""
    results = measures.measure(replace(sample.inputs, representations=None), sample.metric)
    for name, nulls in sample.nulls.items():
        if name in sample.distances:
            kept = {key: nulls[key] for key in ("null", "null_shuffled")}
            measures.add_layers(results, name, sample.distances[name], kept)
    if sample.run is not None:
        results.warnings.extend(sample.run.measures["warnings"])
    return add_without_failed(results, sample.inputs, sample.reasons)


def add_without_failed(results: Results, inputs: Inputs, reasons: Sequence[str | None]) -> Results:
    """Measures again without failed seeds.

    Args:
        results: of all seeds.
        inputs: that they are of.
        reasons: [S] why a seed counts as failed, or None.

    Returns:
        The same results, with `without_failed` if some seeds failed and at least two did not.
    """
    kept = [place for place, reason in enumerate(reasons) if reason is None]
    if results.scores is None or not 2 <= len(kept) < len(reasons):
        return results
    metric = results.scores["metric"]
    sample = Sample("", Path(), "", metric, inputs, results.distances, None, tuple(reasons)).take(kept)
    rows = sample.rows([name for name in sample.names if name == MEAN or name in results.measures])
    mean = rows.pop(MEAN)
    scores = {"mean": mean["value"], "interval": mean["interval"]}
    return replace(results, without_failed={"seeds": len(kept), "scores": scores, "measures": rows})


def _rows(subset: str | None, seeds: Sequence[int]) -> list[int]:
    """Places of the seeds that `seeds=0-9` or `seeds=0,3,5-7` names."""
    if subset is None:
        return list(range(len(seeds)))
    match = re.fullmatch(r"seeds=(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)", subset)
    if not match:
        raise ValueError(f"subset {subset!r} is not understood; write seeds=0-9 or seeds=0,3,5-7")
    wanted: set[int] = set()
    for part in match[1].split(","):
        first, _, last = part.partition("-")
        wanted |= set(range(int(first), int(last or first) + 1))
    unknown = sorted(wanted - set(seeds))
    if unknown:
        raise ValueError(f"there is no seed {unknown[0]}; there are {', '.join(map(str, sorted(seeds)))}")
    return [i for i, seed in enumerate(seeds) if seed in wanted]


def _add_recorded(results: Results, run: Run, names: Sequence[str], seeds: Sequence[int]) -> None:
    """Representation measures of a run that did not keep representations, from the distances it recorded."""
    recorded = {name: run.measures["measures"][name] for name in names if name in run.measures["measures"]}
    layered = {name: row for name, row in recorded.items() if row["value"] is not None and "layers" in row}
    if not layered:
        return
    places = [run.distances["seeds"].tolist().index(seed) for seed in seeds]
    for name, row in layered.items():
        nulls = {key: row[key] for key in ("null", "null_shuffled")}
        measures.add_layers(results, name, run.distances[name][:, places][:, :, places], nulls)
    others = measures.MEASURES.keys() - layered.keys()
    results.warnings.extend(one for one in run.measures["warnings"] if one.split()[0].rstrip(":") not in others)
