"""`run.json`: what this and older versions wrote can be read; errors name what is damaged."""

import dataclasses
import json
from pathlib import Path

import pytest

from jaxstab.config import SeedTriple
from jaxstab.errors import InputError
from jaxstab.runs.directory import INFO, Run
from jaxstab.runs.info import FORMAT, BatchGrid, Examples, MajorityScore, Memory, info_from_json

OLDER = (Path(__file__).parent / "golden" / "run.json").read_text()  # written before `attention` was recorded


def _changed(**changes):
    """The older content with some values changed; None removes a key."""
    values = json.loads(OLDER) | changes
    return json.dumps({name: value for name, value in values.items() if value is not None})


def test_an_older_file_is_read_and_written_as_it_was():
    info = info_from_json(OLDER, "run.json")
    assert info.finished
    assert info.examples == Examples(256, 222, 223)
    assert info.majority_score == MajorityScore(validation=0.22972973, test=0.22869955)
    assert info.seeds[3] == SeedTriple(3, 3, 3, 3)
    assert info.grid == BatchGrid((16,), 32)
    assert info.memory == Memory(812197060, 20812334284, 2556424192)
    assert info.attention is None
    assert info.to_json() == json.loads(OLDER)


def test_what_is_not_known_yet_is_left_out():
    keys = ("compile_seconds", "memory", "failed_seeds", "failures", "measure_seconds", "sha256")
    begun = _changed(status="running", **dict.fromkeys(keys))
    info = info_from_json(begun.replace('"group_size": 2', '"group_size": null'), "run.json")
    assert (info.group_size, info.memory, info.failed_seeds, info.failures) == (None, None, (), {})
    assert info.to_json()["group_size"] is None
    assert not {"compile_seconds", "memory", "attention"} & info.to_json().keys()
    planned = dataclasses.replace(info, memory=Memory(1, 2))
    assert planned.to_json()["memory"] == {"predicted_bytes": 1, "limit_bytes": 2}


def test_numbers_of_failed_seeds_survive_json():
    failed = dataclasses.replace(info_from_json(OLDER, "run.json"), failed_seeds=[2], failures={2: "diverged"})
    written = json.dumps(failed.to_json())
    assert json.loads(written)["failures"] == {"2": "diverged"}
    assert info_from_json(written, "run.json") == failed


def test_run_info_is_frozen():
    info = info_from_json(OLDER, "run.json")
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.status = "running"
    assert dataclasses.replace(info, attention="reference").to_json()["attention"] == "reference"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (OLDER[:300], "missing or damaged"),
        ("", "missing or damaged"),
        ("[]", "missing or damaged"),
        (_changed(metric=None), "missing or damaged (metric: "),
        (_changed(status="paused"), "missing or damaged (status: "),
        (_changed(steps_per_epoch="many"), "missing or damaged (steps_per_epoch: "),
        (_changed(seeds=[{"seed": 0}]), "missing or damaged (seeds.0."),
        (_changed(memory={"predicted_bytes": 1}), "missing or damaged (memory.limit_bytes: "),
        (_changed(format=FORMAT + 1), f"format {FORMAT + 1} of jaxstab 0.1.0; this version reads format {FORMAT}"),
        (_changed(format=None, versions=None), "format 0 of jaxstab another version"),
        (_changed(format=7, versions=3), "format 7 of jaxstab another version"),
    ],
)
def test_what_is_damaged_is_one_line_that_names_the_file(content, message, tmp_path):
    (tmp_path / INFO).write_text(content)
    with pytest.raises(InputError) as caught:
        _ = Run(tmp_path).info
    assert str(caught.value).startswith(f"{tmp_path / INFO}: {message}")
    assert "\n" not in str(caught.value)
