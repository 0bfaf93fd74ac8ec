"""`[mitigation]`: which methods, and how strong. What each does is in `jaxstab.mitigation`."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

MethodName = Literal[
    "standard",
    "mixout",
    "llrd",
    "reinit",
    "wd_pre",
    "freeze",
    "bitfit",
    "lora",
    "ema",
    "r_drop",
    "noisy_tune",
    "sam",
    "no_bias_correction",
    "longer",
]


@dataclass(frozen=True, config=STRICT)
class Mixout:
    """`[mitigation.mixout]`.

    Attributes:
        p: probability of a weight's being replaced by its pre-trained value; rounded to a multiple of 1/256.
    """

    p: Annotated[float, Field(ge=0.004, le=0.99)] = 0.1


@dataclass(frozen=True, config=STRICT)
class Llrd:
    """`[mitigation.llrd]`.

    Attributes:
        rate: factor on the learning rate from each layer to the one below.
    """

    rate: Annotated[float, Field(gt=0, le=1)] = 0.95


@dataclass(frozen=True, config=STRICT)
class Reinit:
    """`[mitigation.reinit]`.

    Attributes:
        layers: how many of the top encoder layers start anew; the pooler always does.
    """

    layers: Annotated[int, Field(ge=0)] = 5


@dataclass(frozen=True, config=STRICT)
class Freeze:
    """`[mitigation.freeze]`.

    Attributes:
        layers: how many of the bottom encoder layers stay as they are, with the embeddings; all of the encoder when not
            given, so that only the head is trained.
    """

    layers: Annotated[int, Field(ge=0)] | None = None


@dataclass(frozen=True, config=STRICT)
class Lora:
    """`[mitigation.lora]`.

    Attributes:
        rank: of each adapter.
        alpha: adapters are scaled by alpha / rank.
        targets: linear layers of each encoder layer that get one.
    """

    rank: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[float, Field(gt=0)] = 16.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("query", "value")


@dataclass(frozen=True, config=STRICT)
class Ema:
    """`[mitigation.ema]`.

    Attributes:
        decay: share of the average that each step keeps.
    """

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99


@dataclass(frozen=True, config=STRICT)
class RDrop:
    """`[mitigation.r_drop]`.

    Attributes:
        alpha: weight of the divergence between two passes.
    """

    alpha: Annotated[float, Field(ge=0)] = 1.0


@dataclass(frozen=True, config=STRICT)
class NoisyTune:
    """`[mitigation.noisy_tune]`.

    Attributes:
        strength: width of the uniform noise, in standard deviations of the matrix it is added to.
    """

    strength: Annotated[float, Field(ge=0)] = 0.15


@dataclass(frozen=True, config=STRICT)
class Sam:
    """`[mitigation.sam]`.

    Attributes:
        rho: length of the step to where the gradient is taken.
    """

    rho: Annotated[float, Field(ge=0)] = 0.05


@dataclass(frozen=True, config=STRICT)
class Longer:
    """`[mitigation.longer]`.

    Attributes:
        epochs: instead of those of `[train]`.
    """

    epochs: Annotated[int, Field(ge=1)] = 20


@dataclass(frozen=True, config=STRICT)
class MitigationConfig:
    """`[mitigation]`: how training departs from the standard recipe.

    Attributes:
        method: one method; `standard` is the plain recipe.
        methods: several, combined, instead.
        mixout: its strength; likewise the others. Only for methods that are used.
    """

    method: MethodName = "standard"
    methods: tuple[MethodName, ...] | None = None
    mixout: Mixout | None = None
    llrd: Llrd | None = None
    reinit: Reinit | None = None
    freeze: Freeze | None = None
    lora: Lora | None = None
    ema: Ema | None = None
    r_drop: RDrop | None = None
    noisy_tune: NoisyTune | None = None
    sam: Sam | None = None
    longer: Longer | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The methods that are used; none is the standard recipe."""
        given = (self.method,) if self.methods is None else self.methods
        return tuple(name for name in given if name != "standard")


SETTINGS: dict[str, Any] = {
    "mixout": Mixout,
    "llrd": Llrd,
    "reinit": Reinit,
    "freeze": Freeze,
    "lora": Lora,
    "ema": Ema,
    "r_drop": RDrop,
    "noisy_tune": NoisyTune,
    "sam": Sam,
    "longer": Longer,
}

# Methods that leave nothing for the others to act on.
EXCLUDED = {
    "lora": ("bitfit", "freeze", "mixout", "noisy_tune", "reinit", "wd_pre"),
    "bitfit": ("freeze", "mixout", "noisy_tune", "reinit"),
}


def resolve(mitigation: MitigationConfig) -> MitigationConfig:
    """Returns the same methods with every strength given."""
    defaults = {name: SETTINGS[name]() for name in mitigation.names if name in SETTINGS}
    return replace(mitigation, **{name: getattr(mitigation, name) or default for name, default in defaults.items()})


def complaint(mitigation: MitigationConfig) -> str | None:
    """Returns what is wrong with a choice of methods, in one line, or None."""
    names = mitigation.names
    if mitigation.methods is not None and mitigation.method != "standard":
        return "mitigation.method and mitigation.methods exclude each other; keep one"
    if len(set(names)) < len(names):
        return "mitigation.methods names a method twice; each may stand once"
    for name in SETTINGS:
        if getattr(mitigation, name) is not None and name not in names:
            return f"mitigation.{name} is given, but {name} is not among the methods; add it to mitigation.methods"
    for name, others in EXCLUDED.items():
        for other in others:
            if name in names and other in names:
                return f"mitigation.methods: {name} and {other} exclude each other; keep one"
    return None
