"""A first config for somebody's own data, with comments: what `jaxstab init` writes."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxstab import libraries
from jaxstab.config import ModelConfig, load_config
from jaxstab.config.rates import say_rate, suited
from jaxstab.data.guessing import Columns, guess_columns
from jaxstab.data.rows import read_rows
from jaxstab.data.sources import load_splits
from jaxstab.data.task import load_task
from jaxstab.errors import InputError
from jaxstab.models.pretrained import load_encoder_config, resolve_model
from jaxstab.words import count, listing

MODEL = "bundled:minilm"
UNEQUAL = 3  # times as many examples of the largest class as of the smallest
STEPS, EPOCHS, BATCHES = 200, (3, 20), (16, 8, 4, 2)
TOKENS_PER_WORD, LENGTHS, STEP = 1.5, (32, 256), 32

TEMPLATE = """\
# jaxstab run {file}
# Written by jaxstab init; every other key has a default: docs/how-to.md, configs/own-data.toml.
name = {name}

[model]
source = {model}

[task]
source = {data}{splits}
text = {text}
label = {label}{classes}{kind}
metric = "{metric}"{why}
max_length = {length}{cut}{drop}

[seeds]
count = 10

[train]
epochs = {epochs}{steps}
batch_size = {batch}
learning_rate = {rate}{source}
"""


@dataclass(frozen=True)
class Started:
    """What `init` has written.

    Attributes:
        path: the config.
        columns: which were taken.
        classes: how many examples each class has, in all splits; none of a regression.
        rows: how many there are.
        dropped: how many of them have no text or no label.
    """

    path: Path
    columns: Columns
    classes: dict[str, int]
    rows: int
    dropped: int

    def __str__(self) -> str:
        """What was found, as sentences."""
        number, kept = len(self.classes), self.rows - self.dropped
        shown = [f"{name} {examples}" for name, examples in self.classes.items()]
        shares = f"{count('class', number)} ({listing(shown, most=8)})" if shown else "numbers"
        left = f"; {count('row', self.dropped)} without text or label left out" if self.dropped else ""
        where = f"text in {listing(self.columns.text)}, label in {self.columns.label}"
        return f"{count('example', kept)}{left}; {where}: {shares}"


def init(
    data: str | Path,
    path: str | Path | None = None,
    *,
    model: str = MODEL,
    text: Sequence[str] | None = None,
    label: str | None = None,
) -> Started:
    """Writes a first config for somebody's own data, with comments.

    Args:
        data: a file, a directory with `train.*`, or `hub:owner/name`, as in `[task] source`.
        path: where to write; by default the name of the data with `.toml`, here.
        model: as in `[model] source`.
        text: the text columns, if they are known; otherwise guessed (`jaxstab.data.guessing`).
        label: the label column, likewise.

    Raises:
        InputError: the data or the model cannot be used, or the file is already there.
    """
    source = str(data)
    path = Path(path or f"{Path(source.rpartition(':')[2]).stem}.toml")
    if path.exists():
        raise InputError(f"{path}: is already there; write to another with -o, or delete it")
    raw = load_splits(source)
    columns = guess_columns(raw["train"], source, text, label)
    rows = {
        name: read_rows(split, columns.text, columns.label, f"{source}: {name} split") for name, split in raw.items()
    }
    rows = {name: one for name, one in rows.items() if one.labelled}
    kept = {name: one.without_empty() for name, one in rows.items()}
    labels = [str(value) for one in kept.values() for value in one.labels]
    classes = {} if columns.numbers else dict(sorted(Counter(labels).items()))
    total = sum(len(one.labels) for one in rows.values())
    if len(classes) < 2 and not columns.numbers:
        raise InputError(
            f"{source}: column {columns.label!r} has {count('class', len(classes))}; name another: --label"
        )
    train = len(kept["train"].labels) * (1.0 if "validation" in kept else 0.8)
    values = _settings(kept, classes, train, model)
    values |= {
        "file": path,
        "name": json.dumps(path.stem),
        "model": json.dumps(model),
        "data": json.dumps(source, ensure_ascii=False),
        "text": json.dumps(list(columns.text), ensure_ascii=False),
        "label": json.dumps(columns.label, ensure_ascii=False),
        "splits": "" if "validation" in kept else "  # 80 % for training, 10 % validation, 10 % test, by split_seed",
        "classes": "  # numbers" if columns.numbers else f"  # {count('class', len(classes))}",
        "kind": '\nkind = "regression"' * columns.numbers,
        "drop": f"\ndrop_empty = true  # {total - len(labels)} of {count('row', total)}" * (total > len(labels)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEMPLATE.format(**values), encoding="utf-8")
    try:
        load_task(load_config(path).task)
    except InputError:
        path.unlink()
        raise
    return Started(path, columns, classes, total, total - len(labels))


def _settings(kept: dict[str, Any], classes: dict[str, int], train: float, model: str) -> dict[str, Any]:
    """What suits these data and this model, with the reasons as comments."""
    unequal = bool(classes) and max(classes.values()) > UNEQUAL * min(classes.values())
    usual = "accuracy" if classes else "pearson"
    texts = kept["train"].texts
    words = [sum(len(text.split()) for text in one) for one in zip(*texts, strict=True)]
    encoder = _read_model(model, len(classes) or 1)
    most = min(LENGTHS[1], LENGTHS[1] if encoder is None else encoder.max_length)
    wanted = STEP * math.ceil(TOKENS_PER_WORD * float(np.quantile(words, 0.95)) / STEP)
    cut = float(np.mean(np.multiply(words, TOKENS_PER_WORD) > most))
    batch = next((size for size in BATCHES if 4 * size <= train), 1)
    epochs = int(np.clip(math.ceil(STEPS * batch / train), *EPOCHS))
    rates = None if encoder is None else suited(encoder.model_type, encoder.hidden_size)
    return {
        "metric": "macro_f1" if unequal else usual,
        "why": '  # classes are of unequal size; class_weights = "balanced" in [train] may help' * unequal,
        "length": max(4, min(most, max(wanted, LENGTHS[0]))),
        "cut": f"  # tokens; longer texts are cut, about {cut:.0%} of them" if cut >= 0.01 else "  # tokens",
        "epochs": epochs,
        "steps": f"  # about {round(epochs * (train // batch))} steps",
        "batch": batch,
        "rate": say_rate(rates.first if rates else 2e-5),
        "source": f"  # {say_rate(rates.low)} to {say_rate(rates.high)} suit this model: {rates.source}"
        if rates
        else "  # usual for models of base size; of this one nothing is known",
    }


def _read_model(model: str, classes: int) -> Any | None:
    """The model's config; of a hub model without its weights, and None if the hub does not answer."""
    kind, _, name = model.partition(":")
    if kind != "hub":
        return load_encoder_config(resolve_model(ModelConfig(model)), classes, ModelConfig(model), None)
    import huggingface_hub

    try:
        with libraries.quiet():
            file = huggingface_hub.hf_hub_download(name, "config.json")
    except Exception:  # training will say why
        return None
    return load_encoder_config(Path(file).parent, classes, ModelConfig(model), None)
