"""What measuring finds: values with their intervals, as plain numbers, tables and JSON."""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SHOWN_ROWS = 60  # of a longer table, notebooks show the beginning and the end


class Interval(NamedTuple):
    """A 95 % interval, unless said otherwise; in JSON a list of its two ends.

    Attributes:
        low: its lower end.
        high: its upper end.
    """

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.4f} to {self.high:.4f}"

    @classmethod
    def of(cls, ends: Sequence[float] | np.ndarray) -> "Interval | None":
        """Returns the interval between two ends as plain numbers; None if one is not finite."""
        low, high = np.asarray(ends, np.float64)
        return cls(plain(low), plain(high)) if np.isfinite(low) and np.isfinite(high) else None


class Tabular:
    """A result that can be shown as a table, as notebooks do, and drawn."""

    def to_frame(self) -> "pd.DataFrame":
        """Returns a tidy data frame: a row for each observation."""
        raise NotImplementedError

    def plot(self, what: str | None = None, *, layer: int | None = None, ax: "Axes | None" = None) -> Any:
        """Draws the result on matplotlib axes and returns them; `jaxstab.plot` says what of each result."""
        import jaxstab

        return jaxstab.plot(self, what, layer=layer, ax=ax)

    def _repr_html_(self) -> str:
        lines = "<br>".join(html.escape(line) for line in repr(self).splitlines())
        frame = self.to_frame()
        shown = frame.astype(object).where(frame.notna(), "")
        table = shown.to_html(index=False, float_format=_shown, max_rows=SHOWN_ROWS)
        return f"<p>{lines}</p>{table}"


@dataclass(frozen=True, eq=False, repr=False)
class Results(Tabular, Mapping[str, dict[str, Any]]):
    """What measuring found: a mapping from the names of measures to their rows.

    Attributes:
        scores: `metric`, `mean`, `per_seed`, `interval` (seeds resampled), `joint_interval` (seeds and examples
            resampled) and `remaining_sd`, the `value` and `interval` of the standard deviation over seeds that would
            remain with infinitely many test examples; None without labels.
        measures: for each name `value` and `interval`, or None and `reason`; of representations, whose value is that
            of the last layer, also `layers`, `layer_intervals`, `null` (independent normal data of the same N and D)
            and `null_shuffled`; of predicted numbers also `null_shuffled`, the value with each seed's examples in
            another order.
        distances: [L, S, S] float32 of every measure of pairs; L = 1 for predictions.
        left_out: for each measure that is not there, the reason.
        warnings: one line each.
        without_failed: `seeds`, how many did not fail, and their `scores` and `measures`, if some seeds failed.
    """

    scores: dict[str, Any] | None = None
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)
    distances: dict[str, np.ndarray] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    without_failed: dict[str, Any] | None = None

    @property
    def seeds(self) -> int:
        """S; 0 if nothing was measured."""
        if self.scores is not None:
            return len(self.scores["per_seed"])
        return len(next(iter(self.distances.values()))[0]) if self.distances else 0

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.measures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.measures)

    def __len__(self) -> int:
        return len(self.measures)

    def __bool__(self) -> bool:
        return True  # scores count too, where no measure was asked for

    def __repr__(self) -> str:
        seeds = "" if self.scores is None else f" of {len(self.scores['per_seed'])} seeds"
        return f"Results({len(self)} measures{seeds}: {', '.join(self)})"

    def to_frame(self) -> "pd.DataFrame":
        """Returns a tidy data frame: a row for each measure, and for each layer of measures of representations.

        Columns: `measure` (`mean` is the mean score), `layer` (1 ... L; missing for scores and predictions), `value`,
        `low` and `high` of the 95 % interval, `null` and `null_shuffled`; missing values are NaN.
        """
        import pandas as pd

        rows = [one for name, row in self.items() for one in _observations(name, row)]
        if self.scores is not None:
            rows = [_observation("mean", None, self.scores["mean"], self.scores["interval"]), *rows]
        floats = ["value", "low", "high", "null", "null_shuffled"]
        frame = pd.DataFrame(rows, columns=["measure", "layer", *floats])
        return frame.astype({"layer": "Int64", **dict.fromkeys(floats, "float64")})

    def as_json(self) -> dict[str, Any]:
        """Returns the content of `measures.json`."""
        parts = ("scores", "measures", "without_failed", "left_out", "warnings")
        return {name: as_plain(getattr(self, name)) for name in parts if getattr(self, name) is not None}


def nulls_of(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Returns the null by normal data and that by shuffled examples of a measure, of the last layer; None for none."""
    shuffled = row.get("null_shuffled")
    return row.get("null"), shuffled[-1] if isinstance(shuffled, list | tuple) else shuffled


def say_remaining(scores: Mapping[str, Any] | None) -> list[str]:
    """Says how much of the standard deviation over seeds is due to the finite test set, in a sentence or none."""
    remaining = None if scores is None else scores.get("remaining_sd")
    if scores is None or remaining is None:
        return []
    sd = np.std(scores["per_seed"], ddof=1)
    return [
        f"Of the SD of {sd:.4f}, {min(remaining['value'], sd):.4f} would remain with infinitely many test examples "
        f"({remaining['interval'][0]:.4f} to {remaining['interval'][1]:.4f}); the rest is this test set."
    ]


def plain(value: Any) -> float:
    """Returns the shortest decimal that is this float32: 0.4, not 0.4000000059604645."""
    return float(str(np.float32(value)))


def plain_or_none(value: Any) -> float | None:
    """Returns what `plain` does; None for a number that is not finite."""
    return plain(value) if np.isfinite(value) else None


def as_plain(value: Any) -> Any:
    """Returns nested values as JSON has them: intervals and other sequences as lists, arrays as lists of plain numbers.

    Numbers in arrays that are not finite become None.
    """
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [as_plain(item) for item in value] if value.ndim else plain_or_none(value)
    if isinstance(value, np.floating):
        return plain_or_none(value)
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    return value


def _shown(number: float) -> str:
    return f"{number:.0f}" if number.is_integer() else f"{number:.4f}"


def _observations(name: str, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "layers" not in row:
        return [_observation(name, None, row["value"], row["interval"]) | {"null_shuffled": row.get("null_shuffled")}]
    return [
        {**_observation(name, layer, value, interval), "null": row["null"], "null_shuffled": shuffled}
        for layer, (value, interval, shuffled) in enumerate(
            zip(row["layers"], row["layer_intervals"], row["null_shuffled"], strict=True), start=1
        )
    ]


def _observation(name: str, layer: int | None, value: float | None, interval: Interval | None) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {"measure": name, "layer": layer, "value": value, "low": low, "high": high}
