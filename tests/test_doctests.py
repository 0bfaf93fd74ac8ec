"""The examples in docstrings give the results that they show."""

import doctest
import importlib

import numpy as np
import pytest

import jaxstab

MODULES = (
    "analysis.compare",
    "analysis.measuring",
    "analysis.sample",
    "analysis.seed_study",
    "analysis.validity",
    "experiment.run",
    "measures.compute",
    "report.plots",
    "report.writing",
)


@pytest.mark.optimiser
@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"jaxstab.{name}")
    names = {"np": np, "Sample": jaxstab.Sample, "tiny": settings}
    found = [one for one in doctest.DocTestFinder().find(module, globs=vars(module) | names) if one.examples]
    assert found, f"{name} has no example"
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for one in found:
        runner.run(one)
    assert runner.summarize(verbose=False).failed == 0
