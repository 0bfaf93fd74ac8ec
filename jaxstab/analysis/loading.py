"""Outputs of paths and runs as analyses use them; a run's score may be a function that is not known in this process."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxstab import measures
from jaxstab.runs import reading
from jaxstab.runs.directory import Run
from jaxstab.runs.outputs import Outputs


def load_outputs(source: str | Path | Run, labels: str | Path | None, metric: str | None, task: str | None) -> Outputs:
    """Returns what a path holds of one task; see `jaxstab.runs.reading.load_outputs`."""
    return _with_known_score(reading.load_outputs(source, labels, metric, task))


def load_tasks(
    source: str | Path | Run, labels: str | Path | None, metric: str | None, task: str | None
) -> list[Outputs]:
    """Returns what a path holds of every task; see `jaxstab.runs.reading.load_tasks`."""
    return [_with_known_score(one) for one in reading.load_tasks(source, labels, metric, task)]


def _with_known_score(outputs: Outputs) -> Outputs:
    """Returns outputs with the scores that a run saved instead of labels, if its score is a function not known here."""
    run = outputs.run
    if run is None or outputs.metric in measures.SCORES or outputs.metric != run.info.metric:
        return outputs
    arrays = {name: array for name, array in outputs.arrays.items() if name != "labels"}
    scores = run.scores[np.isin(run.seeds, outputs.numbers)]
    note = (
        f"the score {outputs.metric} is a Python function: its saved values are used, for these test examples only; "
        "more is possible in Python after jaxstab.measures.add_score"
    )
    return replace(outputs, arrays={**arrays, "scores": scores}, notes=(*outputs.notes, note))
