"""Learning curves in TensorBoard and Weights & Biases are the run's, each step once, whatever was interrupted."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import tomli_w

import jaxstab
from jaxstab.config import make_config
from jaxstab.experiment.progress import Progress

NAMES = {
    "train_loss": "train_loss",
    "validation_loss": "validation_loss",
    "validation_accuracy": "validation_score",
}  # of curves, and in history.parquet


class Interrupted(Progress):
    """Interrupts after the first epoch of the second wave."""

    def stepped(self, wave, step):
        if wave == 1 and step > self.steps_per_epoch:
            raise KeyboardInterrupt

    def prepared(self, configs, epochs, info):
        self.steps_per_epoch = info.steps_per_epoch


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Weights & Biases without network, and with files in a temporary directory only."""
    pytest.importorskip("wandb")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")


def _events(path):
    """The scalars of a TensorBoard run by tag: steps and values, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path))
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def _records(path):
    """The records of a file of Weights & Biases: protocol buffers in the log format of LevelDB."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts = path.read_bytes(), 7, []
    while at < len(data):
        if (rest := 2**15 - at % 2**15) < 7:
            at += rest
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts.append(data[at + 7 : at + 7 + length])
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            parts = []
            yield record


def _curve(run, seed, column):
    rows = run.history[run.history["seed"] == seed]
    return list(zip(rows["step"], rows[column], strict=True))


@pytest.mark.optimiser
def test_curves_continue_after_an_interruption_without_a_step_twice(settings, offline, tmp_path):
    settings["output"] |= {"tensorboard": True, "wandb": "trial"}
    with pytest.raises(KeyboardInterrupt):
        jaxstab.run(settings, display=Interrupted())
    # Seeds 0 and 1 have finished; 2 resumes from a checkpoint; of 3 only curves are left, as after a kill.
    (lost,) = (tmp_path / "run" / "checkpoints").glob("seed-3-step-*")
    shutil.rmtree(lost)
    events = tmp_path / "run" / "tensorboard"
    assert {len(_events(events / f"seed-{seed}")["train_loss"]) for seed in (2, 3)} == {1}
    run = jaxstab.run(settings)
    assert sorted(path.name for path in events.iterdir()) == ["all-seeds", "seed-0", "seed-1", "seed-2", "seed-3"]
    for seed in range(4):
        expected = {tag: _curve(run, seed, column) for tag, column in NAMES.items()}
        assert _events(events / f"seed-{seed}") == expected
    bands = _events(events / "all-seeds")
    for tag, column in NAMES.items():
        over_seeds = run.history.groupby("step")[column]
        for end, values in {"": over_seeds.mean(), "/min": over_seeds.min(), "/max": over_seeds.max()}.items():
            steps, found = zip(*bands.pop(tag + end), strict=True)
            assert list(steps) == values.index.tolist()
            np.testing.assert_allclose(found, values, rtol=1e-6)
    assert not bands
    _check_wandb(run)


def _check_wandb(run):
    """Checks that each seed has one file, with its curves."""
    seeds, groups = [], set()
    for file in run.path.glob("wandb/offline-run-*/*.wandb"):
        records = {one.WhichOneof("record_type"): one for one in _records(file)}
        start = records["run"].run
        config = {item.key: json.loads(item.value_json) for item in start.config.update}
        seeds.append(config["seed"]["seed"])
        groups.add(start.run_group)
        assert start.project == "trial"
        assert config["train"]["learning_rate"] == 1e-3
        history = [one.history.item for one in _records(file) if one.WhichOneof("record_type") == "history"]
        rows = [{item.nested_key[0]: json.loads(item.value_json) for item in items} for items in history]
        assert [row["epoch"] for row in rows] == [1, 2]
        for tag, column in NAMES.items():
            assert [(row["_step"], np.float32(row[tag])) for row in rows] == _curve(run, seeds[-1], column)
        assert records["exit"].exit.exit_code == 0
    assert sorted(seeds) == [0, 1, 2, 3]
    assert len(groups) == 1


class Spoiling(Progress):
    """Puts a file where the directory of the curves should be."""

    def __init__(self, path):
        self.path, self.notes = path, []

    def compiling(self):
        self.path.touch()

    def warn(self, line):
        self.notes.append(line)


@pytest.mark.optimiser
def test_training_continues_where_curves_cannot_be_written(settings, tmp_path):
    settings["output"]["tensorboard"] = True
    display = Spoiling(tmp_path / "run" / "tensorboard")
    assert len(jaxstab.run(settings, display=display).scores) == 4
    (note,) = display.notes
    assert re.match(r"learning curves are no longer written \(.*tensorboard.*\); training continues", note)


@pytest.mark.parametrize(("key", "value", "library"), [("tensorboard", True, "tensorboardX"), ("wandb", "p", "wandb")])
def test_a_missing_library_is_named_with_the_command_before_anything_is_loaded(key, value, library, monkeypatch):
    config = make_config({"model": {"source": "m"}, "task": {"source": "t"}, "output": {key: value}})
    monkeypatch.setattr("sys.path", [])  # where packages are looked for
    with pytest.raises(
        jaxstab.InputError, match=f"output.{key} needs {library}; install it with: pip install {library}"
    ):
        jaxstab.run(config)


@pytest.mark.slow
def test_without_an_account_weights_and_biases_is_an_error_with_a_remedy(offline, settings, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(tomli_w.dumps(settings))
    environment = {name: value for name, value in os.environ.items() if name not in ("WANDB_MODE", "WANDB_API_KEY")}
    line = [sys.executable, "-m", "jaxstab", "run", str(config), "--output.wandb", "trial"]
    done = subprocess.run(line, env=environment, text=True, capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert re.fullmatch(r"jaxstab: error: output.wandb: .* set WANDB_MODE=offline\n", done.stderr)
    assert not (tmp_path / "run").exists()
