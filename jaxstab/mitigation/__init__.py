"""Mitigation methods: each a small record of what it changes, made by the function NAME in a file NAME.py.

`jaxstab.config.methods` declares them, and nothing else lists them. A function takes those settings that a grid cannot
vary; the others differ between seeds, and a method finds them in `Context.hyper`.
"""

from dataclasses import replace
from importlib import import_module

from jaxstab.config import METHODS, MitigationConfig, TrainConfig
from jaxstab.mitigation.method import Context as Context
from jaxstab.mitigation.method import Method as Method
from jaxstab.mitigation.method import Path as Path
from jaxstab.mitigation.method import ValueAndGrad as ValueAndGrad
from jaxstab.mitigation.method import map_named as map_named
from jaxstab.mitigation.method import number_of_layers as number_of_layers


def make_methods(mitigation: MitigationConfig) -> tuple[Method, ...]:
    """Returns the methods of a config, none for the standard recipe."""
    return tuple(_make(name, mitigation) for name in mitigation.names)


def mitigated(train: TrainConfig, methods: tuple[Method, ...]) -> TrainConfig:
    """Returns the recipe with what methods replace of it."""
    for method in methods:
        train = replace(train, **method.train)
    return train


def _make(name: str, mitigation: MitigationConfig) -> Method:
    make = getattr(import_module(f"jaxstab.mitigation.{name}"), name)
    settings, varying = mitigation.settings(name), METHODS[name].varying
    made: Method = make(**{key: value for key, value in settings.items() if key not in varying})
    return made
