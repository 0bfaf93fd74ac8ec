"""Early stopping: a stopped seed has the numbers of the epochs before, and the others do not notice."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from test_checkpoints import Interrupted
from test_interruption import _same
from test_waves import _train, _trainer

import jaxstab
from jaxstab.config import make_config
from jaxstab.errors import InputError
from jaxstab.experiment.inputs import load_inputs
from jaxstab.training.stopping import begin_waiting, has_stopped, last_epochs, wait

PATIENCE, EPOCHS = 2, 8
SCORE = st.sampled_from([0.25, 0.5, 0.75, -np.inf, np.nan])


@settings_of_hypothesis(deadline=None)
@given(st.lists(SCORE, min_size=1, max_size=8), st.integers(1, 3))
def test_the_rule_of_a_whole_curve_is_that_of_one_score_after_another(scores, patience):
    waiting, taken = begin_waiting(), 0
    for score in scores:
        if not has_stopped(waiting, patience):
            taken += 1
            waiting = wait(waiting, jnp.float32(score))
    told = np.array(scores)[:taken]
    kept = np.array([told.tolist() + [told[-1]] * (len(scores) - taken)])  # as a stopped seed's curve goes on
    assert min(last_epochs(kept, patience)[0], len(scores)) == taken


def test_a_hand_worked_curve():
    scores = np.array([[0.5, 0.7, 0.6, 0.7, 0.8], [0.5, 0.6, 0.7, 0.8, 0.9]])
    assert last_epochs(scores[:, :4], 2).tolist() == [4, 6]  # an equal score is no improvement
    assert (last_epochs(scores, None) > 5).all()


def test_patience_must_be_positive(settings):
    with pytest.raises(InputError, match=r"train.patience = 0: must be greater than 0"):
        make_config({**settings, "train": {"patience": 0}})


@pytest.fixture
def noisy(settings):
    """A config in which seeds stop at different epochs."""
    settings["task"] |= {"metric": "neg_log_loss"}
    settings["train"] |= {"epochs": EPOCHS, "learning_rate": 1e-2, "patience": PATIENCE}
    return settings


def _results(values, *seeds):
    config = make_config(values)
    return _train(_trainer((config, *load_inputs(config)), group_size=2, devices=1), *seeds, learning_rate=1e-2)


def _stop(scores):
    """The number of epochs by the definition: the first with so many after the best until then."""
    waited = [epoch - 1 - int(np.argmax(scores[:epoch])) for epoch in range(1, EPOCHS + 1)]
    return next((epoch for epoch, count in enumerate(waited, 1) if count >= PATIENCE), EPOCHS)


@pytest.mark.optimiser
@pytest.mark.parametrize("vmapped", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_stopped_seed_has_the_numbers_of_the_epochs_that_it_took(vmapped, noisy, monkeypatch):
    monkeypatch.setattr("jaxstab.training.programs.vmaps_seeds", lambda device: vmapped)
    whole = _results({**noisy, "train": noisy["train"] | {"patience": None}}, 0, 1, 2, 3)
    stopped, stops = _results(noisy, 0, 1, 2, 3), []
    for seed, one in whole.items():
        stops.append(_stop(one.validation_score))
        for curve in ("train_loss", "validation_loss", "validation_score"):
            before, after = np.split(getattr(stopped[seed], curve), [stops[-1]])
            assert np.array_equal(before, getattr(one, curve)[: stops[-1]])
            assert (after == before[-1]).all()
        if np.argmax(one.validation_score) < stops[-1]:  # no later epoch was better
            assert np.array_equal(stopped[seed].logits, one.logits)
        assert np.array_equal(stopped[seed].final_logits, one.final_logits) == (stops[-1] == EPOCHS)
    assert len(set(stops)) > 1
    assert min(stops) < EPOCHS


@pytest.mark.optimiser
def test_a_run_lists_the_epochs_that_were_trained_and_says_so(noisy, capsys):
    noisy["seeds"] = {"count": 2, "group_size": 2}
    run = jaxstab.run(noisy)
    epochs = run.history.groupby("seed")["epoch"].max().to_numpy()
    assert epochs.tolist() == [_stop(curve) for curve in run.curves["validation_score"]]
    assert run.curves["train_loss"].shape == (2, epochs.max())
    assert jaxstab.cli.main(["run", str(run.path / "config.toml")]) == 0
    assert "stopped early" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.optimiser
@pytest.mark.parametrize("vmapped", [False, True])
def test_it_resumes_to_the_same_numbers(vmapped, noisy, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxstab.training.programs.vmaps_seeds", lambda device: vmapped)
    noisy["output"]["keep_weights"] = "final"
    whole, interruptions = jaxstab.run({**noisy, "output": noisy["output"] | {"dir": str(tmp_path / "whole")}}), 0
    for after in (7, 19, 33, 50):
        try:
            jaxstab.run(noisy, display=Interrupted(after))
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions > 1
    run = jaxstab.run(noisy)
    _same(run, whole)
    for file in sorted((whole.path / "weights").iterdir()):
        assert (run.path / "weights" / file.name).read_bytes() == file.read_bytes()
