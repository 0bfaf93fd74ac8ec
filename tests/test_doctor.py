"""The checks of `jaxstab doctor`."""

import importlib.metadata
import json

import jax
import pytest

from jaxstab.cli import doctor, main


def test_facts_about_the_machine_are_listed(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert f"{'jax:':16}{jax.__version__}" in out
    assert f"4 x {jax.devices()[0].device_kind}" in out
    assert out.endswith("No problem found.\n")


def test_json(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["jaxstab"] == importlib.metadata.version("jaxstab")
    assert found["problems"] == []


@pytest.mark.parametrize(
    ("attribute", "value", "line"),
    [
        ("PACKAGES", ("jax", "no-such-package"), "no-such-package is not installed; install it with: pip install"),
        ("LITTLE_DISK", 1e18, "GB are free at"),
        ("LITTLE_MEMORY", 1e18, "GB of memory are free"),
    ],
)
def test_problems_are_listed(attribute, value, line, monkeypatch, capsys):
    monkeypatch.setattr(doctor, attribute, value)
    assert main(["doctor"]) == 1
    assert line in capsys.readouterr().out


def test_a_gpu_that_jax_does_not_use(monkeypatch, capsys):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert main(["doctor"]) == 1
    assert 'pip install "jax[cuda12]"' in capsys.readouterr().out


def test_a_directory_that_cannot_be_written_to(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: path != tmp_path)
    assert doctor.diagnose(tmp_path / "new").problems == [
        f"{tmp_path} cannot be written to; choose another directory, or change its rights"
    ]
