"""Tables of runs, with a column of seeds and one of scores: what Weights & Biases exports, and spreadsheets."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jaxstab.errors import InputError
from jaxstab.runs.outputs import Outputs
from jaxstab.runs.seed_files import seed_numbers

NAMES, STATES, FINISHED = ("name", "run", "run_name", "run name", "id"), ("state", "status"), ("finished", "", "done")
# Columns that Weights & Biases adds to every table of runs.
NO_SCORES = {"notes", "user", "tags", "created", "runtime", "sweep", "group", "_step", "_runtime", "_timestamp"}
SCORES = {"accuracy", "acc", "f1", "macro_f1", "f1_macro", "micro_f1", "f1_micro", "matthews", "mcc"}
BLANK = {"", "-", "null", "none", "undefined"}
SMALLER_IS_BETTER = re.compile(r"(^|[^a-z])(loss|perplexity|ppl|error|wer|cer|mse|rmse|mae|brier_score)($|[^a-z])")
LINE = re.compile(r"(?P<run>.+) - (?P<metric>.+?)__MIN")  # of a chart: a column for each run, and its ends


def read(path: Path, metric: str | None) -> Outputs:
    """Reads a score of each seed from a csv or tsv file with a header.

    Args:
        path: the runs table of Weights & Biases as it exports it, a chart's export, or any table with a row for each
            seed.
        metric: the column of scores, or the last part of its name; by default the only one that is named like a score.

    Raises:
        InputError: no such column, a seed twice, or a score that is no number.
    """
    frame = _read_frame(path)
    found = [match for match in map(LINE.fullmatch, frame.columns) if match]
    lines = [line for line in found if line[0].removesuffix("__MIN") in frame.columns]
    if lines:
        frame = _last_of_lines(frame, lines)
    column = _choose(path, frame, metric)
    refuse_loss(path, column)
    label, seeds = _seeds(path, frame, column)
    values = frame[column].str.strip()
    notes, kept = _unfinished(frame, values, label)
    numbers = pd.to_numeric(values[kept], errors="coerce").to_numpy(float)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        row = np.flatnonzero(kept)[wrong[0]]
        raise InputError(f"{path}: {column} is {values[row]!r} in line {row + 2}; leave that run out")
    if not len(numbers):
        raise InputError(f"{path}: no finished run with a score in column {column}")
    chosen = None if seeds is None else [seed for seed, one in zip(seeds, kept, strict=True) if one]
    _refuse_repeated(path, frame[kept], chosen, column)
    order = range(len(numbers)) if chosen is None else np.argsort(chosen)
    return Outputs(
        path, None if chosen is None else sorted(chosen), {"scores": numbers[list(order)]}, column, notes=tuple(notes)
    )


def one_score(path: Path, names: Sequence[str]) -> str:
    """Returns the only score.

    Raises:
        InputError: there is none, or there are several.
    """
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"{path}: no score in it; name one with --metric NAME")
    raise InputError(f"{path}: several scores; {_choices(names)}")


def refuse_loss(path: Path, metric: str) -> None:
    """Raises InputError if a score sounds like one of which less is better."""
    if SMALLER_IS_BETTER.search(metric.lower()):
        raise InputError(f"{path}: {metric}: give a score of which more is better, as an accuracy; --metric NAME")


def _read_frame(path: Path) -> pd.DataFrame:
    try:
        separator = "\t" if path.suffix == ".tsv" else ","
        frame = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"{path}: cannot be read as a table ({str(error).splitlines()[0]})") from None
    if not len(frame):
        raise InputError(f"{path}: no rows; expected a header and a row for each seed")
    return frame


def _last_of_lines(frame: pd.DataFrame, lines: Sequence[re.Match[str]]) -> pd.DataFrame:
    """The last value of each run in a chart."""
    rows = []
    for line in lines:
        values = frame[line[0].removesuffix("__MIN")]
        there = values[~values.str.strip().str.lower().isin(BLANK)]
        rows.append({"Name": line["run"], line["metric"]: there.iloc[-1] if len(there) else ""})
    return pd.DataFrame(rows).fillna("")


def _choose(path: Path, frame: pd.DataFrame, metric: str | None) -> str:
    """The column of scores."""
    columns = [str(name) for name in frame.columns]
    if metric in columns:
        return str(metric)
    numeric = [
        name for name in columns if name.lower() not in NO_SCORES and not _is_seed(name) and _numeric(frame[name])
    ]
    if metric is not None:
        ends = [name for name in numeric if _last_part(name) == metric.lower()]
        if len(ends) == 1:
            return ends[0]
        raise InputError(f"{path}: no column {metric}; columns of numbers: {', '.join(numeric) or 'none'}")
    good = [name for name in numeric if frame[name].nunique() > 1 and not SMALLER_IS_BETTER.search(name.lower())]
    scores = [name for name in good if _last_part(name) in SCORES or name.lower() in SCORES]
    if scores or len(good) < 2:
        return one_score(path, scores or good)
    raise InputError(f"{path}: which column holds the scores? {_choices(good)}")


def _choices(names: Sequence[str]) -> str:
    return "choose one: " + " or ".join(f"--metric {shlex.quote(name)}" for name in names)


def _last_part(name: str) -> str:
    """`accuracy` of `eval/accuracy`, `summary.accuracy` and `eval_accuracy`."""
    last = re.split(r"[/. ]", name.lower())[-1]
    return re.sub(r"^(eval|test|predict|valid|validation|val|dev|final|best)_", "", last)


def _numeric(values: pd.Series) -> bool:
    there = values[~values.str.strip().str.lower().isin(BLANK)]
    return len(there) > 0 and bool(pd.to_numeric(there, errors="coerce").notna().any())


def _is_seed(name: str) -> bool:
    return re.split(r"[/._ -]", name.lower())[-1] == "seed"


def _seeds(path: Path, frame: pd.DataFrame, column: str) -> tuple[pd.Series, list[int] | None]:
    """What each run is called in messages, and the seeds' numbers."""
    columns = {str(name).lower(): str(name) for name in frame.columns}
    names = next((frame[columns[name]] for name in NAMES if name in columns), None)
    found = [name for name in map(str, frame.columns) if _is_seed(name) and name != column]
    found = [name for name in found if name.lower() == "seed"] or found
    varying = [name for name in found if frame[name].nunique() > 1] or found[:1]
    if len(varying) > 1:
        raise InputError(f"{path}: columns {' and '.join(varying)} hold seeds; call the one that counts `seed`")
    if varying:
        wrong = ~frame[varying[0]].str.strip().str.fullmatch(r"\d+(\.0)?")
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise InputError(f"{path}: {varying[0]} is {frame[varying[0]][row]!r} in line {row + 2}, no seed")
        numbers = frame[varying[0]].astype(float).astype(int)
        return "seed " + numbers.astype(str), numbers.tolist()
    if names is None:
        return "line " + pd.Series(range(2, len(frame) + 2)).astype(str), None
    return names, seed_numbers(names.tolist())


def _unfinished(frame: pd.DataFrame, values: pd.Series, label: pd.Series) -> tuple[list[str], np.ndarray]:
    """Notes on runs that did not finish or have no score, and a mask of the others."""
    columns = {str(name).lower(): str(name) for name in frame.columns}
    state = next((frame[columns[name]].str.strip().str.lower() for name in STATES if name in columns), None)
    blank = values.str.lower().isin(BLANK)
    out = blank if state is None else blank | ~state.isin(FINISHED)
    reasons = ["no score" if state is None or state[row] in FINISHED else state[row] for row in frame.index]
    named = ", ".join(f"{label[row]} ({reasons[row]})" for row in frame.index[out])
    return [f"left out, because they have no final score: {named}"] if named else [], (~out).to_numpy()


def _refuse_repeated(path: Path, frame: pd.DataFrame, seeds: list[int] | None, column: str) -> None:
    repeated = [seed for seed in seeds or [] if (seeds or []).count(seed) > 1]
    if not repeated:
        return
    twice = frame[[seed == repeated[0] for seed in seeds or []]]
    apart = [
        f"{name} ({', '.join(twice[name].unique()[:3])})"
        for name in map(str, frame.columns)
        if name != column
        and name.lower() not in {*NO_SCORES, *NAMES}
        and twice[name].nunique() > 1
        and not _is_seed(name)
    ]
    rows = ", ".join(str(row + 2) for row in twice.index)
    settings = f"; they differ in {', '.join(apart[:3])}" if apart else ""
    raise InputError(
        f"{path}: seed {repeated[0]} in lines {rows}{settings}; keep one setting in a file, and compare files"
    )
