"""A regression from its labels to its report, on a tiny model."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tiny import make_rows

import jaxstab
from jaxstab import cli, measures
from jaxstab.analysis.failures import failures
from jaxstab.config import Metric, RegressionMetric, TaskConfig, TrainConfig
from jaxstab.data.sources import KNOWN_TASKS
from jaxstab.data.targets import losses_of_examples, make_targets
from jaxstab.data.task import load_task, stratified_halves
from jaxstab.errors import InputError

pytestmark = pytest.mark.optimiser


def _numbers(count, seed):
    """Labels around 1 for sentences with a bad word and around 3 for those with a good one."""
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, count).round(2)
    return [
        row | {"label": 1 + 2 * row["label"] + float(one)}
        for row, one in zip(make_rows(count, seed), noise, strict=True)
    ]


def _write(directory, splits):
    directory.mkdir()
    for name, rows in splits.items():
        pd.DataFrame(rows).to_json(directory / f"{name}.jsonl", orient="records", lines=True)
    return directory


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    splits = {"train": _numbers(44, 0), "validation": _numbers(60, 1)}
    return _write(tmp_path_factory.mktemp("numbers") / "task", splits)


@pytest.fixture(scope="module")
def run(task, checkpoint, tmp_path_factory):
    """Three seeds of a regression."""
    return jaxstab.run(
        {
            "name": "numbers",
            "model": {"source": str(checkpoint)},
            "task": {"source": str(task), "text": ["sentence"], "max_length": 16, "kind": "regression"},
            "seeds": {"count": 3, "group_size": 3},
            "train": {"epochs": 20, "batch_size": 8, "learning_rate": 1e-3, "precision": "float32", "dropout": 0.0},
            "output": {"dir": str(tmp_path_factory.mktemp("run") / "numbers"), "keep_weights": "best"},
        }
    )


def _config(source, **values):
    return TaskConfig(source=str(source), **{"text": ("sentence",), "kind": "regression", **values})


def test_task(task):
    found = load_task(_config(task))
    assert (found.classes, found.outputs, found.metric) == ((), 1, "pearson")
    assert found.train.labels.dtype == np.float32
    np.testing.assert_allclose(found.train.labels, [row["label"] for row in _numbers(44, 0)], rtol=1e-6)
    assert found.notes == (
        "no test split: validation examples halved, stratified by tenths of the labels (split_seed 0)",
    )
    assert KNOWN_TASKS["hub:glue/stsb"].kind == "regression"
    assert {*measures.METRICS} == {*Metric.__args__}
    assert {one for one in measures.METRICS if measures.of_numbers(one)} == {*RegressionMetric.__args__}


def test_halves_have_the_same_labels_whatever_their_scale():
    labels = np.random.default_rng(0).lognormal(size=200).astype(np.float32)
    first, second = stratified_halves(labels, 0.5, 0)
    assert sorted([*first, *second]) == list(range(200))
    deciles = np.argsort(np.argsort(labels)) // 20
    np.testing.assert_array_equal(np.bincount(deciles[first]), np.full(10, 10))
    assert not np.array_equal(first, stratified_halves(labels, 0.5, 1)[0])


@pytest.mark.parametrize(
    ("change", "values", "message"),
    [
        ({"label": 1.5}, {"kind": None}, 'label 1.5 is no class; .* or set task.kind = "regression"'),
        ({"label": "much"}, {}, "label 'much' is no finite number, as a regression needs"),
        ({"label": None}, {}, "line 2: 1 of 40 rows cannot be used: column 'label' is empty"),
        ({}, {"metric": "f1"}, "task.metric = 'f1' is not for regression; leave it out, or use pearson"),
        ({}, {"metric": "r2", "kind": "classification"}, "task.metric = 'r2' is not for classification; .*task.kind"),
    ],
)
def test_wrong_labels(tmp_path, change, values, message):
    rows = make_rows(40, 0)
    rows[1] |= change
    source = _write(tmp_path / "task", {"train": rows, "validation": make_rows(20, 1)})
    with pytest.raises(InputError, match=message):
        load_task(_config(source, **values))


def test_labels_far_from_zero_and_all_the_same(tmp_path):
    rows = [row | {"label": 5000.0 + number} for number, row in enumerate(make_rows(60, 0))]
    notes = load_task(_config(_write(tmp_path / "far", {"train": rows}))).notes
    assert "and predictions start near 0; training is faster" in notes[-1]
    same = [row | {"label": 2.5} for row in rows]
    with pytest.raises(InputError, match="labels that are all the same"):
        load_task(_config(_write(tmp_path / "same", {"train": same})))


def test_what_needs_classes_is_refused(task, checkpoint):
    for config in (TrainConfig(label_smoothing=0.1), TrainConfig(class_weights="balanced")):
        with pytest.raises(InputError, match="needs classes, which a regression does not have; leave it out"):
            make_targets(config, (), np.ones(3, np.float32))
    config = {
        "model": {"source": str(checkpoint)},
        "task": {"source": str(task), "text": ["sentence"], "max_length": 16, "kind": "regression"},
        "mitigation": {"method": "r_drop"},
    }
    with pytest.raises(InputError, match="r_drop compares probabilities of classes"):
        jaxstab.plan(config)


def test_loss_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    outputs, labels = (np.random.default_rng(0).normal(2, 1, shape).astype(np.float32) for shape in ((9, 1), 9))
    wanted = torch.nn.MSELoss()(torch.tensor(outputs).squeeze(), torch.tensor(labels)).item()
    assert float(losses_of_examples(jnp.asarray(outputs), jnp.asarray(labels)).mean()) == pytest.approx(
        wanted, rel=1e-6
    )


def test_run(run):
    assert run.logits.shape == (3, 30, 1)
    assert run.labels.dtype == np.float32
    assert run.info.classes == ()
    assert run.info.guess_loss == pytest.approx(np.var([row["label"] for row in _numbers(44, 0)]), rel=1e-4)
    wanted = [stats.pearsonr(one[:, 0], run.labels)[0] for one in run.logits]
    np.testing.assert_allclose(run.scores, wanted, atol=1e-6)
    losses = run.history.pivot(index="seed", columns="epoch", values="train_loss").to_numpy()
    assert (losses[:, -1] < 0.5 * losses[:, 0]).all()
    reasons = failures(run.final_logits, run.labels, "pearson", losses, run.info.guess_loss)
    assert dict(run.info.failures) == {seed: why for seed, why in enumerate(reasons) if why}
    assert {"prediction_sd", "icc", "cka", "ensemble_gain"} <= {*run.measures["measures"]}
    assert not {"fleiss_kappa", "jsd"} & {*run.measures["measures"], *run.measures["left_out"]}
    np.testing.assert_allclose(run.texts.label, run.labels)


def test_export(run, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    exported = jaxstab.export(run, seed=1, to=tmp_path / "exported")
    model = AutoModelForSequenceClassification.from_pretrained(exported).eval()
    assert (model.config.problem_type, model.config.num_labels) == ("regression", 1)
    tokens = AutoTokenizer.from_pretrained(exported)(list(run.texts.text), padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model(**tokens, labels=torch.tensor(run.labels))
    np.testing.assert_allclose(found.logits.numpy(), run.logits[1], atol=1e-5)
    assert found.loss.item() == pytest.approx(((run.logits[1, :, 0] - run.labels) ** 2).mean(), rel=1e-4)


def test_saved_outputs_give_what_the_run_gives(run, tmp_path):
    wanted = jaxstab.measure(run)
    names = ["sd", "prediction_sd", "mean_absolute_disagreement", "rank_disagreement", "icc"]
    np.savez(tmp_path / "all.npz", predictions=run.logits[..., 0], labels=run.labels)
    folder = tmp_path / "by-seed"
    folder.mkdir()
    pd.Series(run.labels, name="label").to_csv(folder / "labels.csv", index=False)
    for seed, one in enumerate(run.logits[..., 0]):
        pd.DataFrame({"index": range(30), "prediction": one}).to_csv(folder / f"{seed}.tsv", sep="\t", index=False)
    np.save(tmp_path / "all.npy", run.logits[..., 0])
    for found in (
        jaxstab.measure(tmp_path / "all.npz"),
        jaxstab.measure(folder),
        jaxstab.measure(tmp_path / "all.npy", labels=folder / "labels.csv"),
    ):
        assert found.scores["metric"] == "pearson"
        for name in names:
            assert found[name]["value"] == pytest.approx(wanted[name]["value"], rel=1e-4)


def test_analyses(run, tmp_path):
    labels = run.labels
    rng = np.random.default_rng(0)
    samples = [
        jaxstab.Sample.from_arrays(
            name, predictions=labels + rng.normal(0, spread, (8, 30)), labels=labels, seeds=range(8), task="t"
        )
        for name, spread in (("steady", 0.1), ("shaky", 1.0))
    ]
    compared = jaxstab.compare(samples)
    clear = {one.measure for one in compared.differences if one.clear}
    assert {"mean", "prediction_sd", "mean_absolute_disagreement", "rank_disagreement", "icc"} <= clear
    trusted = jaxstab.validity(samples[0])
    assert trusted.nulls["icc"]["null"] == pytest.approx(1, abs=0.3)
    study = jaxstab.study_seeds(samples[1], delta=0.05)
    assert study.needed
    assert study.joint is not None
    jaxstab.write_report([*samples, run], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    for said in ("SD of predictions", "Examples on which predictions spread", "Pearson correlation", "1 - ICC(2,1)"):
        assert said in text
    assert "majority class" not in text


def test_commands(run, capsys):
    cli.main(["run", str(run.path / "config.toml")])
    shown = capsys.readouterr().out
    assert "Examples on which predictions differ most" in shown
    assert "mean label" in shown
    assert "majority" not in shown
    cli.main(["measure", str(run.path), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["scores"]["metric"] == "pearson"
    assert re.search(r"needs classes", json.dumps(found)) is None
