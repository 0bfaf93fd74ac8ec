"""What one run says about seeds: which source of randomness matters, the noise floor, how many are needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jaxstab.analysis.how_many import Needed, best_of, seeds_needed
from jaxstab.analysis.joint_power import FEWEST_EXAMPLES, JointPower, joint_power
from jaxstab.analysis.sample import Sample, Source, as_sample
from jaxstab.analysis.variance import UNKNOWN, Shares, noise_floor, of_pairs, variance_shares
from jaxstab.errors import InputError
from jaxstab.measures import MEAN, Tabular, as_plain
from jaxstab.words import listing

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class SeedStudy(Tabular):
    """The results for one run.

    Attributes:
        name: name of the run.
        metric: the score.
        needed: the number of seeds that each of four questions needs.
        joint: seeds and test examples needed to see the difference for other test examples too; None if all seeds
            failed or have the same score.
        best: [S] expected score of the best of n = 1 ... S seeds, chosen by that score.
        best_by_validation: [S] the same, chosen by the validation score, so without selection bias; None without one.
        shares: variance shares of the score and of measures of pairs; None unless seeds are crossed.
        floor: the noise floor, from repeats of a seed; None unless seeds are repeated.
        sentences: the results as sentences.
        notes: what could not be computed, and why.
    """

    name: str
    metric: str
    needed: list[Needed]
    joint: JointPower | None
    best: Floats
    best_by_validation: Floats | None
    shares: list[Shares] | None
    floor: dict[str, dict[str, Any]] | None
    sentences: list[str]
    notes: list[str]

    def __repr__(self) -> str:
        """The number of seeds that each question needs, and the sentences."""
        needed = [f"{one.formula or 'more than 10,000'} seeds {one.question}" for one in self.needed]
        return "\n".join([*needed, *self.sentences])

    def to_frame(self) -> "pd.DataFrame":
        """Returns a tidy data frame: a row for each number.

        Columns: `part` (`needed`, `examples needed` with so many seeds,
        `best of n`, `best of n by validation`, `share of NAME`, `share without effect`,
        `floor`), `item` (the question, n, the source of randomness, the measure), `value`, and `low` and `high` of its
        95 % interval, NaN where there is none. The value of `needed` is a number of seeds by formula, NaN if more than
        10,000; `share without effect` is an average, with the end of 95 % of such shares.
        """
        import pandas as pd

        rows: list[tuple[str, Any, Any, Any, Any]] = []
        rows += [("needed", one.question, one.formula, *(one.range or (None, None))) for one in self.needed]
        for count in [] if self.joint is None else self.joint.rows:
            rows.append(("examples needed", count.seeds or np.inf, None, count.low, count.high))
        for part, best in (("best of n", self.best), ("best of n by validation", self.best_by_validation)):
            rows += [(part, n, value, None, None) for n, value in enumerate([] if best is None else best, start=1)]
        for one in self.shares or []:
            for source, share in one.shares.items():
                rows.append((f"share of {one.quantity}", source, share, *(one.intervals[source] or (None, None))))
        for source, limits in (self.shares[0].no_effect if self.shares else {}).items():
            rows += [("share without effect", source, limits[0], None, limits[1])] if limits else []
        rows += [("floor", name, row["floor"], None, None) for name, row in (self.floor or {}).items()]
        frame = pd.DataFrame(rows, columns=["part", "item", "value", "low", "high"])
        return frame.astype(dict.fromkeys(["value", "low", "high"], "float64"))

    def as_json(self) -> dict[str, Any]:
        """Returns plain values."""
        by_validation = self.best_by_validation
        return vars(self) | {
            "needed": [vars(one) for one in self.needed],
            "joint": None if self.joint is None else self.joint.as_json(),
            "best": self.best.tolist(),
            "best_by_validation": None if by_validation is None else by_validation.tolist(),
            "shares": None if self.shares is None else [as_plain(vars(one)) for one in self.shares],
        }


def study_seeds(
    sample: Source,
    *,
    delta: float = 0.01,
    factor: float = 1.25,
    methods: int = 5,
    power: float = 0.8,
    metric: str | None = None,
    labels: str | Path | None = None,
    task: str | None = None,
) -> SeedStudy:
    """Estimates how many seeds are needed and which source of randomness matters, with a sample as the pilot.

    Args:
        sample: seeds with labels: a `Sample`, a `Run`, or a path as for `jaxstab.measure`.
        delta: the smallest difference in mean score that matters.
        factor: how precisely the standard deviation is to be known, as a factor.
        methods: the number of methods to rank.
        power: the probability of success.
        metric: the score for a source read from a path; default: the run's own metric, otherwise accuracy.
        labels: file with the true labels, for a source that does not hold them.
        task: the task, for a source that holds several.

    Returns:
        Numbers of seeds, expected scores of the best of n seeds, variance shares, and the results as sentences.

    Raises:
        InputError: the sample has no scores, or a number is out of range.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(2, size=100)
        >>> votes = np.where(rng.random((8, 100)) < 0.8, labels, 1 - labels)
        >>> found = study_seeds(Sample.from_arrays("mine", predictions=votes, labels=labels), delta=0.05)
        >>> [one.formula for one in found.needed]
        [19, 28, 49, 7]
    """
    _check(delta, factor, methods, power)
    sample = as_sample(sample, metric=metric, labels=labels, task=task)
    if sample.scores is None:
        raise InputError(f"{sample.source}: no labels, so no scores; give them with --labels FILE")
    notes: list[str] = []
    names = of_pairs(sample.usual)
    holes = [name for name in names if not np.isfinite(sample.distances.get(name, np.zeros(1))[-1]).all()]
    if holes:
        notes.append(f"no shares and no floor, because not all pairs of seeds were measured: {listing(holes)}")
        names = [name for name in names if name not in holes]
    needed: list[Needed] = []
    shares = floor = None
    distinct = _once(sample)
    scores = distinct.scores
    assert scores is not None
    if distinct.failed.all():
        notes.append(
            f"all {distinct.seeds} seeds failed, so they say nothing about seeds that train; mend the training"
        )
    try:
        needed = (
            []
            if distinct.failed.all()
            else seeds_needed(scores, delta=delta, factor=factor, methods=methods, power=power)
        )
    except ValueError as error:
        notes.append(str(error))
    try:
        shares = variance_shares(sample, names)
    except ValueError as error:
        notes.append(str(error) if sample.run is not None else UNKNOWN)
    try:
        floor = noise_floor(sample, names)
    except ValueError as error:
        notes += [str(error)] if sample.run is not None else []  # the remedy is to train again
    validation = _validation_scores(distinct)
    best = best_of(scores)
    by_validation = None if validation is None else best_of(scores, validation)
    sentences = [_say_best(distinct, best, by_validation), *_say_shares(shares, sample), *_say_floor(floor)]
    joint = _joint(distinct, delta, power) if needed else None
    return SeedStudy(sample.name, sample.metric, needed, joint, best, by_validation, shares, floor, sentences, notes)


def _check(delta: float, factor: float, methods: int, power: float) -> None:
    limits = {
        "delta": (delta > 0, delta, "larger than 0"),
        "factor": (factor > 1, factor, "larger than 1"),
        "methods": (methods >= 2, methods, "at least 2"),
        "power": (0 < power < 1, power, "between 0 and 1"),
    }
    for name, (good, value, wanted) in limits.items():
        if not good:
            raise InputError(f"{name} = {value:g}: give a number {wanted}")


def _joint(sample: Sample, delta: float, power: float) -> JointPower | None:
    inputs = sample.inputs
    outputs = inputs.outputs_for(sample.metric)
    if outputs is None or inputs.labels is None or inputs.examples < FEWEST_EXAMPLES or delta >= 1:
        return None
    try:
        return joint_power(sample.metric, outputs, inputs.labels, inputs.classes, delta=delta, power=power)
    except ValueError:  # too few examples of a class for this score
        return None


def _once(sample: Sample) -> Sample:
    """The sample without repeats of a seed, because repeats are not new seeds."""
    if sample.identities is None:
        return sample
    seen = [one.once for one in sample.identities]
    return sample.take([place for place, one in enumerate(seen) if one not in seen[:place]])


def _validation_scores(sample: Sample) -> Floats | None:
    """[S] the best validation score of each seed."""
    if sample.run is None:
        return None
    best = sample.run.history.groupby("seed")["validation_score"].max()
    return best.loc[list(sample.inputs.names)].to_numpy(np.float64)


def _say_best(sample: Sample, best: Floats, by_validation: Floats | None) -> str:
    seeds = sample.seeds
    found = (
        f"One seed scores {best[0]:.4f} {sample.metric} on average; the best of {seeds} by that score {best[-1]:.4f}"
    )
    return f"{found}, but the best by validation {by_validation[-1]:.4f}." if by_validation is not None else f"{found}."


def _say_shares(shares: Sequence[Shares] | None, sample: Sample) -> list[str]:
    found = []
    for one in shares or []:
        what = f"the variance of {sample.metric}" if one.quantity == MEAN else one.quantity
        untold = one.untold()
        parts = ", ".join(
            f"{name} {share:.0%}{' (cannot be told from none)' if name in untold else ''}"
            for name, share in one.shares.items()
        )
        found.append(f"Of {what}: {parts}.")
    limits = {name: both for name, both in shares[0].no_effect.items() if both} if shares else {}
    if limits:
        parts = ", ".join(f"{name} {mean:.0%} on average and up to {end:.0%}" for name, (mean, end) in limits.items())
        found.append(f"Sources without any effect would get, in this design: {parts}.")
    return found


def _say_floor(floor: dict[str, dict[str, Any]] | None) -> list[str]:
    if not floor:
        return []
    if all(row["floor"] == 0 for row in floor.values()):
        return ["Repeating a seed changes nothing, bit for bit: all that is measured comes from the seeds."]
    parts = ", ".join(
        f"{'the score' if name == MEAN else name} {row['floor']:.2g} (other seeds {row['value']:.2g})"
        for name, row in floor.items()
        if row["floor"] is not None and row["value"] is not None
    )
    return [f"Numerical noise alone, between repeats of a seed: {parts}."]
