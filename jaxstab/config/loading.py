"""Reading a config from TOML and overrides, and writing it; every failure names the key and the remedy."""

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import tomli_w
from pydantic import TypeAdapter, ValidationError

from jaxstab.config.checks import check
from jaxstab.config.mitigation import resolve
from jaxstab.config.schema import Config
from jaxstab.errors import InputError

QUICKSTART = Path(__file__).with_name("quickstart.toml")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a TOML file, applies overrides and checks everything.

    Args:
        path: the TOML file, or `bundled:quickstart`.
        overrides: `["--train.epochs", "3", "--seeds.list=[1,2]"]`; values are TOML, or else plain strings.

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
    values = {"name": file.stem, **values}
    return make_config(merge(values, parse_overrides(overrides)), where=str(path))


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
        values = merge(values, nested(name[2:].replace("-", "_"), _toml_value(value)))
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
        section = next((kind for kind in get_args(section) if is_dataclass(kind)), section)  # of `Kind | None`
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
