"""End to end: from config to run directory, interruption, and the command line's output."""

import gc
import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest

import jaxstab
from jaxstab import cli, measures
from jaxstab.analysis.failures import FLAT, MAJORITY
from jaxstab.cli.display import Display
from jaxstab.config import dump_config, load_config, make_config
from jaxstab.experiment.run import _with_precision
from jaxstab.runs.directory import Run, begin_run, weights_file
from jaxstab.runs.files import load_arrays, load_weights, whole_file, write_json
from jaxstab.training.waves import SeedTrainer

pytestmark = pytest.mark.optimiser


def _config_file(settings, tmp_path):
    (tmp_path / "config.toml").write_text(dump_config(make_config(settings)))
    return str(tmp_path / "config.toml")


def test_run_leaves_a_directory_that_can_be_read(settings):
    run = jaxstab.run(settings)
    assert run.logits.shape == run.final_logits.shape == (4, 30, 2)
    assert run.logits.dtype == np.float32
    assert list(run.seeds) == [0, 1, 2, 3]
    assert run.config == make_config(settings)
    assert sorted(p.name for p in run.path.iterdir()) == [
        ".lock", "config.toml", "distances.npz", "history.parquet", "measures.json", "predictions.npz", "run.json",
        "texts.parquet",
    ]  # fmt: skip
    assert isinstance(run.history, pd.DataFrame)
    assert len(run.history) == 4 * 2
    assert run.history.groupby("seed").best.sum().eq(1).all()
    predicted = run.logits.argmax(-1)
    np.testing.assert_allclose(run.scores, (predicted == run.labels).mean(axis=1), atol=1e-6)
    assert run.measures["measures"]["sd"]["value"] == pytest.approx(run.scores.std(ddof=1), abs=1e-6)
    best = run.history[run.history.best].sort_values("seed").validation_score
    assert (best.to_numpy() == run.history.groupby("seed").validation_score.max().to_numpy()).all()
    assert list(run.texts.columns) == ["example_id", "text", "label"]
    assert run.texts.label.tolist() == [run.info.classes[label] for label in run.labels]
    assert run.info.status == "finished"
    assert {"jax", "numpy", "transformers"} <= run.info.versions.keys()


def test_a_finished_run_is_not_computed_again(settings, monkeypatch):
    first = jaxstab.run(settings)
    monkeypatch.setattr("jaxstab.experiment.run.load_inputs", lambda *_: pytest.fail("loaded again"))
    assert jaxstab.run(settings).path == first.path


def test_programs_end_with_their_run(settings, tmp_path):
    # Every compiled program uses hundreds of memory maps, and a process may have at most 65,530.
    left = []
    for name in ("one", "two"):
        jaxstab.run(settings | {"output": {"dir": str(tmp_path / name)}})
        gc.collect()
        left.append(len(jax.devices()[0].client.live_executables()))
    assert left[0] == left[1]


class Interrupted(Display):
    """Interrupts in the second wave, like Ctrl-C."""

    def evaluated(self, wave, epoch, evaluation):
        if wave == 1:
            raise KeyboardInterrupt


def test_an_interrupted_run_resumes_to_the_same_numbers(settings, tmp_path):
    whole = jaxstab.run({**settings, "output": {"dir": str(tmp_path / "whole")}})
    with pytest.raises(KeyboardInterrupt):
        jaxstab.run(settings, display=Interrupted(quiet=True))
    finished = sorted((tmp_path / "run" / "checkpoints").iterdir())
    interrupted = json.loads((tmp_path / "run" / "run.json").read_text())
    assert interrupted["status"] == "interrupted"
    assert [file.name for file in finished] == [
        "seed-0.npy", "seed-0.npz", "seed-1.npy", "seed-1.npz", "seed-2-step-6", "seed-3-step-6",
    ]  # fmt: skip
    with pytest.raises(jaxstab.InputError, match="not finished; continue it with: jaxstab resume"):
        Run.load(tmp_path / "run")
    trained = []

    class Listening(Display):
        def compiled(self, seconds, waves, taken, plan):
            trained.extend(waves)
            super().compiled(seconds, waves, taken, plan)

    run = jaxstab.run(settings, display=Listening(quiet=True))
    assert trained == [["2", "3"]]
    np.testing.assert_array_equal(run.logits, whole.logits)
    np.testing.assert_array_equal(run.final_logits, whole.final_logits)
    pd.testing.assert_frame_equal(run.history, whole.history)
    assert run.measures == whole.measures
    assert run.info.wall_seconds > interrupted["wall_seconds"] > 0


@pytest.mark.slow
def test_representations_of_a_large_test_split_are_those_of_a_sample(settings, tmp_path, monkeypatch):
    settings["output"]["keep_representations"] = True
    whole = jaxstab.run(settings)
    sample = np.array([1, 5, 6, 17, 29])
    for module in ("jaxstab.training.lowering", "jaxstab.measures"):
        monkeypatch.setattr(f"{module}.represented_examples", lambda examples: sample)
    run = jaxstab.run({**settings, "output": {"dir": str(tmp_path / "sampled"), "keep_representations": True}})
    np.testing.assert_allclose(run.representations, whole.representations[:, :, sample], atol=1e-5)
    np.testing.assert_array_equal(run.distances["represented"], sample)
    assert run.distances["cka"].shape == (2, 4, 4)


def test_representations_cannot_be_asked_for_afterwards(settings):
    run = jaxstab.run(settings)
    settings["output"]["keep_representations"] = True
    with pytest.raises(jaxstab.InputError, match="finished without saving representations"):
        jaxstab.run(settings)
    assert jaxstab.Run.load(run.path).representations is None


def test_seeds_that_diverge_are_scored_but_not_measured(settings, monkeypatch):
    train_wave = SeedTrainer.train_wave

    def diverging(self, wave, *others):
        jobs, results = [job for group in wave for job in group], train_wave(self, wave, *others)
        return [one._replace(logits=one.logits * np.nan) if job.triple.seed == 2 else one
                for job, one in zip(jobs, results, strict=True)]  # fmt: skip

    monkeypatch.setattr(SeedTrainer, "train_wave", diverging)
    run = jaxstab.run(settings)
    assert len(run.scores) == 4
    assert run.distances["seeds"].tolist() == [0, 1, 3]
    assert run.distances["jsd"].shape == (1, 3, 3)
    assert "logits are not finite: seed 2" in run.measures["warnings"][0]
    finite = [0, 1, 3]
    alone = measures.all(logits=run.logits[finite], only=["jsd"]).as_json()
    assert run.measures["measures"]["jsd"] == alone["measures"]["jsd"]


def test_changed_examples_are_noticed(settings, task_directory, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        jaxstab.run(settings, display=Interrupted(quiet=True))
    before = (task_directory / "train.jsonl").read_text()
    (task_directory / "train.jsonl").write_text(before.replace("film", "plot"))
    try:
        with pytest.raises(jaxstab.InputError, match="examples have changed"):
            jaxstab.run(settings)
    finally:
        (task_directory / "train.jsonl").write_text(before)


def test_one_seed_and_crossed_seeds(settings, tmp_path):
    one = jaxstab.run({**settings, "seeds": {"list": [3]}})
    assert one.measures["measures"]["jsd"]["value"] is None
    crossed = {"init": [0, 1], "order": [5], "dropout": [2, 3], "crossed": True}
    run = jaxstab.run({**settings, "seeds": crossed, "output": {"dir": str(tmp_path / "crossed")}})
    columns = ["seed", "init_seed", "order_seed", "dropout_seed"]
    assert run.history[run.history.epoch == 1][columns].to_numpy().tolist() == [
        [0, 0, 5, 2], [1, 0, 5, 3], [2, 1, 5, 2], [3, 1, 5, 3],
    ]  # fmt: skip


@pytest.mark.slow
def test_bfloat16_trains(settings, tmp_path):
    settings["train"]["precision"] = "bfloat16"
    run = jaxstab.run(settings)
    assert run.logits.dtype == np.float32
    full = jaxstab.run(
        {**settings, "train": {**settings["train"], "precision": "float32"}, "output": {"dir": str(tmp_path / "full")}}
    )
    difference = np.abs(run.logits - full.logits).max()
    assert 0 < difference < 0.2


@pytest.mark.parametrize(("kind", "precision"), [("cpu", "float32"), ("gpu", "bfloat16"), ("tpu", "bfloat16")])
def test_precision_is_chosen_by_the_device_where_a_run_begins(settings, monkeypatch, kind, precision):
    settings["train"]["precision"] = "auto"
    monkeypatch.setattr("jaxstab.training.devices.platform", lambda: kind)
    begun = _with_precision(make_config(settings))
    assert begun.train.precision == precision
    begin_run(Run(begun.directory), begun)
    for other in ("cpu", "gpu"):  # on another device, it goes on as it began
        monkeypatch.setattr("jaxstab.training.devices.platform", lambda other=other: other)
        assert _with_precision(make_config(settings)) == begun
    settings["train"]["precision"] = "tensorfloat32"
    assert _with_precision(make_config(settings)).train.precision == "tensorfloat32"


def test_the_command_prints_lines_and_a_summary(settings, tmp_path, capsys):
    assert cli.main(["run", _config_file(settings, tmp_path), "--name", "shown"]) == 0
    out = capsys.readouterr().out
    assert "epoch 2/2: train loss" in out
    assert "validation accuracy mean" in out
    assert re.search(r"failed \d of 2; step 24/24", out)
    assert "shown: test accuracy of 4 seeds" in out
    assert "note: 30 test examples: an accuracy is uncertain by" in out
    for word in ("pairwise_disagreement", "fleiss_kappa", "jsd", "majority class", "seeds per minute", "disagree most"):
        assert word in out
    assert cli.main(["run", _config_file(settings, tmp_path)]) == 0
    assert "test accuracy of 4 seeds" in capsys.readouterr().out


def test_quiet_prints_nothing(settings, tmp_path, capfd):
    assert cli.main(["run", _config_file(settings, tmp_path), "--quiet"]) == 0
    assert capfd.readouterr().out == ""


def test_failed_seeds_are_named(settings, capsys):
    settings["train"] |= {"learning_rate": 1e-12}
    run = jaxstab.run(settings)
    scores = (run.final_logits.argmax(-1) == run.labels).mean(axis=1)
    majority = max(np.bincount(run.labels)) / len(run.labels)
    reasons = run.info.failures
    assert run.info.failed_seeds == (0, 1, 2, 3)  # the loss stays flat
    for seed, one in zip(run.seeds, scores, strict=True):
        assert (reasons[seed] == MAJORITY) == (one <= majority + 1e-9)
    assert set(reasons.values()) == {MAJORITY, FLAT}


def _spoil(path, value):
    def change(settings):
        section, key = path.split(".")
        return {**settings, section: {**settings.get(section, {}), key: value}}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_spoil("task.source", "no/such"), "no/such: no such file"),
        (_spoil("task.text", ["body"]), "no column 'body'; it has sentence, label"),
        (_spoil("model.source", "no/model"), "no/model: no such directory"),
        (_spoil("train.batch_size", 45), "train.batch_size = 45: there are only 44 training examples"),
        (_spoil("task.max_length", 64), "task.max_length = 64: the model has 24 positions"),
    ],
)
def test_bad_input_is_one_line_and_exit_2_before_anything_is_made(
    settings, tmp_path, capsys, monkeypatch, change, message
):
    monkeypatch.setattr("jaxstab.experiment.run.plan_trainer", lambda *_: pytest.fail("compiled"))
    assert cli.main(["run", _config_file(change(settings), tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("jaxstab: error: ")
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_bad_command_lines(settings, tmp_path, capsys):
    path = _config_file(settings, tmp_path)
    for arguments, message in [
        (["run", path, "--train.epoch", "3"], "did you mean train.epochs?"),
        (["run", path, "--train.epochs"], "has no value"),
        (["run", path, "--train.epochs", "many"], "train.epochs = 'many'"),
        (["run", "none.toml"], "none.toml: cannot read the config"),
        (["run"], "Missing argument"),
        (["rnu", path], "No such command"),
    ]:
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.splitlines()) == 1


def test_an_output_directory_of_another_config_is_never_overwritten(settings, tmp_path, capsys):
    run = jaxstab.run(settings)
    before = (run.path / "predictions.npz").read_bytes()
    path = _config_file(settings, tmp_path)
    assert cli.main(["run", path, "--train.epochs", "3", "--seeds.count", "5"]) == 2
    error = capsys.readouterr().err
    assert "another config (other train.epochs)" in error
    assert "--output.dir" in error
    assert (run.path / "predictions.npz").read_bytes() == before
    assert cli.main(["run", path, "--task.text", "sentense"]) == 2
    assert "no column 'sentense'; it has sentence, label" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    assert cli.main(["run", path, "--output.dir", str(tmp_path / "mine")]) == 2
    assert "exists and is no run directory" in capsys.readouterr().err


def test_interruption_exits_130(settings, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jaxstab.experiment.run.run", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.main(["run", _config_file(settings, tmp_path)]) == 130
    assert (
        f"interrupted; progress is saved; resume with: jaxstab resume {tmp_path / 'run'}\n" in capsys.readouterr().err
    )


def test_python_m_jaxstab_runs_where_there_is_no_terminal(tmp_path):
    environment = {**os.environ, "XLA_FLAGS": ""}
    result = subprocess.run(
        [sys.executable, "-m", "jaxstab", "run", "none.toml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    expected = "none.toml: cannot read the config (No such file or directory); give the path of a TOML file"
    assert result.stderr == f"jaxstab: error: {expected}\n"


def test_a_live_display_shows_a_bar(settings):
    from io import StringIO

    from rich.console import Console

    screen = StringIO()
    jaxstab.run(settings, display=Display(console=Console(file=screen, force_terminal=True, width=200)))
    assert "to go:" in screen.getvalue()
    assert "wave 2 of 2" in screen.getvalue()


def test_files_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})

    def fail_half_way():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_pickled_and_damaged_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], dtype=object))
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04nonsense")
    for name in ("pickled.npz", "cut.npz", "none.npz"):
        with pytest.raises(jaxstab.InputError, match=name):
            load_arrays(tmp_path / name)


def test_a_damaged_record_is_named(settings, tmp_path, capsys):
    run = jaxstab.run(settings)
    (run.path / "run.json").write_text('{"status": "fin')
    assert cli.main(["run", _config_file(settings, tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "run.json: missing or damaged" in error
    assert len(error.splitlines()) == 1


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(jaxstab.InputError, match="not a run directory"):
        Run.load(tmp_path)


def test_the_recorded_config_starts_the_same_run(settings):
    run = jaxstab.run(settings)
    assert load_config(run.path / "config.toml") == make_config(settings)


@pytest.mark.parametrize("wanted", ["best", "final", True, [1]])
def test_weights_are_saved_where_asked_for(settings, wanted, tmp_path):
    settings["output"]["keep_weights"] = wanted
    run = jaxstab.run(settings)
    files = sorted(file.name for file in (run.path / "weights").iterdir())
    seeds = [1] if wanted == [1] else [0, 1, 2, 3]
    assert files == [*(f"seed-{seed}.safetensors" for seed in seeds), "vocabulary.npy"]
    weights = load_weights(weights_file(run, 1))
    assert weights["layers"]["attention"]["query"]["kernel"].shape == (2, 32, 32)
    assert jaxstab.run(settings).path == run.path
    other = {**settings, "output": {**settings["output"], "keep_weights": "best" if wanted == "final" else "final"}}
    with pytest.raises(jaxstab.InputError, match="finished without saving these weights"):
        jaxstab.run(other)


@pytest.mark.parametrize(
    ("mitigation", "message"),
    [
        ({"method": "reinit"}, "mitigation.reinit.layers = 5: only 2 are trained; make it smaller"),
        ({"methods": ["freeze", "reinit"], "freeze": {"layers": 1}, "reinit": {"layers": 2}}, "only 1 are trained"),
        ({"method": "freeze", "freeze": {"layers": 3}}, "3 layers to freeze: the model has 2"),
        ({"method": "lora", "lora": {"targets": ["dense"]}}, "no linear layer 'dense' for an adapter; there are"),
    ],
)
def test_methods_that_the_model_is_too_small_for(settings, mitigation, message, monkeypatch):
    monkeypatch.setattr("jaxstab.experiment.run.plan_trainer", lambda *_: pytest.fail("compiled"))
    with pytest.raises(jaxstab.InputError) as caught:
        jaxstab.run({**settings, "mitigation": mitigation})
    assert message in str(caught.value)
