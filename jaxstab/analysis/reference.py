"""Published numbers to show beside a run on the same task, with their known errors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from jaxstab.errors import InputError

KEYS = ("model", "task", "method")
PREDICTIONS = ("seeds", "score", "sd_population", "jsd_nats", "pairwise_disagreement", "kappa_as_printed")
LAYERS = ("measure", "distance")
FAULTS = (
    "Their code takes the standard deviation with denominator S; here it is corrected to S - 1.",
    "It sums the vote table along the wrong axis: its kappa is disagreement times N / (N - 1), and is not shown.",
    "It compares 20 seeds of the standard method with 10 of every other.",
    "It resamples seeds with replacement and keeps pairs of a seed with itself, and never fixes the seed of its split.",
)


@dataclass(frozen=True)
class Reference:
    """Published numbers: a row for each model, task and method.

    Attributes:
        rows: columns `model`, `task`, `method`, `seeds`, `score`, `sd` (denominator S - 1), `jsd`,
            `pairwise_disagreement`, and measures of the last layer.
    """

    rows: pd.DataFrame

    def of(self, task: str) -> pd.DataFrame:
        """The rows of a task; case and hyphens in its name are ignored."""
        return self.rows[self.rows["task"].map(_plain) == _plain(task)]


def load_reference(path: str | Path) -> Reference:
    """Reads published numbers.

    Args:
        path: a csv file with columns `model`, `task`, `method` and either `seeds`, `score`, `sd_population`,
            `jsd_nats`, `pairwise_disagreement`, `kappa_as_printed` or `measure` and `distance`; or a directory of such
            files.

    Raises:
        InputError: no such file, or wrong columns.
    """
    path = Path(path)
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files or not path.exists():
        raise InputError(f"{path}: no csv file there; give one with published numbers, or a directory of them")
    parts = [_load(file) for file in files]
    joined = parts[0]
    for part in parts[1:]:
        new = [column for column in part.columns if column in KEYS or column not in joined.columns]
        joined = joined.merge(part[new], on=list(KEYS), how="outer", sort=False)
    return Reference(joined)


def _load(file: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(file, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{file}: cannot be read as a table ({reason}); expected {', '.join((*KEYS, *PREDICTIONS))}"
        ) from None
    for columns in (PREDICTIONS, LAYERS):
        if {*KEYS, *columns} <= set(frame.columns):
            break
    else:
        raise InputError(
            f"{file}: columns {', '.join(frame.columns)}; expected {', '.join(KEYS)} and {', '.join(PREDICTIONS)}"
        )
    numbers = [column for column in columns if column != "measure"]
    for column in numbers:
        wrong = pd.to_numeric(frame[column], errors="coerce").isna()
        if wrong.any():
            raise InputError(f"{file}: {column} in row {int(np.argmax(wrong)) + 1} is no number")
    if columns == LAYERS:
        return (
            frame.pivot(index=list(KEYS), columns="measure", values="distance").reset_index().rename_axis(columns=None)
        )
    seeds = frame["seeds"].to_numpy(np.float64)
    corrected = frame["sd_population"] * np.sqrt(seeds / np.maximum(seeds - 1, 1))
    return frame[[*KEYS, "seeds", "score"]].assign(
        sd=corrected, jsd=frame["jsd_nats"], pairwise_disagreement=frame["pairwise_disagreement"]
    )


def _plain(task: str) -> str:
    return task.lower().replace("-", "").replace("_", "")
