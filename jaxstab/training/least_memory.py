"""The least memory that one seed needs, from shapes alone: known before weights are read or anything is compiled."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxstab.config import Config
from jaxstab.config.mitigation import TABLES, MitigationConfig
from jaxstab.mitigation import make_methods, map_named, mitigated
from jaxstab.models.build import ALL, Build
from jaxstab.models.families import make_classifier
from jaxstab.training.devices import choose_precision, platform
from jaxstab.training.recipe import adapters_of, dtype_in_memory, is_trained, number_frozen

SHORTEST = 16  # tokens; no shorter max_length is proposed


def least_memory(config: Config, encoder: Any, lengths: np.ndarray) -> int:
    """Returns the least bytes of a device for one seed, with activations recomputed layer by layer.

    It counts the pre-trained model; of what is trained the parameters, gradients and moments (on a CPU also the best
    parameters); and the hidden state after each layer of an average batch. What a compiled program needs is more.

    Args:
        config: of the run.
        encoder: the model's, with the vocabulary of the task.
        lengths: [N] tokens of each training example, before they are cut to `max_length`.
    """
    methods = make_methods(config.mitigation)
    train = mitigated(config.train, methods)
    precision = choose_precision(train.precision)
    frozen = number_frozen(methods)
    _, shapes = make_classifier(encoder, Build(adapters=adapters_of(methods), frozen_layers=frozen))
    dtype = dtype_in_memory(config.model.base_precision, precision, methods, encoder)
    moments = 2 * np.dtype(np.float16 if train.moments == "bfloat16" else np.float32).itemsize
    copies = 8 + moments + 4 * (platform() == "cpu") + 4 * any(method.average for method in methods)

    def size(path: tuple[str, ...], leaf: Any) -> int:
        in_file = "lora" not in path
        stored = np.dtype(dtype(path)).itemsize if in_file else 0
        return int(leaf.size) * (stored + copies * is_trained(methods, path, encoder))

    tokens = train.batch_size * float(np.minimum(lengths, config.task.max_length).mean())
    width = 2 if precision == "bfloat16" else 4
    hidden = (encoder.num_hidden_layers + 1) * tokens * encoder.hidden_size * width
    return sum(jax.tree.leaves(map_named(size, shapes))) + int(hidden)


def smaller(config: Config) -> Iterator[tuple[str, Config]]:
    """Yields changes of a config that take less memory, in words and as a config."""

    def narrow(config: Config) -> Config:
        return replace(config, model=replace(config.model, base_precision="bfloat16"))

    methods = make_methods(config.mitigation)
    if not any(method.trained for method in methods):
        tables: dict[str, Any] = {"lora": TABLES["lora"](targets=(ALL,))}
        with_adapters = replace(config, mitigation=MitigationConfig(method="lora", **tables))
        yield "mitigation.method lora", with_adapters
        yield "mitigation.method lora with model.base_precision bfloat16", narrow(with_adapters)
    elif config.model.base_precision == "float32" and not any(method.needs_pretrained for method in methods):
        yield "model.base_precision bfloat16", narrow(config)
    if config.train.moments == "float32":
        yield "train.moments bfloat16", replace(config, train=replace(config.train, moments="bfloat16"))
    length = config.task.max_length // 2
    while length >= SHORTEST:
        yield f"task.max_length {length}", replace(config, task=replace(config.task, max_length=length))
        length //= 2


def does_not_fit(config: Config, encoder: Any, lengths: np.ndarray, limit: int) -> str | None:
    """Returns in one line that a model does not fit into memory and what would, or None if it may fit.

    Args:
        config: of the run.
        encoder: the model's, with the vocabulary of the task.
        lengths: [N] tokens of each training example.
        limit: bytes that may be used on a device.
    """
    needed = least_memory(config, encoder, lengths)
    if needed <= limit:
        return None
    fitting: dict[str, str] = {}  # of each kind the first, which changes the least
    for words, changed in smaller(config):
        least = least_memory(changed, encoder, lengths)
        if least <= limit:
            fitting.setdefault(words.rpartition(" ")[0], f"{words} ({_gigabytes(least)})")
    advice = f"try {' or '.join(fitting.values())}" if fitting else "take a smaller model"
    return f"one seed needs at least {_gigabytes(needed)}, the device has {_gigabytes(limit)}: {advice}"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
