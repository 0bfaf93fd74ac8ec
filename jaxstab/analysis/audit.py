"""Runs of many seeds as the truth, by which all that is said of few seeds is checked: `jaxstab audit`."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxstab import measures
from jaxstab.analysis.matching import by_task, common_measures, match_seeds
from jaxstab.analysis.sample import Sample, Sources, as_samples
from jaxstab.analysis.trials import (
    BEST,
    OF_MEAN,
    OF_MEASURES,
    T_TEST,
    Coverage,
    Ranking,
    Share,
    Verdicts,
    find_coverage,
    find_rankings,
    find_verdicts,
)
from jaxstab.errors import InputError
from jaxstab.measures import MEAN, Tabular
from jaxstab.measures.subspaces import SUBSPACES
from jaxstab.words import count, listing

if TYPE_CHECKING:
    import pandas as pd

SIZES = (5, 10, 20)
DRAWS = 400
LEAST_SETS = 4  # sets that do not overlap


@dataclass(frozen=True, repr=False)
class Audit(Tabular):
    """What is true of what is said of few seeds.

    Attributes:
        seeds: by task and method, the number of seeds.
        coverage: of the intervals, for each run, measure and number of seeds.
        verdicts: how often two sets are called different: of one method, where that is wrong, and of two.
        rankings: how often sets of each method rank the methods right, by task and measure.
        sentences: the results in short.
        notes: what was left out and why, one line each.
    """

    seeds: dict[str, dict[str, int]]
    coverage: list[Coverage]
    verdicts: list[Verdicts]
    rankings: list[Ranking]
    sentences: list[str]
    notes: list[str]

    def __repr__(self) -> str:
        """The results in short."""
        return "\n".join(self.sentences)

    def to_frame(self) -> "pd.DataFrame":
        """Returns a tidy data frame: a row for each share.

        Columns: `part` (`coverage`, `verdicts`, `best method`), `of` (the run, the two methods, or the task), `item`
        (the measure or the test), `size` (seeds of each set), `share`, and `low` and `high` of its 95 % interval.
        """
        import pandas as pd

        rows: list[tuple[str, str, str, int, Share | None]] = [
            ("coverage", one.run, one.measure, one.size, one.share) for one in self.coverage
        ]
        rows += [("verdicts", f"{one.first}, {one.second}", one.test, one.size, one.share) for one in self.verdicts]
        rows += [("best method", one.task, one.measure, one.size, one.best) for one in self.rankings]
        flat = [(*row, share and share.value, *(share.interval if share else (None, None))) for *row, share in rows]
        frame = pd.DataFrame(flat, columns=["part", "of", "item", "size", "share", "low", "high"])
        return frame.astype(dict.fromkeys(["share", "low", "high"], "float64"))

    def as_json(self) -> dict[str, Any]:
        """Returns plain values."""
        found: dict[str, Any] = {"seeds": self.seeds, "sentences": self.sentences, "notes": self.notes}
        for name in ("coverage", "verdicts", "rankings"):
            rows = [vars(one) for one in getattr(self, name)]
            found[name] = [
                {key: value.as_json() if isinstance(value, Share) else value for key, value in row.items()}
                for row in rows
            ]
        return found


def audit(
    runs: Sources,
    *,
    sizes: Sequence[int] = SIZES,
    draws: int = DRAWS,
    only: Iterable[str] | None = None,
    metric: str | None = None,
    labels: str | Path | None = None,
    task: str | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Audit:
    """Draws many small sets of seeds from large runs, and counts how often what is said of them is true of all seeds.

    Args:
        runs: one or several sources of many seeds each, as for `jaxstab.compare`. Runs on the same examples are methods
            on one task.
        sizes: seeds of a set. A size is left out for a run that has not four times as many.
        draws: how many sets.
        only: names of measures; by default the paper's seven, or their counterparts for numbers.
        metric: the score for sources read from a path; default: the run's own metric, otherwise accuracy.
        labels: file with the true labels, for sources that do not hold them.
        task: the task, for sources that hold several.
        progress: called with the share of the work that is done, from time to time.

    Returns:
        Coverage and width of the intervals, rates of wrong and of right verdicts, and how well sets rank the methods.

    Raises:
        InputError: a source cannot be read, has no scores, or has too few seeds.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(2, size=100)
        >>> votes = np.where(rng.random((60, 100)) < 0.8, labels, 1 - labels)
        >>> many = Sample.from_arrays("mine", predictions=votes, labels=labels)
        >>> found = audit(many, sizes=[5], draws=100, only=["pairwise_disagreement"])
        >>> [(one.measure, one.share.value) for one in found.coverage]
        [('mean', 0.94), ('pairwise_disagreement', 0.96)]
    """
    if draws < 10 or min(sizes, default=0) < 3:
        raise InputError("give at least 10 draws, and sizes of 3 seeds or more")
    only = None if only is None else list(only)
    samples = as_samples(runs, metric=metric, labels=labels, task=task, only=only)
    for one in samples:
        if one.scores is None:
            raise InputError(f"{one.source}: no labels, so no scores; give them with --labels FILE")
        if one.seeds < LEAST_SETS * min(sizes):
            raise InputError(
                f"{one.source}: {count('seed', one.seeds)}; sets of {min(sizes)} need at least "
                f"{LEAST_SETS * min(sizes)} seeds, so that they say something; train more, or give --sizes"
            )
    notes: list[str] = []
    tasks = {}
    for name, group in by_task(samples).items():
        names = common_measures(list(group.values()), only, notes)
        matched = match_seeds(name, group, notes)[0] if len(group) > 1 else group
        tasks[name] = {method: _complete(one, names, notes) for method, one in matched.items()}
    found = _try_out(tasks, only, sizes, draws, notes, progress)
    seeds = {name: {method: one.seeds for method, one in group.items()} for name, group in tasks.items()}
    return Audit(seeds, *found, _say(*found), list(dict.fromkeys(notes)))


def _complete(sample: Sample, names: Sequence[str], notes: list[str]) -> Sample:
    """The sample with distances of the last layer only, and of all pairs; without measures that have not all pairs."""
    last = {name: one[-1:] for name, one in sample.distances.items() if name in names}
    lacking = [name for name, one in last.items() if not np.isfinite(one).all()]
    representations = sample.inputs.representations
    if lacking and representations is not None:
        examples = measures.represented_examples(sample.inputs.examples)
        arrays = np.stack([np.asarray(one[-1][examples], np.float32) for one in representations])
        last |= {name: one[None] for name, one in measures.distances(arrays, lacking, None).items()}
    elif lacking:
        notes.append(
            f"{sample.source}: left out, because not all pairs of seeds were measured: {listing(lacking)}; "
            "train with --output.keep_representations true"
        )
        last = {name: one for name, one in last.items() if name not in lacking}
    return replace(sample, inputs=replace(sample.inputs, representations=None), distances=last)


def _try_out(
    tasks: Mapping[str, Mapping[str, Sample]],
    only: Sequence[str] | None,
    sizes: Sequence[int],
    draws: int,
    notes: list[str],
    progress: Callable[[float], None],
) -> tuple[list[Coverage], list[Verdicts], list[Ranking]]:
    coverage: list[Coverage] = []
    verdicts: list[Verdicts] = []
    rankings: list[Ranking] = []
    rng = np.random.default_rng(0)
    trials = list(itertools.product(tasks.items(), sizes))
    for place, ((task, group), size) in enumerate(trials):
        methods = list(group.values())
        names = common_measures(methods, only, [])
        large = [one for one in methods if one.seeds >= LEAST_SETS * size]
        if len(large) < len(methods):
            few = listing([one.name for one in methods if one not in large])
            notes.append(f"{task}: no sets of {size} from {few}: fewer than {LEAST_SETS * size} seeds")
        # Singular values of other pairs would have to be computed for each set, where there are representations.
        tested = [name for name in names if name not in SUBSPACES]
        for one in large:
            coverage += find_coverage(one, names, size, draws, rng)
            verdicts += find_verdicts(one, None, tested, size, draws, rng)
        for one, other in itertools.combinations(large, 2):
            verdicts += find_verdicts(one, other, tested, size, draws, rng)
        if len(large) > 1:
            rankings += find_rankings(task, {one.name: one for one in large}, names, size, draws, rng)
        progress((place + 1) / len(trials))
    return coverage, verdicts, rankings


def _say(coverage: Sequence[Coverage], verdicts: Sequence[Verdicts], rankings: Sequence[Ranking]) -> list[str]:
    sentences = []
    for size in dict.fromkeys(one.size for one in coverage):
        of_size: dict[str, list[Share]] = {}
        for one in coverage:
            if one.size == size and one.share is not None:
                of_size.setdefault(one.measure, []).append(one.share)
        shares = {name: Share.pooled(each).value for name, each in of_size.items()}
        if shares:
            worst = min(shares, key=lambda name: shares[name])
            sentences.append(
                f"Intervals from {size} seeds hold the truth in {np.mean(list(shares.values())):.0%} of the sets on "
                f"average over measures, those of {worst} in {shares[worst]:.0%}."
            )
    for size in dict.fromkeys(one.size for one in verdicts):
        rates = []
        for test in (T_TEST, BEST, OF_MEAN, OF_MEASURES):
            same = [one.share for one in verdicts if one.size == size and one.test == test and one.first == one.second]
            rates.append(f"{Share.pooled(same).value:.0%} by {test}")
        sentences.append(f"Two sets of {size} seeds of one method are called different: {'; '.join(rates)}.")
    for size in dict.fromkeys(one.size for one in rankings):
        best = [one.best for one in rankings if one.size == size and one.measure == MEAN]
        if best:
            share = Share.pooled(best).value
            sentences.append(f"With {size} seeds of each, the best method by mean score is found in {share:.0%}.")
    return sentences
