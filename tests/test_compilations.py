"""How many programs a whole run compiles, from start to summary: each costs up to 100 ms on a GPU."""

import logging
import re
from contextlib import contextmanager

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxstab
from jaxstab import measures
from jaxstab.cli.printing import print_summary
from jaxstab.experiment import run as experiment

MOST_AFTER_TRAINING = 6  # pairs of seeds, sets of seeds; two for representations, of all seeds and of a null's six
MOST = 14


@contextmanager
def _compiled():
    """Collects the names of programs as they are compiled; none comes from a cache."""
    names, handler = [], logging.Handler()
    handler.emit = lambda record: names.extend(re.findall(r"Finished XLA compilation of (\S+)", record.getMessage()))
    logger = logging.getLogger("jax")
    # Not by context managers, which do not reach the threads that compile training.
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    jax.config.update("jax_log_compiles", True)
    jax.clear_caches()
    logger.addHandler(handler)
    try:
        yield names
    finally:
        logger.removeHandler(handler)
        jax.config.update("jax_log_compiles", False)
        jax.config.update("jax_enable_compilation_cache", before)
        jax.clear_caches()


@pytest.fixture
def counted(settings, monkeypatch):
    """Returns a function that runs, prints the summary, and returns the programs compiled up to training and after."""

    def run():
        trained = []

        def finish(*arguments, finish=experiment._finish):
            trained.extend(names)
            finish(*arguments)

        monkeypatch.setattr(experiment, "_finish", finish)
        settings["seeds"]["count"] = 7  # more than the seeds of a null
        with _compiled() as names:
            print_summary(jaxstab.run(settings), Console(quiet=True))
        return trained, names[len(trained) :]

    return run


@pytest.mark.optimiser
def test_a_run_compiles_few_programs(counted):
    trained, after = counted()
    print(f"{len(trained + after)} programs: {', '.join(trained)}; after training: {', '.join(after)}")
    assert trained  # names are collected at all
    assert {"jit(pair_distances)", "jit(set_values)", "jit(layer_distances)"} <= set(after)
    assert len(after) <= MOST_AFTER_TRAINING
    assert len(trained + after) <= MOST


@pytest.mark.slow
@pytest.mark.optimiser
def test_on_an_accelerator_measures_are_compiled_while_seeds_train(counted, monkeypatch):
    monkeypatch.setattr(experiment, "platform", lambda: "gpu")
    trained, after = counted()
    assert "jit(layer_distances)" in trained
    assert after == []


def test_what_is_prepared_is_not_compiled_again():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 20, 3)).astype(np.float32), rng.integers(3, size=20)
    inputs = measures.check(logits, labels=labels, representations=rng.normal(size=(7, 2, 20, 5)))
    with _compiled() as names:
        measures.prepare(seeds=7, examples=20, features=5, classes=3, metric="f1")
        assert len(names) == MOST_AFTER_TRAINING
        measures.measure_inputs(inputs, "f1")
        assert len(names) == MOST_AFTER_TRAINING
