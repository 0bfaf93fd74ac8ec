"""Which columns of somebody's data hold the texts and the labels, judged by their names and their values."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxstab.errors import InputError
from jaxstab.words import listing

if TYPE_CHECKING:
    from datasets import Dataset

LABELS = (
    "label",
    "labels",
    "class",
    "category",
    "target",
    "sentiment",
    "stars",
    "rating",
    "topic",
    "tag",
    "y",
    "score",
)
TEXTS = ("text", "sentence", "review", "comment", "content", "body", "document", "article", "message", "tweet")
PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
)
IDS = ("id", "idx", "index", "guid", "uid", "unnamed: 0")
MOST_CLASSES = 100
FEWEST_ROWS = 3  # of a class on average; a column with more values than that is no label


@dataclass(frozen=True)
class Columns:
    """The columns of a task.

    Attributes:
        text: one or two.
        label: one.
        numbers: whether the labels are numbers to be predicted, not classes.
    """

    text: tuple[str, ...]
    label: str
    numbers: bool = False


def guess_columns(rows: "Dataset", source: str, text: Sequence[str] | None = None, label: str | None = None) -> Columns:
    """Returns which columns hold the texts and the labels.

    A label is a column with few values, by its name if possible, or else a column of numbers. Texts are two columns
    with the names of a pair, or the one with a usual name, or that with the longest texts.

    Args:
        rows: the training split.
        source: for messages.
        text: if it is known.
        label: if it is known.

    Raises:
        InputError: no column looks like a text, or like a label, or one that was given is not there.
    """
    names = rows.column_names
    for name in (*(text or ()), *([label] if label else ())):
        if name not in names:
            raise InputError(f"{source}: no column {name!r}; it has {', '.join(names)}")
    values = {name: [one for one in rows[name] if one is not None and one != ""] for name in names}
    if label is None:
        taken = [*(text or ()), *(name for name in names if name.lower() in IDS)]
        label = _guess_label({name: column for name, column in values.items() if name not in taken}, source)
    if text is None:
        strings = {name: _mean_length(column) for name, column in values.items() if _is_text(column) and name != label}
        text = _guess_text(strings, source, names)
    return Columns(tuple(text), label, _number_of_classes(values[label]) is None and _is_numeric(values[label]))


def _guess_label(values: dict[str, list[Any]], source: str) -> str:
    classes = {name: _number_of_classes(column) for name, column in values.items()}
    likely = [name for name, number in classes.items() if number is not None] or [
        name for name, column in values.items() if _is_numeric(column)
    ]
    if not likely:
        raise InputError(
            f"{source}: no column looks like a label, with 2 to {MOST_CLASSES} different values; name it with --label; "
            f"there are {listing(list(values))}"
        )
    return min(likely, key=lambda name: (_rank(name, LABELS), classes[name] or 0))


def _number_of_classes(column: Sequence[Any]) -> int | None:
    """How many classes a column may stand for; None if it is none of labels."""
    whole = all(isinstance(one, str | int) or (isinstance(one, float) and one.is_integer()) for one in column)
    number = len(Counter(column)) if whole else 0
    return number if 2 <= number <= min(MOST_CLASSES, len(column) // FEWEST_ROWS) else None


def _guess_text(strings: dict[str, float], source: str, names: Sequence[str]) -> tuple[str, ...]:
    lowered = {name.lower(): name for name in strings}
    for pair in PAIRS:
        if all(name in lowered for name in pair):
            return tuple(lowered[name] for name in pair)
    if not strings:
        raise InputError(f"{source}: no column holds texts; name it with --text; there are {listing(names)}")
    return (min(strings, key=lambda name: (_rank(name, TEXTS), -strings[name])),)


def _rank(name: str, usual: Sequence[str]) -> int:
    return usual.index(name.lower()) if name.lower() in usual else len(usual)


def _is_text(column: Sequence[Any]) -> bool:
    return bool(column) and all(isinstance(one, str) for one in column)


def _is_numeric(column: Sequence[Any]) -> bool:
    """Whether a column holds numbers that differ."""
    return len(set(column)) > 1 and all(isinstance(one, int | float) and not isinstance(one, bool) for one in column)


def _mean_length(column: Sequence[str]) -> float:
    return sum(map(len, column)) / len(column)
