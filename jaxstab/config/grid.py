"""`[grid]`: several runs in one compiled program; which keys may vary, and the config of each run."""

import itertools
from collections.abc import Iterator, Mapping
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
        InputError: a key that cannot vary, or a value that is impossible.
    """
    if not config.grid:
        return [config]
    varied = dict(_flat(config.grid))
    for key, values in varied.items():
        if key not in GRID_KEYS:
            raise InputError(
                f"{where}: grid.{key}: cannot vary in one program; make one config for each, or vary one of "
                f"{', '.join(GRID_KEYS)}"
            )
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


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
