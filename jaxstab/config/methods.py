"""Every mitigation method, declared once: its settings, what may vary in a grid, what it cannot be combined with.

A row of `METHODS` and a function of the same name in `jaxstab/mitigation/NAME.py` are all that a method is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Setting:
    """One key of `[mitigation.METHOD]`.

    Attributes:
        kind: its type, with its limits (`Annotated`).
        default: its value when not given.
        varies: whether a grid may vary it: it is then an argument of the compiled program, otherwise of the function.
    """

    kind: Any
    default: Any
    varies: bool


@dataclass(frozen=True)
class Declaration:
    """What must be known of a method before JAX is imported.

    Attributes:
        settings: the keys of `[mitigation.METHOD]`; without any there is no such table.
        excludes: methods that would have nothing left to act on beside this one.
    """

    settings: Mapping[str, Setting] = field(default_factory=dict)
    excludes: tuple[str, ...] = ()

    @property
    def varying(self) -> tuple[str, ...]:
        """Names of the settings that a grid may vary."""
        return tuple(name for name, setting in self.settings.items() if setting.varies)


def number(kind: Any, default: float | None, *, varies: bool = True, **limits: Any) -> Setting:
    """Returns a setting that is a number of a kind, within limits that pydantic knows: ge, gt, le, lt."""
    return Setting(Annotated[kind, Field(**limits)], default, varies)


def _names(given: Any) -> Any:
    """A tuple of names, also from one name; JSON's lists are no longer taken for tuples after a validator."""
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


NAMES = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_names)]

METHODS: dict[str, Declaration] = {
    "mixout": Declaration({"p": number(float, 0.1, ge=0.004, le=0.99)}),
    "llrd": Declaration({"rate": number(float, 0.95, gt=0, le=1)}),
    "reinit": Declaration({"layers": number(int, 5, ge=0)}),
    "wd_pre": Declaration(),
    "freeze": Declaration({"layers": number(int | None, None, ge=0, varies=False)}),
    "bitfit": Declaration(excludes=("freeze", "mixout", "noisy_tune", "reinit")),
    "lora": Declaration(
        {
            "rank": number(int, 8, ge=1, varies=False),
            "alpha": number(float, 16.0, gt=0),
            "targets": Setting(NAMES, ("query", "value"), varies=False),
            "dropout": number(float, 0.0, ge=0, lt=1, varies=False),
            "rank_stabilised": Setting(bool, default=False, varies=False),
        },
        excludes=("bitfit", "freeze", "mixout", "noisy_tune", "reinit", "wd_pre"),
    ),
    "ema": Declaration({"decay": number(float, 0.99, ge=0, lt=1)}),
    "r_drop": Declaration({"alpha": number(float, 1.0, ge=0)}),
    "noisy_tune": Declaration({"strength": number(float, 0.15, ge=0)}),
    "sam": Declaration({"rho": number(float, 0.05, ge=0)}),
    "no_bias_correction": Declaration(),
    "longer": Declaration({"epochs": number(int, 20, ge=1, varies=False)}),
}
