"""`[mitigation]`: which methods, and how strong; made of what `jaxstab.config.methods` declares."""

from collections.abc import Mapping
from dataclasses import field, make_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic.dataclasses import dataclass

from jaxstab.config.methods import METHODS, STRICT

if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[("standard", *METHODS)]


def _frozen(name: str, fields: Mapping[str, tuple[Any, Any]]) -> Any:
    """A frozen dataclass of fields with a type and a default, which pydantic checks."""
    with_defaults = [(key, kind, field(default=default)) for key, (kind, default) in fields.items()]
    return dataclass(frozen=True, config=STRICT)(make_dataclass(name, with_defaults, frozen=True))


# The dataclass of `[mitigation.METHOD]`, for each method that has settings.
TABLES: dict[str, Any] = {
    name: _frozen(name, {key: (setting.kind, setting.default) for key, setting in declared.settings.items()})
    for name, declared in METHODS.items()
    if declared.settings
}
_Tables: Any = _frozen("_Tables", {name: (table | None, None) for name, table in TABLES.items()})


@dataclass(frozen=True, config=STRICT)
class MitigationConfig(_Tables):  # type: ignore[misc]  # its fields follow from METHODS
    """`[mitigation]`: how training departs from the standard recipe.

    It also has an attribute for each method with settings, `mixout` and so on: their values if the method is used.

    Attributes:
        method: one method; `standard` is the plain recipe.
        methods: several, combined, instead.
    """

    method: MethodName = "standard"
    methods: tuple[MethodName, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The methods that are used; none is the standard recipe."""
        given = (self.method,) if self.methods is None else self.methods
        return tuple(name for name in given if name != "standard")

    def settings(self, method: str) -> dict[str, Any]:
        """Returns the settings of a method by their names."""
        return {name: getattr(getattr(self, method), name) for name in METHODS[method].settings}


def resolve(mitigation: MitigationConfig) -> MitigationConfig:
    """Returns the same methods with every setting given."""
    used = [name for name in mitigation.names if name in TABLES]
    return replace(mitigation, **{name: getattr(mitigation, name) or TABLES[name]() for name in used})


def complaint(mitigation: MitigationConfig) -> str | None:
    """Returns what is wrong with a choice of methods, in one line, or None."""
    names = mitigation.names
    if mitigation.methods is not None and mitigation.method != "standard":
        return "mitigation.method and mitigation.methods exclude each other; keep one"
    if len(set(names)) < len(names):
        return "mitigation.methods names a method twice; each may stand once"
    for name in TABLES:
        if getattr(mitigation, name) is not None and name not in names:
            return f"mitigation.{name} is given, but {name} is not among the methods; add it to mitigation.methods"
    for name in names:
        for other in METHODS[name].excludes:
            if other in names:
                return f"mitigation.methods: {name} and {other} exclude each other; keep one"
    return None
