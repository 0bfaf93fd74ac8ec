"""Which learning rates suit a model: a rule of thumb, from what was published on fine-tuning it."""

from collections.abc import Collection
from typing import NamedTuple

FAR = 3  # times beyond the range that is worth a note
TOY = 128  # models of a smaller width are toys, of which nothing is known


class Suited(NamedTuple):
    """A range of peak learning rates of AdamW, with linear warm-up and decay, and where it comes from.

    Attributes:
        low: the lowest that was used.
        high: the highest.
        first: the one to try first.
        source: who used them.
    """

    low: float
    high: float
    first: float
    source: str


ADAPTERS = {
    "lora": Suited(1e-4, 5e-4, 2e-4, "Hu et al. (2022)"),
    "bitfit": Suited(1e-4, 1e-3, 4e-4, "Ben Zaken et al. (2022)"),
}
# By model_type and the least width; the last row that holds counts.
FULL: dict[str, list[tuple[int, Suited]]] = {
    "bert": [
        (0, Suited(3e-5, 3e-4, 1e-4, "Turc et al. (2019), small BERTs")),
        (768, Suited(2e-5, 5e-5, 3e-5, "Devlin et al. (2019)")),
        (1024, Suited(1e-5, 2e-5, 2e-5, "Mosbach et al. (2021)")),
    ],
    "roberta": [(768, Suited(1e-5, 3e-5, 2e-5, "Liu et al. (2019)"))],
    "electra": [
        (0, Suited(1e-4, 3e-4, 3e-4, "Clark et al. (2020)")),
        (768, Suited(5e-5, 1e-4, 1e-4, "Clark et al. (2020)")),
        (1024, Suited(2e-5, 5e-5, 5e-5, "Clark et al. (2020)")),
    ],
    "albert": [(0, Suited(1e-5, 5e-5, 2e-5, "Lan et al. (2020)"))],
    "deberta-v2": [
        (768, Suited(1.5e-5, 4e-5, 2e-5, "He et al. (2021)")),
        (1024, Suited(5e-6, 1e-5, 8e-6, "He et al. (2021)")),
    ],
    "modernbert": [(0, Suited(1e-5, 8e-5, 5e-5, "Warner et al. (2024)"))],
}
# Of other models, and of other widths: the larger, the lower.
BY_WIDTH = [
    (0, Suited(3e-5, 3e-4, 1e-4, "as of small BERTs")),
    (768, Suited(1e-5, 5e-5, 2e-5, "as of models of this size")),
    (1024, Suited(5e-6, 3e-5, 1e-5, "as of models of this size")),
    (2048, Suited(1e-6, 2e-5, 1e-5, "as of models of this size")),
]


def suited(model_type: str, width: int, methods: Collection[str] = ()) -> Suited | None:
    """Returns the learning rates that suit a model; None for toys.

    Args:
        model_type: as in config.json.
        width: `hidden_size`.
        methods: of `[mitigation]`; with adapters, only few parameters are trained, at higher rates.

    Examples:
        >>> suited("bert", 768).first, suited("bert", 768, ["lora"]).first
        (3e-05, 0.0002)
    """
    if width < TOY:
        return None
    for name, rates in ADAPTERS.items():
        if name in methods:
            return rates
    published = [rates for start, rates in FULL.get(model_type, ()) if start <= width]
    return (published or [rates for start, rates in BY_WIDTH if start <= width])[-1]


def say_rate(rate: float) -> str:
    """Returns a learning rate as people write it: `2e-5`, not `2e-05`."""
    return f"{rate:.1e}".replace(".0e", "e").replace("e-0", "e-") if rate < 0.01 else f"{rate:g}"


def caution(rate: float, model_type: str, width: int, methods: Collection[str] = ()) -> str | None:
    """Returns a sentence where a learning rate is far from those that suit a model, otherwise None."""
    rates = suited(model_type, width, methods)
    if rates is None or rates.low / FAR <= rate <= rates.high * FAR:
        return None
    where, risk = ("above", "seeds may fail") if rate > rates.high else ("below", "seeds may learn nothing")
    adapters = next((f"{name} on " for name in ADAPTERS if name in methods), "")
    return (
        f"train.learning_rate = {say_rate(rate)} is far {where} {say_rate(rates.low)} to {say_rate(rates.high)}, "
        f"which suit {adapters}this model by a rule of thumb ({rates.source}); {risk}"
    )
