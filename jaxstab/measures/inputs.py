"""Checks arrays from numpy, JAX or PyTorch and converts them to numpy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from jaxstab.measures.performance import SCORES, of_numbers, unknown

Array = np.ndarray
AXES = {
    "logits": "[S, N, C]: seeds, examples, classes",
    "predictions": "[S, N]: seeds, examples",
    "labels": "[N]: examples",
    "representations": "[S, L, N, D]: seeds, layers, examples, features",
    "scores": "[S]: seeds",
}
FEWEST_EXAMPLES = 4  # debiased CKA needs 4


@dataclass(frozen=True)
class Inputs:
    """Checked arrays, ready to be measured.

    Attributes:
        classes: C; 1 if predictions are the numbers of a regression.
        logits: [S, N, C] float32; numbers [S, N, 1].
        predictions: [S, N] int32, the argmax of the logits if there are logits; or numbers, float64.
        labels: [N] int32; or numbers, float64.
        representations: S arrays [L, N, D], of any floating type.
        names: [S] names of the seeds in messages.
        scores: [S] float64, if they are given and do not follow from predictions and labels.
    """

    classes: int
    logits: Array | None
    predictions: Array | None
    labels: Array | None
    representations: Sequence[Array] | None
    names: Sequence[int]
    scores: Array | None = None

    @property
    def seeds(self) -> int:
        """S."""
        return len(self.names)

    @property
    def examples(self) -> int:
        """N."""
        if self.predictions is not None:
            return len(self.predictions[0])
        return len(self.representations[0][0]) if self.representations else 0

    @property
    def of(self) -> Literal["classes", "numbers"]:
        """What predictions are."""
        return "numbers" if self.classes == 1 else "classes"

    @property
    def default_metric(self) -> str:
        """The score where none is asked for."""
        return "pearson" if self.of == "numbers" else "accuracy"

    def outputs_for(self, metric: str) -> Array | None:
        """What a score judges: predictions [S, N] or logits [S, N, C]; None without labels or outputs.

        Raises:
            ValueError: an unknown metric, one of logits where only predictions are given, or one of numbers where
                predictions are classes, or the other way round.
        """
        if self.labels is None or self.predictions is None:
            return None
        if metric not in SCORES:
            raise ValueError(unknown(metric))
        if of_numbers(metric) != (self.of == "numbers"):
            others = ", ".join(one for one in SCORES if of_numbers(one) != of_numbers(metric))
            raise ValueError(f"{metric} does not apply: predictions are {self.of}; use one of {others}")
        if SCORES[metric].of != "logits":
            return self.predictions
        if self.logits is None:
            raise ValueError(f"{metric} needs logits: predictions do not say how sure a seed is")
        return self.logits

    def take(self, rows: Sequence[int]) -> "Inputs":
        """The inputs of the seeds at these positions."""
        rows = list(rows)
        return replace(
            self,
            logits=None if self.logits is None else self.logits[rows],
            predictions=None if self.predictions is None else self.predictions[rows],
            representations=None if self.representations is None else [self.representations[i] for i in rows],
            names=[self.names[i] for i in rows],
            scores=None if self.scores is None else self.scores[rows],
        )

    @property
    def available(self) -> frozenset[str]:
        """The names of the given arrays; with predictions also what they are, `classes` or `numbers`."""
        there = frozenset(name for name in AXES if getattr(self, name) is not None)
        return there if self.predictions is None else there | {self.of}


def check(
    logits: Any = None,
    predictions: Any = None,
    labels: Any = None,
    representations: Any = None,
    seeds: Sequence[int] | None = None,
    scores: Any = None,
    metric: str | None = None,
) -> Inputs:
    """Checks arrays.

    They are those of a regression if there is one logit, if predictions or labels are no whole numbers, or if the
    metric says so.

    Args:
        logits: [S, N, C] floating; of a regression the predicted numbers [S, N, 1].
        predictions: [S, N] class indices or numbers, instead of logits.
        labels: [N] class indices or numbers.
        representations: [S, L, N, D] floating, or a sequence of S arrays [L, N, D].
        seeds: names of the seeds in messages; 0, 1, ... by default.
        scores: [S] floating, instead of labels: any score of which more is better.
        metric: the score, if it is known.

    Raises:
        ValueError: an array is wrong; one line says which and where.
    """
    if logits is not None and predictions is not None:
        raise ValueError("logits and predictions: give one of them; predictions follow from logits")
    if labels is not None and scores is not None:
        raise ValueError("labels and scores: give one of them; scores follow from labels")
    if logits is None and predictions is None and representations is None and scores is None:
        raise ValueError("nothing to measure: give logits, predictions, representations or scores")
    logits, predictions, labels, scores = (
        None if array is None else _as_numpy(array, name)
        for name, array in (
            ("logits", logits),
            ("predictions", predictions),
            ("labels", labels),
            ("scores", scores),
        )
    )
    per_seed = None if representations is None else _representations(representations)
    for name, array in (("logits", logits), ("predictions", predictions), ("labels", labels), ("scores", scores)):
        _check_axes(name, array)
    count = _check_lengths(logits, predictions, labels, per_seed, scores)
    names = range(count) if seeds is None else seeds
    if len(names) != count:
        raise ValueError(f"seeds: {len(names)} numbers for {count} seeds")
    classes = 0
    if _are_numbers(logits, predictions, labels, metric):
        logits, predictions, labels = _numbers(logits, predictions, labels, names)
        classes = 1
    else:
        if logits is not None:
            logits, classes = _floating("logits", logits), logits.shape[-1]
            for seed, one in zip(names, logits, strict=True):
                _check_finite("logits", one, ("example", "class"), seed)
            predictions = logits.argmax(-1)
        predictions = _indices("predictions", predictions, classes)
        labels = _indices("labels", labels, classes)
        if predictions is not None and not classes:
            classes = max(2, *(1 + int(array.max()) for array in (predictions, labels) if array is not None))
    for seed, layers in zip(names, per_seed or (), strict=False):
        if layers.shape[1] < FEWEST_EXAMPLES:
            raise ValueError(f"representations: {layers.shape[1]} examples; at least {FEWEST_EXAMPLES} are needed")
        for number, layer in enumerate(layers, start=1):
            _check_finite("representations", layer, ("example", "feature"), f"{seed}, layer {number}")
    return Inputs(classes, logits, predictions, labels, per_seed, names, _given_scores(scores, names))


def _are_numbers(logits: Array | None, predictions: Array | None, labels: Array | None, metric: str | None) -> bool:
    """Whether the arrays are those of a regression.

    Raises:
        ValueError: they may be those of a classifier with a single output.
    """
    if logits is None and predictions is None:
        return False
    if logits is not None and logits.shape[-1] > 1:
        return False
    if metric is not None:
        return of_numbers(metric) or logits is not None
    whole = [
        array is None or array.dtype.kind != "f" or bool((array == np.round(array)).all())
        for array in (predictions, labels)
    ]
    if logits is None and all(whole):
        return False
    if labels is not None and np.isin(labels, (0, 1)).all():
        what = "one logit for each example" if logits is not None else "predictions are no whole numbers"
        raise ValueError(
            f"{what}, but labels are 0 and 1; give logits [S, N, 2] or predicted classes, or, if labels are numbers, a "
            "metric of numbers, such as pearson"
        )
    return True


def _numbers(
    logits: Array | None, predictions: Array | None, labels: Array | None, names: Sequence[int]
) -> tuple[Array, Array, Array | None]:
    """Predicted numbers as logits [S, N, 1] float32 and as predictions [S, N] float64, and labels in float64."""
    name, given = ("predictions", predictions) if logits is None else ("logits", logits[..., 0])
    assert given is not None
    for what, array in ((name, given), ("labels", labels)):
        if array is not None and array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
            raise ValueError(f"{what}: of type {array.dtype}; expected numbers")
    values = given.astype(np.float64)
    for seed, one in zip(names, values, strict=True):
        _check_finite(name, one, ("example",), seed)
    if labels is not None:
        labels = labels.astype(np.float64)
        if not np.isfinite(labels).all():
            place = int(np.argmin(np.isfinite(labels)))
            raise ValueError(f"labels: {labels[place]} at example {place}; every label must be a finite number")
    return values[..., None].astype(np.float32), values, labels


def _as_numpy(array: Any, name: str) -> Array:
    """Converts a numpy, JAX or PyTorch array; PyTorch tensors may require gradients and be on any device."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = array.float() if array.is_floating_point() and array.element_size() < 4 else array
    try:
        found = np.asarray(array)
    except ValueError:  # ragged lists
        raise ValueError(f"{name}: rows differ in length; expected {AXES[name]}") from None
    if found.dtype == object:
        raise ValueError(f"{name}: holds Python objects, not numbers; expected {AXES[name]}")
    return found


def _representations(representations: Any) -> list[Array]:
    name = "representations"
    if isinstance(representations, list | tuple):
        per_seed = [_as_numpy(one, name) for one in representations]
    else:
        per_seed = list(np.atleast_1d(_as_numpy(representations, name)))
    shapes = {one.shape for one in per_seed}
    if len(shapes) > 1:
        raise ValueError(f"{name}: seeds differ in shape, {' and '.join(map(str, sorted(shapes)))}")
    shape = shapes.pop() if shapes else ()
    if len(shape) != 3:
        hint = "; add the axis of layers: representations[:, None]" if len(shape) == 2 else ""
        raise ValueError(f"{name}: {len(shape) + 1} axes {(len(per_seed), *shape)}; expected {AXES[name]}{hint}")
    if 0 in shape:
        raise ValueError(f"{name}: shape {(len(per_seed), *shape)} is empty")
    return [_floating(name, one) for one in per_seed]


def _check_axes(name: str, array: Array | None) -> None:
    axes = AXES[name].partition(":")[0].count(",") + 1
    if array is not None and array.ndim != axes:
        raise ValueError(f"{name}: {array.ndim} axes {array.shape}; expected {AXES[name]}")
    if array is not None and 0 in array.shape:
        raise ValueError(f"{name}: shape {array.shape} is empty")


def _check_lengths(
    logits: Array | None,
    predictions: Array | None,
    labels: Array | None,
    per_seed: list[Array] | None,
    scores: Array | None,
) -> int:
    """Checks that all arrays have equally many seeds and examples; returns the number of seeds."""
    seeds: dict[str, int] = {}
    examples: dict[str, int] = {}
    for name, array in (("logits", logits), ("predictions", predictions)):
        if array is not None:
            seeds[name], examples[name] = array.shape[:2]
    if per_seed is not None:
        seeds["representations"], examples["representations"] = len(per_seed), per_seed[0].shape[1]
    if labels is not None:
        examples["labels"] = len(labels)
    if scores is not None:
        seeds["scores"] = len(scores)
    for what, lengths in (("seeds", seeds), ("examples", examples)):
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name} {count}" for name, count in lengths.items())
            raise ValueError(f"numbers of {what} differ: {counts}")
    return next(iter(seeds.values()))


def _floating(name: str, array: Array) -> Array:
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise ValueError(f"{name}: of type {array.dtype}; expected real numbers")
    return array if name == "representations" and array.dtype.kind == "f" else array.astype(np.float32)


def _given_scores(scores: Array | None, names: Sequence[int]) -> Array | None:
    """Scores as float64."""
    if scores is None:
        return None
    if scores.dtype.kind not in "fiub":
        raise ValueError(f"scores: of type {scores.dtype}; expected real numbers")
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        place = int(wrong[0])
        raise ValueError(f"scores: {scores[place]} of seed {names[place]}; leave that seed out")
    return scores.astype(np.float64)


def _check_finite(name: str, array: Array, axes: Sequence[str], seed: int | str) -> None:
    """Raises ValueError at the first value of one seed or layer that is not finite; positions count from 0."""
    if np.isfinite(array).all():
        return
    place = tuple(int(p) for p in np.argwhere(~np.isfinite(array))[0])
    where = ", ".join(f"{axis} {one}" for axis, one in zip(axes, place, strict=True))
    raise ValueError(f"{name}: {array[place]} at seed {seed}, {where}; every value must be finite; leave that seed out")


def _indices(name: str, array: Array | None, classes: int) -> Array | None:
    """Class indices as int32; `classes` is 0 if unknown."""
    if array is None:
        return None
    if array.dtype.kind not in "iub" and not (array.dtype.kind == "f" and (array == np.round(array)).all()):
        raise ValueError(
            f"{name}: of type {array.dtype}; expected class indices 0, 1, ..., or a score of numbers, such as pearson"
        )
    wrong = (array < 0) | (array >= classes if classes else False)
    if wrong.any():
        place = tuple(int(p) for p in np.argwhere(wrong)[0])
        axes = ("seed", "example")[-array.ndim :]
        where = ", ".join(f"{axis} {one}" for axis, one in zip(axes, place, strict=True))
        known = f"there are {classes} classes, 0 to {classes - 1}" if classes else "classes count from 0"
        raise ValueError(f"{name}: {array[place]} at {where} is out of range; {known}")
    return array.astype(np.int32)
