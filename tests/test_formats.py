"""Tables as LaTeX, Markdown and CSV: what a paper needs, and text that stays text."""

import csv
import io
import re
import shutil
import subprocess

import pytest

from jaxstab.report.formats import (
    Cell,
    Table,
    common_decimals,
    decimals,
    interval,
    number,
    parts,
    to_text,
    with_interval,
)

NASTY = 'a & b_c 100% $x$ #1 {~^} \\ <|> [*] -- "q" é\nnext'
# What LaTeX shows for each command that we write.
SHOWN = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"\textsuperscript{*}": "*",
    "{[}": "[",
    "-{}-": "--",
    "$-$": "-",
    **{rf"\{one}": one for one in "&%$#_{}"},
}


def _as_shown(latex):
    """What LaTeX would print of a cell."""
    return re.sub(
        "|".join(re.escape(one) for one in sorted(SHOWN, key=len, reverse=True)), lambda m: SHOWN[m[0]], latex
    )


def _table():
    rows = [
        [Cell("sd", label="SD of scores", meaning="x"), Cell("0.02 (0.01 to 0.04)", best=True), "0.1 (too few seeds)"],
        [NASTY, "-0.3*", "-"],
        ["[x]", "1", Cell("12", best=True)],
    ]
    return Table("rte: 8 seeds", ["measure", "a_b", "c"], rows, "5 % of --delta")


def test_latex_is_a_table_for_a_paper():
    lines = to_text([_table()], "latex").splitlines()
    assert lines == [
        r"\begin{table}[t]",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"measure & a\_b & c \\",
        r"\midrule",
        r"SD of scores & \textbf{0.02} (0.01 to 0.04) & 0.1 (too few seeds) \\",
        lines[7],
        r"{[}x] & 1 & \textbf{12} \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\caption{rte: 8 seeds. 5 \% of -{}-delta}",
        r"\label{tab:rte-8-seeds}",
        r"\end{table}",
    ]
    assert to_text([Table("t", ["a"], [["x" * 70]])], "latex").startswith(r"\begin{table*}[t]")
    first, value, last = re.split(r"(?<!\\) & ", lines[7].removesuffix(r" \\"))
    assert _as_shown(first) == " ".join(NASTY.split())
    assert (value, last) == (r"$-$0.3\textsuperscript{*}", "-")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX")
def test_latex_compiles(tmp_path):
    text = to_text([_table(), Table("t", ["a"], [["é"]])], "latex")
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{text}\end{{document}}"
    (tmp_path / "t.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_markdown_and_csv():
    markdown = to_text([_table()], "markdown").splitlines()
    assert markdown[:4] == ["**rte: 8 seeds**", "", "| measure | a\\_b | c |", "| --- | ---: | ---: |"]
    assert markdown[4] == "| SD of scores | **0.02** (0.01 to 0.04) | 0.1 (too few seeds) |"
    assert all(len(re.split(r"(?<!\\)\|", line)) == 5 for line in markdown[2:7])  # 3 cells between 4 bars
    read = list(csv.reader(io.StringIO(to_text([_table()], "csv"))))
    assert read[1] == ["sd", "0.02 (0.01 to 0.04)", "0.1 (too few seeds)"]  # the identifier, nothing bold
    assert read[2][0] == NASTY


@pytest.mark.parametrize(
    ("ends", "places"),
    [((0.875, 0.904), 3), ((0.0024, 0.0047), 4), ((0.97725, 0.97837), 5), ((26.85, 27.85), 2), ((0, 250), 0)],
)
def test_decimals_follow_the_interval(ends, places):
    assert decimals(ends) == places


def test_values_beside_each_other_have_equal_decimals():
    assert common_decimals([(0.87, 0.90), None, (0.5, 0.9)]) == 2
    assert common_decimals([(0.01, 0.05), (0.003, 0.004)]) == 4  # 3 would leave nothing of the narrow one
    assert common_decimals([None, (0.1, 0.1)]) is None


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"value": 0.8123456, "interval": [0.80, 0.83]}, "0.812 (0.800 to 0.830)"),
        ({"value": 2e-6, "interval": [1e-6, 3e-6]}, "0.000002 (0.000001 to 0.000003)"),
        ({"value": 2e-9, "interval": [1e-9, 3e-9]}, "2.0e-09 (1.0e-09 to 3.0e-09)"),
        ({"value": 0.0, "interval": [0.0, 0.0]}, "0.0000"),
        ({"value": 0.0, "interval": None, "reason": "no difference seen"}, "0.0000 (no difference seen)"),
        ({"value": None}, "-"),
        (None, "-"),
    ],
)
def test_a_value_never_has_an_interval_of_zeros(row, text):
    assert with_interval(row) == text
    assert parts(text) == tuple(text.split(" ", 1)) if " " in text else (text, "")
    assert "(0.0000 to 0.0000)" not in text


def test_numbers_that_decimals_would_hide():
    assert number(3e-7) == "3.0e-07"
    assert number(-1e-14, sign=True) == "0.0000"
    assert interval([0, 2e-9]) == "0 to 2.0e-09"
    assert interval([0.5, 0.5]) == "-"


def test_columns_of_numbers_are_known():
    rows = [["a", "0.1 (too few seeds)", "more than 1,000", "-", "1 a"], ["b", "-", "12", "-", "2"]]
    assert Table("t", list("vwxyz"), rows).numeric == [False, True, True, True, False]
