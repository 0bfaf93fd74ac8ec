"""Scores that are Python functions: what a run does with one that it knows already, and errors."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import fbeta_score

import jaxstab
from jaxstab import measures
from jaxstab.errors import InputError
from jaxstab.experiment.progress import Progress

LABELS = np.random.default_rng(0).integers(2, size=40)
LOGITS = np.random.default_rng(1).normal(size=(3, 40, 2)).astype(np.float32) + 0.8 * np.eye(2, dtype=np.float32)[LABELS]


def own_macro_f1(labels, logits):
    hits = [((labels == c) & (logits.argmax(1) == c)).sum() for c in (0, 1)]
    return np.mean([2 * hits[c] / ((labels == c).sum() + (logits.argmax(1) == c).sum()) for c in (0, 1)])


def f2(labels, logits):
    return fbeta_score(labels, logits.argmax(1), beta=2, zero_division=0)


@pytest.fixture(autouse=True)
def _registry():
    """Scores that a test adds are gone after it."""
    before = set(measures.SCORES)
    yield
    for name in set(measures.SCORES) - before:
        del measures.SCORES[name]


def test_a_function_gives_what_the_same_score_of_ours_gives():
    name = measures.add_score(own_macro_f1)
    known, own = (measures.all(logits=LOGITS, labels=LABELS, metric=one).scores for one in ("macro_f1", name))
    assert own.pop("metric") == "own_macro_f1"
    assert known.pop("metric") == "macro_f1"
    for key, value in known.items():
        np.testing.assert_allclose(_numbers(own[key]), _numbers(value), rtol=1e-6)
    on_device = measures.score_of_logits(name, jnp.asarray(LOGITS[0]), jnp.asarray(LABELS))
    assert float(on_device) == pytest.approx(own_macro_f1(LABELS, LOGITS[0]), rel=1e-6)


def _numbers(value):
    return [*value["interval"], value["value"]] if isinstance(value, dict) else list(np.atleast_1d(value))


@pytest.mark.optimiser
def test_a_run_chooses_the_best_epoch_by_a_function_and_says_its_name(settings):
    own = jaxstab.run(settings, score=own_macro_f1)
    settings["output"]["dir"] += "-ours"
    ours = jaxstab.run({**settings, "task": settings["task"] | {"metric": "macro_f1"}})
    assert own.info.metric == "own_macro_f1"
    np.testing.assert_array_equal(own.logits, ours.logits)
    np.testing.assert_allclose(own.scores, ours.scores)
    np.testing.assert_allclose(own.curves["validation_score"], ours.curves["validation_score"], rtol=1e-6)
    del measures.SCORES["own_macro_f1"]  # as in another process, or on the command line
    later = jaxstab.measure(own)
    assert later.scores["per_seed"] == own.scores.tolist()
    assert any("is a Python function" in line for line in later.warnings)


class Stopped(Progress):
    def evaluated(self, wave, epoch, evaluation):
        raise KeyboardInterrupt


@pytest.mark.optimiser
def test_an_interrupted_run_needs_its_function_again(settings):
    with pytest.raises(KeyboardInterrupt):
        jaxstab.run(settings, score=f2, display=Stopped())
    with pytest.raises(
        InputError, match=r"began with the score f2, now it is accuracy; .*jaxstab.run\(config, score=f2\)"
    ):
        jaxstab.run(settings)
    assert jaxstab.run(settings, score=f2).info.metric == "f2"


def test_wrong_functions_are_one_line_before_any_work(settings):
    def broken(labels, logits):
        raise KeyError("weights")

    def large(labels, logits):
        return 100.0

    for score, match in (
        (broken, "score: the score broken failed: KeyError: 'weights'"),
        (large, "score: the score large is 100, outside of 0 to 1; declare its range"),
        (lambda labels, logits: 0.5, "score: the score <lambda> has no name; give one"),
    ):
        with pytest.raises(InputError, match=match):
            jaxstab.run(settings, score=score)
    with pytest.raises(InputError, match=r"task.metric = 'f1', and a function as score; keep one"):
        jaxstab.run({**settings, "task": settings["task"] | {"metric": "f1"}}, score=f2)


def test_names_and_ranges_are_checked():
    with pytest.raises(ValueError, match="another score accuracy"):
        measures.add_score(f2, name="accuracy")
    with pytest.raises(ValueError, match="from 1 to 0 is no range"):
        measures.add_score(f2, low=1, high=0)
    assert measures.add_score(f2, low=-1) == measures.add_score(f2) == "f2"
