"""The config: defaults, overrides and error messages, all without importing JAX."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from jaxstab.config import Config, SeedTriple, dump_config, load_config, make_config, parse_overrides
from jaxstab.errors import InputError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("**/*.toml"))
MINIMAL = {"model": {"source": "m"}, "task": {"source": "t"}}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_loads_and_opens_with_its_command(path):
    config = load_config(path)
    assert path.read_text().startswith(f"# jaxstab run configs/{path.relative_to(CONFIGS[0].parent)}\n")
    assert config.seeds.resolve()


def test_defaults_are_the_recipe_of_the_paper():
    train = make_config(MINIMAL).train
    assert (train.epochs, train.batch_size, train.learning_rate) == (5, 16, 2e-5)
    assert (train.warmup, train.weight_decay, train.clip_norm) == (0.1, 0.01, 1.0)


def test_a_config_survives_being_written_and_read(tmp_path):
    config = make_config({**MINIMAL, "seeds": {"list": [3, 7]}, "task": {"source": 'a "b"', "text": ["x", "y"]}})
    (tmp_path / "c.toml").write_text(dump_config(config))
    assert load_config(tmp_path / "c.toml") == config


def test_overrides_change_single_keys(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(dump_config(make_config({**MINIMAL, "train": {"epochs": 2, "batch_size": 8}})))
    config = load_config(path, ["--train.epochs", "9", "--seeds.list=[1, 2]", "--task.source", "data/x", "--name", "n"])
    assert (config.train.epochs, config.train.batch_size) == (9, 8)
    assert config.seeds.list == (1, 2)
    assert (config.task.source, config.name) == ("data/x", "n")


def test_a_run_is_called_after_its_config_file(tmp_path):
    (tmp_path / "reviews.toml").write_text('[model]\nsource = "m"\n[task]\nsource = "t"\n')
    config = load_config(tmp_path / "reviews.toml")
    assert (config.name, str(config.directory)) == ("reviews", "runs/reviews")


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_config(MINIMAL).train.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trian": {"epochs": 1}}, "unknown key trian; did you mean train?"),
        ({"train": {"epoch": 1}}, "unknown key train.epoch; did you mean train.epochs?"),
        ({"epochs": 3}, "unknown key epochs; did you mean train.epochs?"),
        ({"metric": "f1"}, "unknown key metric; did you mean task.metric?"),
        ({"source": "x"}, "unknown key source; did you mean model.source or task.source?"),
        ({"mixout": 0.1}, "unknown key mixout; did you mean mitigation.method = mixout?"),
        ({"seeds": 5}, "seeds = 5: is a table; set a key of it, such as seeds.count, seeds.list"),
        ({"train": {"xyzzy": 3}}, "unknown key train.xyzzy; known here: epochs"),
        ({"train": {"epochs": "3"}}, "train.epochs = '3': should be a valid integer"),
        ({"train": {"epochs": True}}, "train.epochs = True"),
        ({"train": {"learning_rate": float("inf")}}, "train.learning_rate"),
        ({"train": {"learning_rate": float("nan")}}, "train.learning_rate"),
        ({"train": 3}, "train = 3"),
        ({"train": {"epochs": 0}}, "train.epochs = 0: must be greater than 0"),
        ({"train": {"warmup": 1.0}}, "train.warmup = 1.0: must be at least 0 and less than 1"),
        ({"train": {"weight_decay": -1.0}}, "must not be negative"),
        (
            {"train": {"precision": "float16"}},
            "train.precision = 'float16': should be 'auto', 'float32', 'tensorfloat32' or 'bfloat16'",
        ),
        ({"task": {"source": "t", "text": ["a", "b", "c"]}}, "task.text names 3 columns"),
        ({"task": {"source": "t", "max_length": 2}}, "task.max_length = 2"),
        ({"task": {"metric": "accuracy"}}, "task.source is missing"),
        ({"seeds": {"list": [1, 1]}}, "seeds.list names a seed twice"),
        ({"seeds": {"list": []}}, "seeds.list is empty"),
        ({"seeds": {"list": [-1]}}, "a seed is an integer from 0"),
        ({"seeds": {"count": 3, "list": [1]}}, "exclude each other"),
        ({"seeds": {"count": 3, "init": [1]}}, "seeds.init replaces seeds.count"),
        ({"seeds": {"init": [1, 2], "order": [1, 2, 3]}}, "differ in length"),
        (
            {"seeds": {"crossed": True}},
            "seeds.crossed needs seeds.init, seeds.order, seeds.dropout, seeds.split or seeds.data",
        ),
        ({"seeds": {"data": [0]}}, "seeds.data needs task.train_examples"),
        ({"seeds": {"count": 3, "split": [1]}}, "seeds.split replaces seeds.count"),
        ({"seeds": {"split": [1, 2], "order": [1, 2, 3]}}, "seeds.order, seeds.split differ in length"),
        ({"seeds": {"split": []}}, "seeds.split is empty"),
        ({"seeds": {"data": [-1]}}, "seeds.data: a seed is an integer from 0"),
        ({"seeds": {"split": 3}}, "seeds.split = 3: "),
    ],
)
def test_bad_values_are_named_with_the_remedy(change, message):
    with pytest.raises(InputError) as failure:
        make_config({**MINIMAL, **change}, where="c.toml")
    assert message in str(failure.value)
    assert str(failure.value).startswith("c.toml: ")
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["train.epochs", "3"], "expected an override"), (["--train.epochs"], "has no value"), (["--", "3"], "expected")],
)
def test_bad_overrides(arguments, message):
    with pytest.raises(InputError, match=message):
        parse_overrides(arguments)


def test_the_command_line_takes_lists_without_brackets_and_text_without_quotes():
    arguments = [
        "--seeds.list",
        "1,2,3",
        "--task.text",
        "review",
        "--task.label",
        "2024",
        "--mitigation.methods=llrd,ema",
    ]
    given = parse_overrides([*arguments, "--output.keep-weights", "best", "--grid.train.warmup", "0,0.1"])
    assert given == {
        "seeds": {"list": [1, 2, 3]},
        "task": {"text": ["review"], "label": "2024"},
        "mitigation": {"methods": ["llrd", "ema"]},
        "output": {"keep_weights": "best"},
        "grid": {"train": {"warmup": [0, 0.1]}},
    }


@pytest.mark.parametrize(
    ("table", "arguments", "numbers"),
    [
        ("count = 20", ["--seeds.list", "1,2"], [1, 2]),
        ("list = [4]", ["--seeds.count", "2"], [0, 1]),
        ("init = [5, 6]\ncrossed = true", ["--seeds.list", "7"], [7]),
        ("count = 20", ["--seeds.init", "1,2", "--seeds.order", "3"], [0, 1]),
    ],
)
def test_seeds_of_the_command_line_replace_those_of_the_file(tmp_path, table, arguments, numbers):
    path = tmp_path / "c.toml"
    path.write_text(f'[model]\nsource = "m"\n[task]\nsource = "t"\n[seeds]\n{table}\n')
    assert [one.seed for one in load_config(path, arguments).seeds.resolve()] == numbers
    with pytest.raises(InputError, match=r"seeds.count and seeds.list exclude each other"):
        load_config(path, ["--seeds.count", "2", "--seeds.list", "1"])


def test_missing_and_malformed_files(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: cannot read the config"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[model\n")
    with pytest.raises(InputError, match=r"bad\.toml: not valid TOML"):
        load_config(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        load_config(tmp_path / "binary.toml")


def test_a_mistake_in_a_config_is_found_without_jax(tmp_path):
    """Importing JAX takes seconds."""
    (tmp_path / "c.toml").write_text(dump_config(make_config(MINIMAL)))
    program = (
        "import sys; from jaxstab.cli import main\n"
        "codes = [main(['run', 'c.toml', *change.split()]) for change in sys.argv[1:]]\n"
        "print(codes, 'jax' in sys.modules)"
    )
    mistakes = ["--train.epoch 3", "--mitigation.method mixot", "--mitigation.method sam --mitigation.sam.rho -1",
                "--grid.mitigation.freeze.layers [1]"]  # fmt: skip
    line = [sys.executable, "-c", program, *mistakes]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[2, 2, 2, 2] False\n"
    assert len(done.stderr.splitlines()) == 4


def _seeds(**values) -> tuple[SeedTriple, ...]:
    config: Config = make_config({**MINIMAL, "seeds": values})
    return config.seeds.resolve()


def test_seeds_resolve_to_triples():
    assert [t.seed for t in _seeds()] == list(range(10))
    assert _seeds(list=[7, 3]) == (SeedTriple(7, 7, 7, 7), SeedTriple(3, 3, 3, 3))
    assert _seeds(init=[4, 5], order=[9]) == (SeedTriple(0, 4, 9, 0), SeedTriple(1, 5, 9, 0))
    crossed = _seeds(init=[0, 1], order=[0, 1, 2], crossed=True)
    assert len(crossed) == 6
    assert crossed[-1] == SeedTriple(5, 1, 2, 0)


def test_split_and_data_seeds_resolve_like_the_others():
    assert _seeds(split=[4, 5]) == (SeedTriple(0, 0, 0, 0, split=4), SeedTriple(1, 0, 0, 0, split=5))
    assert _seeds(init=[7, 8], split=[1], repeats=2)[-1] == SeedTriple(3, 8, 0, 0, 1, split=1)
    config = make_config(
        {
            **MINIMAL,
            "task": {"source": "t", "train_examples": 9},
            "seeds": {"order": [2, 3], "data": [5, 6], "crossed": True},
        }
    )
    assert [(one.order, one.split, one.data) for one in config.seeds.resolve()] == [
        (2, None, 5), (2, None, 6), (3, None, 5), (3, None, 6),
    ]  # fmt: skip
