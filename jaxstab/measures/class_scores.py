"""How well seeds do on each class, and how much they differ there. Numpy in float64; S seeds, N examples, C classes."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxstab.measures.intervals import Facts, row
from jaxstab.measures.prediction import example_disagreement
from jaxstab.measures.subsets import MEAN


class OfClass(NamedTuple):
    """What seeds do with one class.

    Attributes:
        examples: number of test examples with this label.
        recall: mean over seeds of the share of these examples that are found: `value`, and `interval` or `reason`.
        precision: mean over seeds of the share of predictions of this class that are right; 0 for a seed without any.
        f1: mean over seeds of the harmonic mean of both; 0 without a right prediction.
        recall_sd: standard deviation of recall over seeds; None for one seed.
        disagreement: share of these examples on which two seeds predict different classes; None for one seed.
    """

    examples: int
    recall: dict[str, Any]
    precision: dict[str, Any]
    f1: dict[str, Any]
    recall_sd: float | None
    disagreement: float | None


def confusion(
    predictions: Int[np.ndarray, "S N"], labels: Int[np.ndarray, " N"], classes: int
) -> Int[np.ndarray, "S C C"]:
    """Returns each seed's confusion matrix: how many examples of a label (rows) get a prediction (columns).

    Args:
        predictions: [S, N] class indices.
        labels: [N] class indices.
        classes: C.
    """
    cells = labels.astype(np.int64) * classes + predictions
    return np.array([np.bincount(one, minlength=classes**2).reshape(classes, classes) for one in cells])


def by_class(
    predictions: Int[np.ndarray, "S N"], labels: Int[np.ndarray, " N"], classes: int, seeds: list[int]
) -> dict[int, OfClass]:
    """Returns, for every class that is the label of an example, how well seeds do on it, with intervals over seeds.

    Args:
        predictions: [S, N] class indices.
        labels: [N] class indices.
        classes: C.
        seeds: [S] names of the seeds.
    """
    counts = confusion(predictions, labels, classes)
    hits = np.diagonal(counts, axis1=1, axis2=2).astype(np.float64)
    truths, guesses = counts.sum(axis=2), counts.sum(axis=1)
    parts = {
        "recall": _share(hits, truths),
        "precision": _share(hits, guesses),
        "f1": _share(2 * hits, truths + guesses),
    }
    disagreement, several = example_disagreement(predictions, classes), len(seeds) > 1
    return {
        int(c): OfClass(
            examples=int(truths[0, c]),
            **{name: _mean(values[:, c], seeds) for name, values in parts.items()},
            recall_sd=float(parts["recall"][:, c].std(ddof=1)) if several else None,
            disagreement=float(disagreement[labels == c].mean()) if several else None,
        )
        for c in np.unique(labels)
    }


def _mean(values: Float[np.ndarray, " S"], seeds: list[int]) -> dict[str, Any]:
    count, mean = len(values), float(values.mean())
    if count < 2:
        return {"value": mean, "interval": None}
    left_out = (values.sum() - values) / (count - 1)
    return row(MEAN, mean, left_out, Facts(seeds, score_range=(0, 1), numbers={MEAN: values}))


def _share(part: Float[np.ndarray, "S C"], whole: Int[np.ndarray, "S C"]) -> Float[np.ndarray, "S C"]:
    return np.asarray(np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0))
