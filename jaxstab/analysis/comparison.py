"""The result of comparing methods: differences with intervals and p-values, and a verdict in one sentence."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jaxstab.analysis.ranking import Agreement
from jaxstab.measures import MEAN, MEASURES, Interval, Tabular, as_plain

if TYPE_CHECKING:
    import pandas as pd

ALL_TASKS = "all tasks"
FAILED = "failed"  # the share of failed seeds: not a measure, but compared like one
REMAINING = "remaining_sd"  # the SD with infinitely many test examples: shown beside the measures, but not tested
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
        largest: for the mean score, the largest difference in either direction that is not ruled out at 5 %.
        joint_interval: for the mean score on one task, the 95 % interval for other seeds and other test examples.
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
    largest: float | None = None
    joint_interval: Interval | None = None

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


def _for_examples(one: Difference) -> str:
    """Whether a clear difference holds for other test examples."""
    if one.joint_interval is None:
        return ""
    low, high = one.joint_interval
    return (
        ", for other test examples too"
        if low > 0 or high < 0
        else f"; for other test examples {low:+.3f} to {high:+.3f}"
    )


@dataclass(frozen=True, repr=False)
class Comparison(Tabular):
    """Methods side by side.

    Attributes:
        baseline: the method that the others are compared with.
        methods: all of them, the baseline first.
        metrics: the score of each task.
        seeds: by task and method, the number of seeds.
        paired: by task, whether all methods have the same seeds.
        values: by task and method, each measure's `value` and `interval`; and those of `failed`, the share of failed
            seeds, and `remaining_sd`, the SD that would remain with infinitely many test examples.
        scores: by task and method, the seeds' scores.
        differences: from the baseline; with several tasks also over all of them.
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
    rankings: dict[str, Agreement]
    notes: list[str] = field(default_factory=list)

    @property
    def measures(self) -> list[str]:
        """The names of all values, `mean` first."""
        return list(dict.fromkeys(name for group in self.values.values() for rows in group.values() for name in rows))

    def of(self, task: str, method: str) -> list[Difference]:
        """The differences of one method on one task."""
        return [one for one in self.differences if (one.task, one.method) == (task, method)]

    def verdict(self, task: str, method: str) -> str:
        """One line: how a method differs from the baseline, and which differences cannot be told."""
        found = self.of(task, method)
        metric = self.metrics.get(task, "score")
        start = f"{method} against {self.baseline} on {task}: "
        if not any(one.clear for one in found):
            p = min(one.adjusted for one in found)
            limits = [f"; more than {one.largest:.3f} in {metric} is ruled out" for one in found if one.largest]
            return f"{start}cannot tell (smallest adjusted p = {p:.2g} of {len(found)} quantities){''.join(limits)}"
        parts = []
        for one in (one for one in found if one.measure == FAILED and one.clear):
            parts.append(f"{'fewer' if one.better else 'more'} seeds fail ({one.difference:+.0%})")
        for one in (one for one in found if one.measure == MEAN and one.clear):
            parts.append(f"{'better' if one.better else 'worse'} {metric} ({one.difference:+.3f}{_for_examples(one)})")
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
            REMAINING: "sd, endless examples",
        }
        return names.get(measure, measure)

    def count_seeds(self, task: str) -> str:
        """The numbers of seeds on a task: `8 seeds of each`, or `8 to 24 seeds`."""
        counts = self.seeds[task].values()
        fewest, most = min(counts), max(counts)
        return f"{fewest} seeds of each" if fewest == most else f"{fewest} to {most} seeds"

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
        `effect_high`, `p`, `adjusted` p, `clear` and `largest`. Missing values are NaN.
        """
        import pandas as pd

        rows = []
        for one in self.differences:
            low, high = one.interval or (None, None)
            effect_low, effect_high = one.effect_interval or (None, None)
            values = (one.difference, low, high, one.effect, effect_low, effect_high, one.p, one.adjusted)
            rows.append((one.task, one.method, one.measure, *values, one.clear, one.largest))
        columns = ["difference", "low", "high", "effect", "effect_low", "effect_high", "p", "adjusted"]
        frame = pd.DataFrame(rows, columns=["task", "method", "measure", *columns, "clear", "largest"])
        return frame.astype(dict.fromkeys([*columns, "largest"], "float64"))

    def as_json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        parts = ("baseline", "methods", "metrics", "seeds", "paired", "values", "scores", "notes")
        return {
            **{name: as_plain(getattr(self, name)) for name in parts},
            "differences": [
                {**as_plain(vars(one)), "clear": one.clear, "better": one.better} for one in self.differences
            ],
            "rankings": {task: one.as_json() for task, one in self.rankings.items()},
            "verdicts": self.verdicts,
        }
