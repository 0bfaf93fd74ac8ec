"""`[grid]`: several runs in one command; which of them share a compiled program, and the config of each."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxstab.config.loading import as_values, make_config, merge, nested
from jaxstab.config.methods import METHODS
from jaxstab.config.schema import Config
from jaxstab.errors import InputError

TRAIN_KEYS = ("learning_rate", "warmup", "weight_decay", "clip_norm")
# What a compiled program takes as a number, so that seeds with different values share it.
GRID_KEYS = (
    *(f"train.{name}" for name in TRAIN_KEYS),
    *(f"mitigation.{method}.{name}" for method, declared in METHODS.items() for name in declared.varying),
)

FIXED = ("name", "seeds", "output")  # what all runs of a grid have in common


def hyperparameters(config: Config) -> dict[str, float]:
    """Returns the numbers that training takes as arguments, by key: those of `[train]` and of the methods in use."""
    found = {f"train.{name}": getattr(config.train, name) for name in TRAIN_KEYS}
    for method in config.mitigation.names:
        settings = config.mitigation.settings(method)
        found |= {f"mitigation.{method}.{name}": settings[name] for name in METHODS[method].varying}
    return {key: float(value) for key, value in found.items()}


def expand_grid(config: Config, where: str = "config") -> list[Config]:
    """Returns a config without `[grid]` for each combination of its values, each with a directory of its own.

    Raises:
        InputError: a key that cannot vary, as seeds, which are the same in all runs; or a value that is impossible.
    """
    if not config.grid:
        return [config]
    varied = dict(_flat(config.grid))
    for key, values in varied.items():
        if key.partition(".")[0] in FIXED:
            raise InputError(f"{where}: grid.{key}: cannot vary; it is the same for all runs of a grid")
        if not isinstance(values, list | tuple) or not values:
            raise InputError(f"{where}: grid.{key} = {values!r}: give a list of values, such as [1e-5, 2e-5]")
        if len({repr(value) for value in values}) < len(values):
            raise InputError(f"{where}: grid.{key} names a value twice; each may stand once")
    base = as_values(replace(config, grid=None))
    configs = []
    for combination in itertools.product(*varied.values()):
        chosen = dict(zip(varied, combination, strict=True))
        label = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in chosen.items())
        values = merge(base, {"name": f"{config.name}/{label}", "output": {"dir": str(config.directory / label)}})
        for key, value in chosen.items():
            values = merge(values, nested(key, value))
        configs.append(make_config(values, f"{where}: grid"))
    return configs


def by_program(configs: Sequence[Config]) -> list[list[Config]]:
    """Groups configs that differ in nothing but numbers that a compiled program takes, so that they share it."""
    groups: dict[str, list[Config]] = {}
    for config in configs:
        kept = {key: value for key, value in _flat(as_values(config)) if key not in (*GRID_KEYS, "name", "output.dir")}
        groups.setdefault(json.dumps(kept, sort_keys=True), []).append(config)
    return list(groups.values())


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
