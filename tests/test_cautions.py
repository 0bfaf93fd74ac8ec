"""What is said before training, and where every seed has failed."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

import jaxstab
from jaxstab.config import make_config
from jaxstab.config.rates import caution, suited
from jaxstab.data.task import Split, Task
from jaxstab.experiment.cautions import advise, cautions
from jaxstab.experiment.progress import Progress
from jaxstab.runs.info import BatchGrid, Examples, MajorityScore, RunInfo


@dataclass
class _Encoder:
    model_type: str = "bert"
    hidden_size: int = 768


def _split(texts, labels=None):
    labels = np.arange(len(texts), dtype=np.int32) % 2 if labels is None else np.asarray(labels, np.int32)
    return Split((list(texts),), labels, np.arange(len(texts), dtype=np.int32))


def _texts(start, count):
    return [f"text {i}" for i in range(start, start + count)]


TASK = Task(
    train=_split(_texts(0, 300)),
    validation=_split(_texts(300, 100)),
    test=_split(_texts(400, 100)),
    classes=("a", "b"),
    metric="accuracy",
    notes=(),
)


def _config(rate=3e-5, **mitigation):
    return make_config(
        {"model": {"source": "m"}, "task": {"source": "t"}, "train": {"learning_rate": rate}, "mitigation": mitigation}
    )


def test_numbers_have_no_classes_but_an_uncertain_correlation():
    numbers = {
        name: replace(getattr(TASK, name), labels=np.linspace(0, 1, len(getattr(TASK, name).labels), dtype=np.float32))
        for name in ("train", "validation")
    }
    few = replace(_split(_texts(400, 19)), labels=np.linspace(0, 1, 19, dtype=np.float32))
    task = replace(TASK, classes=(), test=few, **numbers)
    # 1.96 / sqrt(19) = .45
    assert cautions(_config(), task, _Encoder()) == ["19 test examples: a correlation is uncertain by ±0.45 (95 %)"]


def test_nothing_is_said_of_a_sound_task():
    assert cautions(_config(), TASK, _Encoder()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"test": _split([*_texts(0, 7), " text 300", *_texts(400, 92)])},
            "texts that are in two splits: of 100 test texts, 7 in training and 1 in validation; "
            "their scores say nothing about new texts",
        ),
        (
            {
                "train": _split(_texts(700, 301), [*[0, 1] * 150, 2]),
                "test": _split(_texts(400, 102), [0, 1, 2] * 34),
                "classes": ("a", "b", "c"),
            },
            "class 'c': one training example at most, too few",
        ),
        ({"classes": ("a", "b", "c"), "train": _split(_texts(0, 300), [0, 1, 2] * 100)}, "class 'c': no test example"),
        # 1.96 sqrt(.25 / 12) = .283
        ({"test": _split(_texts(400, 12))}, "12 test examples: an accuracy is uncertain by ±0.28 (95 %)"),
    ],
)
def test_what_is_wrong_with_examples_is_said(change, said):
    assert cautions(_config(), replace(TASK, **change), _Encoder()) == [said]


@pytest.mark.parametrize(
    ("rate", "model", "methods", "word"),
    [
        (5e-5, ("bert", 768), (), None),
        (1e-3, ("bert", 768), (), "far above 2e-5 to 5e-5, .*Devlin et al. .2019.*seeds may fail"),
        (1e-4, ("bert", 384), (), None),
        (1e-4, ("roberta", 1024), (), "far above 1e-5 to 3e-5"),
        (2e-5, ("bert", 768), ("lora",), "far below 1e-4 to 5e-4, which suit lora on this model"),
        (2e-4, ("llama", 4096), ("lora", "ema"), None),
        (1e-3, ("llama", 4096), (), "far above"),
        (1e-3, ("bert", 32), (), None),
    ],
)
def test_learning_rates_far_from_the_rule_of_thumb(rate, model, methods, word):
    said = caution(rate, *model, methods)
    if word is None:
        assert said is None
    else:
        assert re.search(word, said)


@pytest.mark.parametrize("width", [128, 384, 768, 1024, 4096])
@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "albert", "deberta-v2", "modernbert", "gemma"])
def test_every_rule_is_a_range_around_the_rate_to_try_first(kind, width):
    rates = suited(kind, width)
    assert rates.low <= rates.first <= rates.high
    assert caution(rates.first, kind, width) is None


def _info(failed, **values):
    return RunInfo(
        status="finished",
        wall_seconds=1.0,
        metric="accuracy",
        classes=("a", "b"),
        examples=Examples(100, 20, 20),
        examples_sha256="",
        notes=(),
        majority_score=MajorityScore(0.5, values.pop("majority", 0.5)),
        seeds=_config().seeds.resolve(),
        steps_per_epoch=values.pop("steps", 100),
        grid=BatchGrid((8,), 16),
        group_size=1,
        remat=False,
        out_of_memory=(),
        processes=1,
        devices=1,
        device="cpu",
        versions={},
        failed_seeds=tuple(range(failed)),
        **values,
    )


def test_a_plan_says_what_a_run_would_note(settings, monkeypatch):
    class Notes(Progress):
        said: list[str] = []  # noqa: RUF012

        def warn(self, line):
            self.said.append(line)

    def compiled(*_):
        raise InterruptedError

    monkeypatch.setattr("jaxstab.experiment.run.plan_trainer", compiled)
    with pytest.raises(InterruptedError):
        jaxstab.plan(settings, display=Notes())
    assert "30 test examples: an accuracy is uncertain by ±0.18 (95 %)" in Notes.said


def test_advice_only_where_every_seed_failed():
    assert advise(_config(), _info(9)) == []
    (said,) = advise(_config(rate=1e-3), _info(10, suited_rates=(2e-5, 5e-5), steps=10, majority=0.9))
    for part in ("2e-5 to 5e-5 (it is 1e-3)", "each seed took 50 steps only", "class_weights balanced"):
        assert part in said
    (said,) = advise(_config(), _info(10, suited_rates=(2e-5, 5e-5)))
    assert said.startswith("What may help: other learning rates (--grid.train.learning_rate 7.5e-6,1.2e-4);")
