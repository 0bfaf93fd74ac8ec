"""What all families share in reading config.json."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from jaxstab.errors import InputError
from jaxstab.models.operations import ACTIVATIONS


def read_fields(
    config: type, values: Mapping[str, Any], keys: Mapping[str, str], also: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Returns the values in config.json of a config dataclass's fields, by our names.

    Args:
        config: the dataclass. Its fields without default must be in config.json, all but `num_labels`.
        values: the contents of config.json; null means missing.
        keys: names in config.json, by our name, where they differ.
        also: fields that must be in config.json although they have a default.

    Raises:
        InputError: something is missing.
    """
    by_key = {field: keys.get(field.name, field.name) for field in fields(config) if field.name != "num_labels"}
    known = {field.name: values[key] for field, key in by_key.items() if values.get(key) is not None}
    missing = [
        key
        for field, key in by_key.items()
        if field.name not in known and (field.default is MISSING or field.name in also)
    ]
    if missing:
        raise InputError(f"incomplete, without {', '.join(missing)}; copy the config.json that belongs to the model")
    return known


def check_heads(
    hidden_size: int,
    num_attention_heads: int,
    keys: tuple[str, str] = ("hidden_size", "num_attention_heads"),
) -> None:
    """Raises InputError, with the keys' names, if the heads do not share the width evenly."""
    if hidden_size % num_attention_heads:
        raise InputError(
            f"{keys[0]} {hidden_size} is no multiple of {keys[1]} {num_attention_heads}; correct one of them"
        )


def check_choice(key: str, value: Any, choices: Any = tuple(ACTIVATIONS)) -> None:
    """Raises InputError if the value of a key, by default an activation, is not among the choices."""
    if value not in choices:
        raise InputError(f"{key} {value!r} is not one of {', '.join(map(str, choices))}; use another model")


def check_only(key: str, value: Any, supported: Any, remedy: str = "use another model") -> None:
    """Raises InputError if the value of a key is not the one that is supported."""
    if value != supported:
        raise InputError(f"{key} {value!r}: only {supported!r} is supported; {remedy}")
