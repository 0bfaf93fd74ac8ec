"""Predicted memory of groups of seeds against that of larger compiled programs, and plans with too little memory."""

import json
import re
from dataclasses import replace

import jax
import numpy as np
import pytest
from test_run import _config_file
from tiny import SIZES

import jaxstab
from jaxstab import cli
from jaxstab.config import make_config
from jaxstab.errors import InputError
from jaxstab.experiment.inputs import load_inputs, recipe_for
from jaxstab.training import devices, planning, programs, waves
from jaxstab.training.least_memory import does_not_fit, least_memory
from jaxstab.training.planning import fitting_size, plan_trainer

pytestmark = pytest.mark.optimiser


@pytest.fixture
def inputs(settings):
    config = make_config(settings)
    task, encoded, pretrained = load_inputs(config)
    return recipe_for(config, task, encoded, pretrained), encoded


@pytest.mark.parametrize(
    ("wanted", "share", "limit", "size"),
    [
        (20, 20, 1000, 20),
        (20, 20, 100 + 14 * 10, 10),  # fourteen fit: two waves, of ten
        (20, 20, 100 + 6 * 10, 5),  # six fit: four waves, of five
        (20, 20, 105, 1),
        (20, 20, 50, 1),
        (7, 7, 100 + 3 * 10, 3),
    ],
)
def test_as_many_seeds_as_fit_in_even_waves(wanted, share, limit, size):
    assert fitting_size(wanted, share, fixed=100, each=10, limit=limit) == size


@pytest.mark.slow
def test_a_line_through_two_programs_predicts_the_memory_of_others(inputs, monkeypatch):
    monkeypatch.setattr(programs, "vmaps_seeds", lambda device: True)
    device = jax.devices()[0]
    compiled = {size: programs.Programs(*inputs, size, device) for size in (1, 3, 6)}
    # A program for one seed may choose a smaller grid at each step; its memory is that of the largest grid.
    fixed, each = planning.memory_line(compiled[6], compiled[3])
    for size, one in compiled.items():
        assert fixed + size * each == pytest.approx(one.shared_bytes + one.group_bytes, rel=0.15)


@pytest.mark.parametrize(
    ("preallocated", "pool", "free"), [(True, None, 665), (True, 500, 380), (False, 500, 665), (True, 900, 665)]
)
def test_memory_of_a_gpu_that_others_use_is_not_counted(preallocated, pool, free):
    stats = {"bytes_limit": 800, "bytes_in_use": 100} | ({"pool_bytes": pool} if pool else {})
    assert devices.free_memory(stats, preallocated) == free  # nineteen of twenty bytes


@pytest.mark.parametrize(
    "given",
    [
        {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".5"},
        {"XLA_CLIENT_MEM_FRACTION": ".5"},
    ],
)
def test_nearly_all_memory_of_a_gpu_is_claimed_unless_the_user_says_otherwise(given):
    environment = dict(given)
    devices.claim_memory(environment)
    assert environment == given
    environment = {"HOME": "/"}
    devices.claim_memory(environment)
    assert environment == {"HOME": "/", "XLA_CLIENT_MEM_FRACTION": "0.95"}


@pytest.mark.parametrize(("kind", "seeds"), [("cpu", 1), ("gpu", 1), ("gpu", 32)])
def test_layers_are_unrolled_where_it_saves_more_time_than_it_costs(inputs, monkeypatch, kind, seeds):
    """By hand: seconds of a step from its operations, and the seconds that compilation takes longer."""
    monkeypatch.setattr(planning, "platform", lambda: kind)
    recipe, cost = inputs[0], planning.UNROLLING[kind]
    layer = 4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32  # parameters of a layer of the tiny model
    tokens = recipe.grid.rows[-1] * recipe.grid.columns * seeds
    saved = cost.share * 6 * 2 * layer * tokens / cost.speed  # by a step
    steps = 2 * cost.compilation * len(recipe.grid.rows) / saved
    for epochs, pays in ((0.9, False), (1.1, True)):
        config = replace(recipe.config, epochs=1)
        longer = replace(recipe, config=config, steps_per_epoch=int(epochs * steps))
        assert planning.pays_to_unroll(longer, seeds) == pays
    monkeypatch.setattr(planning, "platform", lambda: "tpu")
    assert not planning.pays_to_unroll(longer, seeds)  # not measured there


@pytest.mark.slow
def test_layers_are_unrolled_if_asked(inputs):
    plan, trainer = plan_trainer(*inputs, 1, jax.devices()[:1], unroll=True)
    assert plan.unroll
    assert trainer.recipe.definition != trainer.recipe.predictor
    plan, _ = plan_trainer(*inputs, 1, jax.devices()[:1])
    assert not plan.unroll  # a few steps of a tiny model


@pytest.mark.slow
def test_groups_shrink_to_the_memory_and_activations_are_recomputed_last(inputs, monkeypatch):
    monkeypatch.setattr(programs, "vmaps_seeds", lambda device: True)
    monkeypatch.setattr(planning, "wanted_group_size", lambda share, devices: share)
    one = jax.devices()[:1]
    monkeypatch.setattr(planning, "memory_limit", lambda devices: 10**9)
    roomy, trainer = plan_trainer(*inputs, 4, one)
    assert (roomy.group_size, roomy.waves, roomy.remat, trainer.width * trainer.groups) == (4, 1, False, 4)
    monkeypatch.setattr(planning, "memory_limit", lambda devices: int(0.6 * roomy.needed_bytes))
    tight, trainer = plan_trainer(*inputs, 4, one)
    assert (tight.group_size, tight.waves, tight.remat, trainer.width * trainer.groups) == (2, 2, False, 2)
    monkeypatch.setattr(planning, "memory_limit", lambda devices: 1000)
    hopeless, _ = plan_trainer(*inputs, 4, one)
    assert (hopeless.group_size, hopeless.waves, hopeless.remat, hopeless.fits) == (1, 4, True, False)
    given, _ = plan_trainer(*inputs, 4, one, group_size=2, remat=False)
    assert (given.group_size, given.remat) == (2, False)


@pytest.mark.slow
def test_out_of_memory_halves_the_group_and_is_recorded(settings, tmp_path, monkeypatch, devices):
    devices(2)
    whole = jaxstab.run({**settings, "seeds": {"count": 4, "group_size": 4}})
    train_wave, tried = waves.SeedTrainer.train_wave, []

    def too_large(self, wave, *others):
        tried.append(len(wave))
        if len(wave) > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 byte.")
        return train_wave(self, wave, *others)

    monkeypatch.setattr(waves.SeedTrainer, "train_wave", too_large)
    again = {**settings, "output": {"dir": str(tmp_path / "again")}}
    run = jaxstab.run(again)
    assert tried == [4, 2, 2]
    assert (run.info.group_size, run.info.out_of_memory) == (1, (2,))
    np.testing.assert_array_equal(run.logits, whole.logits)
    assert run.info.memory.peak_bytes > run.info.memory.predicted_bytes


def test_other_errors_of_the_device_are_not_caught(settings, monkeypatch):
    def broken(self, *_):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    monkeypatch.setattr(waves.SeedTrainer, "train_wave", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="broken"):
        jaxstab.run(settings)


def test_plan_says_what_run_does_and_leaves_nothing(settings, tmp_path, capsys):
    path = _config_file(settings, tmp_path)
    assert cli.main(["plan", path, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "run").exists()
    least, *_ = _least(make_config(settings))
    assert least < plan["fixed_bytes"] + plan["seed_bytes"]
    assert plan["base_bytes"] == 0  # everything is trained
    run = jaxstab.run(settings)
    assert run.info.group_size == plan["group_size"] == 2
    assert run.info.memory.predicted_bytes == plan["needed_bytes"]
    assert plan["waves"] == 2
    assert plan["seconds"]["training"] > plan["seconds"]["step"] > 0
    assert plan["seconds"]["measuring"] > 0
    shape = len(run.seeds), SIZES["num_hidden_layers"], len(run.labels), SIZES["hidden_size"]
    assert plan["waiting_bytes"] == 4 * np.prod(shape)
    assert cli.main(["plan", path]) == 0
    assert re.search(r"training of all seeds +│ \d+:\d\d min", capsys.readouterr().out)
    assert cli.main(["plan", path, "--train.epoch", "3"]) == 2


@pytest.mark.slow
def test_compiled_programs_are_cached_in_the_cache_directory_of_the_user(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        jaxstab.run(settings)
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache" / "jaxstab" / "compiled")
        assert list((tmp_path / "cache" / "jaxstab" / "compiled").glob("jit_*"))
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def _least(config):
    _, encoded, pretrained = load_inputs(config)
    return least_memory(config, pretrained.config, np.asarray(encoded.train.lengths)), pretrained, encoded


def test_the_least_memory_by_hand(settings):
    """On a CPU: pre-trained values; of what is trained parameters, gradients, two moments and the best parameters."""
    least, pretrained, encoded = _least(make_config(settings))
    known = sum(leaf.size for leaf in jax.tree.leaves(pretrained.params))
    hidden = 3 * 32 * 4 * 8 * float(np.mean(encoded.train.lengths))
    assert least == 4 * known + (20 + 4) * 66 + 20 * known + int(hidden)
    lora = {"method": "lora", "lora": {"rank": 2}}
    least, *_ = _least(make_config({**settings, "mitigation": lora}))
    assert least == 4 * known + (20 + 4) * 66 + 20 * 2 * 2 * (32 * 2 + 2 * 32) + int(hidden)


def test_a_model_that_does_not_fit_is_refused_with_what_would(settings, monkeypatch):
    config = make_config(settings)
    least, pretrained, encoded = _least(config)
    arguments = pretrained.config, np.asarray(encoded.train.lengths)
    assert does_not_fit(config, *arguments, least) is None
    monkeypatch.setattr("jaxstab.experiment.inputs.memory_limit", lambda devices: least - 1)
    with pytest.raises(InputError) as caught:
        load_inputs(config)
    assert re.search(
        r"one seed needs at least 0\.\d MB, the device has 0\.\d MB: try mitigation\.method lora \(0\.\d MB\) or "
        r"mitigation\.method lora with model\.base_precision bfloat16 \(0\.\d MB\) or train\.moments bfloat16 \(",
        str(caught.value),
    )
    assert "take a smaller model" in does_not_fit(config, *arguments, 1000)
    adapted = make_config({**settings, "mitigation": {"method": "lora"}})
    assert "try model.base_precision bfloat16 (" in does_not_fit(
        adapted, *arguments, least_memory(adapted, *arguments) - 1
    )
