import json

import jax
import numpy as np
import pytest

import jaxstab
from jaxstab import cli, measures
from jaxstab.analysis.sample import as_sample
from jaxstab.runs import directory

RNG = np.random.default_rng(0)
SEEDS, EXAMPLES, CLASSES = 5, 12, 3
LABELS = RNG.integers(0, CLASSES, EXAMPLES)
LOGITS = (RNG.normal(size=(SEEDS, EXAMPLES, CLASSES)) + 2 * np.eye(CLASSES)[LABELS]).astype(np.float32)
PREDICTIONS = LOGITS.argmax(-1)
REPRESENTATIONS = RNG.normal(size=(SEEDS, 2, EXAMPLES, 6)).astype(np.float32)
QUICK = ["sd", "pairwise_disagreement", "fleiss_kappa", "jsd"]


def _write_npz(path, **arrays):
    np.savez(path / "outputs.npz", **arrays)
    return path / "outputs.npz"


def _write_seeds(path, arrays, suffix="csv", header="", name="seed_{}", numbers=None):
    path.mkdir(exist_ok=True)
    for number, one in zip(numbers or range(len(arrays)), arrays, strict=True):
        file = path / f"{name.format(number)}.{suffix}"
        file.parent.mkdir(exist_ok=True)
        if suffix == "npy":
            np.save(file, one)
        else:
            rows = [",".join(map(str, np.atleast_1d(row))) for row in one.tolist()]
            file.write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    return path


def _values(results):
    return {name: row["value"] for name, row in results.measures.items()}


@pytest.fixture(scope="module")
def expected():
    return measures.all(logits=LOGITS, labels=LABELS, only=QUICK)


def _without_failures(results):
    """As JSON, without the warning of what the number of failed seeds leaves open, which arrays do not have."""
    assert "seed failed" in results.warnings.pop()
    return results.as_json()


def test_an_npz_gives_what_the_arrays_give(tmp_path):
    arrays = {"logits": LOGITS, "labels": LABELS, "representations": REPRESENTATIONS}
    path = _write_npz(tmp_path, **arrays, other=np.zeros(3))
    results = jaxstab.measure(path)
    assert _without_failures(results) == measures.all(**arrays).as_json()
    assert list(results.measures) == [one.name for one in measures.select()]


def test_files_by_seed_of_every_kind_give_the_same(tmp_path, expected):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(map(str, LABELS)) + "\n")
    directories = {
        "npy": _write_seeds(tmp_path / "npy", LOGITS, "npy"),
        "csv": _write_seeds(tmp_path / "csv", LOGITS.astype(float)),
        "header": _write_seeds(tmp_path / "header", LOGITS.astype(float), header="negative,neutral,positive"),
    }
    for path in directories.values():
        assert _values(jaxstab.measure(path, labels=labels, only=QUICK)) == pytest.approx(_values(expected))
    without_jsd = {name: value for name, value in _values(expected).items() if name != "jsd"}
    predicted = {
        "npy": _write_seeds(tmp_path / "predicted-npy", PREDICTIONS, "npy"),
        "csv": _write_seeds(tmp_path / "predicted-csv", PREDICTIONS, header="prediction"),
        "txt": _write_seeds(tmp_path / "predicted-txt", PREDICTIONS, "txt"),
    }
    for path in predicted.values():
        results = jaxstab.measure(path, labels=labels, only=QUICK)
        assert _values(results) == pytest.approx(without_jsd)
        assert results.left_out == {"jsd": "needs logits"}


def test_hugging_face_predictions_with_class_names(tmp_path, expected):
    names = np.array(["contradiction", "entailment", "neutral"])
    for seed, one in zip((42, 7, 100, 13, 21), PREDICTIONS, strict=True):
        (tmp_path / f"run-{seed}").mkdir()
        rows = [f"{i}\t{names[c]}" for i, c in enumerate(one)]
        (tmp_path / f"run-{seed}" / "predict_results_mnli.txt").write_text(
            "index\tprediction\n" + "\n".join(rows) + "\n"
        )
    (tmp_path / "labels.txt").write_text("label\n" + "\n".join(names[LABELS]) + "\n")
    results = jaxstab.measure(tmp_path)
    assert results["fleiss_kappa"]["value"] == pytest.approx(expected["fleiss_kappa"]["value"])
    assert results["sd"]["value"] == pytest.approx(expected["sd"]["value"])
    # In the order of the seeds' numbers: 7, 13, 21, 42, 100.
    accuracies = (PREDICTIONS == LABELS).mean(1)
    assert results.scores["per_seed"] == pytest.approx(accuracies[[1, 3, 4, 0, 2]].tolist())


def test_a_subset_of_seeds(tmp_path):
    path = _write_npz(tmp_path, logits=LOGITS, labels=LABELS, seeds=np.array([3, 4, 5, 8, 9]))
    results = jaxstab.measure(path, subset="seeds=3-4,9", only=QUICK)
    assert _values(results) == _values(measures.all(logits=LOGITS[[0, 1, 4]], labels=LABELS, only=QUICK))
    assert results["sd"]["reason"] == "rests on seed 3"
    for subset, message in [
        ("seeds=3-6", "there is no seed 6; there are 3, 4, 5, 8, 9"),
        ("3-5", "subset '3-5' is not understood; write seeds=0-9"),
        ("seeds=3", "one seed only"),
    ]:
        with pytest.raises(jaxstab.InputError, match=message):
            jaxstab.measure(path, subset=subset)


def test_seeds_that_diverged_are_left_out_and_named(tmp_path):
    logits = LOGITS.copy()
    logits[2] = np.nan
    path = _write_npz(tmp_path, logits=logits, labels=LABELS)
    results = jaxstab.measure(path, only=QUICK)
    assert results.warnings[0] == "left out of every measure, because logits are not finite: seed 2"
    assert "1 of 5 seeds failed" in results.warnings[1]
    rest = measures.all(logits=np.delete(LOGITS, 2, axis=0), labels=LABELS, only=QUICK)
    assert _values(results) == _values(rest)
    # One value that is not finite is rather a mistake in the file; the seed can be left out by name.
    logits[2] = LOGITS[2]
    logits[3, 7, 1] = np.nan
    path = _write_npz(tmp_path, logits=logits, labels=LABELS)
    with pytest.raises(jaxstab.InputError, match=r"nan at seed 3, example 7, class 1; .* leave that seed out"):
        jaxstab.measure(path)
    rest = measures.all(logits=np.delete(LOGITS, 3, axis=0), labels=LABELS, only=QUICK)
    found = jaxstab.measure(path, subset="seeds=0-2,4", only=QUICK)
    assert _values(found) == _values(rest)
    # A seed that the subset leaves out is no failed seed of it.
    assert not any("not finite" in line or "seeds failed" in line for line in found.warnings)


@pytest.mark.optimiser
def test_a_run_is_measured_like_its_arrays_with_and_without_saved_representations(settings, tmp_path):
    run = jaxstab.run({**settings, "output": {**settings["output"], "keep_representations": True}})
    assert run.representations.shape == (4, 2, 30, 32)
    everything = measures.all(logits=run.logits, labels=run.labels, representations=np.asarray(run.representations))
    assert run.measures == jaxstab.measure(run.path).as_json()
    assert everything.as_json()["measures"] == run.measures["measures"]
    for name, matrices in everything.distances.items():
        np.testing.assert_array_equal(run.distances[name], matrices)
    assert "rsa_cosine" not in run.distances
    on_request = jaxstab.measure(run.path, only=["rsa_cosine"])
    given = measures.all(representations=np.asarray(run.representations), only=["rsa_cosine"])
    assert on_request.measures == given.measures
    sample = as_sample(run.path, only=["rsa", "rsa_cosine"])
    assert sample.distances["rsa_cosine"].shape == sample.distances["rsa"].shape
    assert sample.nulls["rsa_cosine"]["null_shuffled"] == on_request["rsa_cosine"]["null_shuffled"]
    some = jaxstab.measure(run.path, subset="seeds=0,2,3", only=["jsd", "cka", "op"])
    (run.path / directory.REPRESENTATIONS).unlink()
    again = jaxstab.Run.load(run.path)
    assert again.representations is None
    assert jaxstab.measure(run.path).as_json() == run.measures
    recorded = jaxstab.measure(run.path, subset="seeds=0,2,3", only=["jsd", "cka", "op", "rsa_cosine"])
    assert recorded.left_out == {"rsa_cosine": "needs representations"}
    # With three seeds an interval's end changes more than the distances do: by 4.3e-5 before jax 0.10.
    tolerance = 1e-5 if jax.__version_info__ >= (0, 10) else 1e-4
    for name in ("jsd", "cka", "op"):
        assert recorded[name]["value"] == pytest.approx(some[name]["value"], abs=1e-6)
        assert recorded[name]["interval"] == pytest.approx(some[name]["interval"], abs=tolerance)


def test_the_command_prints_tables_or_json(tmp_path, capsys):
    path = str(_write_npz(tmp_path, logits=LOGITS, labels=LABELS, representations=REPRESENTATIONS))
    assert cli.main(["measure", path, "--compat", "paper"]) == 0
    out = capsys.readouterr().out
    for word in (
        "accuracy of 5 seeds",
        "95 % interval",
        "released code",
        "shuffled",
        "By layer",
        "knn_jaccard",
        "note:",
    ):
        assert word in out
    assert cli.main(["measure", path, "--json", "--measures", "jsd, op", "--metric", "macro_f1"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed["measures"]) == ["jsd", "op"]
    assert printed["scores"]["metric"] == "macro_f1"
    assert len(printed["measures"]["op"]["layers"]) == 2
    assert cli.main(["measures"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in measures.MEASURES)
    assert cli.main(["measures", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(measures.MEASURES)


def test_predicted_labels_alone_say_what_they_leave_out(tmp_path, capsys):
    path = str(_write_seeds(tmp_path / "predicted", PREDICTIONS))
    assert cli.main(["measure", path]) == 0
    out = capsys.readouterr().out
    assert "left out (needs labels): sd, normalised_disagreement, ambiguity, discrepancy" in out
    assert "left out (needs logits): jsd, generalised_jsd" in out
    assert "stable_fraction" in out


def _spoiled(name, array):
    arrays = {"logits": LOGITS, "labels": LABELS, "representations": REPRESENTATIONS}
    return lambda path: _write_npz(path, **{**arrays, name: array})


def _with(array, place, value):
    array = array.copy()
    array[place] = value
    return array


def _pickled(path):
    np.savez(path / "pickled.npz", logits=np.array([{}], dtype=object))
    return path / "pickled.npz"


def _ragged(path):
    _write_seeds(path / "by", PREDICTIONS)
    (path / "by" / "seed_3.csv").write_text("0\n1\n")
    return path / "by"


def _mixed(path):
    _write_seeds(path / "by", PREDICTIONS)
    np.save(path / "by" / "seed_9.npy", PREDICTIONS[0])
    return path / "by"


def _words(path):
    rows = "\n".join(["0.1,0.2"] * 3 + ["0.1,high"])
    (path / "by").mkdir()
    for seed in range(2):
        (path / "by" / f"{seed}.csv").write_text(rows)
    return path / "by"


def _empty_file(path):
    (path / "by").mkdir()
    (path / "by" / "0.csv").write_text("")
    return path / "by"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_spoiled("logits", LOGITS[0]), "logits: 2 axes (12, 3); expected [S, N, C]"),
        (_spoiled("labels", LABELS[:-1]), "numbers of examples differ: logits 12, representations 12, labels 11"),
        (_spoiled("representations", REPRESENTATIONS[:-1]), "numbers of seeds differ: logits 5, representations 4"),
        (_spoiled("representations", REPRESENTATIONS[:, 0]), "add the axis of layers"),
        (_spoiled("logits", _with(LOGITS, (3, 7, 1), np.nan)), "logits: nan at seed 3, example 7, class 1"),
        (
            _spoiled("representations", _with(REPRESENTATIONS, (2, 1, 4, 5), np.inf)),
            "representations: inf at seed 2, layer 2, example 4, feature 5",
        ),
        (_spoiled("labels", _with(LABELS, 4, 3)), "labels: 3 at example 4 is out of range; there are 3 classes"),
        (_spoiled("seeds", np.arange(3)), "seeds: 3 numbers for 5 seeds"),
        (lambda path: _write_npz(path, logits=LOGITS[:1], labels=LABELS), "one seed only"),
        (lambda path: _write_npz(path, weights=LOGITS), "holds weights; expected logits, predictions, labels"),
        (_pickled, "pickled.npz: damaged or not an npz file"),
        (_ragged, "seed_3.csv: shape (2,), but seed_0.csv has (12,)"),
        (_mixed, "files of .csv and .npy; keep one kind"),
        (_words, "0.csv: 'high' in row 4 of the table is no number"),
        (_empty_file, "0.csv: cannot be read as a table"),
        (lambda path: path / "none", "none: no such file or directory"),
        (lambda path: path, "no run, and no file by seed"),
    ],
)
def test_bad_arrays_are_one_line(tmp_path, capsys, make, message):
    path = make(tmp_path)
    assert cli.main(["measure", str(path)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert str(path) in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


def test_unknown_measures_and_metrics_are_named(tmp_path, capsys):
    path = str(_write_npz(tmp_path, logits=LOGITS, labels=LABELS))
    for arguments, message in [
        (["--measures", "ckaa"], "no measure 'ckaa'; there are sd, pairwise_disagreement"),
        (
            ["--metric", "auc"],
            "unknown metric 'auc'; use accuracy, balanced_accuracy, f1, macro_f1, ",
        ),
        (["--compat", "none"], "'none' is not 'paper'"),
        (["--labels", "none.csv"], "none.csv: cannot be read as a table"),
    ]:
        assert cli.main(["measure", path, *arguments]) == 2
        assert message in capsys.readouterr().err
