"""Several runs in one command: those that share a program, and those that do not."""

import json

import jax
import numpy as np
import pytest

import jaxstab
from jaxstab import cli
from jaxstab.cli.display import Display
from jaxstab.config import by_program, dump_config, expand_grid, make_config

pytestmark = pytest.mark.optimiser


def _config_file(settings, tmp_path):
    (tmp_path / "config.toml").write_text(dump_config(make_config(settings)))
    return str(tmp_path / "config.toml")


class Interrupted(Display):
    """Interrupts in the second wave, like Ctrl-C."""

    def evaluated(self, wave, epoch, evaluation):
        if wave == 1:
            raise KeyboardInterrupt


def _grid(settings, **grid):
    return {**settings, "grid": grid, "mitigation": {"method": "llrd"}}


def test_a_grid_is_one_run_for_each_setting_in_one_compilation(settings, tmp_path):
    """Every run of the grid is bit for bit equal to a run with these values alone."""
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))
    grid = _grid(settings, train={"learning_rate": [1e-3, 3e-3]}, mitigation={"llrd": {"rate": [0.5, 1.0]}})
    runs = jaxstab.run_grid(grid)
    jax.monitoring.clear_event_listeners()
    assert [run.path.name for run in runs] == [
        f"learning_rate={rate},rate={decay}" for rate in (0.001, 0.003) for decay in (0.5, 1.0)
    ]
    assert runs[1].config.train.learning_rate == 0.001
    assert runs[1].config.mitigation.llrd.rate == 1.0
    assert len({run.scores.mean() for run in runs} | {float(run.logits.sum()) for run in runs}) > 4
    train = {**settings["train"], "learning_rate": 3e-3}
    method = {"method": "llrd", "llrd": {"rate": 0.5}}
    alone = jaxstab.run({**settings, "train": train, "mitigation": method, "output": {"dir": str(tmp_path / "alone")}})
    np.testing.assert_array_equal(alone.logits, runs[2].logits)
    np.testing.assert_array_equal(alone.final_logits, runs[2].final_logits)
    standard = jaxstab.run({**settings, "output": {"dir": str(tmp_path / "standard")}})
    np.testing.assert_allclose(standard.final_logits, runs[1].final_logits, atol=1e-4)  # a factor of 1 changes nothing


def test_a_grid_resumes_and_grows(settings, monkeypatch):
    grid = _grid(settings, train={"learning_rate": [1e-3, 3e-3]})
    with pytest.raises(KeyboardInterrupt):
        jaxstab.run_grid(grid, display=Interrupted(quiet=True))
    trained = []

    class Listening(Display):
        def compiled(self, seconds, waves, taken, plan):
            trained.extend(seed for wave in waves for seed in wave)
            super().compiled(seconds, waves, taken, plan)

    grid["grid"]["train"]["learning_rate"].append(5e-3)
    runs = jaxstab.run_grid(grid, display=Listening(quiet=True))
    assert len(runs) == 3
    assert len(trained) == 2 + 4 + 4
    assert trained[0] == "2 of learning_rate=0.001"


def test_a_grid_on_the_command_line_prints_a_table(settings, tmp_path, capsys):
    settings["seeds"] = {"count": 2}
    path = _config_file(settings, tmp_path)
    assert cli.main(["run", path, "--grid.train.learning_rate", "[1e-3, 2e-3]"]) == 0
    printed = capsys.readouterr().out
    assert "learning_rate=0.001" in printed
    assert "learning_rate=0.002" in printed
    assert "2 x 2 seeds" in printed
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "learning_rate=0.001" in page
    assert cli.main(["compare", *map(str, sorted((tmp_path / "run").iterdir()))]) == 0  # the page among them
    with pytest.raises(jaxstab.InputError, match=r"use jaxstab\.run_grid"):
        jaxstab.run(_grid(settings, train={"learning_rate": [1e-3]}))


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("seeds.count", "[2, 4]", "grid.seeds.count: cannot vary; it is the same for all runs of a grid"),
        ("output.dir", "[a, b]", "grid.output.dir: cannot vary"),
        ("train.epochs", "[]", "grid.train.epochs = []: give a list of values"),
        ("train.epoch", "[1, 2]", "unknown key train.epoch"),
        ("mitigation.method", "[mixout, mixup]", "mitigation.method"),
    ],
)
def test_impossible_grids_are_refused_before_anything_is_loaded(settings, tmp_path, capsys, key, values, said):
    assert cli.main(["run", _config_file(settings, tmp_path), f"--grid.{key}", values]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_configs_that_differ_in_numbers_share_a_program(settings):
    grid = {
        "mitigation": {"method": ["standard", "mixout"]},
        "train": {"learning_rate": [1e-3, 2e-3], "epochs": [1, 2]},
    }
    configs = expand_grid(make_config({**settings, "grid": grid}))
    assert [config.name for config in configs[:2]] == [
        "tiny/method=standard,learning_rate=0.001,epochs=1",
        "tiny/method=standard,learning_rate=0.001,epochs=2",
    ]
    groups = by_program(configs)
    kinds = [{(one.mitigation.method, one.train.epochs) for one in group} for group in groups]
    assert kinds == [{("standard", 1)}, {("standard", 2)}, {("mixout", 1)}, {("mixout", 2)}]
    assert [[one.train.learning_rate for one in group] for group in groups] == [[1e-3, 2e-3]] * 4


def test_methods_and_training_sizes_in_one_command(settings, tmp_path):
    settings["seeds"] = {"count": 3}
    settings["train"]["epochs"] = 1
    grid = {"mitigation": {"method": ["standard", "bitfit"]}, "train": {"learning_rate": [1e-3, 2e-3]}}
    runs = jaxstab.run_grid({**settings, "grid": grid})
    assert [(one.config.mitigation.method, one.config.train.learning_rate) for one in runs] == [
        (method, rate) for method in ("standard", "bitfit") for rate in (1e-3, 2e-3)
    ]
    mitigation, train = {"method": "bitfit"}, {**settings["train"], "learning_rate": 2e-3}
    alone = jaxstab.run(
        {**settings, "mitigation": mitigation, "train": train, "output": {"dir": str(tmp_path / "alone")}}
    )
    np.testing.assert_array_equal(alone.logits, runs[3].logits)
    with pytest.raises(jaxstab.InputError, match="needs several programs; use"):
        jaxstab.plan({**settings, "grid": grid})


def test_each_program_of_a_grid_is_planned(settings, tmp_path, capsys):
    settings["seeds"], settings["name"] = {"count": 3}, "tiny"
    settings["grid"] = {"mitigation": {"method": ["standard", "bitfit"]}, "train": {"learning_rate": [1e-3, 2e-3]}}
    config = _config_file(settings, tmp_path)
    assert cli.main(["plan", config, "--json"]) == 0
    programs = json.loads(capsys.readouterr().out)["programs"]
    assert [len(one["runs"]) for one in programs] == [2, 2]
    assert all(
        method in name for one, method in zip(programs, ("standard", "bitfit"), strict=True) for name in one["runs"]
    )
    assert programs[1]["seed_bytes"] < programs[0]["seed_bytes"]  # bitfit has no moments of matrices
    assert [one["waiting_bytes"] for one in programs] == [programs[0]["waiting_bytes"]] * 2
    assert cli.main(["plan", config]) == 0
    printed = capsys.readouterr().out
    assert printed.count("seeds at once") == 2
    assert printed.count("note: texts that are in two splits") == 1
    assert "\n2 programs, one after another" in printed


def test_a_mistake_in_a_later_program_is_found_before_the_first_is_trained(settings, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxstab.experiment.run.plan_trainer", lambda *_: pytest.fail("compiled"))
    settings["grid"] = {"task": {"text": [["sentence"], ["sentense"]]}}
    with pytest.raises(jaxstab.InputError, match="sentense"):
        jaxstab.run_grid(settings)
