"""After an interrupt, a kill or a second start, no finished work is lost and the numbers are the same."""

import io
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tomli_w
from filelock import FileLock
from rich.console import Console

import jaxstab
from jaxstab.cli import main
from jaxstab.cli.display import Display


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Starts `jaxstab` in a separate process, with one device and with caches that all processes share."""
    caches = tmp_path_factory.mktemp("caches")
    environment = os.environ | {
        "XLA_FLAGS": "",
        "XDG_CACHE_HOME": str(caches),
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(jax.config.jax_compilation_cache_max_size),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def start(*arguments):
        line = [sys.executable, "-m", "jaxstab", *map(str, arguments)]
        return subprocess.Popen(line, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return start


@pytest.fixture(scope="module")
def config(checkpoint, task_directory, tmp_path_factory):
    """The tiny experiment as a config file, with one seed per wave."""
    path = tmp_path_factory.mktemp("config") / "config.toml"
    values = {
        "model": {"source": str(checkpoint)},
        "task": {"source": str(task_directory), "text": ["sentence"], "max_length": 16},
        "seeds": {"count": 6, "group_size": 1},
        "train": {"epochs": 8, "batch_size": 8, "learning_rate": 1e-3},
    }
    path.write_text(tomli_w.dumps(values))
    return path


@pytest.fixture(scope="module")
def whole(config, command, tmp_path_factory):
    """The run without interruption."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    _finish(command("run", config, "--quiet", "--output.dir", directory))
    return jaxstab.Run.load(directory)


def _same(run, other):
    np.testing.assert_array_equal(run.logits, other.logits)
    np.testing.assert_array_equal(run.final_logits, other.final_logits)
    assert run.measures == other.measures
    assert run.history.equals(other.history)


def _finish(process):
    """Waits for a process that must succeed; returns its output."""
    out, error = process.communicate()
    assert process.returncode == 0, error
    return out


def _wait_for_a_seed(process, directory, more_than=0):
    while process.poll() is None and len(list(directory.glob("checkpoints/seed-*.npz"))) <= more_than:
        time.sleep(0.02)


def _first_epoch(out):
    """The first epoch of which a display printed a line."""
    return int(re.search(r"^wave 1/\d+ epoch (\d+)/", out, re.MULTILINE)[1])


class Timed(Display):
    """Prints to a string; by its clock a step of a wave takes a second and everything before the first step 1000."""

    def __init__(self, monkeypatch, interrupt_after=None):
        super().__init__(console=Console(file=io.StringIO(), width=500))
        self.now, self.last, self.interrupt_after = 0, None, interrupt_after
        monkeypatch.setattr("jaxstab.cli.display.time.perf_counter", lambda: self.now)

    def stepped(self, wave, step):
        self.now += 1000 if self.last is None else max(0, step - self.last)
        self.last = step
        super().stepped(wave, step)

    def evaluated(self, wave, epoch, evaluation):
        super().evaluated(wave, epoch, evaluation)
        if (wave, epoch) == self.interrupt_after:
            raise KeyboardInterrupt

    @property
    def printed(self):
        return self.console.file.getvalue()


@pytest.mark.optimiser
def test_a_resumed_run_says_where_it_continues_and_how_long_it_takes_from_there(settings, monkeypatch):
    settings["seeds"] = {"count": 6, "group_size": 2}
    with pytest.raises(KeyboardInterrupt):
        jaxstab.run(settings, display=Timed(monkeypatch, interrupt_after=(1, 1)))
    display = Timed(monkeypatch)
    run = jaxstab.run(settings, display=display)
    assert "resumed at epoch 2 of 2 (2 seeds); 2 seeds finished before; 2 seeds not begun\n" in display.printed
    lines = re.findall(r"wave (\d)/2 epoch (\d)/2: .*; step (\d+)/(\d+), (\d+):(\d+) min to go", display.printed)
    steps = run.info.steps_per_epoch
    assert [tuple(map(int, line)) for line in lines] == [
        (1, 2, 2 * steps, 4 * steps, *divmod(2 * steps, 60)),
        (2, 2, 4 * steps, 4 * steps, 0, 0),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_loses_no_finished_seed_and_says_how_to_resume(number, config, command, whole, tmp_path):
    directory = tmp_path / "run"
    process = command("run", config, "--quiet", "--output.dir", directory)
    _wait_for_a_seed(process, directory)
    process.send_signal(number)
    _, error = process.communicate()
    assert process.returncode == 130, error
    assert f"jaxstab: interrupted; progress is saved; resume with: jaxstab resume {directory}" in error
    assert jaxstab.Run(directory).info.status == "interrupted"
    kept = {path: path.stat().st_mtime_ns for path in directory.glob("checkpoints/seed-*.npz")}
    assert 1 <= len(kept) < 6
    moved = directory.rename(tmp_path / "moved")
    out = _finish(command("resume", moved))
    assert f"{6 - len(kept)} waves" in out or f"/{6 - len(kept)} epoch" in out
    assert re.search(rf"^resumed.*; {len(kept)} seeds? finished before", out, re.MULTILINE)
    assert _first_epoch(out) == (
        int(found[1]) if (found := re.search(r"^resumed at epoch (\d) of 8", out, re.M)) else 1
    )
    _same(jaxstab.Run.load(moved), whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "dice",
    [
        pytest.param(random.Random(number), id=f"{number}", marks=[pytest.mark.release] * (number > 1))
        for number in range(4)
    ],
)
def test_kills_at_random_moments_change_nothing(dice, config, command, whole, tmp_path):
    killed, kills = tmp_path / "run", 0
    # Checkpoints are written all the time, so that some kills happen while one is written.
    arguments = ("run", config, "--quiet", "--output.dir", killed, "--output.checkpoint_minutes", "1e-3")
    for number in range(6):
        process = command(*arguments)
        if number % 2:  # during training, or while a seed is written
            _wait_for_a_seed(process, killed, more_than=len(list(killed.glob("checkpoints/seed-*.npz"))))
            time.sleep(dice.uniform(0, 0.1))
        else:  # before training, or while a checkpoint is loaded
            time.sleep(dice.uniform(0, 3))
        kills += process.poll() is None
        process.kill()
        process.communicate()
    _finish(command(*arguments))
    assert kills >= 5
    _same(jaxstab.Run.load(killed), whole)
    assert not list(killed.rglob("*tmp*"))


def test_a_second_process_on_a_run_refuses(config, tmp_path, capsys):
    directory = tmp_path / "run"
    directory.mkdir()
    with FileLock(directory / ".lock"):
        assert main(["run", str(config), "--output.dir", str(directory)]) == 2
    assert f"{directory}: another process is working on this run; wait until it ends" in capsys.readouterr().err
    assert sorted(path.name for path in directory.iterdir()) == [".lock"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of half a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("a file system of its own cannot be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("left", [6, 30, 60])
def test_a_full_disk_is_one_line_and_loses_nothing(left, config, command, whole, small_disk):
    filler, directory = small_disk / "filler", small_disk / "run"
    filler.write_bytes(b"0" * 1024 * (512 - left))
    arguments = ("run", config, "--quiet", "--output.dir", directory)
    process = command(*arguments)
    _, error = process.communicate()
    assert process.returncode == 2, error
    assert error.count("\n") == 1
    assert "no space left on the disk; make room and give the same command again" in error
    kept = {path: path.read_bytes() for path in directory.glob("checkpoints/seed-*.np[yz]")}
    filler.unlink()
    _finish(command(*arguments))
    _same(jaxstab.Run.load(directory), whole)
    assert left == 6 or kept


@pytest.mark.optimiser
def test_seeds_are_added_to_a_finished_run(settings, tmp_path, capsys):
    settings["output"]["keep_representations"] = True
    settings["seeds"] = {"count": 2, "group_size": 1}
    first = jaxstab.run(settings)
    losses = first.history["train_loss"].tolist()
    settings["seeds"]["count"] = 5
    grown = jaxstab.run(settings)
    assert grown.path == first.path
    assert grown.seeds.tolist() == [0, 1, 2, 3, 4]
    assert grown.history["train_loss"].tolist()[: len(losses)] == losses
    settings["output"]["dir"] = str(tmp_path / "whole")
    whole = jaxstab.run(settings)
    _same(grown, whole)
    np.testing.assert_array_equal(grown.representations, whole.representations)
    settings["seeds"]["count"] = 3
    with pytest.raises(jaxstab.InputError, match=r"holds a run of another config \(other seeds.count\)"):
        jaxstab.run(settings)


@pytest.mark.optimiser
def test_added_seeds_train_alone(settings, monkeypatch):
    from jaxstab.training.waves import SeedTrainer

    settings["output"]["keep_representations"] = True
    settings["seeds"] = {"list": [3, 1], "group_size": 1}
    jaxstab.run(settings)
    trained, train_wave = [], SeedTrainer.train_wave

    def watched(self, wave, *others):
        trained.extend(job.triple.seed for group in wave for job in group)
        return train_wave(self, wave, *others)

    monkeypatch.setattr(SeedTrainer, "train_wave", watched)
    settings["seeds"]["list"] = [3, 1, 7]
    assert jaxstab.run(settings).seeds.tolist() == [3, 1, 7]
    assert trained == [7]


@pytest.mark.optimiser
def test_seeds_cannot_be_added_without_representations(settings):
    run = jaxstab.run(settings)
    settings["seeds"]["count"] = 6
    with pytest.raises(jaxstab.InputError, match="only if it has saved its representations"):
        jaxstab.run(settings)
    assert jaxstab.Run.load(run.path).info.status == "finished"


def test_resuming_needs_a_run(tmp_path, capsys):
    assert main(["resume", str(tmp_path)]) == 2
    assert "not a run directory (no config.toml); start one with: jaxstab run CONFIG" in capsys.readouterr().err


@pytest.mark.optimiser
def test_resuming_a_finished_run_shows_it(settings, capsys):
    run = jaxstab.run(settings)
    before = Path(run.path / "run.json").read_text()
    assert main(["resume", str(run.path)]) == 0
    assert "Instability" in capsys.readouterr().out
    assert Path(run.path / "run.json").read_text() == before
