"""A first config for somebody's own data: what is guessed, what suits, and the way from a CSV to a report."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from tiny import make_rows

import jaxstab
from jaxstab import cli
from jaxstab.config import load_config
from jaxstab.data.guessing import Columns, guess_columns
from jaxstab.data.task import load_task
from jaxstab.errors import InputError
from jaxstab.experiment import starting

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.md"
ROWS = pd.DataFrame(make_rows(120, seed=5)).rename(columns={"sentence": "review"})
ROWS = ROWS.assign(sentiment=ROWS.pop("label").map(["negative", "positive"].__getitem__))
LONG, SHORT, CLASSES = [f"a longer text {i}" for i in range(24)], [f"t {i}" for i in range(24)], ["a", "b"] * 12


@pytest.mark.parametrize(
    ("columns", "text", "label"),
    [
        ({"id": range(24), "review": LONG, "sentiment": CLASSES}, ("review",), "sentiment"),
        ({"title": SHORT, "what": LONG, "kind": CLASSES, "stars": [1, 2, 3, 4] * 6}, ("what",), "stars"),
        ({"comments": LONG, "text": SHORT, "label": [0.0, 1.0] * 12, "group": CLASSES}, ("text",), "label"),
        ({"premise": SHORT, "hypothesis": LONG, "y": [True, False] * 12}, ("premise", "hypothesis"), "y"),
        ({"a": LONG, "b": ["x", "y", "z"] * 8, "c": CLASSES}, ("a",), "c"),
    ],
)
def test_columns_are_guessed_by_name_and_content(columns, text, label):
    rows = Dataset.from_dict({name: list(values) for name, values in columns.items()})
    assert guess_columns(rows, "d.csv") == Columns(text, label)


@pytest.mark.parametrize(
    ("columns", "given", "message"),
    [
        ({"text": LONG, "id": range(24)}, {}, "no column looks like a label.* name it with --label"),
        (
            {"a": [0, 1] * 12, "b": CLASSES},
            {"label": "b"},
            "no column holds texts; name it with --text",
        ),
        ({"text": LONG, "label": CLASSES}, {"text": ["body"]}, "no column 'body'; it has text, label"),
    ],
)
def test_what_cannot_be_guessed_is_asked_for(columns, given, message):
    rows = Dataset.from_dict({name: list(values) for name, values in columns.items()})
    with pytest.raises(InputError, match=rf"d.csv: {message}"):
        guess_columns(rows, "d.csv", **given)


def _csv(path, frame=ROWS):
    frame.to_csv(path, index=False)
    return path


def test_the_config_is_whole_and_suits_the_data(tmp_path, checkpoint):
    frame = ROWS.copy()
    frame.loc[[3, 8], "review"] = ""
    started = jaxstab.init(_csv(tmp_path / "reviews.csv", frame), tmp_path / "r.toml", model=str(checkpoint))
    assert str(started) == (
        "118 examples; 2 rows without text or label left out; text in review, label in sentiment: "
        "2 classes (negative 59 and positive 59)"
    )
    config = load_config(started.path)
    assert (config.task.text, config.task.label, config.task.metric) == (("review",), "sentiment", "accuracy")
    assert config.task.max_length <= 24  # the model's
    assert config.task.drop_empty
    assert config.train.epochs == 20
    assert len(load_task(config.task).train.labels) == 94
    with pytest.raises(InputError, match=r"r.toml: is already there; write to another with -o"):
        jaxstab.init(tmp_path / "reviews.csv", tmp_path / "r.toml", model=str(checkpoint))


def test_unequal_classes_have_another_score_and_a_known_model_its_rate(tmp_path, monkeypatch):
    class Encoder:
        model_type, hidden_size, max_length = "roberta", 768, 512

    monkeypatch.setattr(starting, "_read_model", lambda *_: Encoder)
    frame = ROWS.assign(sentiment=["rare" if i % 10 == 0 else "usual" for i in range(120)])
    path = jaxstab.init(_csv(tmp_path / "all.csv", frame), tmp_path / "c.toml", model="hub:a/b").path
    config = load_config(path)
    assert (config.task.metric, config.train.learning_rate, config.model.source) == ("macro_f1", 2e-5, "hub:a/b")
    assert "learning_rate = 2e-5  # 1e-5 to 3e-5 suit this model: Liu et al. (2019)" in path.read_text()


def test_numbers_are_a_regression(tmp_path, checkpoint):
    frame = ROWS.assign(sentiment=np.linspace(0, 5, 120))
    started = jaxstab.init(_csv(tmp_path / "all.csv", frame), tmp_path / "c.toml", model=str(checkpoint))
    assert str(started) == "120 examples; text in review, label in sentiment: numbers"
    assert (load_config(started.path).task.kind, load_config(started.path).task.metric) == ("regression", "pearson")


def test_a_model_of_the_hub_that_does_not_answer_gets_the_usual_rate(tmp_path):
    path = jaxstab.init(_csv(tmp_path / "all.csv"), tmp_path / "c.toml", model="hub:no/such").path
    assert "learning_rate = 2e-5  # usual for models of base size" in path.read_text()


def test_the_command_asks_three_questions(tmp_path, checkpoint, monkeypatch, capsys):
    from click.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    _csv(tmp_path / "reviews.csv")
    answers = CliRunner().invoke(cli.cli, ["init"], input=f"reviews.csv\n{checkpoint}\n\n")
    assert answers.exit_code == 0, answers.output
    assert "wrote reviews.toml; read it, then: jaxstab run reviews.toml" in answers.output
    assert load_config("reviews.toml").name == "reviews"
    monkeypatch.setattr("click.prompt", lambda *_, **__: (_ for _ in ()).throw(__import__("click").Abort()))
    assert cli.main(["init"]) == 2
    assert "nobody answers; name the data" in capsys.readouterr().err


def test_the_way_in_the_tutorial_takes_five_commands():
    assert 3 <= len(_commands()) <= 5


@pytest.mark.slow
@pytest.mark.optimiser
def test_the_way_in_the_tutorial(tmp_path, checkpoint, monkeypatch, capsys):
    """Each command as it stands, but with a tiny model and few seeds."""
    monkeypatch.chdir(tmp_path)
    _csv(tmp_path / "reviews.csv")
    small = ["--seeds.count", "3", "--train.epochs", "1", "--train.learning_rate", "1e-3"]
    extra = {"init": ["--model", str(checkpoint)], "run": small, "plan": small}
    for command in _commands():
        verb, *arguments = command
        assert cli.main([verb, *arguments, *extra.get(verb, [])]) == 0, capsys.readouterr()
    assert (tmp_path / "report.html").read_text().lower().startswith("<!doctype html>")
    assert json.loads((tmp_path / "runs" / "reviews" / "run.json").read_text())["status"] == "finished"


def _commands():
    """The arguments of the commands in the tutorial's section on own data."""
    section = TUTORIAL.read_text().partition("## From your own CSV to a report")[2].partition("\n## ")[0]
    lines = re.findall(r"^    jaxstab (.*)$", section, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]
