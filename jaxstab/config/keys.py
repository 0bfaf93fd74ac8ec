"""Every key of a config by its full name: its type, the values it may have, and what a mistyped one may have meant."""

import difflib
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jaxstab.config.schema import SOURCES, Config

# Groups of keys of which one replaces the others, where the command line gives one and the file another.
ALTERNATIVES = (
    (("seeds.count",), ("seeds.list",), (*(f"seeds.{name}" for name in SOURCES), "seeds.crossed")),
    (("mitigation.method",), ("mitigation.methods",)),
)


def all_keys() -> dict[str, Any]:
    """Returns every key with its type, `train.epochs: int`, in the order of the tables; `[grid]` is left out."""
    return dict(_below(Config, ""))


def is_table(key: str) -> bool:
    """Whether a key names a table, not a value."""
    return any(one.startswith(f"{key}.") for one in all_keys())


def choices(kind: Any) -> tuple[str, ...]:
    """Returns the values that a type names: of `bool | Literal["best"]`, true, false and best."""
    alternatives = list(_alternatives(kind))
    named = [str(value) for one in alternatives if get_origin(one) is Literal for value in get_args(one)]
    items = [name for one in alternatives if get_origin(one) is tuple for name in choices(get_args(one)[0])]
    return (*(("true", "false") if bool in alternatives else ()), *named, *items)


def takes(key: str) -> set[Any]:
    """Returns the types that a key takes, without their parameters and None; empty for an unknown key."""
    if key.startswith("grid."):
        return {tuple}
    return {get_origin(one) or one for one in _alternatives(all_keys().get(key))} - {type(None), None}


def suggest(parent: str, name: str) -> str:
    """Returns what an unknown key may have meant, or what there is, as the end of a sentence.

    Args:
        parent: the table, such as `train`; empty at the top.
        name: the key in it.
    """
    known = [*_children(parent), *([] if parent else ["grid"])]
    start, ends = f"{parent}." if parent else "", {key: key.rpartition(".")[2] for key in all_keys()}
    inside = [f"{start}{one}" for one in difflib.get_close_matches(name, known, n=1, cutoff=0.5)]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    close = difflib.get_close_matches(name, ends.values(), n=1, cutoff=0.8)
    guesses = (
        inside if near else [],
        [key for key, end in ends.items() if end == name],
        [f"{key} = {name}" for key, kind in all_keys().items() if name in choices(kind)][:1],
        [key for key, end in ends.items() if end in close],
        [key for key, end in ends.items() if name in end.split("_")],
        inside,
    )
    found = next((one for one in guesses if one), [])
    least = min((key.count(".") for key in found), default=0)  # train.epochs before mitigation.longer.epochs
    found = [key for key in found if key.count(".") == least]
    return f"; did you mean {' or '.join(found[:2])}?" if found else f"; known here: {', '.join(known)}"


def _below(section: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for one in fields(section):
        table = next((kind for kind in _alternatives(one.type) if is_dataclass(kind)), None)
        if table is not None:
            yield from _below(table, f"{prefix}{one.name}.")
        elif prefix or one.name != "grid":
            yield prefix + one.name, one.type


def _children(parent: str) -> list[str]:
    start = f"{parent}." if parent else ""
    return list(dict.fromkeys(key[len(start) :].partition(".")[0] for key in all_keys() if key.startswith(start)))


def _alternatives(kind: Any) -> Iterator[Any]:
    """The types of a union, without annotations."""
    if get_origin(kind) is Annotated:
        yield from _alternatives(get_args(kind)[0])
    elif get_origin(kind) in (Union, types.UnionType):
        for one in get_args(kind):
            yield from _alternatives(one)
    else:
        yield kind
