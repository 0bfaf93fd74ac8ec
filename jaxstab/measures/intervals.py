"""What a value is worth: its 95 % interval, or the reason why there is none.

A standard deviation over seeds has an interval by chi-square; everything else the delete-one jackknife
(`jaxstab.measures.resampling`). Both say too much where seeds hardly differ: where the value rests on one seed or on a
handful of votes, they are arbitrarily narrow or wide. There a row has a reason instead. `benchmarks/coverage.py` counts
how often the intervals that remain are right.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxstab.measures.inputs import Inputs
from jaxstab.measures.performance import SCORES
from jaxstab.measures.registry import MEASURES
from jaxstab.measures.resampling import jackknife_interval, sd_interval
from jaxstab.measures.results import Interval, plain, plain_or_none
from jaxstab.measures.subsets import MEAN, STANDARD_DEVIATIONS, seed_numbers, values_and_left_out
from jaxstab.words import count

Floats = NDArray[np.float64]

NO_DIFFERENCE = "no difference seen"
ALIKE = "the same without any seed"
TOO_FEW = "too few seeds"

CORRELATIONS = {"matthews", "mcc", "pearson", "spearman"}  # words of scores from -1 to 1
BOUNDED = {"accuracy", "acc", "f1", "match", "precision", "recall", "auc", *CORRELATIONS}  # words of scores up to 1
REST = 0.1  # a value rests on a seed if less than this share of it is left without that seed
FEW_VOTES = 10
WIDEST = 30  # an interval whose ends differ by a larger factor says nothing
ROUNDING = 1e-6  # of values computed in float32
KAPPAS = ("fleiss_kappa", "cohen_kappa", "krippendorff_alpha")
COUNTS = ("stable_fraction", "ambiguity", "discrepancy", "ensemble_gain")  # they move by whole examples


@dataclass(frozen=True)
class Facts:
    """What intervals depend on besides the values.

    Attributes:
        seeds: [S] names of the seeds.
        examples: N.
        classes: C; 1 for numbers, which are no votes.
        score_range: the smallest and largest possible score.
        deviating: votes that are not for the class that most seeds give the example; None without predictions.
        minority: votes that are not for the most frequent class.
        numbers: for `mean` and each standard deviation the number [S] of each seed.
    """

    seeds: Sequence[int]
    examples: int = 0
    classes: int = 2
    score_range: tuple[float, float] = (0, 1)
    deviating: int | None = None
    minority: int | None = None
    numbers: Mapping[str, Floats] | None = None

    @classmethod
    def of(cls, inputs: Inputs, metric: str, names: Sequence[str], places: Sequence[int] | None = None) -> "Facts":
        """Collects what these measures need of the seeds at these positions (all by default)."""
        places = list(range(inputs.seeds) if places is None else places)
        seeds = [inputs.names[place] for place in places]
        numbers = {
            name: seed_numbers(name, inputs, metric)[places] for name in (MEAN, *STANDARD_DEVIATIONS) if name in names
        }
        ends = score_range(metric, inputs.scores)
        if inputs.predictions is None:
            return cls(seeds, score_range=ends, numbers=numbers)
        if inputs.classes == 1:
            return cls(seeds, inputs.examples, inputs.classes, ends, numbers=numbers)
        predictions = inputs.predictions[places]
        votes = np.stack([(predictions == c).sum(axis=0) for c in range(inputs.classes)])
        return cls(
            seeds,
            inputs.examples,
            inputs.classes,
            ends,
            int(votes.sum() - votes.max(axis=0).sum()),
            int(votes.sum() - votes.sum(axis=1).max()),
            numbers,
        )


def rows(
    names: Sequence[str],
    inputs: Inputs,
    distances: Mapping[str, np.ndarray],
    metric: str,
    places: Sequence[int] | None = None,
) -> dict[str, dict[str, Any]]:
    """Returns the row of each measure, see `row`; for representations that of the last layer.

    Arguments as for `values_and_left_out`.
    """
    facts = Facts.of(inputs, metric, names, places)
    found = values_and_left_out(names, inputs, distances, metric, places)
    return {name: row(name, values[-1], left_out[-1], facts) for name, (values, left_out) in found.items()}


def row(name: str, value: float, left_out: Floats, facts: Facts) -> dict[str, Any]:
    """Returns `value` and `interval`; without an interval also `reason`.

    Args:
        name: name of the measure, or `mean`.
        value: with all seeds.
        left_out: [S] leave-one-out values.
        facts: what intervals depend on besides.
    """
    if not np.isfinite(value):
        return {"value": None, "interval": None}
    low, high = limits(name, facts)
    value = float(np.clip(value, low, high))
    reason = why_none(name, value, left_out, facts)
    if reason is not None:
        return {"value": plain(value), "interval": None, "reason": reason}
    found = {"value": plain_or_none(value), **_intervals(name, value, left_out, facts, low, high)}
    return found if found["interval"] is not None else {**found, "reason": TOO_FEW}


def limits(name: str, facts: Facts) -> tuple[float, float]:
    """Returns the smallest and largest possible value of a measure, or of the mean score, for these seeds."""
    seeds, (least, most) = len(facts.seeds), facts.score_range
    # The largest standard deviation: half of the seeds at either end of the range.
    spread = 0.5 * np.sqrt(seeds / max(seeds - 1, 1))
    special = {
        MEAN: (least, most),
        "sd": (0, (most - least) * spread),
        "calibration_spread": (0, spread),
        "fleiss_kappa": (0, seeds / max(seeds - 1, 1)),
        "krippendorff_alpha": (0, seeds / max(seeds - 1, 1)),
        "generalised_jsd": (0, np.log(max(min(seeds, facts.classes), 1))),
        "ensemble_gain": (least - most, most - least),
    }
    return special[name] if name in special else (MEASURES[name].low, MEASURES[name].high)


def score_range(metric: str, given: Floats | None = None) -> tuple[float, float]:
    """Returns the smallest and largest possible score.

    Args:
        metric: the score.
        given: scores of unknown origin, such as a BLEU or an accuracy in per cent. They have any range, unless the
            words of their name are those of a known one, as in `eval/accuracy`, and all are in it.
    """
    words = set(re.split(r"[^a-z0-9]+", metric.lower()))
    if given is None:
        return SCORES[metric].low, SCORES[metric].high
    low, high = (-1.0, 1.0) if words & CORRELATIONS else (0.0, 1.0)
    if words & BOUNDED and low <= given.min() and given.max() <= high:
        return low, high
    return -np.inf, np.inf


def why_none(name: str, value: float, left_out: Floats, facts: Facts) -> str | None:
    """Returns why a value has no interval, or None; arguments as for `row`."""
    seeds = len(facts.seeds)
    if name == MEAN:
        return NO_DIFFERENCE if np.ptp(_numbers(name, facts)) == 0 else None
    if seeds < 3:
        return TOO_FEW
    amount, without = (1 - value, 1 - left_out) if name == "stable_fraction" else (value, left_out)
    rounding = ROUNDING if MEASURES[name].granularity == "representation" else 1e-12
    counts_votes = "predictions" in MEASURES[name].needs or name == "ensemble_gain"
    if (counts_votes and facts.deviating == 0) or (name != "ensemble_gain" and amount <= rounding):
        return NO_DIFFERENCE
    if name != "ensemble_gain" and without.min() <= REST * amount:
        return f"rests on seed {facts.seeds[int(without.argmin())]}"
    if counts_votes and facts.deviating is not None and facts.deviating < FEW_VOTES:
        return f"rests on {count('vote', facts.deviating)}"
    if name in KAPPAS and facts.minority is not None and facts.minority < FEW_VOTES:
        return f"{count('vote', facts.minority)} outside one class"
    # What each seed changes, whatever the number of seeds.
    changes = (seeds - 1) * np.abs(without - without.mean())
    if name not in (*STANDARD_DEVIATIONS, *COUNTS) and changes.max() <= 1e-3 * amount:
        return ALIKE
    return None


def explain(reasons: Sequence[str], seeds: int) -> list[str]:
    """Returns a sentence for each kind of reason that occurs, with what can be said instead."""
    others = f"at most {unseen(seeds):.0%} of seeds behave differently"
    kinds = {
        NO_DIFFERENCE: f"{NO_DIFFERENCE} in {count('seed', seeds)}: {others}",
        "rests on seed": "rests on one seed: without it less than a tenth of the value is left; train more seeds",
        "vote": f"rests on a handful of votes: fewer than {FEW_VOTES} votes differ; more seeds or examples are needed",
        ALIKE: f"{ALIKE}: the seeds do not show how much the value varies",
        TOO_FEW: f"{TOO_FEW}: the interval would span a factor of {WIDEST} or more",
    }
    return [sentence for kind, sentence in kinds.items() if any(kind in reason for reason in reasons)]


def unseen(seeds: int) -> float:
    """Returns the largest share of seeds, at 95 %, that may do what none of S seeds did: 1 - .05^(1/S)."""
    return float(1 - 0.05 ** (1 / seeds))


def _intervals(name: str, value: float, left_out: Floats, facts: Facts, low: float, high: float) -> dict[str, Any]:
    if name in STANDARD_DEVIATIONS:
        return {"interval": _if_narrow(np.clip(sd_interval(_numbers(name, facts)), low, high))}
    if name == MEAN:
        return {"interval": Interval.of(np.clip(jackknife_interval(value, left_out), low, high))}
    if name == "stable_fraction":
        ends = 1 - jackknife_interval(1 - value, 1 - left_out, 0, 1)[::-1]
    else:
        ends = jackknife_interval(value, left_out, low, high)
    if name in COUNTS:
        # An example more or less is never ruled out, even where no seed decides any example by itself.
        return {"interval": Interval.of(np.clip(ends + np.array([-1, 1]) / facts.examples, low, high))}
    return {"interval": _if_narrow(ends)}


def _if_narrow(ends: Floats) -> Interval | None:
    return Interval.of(ends) if ends[1] <= WIDEST * ends[0] else None


def _numbers(name: str, facts: Facts) -> Floats:
    return (facts.numbers or {})[name]
