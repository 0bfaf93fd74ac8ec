"""Examples of each seed's own: drawn as said, and a seed trains as if the task had just these examples."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from test_checkpoints import Interrupted
from test_interruption import _same
from test_waves import Silent, _assert_equal, _job
from tiny import make_rows

import jaxstab
from jaxstab.analysis.sample import as_sample
from jaxstab.analysis.variance import variance_shares
from jaxstab.config import SeedsConfig, SeedTriple, TaskConfig, make_config
from jaxstab.config.loading import as_values
from jaxstab.data.batches import choose_grid, example_orders, fixed_batches, grid_of_subsets, have_orders
from jaxstab.data.draws import Draws, draw, make_draws
from jaxstab.data.task import load_task
from jaxstab.experiment.finish import _history
from jaxstab.experiment.inputs import load_inputs, recipe_for
from jaxstab.training.programs import Programs
from jaxstab.training.waves import SeedTrainer, make_waves

LABELS = np.random.default_rng(0).choice(3, 90, p=[0.6, 0.3, 0.1])


def _anything(examples):
    return True


def _draw(draws, labels=LABELS, can_train=_anything, can_validate=_anything, **seeds):
    return draw(draws, labels, SeedTriple(0, 0, 0, 0, **seeds), can_train, can_validate)


# What is drawn


@pytest.mark.parametrize("split", range(5))
def test_a_split_divides_the_pool_and_each_class_evenly(split):
    train, validation = _draw(Draws(60, 30, 0), split=split)
    assert sorted([*train, *validation]) == list(range(90))
    assert len(validation) == 30
    for label in range(3):
        assert abs(np.sum(LABELS[validation] == label) - np.sum(label == LABELS) / 3) <= 1
    again, other = (_draw(Draws(60, 30, 0), split=one).validation for one in (split, split + 1))
    np.testing.assert_array_equal(validation, again)
    assert list(validation) != list(other)


def test_every_example_is_equally_often_for_validation():
    often = np.zeros(90)
    for split in range(600):
        often[_draw(Draws(60, 30, 0), split=split).validation] += 1
    # 200 of 600 expected, standard deviation 11.5.
    assert (abs(often - 200) < 60).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_data_seed_draws_what_the_same_subset_seed_draws(seed, task_directory):
    config = TaskConfig(source=str(task_directory), text=("sentence",), train_examples=20, subset_seed=seed)
    drawn = _draw(Draws(20, 0, 99), labels=np.zeros(44, int), data=seed)
    np.testing.assert_array_equal(drawn.train, load_task(config).train.example_ids)
    assert len(drawn.validation) == 0
    without = _draw(Draws(20, 0, seed), labels=np.zeros(44, int))  # no data seed
    np.testing.assert_array_equal(drawn.train, without.train)


def test_another_split_leaves_most_of_a_data_seeds_examples():
    draws = Draws(30, 10, 0)
    first, second, other = (_draw(draws, split=s, data=d) for s, d in ((0, 0), (1, 0), (0, 1)))
    for one in (first, second, other):
        assert len(one.train) == 30
        assert not set(one.train) & set(one.validation)
    # 30 of 80: another data seed shares 11 on average; another split takes away a ninth or so.
    assert len(set(first.train) & set(second.train)) >= 22
    assert len(set(first.train) & set(other.train)) <= 18


def test_what_does_not_fit_is_drawn_again():
    draws, first = Draws(30, 10, 0), _draw(Draws(30, 10, 0), split=0, data=0)

    def new(part):
        return lambda examples: not np.array_equal(examples, part)

    again = _draw(draws, can_train=new(first.train), can_validate=new(first.validation), split=0, data=0)
    assert list(again.train) != list(first.train)
    assert list(again.validation) != list(first.validation)
    assert not set(again.train) & set(again.validation)
    # Where the whole training part is used, it must fit too.
    whole = _draw(Draws(80, 10, 0), split=0)
    again = _draw(Draws(80, 10, 0), can_train=new(whole.train), split=0)
    assert list(again.validation) != list(whole.validation)


def test_nothing_is_drawn_by_default(task_directory):
    task = load_task(TaskConfig(source=str(task_directory), text=("sentence",)))
    assert make_draws(task, TaskConfig(source="t"), SeedsConfig(count=3)) == (None, [])


# How it is laid out


@pytest.mark.usefixtures("all_grids")
@pytest.mark.parametrize(("drawn", "batch_size"), [(16, 16), (40, 16), (400, 16), (900, 8)])
def test_the_grids_hold_random_subsets(drawn, batch_size):
    rng = np.random.default_rng(3)
    lengths = np.minimum(3 + rng.geometric(0.1, 1000), 60)
    grid = choose_grid(lengths, batch_size, drawn)
    of_subsets = grid_of_subsets(lengths, drawn, grid.columns, 32)
    subsets = [lengths[rng.permutation(1000)[:drawn]] for _ in range(40)]
    assert sum(have_orders(one, grid, batch_size) for one in subsets) >= 39
    fitting = [fixed_batches(one, grid.columns, 32)[1].rows[0] <= of_subsets.rows[0] for one in subsets]
    assert sum(fitting) >= 37
    # The longest examples do not fit; that is found out, not waited for.
    longest = np.sort(lengths)[-drawn:]
    assert drawn == 900 or not have_orders(longest, grid, batch_size)


def test_all_examples_have_the_grid_of_all():
    lengths = np.random.default_rng(0).integers(3, 40, 200)
    assert choose_grid(lengths, 16, None) == choose_grid(lengths, 16)
    assert have_orders(lengths, choose_grid(lengths, 16), 16)


# How a seed trains


def _values(checkpoint, source, **seeds):
    return {
        "model": {"source": str(checkpoint)},
        "task": {"source": str(source), "text": ["sentence"], "max_length": 16},
        "seeds": seeds or {"count": 1},
        "train": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "precision": "float32"},
    }


def _prepared(values, grid=None):
    config = make_config(values)
    task, encoded, pretrained = load_inputs(config)
    recipe = recipe_for(config, task, encoded, pretrained)
    return (recipe if grid is None else replace(recipe, grid=grid)), task, encoded


def _train(recipe, encoded, *triples, group_size=2):
    """Results by seed."""
    trainer = SeedTrainer([Programs(recipe, encoded, group_size, jax.devices()[0])])
    waves = make_waves([_job(triple) for triple in triples], trainer.width, trainer.groups)
    return [one for number, wave in enumerate(waves) for one in trainer.train_wave(wave, number, Silent())]


def _write(directory, task, pool, train, validation):
    """A task of just these examples, with the same test split."""
    directory.mkdir()
    parts = {"train": [pool[i] for i in train], "validation": [pool[i] for i in validation], "test": _rows(task.test)}
    for name, rows in parts.items():
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return directory


def _rows(split):
    return [{"sentence": t, "label": int(c)} for t, c in zip(split.texts[0], split.labels, strict=True)]


@pytest.mark.optimiser
def test_a_seed_trains_as_on_a_task_of_its_own_examples(checkpoint, task_directory, tmp_path):
    """Bit for bit, where batches are laid out in the same grids."""
    values = _values(checkpoint, task_directory, split=[0, 1], data=[5, 6])
    values["task"]["train_examples"] = 21
    recipe, task, encoded = _prepared(values)
    triples = [SeedTriple(0, 1, 2, 3, split=0, data=5), SeedTriple(1, 1, 2, 3, split=1, data=6)]
    other, result = _train(recipe, encoded, *triples)
    pool = [*_rows(task.train), *_rows(task.validation)]
    np.testing.assert_array_equal(encoded.train.labels, [row["label"] for row in pool])
    drawn = _draw(encoded.draws, np.asarray(encoded.train.labels), split=1, data=6)
    own = _write(tmp_path / "own", task, pool, *drawn)
    plain, own_task, own_encoded = _prepared(_values(checkpoint, own), recipe.grid)
    np.testing.assert_array_equal(own_encoded.vocabulary, encoded.vocabulary)
    assert (len(own_task.train.labels), len(own_task.validation.labels)) == (21, 24)
    (expected,) = _train(plain, own_encoded, SeedTriple(9, 1, 2, 3))
    np.testing.assert_array_equal(result.train_loss, expected.train_loss)
    np.testing.assert_array_equal(result.final_logits, expected.final_logits)
    np.testing.assert_array_equal(result.validation_score, expected.validation_score)
    np.testing.assert_allclose(result.validation_loss, expected.validation_loss, rtol=1e-5)
    assert not np.array_equal(result.logits, other.logits)


@pytest.mark.optimiser
@pytest.mark.parametrize("vmapped", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_seed_is_the_same_alone_and_among_others(checkpoint, task_directory, monkeypatch, vmapped):
    monkeypatch.setattr("jaxstab.training.programs.vmaps_seeds", lambda device: vmapped)
    values = _values(checkpoint, task_directory, split=[0, 1], data=[0, 1], crossed=True)
    values["task"]["train_examples"] = 21
    recipe, _, encoded = _prepared(values)
    triples = make_config(values).seeds.resolve()
    together = _train(recipe, encoded, *triples)
    # Of a config that has these seeds only.
    recipe, _, encoded = _prepared(values | {"seeds": {"split": [1], "data": [0]}})
    (alone,) = _train(recipe, encoded, SeedTriple(7, 0, 0, 0, split=1, data=0))
    assert triples[2] == SeedTriple(2, 0, 0, 0, split=1, data=0)
    _assert_equal(alone, together[2])
    assert len({result.logits.tobytes() for result in together}) == 4


@pytest.mark.slow
@pytest.mark.optimiser
def test_the_program_of_an_accelerator_trains_the_same_seeds(checkpoint, task_directory, monkeypatch):
    recipe, _, encoded = _prepared(_values(checkpoint, task_directory, split=[0, 1]))
    triples = [SeedTriple(one, one, one, one, split=one) for one in range(2)]
    on_cpu = _train(recipe, encoded, *triples)
    monkeypatch.setattr("jaxstab.training.programs.vmaps_seeds", lambda device: True)
    for one, other in zip(_train(recipe, encoded, *triples), on_cpu, strict=True):
        np.testing.assert_allclose(one.final_logits, other.final_logits, atol=1e-4)
        np.testing.assert_allclose(one.validation_loss, other.validation_loss, atol=1e-4)


@pytest.mark.optimiser
def test_test_examples_stay_and_all_others_are_shared(checkpoint, task_directory):
    plain = _prepared(_values(checkpoint, task_directory))[2]
    split = _prepared(_values(checkpoint, task_directory, split=[0]))[2]
    for name in ("test", "validation"):
        for one, other in zip(getattr(plain, name), getattr(split, name), strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(split.train.labels) == 44 + 24
    assert split.draws == Draws(44, 24, 0)
    assert plain.draws is None


# A run


@pytest.mark.optimiser
def test_a_run_records_its_sources_and_resumes_to_the_same_numbers(settings, tmp_path, capsys):
    settings["task"]["train_examples"] = 20
    settings["seeds"] = {"init": [3], "split": [0, 1], "data": [0, 1], "crossed": True, "group_size": 2}
    with pytest.raises(KeyboardInterrupt):
        jaxstab.run(settings, display=Interrupted(7))
    assert jaxstab.Run(tmp_path / "run").info.status == "interrupted"
    run = jaxstab.run(settings)
    _same(run, jaxstab.run({**settings, "output": {"dir": str(tmp_path / "whole")}}))
    frame = run.to_frame()
    assert frame.columns.tolist()[:7] == [
        "seed", "init_seed", "order_seed", "dropout_seed", "split_seed", "data_seed", "repeat",
    ]  # fmt: skip
    assert frame[["init_seed", "split_seed", "data_seed"]].to_numpy().tolist() == [
        [3, 0, 0], [3, 0, 1], [3, 1, 0], [3, 1, 1],
    ]  # fmt: skip
    assert (run.info.examples.train, run.info.examples.validation, run.info.examples.test) == (20, 24, 30)
    assert run.info.notes[:2] == (
        "training and validation examples divided anew for each seed: 44 and 24, stratified",
        "20 of 44 training examples (drawn anew for each seed)",
    )
    assert run.info.seeds[3] == SeedTriple(3, 3, 0, 0, split=1, data=1)
    assert set(variance_shares(as_sample(run), ["mean"])[0].shares) == {"split", "data", "together"}
    assert len(set(as_sample(run).identities)) == 4
    assert jaxstab.cli.main(["seeds", str(run.path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "split" in out
    assert "data" in out


def test_without_them_nothing_of_them_is_written(settings):
    config = make_config(settings)
    assert not {"split", "data"} & as_values(config)["seeds"].keys()
    curves = dict.fromkeys(("train_loss", "validation_loss", "validation_score"), np.zeros((4, 2)))
    history = _history(config.seeds.resolve(), curves, np.full(4, 2), 6)
    assert history.columns.tolist()[:6] == ["seed", "init_seed", "order_seed", "dropout_seed", "repeat", "epoch"]


def test_example_orders_are_those_of_a_seeds_own_examples(checkpoint, task_directory):
    """The same order seed orders the same number of examples alike, whichever they are."""
    from jaxstab.training.lowering import _examples_of, share

    values = _values(checkpoint, task_directory, data=[0])
    values["task"]["train_examples"] = 20
    recipe, _, encoded = _prepared(values)
    _, grids = share(recipe, encoded)
    steps, validation = _examples_of(recipe, encoded, grids, SeedTriple(0, 0, 4, 0, data=2))
    drawn = _draw(encoded.draws, np.asarray(encoded.train.labels), data=2).train
    lengths = np.asarray(encoded.train.lengths)[drawn]
    expected = example_orders(4, lengths, recipe.grid, 8, 2)
    present = expected.indices >= 0
    np.testing.assert_array_equal(steps.indices[present], drawn[expected.indices[present]])
    assert (steps.indices[~present] == -1).all()
    np.testing.assert_array_equal(steps.starts, expected.starts)
    assert validation is None


# What cannot be


@pytest.mark.parametrize(
    ("task", "seeds", "message"),
    [
        ({"train_examples": 44}, {"data": [0]}, "task.train_examples = 44: there are 44, so that seeds.data draws"),
        ({"train_examples": 45}, {"data": [0]}, "task.train_examples = 45: there are 44; ask for fewer"),
        ({"train_examples": 5}, {"data": [0]}, "train.batch_size = 8: there are only 5 training examples"),
        ({"train_examples": 5}, {"split": [0]}, "train.batch_size = 8: there are only 5 training examples"),
    ],
)  # fmt: skip
def test_bad_numbers_are_one_line(task, seeds, message, checkpoint, task_directory):
    values = _values(checkpoint, task_directory, **seeds)
    values["task"] |= task
    with pytest.raises(jaxstab.InputError, match=message) as failure:
        load_inputs(make_config(values))
    assert "\n" not in str(failure.value)


def test_a_longer_validation_split_widens_the_pool(checkpoint, tmp_path):
    rows = make_rows(40, 1)
    longer = [{**row, "sentence": " ".join([row["sentence"]] * 2)} for row in make_rows(16, 2)]
    (tmp_path / "d").mkdir()
    for name, part in {"train": rows[:30], "validation": longer, "test": rows[30:]}.items():
        short = (
            [{**row, "sentence": " ".join(row["sentence"].split()[:4])} for row in part] if name == "train" else part
        )
        (tmp_path / "d" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in short))
    encoded = _prepared(_values(checkpoint, tmp_path / "d", split=[0]))[2]
    assert encoded.train.input_ids.shape == (46, encoded.validation.input_ids.shape[1])
    np.testing.assert_array_equal(encoded.train.input_ids[30:], encoded.validation.input_ids)
    np.testing.assert_array_equal(encoded.train.lengths[30:], encoded.validation.lengths)
