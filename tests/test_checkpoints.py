"""Checkpoints: a seed resumed on any devices and in any group gives the same numbers."""

import itertools
import shutil
import threading
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from test_interruption import _same

import jaxstab
from jaxstab.cli.display import Display
from jaxstab.config import SeedTriple
from jaxstab.runs.directory import Run
from jaxstab.training import checkpoints, waves
from jaxstab.training.lowering import Job
from jaxstab.training.programs import Programs

pytestmark = pytest.mark.optimiser


class Interrupted(Display):
    """Interrupts at the n-th stretch of steps, like Ctrl-C."""

    def __init__(self, after):
        super().__init__(quiet=True)
        self._left = after

    def stepped(self, wave, step):
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt


def _states(run):
    return sorted(path.name for path in (run / "checkpoints").glob("seed-*-step-*"))


@pytest.mark.slow
@pytest.mark.parametrize("vmapped", [False, True])
def test_an_epoch_resumed_on_other_devices_gives_the_same_numbers(vmapped, settings, tmp_path, devices, monkeypatch):
    monkeypatch.setattr("jaxstab.training.programs.vmaps_seeds", lambda device: vmapped)
    # bfloat16 moments, a moving average and saved weights: everything that a state can hold.
    settings |= {"train": settings["train"] | {"moments": "bfloat16"}, "mitigation": {"method": "ema"}}
    settings["seeds"] = {"count": 5, "group_size": 2}
    settings["output"] |= {"keep_weights": "best"}
    whole = jaxstab.run({**settings, "output": settings["output"] | {"dir": str(tmp_path / "whole")}})
    counts, interruptions = itertools.cycle([2, 1]), 0
    for after in (3, 9, 11):
        devices(next(counts))
        try:
            jaxstab.run(settings, display=Interrupted(after))
        except KeyboardInterrupt:
            interruptions += 1
            assert Run(tmp_path / "run").info.status == "interrupted"
    assert interruptions == 3
    devices(1)
    run = jaxstab.run(settings)
    _same(run, whole)
    for file in sorted((whole.path / "weights").iterdir()):
        assert (run.path / "weights" / file.name).read_bytes() == file.read_bytes()
    assert not (run.path / "checkpoints").exists()


def test_checkpoints_are_written_when_due_and_replace_older_ones(settings, tmp_path):
    settings["output"]["checkpoint_minutes"] = 1e-9
    with pytest.raises(KeyboardInterrupt):
        jaxstab.run(settings, display=Interrupted(12))
    (first, second) = _states(tmp_path / "run")
    assert first.startswith("seed-0-step-")
    assert second.startswith("seed-1-step-")
    steps = checkpoints.checkpointed_steps(Run(tmp_path / "run"))
    assert all(step > 0 for step in steps.values())

    class Listening(Display):
        steps = None

        def stepped(self, wave, step):
            if self.steps is None:
                Listening.steps = step
            super().stepped(wave, step)

    settings["output"]["checkpoint_minutes"] = 10
    jaxstab.run(settings, display=Listening(quiet=True))
    assert Listening.steps == min(steps.values())


@pytest.mark.parametrize(
    "harm", ["truncated", *(pytest.param(harm, marks=pytest.mark.slow) for harm in ("emptied", "another"))]
)
def test_a_damaged_one_is_named_and_the_seed_can_start_again(harm, settings, tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        jaxstab.run(settings, display=Interrupted(9))
    state = next((tmp_path / "run" / "checkpoints").glob("seed-1-step-*"))
    if harm == "truncated":
        for file in state.rglob("*"):
            if file.is_file() and file.stat().st_size > 1000:
                file.write_bytes(file.read_bytes()[:100])
    elif harm == "emptied":
        shutil.rmtree(state)
        state.mkdir()
    else:  # such as that of a model with fewer layers
        store = checkpoints.Checkpoints(10, print)
        job = Job(SeedTriple(1, 1, 1, 1), {}, run=tmp_path / "run")
        with store:
            store.save(job, 99, {"params.x": np.zeros(3, np.float32)})
        state = state.with_name("seed-1-step-99")
    with pytest.raises(jaxstab.InputError, match="seed-1-step-") as caught:
        jaxstab.run(settings)
    assert str(state) in str(caught.value)
    assert "delete it, and the seed starts from the beginning" in str(caught.value)
    shutil.rmtree(state)
    assert jaxstab.run(settings).seeds.tolist() == [0, 1, 2, 3]


def test_a_full_disk_is_a_warning_and_training_continues(settings, tmp_path, devices, monkeypatch, capsys):
    settings["output"]["checkpoint_minutes"] = 1e-9
    monkeypatch.setattr("jaxstab.training.checkpoints.shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    jaxstab.run(settings, display=Display())
    assert capsys.readouterr().out.count("note: a checkpoint of seed 0 needs 0.00 GB of disk, 0.00 are free") == 1


def test_incomplete_checkpoints_are_ignored(tmp_path):
    directory = tmp_path / "checkpoints"
    for name in (
        "seed-3-step-40",
        "seed-3-step-120",
        "seed-3-step-160.orbax-checkpoint-tmp",
        "seed-4.npz",
        "seed--1-step-7",
    ):
        (directory / name).mkdir(parents=True)
    assert checkpoints.checkpointed_steps(Run(tmp_path)) == {3: 120, -1: 7}


def _stored(store, *seeds, step=5, run, size=1000):
    """Saves those of some seeds that the store wants, and returns them."""
    wanted = []
    for seed in seeds:
        job = Job(SeedTriple(seed, 0, 0, 0), {}, run=run)
        if store.wants(job, step, 4 * size):
            store.save(job, step, {"x": np.zeros(size, np.float32)})
            wanted.append(seed)
    return wanted


@pytest.fixture
def held(monkeypatch):
    """Writers that wait until they are let go."""
    let_go = threading.Event()

    def slow(store, path, arrays):
        let_go.wait(60)
        path.mkdir(parents=True)

    monkeypatch.setattr(checkpoints.Checkpoints, "_save", slow)
    return let_go


def test_where_memory_is_short_training_does_not_wait_for_the_disk(tmp_path, monkeypatch, held):
    memory = SimpleNamespace(available=20_000)  # half of it is two and a half states
    monkeypatch.setattr("jaxstab.training.checkpoints.psutil.virtual_memory", lambda: memory)
    with checkpoints.Checkpoints(10, pytest.fail) as store:
        assert _stored(store, *range(5), run=tmp_path) == [0, 1]
        held.set()
        store.wait()
        held.clear()
        assert _stored(store, *range(5), run=tmp_path) == [2, 3]  # those that have a checkpoint are not wanted again
        held.set()
        store.wait()
        assert [store.unsaved(Job(SeedTriple(seed, 0, 0, 0), {}, run=tmp_path), 7) for seed in range(5)] == [2] * 4 + [
            7
        ]
    assert checkpoints.checkpointed_steps(Run(tmp_path)) == dict.fromkeys(range(4), 5)


def test_an_interrupt_waits_for_memory_until_its_time_is_over(tmp_path, monkeypatch, held):
    monkeypatch.setattr("jaxstab.training.checkpoints.psutil.virtual_memory", lambda: SimpleNamespace(available=100))
    held.set()
    with checkpoints.Checkpoints(10, pytest.fail) as store:
        store.hurry()
        assert _stored(store, *range(20), run=tmp_path) == list(range(20))
        store.wait()
        monkeypatch.setattr(checkpoints, "GRACE_SECONDS", -1)
        store.hurry()
        assert _stored(store, *range(20, 30), run=tmp_path) == []
    assert checkpoints.checkpointed_steps(Run(tmp_path)) == dict.fromkeys(range(20), 5)


def test_a_checkpoint_that_would_not_be_complete_in_time_is_not_begun(tmp_path, monkeypatch, held):
    monkeypatch.setattr(checkpoints, "WRITERS", 1)
    with checkpoints.Checkpoints(10, pytest.fail) as store:
        assert _stored(store, *range(4), run=tmp_path) == [0, 1, 2, 3]
        threading.Timer(0.2, held.set).start()  # the first takes .2 s
        monkeypatch.setattr(checkpoints, "GRACE_SECONDS", 0.3)
        store.hurry()
        time.sleep(0.15)
        store.wait()
    assert checkpoints.checkpointed_steps(Run(tmp_path)) == {0: 5}


def test_waiting_states_are_replaced_by_newer_ones_and_dropped_when_a_seed_ends(tmp_path, monkeypatch):
    written, first, may_go_on = [], threading.Event(), threading.Event()

    def slow(store, path, arrays):
        written.append(path.name)
        path.mkdir(parents=True)
        first.set()
        may_go_on.wait(60)

    monkeypatch.setattr(checkpoints.Checkpoints, "_save", slow)
    monkeypatch.setattr(checkpoints, "WRITERS", 1)
    one, other = (Job(SeedTriple(seed, 0, 0, 0), {}, run=tmp_path) for seed in range(2))
    with checkpoints.Checkpoints(10, pytest.fail) as store:
        store.save(one, 5, {"x": np.zeros(10, np.float32)})
        first.wait(60)
        for step in (6, 7, 8, 8):
            store.save(one, step, {"x": np.zeros(10, np.float32)})
            store.save(other, step, {"x": np.zeros(10, np.float32)})
        assert store._waiting() == 3 * 40
        store.forget(other)
        may_go_on.set()
    assert written == ["seed-0-step-5", "seed-0-step-8"]
    assert _states(tmp_path) == ["seed-0-step-8"]


def test_a_seed_is_saved_between_steps_only(monkeypatch):
    """After an interrupt, a thread may still be working while no one waits for it."""
    taking = threading.Event()

    def wait(value):  # like JAX, which returns a state before it is computed
        taking.set()
        time.sleep(0.05)

    monkeypatch.setattr(jax, "block_until_ready", wait)
    fake = Programs.__new__(Programs)
    vars(fake).update(
        recipe=SimpleNamespace(steps_per_epoch=50, config=SimpleNamespace(epochs=1, patience=None)),
        start=lambda jobs: (None, SimpleNamespace(step=0)),
        train=lambda state, inputs, start, stop: SimpleNamespace(loss_sum=0, step=stop),
        save=lambda state, best, place: {"step": np.array(state.step)},
    )
    group = waves._Group(fake)
    group.start([Job(SeedTriple(0, 0, 0, 0), {})], None)
    for _ in range(3):
        taking.clear()
        group.stopped = False
        thread = threading.Thread(target=group.train_epoch, args=(0, lambda: None, None))
        thread.start()
        assert taking.wait(60)
        group.stopped = True
        step, arrays = group.state(0)
        thread.join()
        assert arrays["step"] == step > 0


@pytest.mark.slow
def test_many_seeds_are_saved_as_far_as_time_allows_and_resume_to_the_same_numbers(settings, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxstab.training.programs.vmaps_seeds", lambda device: True)
    settings["seeds"] = {"count": 64, "group_size": 64}
    whole = jaxstab.run({**settings, "output": {"dir": str(tmp_path / "whole")}})
    save = checkpoints.Checkpoints._save

    def slow(*arguments):
        time.sleep(0.5)
        save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "_save", slow)
        patch.setattr(checkpoints, "GRACE_SECONDS", 4)
        with pytest.raises(KeyboardInterrupt) as caught:
            jaxstab.run(settings, display=Interrupted(8))
    names = _states(tmp_path / "run")
    assert 0 < len(names) < 64
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == names  # nothing incomplete
    message = f"saved {len(names)} of 64 seeds in training; {64 - len(names)} resume from the start"
    assert str(caught.value) == message
    with pytest.raises(KeyboardInterrupt) as caught:
        jaxstab.run(settings, display=Interrupted(3))
    assert str(caught.value) == "progress is saved"
    _same(jaxstab.run(settings), whole)
