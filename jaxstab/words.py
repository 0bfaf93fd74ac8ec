"""Numbers and names in sentences."""

from collections.abc import Sequence


def count(noun: str, number: int) -> str:
    """Returns a number of things: `1 seed`, `3 seeds`, `2 classes`."""
    return f"{number} {plural(noun, number)}"


def plural(noun: str, number: int) -> str:
    """Returns the noun as it follows a number: `seed` after 1, `seeds` after any other."""
    return noun if number == 1 else f"{noun}{'es' if noun.endswith(('s', 'x', 'tch')) else 's'}"


def listing(names: Sequence[object], word: str = "and", most: int | None = None) -> str:
    """Returns names as a list in a sentence: `a`, `a and b`, `a, b and c`; of more than `most`, how many others."""
    shown = [str(name) for name in names]
    if most is not None and len(shown) > most:
        shown = [*shown[: most - 1], f"{len(shown) - most + 1} others"]
    return f" {word} ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))
