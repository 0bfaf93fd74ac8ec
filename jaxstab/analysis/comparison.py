"""The result of comparing methods: differences with intervals and p-values, and a verdict in one sentence."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jaxstab.analysis.aggregates import Aggregate
from jaxstab.analysis.ranking import Agreement
from jaxstab.measures import MEAN, MEASURES, Interval, Tabular, as_plain
from jaxstab.words import count

if TYPE_CHECKING:
    import pandas as pd

ALL_TASKS = "all tasks"
FAILED = "failed"  # the share of failed seeds: not a measure, but compared like one
INTERQUARTILE_MEAN = "interquartile_mean"  # shown beside the measures, but not tested
REMAINING = "remaining_sd"  # the SD with infinitely many test examples: likewise
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Difference:
    """The difference between a method and the baseline, by one measure on one task.

    Attributes:
        task: name of the task, or `all tasks`.
        method: the method that is compared.
        measure: name of the measure; `mean` for the mean score, `failed` for the share of failed seeds.
        difference: method minus baseline, in the measure's unit. Over several tasks it is None except for the mean
            score, because the scales of the tasks differ.
        interval: 95 % interval of the difference for other seeds, by the jackknife (for the mean score Student's, or
            Welch's where seeds are not paired); None where either value has no interval.
        effect: for the mean score Hedges' g (the difference in standard deviations over seeds); for a measure the
            ratio of method to baseline; None where that is not defined, or a value has no interval.
        effect_interval: 95 % interval of the effect, if it is a ratio.
        p: two-sided p-value of the permutation test; of `failed`, of Fisher's exact test.
        adjusted: the p-value adjusted for the number of methods, and for a measure also for that of measures. The mean
            score, the failed seeds and the measures are three families, of which each is tested at 5 %.
    """

    task: str
    method: str
    measure: str
    difference: float | None
    interval: Interval | None
    effect: float | None
    effect_interval: Interval | None
    p: float
    adjusted: float

    @property
    def clear(self) -> bool:
        """Whether the difference is significant, at 5 % for all methods and all of its kind."""
        return self.adjusted <= SIGNIFICANT

    @property
    def better(self) -> bool | None:
        """Whether the method is better than the baseline (higher score, more stable); None if the data cannot tell."""
        if not self.clear:
            return None
        higher = self.difference > 0 if self.difference is not None else (self.effect or 0) > 1
        if self.measure == FAILED:
            return not higher
        return higher == (self.measure == MEAN or not MEASURES[self.measure].larger_is_less_stable)


@dataclass(frozen=True)
class ScoreComparison:
    """How a method's scores compare with the baseline's on one task, beside the test of their means.

    Attributes:
        task: name of the task, or `all tasks`, for the mean over tasks.
        method: the method that is compared.
        delta: the largest difference of means that does not matter.
        largest: the largest difference of means, in either direction, that is not ruled out at 5 % for all methods;
            None where scores do not vary. Source: two one-sided tests, Schuirmann (1987).
        probability: of a seed of the method scoring higher than one of the baseline; ties count as half.
        probability_interval: its 95 % interval for other seeds.
        joint_interval: the 95 % interval of the difference of means for other seeds and other test examples; None over
            all tasks.
    """

    task: str
    method: str
    delta: float | None
    largest: float | None
    probability: float
    probability_interval: Interval | None
    joint_interval: Interval | None

    @property
    def equivalent(self) -> bool:
        """Whether every difference larger than `delta` is ruled out."""
        return self.largest is not None and self.delta is not None and self.largest <= self.delta

    def say_equivalence(self, metric: str) -> str:
        """What is ruled out, as part of a sentence."""
        if self.equivalent:
            return f"; no difference in {metric} larger than {self.delta:.3g}"
        return "" if self.largest is None else f"; more than {self.largest:.3f} in {metric} is ruled out"

    def say_examples(self) -> str:
        """Whether a clear difference of means holds for other test examples, as part of a sentence."""
        if self.joint_interval is None:
            return ""
        low, high = self.joint_interval
        if low > 0 or high < 0:
            return ", for other test examples too"
        return f"; for other test examples {low:+.3f} to {high:+.3f}"


@dataclass(frozen=True, repr=False)
class Comparison(Tabular):
    """Methods side by side.

    Attributes:
        baseline: the method that the others are compared with.
        methods: all of them, the baseline first.
        metrics: the score of each task.
        seeds: by task and method, the number of seeds.
        paired: by task, whether all methods have the same seeds.
        values: by task and method, each measure's `value` and `interval`; and those of `interquartile_mean`, of
            `remaining_sd`, the SD that would remain with infinitely many test examples, and of `failed`, the share of
            failed seeds.
        scores: by task and method, the seeds' scores.
        differences: from the baseline; with several tasks also over all of them.
        score_comparisons: of the scores with the baseline's; with several tasks also over all of them.
        aggregates: with several tasks, by method the mean, median and interquartile mean of the scores over tasks.
        rankings: by task, how much the measures agree on the order of the methods; None with fewer than 3 methods.
        notes: what was left out and why, one line each.
    """

    baseline: str
    methods: list[str]
    metrics: dict[str, str]
    seeds: dict[str, dict[str, int]]
    paired: dict[str, bool]
    values: dict[str, dict[str, dict[str, dict[str, Any]]]]
    scores: dict[str, dict[str, list[float]]]
    differences: list[Difference]
    score_comparisons: list[ScoreComparison]
    aggregates: dict[str, dict[str, Aggregate]]
    rankings: dict[str, Agreement]
    notes: list[str] = field(default_factory=list)

    @property
    def measures(self) -> list[str]:
        """The names of all values, `mean` first."""
        return list(dict.fromkeys(name for group in self.values.values() for rows in group.values() for name in rows))

    def of(self, task: str, method: str) -> list[Difference]:
        """The differences of one method on one task."""
        return [one for one in self.differences if (one.task, one.method) == (task, method)]

    def scores_of(self, task: str, method: str) -> ScoreComparison | None:
        """The comparison of one method's scores on one task; None if there are too few seeds or no scores."""
        return next((one for one in self.score_comparisons if (one.task, one.method) == (task, method)), None)

    def verdict(self, task: str, method: str) -> str:
        """One line: how a method differs from the baseline, and which differences cannot be told."""
        found, scores = self.of(task, method), self.scores_of(task, method)
        metric = self.metrics.get(task, "score")
        start = f"{method} against {self.baseline} on {task}: "
        if not any(one.clear for one in found):
            p = min(one.adjusted for one in found)
            ruled_out = "" if scores is None else scores.say_equivalence(metric)
            return f"{start}cannot tell (smallest adjusted p = {p:.2g} of {len(found)} quantities){ruled_out}"
        parts = []
        for one in (one for one in found if one.measure == FAILED and one.clear):
            parts.append(f"{'fewer' if one.better else 'more'} seeds fail ({one.difference:+.0%})")
        for one in (one for one in found if one.measure == MEAN and one.clear):
            examples = "" if scores is None else scores.say_examples()
            parts.append(f"{'better' if one.better else 'worse'} {metric} ({one.difference:+.3f}{examples})")
        for word, better in (("more stable", True), ("less stable", False)):
            names = [one.measure for one in found if one.measure in MEASURES and one.better is better]
            parts += [f"{word} by {', '.join(names)}"] if names else []
        unclear = [self.describe(task, one.measure) for one in found if not one.clear]
        parts += [f"cannot tell by {', '.join(unclear)}"] if unclear else []
        return start + "; ".join(parts)

    def describe(self, task: str, measure: str) -> str:
        """The name of a quantity in sentences and tables."""
        names = {
            MEAN: f"mean {self.metrics.get(task, 'score')}",
            FAILED: "failed seeds",
            INTERQUARTILE_MEAN: "interquartile mean",
            REMAINING: "sd, endless examples",
        }
        return names.get(measure, measure)

    def count_seeds(self, task: str) -> str:
        """The numbers of seeds on a task: `8 seeds of each`, or `8 to 24 seeds`."""
        counts = self.seeds[task].values()
        fewest, most = min(counts), max(counts)
        return f"{count('seed', fewest)} of each" if fewest == most else f"{fewest} to {most} seeds"

    @property
    def verdicts(self) -> list[str]:
        """One line for each method and task; those over all tasks come first."""
        tasks = [ALL_TASKS] * (len(self.values) > 1) + list(self.values)
        return [self.verdict(task, method) for task in tasks for method in self.methods[1:] if self.of(task, method)]

    def __repr__(self) -> str:
        """The verdicts."""
        return "\n".join(self.verdicts) or f"Comparison({self.baseline!r} and {len(self.methods) - 1} other methods)"

    def to_frame(self) -> "pd.DataFrame":
        """Returns a tidy data frame: a row for each task, method and measure.

        Columns: `task`, `method`, `measure` (`mean` is the mean score, `failed` the share of failed seeds),
        `difference` from the baseline with `low` and `high` of its 95 % interval, `effect` with `effect_low` and
        `effect_high`, `p`, `adjusted` p and `clear`. Missing values are NaN.
        """
        import pandas as pd

        rows = []
        for one in self.differences:
            low, high = one.interval or (None, None)
            effect_low, effect_high = one.effect_interval or (None, None)
            values = (one.difference, low, high, one.effect, effect_low, effect_high, one.p, one.adjusted)
            rows.append((one.task, one.method, one.measure, *values, one.clear))
        columns = ["difference", "low", "high", "effect", "effect_low", "effect_high", "p", "adjusted"]
        frame = pd.DataFrame(rows, columns=["task", "method", "measure", *columns, "clear"])
        return frame.astype(dict.fromkeys(columns, "float64"))

    def as_json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        parts = ("baseline", "methods", "metrics", "seeds", "paired", "values", "scores", "notes")
        return {
            **{name: as_plain(getattr(self, name)) for name in parts},
            "differences": [
                {**as_plain(vars(one)), "clear": one.clear, "better": one.better} for one in self.differences
            ],
            "score_comparisons": [
                {**as_plain(vars(one)), "equivalent": one.equivalent} for one in self.score_comparisons
            ],
            "aggregates": {
                method: {name: one._asdict() for name, one in rows.items()} for method, rows in self.aggregates.items()
            },
            "rankings": {task: one.as_json() for task, one in self.rankings.items()},
            "verdicts": self.verdicts,
        }
