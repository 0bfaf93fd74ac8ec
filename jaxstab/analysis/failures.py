"""Which seeds failed, by fixed rules; and how many others may fail."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from jaxstab import measures
from jaxstab.words import listing, plural

DIVERGED = "logits are not finite"
MAJORITY = "at or below the majority class at the end"
MEAN_LABEL = "no better than predicting the mean at the end"
FLAT = "training loss stayed flat"
FLAT_SHARE = 0.99
FEW_FAILED = 5


def failures(
    final_logits: NDArray[np.floating],
    labels: NDArray[Any],
    metric: str,
    train_loss: NDArray[np.floating] | None = None,
    guess_loss: float | None = None,
) -> list[str | None]:
    """Returns for each seed the reason why it counts as failed.

    Args:
        final_logits: [S, N, C] logits of the last parameters on the test split; [S, N, 1] of a regression.
        labels: [N] class indices, or numbers.
        metric: the score.
        train_loss: [S, E] mean over each epoch, nats; if it is missing, the test for a flat loss is skipped.
        guess_loss: training loss of guessing, nats; by default the entropy of the classes in `labels`, or the
            variance of numbers.

    Returns:
        [S]: None for a seed that did not fail. A seed failed if its final score is at or below that of always
        predicting the most frequent class (Du & Nguyen 2023, section 5; for losses, its accuracy); if the loss of its
        last epoch is less than 1 % below that of guessing; or if its logits are not finite. A regression's seed failed
        if it explains no variance of the labels (R2 of at most 0), or predicts one number throughout.
    """
    classes = final_logits.shape[-1]
    known = measures.SCORES.get(metric)  # a user's function is known in the process only that added it
    metric = known.failure if known is not None else "r2" if classes == 1 else "accuracy"
    outputs = {"logits": final_logits, "numbers": final_logits[..., 0]}.get(measures.SCORES[metric].of)
    outputs = np.argmax(final_logits, axis=-1) if outputs is None else outputs
    scores = measures.scores(metric, outputs, labels, classes)
    guessed = scores <= measures.majority_score(metric, labels, classes)
    if classes == 1:
        guessed |= (outputs == outputs[:, :1]).all(axis=1)
    guess_loss = _guess_loss(labels, classes) if guess_loss is None else guess_loss
    finite = np.isfinite(final_logits).all(axis=(1, 2))
    last = np.zeros(len(scores)) if train_loss is None else np.asarray(train_loss)[:, -1]
    tests = (
        (~finite, DIVERGED),
        (guessed, MEAN_LABEL if classes == 1 else MAJORITY),
        (~(last < FLAT_SHARE * guess_loss), FLAT),
    )
    return [next((reason for failed, reason in tests if failed[seed]), None) for seed in range(len(scores))]


def _guess_loss(labels: NDArray[Any], classes: int) -> float:
    if classes == 1:
        return float(labels.var(dtype=np.float64))
    shares = np.bincount(labels, minlength=classes) / len(labels)
    return float(-np.sum(shares * np.log(np.where(shares > 0, shares, 1))))


def say_failures(reasons: Mapping[Any, str], seeds: int, most: int = 12) -> list[str]:
    """Returns a sentence for each reason why seeds failed, such as `Seeds 3 and 5 failed: logits are not finite.`

    Args:
        reasons: of each failed seed.
        seeds: how many there are.
        most: how many are named in a sentence.
    """
    alike: dict[str, list[Any]] = {}
    for seed, reason in reasons.items():
        alike.setdefault(reason, []).append(seed)
    said = []
    for reason, found in alike.items():
        named = f"{plural('Seed', len(found))} {listing(found, most=most)}"
        who = f"All {seeds} seeds" if 1 < len(found) == seeds else named
        said.append(f"{who} failed" + (f": {reason}." if reason != "failed" else "."))
    return said


def warn_failures(failed: int, seeds: int) -> str | None:
    """Returns what the number of failed seeds leaves open, as one sentence; None where it leaves little open.

    No interval over S seeds includes failures that did not occur. The range of the share of failing seeds is the exact
    95 % interval of Clopper & Pearson (1934); with no failure one-sided, 0 to 1 - .05^(1/S).
    """
    if failed == 0:
        most = measures.unseen(seeds)
        return f"no seed failed; up to {most:.0%} may (95 %), and no interval includes that" if most > 0.05 else None
    if failed >= min(FEW_FAILED, seeds):
        return None
    low, high = binomtest(failed, seeds).proportion_ci(method="exact")
    return (
        f"{failed} of {seeds} seeds failed, so {low:.0%} to {high:.0%} of seeds do (95 %); where so few decide, "
        "intervals over all seeds are too narrow"
    )
