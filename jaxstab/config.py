"""The whole experiment as frozen dataclasses: read from TOML, changed by ``--a.b value``, checked once, here.

Nothing in this module imports JAX. Every failure is an `InputError` whose message names the key and the remedy.
"""

import difflib
import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Metric = Literal["accuracy", "f1", "matthews", "macro_f1"]


class InputError(ValueError):
    """What a user gave cannot be used: one line that names the file, key or row, and the remedy."""


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """`[model]`: the pre-trained encoder.

    Attributes:
        source: `bundled:minilm`, `hub:owner/name`, or a local directory in the Hugging Face layout.
        revision: branch, tag or commit of a hub model.
        layers: keep only the first this many encoder layers; all of them by default.
    """

    source: str
    revision: str = "main"
    layers: int | None = None


@dataclass(frozen=True, config=STRICT)
class TaskConfig:
    """`[task]`: the texts and labels.

    Attributes:
        source: `bundled:bbc-news`, `hub:owner/name[/subset]`, or a local file or directory
            (CSV, TSV, JSON lines, Parquet, or what `datasets` wrote with `save_to_disk`).
        text: one or two text columns; known for GLUE and bundled tasks.
        label: the label column, strings or integers.
        metric: the score of the task; known for GLUE tasks, otherwise accuracy.
        max_length: longest tokenised example, in tokens; longer ones are cut.
        train_examples: train on a random subset of this many examples.
        subset_seed: which subset.
        split_seed: how validation examples are halved when there is no test split.
    """

    source: str
    text: tuple[str, ...] | None = None
    label: str = "label"
    metric: Metric | None = None
    max_length: int = 128
    train_examples: int | None = None
    subset_seed: int = 0
    split_seed: int = 0


@dataclass(frozen=True, config=STRICT)
class SeedTriple:
    """The three sources of randomness of one run of training, and the number it goes by.

    Attributes:
        seed: the number shown in tables and files; unique in a run.
        init: seeds the values of newly initialised parameters.
        order: seeds the order of training examples.
        dropout: seeds the dropout masks.
    """

    seed: int
    init: int
    order: int
    dropout: int


@dataclass(frozen=True, config=STRICT)
class SeedsConfig:
    """`[seeds]`: which seeds to train.

    Attributes:
        count: train seeds 0 ... count - 1.
        list: train these seeds instead.
        init: initialisation seeds, where they are to differ from order and dropout.
        order: example-order seeds, likewise.
        dropout: dropout seeds, likewise.
        crossed: every combination of `init`, `order` and `dropout` instead of element by element.
        group_size: seeds per device in one program; part of a run's identity, chosen at the start when not given.
    """

    count: int | None = None
    list: tuple[int, ...] | None = None
    init: tuple[int, ...] | None = None
    order: tuple[int, ...] | None = None
    dropout: tuple[int, ...] | None = None
    crossed: bool = False
    group_size: int | None = None

    def resolve(self) -> tuple[SeedTriple, ...]:
        """Returns one triple per seed; `seed` counts from 0 when init, order and dropout are given apart."""
        apart = [self.init, self.order, self.dropout]
        if all(values is None for values in apart):
            seeds = self.list if self.list is not None else tuple(range(10 if self.count is None else self.count))
            return tuple(SeedTriple(s, s, s, s) for s in seeds)
        lists = [values if values is not None else (0,) for values in apart]
        if self.crossed:
            combined: Iterator[tuple[int, ...]] = itertools.product(*lists)
        else:
            longest = max(len(values) for values in lists)
            combined = zip(*(values * longest if len(values) == 1 else values for values in lists), strict=True)
        return tuple(SeedTriple(i, *triple) for i, triple in enumerate(combined))


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """`[train]`: the recipe; defaults are those of Du & Nguyen (2023).

    Attributes:
        epochs: passes over the training examples.
        batch_size: examples per step.
        learning_rate: its peak, after warm-up.
        warmup: share of all steps in which the learning rate rises linearly; then it falls linearly to 0.
        weight_decay: decoupled (AdamW); not on biases and LayerNorm.
        clip_norm: largest global norm of a seed's gradient.
        beta1: decay of AdamW's first moment.
        beta2: decay of AdamW's second moment.
        epsilon: AdamW's epsilon.
        dropout: replaces the dropout rates of the model's own config.
        precision: of the forward and backward pass; parameters are always float32. `tensorfloat32` means float32 with
            matrix products in TF32 where the device has it.
        moments: how AdamW's moments are stored; `bfloat16`, rounded stochastically, halves their memory.
        remat: recompute a layer's activations in the backward pass: less memory, more time; chosen when not given.
    """

    epochs: int = 5
    batch_size: int = 16
    learning_rate: float = 2e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    dropout: float | None = None
    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    moments: Literal["float32", "bfloat16"] = "float32"
    remat: bool | None = None


@dataclass(frozen=True, config=STRICT)
class MitigationConfig:
    """`[mitigation]`: how training departs from the standard recipe.

    Attributes:
        method: `standard` is the plain recipe.
    """

    method: Literal["standard"] = "standard"


@dataclass(frozen=True, config=STRICT)
class OutputConfig:
    """`[output]`: where results go.

    Attributes:
        dir: the run directory; `runs/NAME` by default.
        keep_representations: also write `representations.npy` [S, L, N, D], the first token's hidden states.
    """

    dir: str | None = None
    keep_representations: bool = False


@dataclass(frozen=True, config=STRICT)
class Config:
    """One experiment: a model, a task, the seeds and the recipe.

    Attributes:
        model: `[model]`.
        task: `[task]`.
        name: what the run is called; the name of the config file by default.
        seeds: `[seeds]`.
        train: `[train]`.
        mitigation: `[mitigation]`.
        output: `[output]`.
    """

    model: ModelConfig
    task: TaskConfig
    name: str = "run"
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    mitigation: MitigationConfig = field(default_factory=MitigationConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    @property
    def directory(self) -> Path:
        """The run directory."""
        return Path(self.output.dir or f"runs/{self.name}")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a TOML file, applies overrides and checks everything.

    Args:
        path: the TOML file.
        overrides: `["--train.epochs", "3", "--seeds.list=[1,2]"]`; values are TOML, or else plain strings.

    Raises:
        InputError: a missing or malformed file, an unknown key, a wrong type or an impossible value.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"{path}: cannot read the config ({reason}); give the path of a TOML file") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    values = {"name": Path(path).stem, **values}
    return make_config(_merge(values, parse_overrides(overrides)), where=str(path))


def make_config(values: Mapping[str, Any], where: str = "config") -> Config:
    """Checks nested plain values, as TOML gives them, and returns the config.

    Raises:
        InputError: naming `where` and the key.
    """
    try:
        # As JSON, because pydantic's strict mode then takes tables for dataclasses and lists for tuples.
        config = TypeAdapter(Config).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise InputError(f"{where}: {_explain(error)}") from None
    check(config, where)
    return config


def dump_config(config: Config) -> str:
    """Returns the config as TOML that `load_config` reads back to an equal config; unset keys are left out."""
    return tomli_w.dumps(_without_none(TypeAdapter(Config).dump_python(config, mode="json")))


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Turns `--a.b value` and `--a.b=value` into nested values.

    Raises:
        InputError: an argument without `--`, or without a value.
    """
    values: dict[str, Any] = {}
    remaining = list(arguments)
    while remaining:
        name, equals, value = remaining.pop(0).partition("=")
        if not name.startswith("--") or len(name) == 2:
            raise InputError(f"{name}: expected an override such as --train.epochs 3")
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise InputError(f"{name}: has no value; write {name} VALUE")
            value = remaining.pop(0)
        nested: Any = _toml_value(value)
        for part in reversed(name[2:].replace("-", "_").split(".")):
            nested = {part: nested}
        values = _merge(values, nested)
    return values


def check(config: Config, where: str = "config") -> None:
    """Checks what types cannot say.

    Raises:
        InputError: naming the key and the remedy.
    """
    train, task, seeds = config.train, config.task, config.seeds
    positive = {
        "train.epochs": train.epochs,
        "train.batch_size": train.batch_size,
        "train.learning_rate": train.learning_rate,
        "train.clip_norm": train.clip_norm,
        "train.epsilon": train.epsilon,
        "model.layers": config.model.layers,
        "task.train_examples": task.train_examples,
        "seeds.count": seeds.count,
        "seeds.group_size": seeds.group_size,
    }
    shares = {
        "train.warmup": train.warmup,
        "train.dropout": train.dropout,
        "train.beta1": train.beta1,
        "train.beta2": train.beta2,
    }
    for key, number in positive.items():
        if number is not None and not number > 0:
            raise InputError(f"{where}: {key} = {number}: must be greater than 0")
    for key, number in shares.items():
        if number is not None and not 0 <= number < 1:
            raise InputError(f"{where}: {key} = {number}: must be at least 0 and less than 1")
    if train.weight_decay < 0:
        raise InputError(f"{where}: train.weight_decay = {train.weight_decay}: must not be negative")
    if task.max_length < 4:
        raise InputError(f"{where}: task.max_length = {task.max_length}: must be at least 4 tokens")
    if task.text is not None and len(task.text) not in (1, 2):
        raise InputError(f"{where}: task.text names {len(task.text)} columns; name one or two")
    _check_seeds(seeds, where)


def _check_seeds(seeds: SeedsConfig, where: str) -> None:
    apart = {"init": seeds.init, "order": seeds.order, "dropout": seeds.dropout}
    given = {name: values for name, values in apart.items() if values is not None}
    if seeds.count is not None and seeds.list is not None:
        raise InputError(f"{where}: seeds.count and seeds.list exclude each other; keep one")
    if given and (seeds.count is not None or seeds.list is not None):
        raise InputError(f"{where}: seeds.{next(iter(given))} replaces seeds.count and seeds.list; keep one of the two")
    if seeds.crossed and not given:
        raise InputError(f"{where}: seeds.crossed needs seeds.init, seeds.order or seeds.dropout")
    for name, values in {"list": seeds.list, **given}.items():
        if values is None:
            continue
        if not values:
            raise InputError(f"{where}: seeds.{name} is empty; name at least one seed")
        if min(values) < 0 or max(values) >= 2**31:
            raise InputError(f"{where}: seeds.{name}: a seed is an integer from 0 to 2147483647")
    if seeds.list is not None and len(set(seeds.list)) < len(seeds.list):
        raise InputError(f"{where}: seeds.list names a seed twice; each may stand once")
    lengths = {len(values) for values in given.values()} - {1}
    if len(lengths) > 1 and not seeds.crossed:
        raise InputError(f"{where}: seeds.{', seeds.'.join(given)} differ in length; or set seeds.crossed = true")


def _explain(error: ValidationError) -> str:
    """The first failure in one line, with the nearest known key where the key is unknown."""
    details = error.errors()[0]
    key = ".".join(str(part) for part in details["loc"])
    parent, _, last = key.rpartition(".")
    if details["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown key {key}{_suggest(parent, last)}"
    if details["type"] in ("missing", "missing_argument"):
        return f"{key} is missing; it has no default"
    given = details["input"]
    shown = f"{given!r}" if not isinstance(given, dict) else "a table"
    return f"{key or 'the config'} = {shown}: {details['msg'].removeprefix('Input ')}"


def _suggest(parent: str, name: str) -> str:
    section: Any = Config
    for part in filter(None, parent.split(".")):
        section = {f.name: f.type for f in fields(section)}[part]
    known = [f.name for f in fields(section)]
    everywhere = {f.name: s.name for s in fields(Config) if is_dataclass(s.type) for f in fields(s.type)}
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if nearest:
        return f"; did you mean {'.'.join(filter(None, [parent, nearest[0]]))}?"
    elsewhere = difflib.get_close_matches(name, everywhere, n=1, cutoff=0.8)
    if elsewhere:
        return f"; did you mean {everywhere[elsewhere[0]]}.{elsewhere[0]}?"
    return f"; known here: {', '.join(known)}"


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value
