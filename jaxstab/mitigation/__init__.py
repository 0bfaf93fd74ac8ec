"""Mitigation methods: each a small record of what it changes, in a file of its own, and the registry of all."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jaxstab.config import MitigationConfig, TrainConfig
from jaxstab.mitigation.bitfit import bitfit
from jaxstab.mitigation.ema import ema
from jaxstab.mitigation.freeze import freeze
from jaxstab.mitigation.llrd import llrd
from jaxstab.mitigation.longer import longer
from jaxstab.mitigation.lora import lora
from jaxstab.mitigation.method import Context as Context
from jaxstab.mitigation.method import Method as Method
from jaxstab.mitigation.method import ValueAndGrad as ValueAndGrad
from jaxstab.mitigation.method import map_named as map_named
from jaxstab.mitigation.method import number_of_layers as number_of_layers
from jaxstab.mitigation.mixout import mixout
from jaxstab.mitigation.no_bias_correction import no_bias_correction
from jaxstab.mitigation.noisy_tune import noisy_tune
from jaxstab.mitigation.r_drop import r_drop
from jaxstab.mitigation.reinit import reinit
from jaxstab.mitigation.sam import sam
from jaxstab.mitigation.wd_pre import wd_pre

METHODS: dict[str, Callable[[Any], Method]] = {
    "mixout": mixout,
    "llrd": llrd,
    "reinit": reinit,
    "wd_pre": wd_pre,
    "freeze": freeze,
    "bitfit": bitfit,
    "lora": lora,
    "ema": ema,
    "r_drop": r_drop,
    "noisy_tune": noisy_tune,
    "sam": sam,
    "no_bias_correction": no_bias_correction,
    "longer": longer,
}


def make_methods(mitigation: MitigationConfig) -> tuple[Method, ...]:
    """Returns the methods of a config, none for the standard recipe."""
    return tuple(METHODS[name](getattr(mitigation, name, None)) for name in mitigation.names)


def mitigated(train: TrainConfig, methods: tuple[Method, ...]) -> TrainConfig:
    """Returns the recipe with what methods replace of it."""
    for method in methods:
        train = replace(train, **method.train)
    return train
