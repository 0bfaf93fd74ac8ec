"""What is better known before training, and advice where all seeds have failed."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxstab.config import Config
from jaxstab.config.rates import caution, say_rate
from jaxstab.data.task import Task
from jaxstab.runs.info import RunInfo
from jaxstab.words import count, listing, plural

FEW_TEST = 100  # examples; an accuracy of fewer is uncertain by more than .1
FEW_STEPS = 200
LARGE_MAJORITY = 0.8
USUAL_RATES = (1e-5, 1e-3)  # where nothing is known of the model


def cautions(config: Config, task: Task, encoder: Any) -> list[str]:
    """Returns a sentence for each thing that will limit what a run can show.

    Args:
        config: of the run.
        task: its examples.
        encoder: the model's config (`jaxstab.models.families`).
    """
    rate = caution(config.train.learning_rate, encoder.model_type, encoder.hidden_size, config.mitigation.names)
    return [*_duplicates(task), *_rare_classes(task), *_few_tests(task), *filter(None, [rate])]


def advise(config: Config, info: RunInfo) -> list[str]:
    """Returns what may help where every seed of a run has failed, otherwise nothing.

    Args:
        config: of the run.
        info: of the run, once it has finished.
    """
    if len(info.failed_seeds) < len(info.seeds):
        return []
    rate, steps = config.train.learning_rate, info.steps_per_epoch * (config.mitigation.longer or config.train).epochs
    low, high = info.suited_rates or USUAL_RATES
    if low <= rate <= high:
        advice = [f"other learning rates (--grid.train.learning_rate {say_rate(rate / 4)},{say_rate(rate * 4)})"]
    else:
        advice = [f"a learning rate of {say_rate(low)} to {say_rate(high)} (it is {say_rate(rate)})"]
    if steps < FEW_STEPS:
        advice.append(f"more epochs (each seed took {count('step', steps)} only)")
    if info.majority_score.test > LARGE_MAJORITY and config.train.class_weights is None:
        advice.append("--train.class_weights balanced, as one class is that frequent")
    return [f"What may help: {listing(advice, 'or')}; or the labels do not follow from the texts."]


def _duplicates(task: Task) -> list[str]:
    """Texts that stand in two splits."""
    splits = {"training": task.train, "validation": task.validation, "test": task.test}
    texts = {name: [tuple(map(str.strip, one)) for one in zip(*s.texts, strict=True)] for name, s in splits.items()}
    known = {name: set(of_split) for name, of_split in texts.items()}
    found = []
    for name, others in (("test", ("training", "validation")), ("validation", ("training",))):
        shared = {other: len([one for one in texts[name] if one in known[other]]) for other in others}
        parts = [f"{number} in {other}" for other, number in shared.items() if number]
        if parts:
            found.append(f"of {count(f'{name} text', len(texts[name]))}, {listing(parts)}")
    return [f"texts that are in two splits: {'; '.join(found)}; their scores say nothing about new texts"] * bool(found)


def _rare_classes(task: Task) -> list[str]:
    """Classes that can hardly be learnt, or of which nothing is tested."""
    if task.train.labels.dtype.kind == "f":  # numbers, not classes
        return []
    counts = {name: np.bincount(getattr(task, name).labels, minlength=len(task.classes)) for name in ("train", "test")}
    once = [one for one, number in zip(task.classes, counts["train"], strict=True) if number <= 1]
    untested = [one for one, number in zip(task.classes, counts["test"], strict=True) if number == 0]
    notes = []
    if once:
        notes.append(f"{plural('class', len(once))} {_named(once)}: one training example at most, too few")
    if untested:
        notes.append(f"{plural('class', len(untested))} {_named(untested)}: no test example")
    return notes


def _named(classes: Sequence[str]) -> str:
    return listing([repr(one) for one in classes], most=5)


def _few_tests(task: Task) -> list[str]:
    """What a score is worth; half the width of its 95 % interval, by the normal distribution.

    It is that of an accuracy of .5, or of a correlation of 0.
    """
    there = len(task.test.labels)
    if there >= FEW_TEST:
        return []
    score, sd = ("an accuracy", 0.5) if task.classes else ("a correlation", 1.0)
    return [f"{count('test example', there)}: {score} is uncertain by ±{1.96 * sd / there**0.5:.2f} (95 %)"]
