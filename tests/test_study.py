"""The programs of docs/study.md on runs of a tiny model."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxstab import Sample

ROOT = Path(__file__).parents[1]
FIGURES = ("coverage", "verdicts", "ranking", "sources", "layers")


def _run(name, *arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / name), *map(str, arguments)]
    one_device = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=one_device).stdout


@pytest.fixture(scope="module")
def kept(checkpoint, task_directory, tmp_path_factory):
    """What is kept of two methods and of the two designs that tell sources apart."""
    directory = tmp_path_factory.mktemp("study")
    tiny = [
        *("sst2", "--data", task_directory, "--runs", directory / "runs", "--kept", directory / "kept"),
        *("--model.source", checkpoint, "--task.train_examples", 24),
    ]
    _run("study_runs.py", *tiny, "--seeds.count", 24, "--only", "standard", "llrd")
    levels = [word for name in ("init", "order", "dropout") for word in (f"--seeds.{name}", "[0, 1]")]
    _run("study_runs.py", *tiny, *levels, "--only", "crossed")
    _run("study_runs.py", *tiny, "--seeds.count", 6, "--only", "rounding")
    return directory / "kept"


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES)
def test_figures_are_drawn_from_what_was_kept(figure, kept, tmp_path):
    page = tmp_path / "study.md"
    page.write_text(f"before\n<!-- benchmarks/study.py {figure} -->\nold\n<!-- end -->\n")
    printed = _run("study.py", figure, "--kept", kept, "--draws", 10, "--output", tmp_path, "--docs", page)
    assert (tmp_path / f"study-{figure}.svg").read_text().startswith("<?xml")
    assert printed.split("drawn:")[0].strip() in page.read_text()
    assert "old" not in page.read_text()
    assert "nan" not in printed.lower()
    assert json.loads((kept / f"{figure}-numbers.json").read_text())["draws"] == 10


@pytest.mark.slow
def test_what_is_kept_has_the_measures_of_the_run(kept):
    recorded = json.loads((kept / "sst2-llrd.json").read_text())["measured"]
    with np.load(kept / "sst2-llrd.npz") as arrays:
        logits = arrays["logits"].astype(np.float32)
        sample = Sample.from_arrays("llrd", logits=logits, labels=arrays["labels"].astype(np.int32))
        cka = arrays["cka"].astype(np.float64).mean()
    np.testing.assert_allclose(sample.scores, recorded["scores"]["per_seed"], atol=1e-6)
    rows = sample.rows(["pairwise_disagreement", "jsd"])
    for name, row in rows.items():
        assert row["value"] == pytest.approx(recorded["measures"][name]["value"], rel=2e-3, abs=1e-6)
    assert cka == pytest.approx(recorded["measures"]["cka"]["value"], rel=2e-3, abs=1e-6)


@pytest.mark.slow
def test_a_run_without_representations_counts_where_it_can(kept, tmp_path):
    shutil.copytree(kept, tmp_path / "kept")
    file = tmp_path / "kept" / "sst2-llrd.npz"
    with np.load(file) as arrays:
        np.savez(file, **{name: arrays[name] for name in ("logits", "labels", "seeds")})
    printed = _run("study.py", "ranking", "--kept", tmp_path / "kept", "--draws", 10, "--output", tmp_path)
    llrd = next(line for line in printed.splitlines() if "| llrd |" in line)
    assert llrd.endswith("| - | - |")
    assert "| sst2 | mean score |" in printed
    assert "| sst2 | 1 - CKA |" not in printed


@pytest.mark.slow
def test_without_runs_one_line_says_how_to_make_some(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as caught:
        _run("study.py", "ranking", "--kept", tmp_path)
    assert (
        caught.value.stderr == f"{tmp_path}: no runs kept there; make some with: python benchmarks/study_runs.py TASK\n"
    )


def test_the_largest_run_of_a_method_is_taken(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from study import largest

    runs = dict.fromkeys(("standard", "lora", "crossed"))
    assert largest(runs) == ["standard", "lora"]
    assert largest({**runs, "thousand": None}) == ["thousand", "lora"]


def test_rounding_is_compared_with_other_seeds(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from study import rounding

    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=4000)
    first = np.where(rng.random((30, 4000)) < 0.8, labels, 1 - labels)
    second = np.where(rng.random((30, 4000)) < 0.1, 1 - first, first)  # a tenth of the votes is otherwise
    votes = np.stack([first, second], axis=1).reshape(60, -1)
    sample = Sample.from_arrays("twice", predictions=votes, labels=labels, only=["pairwise_disagreement"])
    found = {row["measure"]: row for row in rounding(sample)}["pairwise_disagreement"]
    pairs = [(i, j) for i in range(60) for j in range(60) if i // 2 != j // 2]
    others = np.mean([(votes[i] != votes[j]).mean() for i, j in pairs])
    assert found["share"] == pytest.approx((first != second).mean() / others, rel=1e-6)
    assert found["interval"][0] < found["share"] < found["interval"][1]
    assert found["interval"][1] - found["interval"][0] < 0.05


def _votes(seeds, right, rng):
    """Seeds that are right on each of 100 examples by chance."""
    return {"logits": np.eye(2)[(rng.random((seeds, 100)) < right).astype(int)], "labels": np.ones(100, int)}


def test_the_usual_interval_of_an_sd_holds_for_normal_scores_only(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from study import by_chi_square

    rng = np.random.default_rng(0)
    normal = Sample.from_arrays("normal", **_votes(4000, 0.8, rng), only=["sd"])
    failing = Sample.from_arrays(
        "failing", **_votes(4000, np.where(rng.random((4000, 1)) < 0.1, 0.5, 0.8), rng), only=["sd"]
    )
    shares = [by_chi_square(one, 20, 500, np.random.default_rng(1)).share.value for one in (normal, failing)]
    assert shares[0] == pytest.approx(0.95, abs=0.03)
    assert shares[1] < 0.88


def test_numbers_of_a_task_do_not_depend_on_the_others(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from study import ranking

    rng = np.random.default_rng(0)
    tasks = {
        task: {
            name: Sample.from_arrays(name, **_votes(24, right, rng), only=["jsd", "pairwise_disagreement"])
            for name, right in (("standard", 0.8), ("lora", 0.79))
        }
        for task in ("one", "other")
    }
    both = ranking(tasks, {}, 20)["rows"]
    alone = ranking({"other": tasks["other"]}, {}, 20)["rows"]
    assert alone
    assert [row for row in both if row["task"] == "other"] == alone
