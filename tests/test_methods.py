"""The declaration of methods: registry, functions and documents agree; a new method is one file and one row."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import jaxstab
from jaxstab.config import GRID_KEYS, METHODS, dump_config, make_config
from jaxstab.errors import InputError
from jaxstab.mitigation import make_methods

PACKAGE = Path(jaxstab.__file__).parent
MINIMAL = {"model": {"source": "m"}, "task": {"source": "t"}}


def test_every_file_is_declared_and_every_row_has_its_file():
    files = {file.stem for file in (PACKAGE / "mitigation").glob("*.py")} - {"__init__", "method"}
    assert files == set(METHODS)
    assert {other for one in METHODS.values() for other in one.excludes} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_row_function_and_config_agree(name):
    declared = METHODS[name]
    function = getattr(import_module(f"jaxstab.mitigation.{name}"), name)
    assert set(inspect.signature(function).parameters) == set(declared.settings) - set(declared.varying)
    config = make_config({**MINIMAL, "mitigation": {"method": name}})
    assert config.mitigation.settings(name) == {key: one.default for key, one in declared.settings.items()}
    assert {f"mitigation.{name}.{key}" for key in declared.varying} <= set(GRID_KEYS)
    (method,) = make_methods(config.mitigation)
    assert method.about
    assert method.source
    described = re.findall(r"^ {8}(\w+): ", function.__doc__.partition("Settings:")[2], re.MULTILINE)
    assert described == list(declared.settings)


def test_the_documentation_lists_every_method_with_its_settings():
    text = (Path(__file__).parents[1] / "docs" / "mitigation.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", text, re.MULTILINE))
    assert list(rows) == list(METHODS)
    for name, declared in METHODS.items():
        defaults = {key: one.default for key, one in declared.settings.items()}
        shown = {key: json.loads(value) for key, value in re.findall(r"`(\w+) = ([^`]+)`", rows[name])}
        assert shown == {key: list(value) if isinstance(value, tuple) else value for key, value in defaults.items()
                         if value is not None}  # fmt: skip
        assert re.findall(r"`(\w+)\b", rows[name]) == list(defaults)


def test_settings_survive_being_written_and_read():
    names = [name for name in METHODS if name not in METHODS["lora"].excludes]
    config = make_config({**MINIMAL, "mitigation": {"methods": names, "lora": {"targets": ["key"]}}})
    import tomllib

    assert make_config(tomllib.loads(dump_config(config))) == config


def test_a_number_without_limits_of_its_own_is_still_checked():
    with pytest.raises(InputError, match=r"mitigation\.sam\.rho = True: should be a valid number"):
        make_config({**MINIMAL, "mitigation": {"method": "sam", "sam": {"rho": True}}})


NEW = '''
"""A made-up method: pre-trained weights are scaled."""
import jax
from jaxstab.mitigation.method import Method

def scaled(only: str) -> Method:
    def initial(params, key, context):
        factor = context.hyper["mitigation.scaled.factor"]
        return {k: jax.tree.map(lambda x: x * factor, v) if k == only else v for k, v in params.items()}
    return Method(about="scaled", source="made up", initial=initial)
'''
ROW = '"scaled": Declaration({"factor": number(float, 1.0, ge=0), "only": Setting(str, "classifier", varies=False)}),'


@pytest.mark.slow
def test_a_new_method_is_its_own_file_and_one_row(settings, tmp_path):
    """Adds a method to a copy of the package: it is checked, suggested, varied in a grid, trained and recorded."""
    package = shutil.copytree(PACKAGE, tmp_path / "jaxstab", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "mitigation" / "scaled.py").write_text(NEW)
    registry = package / "config" / "methods.py"
    registry.write_text(registry.read_text().replace('"longer": ', ROW + '\n    "longer": '))
    settings |= {"seeds": {"count": 1}, "train": settings["train"] | {"epochs": 1, "learning_rate": 1e-12}}
    (tmp_path / "config.toml").write_text(dump_config(make_config(settings)))

    def run(*overrides):
        line = [sys.executable, "-m", "jaxstab", "run", "config.toml", "--mitigation.method", "scaled", *overrides]
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "XLA_FLAGS": ""}
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    refused = run("--mitigation.scaled.facter", "2.0")
    assert "unknown key mitigation.scaled.facter; did you mean mitigation.scaled.factor?" in refused.stderr
    assert "mitigation.scaled.factor = -1: should be greater than or equal to 0" in run(
        "--mitigation.scaled.factor", "-1"
    ).stderr  # fmt: skip
    trained = run("--grid.mitigation.scaled.factor", "[0.0, 1.0]")
    assert trained.returncode == 0, trained.stderr
    nothing, whole = (np.load(tmp_path / "run" / f"factor={factor}" / "predictions.npz") for factor in ("0.0", "1.0"))
    assert np.abs(nothing["final_logits"]).max() < 1e-6
    assert np.abs(whole["final_logits"]).max() > 1e-3
