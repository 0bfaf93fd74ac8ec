"""Help texts: every command's help has an example that its own options accept, and Tab completes commands."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from jaxstab.cli import cli
from jaxstab.config import load_config
from jaxstab.errors import InputError

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("verb", sorted(cli.commands))
def test_every_help_has_an_example_that_parses(verb):
    text = CliRunner().invoke(cli, [verb, "--help"], terminal_width=200).output
    examples = [line.strip() for line in text.splitlines() if re.match(r"\s+(srun )?jaxstab ", line)]
    own = [one for one in examples if re.match(rf"(srun )?jaxstab {verb}\b", one)]
    assert own, text
    for example in examples:
        _, name, *arguments = shlex.split(example.removeprefix("srun "))
        command = cli.commands[name]
        command.make_context(name, arguments, resilient_parsing=False)


def test_the_help_of_all_names_every_verb():
    text = CliRunner().invoke(cli, ["--help"]).output
    assert "jaxstab run bundled:quickstart" in text
    assert all(re.search(rf"^  {verb} +\w.*\.$", text, re.MULTILINE) for verb in cli.commands)
    assert "..." not in text.partition("Commands:")[2]  # nothing is cut
    assert max(map(len, text.splitlines())) <= 80


def test_tab_completes_verbs():
    environment = os.environ | {"_JAXSTAB_COMPLETE": "bash_complete", "COMP_WORDS": "jaxstab mea", "COMP_CWORD": "1"}
    line = [sys.executable, "-c", "import sys; from jaxstab.cli import cli; cli(prog_name='jaxstab')"]
    out = subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout
    assert out.split() == ["plain,measure", "plain,measures"]


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["run", "c.toml", "--train.ep"], {"--train.epochs", "--train.epsilon"}),
        (["plan", "c.toml", "--grid.mitigation.mixout."], {"--grid.mitigation.mixout.p"}),
        (["run", "c.toml", "--qui"], {"--quiet"}),
        (["run", "c.toml", "--task.metric", "ma"], {"macro_f1", "matthews"}),
        (["run", "c.toml", "--task.metric", "=", "ma"], {"macro_f1", "matthews"}),
        (["run", "c.toml", "--mitigation.methods", "ema,lo"], {"ema,lora", "ema,longer"}),
        (["run", "c.toml", "--seeds.crossed", ""], {"true", "false"}),
        (["run", "c.toml", "--train.epochs", ""], set()),
        (["run", "bun"], {"bundled:quickstart", "bun"}),
        (["measure", ""], {"runs/a", "runs/b"}),
        (["compare", "runs/a", "mine=runs/b"], {"mine=runs/b"}),
        (["export", "runs/"], {"runs/a", "runs/b"}),
        (["report", "other"], {"other"}),
        (["measure", "runs/a", "--measures", "jsd,fle"], {"jsd,fleiss_kappa"}),
        (["validity", "runs/a", "--metric", "bal"], {"balanced_accuracy"}),
    ],
)
def test_tab_completes_keys_values_measures_and_runs(words, completed, tmp_path, monkeypatch):
    for name in ("runs/a", "runs/b", "data"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / "runs" / name / "run.json").touch()
    monkeypatch.chdir(tmp_path)
    found = ShellComplete(cli, {}, "jaxstab", "_JAXSTAB_COMPLETE").get_completions(words[:-1], words[-1])
    assert {item.value for item in found} == completed


def test_the_bundled_quickstart_is_the_one_in_configs():
    config = load_config("bundled:quickstart", ["--seeds.count", "3"])
    assert config == load_config(CONFIGS / "quickstart.toml", ["--seeds.count", "3"])
    assert (config.name, config.task.source) == ("quickstart", "bundled:bbc-news")
    with pytest.raises(InputError, match="give the path of a TOML file"):
        load_config("bundled:quickstar")
