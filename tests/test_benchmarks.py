"""Benchmarks run to their end at their smallest size, and write their tables where they say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _run(name, *arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "row"),
    [
        ("coverage.py", ["--seeds", 5, "--replicates", 4], "| sd |"),
        ("verdicts.py", ["--seeds", 8, "--trials", 2], "| one real effect | 8 | paired |"),
    ],
)
def test_simulations_write_their_tables(tmp_path, name, arguments, row):
    page = tmp_path / "page.md"
    page.write_text(f"before\n<!-- benchmarks/{name} -->\nold\n<!-- end -->\nafter\n")
    _run(name, *arguments, "--docs", page)
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("<!-- end -->\nafter\n")
    assert "old" not in written
    assert row in written


@pytest.mark.slow
def test_a_page_without_markers_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing here\n")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        _run("verdicts.py", "--seeds", 4, "--trials", 1, "--docs", page)
    assert "no markers <!-- benchmarks/verdicts.py -->" in caught.value.stderr
    assert page.read_text() == "nothing here\n"


@pytest.mark.slow
def test_many_seeds_are_measured_as_a_whole(tmp_path):
    path = tmp_path / "many.json"
    sizes = ["--many", 4, 70, "--layers", 2, "--examples", 30, "--features", 12, "--output", path]
    assert "| 70 | 30 |" in _run("measures.py", *sizes)
    four, seventy = json.loads(path.read_text())["results"]
    assert seventy["all"]["array"] == 70 * 2 * 30 * 12 * 4
    assert four["paper"]["seconds"] > 0
