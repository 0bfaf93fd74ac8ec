"""Rotary positions: frequencies with their scalings, angles, and what a layer's attention knows of positions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxstab.errors import InputError
from jaxstab.models.reading import check_only

LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
NEEDED = {"default": (), "linear": ("factor",), "llama3": LLAMA3}


class Angles(NamedTuple):
    """Cosines and sines of rotary positions.

    Attributes:
        cos: [R, T, 1, d / 2] float32, for heads of d features.
        sin: [R, T, 1, d / 2] float32.
    """

    cos: Float[Array, "R T 1 h"]
    sin: Float[Array, "R T 1 h"]


class Sight(NamedTuple):
    """What a layer's attention knows of the tokens' positions.

    Attributes:
        angles: rotary angles of each token.
        window: the farthest distance in tokens that is attended to.
    """

    angles: Angles
    window: Int[Array, ""]


@dataclass(frozen=True)
class Rope:
    """How angles follow from positions.

    Attributes:
        theta: base of the frequencies.
        rope_type: `default`; `linear`, all frequencies divided by `factor`; or `llama3`, only the low ones divided.
        factor: what frequencies are divided by.
        low_freq_factor: wavelengths longer than the original context over it are divided by `factor`.
        high_freq_factor: those shorter than the original context over it stay; those between are interpolated.
        original_max_position_embeddings: the original context in tokens.
    """

    theta: float = 10_000.0
    rope_type: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192

    def frequencies(self, size: int) -> Float[np.ndarray, " h"]:
        """Returns theta ** (-2 i / d), scaled, [d / 2] float32 in radians per token.

        Args:
            size: d, number of features of a head.

        Source: Su et al. (2021), "RoFormer", eq. 15; Chen et al. (2023) for `linear`; Llama 3.1's released code.
        """
        frequencies = 1 / np.float32(self.theta) ** (np.arange(0, size, 2, dtype=np.float32) / np.float32(size))
        if self.rope_type == "default":
            return frequencies
        divided = frequencies / np.float32(self.factor)
        if self.rope_type == "linear":
            return divided
        turns = np.float32(self.original_max_position_embeddings) * frequencies / np.float32(2 * math.pi)
        low, high = np.float32(self.low_freq_factor), np.float32(self.high_freq_factor)
        kept = np.clip((turns - low) / (high - low), 0, 1)
        return (1 - kept) * divided + kept * frequencies

    def angles(self, positions: Int[Array, "R T"], size: int) -> Angles:
        """Returns position times frequency, for heads of `size` features."""
        angles = positions[:, :, None, None].astype(jnp.float32) * self.frequencies(size)
        return Angles(jnp.cos(angles), jnp.sin(angles))


def read_rope(values: Mapping[str, Any], theta: float, layer_type: str | None = None) -> Rope:
    """Reads rotary positions from config.json, in today's form (`rope_parameters`) or the older one (`rope_scaling`).

    Args:
        values: the contents of config.json.
        theta: where config.json has no `rope_theta` in `rope_parameters`.
        layer_type: the kind of layer, where `rope_parameters` has an entry for each.

    Raises:
        InputError: a scaling that is not supported, or incomplete.
    """
    given = values.get("rope_parameters") or {}
    given = (given.get(layer_type) or {}) if layer_type else given
    scaling = {**given, **(values.get("rope_scaling") or {})} if layer_type != "sliding_attention" else given
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in NEEDED:
        raise InputError(f"rope_type {kind!r} is not one of {', '.join(NEEDED)}; use another model")
    check_only("partial_rotary_factor", scaling.get("partial_rotary_factor") or 1.0, 1.0)
    lacking = [key for key in NEEDED[kind] if scaling.get(key) is None]
    if lacking:
        raise InputError(f"rope_type {kind!r} without {', '.join(lacking)}; copy the model's own config.json")
    return Rope(float(scaling.get("rope_theta") or theta), kind, **{key: scaling[key] for key in NEEDED[kind]})


def rotate(x: Float[Array, "R T H d"], angles: Angles) -> Float[Array, "R T H d"]:
    """Rotates each feature of the first half together with its partner in the second, in float32."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = angles
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
