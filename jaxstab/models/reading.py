"""What readers of config.json have in common."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from jaxstab.errors import InputError
from jaxstab.models.operations import ACTIVATIONS


def read_fields(config: type, values: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """Returns the values that config.json has for the fields of a config dataclass, by our names.

    Args:
        config: the dataclass; fields without default must be there, but for `num_labels`.
        values: of config.json; null is as good as missing.
        keys: in config.json, by our name, where they differ.

    Raises:
        InputError: something is missing.
    """
    by_key = {field: keys.get(field.name, field.name) for field in fields(config) if field.name != "num_labels"}
    known = {field.name: values[key] for field, key in by_key.items() if values.get(key) is not None}
    missing = [key for field, key in by_key.items() if field.default is MISSING and field.name not in known]
    if missing:
        raise InputError(f"incomplete, without {', '.join(missing)}; copy the config.json that belongs to the model")
    return known


def check_heads(hidden_size: int, num_attention_heads: int) -> None:
    """Raises InputError if the heads do not share the width evenly."""
    if hidden_size % num_attention_heads:
        raise InputError(
            f"hidden_size {hidden_size} is no multiple of num_attention_heads {num_attention_heads}; "
            "correct one of them"
        )


def check_choice(key: str, value: Any, choices: Any = tuple(ACTIVATIONS)) -> None:
    """Raises InputError if the value of a key, by default an activation, is not among the choices."""
    if value not in choices:
        raise InputError(f"{key} {value!r} is not one of {', '.join(map(str, choices))}; use another model")
