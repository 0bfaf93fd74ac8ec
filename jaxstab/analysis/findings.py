"""The findings of the validity framework as plain sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLOSE = 0.1  # a relative change below this counts as no change


def correlations(over: str, names: Sequence[str], matrix: Floats, intervals: Floats) -> str:
    """How closely measures move together.

    Args:
        over: what varies: seeds or layers.
        names: [M] measures.
        matrix: [M, M] correlations.
        intervals: [M, M, 2] 95 % intervals.
    """
    first, second = np.triu_indices(len(names), 1)
    values, low = matrix[first, second], intervals[first, second, 0]
    there = np.isfinite(values)
    if not there.any():
        return f"Over {over}, no two measures vary, so there is no correlation."
    values, low = values[there], low[there]
    pairs = [(names[i], names[j]) for i, j in zip(first[there], second[there], strict=True)]
    strong, weak = int(values.argmax()), int(values.argmin())
    positive = int((low > 0).sum())
    return (
        f"Over {over}, {positive} of {len(values)} pairs of measures correlate for certain (interval above 0), median "
        f"{np.median(values):.2f}: most {' and '.join(pairs[strong])} ({values[strong]:.2f}), least "
        f"{' and '.join(pairs[weak])} ({values[weak]:.2f})."
    )


def depth(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Whether deeper layers are less stable.

    Args:
        found: for each measure `tau` and `interval`.
    """
    rising = [name for name, row in found.items() if row["interval"][0] is not None and row["interval"][0] > 0]
    others = [name for name in found if name not in rising]
    taus = ", ".join(f"{name} {row['tau']:.2f}" for name, row in found.items() if row["tau"] is not None)
    if not others:
        return f"Deeper layers are less stable by every measure (Kendall's tau with depth: {taus})."
    if not rising:
        return f"No measure is certain to rise with depth (Kendall's tau: {taus})."
    return (
        f"Deeper layers are less stable by {', '.join(rising)}; not for certain by {', '.join(others)} (tau: {taus})."
    )


def failed(found: Mapping[str, Mapping[str, Any]], seeds: int, of: int) -> str:
    """Whether failed seeds differ more among themselves than successful ones.

    Args:
        found: for each measure `successful`, `failed` and `p`.
        seeds: number of failed seeds.
        of: number of all seeds.
    """
    clear = {name: row for name, row in found.items() if row["p"] is not None and row["p"] <= 0.05}
    more = [name for name, row in clear.items() if row["failed"]["value"] > row["successful"]["value"]]
    fewer = [name for name in clear if name not in more]
    parts = [f"less stable than successful ones by {', '.join(more)}"] if more else []
    parts += [f"more stable by {', '.join(fewer)}"] if fewer else []
    start = f"{seeds} of {of} seeds failed; they are "
    return start + ("; ".join(parts) if parts else "not for certain more or less stable than successful ones") + "."


def examples(share: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Whether fewer test examples give the same values.

    Args:
        share: the share of the examples as text, such as `10%`.
        found: for each measure `ratio` and `examples`.
    """
    count = next(iter(found.values()))["examples"]
    ratios = {name: row["ratio"] for name, row in found.items() if row["ratio"] is not None}
    moved = {name: ratio for name, ratio in ratios.items() if abs(ratio - 1) > CLOSE}
    start = f"On {share} of the test examples ({count}) "
    if not moved:
        return f"{start}every measure keeps its value within {CLOSE:.0%} on average."
    named = ", ".join(f"{name} ({ratio:.2f} times)" for name, ratio in moved.items())
    steady = [name for name in ratios if name not in moved]
    return f"{start}the average moves for {named}" + (
        f"; {', '.join(steady)} keep theirs within {CLOSE:.0%}." if steady else "."
    )


def nulls(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Whether values are below the null, the value of unrelated seeds.

    Args:
        found: for each measure `value`, `interval` and `null`.
    """
    found = {name: row for name, row in found.items() if row["null"] is not None and row["value"] is not None}
    if not found:
        return "No measure has a null to compare with."
    below = [name for name, row in found.items() if row["interval"] is not None and row["interval"][1] < row["null"]]
    others = [
        f"{name} ({row['value']:.3f}, unrelated {row['null']:.3f})" for name, row in found.items() if name not in below
    ]
    if not others:
        return "Every measure is below that of unrelated seeds (examples shuffled in each seed apart)."
    if not below:
        return f"No measure tells these seeds from unrelated ones: {', '.join(others)}."
    return f"Below the value of unrelated seeds: {', '.join(below)}; not told from it: {', '.join(others)}."
