"""Tables of text and the numbers in them; written as LaTeX, Markdown or CSV, or for the terminal."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import rich.table
from rich.markup import escape

Format = Literal["latex", "markdown", "csv"]

PLACES = 4  # decimals of a number without an interval
MOST_PLACES = 6
WIDE = 60  # characters that fit into a column of text
ZERO = 1e-12  # what is smaller is rounding
# A number, perhaps with a mark, and its interval or the reason why there is none.
NUMBER = re.compile(r"-?|(more than )?[+-]?[\d.,]+(e[+-]?\d+)?%?\*?( to .*| \(.*\))?")
WITH_INTERVAL = re.compile(r"([+-]?[\d.,]+(?:e[+-]?\d+)?%?\*?) (\(.*\))")
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "*": r"\textsuperscript{*}",
    "[": "{[}",  # after a line break it would begin an option
    **{one: f"\\{one}" for one in "&%$#_{}"},
}


class Cell(str):
    """The text of a cell, with what pages and papers show instead of it or beside it.

    Attributes:
        label: what people call it, where the text is an identifier.
        meaning: an explanation in one line, shown on demand.
        best: whether it is the best value among its like.
    """

    label: str
    meaning: str
    best: bool

    def __new__(cls, text: str, *, label: str = "", meaning: str = "", best: bool = False) -> "Cell":
        """Makes the text, with its attributes."""
        cell = super().__new__(cls, text)
        cell.label, cell.meaning, cell.best = label or text, meaning, best
        return cell


@dataclass(frozen=True)
class Table:
    """A table of text; `caption` explains how to read it."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: str = ""

    @property
    def numeric(self) -> list[bool]:
        """For each column, whether it holds numbers."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        return [_all_numbers(cells) for cells in columns]


def label(text: str) -> str:
    """What people call the content of a cell."""
    return text.label if isinstance(text, Cell) else text


def parts(cell: str) -> tuple[str, str]:
    """The value in a cell, and its interval or the reason why there is none."""
    found = WITH_INTERVAL.fullmatch(cell)
    return (found[1], found[2]) if found else (label(cell), "")


def to_text(tables: Sequence[Table], form: Format) -> str:
    """Returns tables as text to paste or save, an empty line between them.

    LaTeX needs the package booktabs. CSV keeps the identifiers of measures, the others have their names for people.
    """
    write = {"latex": _to_latex, "markdown": _to_markdown, "csv": _to_csv}[form]
    return "\n".join(write(table) for table in tables)


def to_rich(table: Table) -> rich.table.Table:
    """Converts a table for the terminal."""
    shown = rich.table.Table(
        title=escape(table.title), title_justify="left", caption=table.caption or None, caption_justify="left"
    )
    for place, column in enumerate(table.columns):
        shown.add_column(escape(column), justify="left" if place == 0 else "right")
    for row in table.rows:
        shown.add_row(*map(escape, row))
    return shown


def with_interval(
    row: Mapping[str, Any] | None, *, places: int | None = None, sign: bool = False, mark: str = ""
) -> str:
    """A value with its interval as text, or with the reason why there is none.

    Args:
        row: `value` with `interval` or `reason`.
        places: decimals; default: as many as the interval's width deserves.
        sign: whether a positive value has a sign.
        mark: what follows the value.
    """
    if not row or row.get("value") is None:
        return "-"
    value, ends = row["value"], row.get("interval")
    if row.get("reason"):
        return f"{number(value, sign)}{mark} ({row['reason']})"
    if ends is None or not _is_wide(ends):
        return f"{number(value, sign)}{mark}"
    places = decimals(ends) if places is None else places
    return f"{number(value, sign, places)}{mark} ({interval(ends, places)})"


def worth(row: Mapping[str, Any], places: int = PLACES) -> str:
    """The interval of a row as text, or the reason why there is none."""
    return row.get("reason") or interval(row.get("interval"), places)


def decimals(ends: Sequence[float]) -> int:
    """How many decimals a value deserves: two digits of half the width of its interval."""
    half = abs(ends[1] - ends[0]) / 2
    return min(MOST_PLACES, max(0, 1 - math.floor(math.log10(half)))) if ZERO < half < math.inf else PLACES


def common_decimals(intervals: Iterable[Sequence[float] | None]) -> int | None:
    """How many decimals values beside each other deserve: those of the widest interval, unless a narrow one needs more.

    None where there is no interval.
    """
    places = [decimals(ends) for ends in intervals if ends is not None and _is_wide(ends)]
    return max(min(places), max(places) - 1) if places else None


def interval(ends: Sequence[float] | None, places: int = PLACES) -> str:
    """Both ends of an interval as text; nothing of one without width, which no seeds can give."""
    if ends is None or not _is_wide(ends):
        return "-"
    if any(ends) and not any(round(end, places) for end in ends):
        return " to ".join(f"{end:.1e}" if end else "0" for end in ends)
    return f"{ends[0]:.{places}f} to {ends[1]:.{places}f}"


def number(value: float | None, sign: bool = False, places: int = PLACES) -> str:
    """A number as text; one that decimals would show as 0 has a power of ten."""
    if value is None:
        return "-"
    value = value if abs(value) > ZERO else 0.0
    form = f".{places}f" if value == 0 or round(value, places) else ".1e"
    return f"{value:{'+' if sign and value else ''}{form}}"


def share(value: float) -> str:
    """A share as text; one of less than a tenth has a decimal."""
    return f"{value:.0%}" if value == 0 or value >= 0.0995 else f"{value:.1%}"


def percent(ends: Sequence[float] | None) -> str:
    """Both ends of an interval of shares as text."""
    return "-" if ends is None else f"{ends[0]:.0%} to {ends[1]:.0%}"


def slug(name: str) -> str:
    """Returns a name that is safe for files, HTML ids and LaTeX labels."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"


def _is_wide(ends: Sequence[float]) -> bool:
    return abs(ends[1] - ends[0]) > ZERO


def _all_numbers(cells: Sequence[str]) -> bool:
    return any(cells) and all(NUMBER.fullmatch(cell) for cell in cells)


def _to_latex(table: Table) -> str:
    sides = "".join("r" if numeric else "l" for numeric in table.numeric)
    caption = f"{table.title}. {table.caption}" if table.caption else f"{table.title}."
    rows = [" & ".join(map(_latex_cell, row)) + r" \\" for row in [table.columns, *table.rows]]
    # In two columns of text a wide table spans both; in one column there is no difference.
    width = max(sum(len(label(cell)) + 2 for cell in row) for row in [table.columns, *table.rows])
    kind = "table*" if width > WIDE else "table"
    lines = [
        rf"\begin{{{kind}}}[t]",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{{sides}}}",
        r"\toprule",
        rows[0],
        r"\midrule",
        *rows[1:],
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{_latex(caption)}}}",
        rf"\label{{tab:{slug(table.title)}}}",
        rf"\end{{{kind}}}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: str) -> str:
    return _bold(cell, r"\textbf{{{}}}", _latex)


def _latex(text: str) -> str:
    escaped = "".join(LATEX.get(one, one) for one in " ".join(text.split())).replace("--", "-{}-")
    # In text a minus would be a hyphen, which it stays between words.
    return re.sub(r"(?<![\w.}])-(?=\d)|(?<=\d )-(?= )", "$-$", escaped)


def _to_markdown(table: Table) -> str:
    rule = ["---:" if numeric else "---" for numeric in table.numeric]
    rows = [[_bold(cell, "**{}**", _markdown) for cell in row] for row in [table.columns, *table.rows]]
    lines = ["| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]]]
    caption = f"\n{_markdown(table.caption)}\n" if table.caption else ""
    return f"**{_markdown(table.title)}**\n\n" + "\n".join(lines) + "\n" + caption


def _markdown(text: str) -> str:
    return re.sub(r"([\\|*_`\[])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def _bold(cell: str, bold: str, escaped: Any) -> str:
    """A cell whose value, but not its interval, is bold if it is the best."""
    if not (isinstance(cell, Cell) and cell.best):
        return str(escaped(label(cell)))
    value, ends = parts(cell)
    return bold.format(escaped(value)) + (f" {escaped(ends)}" if ends else "")


def _to_csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return text.getvalue()
