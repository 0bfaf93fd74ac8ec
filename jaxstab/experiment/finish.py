"""The end of a run: once all seeds are trained, their files are merged into the run's files and measured."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from jaxstab import measures
from jaxstab.analysis.failures import failures
from jaxstab.analysis.measuring import add_without_failed
from jaxstab.config import SOURCES, SeedTriple
from jaxstab.data.task import Task
from jaxstab.errors import InputError
from jaxstab.experiment.progress import Progress
from jaxstab.experiment.status import PendingRun, record
from jaxstab.runs.directory import (
    CHECKPOINTS,
    CONFIG,
    DISTANCES,
    HISTORY,
    MEASURES,
    PREDICTIONS,
    REPRESENTATIONS,
    TEXTS,
    Run,
    representation_file,
    seed_file,
)
from jaxstab.runs.files import (
    digest,
    load_array,
    load_arrays,
    write_array,
    write_arrays,
    write_frame,
    write_json,
    write_stacked,
)
from jaxstab.training.stopping import last_epochs


def finish(pending: PendingRun, task: Task, display: Progress) -> None:
    """Merges the seeds' files into those of the run, measures, and records failed seeds, seconds and digests."""
    run, path, test = pending.run, pending.run.path, task.test
    triples = pending.config.seeds.resolve()
    numbers = [triple.seed for triple in triples]
    by_seed = [load_arrays(seed_file(run, seed)) for seed in numbers]
    results = {name: np.stack([one[name] for one in by_seed]) for name in by_seed[0]}
    representations = [load_array(representation_file(run, seed)) for seed in numbers]
    predictions = {
        "logits": results["logits"],
        "final_logits": results["final_logits"],
        "labels": test.labels,
        "seeds": np.asarray(numbers),
        "example_ids": test.example_ids,
    }
    write_arrays(path / PREDICTIONS, predictions)
    last = last_epochs(results["validation_score"], pending.config.train.patience)
    write_frame(path / HISTORY, _history(triples, results, last, pending.info.steps_per_epoch))
    write_frame(path / TEXTS, _texts(task))
    if pending.config.output.keep_representations:
        write_stacked(path / REPRESENTATIONS, representations)
    losses, guess = results["train_loss"], pending.info.guess_loss
    reasons = failures(results["final_logits"], test.labels, task.metric, losses, guess)
    failed = {seed: reason for seed, reason in zip(numbers, reasons, strict=True) if reason}
    started = time.perf_counter()
    with display.measuring(len(numbers), representations[0].shape) as progress:
        converged, found = _measure(task, numbers, results["logits"], representations, failed, progress)
    seconds = time.perf_counter() - started
    represented = measures.represented_examples(len(test.labels))
    write_arrays(path / DISTANCES, found.distances | {"seeds": np.asarray(converged), "represented": represented})
    write_json(path / MEASURES, found.as_json())
    record(
        [pending],
        failed_seeds=list(failed),
        failures=failed,
        measure_seconds=round(seconds, 2),
        sha256={name: digest(path / name) for name in (CONFIG, PREDICTIONS, HISTORY, TEXTS, DISTANCES, MEASURES)},
    )


def reopen(run: Run) -> None:
    """Splits a finished run's files into files for each seed again, so that more seeds can be trained.

    Raises:
        InputError: the run has no saved representations, which new seeds must be compared with.
    """
    if run.representations is None:
        raise InputError(
            f"{run.path}: seeds can be added to a finished run only if it has saved its representations "
            "(--output.keep_representations true); give --output.dir another directory"
        )
    (run.path / CHECKPOINTS).mkdir(exist_ok=True)
    for place, seed in enumerate(run.seeds.tolist()):
        curves = {name: values[place].astype(np.float32) for name, values in run.curves.items()}
        write_array(representation_file(run, seed), run.representations[place])
        logits = {"logits": run.logits[place], "final_logits": run.final_logits[place]}
        write_arrays(seed_file(run, seed), logits | curves)
    record([PendingRun(run, run.config, run.info)], status="interrupted", sha256={})


def _measure(
    task: Task,
    seeds: Sequence[int],
    logits: np.ndarray,
    representations: Sequence[np.ndarray],
    failed: Mapping[int, str],
    progress: Callable[[float], None],
) -> tuple[list[int], measures.Results]:
    """Scores all seeds and measures those that did not diverge; returns which seeds these are."""
    # Logits that are not finite count as a guess, so that scores of seeds that diverged are numbers.
    numbers = np.where(np.isfinite(logits), logits, 0)
    scored = measures.measure_inputs(
        measures.check(numbers, labels=task.test.labels, metric=task.metric), task.metric, ()
    )
    finite = np.isfinite(logits).all(axis=(1, 2))
    converged = [seed for seed, good in zip(seeds, finite, strict=True) if good]
    diverged = [seed for seed, good in zip(seeds, finite, strict=True) if not good]
    if not converged:
        return converged, replace(scored, warnings=["every seed diverged: logits are not finite"])
    inputs = measures.check(logits[finite], labels=task.test.labels, seeds=converged, metric=task.metric)
    represented = [one for one, good in zip(representations, finite, strict=True) if good]
    found = measures.measure_inputs(replace(inputs, representations=represented), task.metric, progress=progress)
    found = add_without_failed(found, inputs, [failed.get(seed) for seed in converged], diverged)
    return converged, replace(found, scores=scored.scores)


def _texts(task: Task) -> pd.DataFrame:
    """A data frame with one row per test example."""
    names = ["text"] if len(task.test.texts) == 1 else ["text_1", "text_2"]
    texts = {name: list(column) for name, column in zip(names, task.test.texts, strict=True)}
    labels = [task.classes[label] for label in task.test.labels] if task.classes else task.test.labels
    return pd.DataFrame({"example_id": task.test.example_ids, **texts, "label": labels})


def _history(
    triples: Sequence[SeedTriple], results: Mapping[str, np.ndarray], last: np.ndarray, steps_per_epoch: int
) -> pd.DataFrame:
    """A data frame with one row per seed and evaluation; sources of randomness that are off have no column.

    Evaluations after a seed's `last` epoch [S] are left out.
    """
    epochs = results["train_loss"].shape[1]
    used = [name for name in SOURCES if getattr(triples[0], name) is not None]
    rows = []
    for i, triple in enumerate(triples):
        best = int(np.argmax(results["validation_score"][i]))
        for epoch in range(min(epochs, last[i])):
            rows.append(
                {
                    "seed": triple.seed,
                    **{f"{name}_seed": getattr(triple, name) for name in used},
                    "repeat": triple.repeat,
                    "epoch": epoch + 1,
                    "step": (epoch + 1) * steps_per_epoch,
                    "train_loss": results["train_loss"][i, epoch],
                    "validation_loss": results["validation_loss"][i, epoch],
                    "validation_score": results["validation_score"][i, epoch],
                    "best": epoch == best,
                }
            )
    return pd.DataFrame(rows)
