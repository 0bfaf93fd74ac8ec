"""Reading a config from TOML and overrides, and writing it; every failure names the key and the remedy."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import TypeAdapter, ValidationError

from jaxstab.config.checks import check
from jaxstab.config.keys import ALTERNATIVES, all_keys, is_table, suggest, takes
from jaxstab.config.mitigation import resolve
from jaxstab.config.schema import Config
from jaxstab.errors import InputError

QUICKSTART = Path(__file__).with_name("quickstart.toml")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a TOML file, applies overrides and checks everything.

    Args:
        path: the TOML file, or `bundled:quickstart`.
        overrides: `["--train.epochs", "3", "--seeds.list=1,2"]`; values are TOML, lists without brackets, or plain
            strings. Where one excludes a key of the file, as `seeds.list` excludes `seeds.count`, it replaces it.

    Raises:
        InputError: a missing or malformed file, an unknown key, a wrong type or an impossible value.
    """
    file = QUICKSTART if str(path) == "bundled:quickstart" else Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"{path}: cannot read the config ({reason}); give the path of a TOML file") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    given = parse_overrides(overrides)
    values = {"name": file.stem, **_without_rivals(values, given)}
    return make_config(merge(values, given), where=str(path))


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
    return replace(config, mitigation=resolve(config.mitigation))


def dump_config(config: Config) -> str:
    """Returns the config as TOML that `load_config` reads back to an equal config; unset keys are left out."""
    return tomli_w.dumps(as_values(config))


def as_values(config: Config) -> dict[str, Any]:
    """Returns the config as nested plain values, which `make_config` takes; unset keys are left out."""
    values: dict[str, Any] = TypeAdapter(Config).dump_python(config, mode="json", exclude_none=True)
    return values


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
        key = name[2:].replace("-", "_")
        values = merge(values, nested(key, _as_value(key, value)))
    return values


def nested(key: str, value: Any) -> dict[str, Any]:
    """Returns `{"a": {"b": value}}` for `a.b`."""
    first, dot, rest = key.partition(".")
    return {first: nested(rest, value) if dot else value}


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested values with some of them changed."""
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _without_rivals(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a file without the keys that those given on the command line replace."""
    gone = set()
    for groups in ALTERNATIVES:
        wanted = [group for group in groups if any(_has(given, key) for key in group)]
        gone |= {key for group in groups if wanted and group not in wanted for key in group}
    return {
        section: {key: value for key, value in table.items() if f"{section}.{key}" not in gone}
        if isinstance(table, dict)
        else table
        for section, table in values.items()
    }


def _has(values: Mapping[str, Any], key: str) -> bool:
    section, _, name = key.partition(".")
    return isinstance(values.get(section), dict) and name in values[section]


def _explain(error: ValidationError) -> str:
    """The first failure in one line, with the nearest known key where the key is unknown."""
    details = error.errors()[0]
    key = ".".join(str(part) for part in details["loc"])
    parent, _, last = key.rpartition(".")
    if details["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown key {key}{suggest(parent, last)}"
    if details["type"] in ("missing", "missing_argument"):
        return f"{key} is missing; it has no default"
    given = details["input"]
    shown = f"{given!r}" if not isinstance(given, dict) else "a table"
    if details["type"] == "dataclass_type" and is_table(key):
        inside = sorted((one for one in all_keys() if one.startswith(f"{key}.")), key=lambda one: one.count("."))[:3]
        return f"{key} = {shown}: is a table; set a key of it, such as {', '.join(inside)}"
    return f"{key or 'the config'} = {shown}: {details['msg'].removeprefix('Input ')}"


def _as_value(key: str, text: str) -> Any:
    """The value of an argument of the command line: TOML, a list without brackets, or text as it stands."""
    kinds = takes(key)
    try:
        value, bare = tomllib.loads(f"value = {text}")["value"], False
    except tomllib.TOMLDecodeError:
        value, bare = text, True
    if kinds == {str} and not isinstance(value, str):
        return text
    if tuple in kinds and bare and "," in text:
        return [_as_value("", part.strip()) for part in text.split(",") if part.strip()]
    return [value] if kinds == {tuple} and not isinstance(value, list) else value
