"""What other tools leave: the files in tests/tools are of their own making (tests/tools/make.py)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import entropy

import jaxstab
from jaxstab import cli
from jaxstab.analysis.sample import as_sample, as_samples
from jaxstab.runs.reading import load_outputs, load_tasks

TOOLS = Path(__file__).parent / "tools"
LM_EVAL, TRAINER, WANDB = TOOLS / "lm_eval", TOOLS / "trainer", TOOLS / "wandb"
SEEDS = [1, 2, 3]


def _error(capsys, *arguments):
    """The one line that a command prints when it fails."""
    assert cli.main([str(one) for one in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err


def _lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def _lm_eval_says(task, name):
    """The score of each seed in the results of lm-evaluation-harness itself."""
    files = [next(LM_EVAL.glob(f"*seed-{seed}/results_*.json")) for seed in SEEDS]
    return [json.loads(file.read_text())["results"][task][name] for file in files]


def _samples(task, seed=1):
    return _lines(next(LM_EVAL.glob(f"*seed-{seed}/samples_{task}_*")))


@pytest.mark.parametrize("task", ["colours", "my_words"])
def test_lm_eval_choices_are_logits_and_labels(task):
    outputs = load_outputs(LM_EVAL, task=task)
    assert (outputs.seeds, outputs.metric, outputs.task) == (SEEDS, "accuracy", task)
    sample = as_sample(LM_EVAL, task=task)
    assert sample.scores == pytest.approx(_lm_eval_says(task, "acc,none"))
    for seed, logits in zip(SEEDS, outputs.arrays["logits"], strict=True):
        for row, one in zip(_samples(task, seed), logits, strict=True):
            likelihoods = [float(choice[0]) for choice in row["filtered_resps"]]
            np.testing.assert_allclose(softmax(one)[: len(likelihoods)], softmax(likelihoods), rtol=1e-5)
            assert softmax(one)[len(likelihoods) :].sum() == 0
    answers = [row["doc"]["answer"] for row in _samples(task)]
    choices = [row["doc"]["choices"] for row in _samples(task)]
    known = [one if isinstance(one, int) else texts.index(one) for one, texts in zip(answers, choices, strict=True)]
    assert outputs.arrays["labels"].tolist() == known


def test_samples_of_earlier_versions_of_lm_eval_are_read_too(tmp_path):
    shutil.copytree(LM_EVAL, tmp_path, dirs_exist_ok=True)
    for file in tmp_path.rglob("samples_my_words_*"):
        rows = _lines(file)
        for row in rows:  # numbers instead of texts, and lists instead of names
            row["filtered_resps"] = [[float(value), greedy == "True"] for value, greedy in row["filtered_resps"]]
            row["arguments"] = [[one["arg_0"], one["arg_1"]] for one in row["arguments"].values()]
            del row["doc_hash"], row["filter"]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    old, new = (load_outputs(path, task="my_words").arrays for path in (tmp_path, LM_EVAL))
    for name in ("logits", "labels"):
        np.testing.assert_array_equal(old[name], new[name])


def test_choices_that_an_example_lacks_do_not_count():
    found = jaxstab.measure(LM_EVAL, task="my_words", only=["jsd"]).distances["jsd"][0]
    divergences = []
    for one, other in zip(_samples("my_words", 1), _samples("my_words", 2), strict=True):
        p, q = (softmax([float(choice[0]) for choice in row["filtered_resps"]]) for row in (one, other))
        divergences.append((entropy(p, (p + q) / 2) + entropy(q, (p + q) / 2)) / 2)
    assert found[0, 1] == pytest.approx(np.mean(divergences), rel=1e-4)


def test_lm_eval_by_length_and_by_exact_match():
    normalised = as_sample(LM_EVAL, task="colours", metric="acc_norm")
    assert normalised.scores == pytest.approx(_lm_eval_says("colours", "acc_norm,none"))
    assert "per character" in normalised.notes[0]
    for name in ("first-word", "last-word"):
        free = as_sample(LM_EVAL, task="free", metric=f"exact_match,{name}")
        assert free.scores == pytest.approx(_lm_eval_says("free", f"exact_match,{name}"))
        assert free.metric == "exact_match"
    assert as_sample(LM_EVAL, task="free").scores == pytest.approx(_lm_eval_says("free", "exact_match,first-word"))
    rows = [[row for row in _samples("free", seed) if row["filter"] == "first-word"] for seed in SEEDS]
    right = np.array([[row["exact_match"] for row in one] for one in rows])
    differ = [(right[i] != right[j]).mean() for i, j in ((0, 1), (0, 2), (1, 2))]
    results = jaxstab.measure(LM_EVAL, task="free", only=["sd", "pairwise_disagreement", "ambiguity"])
    assert results["pairwise_disagreement"]["value"] == pytest.approx(np.mean(differ))
    assert results["sd"]["value"] == pytest.approx(right.mean(1).std(ddof=1))
    assert results.left_out == {"ambiguity": "needs labels"}
    assert "right and wrong by exact_match" in results.warnings[0]


def test_every_task_is_compared_and_one_is_measured(capsys):
    assert [one.task for one in load_tasks(LM_EVAL)] == ["colours", "free", "my_words"]
    compared = jaxstab.compare({"a": LM_EVAL, "b": LM_EVAL}, only=["sd"])
    assert list(compared.values) == ["colours", "free", "my_words"]
    assert list(jaxstab.compare({"a": LM_EVAL, "b": LM_EVAL}, task="free").values) == ["free"]
    message = _error(capsys, "measure", LM_EVAL)
    assert "3 tasks: colours, free, my_words; choose one: --task colours" in message
    assert "no task colour; there are colours, free, my_words" in _error(capsys, "seeds", LM_EVAL, "--task", "colour")


def test_tasks_with_the_same_labels_are_told_apart(tmp_path):
    labels = np.arange(20) % 2
    for run in ("s1", "s2", "s3"):
        (tmp_path / run).mkdir()
        for task in ("x", "y"):
            np.save(tmp_path / run / f"predictions_{task}.npy", labels)
    np.save(tmp_path / "labels.npy", labels)
    compared = jaxstab.compare({"a": tmp_path, "b": tmp_path}, only=["sd"])
    assert list(compared.values) == ["x", "y"]


def _copy_runs(target, names):
    """Runs of the first model under other names: folder, date and seeds."""
    source = next(LM_EVAL.glob("*seed-1"))
    for folder, date, seed in names:
        (target / folder).mkdir(exist_ok=True)
        results = json.loads(next(source.glob("results_*.json")).read_text())
        results["config"] |= dict.fromkeys(("random_seed", "numpy_seed", "torch_seed", "fewshot_seed"), seed)
        (target / folder / f"results_{date}.json").write_text(json.dumps(results))
        shutil.copy(next(source.glob("samples_colours_*")), target / folder / f"samples_colours_{date}.jsonl")
    return target


def test_lm_eval_runs_of_one_model_differ_by_their_seeds(tmp_path):
    days = [f"2026-01-0{day}T10-00-00.5" for day in (1, 2, 3)]
    path = _copy_runs(tmp_path, [("model", day, seed) for day, seed in zip(days, (7, 5, 9), strict=True)])
    assert load_outputs(path).seeds == [5, 7, 9]
    # The same model and seeds again: the newer samples count.
    newest = _copy_runs(tmp_path, [("model", "2026-02-01T10-00-00.5", 7)]) / "model"
    file = newest / "samples_colours_2026-02-01T10-00-00.5.jsonl"
    rows = _lines(file)
    first, second, *rest = rows[0]["filtered_resps"]
    rows[0] |= {"filtered_resps": [second, first, *rest], "acc": 1 - rows[0]["acc"]}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:1]))
    with pytest.raises(jaxstab.InputError, match="1 samples, but"):
        load_outputs(path)


def _change(path, change):
    """A copy of the samples in which a line of the second seed is changed."""
    shutil.copytree(LM_EVAL, path, dirs_exist_ok=True)
    file = next(path.glob("*seed-2/samples_colours_*"))
    lines = file.read_text().splitlines()
    lines[3] = change(json.loads(lines[3]))
    file.write_text("\n".join(lines) + "\n")
    return file


def test_samples_that_cannot_be_read_are_named(tmp_path, capsys):
    file = _change(tmp_path, lambda row: json.dumps(row)[:50])
    assert f"{file}: line 4 is no sample" in _error(capsys, "measure", tmp_path, "--task", "colours")
    _change(tmp_path, lambda row: json.dumps(row | {"doc_hash": "another"}))
    assert "document 3 is not the same as in" in _error(capsys, "measure", tmp_path, "--task", "colours")
    message = _error(capsys, "measure", LM_EVAL, "--task", "colours", "--metric", "bleu")
    assert "no metric bleu; there are acc, acc_norm" in message
    message = _error(capsys, "measure", LM_EVAL, "--task", "free", "--metric", "f1")
    assert "no metric f1; it needs choices, of which the samples hold none; there are exact_match" in message
    message = _error(capsys, "measure", LM_EVAL, "--task", "free", "--metric", "exact_match,strict")
    assert "no samples of filter strict; there are first-word, last-word" in message


def test_labels_that_do_not_explain_the_metric_are_not_used(tmp_path):
    _change(tmp_path, lambda row: json.dumps(row | {"acc": 1 - row["acc"]}))
    outputs = load_outputs(tmp_path, task="colours")
    assert set(outputs.arrays) == {"predictions", "scores"}
    assert outputs.metric == "acc"


def _trainer_says(key):
    return [json.loads((TRAINER / f"seed-{seed}/all_results.json").read_text())[key] for seed in SEEDS]


def test_trainer_predictions_with_labels_from_the_data():
    sample = as_sample(TRAINER, labels=TRAINER / "test.jsonl")
    assert [one.init for one in sample.identities] == SEEDS
    assert sample.scores == pytest.approx(_trainer_says("predict_accuracy"))
    assert len(set(sample.scores)) > 1
    # Indices of classes are those of the model, so that F1 is that of its class 1.
    labels = [row["label"] for row in _lines(TRAINER / "test.jsonl")]
    assert sample.inputs.labels.tolist() == labels
    rows = (TRAINER / "seed-2/predict_results.txt").read_text().splitlines()[1:]
    assert sample.inputs.predictions[1].tolist() == [int(row.endswith("positive")) for row in rows]


def test_trainers_that_did_not_predict_are_named(tmp_path):
    shutil.copytree(TRAINER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "seed-2/predict_results.txt").unlink()
    outputs = load_outputs(tmp_path)
    assert (outputs.seeds, outputs.notes) == ([1, 3], ("left out, because they hold no predictions: seed-2",))


def test_trainer_scores_without_predictions(tmp_path, capsys):
    sample = as_sample(TRAINER, metric="eval_accuracy")
    assert sample.scores == pytest.approx(_trainer_says("eval_accuracy"))
    shutil.copytree(TRAINER, tmp_path, dirs_exist_ok=True)
    for file in tmp_path.glob("*/predict_results.txt"):
        file.unlink()
    assert load_outputs(tmp_path).metric == "predict_accuracy"
    for file in tmp_path.glob("*/*_results.json"):
        file.unlink()
    last = load_outputs(tmp_path)
    states = [json.loads((tmp_path / f"seed-{seed}/trainer_state.json").read_text()) for seed in SEEDS]
    entries = [[one for one in state["log_history"] if "eval_accuracy" in one][-1] for state in states]
    assert (last.metric, last.arrays["scores"].tolist()) == ("eval_accuracy", [one["eval_accuracy"] for one in entries])
    (tmp_path / "seed-3/trainer_state.json").unlink()  # a checkpoint has one too
    assert load_outputs(tmp_path).seeds == SEEDS
    message = _error(capsys, "measure", tmp_path, "--metric", "eval_f1")
    assert f"{tmp_path}/seed-1: no eval_f1; scores of all seeds: eval_accuracy" in message
    assert "eval_loss: give a score of which more is better" in _error(
        capsys, "measure", tmp_path, "--metric", "eval_loss"
    )
    assert "one seed only" in _error(capsys, "measure", tmp_path / "seed-1")
    (tmp_path / "seed-2/trainer_state.json").write_text("{")
    assert f"{tmp_path}/seed-2/trainer_state.json: damaged" in _error(capsys, "measure", tmp_path)


def test_runs_exported_by_weights_and_biases(capsys):
    outputs = load_outputs(WANDB / "runs.csv")
    assert (outputs.seeds, outputs.metric) == ([0, 1, 5, 10], "eval/accuracy")
    assert outputs.arrays["scores"].tolist() == [0.8125, 0.835, 0.8275, 0.79]
    assert outputs.notes == ("left out, because they have no final score: seed 2 (crashed), seed 4 (no score)",)
    assert load_outputs(WANDB / "runs.csv", metric="accuracy").metric == "eval/accuracy"
    results = jaxstab.measure(WANDB / "runs.csv", only=["sd"])
    assert results["sd"]["value"] == pytest.approx(np.std([0.8125, 0.835, 0.8275, 0.79], ddof=1))
    assert outputs.notes[0] in results.warnings
    assert results.scores["joint_interval"] is None
    chart = load_outputs(WANDB / "chart.csv")
    assert (chart.seeds, chart.arrays["scores"].tolist()) == ([1, 2, 7], [0.8, 0.78, 0.77])
    assert "eval/loss: give a score" in _error(capsys, "measure", WANDB / "runs.csv", "--metric", "loss")


def test_runs_exported_by_weights_and_biases_are_compared(tmp_path, capsys):
    rng = np.random.default_rng(0)
    files = []
    for name, mean in (("standard", 80.0), ("better", 84.0)):
        scores = rng.normal(mean, 1, 10)
        rows = [f'"{name}-{seed}","finished","{seed}","{score}"' for seed, score in enumerate(scores)]
        (tmp_path / f"{name}.csv").write_text('"Name","State","seed","bleu"\n' + "\n".join(rows) + "\n")
        files.append(tmp_path / f"{name}.csv")
    compared = jaxstab.compare(files)
    assert compared.paired == {"given scores": True}
    means = [pd.read_csv(file)["bleu"].mean() for file in files]
    assert f"better bleu (+{means[1] - means[0]:.3f})" in compared.verdict("given scores", "better")
    assert "scores only; validity needs predictions" in _error(capsys, "validity", files[0])


def test_scores_alone_make_a_report(tmp_path, capsys):
    page = tmp_path / "report.html"
    assert cli.main(["report", f"standard={WANDB / 'runs.csv'}", "-o", str(page)]) == 0
    assert "mean eval/accuracy 0.816 (SD 0.020) over 4 seeds" in page.read_text()
    assert "seed 2 (crashed)" in page.read_text()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed,accuracy\n0,0.8\n1,high\n", "accuracy is 'high' in line 3"),
        ("seed,accuracy\n0,0.8\none,0.7\n", "seed is 'one' in line 3, no seed"),
        ("seed,lr,accuracy\n0,1,0.8\n0,2,0.7\n", "seed 0 in lines 2, 3; they differ in lr (1, 2); keep one setting"),
        ("seed,one,two\n0,1,3\n1,2,4\n", "which column holds the scores? choose one: --metric one or --metric two"),
        ("seed,a accuracy,b accuracy\n0,1,3\n1,2,4\n", "--metric 'a accuracy' or --metric 'b accuracy'"),
        ("init_seed,data_seed,f1\n0,1,1\n1,2,2\n", "columns init_seed and data_seed hold seeds; call the one"),
        ("seed,loss\n0,1\n1,2\n", "no score in it"),
        ("seed,state,f1\n0,crashed,1\n1,running,2\n", "no finished run with a score in column f1"),
        ("seed,f1\n", "no rows"),
        ("", "cannot be read as a table"),
        ('seed,f1\n0,1,2,3\n0,"', "cannot be read as a table"),
    ],
)
def test_bad_tables_of_runs_are_one_line(content, message, tmp_path, capsys):
    file = tmp_path / "runs.csv"
    file.write_text(content)
    assert f"{file}: " in (error := _error(capsys, "measure", file))
    assert message in error


def test_a_directory_of_tables_of_runs_is_not_files_by_seed(tmp_path, capsys):
    for name in ("a", "b"):
        shutil.copy(WANDB / "runs.csv", tmp_path / f"{name}.csv")
    assert f"{tmp_path}/a.csv: a table of several seeds; give the file itself" in _error(capsys, "measure", tmp_path)


def _table(file, rows, columns=("id", "prediction", "label")):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"columns": list(columns), "data": rows}))


def test_tables_logged_to_weights_and_biases():
    outputs = load_outputs(WANDB)
    assert (outputs.seeds, outputs.task) == (SEEDS, "test/predictions")
    files = {json.loads(file.read_text())["data"][0][0]: file for file in sorted(WANDB.rglob("*_1_*.table.json"))}
    rows = [json.loads(files[seed].read_text())["data"] for seed in SEEDS]
    right = [np.mean([row[3] == row[4] for row in one]) for one in rows]
    assert as_sample(WANDB).scores == pytest.approx(right)


def test_tables_in_folders_are_put_in_order(tmp_path, capsys):
    for seed in (3, 1):
        _table(
            tmp_path / f"seed-{seed}/p.table.json", [[2, "b", "a"], [0, "a" if seed == 1 else "b", "a"], [1, "b", "b"]]
        )
    outputs = load_outputs(tmp_path)
    assert outputs.seeds == [1, 3]
    assert outputs.arrays["predictions"].tolist() == [[0, 1, 1], [1, 1, 1]]
    assert outputs.arrays["labels"].tolist() == [0, 1, 0]
    _table(tmp_path / "seed-4/p.table.json", [[0, "a", "b"], [1, "b", "b"], [2, "b", "a"]])
    assert "other label than" in _error(capsys, "measure", tmp_path)
    _table(tmp_path / "seed-4/p.table.json", [[0, "a", "a"]])
    assert "1 rows, but" in _error(capsys, "measure", tmp_path)
    _table(tmp_path / "seed-4/p.table.json", [[0, "a"], [1, "b"], [2, "a"]], columns=("id", "answer"))
    assert "no column `prediction`" in _error(capsys, "measure", tmp_path)
    (tmp_path / "seed-4/p.table.json").write_text("[]")
    assert "no table of Weights & Biases" in _error(capsys, "measure", tmp_path)


def test_one_table_with_a_column_of_seeds(tmp_path):
    rows = [[seed, i, "ab"[(seed + i) % 2], "ab"[i % 2]] for i in range(4) for seed in (8, 2)]
    _table(tmp_path / "all.table.json", rows, ("seed", "id", "prediction", "target"))
    outputs = load_outputs(tmp_path / "all.table.json")
    assert (outputs.seeds, outputs.arrays["labels"].tolist()) == ([2, 8], [0, 1, 0, 1])
    assert as_samples(tmp_path)[0].scores.tolist() == [1.0, 1.0]
