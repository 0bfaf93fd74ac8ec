"""Real processes with two devices each, connected over loopback, against one process with four devices."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tomli_w
from test_interruption import _same

import jaxstab
from jaxstab.cli import main
from jaxstab.config import SeedTriple
from jaxstab.training import processes
from jaxstab.training.lowering import Job
from jaxstab.training.waves import SeedResult


@pytest.fixture(scope="module")
def config(checkpoint, task_directory, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    values = {
        "model": {"source": str(checkpoint)},
        "task": {"source": str(task_directory), "text": ["sentence"], "max_length": 16},
        "seeds": {"count": 5, "group_size": 1},
        "train": {"epochs": 12, "batch_size": 8, "learning_rate": 1e-3},
        "output": {"keep_weights": "final"},
    }
    path.write_text(tomli_w.dumps(values))
    return path


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Returns a function that starts a number of processes with a number of devices each."""
    caches = tmp_path_factory.mktemp("caches")

    def start(count, devices, *arguments, slurm=False):
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "XDG_CACHE_HOME": str(caches),
            "JAX_COMPILATION_CACHE_DIR": str(caches / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        line = [sys.executable, "-m", "jaxstab", *map(str, arguments)]
        started = []
        for i in range(count):
            who = ["--coordinator", address, "--processes", str(count), "--process", str(i)] if count > 1 else []
            if slurm:
                who, environment = ["--distributed"], environment | _slurm(count, i)
            started.append(
                subprocess.Popen(
                    [*line, *who], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
            )
        return started

    return start


def _slurm(count, i):
    """The environment variables that SLURM sets for a task."""
    return {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(count),
        "SLURM_PROCID": str(i),
        "SLURM_LOCALID": str(i),
    }


def _finish(started, code=0):
    ended = [(*process.communicate(timeout=600), process.returncode) for process in started]
    assert [returned for *_, returned in ended] == [code] * len(ended), ended
    return [out for out, *_ in ended], [error for _, error, _ in ended]


@pytest.fixture(scope="module")
def whole(config, start, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "whole"
    _finish(start(1, 4, "run", config, "--quiet", "--output.dir", directory))
    return jaxstab.Run.load(directory)


def _same_with_weights(run, whole):
    _same(run, whole)
    for file in sorted((whole.path / "weights").iterdir()):
        assert (run.path / "weights" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_two_processes_of_two_devices_equal_one_of_four(config, start, whole, tmp_path):
    directory = tmp_path / "run"
    options = "--output.dir", directory, "--output.tensorboard", "true"
    out, _ = _finish(start(2, 2, "run", config, *options, slurm=True))
    assert "2 processes" in out[0]
    files = sorted(path.parent.name for path in directory.glob("tensorboard/*/events.*"))
    assert files == ["all-seeds", *(f"seed-{seed}" for seed in range(5))]
    assert "Instability" in out[0]
    assert all(line.startswith("[Gloo]") for line in out[1].splitlines())  # XLA's log
    run = jaxstab.Run.load(directory)
    assert (run.info.processes, run.info.devices) == (2, 4)
    _same_with_weights(run, whole)


@pytest.mark.slow
def test_three_terminated_processes_resume_as_two(config, start, whole, tmp_path):
    directory = tmp_path / "run"
    options = "--output.dir", directory, "--output.checkpoint_minutes", "1e-6"
    started = start(3, 1, "run", config, "--quiet", *options)
    while not list(directory.glob("checkpoints/seed-2-step-*")) and all(one.poll() is None for one in started):
        time.sleep(0.02)
    for process in started:
        process.send_signal(signal.SIGTERM)
    _, errors = _finish(started, 130)
    assert f"resume with: jaxstab resume {directory}" in errors[0]
    assert jaxstab.Run(directory).info.status == "interrupted"
    assert list(directory.glob("checkpoints/seed-*-step-*"))
    _finish(start(2, 1, "resume", directory, "--quiet"))
    _same_with_weights(jaxstab.Run.load(directory), whole)


@pytest.mark.slow
def test_a_seed_in_training_resumes_on_more_processes_than_there_are_seeds(config, start, whole, tmp_path):
    directory = tmp_path / "run"
    options = "--output.dir", directory, "--output.checkpoint_minutes", "1e-6", "--seeds.count", "1"
    (process,) = start(1, 1, "run", config, "--quiet", *options)
    while not list(directory.glob("checkpoints/seed-0-step-*")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _finish([process], 130)
    out, _ = _finish(start(2, 1, "resume", directory))
    assert "resumed at epoch" in out[0]
    np.testing.assert_array_equal(jaxstab.Run.load(directory).final_logits[0], whole.final_logits[0])


@pytest.mark.slow
def test_bad_input_ends_all_processes(config, start, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    _, errors = _finish(start(2, 1, "run", config, "--output.dir", tmp_path / "mine"), 2)
    assert all("exists and is no run directory" in error for error in errors)


def _jobs(*groups):
    return [[Job(SeedTriple(seed, seed, seed, seed), {}) for seed in group] for group in groups]


def _result(seed):
    return SeedResult(*[np.float32(seed)] * 7)


def test_a_wave_is_shared_out_and_padding_counts_once(monkeypatch):
    wave = _jobs([0, 1], [2, 3], [4])
    monkeypatch.setattr("jax.process_count", lambda: 3)
    shares = processes.shares(wave, 2)
    assert shares == [wave[:2], wave[2:], []]
    by_process = [[0, 1, 2, 3], [4], [0, 1]]
    mine = [_result(seed) for seed in by_process[0]]
    place = iter(range(4))

    def everyone(result):
        i = next(place)
        return [_result(seeds[min(i, len(seeds) - 1)]) for seeds in by_process]

    monkeypatch.setattr(processes, "_everyones", everyone)
    found = [(job.triple.seed, float(result.logits)) for job, result in processes.gathered(wave, 2, mine)]
    assert sorted(found) == [(seed, float(seed)) for seed in range(5)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--processes", "2"], "--coordinator, --processes and --process belong together"),
        (["--coordinator", "a:1", "--processes", "2", "--process", "2"], "--process 2: there are 2"),
        (["--distributed"], "the other processes cannot be found"),
    ],
)
def test_processes_that_cannot_be_found(options, message, config, capsys):
    assert main(["run", str(config), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
