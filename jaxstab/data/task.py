"""A task, loaded and checked: texts, labels that are classes or numbers, and three splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from jaxstab.config import Metric, RegressionMetric, TaskConfig
from jaxstab.data.rows import Rows, check_rows, read_rows
from jaxstab.data.sources import KNOWN_TASKS, load_splits, split_files
from jaxstab.errors import InputError
from jaxstab.words import count

if TYPE_CHECKING:
    from datasets import Dataset

HELD_OUT_FOR_BOTH = 0.2
HELD_OUT_FOR_VALIDATION = 0.1
STRATA = 10  # of labels that are numbers
FAR = 20  # labels further from 0 than this are slow to reach for a head that starts there


@dataclass(frozen=True)
class Split:
    """Examples in their original order.

    Attributes:
        texts: one sequence of texts per text column (one or two).
        labels: [N] int32, indices into `Task.classes`; float32 of a regression.
        example_ids: [N] int32, row numbers in the source's split.
    """

    texts: tuple[Sequence[str], ...]
    labels: np.ndarray
    example_ids: np.ndarray

    def select(self, indices: np.ndarray) -> "Split":
        """Returns the examples at `indices`, in that order."""
        texts = tuple([column[i] for i in indices] for column in self.texts)
        return Split(texts, self.labels[indices], self.example_ids[indices])


@dataclass(frozen=True)
class Task:
    """Three splits and the classes of their labels.

    Attributes:
        train: the seeds are trained on it.
        validation: chooses each seed's best epoch.
        test: predictions and measures are made on it.
        classes: names of the classes; none of a regression.
        metric: the score.
        notes: one sentence for each decision about the splits.
    """

    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    metric: str
    notes: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """C, how many numbers a model predicts for each example: one for each class, or 1 of a regression."""
        return len(self.classes) or 1


def load_task(config: TaskConfig, whole: bool = False) -> Task:
    """Loads, checks and splits a task.

    Without a validation split, a stratified part of the training examples is held out; without a (labelled) test
    split, the validation examples are halved, stratified, as Du & Nguyen (2023) do.

    Args:
        config: `[task]`.
        whole: whether to keep all training examples, of which each seed then draws its own (`jaxstab.data.draws`).

    Raises:
        InputError: missing columns, empty texts, labels that cannot be used; the message names the
            rows.
    """
    known = KNOWN_TASKS.get(config.source)
    regression = (config.kind or (known.kind if known else "classification")) == "regression"
    text = config.text or (known.text if known else None)
    if text is None:
        raise InputError(f"{config.source}: task.text is missing; name the one or two text columns")
    splits, classes, dropped = _load_checked(config, text, regression)
    splits, notes = _complete(splits, config.split_seed)
    notes = [*dropped, *notes]
    there = len(splits["train"].labels)
    if config.train_examples is not None and config.train_examples > there:
        raise InputError(f"task.train_examples = {config.train_examples}: there are {there}; ask for fewer")
    if config.train_examples is not None and not whole:
        chosen = np.random.default_rng(config.subset_seed).permutation(there)[: config.train_examples]
        splits["train"] = splits["train"].select(np.sort(chosen))
        notes.append(f"{config.train_examples} of {there} training examples (subset_seed {config.subset_seed})")
    for name, split in splits.items():
        if len(np.unique(split.labels)) < 2:
            what = "labels that are all the same" if regression else "one class only"
            raise InputError(f"{config.source}: the {name} split has {what}; at least two are needed")
    metric = _metric(config, regression)
    if regression:
        notes += _far_from_zero(splits["train"].labels)
    if metric in ("f1", "matthews") and len(classes) != 2:
        raise InputError(f"task.metric = {metric!r} needs 2 classes, not {len(classes)}; use macro_f1 or accuracy")
    return Task(**splits, classes=classes, metric=metric, notes=tuple(notes))


def _metric(config: TaskConfig, regression: bool) -> Metric:
    """The score that is asked for, or else that of the kind of task."""
    known = KNOWN_TASKS.get(config.source)
    usual: Metric = "pearson" if regression else "accuracy"
    if known is not None and (known.kind == "regression") == regression:
        usual = known.metric
    metric = config.metric or usual
    if (metric in get_args(RegressionMetric)) != regression:
        kind = "regression" if regression else "classification"
        raise InputError(
            f"task.metric = {metric!r} is not for {kind}; leave it out, or use {usual}"
            + ("" if regression else '; for labels that are numbers set task.kind = "regression"')
        )
    return metric


def stratified_halves(
    labels: np.ndarray, fraction: float, seed: int | np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Divides examples in two, each class as evenly as whole numbers allow; numbers by tenths of their order.

    Args:
        labels: [N] integers; or floating numbers.
        fraction: share of the examples that goes to the second part.
        seed: for the shuffle inside each class.

    Returns:
        The sorted indices of the first and of the second part.
    """
    if labels.dtype.kind == "f":
        labels = np.argsort(np.argsort(labels, kind="stable"), kind="stable") * STRATA // len(labels)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Systematic sampling along the classes: every 1/fraction-th example.
    ticks = np.floor(np.arange(len(labels) + 1) * fraction + 0.5)
    second = np.diff(ticks) > 0
    return np.sort(by_class[~second]), np.sort(by_class[second])


def _load_checked(
    config: TaskConfig, text: Sequence[str], regression: bool
) -> tuple[dict[str, Split], tuple[str, ...], list[str]]:
    """The splits that there are, the names of the classes, and notes on rows that were dropped."""
    raw, files = load_splits(config.source), split_files(config.source)
    found = {name: read_rows(raw[name], text, config.label, f"{config.source}: {name} split") for name in raw}
    if "test" in found and not found["test"].labelled:
        del found["test"]
    dropped: list[str] = []
    if config.drop_empty:
        found, dropped = _without_empty(found, config.source)
    check_rows(found, None, config.source, files, regression=regression)
    if regression:
        numbers = {name: np.asarray(rows.labels, np.float32) for name, rows in found.items()}
        return {name: Split(rows.texts, numbers[name], rows.numbers) for name, rows in found.items()}, (), dropped
    labels, classes = _find_classes(raw["train"], found["train"])
    index = {value: i for i, value in enumerate(labels)}
    check_rows(found, index, config.source, files)
    splits = {
        name: Split(rows.texts, np.asarray([index[one] for one in rows.labels], np.int32), rows.numbers)
        for name, rows in found.items()
    }
    return splits, classes, dropped


def _far_from_zero(labels: np.ndarray) -> list[str]:
    """A note, if labels are so far from 0 that a head which starts there takes long to reach them."""
    mean, sd = float(labels.mean(dtype=np.float64)), float(labels.std(dtype=np.float64))
    if max(abs(mean), sd) <= FAR:
        return []
    return [
        f"labels have mean {mean:.4g} and SD {sd:.4g}, and predictions start near 0; training is faster and surer if "
        "you subtract the mean from them and divide by the SD"
    ]


def _find_classes(source: "Dataset", rows: Rows) -> tuple[list[Any], tuple[str, ...]]:
    """The labels of all classes in their order, and the names of the classes."""
    names = getattr(source.features[rows.label], "names", None)
    known = list(range(len(names))) if names else sorted(set(rows.labels), key=lambda v: (str(type(v)), v))
    return known, tuple(names or map(str, known))


def _without_empty(found: dict[str, Rows], source: str) -> tuple[dict[str, Rows], list[str]]:
    """Rows with every text and a label, and a note on each split that had others."""
    kept = {name: rows.without_empty() for name, rows in found.items()}
    gone = {name: len(found[name].labels) - len(rows.labels) for name, rows in kept.items()}
    empty = [name for name, rows in kept.items() if not rows.labels]
    if empty:
        raise InputError(f"{source}: every row of the {empty[0]} split lacks a text or a label")
    return kept, [
        f"dropped {number} of {count('row', len(found[name].labels))} without text or label ({name})"
        for name, number in gone.items()
        if number
    ]


def _complete(splits: dict[str, Split], seed: int) -> tuple[dict[str, Split], list[str]]:
    splits, notes = dict(splits), []
    if "validation" not in splits:
        fraction = HELD_OUT_FOR_VALIDATION if "test" in splits else HELD_OUT_FOR_BOTH
        rest, held = stratified_halves(splits["train"].labels, fraction, seed)
        splits["validation"] = splits["train"].select(held)
        splits["train"] = splits["train"].select(rest)
        notes.append(f"no validation split: {fraction:.0%} of the training examples held out (split_seed {seed})")
    if "test" not in splits:
        first, second = stratified_halves(splits["validation"].labels, 0.5, seed)
        splits["test"] = splits["validation"].select(second)
        splits["validation"] = splits["validation"].select(first)
        how = "stratified by tenths of the labels" if splits["train"].labels.dtype.kind == "f" else "stratified"
        notes.append(f"no test split: validation examples halved, {how} (split_seed {seed})")
    return splits, notes
