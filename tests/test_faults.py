"""Damaged, missing or outdated files of a run are named in the error, whatever reads them; seeds that diverge."""

import json
import shutil

import numpy as np
import pytest

import jaxstab
from jaxstab.cli import main
from jaxstab.runs.directory import (
    CONFIG,
    DISTANCES,
    HISTORY,
    INFO,
    MEASURES,
    PREDICTIONS,
    REPRESENTATIONS,
    TEXTS,
)
from jaxstab.runs.info import FORMAT

pytestmark = pytest.mark.optimiser

READERS = {
    PREDICTIONS: lambda run: run.logits,
    HISTORY: lambda run: run.history,
    MEASURES: lambda run: run.scores,
    DISTANCES: lambda run: run.distances,
    TEXTS: lambda run: run.texts,
    REPRESENTATIONS: lambda run: run.representations,
    INFO: lambda run: run.info,
    CONFIG: lambda run: run.config,
}


@pytest.fixture(scope="module")
def finished(checkpoint, task_directory, tmp_path_factory):
    return jaxstab.run(
        {
            "model": {"source": str(checkpoint)},
            "task": {"source": str(task_directory), "text": ["sentence"], "max_length": 16},
            "seeds": {"count": 2, "group_size": 2},
            "train": {
                "epochs": 2,
                "batch_size": 8,
                "learning_rate": 1e-3,
            },  # as in `settings`, so that both share one compilation
            "output": {"dir": str(tmp_path_factory.mktemp("runs") / "run"), "keep_representations": True},
        }
    )


@pytest.fixture
def copy(finished, tmp_path):
    return jaxstab.Run(shutil.copytree(finished.path, tmp_path / "copy"))


def _truncated(content):
    return content[: len(content) // 2]


def _emptied(content):
    return b""


def _flipped(content):
    """Flips a bit in the middle of the content, where numbers and texts are."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("harm", [_truncated, _emptied, _flipped, None])
def test_a_damaged_file_is_named(name, harm, copy):
    path = copy.path / name
    if harm is _flipped and name in (REPRESENTATIONS, INFO):
        pytest.skip("has no digest")
    if harm is None and name == REPRESENTATIONS:
        pytest.skip("may be deleted to save room")
    if harm is None:
        path.unlink()
    else:
        path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(jaxstab.InputError) as caught:
        READERS[name](jaxstab.Run(copy.path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("verb", ["measure", "compare", "report", "resume"])
def test_commands_name_a_damaged_file(verb, copy, capsys, tmp_path):
    path = copy.path / PREDICTIONS
    path.write_bytes(_flipped(path.read_bytes()))
    arguments = {"compare": [str(copy.path)] * 2, "report": [str(copy.path), "-o", str(tmp_path / "page.html")]}
    assert main([verb, *arguments.get(verb, [str(copy.path)])]) == 2
    assert f"{path}: missing or damaged" in capsys.readouterr().err


@pytest.mark.parametrize("found", [None, FORMAT + 1])
def test_another_version_is_named(found, copy, capsys):
    info = json.loads((copy.path / INFO).read_text())
    info = {name: value for name, value in info.items() if name != "format"} | ({"format": found} if found else {})
    (copy.path / INFO).write_text(json.dumps(info))
    for verb in ("measure", "resume"):
        assert main([verb, str(copy.path)]) == 2
        error = capsys.readouterr().err
        assert f"{copy.path / INFO}: format {found or 0} of jaxstab" in error
        assert f"this version reads format {FORMAT}" in error


def test_a_finished_seed_that_is_damaged_is_named(finished, settings, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxstab.experiment.run.finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        jaxstab.run(settings)
    monkeypatch.undo()
    for name in ("seed-1.npz", "seed-1.npy"):
        path = tmp_path / "run" / "checkpoints" / name
        whole = path.read_bytes()
        path.write_bytes(_truncated(whole))
        with pytest.raises(jaxstab.InputError, match="damaged") as caught:
            jaxstab.run(settings)
        assert str(path) in str(caught.value)
        path.write_bytes(whole)
    assert jaxstab.run(settings).seeds.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("vmapped", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_seed_that_diverges_leaves_the_others_as_they_are(vmapped, settings, tmp_path, monkeypatch):
    """One learning rate of a grid is far too large; its seeds share programs and groups with the other seeds."""
    monkeypatch.setattr("jaxstab.training.programs.vmaps_seeds", lambda device: vmapped)
    settings["train"]["clip_norm"] = 1e30
    settings["seeds"] = {"count": 3, "group_size": 2}
    alone = jaxstab.run({**settings, "output": {"dir": str(tmp_path / "alone")}})
    good, bad = jaxstab.run_grid({**settings, "grid": {"train.learning_rate": [1e-3, 1e30]}})
    np.testing.assert_array_equal(good.logits, alone.logits)
    assert good.history.equals(alone.history)
    assert not np.isfinite(bad.final_logits).any()
    assert bad.info.failed_seeds == (0, 1, 2)
    assert all("not finite" in reason for reason in bad.info.failures.values())
    assert good.info.failures != bad.info.failures
