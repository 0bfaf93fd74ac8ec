"""Files by seed in every layout: what can be measured can be compared, and what cannot is named."""

import numpy as np
import pandas as pd
import pytest

import jaxstab
from jaxstab import cli
from jaxstab.analysis.sample import as_sample


def _error(capsys, *arguments):
    """The one line that a command prints when it fails."""
    assert cli.main([str(one) for one in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err


def _write_layout(path, layout, logits, labels):
    """Saves logits [S, N, C] of seeds 3, 5, ... and labels in one of the layouts that are read."""
    seeds = 3 + 2 * np.arange(len(logits))
    path.mkdir(parents=True)
    if layout == "one file":
        np.savez(path / "all.npz", logits=logits, labels=labels, seeds=seeds)
        return path / "all.npz"
    for seed, one in zip(seeds, logits, strict=True):
        folder = path / f"seed-{seed}"
        if layout == "folders":
            folder.mkdir()
            np.save(folder / "logits.npy", one)
            np.save(folder / "labels.npy", labels)
        elif layout == "folders of tables":
            folder.mkdir()
            np.savetxt(folder / "predictions.csv", one.argmax(1), fmt="%d")
        elif layout == "arrays":
            np.save(f"{folder}.npy", one)
        else:
            np.savetxt(f"{folder}.csv", one, delimiter=",", header="a,b,c", comments="")
    if layout != "folders":
        np.savetxt(path / "labels.csv", labels, fmt="%d")
    return path


@pytest.mark.parametrize("layout", ["one file", "folders", "folders of tables", "arrays", "tables"])
def test_every_layout_is_measured_and_compared(layout, tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=40)
    runs = [(rng.normal(size=(9, 40, 3)) + size * np.eye(3)[labels]).astype(np.float32) for size in (1, 2)]
    paths = [_write_layout(tmp_path / f"{i}", layout, logits, labels) for i, logits in enumerate(runs)]
    only = ["sd", "pairwise_disagreement"]
    direct = [jaxstab.Sample.from_arrays(name, logits=one, labels=labels) for name, one in zip("ab", runs, strict=True)]
    for path, sample in zip(paths, direct, strict=True):
        found, expected = jaxstab.measure(path, only=only), jaxstab.measure(sample, only=only)
        assert found["pairwise_disagreement"] == expected["pairwise_disagreement"]
        assert found.scores == expected.scores
    compared = jaxstab.compare(dict(zip("ab", paths, strict=True)), only=only)
    assert compared.scores == {"40 examples": {sample.name: sample.scores.tolist() for sample in direct}}
    assert compared.paired == {"40 examples": True}


def test_names_of_classes_have_the_order_of_the_columns(tmp_path):
    logits = np.eye(3)[[0, 1, 2, 1]]
    for seed in (1, 2):
        np.savetxt(tmp_path / f"{seed}.csv", logits, delimiter=",", header="low,middle,high", comments="")
    (tmp_path / "labels.csv").write_text("label\nlow\nmiddle\nhigh\nhigh\n")
    assert as_sample(tmp_path).scores.tolist() == [0.75, 0.75]
    (tmp_path / "labels.csv").write_text("label\nbad\nfair\ngood\ngood\n")
    sample = as_sample(tmp_path)
    assert sample.scores.tolist() == [0.75, 0.75]
    assert sample.notes == ("classes of the logits are taken in this order: bad, fair, good",)


def test_a_directory_that_holds_no_outputs_itself_says_what_to_give(tmp_path, capsys):
    logits = np.random.default_rng(0).normal(size=(3, 8, 2)).astype(np.float32)
    for name in ("mixout", "standard"):
        _write_layout(tmp_path / "runs" / name, "arrays", logits, np.arange(8) % 2)
    runs = tmp_path / "runs"
    for verb in ("measure", "compare", "validity", "seeds", "report"):
        message = _error(capsys, verb, runs)
        assert f"{runs}: no run, and no file by seed in it, but mixout, standard; give them by themselves: " in message
    one = runs / "mixout/seed-3.npy"
    assert f"logits of one seed (8, 2); give the directory of all: {one.parent}" in _error(capsys, "compare", one, one)
    (tmp_path / "a.txt").write_text("0\n")
    assert f"of files by seed give the directory {tmp_path}" in _error(capsys, "measure", tmp_path / "a.txt")


def test_labels_and_predictions_must_name_the_same_classes(tmp_path, capsys):
    for seed in (1, 2):
        (tmp_path / f"{seed}.txt").write_text("index\tprediction\n0\tyes\n1\tno\n2\tno\n3\tyes\n")
    for name, labels, message in (
        ("numbers.csv", "label\n1\n0\n0\n1\n", "labels are 0, 1, but predictions no, yes; give the classes the same"),
        ("others.csv", "label\nja\nnein\nja\nja\n", "labels are ja, nein, but predictions no, yes; none is the same"),
        ("wide.csv", "x,y\n1,2\n1,2\n1,2\n1,2\n", "2 columns; name the column of the true labels `label`"),
        ("test.jsonl", '{"text": "a"}\n' * 4, "no column `label`; there are text"),
        ("test.parquet", "PAR1", "test.parquet: cannot be read"),
    ):
        (tmp_path / "given").mkdir(exist_ok=True)
        file = tmp_path / "given" / name
        file.write_text(labels)
        assert message in (error := _error(capsys, "compare", tmp_path, f"b={tmp_path}", "--labels", file))
        assert str(file) in error
    frame = pd.DataFrame({"sentence": list("abcd"), "label": ["yes", "no", "no", "no"]})
    frame.to_parquet(file)
    assert as_sample(tmp_path, labels=file).scores.tolist() == [0.75, 0.75]
    frame.to_csv(file.with_suffix(".csv"), index=False)
    assert as_sample(tmp_path, labels=file.with_suffix(".csv")).scores.tolist() == [0.75, 0.75]


def test_labels_of_every_folder_must_be_the_same(tmp_path, capsys):
    path = _write_layout(tmp_path / "by", "folders", np.ones((2, 4, 2), np.float32), np.array([0, 1, 0, 1]))
    np.save(path / "seed-5/labels.npy", np.array([0, 1, 1, 1]))
    assert f"{path}/seed-5/labels.npy: other labels than" in _error(capsys, "measure", path)


def test_seeds_without_numbers_are_compared_unpaired(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("ann", "bob", "cy", "dee", "eve", "flo", "gus", "hal", "ida"):
        np.save(tmp_path / f"{name}.npy", rng.integers(2, size=30))
    compared = jaxstab.compare({"a": tmp_path, "b": tmp_path}, only=["pairwise_disagreement"])
    assert compared.paired == {"30 examples": False}
    assert "30 examples: the seeds of a, b have no numbers, so they are compared unpaired" in compared.notes
