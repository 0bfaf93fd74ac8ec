"""Scores of predictions against labels, their spread over seeds, and calibration."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import softmax

from jaxstab.measures.arrays import AnyArray, namespace
from jaxstab.measures.number_scores import number_score, number_scores_without_each
from jaxstab.measures.own_scores import Function, own_score, own_scores_without_each
from jaxstab.measures.probability_scores import OF_EXAMPLES, areas_without_each, probability_score, score_of_examples

CALIBRATION_BINS = 15


class Score(NamedTuple):
    """What is known of a task score; more is better.

    Attributes:
        of: the outputs of a seed that it judges; `numbers` are predictions of a regression.
        low: its smallest possible value.
        high: its largest.
        failure: the score that says whether a seed does better than a guess. It is the accuracy for scores that are
            lower than a guess's if a seed is too sure of itself.
        function: a user's, from labels and outputs to the score; None for those that are defined here.
    """

    of: Literal["predictions", "logits", "numbers"]
    low: float
    high: float
    failure: str
    function: Function | None = None


SCORES = {
    "accuracy": Score("predictions", 0, 1, "accuracy"),
    "balanced_accuracy": Score("predictions", 0, 1, "balanced_accuracy"),
    "f1": Score("predictions", 0, 1, "f1"),
    "macro_f1": Score("predictions", 0, 1, "macro_f1"),
    "weighted_f1": Score("predictions", 0, 1, "weighted_f1"),
    "matthews": Score("predictions", -1, 1, "matthews"),
    "auroc": Score("logits", 0, 1, "auroc"),
    "average_precision": Score("logits", 0, 1, "average_precision"),
    "neg_log_loss": Score("logits", -np.inf, 0, "accuracy"),
    "neg_brier": Score("logits", -1, 0, "accuracy"),
    "pearson": Score("numbers", -1, 1, "r2"),
    "spearman": Score("numbers", -1, 1, "r2"),
    "neg_rmse": Score("numbers", -np.inf, 0, "r2"),
    "r2": Score("numbers", -np.inf, 1, "r2"),
}
METRICS = tuple(SCORES)


def add_score(
    function: Function,
    *,
    low: float = 0.0,
    high: float = 1.0,
    of: Literal["logits", "numbers"] = "logits",
    name: str | None = None,
) -> str:
    """Makes a Python function a score, in this process, wherever the name of a score is asked for.

    Args:
        function: from labels [N] and the outputs of one seed, both in numpy, to a number of which more is better. It is
            called often: without each example in turn, for intervals that include other test examples.
        low: the smallest number that it returns.
        high: the largest.
        of: what outputs are: logits [N, C], or predicted numbers [N] of a regression.
        name: of the score; by default the function's.

    Returns:
        The name.

    Raises:
        ValueError: it has no name of its own, or the name is that of another score, or the range is none.

    Examples:
        >>> def right_and_sure(labels, logits):
        ...     best = logits.argmax(1)
        ...     return ((best == labels) & (logits.max(1) > 0)).mean()
        >>> add_score(right_and_sure)
        'right_and_sure'
    """
    name = name or function.__name__
    if not name.isidentifier():
        raise ValueError(f"the score {name} has no name; give one: add_score(function, name=...)")
    if not -np.inf < low < high < np.inf:
        raise ValueError(f"the score {name}: from {low:g} to {high:g} is no range")
    if name in SCORES and SCORES[name].function is not function:
        raise ValueError(f"there is another score {name}; give this one another name: add_score(function, name=...)")
    SCORES.setdefault(name, Score(of, low, high, "r2" if of == "numbers" else "accuracy", function))
    return name


def score(
    metric: str, predictions: Int[AnyArray, "*S N"], labels: Int[AnyArray, " N"], classes: int
) -> Float[AnyArray, "*S"]:
    """Computes a task score.

    Args:
        metric: see `score_of_confusion`.
        predictions: [..., N] class indices, in numpy or JAX like `labels`.
        labels: [N] class indices.
        classes: C.

    Returns:
        [...]; 1 is perfect. float64 of numpy arrays, float32 of JAX arrays, also in compiled functions.

    Raises:
        ValueError: unknown metric.
    """
    xp = namespace(predictions)
    float_type = xp.float32 if xp is jnp else xp.float64
    right = predictions == labels
    if metric == "accuracy":
        rights, wrongs = (xp.sum(one, axis=-1, dtype=float_type) for one in (right, ~right))
        # Not divided by a constant: XLA would multiply by its rounded inverse and give .79999995 for 40 of 50.
        return rights / (rights + wrongs)
    predicted, actual = (one[..., None] == xp.arange(classes) for one in (predictions, labels))
    counts = (right[..., None] & actual, predicted, actual)
    return score_of_confusion(metric, *(xp.sum(one, axis=-2, dtype=float_type) for one in counts))


def of_numbers(metric: str) -> bool:
    """Whether this is a score of predicted numbers, that is, of a regression."""
    return metric in SCORES and SCORES[metric].of == "numbers"


def score_of_logits(metric: str, logits: Float[AnyArray, "N C"], labels: Shaped[AnyArray, " N"]) -> Float[AnyArray, ""]:
    """Computes any task score of one seed; see `score_of_confusion`, `probability_score` and `number_score`.

    Args:
        metric: one of `SCORES`.
        logits: [N, C], in numpy or JAX like `labels`; of a regression the predicted numbers [N, 1].
        labels: [N] class indices, or numbers.

    Raises:
        ValueError: unknown metric.
    """
    return _of_one(metric, logits[:, 0] if of_numbers(metric) else logits, labels, logits.shape[-1])


def _of_one(
    metric: str, outputs: Shaped[AnyArray, " N *C"], labels: Shaped[AnyArray, " N"], classes: int
) -> Float[AnyArray, ""]:
    """The score of one seed from logits [N, C], predictions [N] or predicted numbers [N]."""
    known = SCORES.get(metric)
    if known is not None and known.function is not None:
        return own_score(known.function, known.low, known.high, outputs, labels)
    if of_numbers(metric):
        return number_score(metric, outputs, labels)
    if known is not None and known.of == "logits":
        return probability_score(metric, outputs, labels)
    return score(metric, outputs.argmax(-1) if outputs.ndim == 2 else outputs, labels, classes)


def scores(
    metric: str, outputs: Shaped[AnyArray, "S N *C"], labels: Shaped[AnyArray, " N"], classes: int
) -> Float[np.ndarray, " S"]:
    """Computes the score of every seed in float64.

    Args:
        metric: one of `SCORES`.
        outputs: predictions [S, N] or logits [S, N, C], whichever the score is of.
        labels: [N] class indices, or numbers.
        classes: C; 1 for numbers.

    Raises:
        ValueError: unknown metric.
    """
    labels = np.asarray(labels)
    return np.array([_of_one(metric, np.asarray(one), labels, classes) for one in outputs], np.float64)


def contributions_of_examples(
    metric: str, outputs: Shaped[np.ndarray, "S N *C"], labels: Shaped[np.ndarray, " N"], classes: int
) -> Float[np.ndarray, "S N"]:
    """Returns the contribution of every example to the score of every seed: [S, N], whose mean over examples is it.

    Args:
        metric: one of `SCORES`.
        outputs: predictions [S, N] or logits [S, N, C], whichever the score is of.
        labels: [N] class indices, or numbers.
        classes: C; 1 for numbers.

    Returns:
        For the accuracy 1 where the seed is right and 0 where it is wrong, and for losses the loss of the example. For
        the others jackknife pseudo-values over examples: score + (N - 1) (mean of delete-one scores - delete-one score)

    Raises:
        ValueError: fewer than two examples for a score that is no mean over examples, or an unknown metric.
    """
    if metric == "accuracy":
        return np.asarray(outputs == labels, np.float64)
    if metric in OF_EXAMPLES:
        return np.array([score_of_examples(metric, one, labels) for one in outputs])
    examples = len(labels)
    if examples < 2:
        raise ValueError(f"{examples} test examples; the contribution of an example to {metric} needs at least 2")
    known = SCORES.get(metric)
    if known is not None and known.function is not None:
        own = known.function, known.low, known.high
        left_out = np.array([own_scores_without_each(*own, one, labels) for one in outputs])
    elif of_numbers(metric):
        left_out = np.array([number_scores_without_each(metric, one, labels) for one in outputs])
    elif outputs.ndim == 3:
        left_out = np.array([areas_without_each(metric, one, labels) for one in outputs])
    else:
        left_out = np.array([_without_each(metric, one, labels, classes) for one in outputs])
    found = scores(metric, outputs, labels, classes)[:, None]
    return np.asarray(found + (examples - 1) * (left_out.mean(-1, keepdims=True) - left_out))


def _without_each(
    metric: str, predictions: Int[np.ndarray, " N"], labels: Int[np.ndarray, " N"], classes: int
) -> Float[np.ndarray, " N"]:
    """A seed's score without each example in turn."""
    every = np.eye(classes)
    # Examples with the same label and prediction are alike, so a score is needed only once for each cell.
    cells, place = np.unique(labels.astype(np.int64) * classes + predictions, return_inverse=True)
    label, guess = np.divmod(cells, classes)
    right, guesses, truths = (
        np.bincount(one, minlength=classes).astype(np.float64)
        for one in (labels[predictions == labels], predictions, labels)
    )
    hits = right - every[label] * (label == guess)[:, None]
    return np.asarray(score_of_confusion(metric, hits, guesses - every[guess], truths - every[label]))[place]


def score_of_confusion(
    metric: str, hits: Float[AnyArray, "... C"], guesses: Float[AnyArray, "... C"], truths: Float[AnyArray, "... C"]
) -> Float[AnyArray, "..."]:
    """Computes a task score from counts in numpy or JAX, which need not be integers.

    Args:
        metric: `accuracy`; `f1`, of class 1; `matthews`, the correlation coefficient in its form for any number of
            classes (Gorodkin 2004), 0 where a margin is constant; `macro_f1`, the unweighted mean of F1 over classes
            that occur in labels or predictions; `weighted_f1`, weighted by labels; `balanced_accuracy`, the unweighted
            mean of recall over classes that occur in labels. An F1 without true positives is 0.
        hits: for each class, the number of examples that have it as label and as prediction.
        guesses: for each class, the number of predictions.
        truths: for each class, the number of labels.

    Raises:
        ValueError: unknown metric.
    """
    xp = namespace(hits)
    count = truths.sum(-1)
    if metric == "accuracy":
        return hits.sum(-1) / count
    if metric == "matthews":
        # Divide before multiplying: products of counts would exceed the integers that float32 represents exactly.
        predicted, actual = guesses / count[..., None], truths / count[..., None]
        covariance = hits.sum(-1) / count - (predicted * actual).sum(-1)
        spread = (1 - (predicted**2).sum(-1)) * (1 - (actual**2).sum(-1))
        return xp.where(spread > 0, covariance / xp.sqrt(xp.where(spread > 0, spread, 1)), 0)
    if metric == "balanced_accuracy":
        recall = xp.where(truths > 0, hits / xp.where(truths > 0, truths, 1), 0)
        return recall.sum(-1) / xp.sum(truths > 0, axis=-1, dtype=hits.dtype)
    involved = guesses + truths
    f1 = xp.where(involved > 0, 2 * hits / xp.where(involved > 0, involved, 1), 0)
    if metric == "f1":
        return f1[..., 1]
    if metric == "macro_f1":
        return f1.sum(-1) / xp.sum(involved > 0, axis=-1, dtype=hits.dtype)
    if metric == "weighted_f1":
        return (f1 * truths).sum(-1) / count
    raise ValueError(unknown(metric))


def unknown(metric: str) -> str:
    """What is wrong with a metric that is none of `SCORES`."""
    *others, last = SCORES
    own = "or in Python your own (jaxstab.measures.add_score)"
    return f"unknown metric {metric!r}; use {', '.join(others)} or {last}, {own}"


def majority_score(metric: str, labels: Shaped[np.ndarray, " N"], classes: int) -> float:
    """Returns the score of a seed that knows nothing of the examples: a run at or below it has failed.

    It always predicts the most frequent class, with the classes' shares in `labels` as its probabilities; of numbers
    their mean.
    """
    if of_numbers(metric):
        guess = np.full((len(labels), 1), np.mean(labels, dtype=np.float64))
        return float(score_of_logits(metric, guess, labels))
    shares = np.bincount(labels, minlength=classes) / len(labels)
    guess = np.log(np.maximum(shares, np.finfo(np.float64).tiny))
    return float(score_of_logits(metric, np.tile(guess, (len(labels), 1)), labels))


def sd(values: Float[AnyArray, " S"], mask: Shaped[AnyArray, "*R S"] | None = None) -> Float[np.ndarray, "*R"]:
    """Returns the standard deviation of a number of each seed, with denominator S - 1; NaN for one seed. float64.

    Args:
        values: [S], such as scores.
        mask: [..., S] which seeds count; all by default.
    """
    values = np.asarray(values, np.float64)
    weights = np.ones(values.shape) if mask is None else np.asarray(mask, np.float64)
    count = weights.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviations = weights * (values - ((weights * values).sum(-1) / count)[..., None])
        return np.where(count > 1, np.sqrt((deviations**2).sum(-1) / (count - 1)), np.nan)


def calibration_error(logits: Float[AnyArray, "S N C"], labels: Int[AnyArray, " N"]) -> Float[np.ndarray, " S"]:
    """Returns each seed's expected calibration error: mean |accuracy - confidence| over bins of confidence.

    Args:
        logits: [S, N, C].
        labels: [N] class indices.

    Returns:
        [S] float64 in [0, 1], with 15 bins of equal width, weighted by their examples.
        Source: Guo et al. (2017), eq. 3.
    """
    labels = np.asarray(labels)

    def one_seed(logits: Float[np.ndarray, "N C"]) -> float:
        confidence = softmax(logits.astype(np.float64), axis=-1).max(axis=-1)
        gap = (logits.argmax(axis=-1) == labels) - confidence
        # Bins are closed on the right, as in the source.
        bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
        return float(np.abs(np.bincount(bins, gap, CALIBRATION_BINS)).sum() / len(labels))

    return np.array([one_seed(np.asarray(one)) for one in logits])


def calibration_spread(
    logits: Float[AnyArray, "S N C"], labels: Int[AnyArray, " N"], mask: Shaped[AnyArray, "*R S"] | None = None
) -> Float[np.ndarray, "*R"]:
    """Returns the standard deviation over seeds (`sd`) of the expected calibration error (`calibration_error`).

    Args:
        logits: [S, N, C].
        labels: [N] class indices.
        mask: [..., S] which seeds count; all by default.
    """
    return sd(calibration_error(logits, labels), mask)
