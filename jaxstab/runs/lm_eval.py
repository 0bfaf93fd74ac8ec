"""What EleutherAI's lm-evaluation-harness leaves with `--log_samples`: a file for each task and run.

A run is a model, such as a checkpoint of one seed, or the same model with other seeds for its few-shot examples.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxstab.errors import InputError
from jaxstab.runs.outputs import METRICS, Outputs
from jaxstab.runs.score_tables import refuse_loss
from jaxstab.runs.seed_files import seed_numbers

SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")
SEEDS = ("random_seed", "numpy_seed", "torch_seed", "fewshot_seed")
ABSENT = -1e4  # the logit of a choice that an example does not have: its probability is 0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Samples:
    """The samples of a run, in the order of the documents.

    Attributes:
        file: where they lie.
        documents: [N] a number and a hash of each document.
        likelihoods: [N] of each example the log-likelihoods of its choices; empty where there are none.
        choices: [N] their texts.
        targets: [N] the targets as they are logged.
        scores: by metric [N].
    """

    file: Path
    documents: list[tuple[Any, ...]]
    likelihoods: list[Floats]
    choices: list[list[str]]
    targets: list[Any]
    scores: dict[str, list[Any]]


def find(path: Path) -> dict[str, dict[str, Path]]:
    """Returns the samples in a directory: by task and by run; of a run that was repeated the newest."""
    found: dict[str, dict[str, tuple[str, Path]]] = {}
    for file in sorted(path.rglob("samples_*.jsonl")):
        match = SAMPLES.fullmatch(file.name)
        if match:
            runs, name = found.setdefault(match["task"], {}), _run_name(path, file, match["date"])
            if name not in runs or runs[name][0] < match["date"]:
                runs[name] = match["date"], file
    return {task: {name: file for name, (_, file) in runs.items()} for task, runs in found.items()}


def _run_name(path: Path, file: Path, date: str) -> str:
    """The directory of the model, the name of the results and the seeds, in which runs may differ."""
    folder = str(file.parent.relative_to(path))
    results = next(iter(sorted(file.parent.glob(f"*_{date}.json"))), None)
    if results is None:
        return folder
    try:
        config = json.loads(results.read_text(encoding="utf-8"))["config"]
        seeds = [str(config.get(name)) for name in SEEDS]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        seeds = []
    return "/".join([folder, results.name.removesuffix(f"_{date}.json"), *seeds])


def read(path: Path, task: str, files: Mapping[str, Path], metric: str | None) -> Outputs:
    """Reads the samples of each run.

    Args:
        path: the directory.
        task: name of the task.
        files: by run, see `find`.
        metric: a metric of the task, perhaps with its filter, as in `exact_match,strict-match`, or one of ours for
            tasks with choices; default: accuracy of the choices, or the first metric.

    Returns:
        Of tasks with choices logits, the log-likelihoods of the choices, and labels, or with `acc_norm` predictions.
        Where these do not explain the metric of every example, whether each example is right, as predictions 1 and 0,
        and scores.

    Raises:
        InputError: samples cannot be read, runs have other documents, or there is no such metric.
    """
    name, _, wanted = (metric or "").partition(",")
    seeds = seed_numbers(list(files))
    ordered = [file for _, file in sorted(zip(seeds, files.values(), strict=True))] if seeds else list(files.values())
    runs = [_load(file, wanted or None) for file in ordered]
    for one in runs:
        _check_same(one, runs[0])
    documents = hashlib.sha256(repr([task, runs[0].documents]).encode()).hexdigest()
    arrays, score, notes = _arrays(runs, name)
    return Outputs(
        path, sorted(seeds) if seeds else None, arrays, score, task=task, examples=documents, notes=tuple(notes)
    )


def _load(file: Path, wanted: str | None) -> _Samples:
    """Reads the samples of one filter: the wanted one, or the first."""
    rows: dict[int, dict[str, Any]] = {}
    filters: list[str] = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                document, name = int(row["doc_id"]), str(row.get("filter", "none"))
                kept = {key: row[key] for key in ("target", "filtered_resps", "arguments", *row.get("metrics", ()))}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{file}: line {number} is no sample of lm-evaluation-harness ({error!r})") from None
            filters += [] if name in filters else [name]
            if name == (wanted or filters[0]):
                rows[document] = {
                    **kept,
                    "document": (document, row.get("doc_hash")),
                    "metrics": row.get("metrics", []),
                }
    if not rows:
        known = f" of filter {wanted}; there are {', '.join(filters)}" if filters else ""
        raise InputError(f"{file}: no samples{known}")
    ordered = [rows[document] for document in sorted(rows)]
    metrics = [name for name in ordered[0]["metrics"] if all(name in row for row in ordered)]
    return _Samples(
        file,
        [row["document"] for row in ordered],
        [_likelihoods(row["filtered_resps"]) for row in ordered],
        [_choices(row["arguments"]) for row in ordered],
        [row["target"] for row in ordered],
        {name: [row[name] for row in ordered] for name in metrics},
    )


def _likelihoods(responses: Any) -> Floats:
    """Log-likelihoods of choices, logged as [[-1.5, False], ...], of numbers or of text."""
    try:
        found = [float(one[0]) for one in responses if len(one) == 2 and str(one[1]) in ("True", "False")]
    except (ValueError, TypeError, IndexError):
        return np.empty(0)
    return np.array(found if len(found) == len(responses) > 1 else [], np.float64)


def _choices(arguments: Any) -> list[str]:
    """The texts of choices, logged as {"gen_args_0": {"arg_0": context, "arg_1": text}, ...} or as lists."""
    pairs = list(arguments.values()) if isinstance(arguments, dict) else arguments
    try:
        return [str(one["arg_1"] if isinstance(one, dict) else one[1]).strip() for one in pairs]
    except (KeyError, IndexError, TypeError):
        return []


def _check_same(one: _Samples, first: _Samples) -> None:
    if len(one.documents) != len(first.documents):
        raise InputError(
            f"{one.file}: {len(one.documents)} samples, but {first.file} has {len(first.documents)}; "
            "every run needs the same documents"
        )
    for document, other in zip(one.documents, first.documents, strict=True):
        if document != other:
            raise InputError(f"{one.file}: document {document[0]} is not the same as in {first.file}")


def _arrays(runs: Sequence[_Samples], metric: str) -> tuple[dict[str, Any], str, list[str]]:
    """The arrays of all runs, the name of the score, and notes."""
    there = [name for name in runs[0].scores if all(name in one.scores for one in runs)]
    name = metric or ("acc" if "acc" in there else next(iter(there), "accuracy"))
    if name in ("acc", *METRICS):
        found = _classes(runs, lambda one: one.likelihoods, "acc")
        if found is not None:
            logits = np.stack([_padded([each - each.max() for each in one.likelihoods]) for one in runs])
            return {"logits": logits, "labels": found[1]}, "accuracy" if name == "acc" else name, []
    if name == "acc_norm":
        found = _classes(runs, _by_length, name)
        if found is not None:
            note = "accuracy is acc_norm: of the choice with the largest log-likelihood per character"
            return {"predictions": found[0], "labels": found[1]}, "accuracy", [note]
    if name not in there:
        reason = "; it needs choices, of which the samples hold none" if name in METRICS else ""
        raise InputError(f"{runs[0].file}: no metric {name}{reason}; there are {', '.join(there) or 'none'}")
    refuse_loss(runs[0].file, name)
    values = _numbers([one.scores[name] for one in runs])
    if values is None:
        raise InputError(f"{runs[0].file}: {name} is no number for each sample; choose another --metric")
    scores = {"scores": values.mean(axis=1)}
    if not np.isin(values, (0, 1)).all():
        return scores, name, [f"{name} is not 0 or 1 for each sample, so predictions are not compared"]
    note = f"two classes are compared, right and wrong by {name}, not the answers themselves"
    return {"predictions": values.astype(int), **scores}, name, [note]


def _by_length(one: _Samples) -> list[Floats]:
    """Log-likelihoods per character of the choice."""
    pairs = zip(one.likelihoods, one.choices, strict=True)
    return [
        each / np.array([max(len(text), 1) for text in texts]) if len(texts) == len(each) else np.empty(0)
        for each, texts in pairs
    ]


def _classes(
    runs: Sequence[_Samples], values: Callable[[_Samples], list[Floats]], metric: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Chosen classes [S, N] and labels [N]; None unless they explain the metric of every sample."""
    every = [values(one) for one in runs]
    if not all(len(each) > 1 for one in every for each in one):
        return None
    chosen = np.array([[int(each.argmax()) for each in one] for one in every])
    right = _numbers([one.scores.get(metric, []) for one in runs])
    if right is None and all(metric in one.scores for one in runs):
        return None
    sizes = np.array([len(each) for each in every[0]])
    for labels in (
        _by_number(runs[0].targets),
        _by_text(runs[0].targets, runs[0].choices),
        _by_metric(chosen, right, sizes),
    ):
        if labels is None or not ((labels >= 0) & (labels < sizes)).all():
            continue
        if right is None or np.array_equal(chosen == labels, right):
            return chosen, labels
    return None


def _numbers(logged: Sequence[Sequence[Any]]) -> Floats | None:
    """A metric [S, N], if it is one number for each sample."""
    try:
        found = np.array(logged, np.float64)
    except (ValueError, TypeError):
        return None
    return found if found.ndim == 2 and found.size and np.isfinite(found).all() else None


def _by_number(targets: Sequence[Any]) -> NDArray[np.int64] | None:
    if not all(re.fullmatch(r"\d+", str(target)) for target in targets):
        return None
    return np.array([int(target) for target in targets])


def _by_text(targets: Sequence[Any], choices: Sequence[list[str]]) -> NDArray[np.int64] | None:
    found = zip([str(target).strip() for target in targets], choices, strict=True)
    return np.array([texts.index(target) if target in texts else -1 for target, texts in found])


def _by_metric(
    chosen: NDArray[np.int64], right: NDArray[Any] | None, sizes: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Of two choices the label is the chosen one if that is right, else the other one."""
    if right is None or not (sizes == 2).all():
        return None
    labels: NDArray[np.int64] = np.where(right[0] == 1, chosen[0], 1 - chosen[0])
    return labels


def _padded(rows: Sequence[Floats]) -> NDArray[np.float32]:
    """Rows [N, C] of any lengths; choices that an example does not have get probability 0."""
    padded = np.full((len(rows), max(map(len, rows))), ABSENT)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = np.maximum(row, ABSENT)
    return padded.astype(np.float32)
