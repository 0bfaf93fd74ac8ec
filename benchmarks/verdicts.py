"""How often the verdicts of `jaxstab compare` are wrong, and how often they find a difference that is there.

    python benchmarks/verdicts.py --docs docs/conclusions.md

Methods whose seeds come from one population do not differ. Eight of them are compared with a ninth, and the rate of any
false claim is counted for the first 2, 4 and 8, for each of the three families: the mean score, the measures (SD,
disagreement, kappa, Jensen-Shannon divergence) and the failed seeds. With `one real effect`, the first method differs,
and claims on the others are false. Power is that of a single method, beside the tests of Welch and Brown & Forsythe.
`--docs` writes the tables into the page, between the markers.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from pages import replace_tables
from populations import POPULATIONS, Population, draw_logits
from scipy.special import softmax
from scipy.stats import fisher_exact, levene, ttest_ind

from jaxstab.analysis import permutation
from jaxstab.analysis.comparison import FAILED, Difference
from jaxstab.analysis.differences import adjust, p_values_of
from jaxstab.analysis.permutation import (
    Exchange,
    make_exchange,
    mean_differences,
    pseudo_values,
    sd_differences,
    sizes,
    spread_differences,
)
from jaxstab.analysis.permutation import value_differences as exchanged
from jaxstab.measures import MEAN, leave_one_out, mean_over_pairs
from jaxstab.measures.prediction import fleiss_kappa

Method = tuple[np.ndarray, np.ndarray]  # logits [S, N, 2] and scores [S]

METHODS = 8
TYPICAL = POPULATIONS["typical"]
NULLS = {**POPULATIONS, "one real effect": TYPICAL}
ALTERNATIVES = {
    "1.6 times the noise": replace(TYPICAL, own=0.8, together=0.64),
    "score 1 SD lower": TYPICAL,
    "30 % failed": replace(TYPICAL, failing=0.3),
}


def draw(rng: np.random.Generator, population: Population, seeds: int) -> Method:
    logits, labels = draw_logits(rng, 1, seeds, population)
    return logits[0], (logits[0].argmax(-1) == labels).mean(-1)


def distances(logits: np.ndarray) -> dict[str, np.ndarray]:
    """Disagreement and Jensen-Shannon divergence [S, S]."""
    p = softmax(logits.astype(np.float64), axis=-1)
    votes = logits.argmax(-1)

    def entropy(p: np.ndarray) -> np.ndarray:
        return -(p * np.log(np.maximum(p, 1e-300))).sum(-1)

    own = entropy(p)
    divergence = [(entropy((one + p) / 2) - (mine + own) / 2).mean(-1) for one, mine in zip(p, own, strict=True)]
    return {"disagreement": (votes[:, None] != votes).mean(-1), "jsd": np.maximum(divergence, 0)}


def mean_distance(matrix: np.ndarray, masks: np.ndarray) -> np.ndarray:
    count = masks.sum(1)
    return ((masks @ matrix) * masks).sum(1) / (count * (count - 1))


def compare(
    exchange: Exchange, first: Method, second: Method, method: str, contributions: bool = False
) -> list[Difference]:
    """The differences of a method from the baseline, with p-values adjusted within each family."""
    size, scores = exchange.size, np.concatenate([first[1], second[1]])
    logits = np.concatenate([first[0], second[0]])
    matrices, votes = distances(logits), logits.argmax(-1)
    found = {
        MEAN: mean_differences(exchange, scores[:size], scores[size:]),
        "sd": sd_differences(exchange, scores[:size], scores[size:]),
    }
    aligned = {"sd": sizes([spread_differences(exchange, scores[:size], scores[size:])])}
    if contributions:
        for name, matrix in matrices.items():
            parts = [matrix[:size, :size], matrix[size:, size:]]
            values = [pseudo_values(np.asarray(mean_over_pairs(one)), leave_one_out(one)) for one in parts]
            found[name] = mean_differences(exchange, *values)
    else:
        found |= {name: exchanged(exchange, partial(mean_distance, matrix)) for name, matrix in matrices.items()}
        found["kappa"] = exchanged(exchange, lambda masks: fleiss_kappa(votes, 2, masks))
    p, within = p_values_of({name: sizes([one]) for name, one in found.items()}, aligned)
    rows = [Difference("", method, name, None, None, None, None, p[name], within[name]) for name in found]
    # A seed that predicts one class throughout has failed.
    failed = [int((np.ptp(one.argmax(-1), axis=1) == 0).sum()) for one, _ in (first, second)]
    if any(failed):
        counts = [[count, len(one[0]) - count] for count, one in zip(failed, (first, second), strict=True)]
        value = float(fisher_exact(counts).pvalue)
        rows.append(Difference("", method, FAILED, None, None, None, None, value, value))
    return rows


def family(row: Difference) -> int:
    return 0 if row.measure == MEAN else 2 if row.measure == FAILED else 1


def false_claims(name: str, seeds: int, paired: bool, trials: int) -> np.ndarray:
    """Rates of any false claim [3 numbers of methods, 3 families]."""
    rng = np.random.default_rng(seeds)
    real = name == "one real effect"
    counts = np.zeros((3, 3))
    for trial in range(trials):
        exchange = make_exchange(seeds, seeds, paired, trial)
        baseline = draw(rng, NULLS[name], seeds)
        others = [draw(rng, NULLS[name], seeds) for _ in range(METHODS)]
        if real:
            others[0] = draw(rng, replace(TYPICAL, own=1.5, together=1.2), seeds)
        compared = [compare(exchange, baseline, one, str(place)) for place, one in enumerate(others)]
        for place, number in enumerate((2, 4, 8)):
            rows = adjust(compared[:number])
            for kind in range(3):
                counts[place, kind] += any(
                    row.clear for row in rows if family(row) == kind and not (real and row.method == "0")
                )
    return counts / trials


def power(name: str, seeds: int, paired: bool, trials: int) -> list[float]:
    """How often the mean score, any measure, and failures are found; and by Welch, Brown & Forsythe."""
    rng = np.random.default_rng(seeds)
    counts = np.zeros(5)
    for trial in range(trials):
        exchange = make_exchange(seeds, seeds, paired, trial)
        first, second = draw(rng, TYPICAL, seeds), draw(rng, ALTERNATIVES[name], seeds)
        if name.startswith("score"):
            second = second[0], second[1] - 0.0186  # the standard deviation of these scores
        rows = adjust([compare(exchange, first, second, "")])
        for kind in range(3):
            counts[kind] += any(row.clear for row in rows if family(row) == kind)
        counts[3] += ttest_ind(first[1], second[1], equal_var=False).pvalue <= 0.05
        counts[4] += levene(first[1], second[1], center="median").pvalue <= 0.05
    return list(counts / trials)


def contributions_alone(name: str, seeds: int, trials: int) -> float:
    """The rate of any false claim by measures where only contributions are known, for one method."""
    rng, claims = np.random.default_rng(seeds), 0
    for trial in range(trials):
        exchange = make_exchange(seeds, seeds, False, trial)
        first, second = (draw(rng, NULLS[name], seeds) for _ in range(2))
        rows = adjust([compare(exchange, first, second, "", contributions=True)])
        claims += any(row.clear for row in rows if family(row) == 1)
    return claims / trials


def cell(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def write_tables(arguments: argparse.Namespace) -> str:
    lines = [
        "| no difference | seeds | | mean score: 2, 4, 8 methods | measures: 2, 4, 8 | failed: 2, 4, 8 |",
        "|---|---|---|---|---|---|",
    ]
    for name in NULLS:
        for seeds in arguments.seeds:
            for paired in (False, *([True] if seeds >= 8 else [])):
                rates = false_claims(name, seeds, paired, arguments.trials)
                cells = " | ".join(" ".join(cell(one) for one in rates[:, kind]) for kind in range(3))
                lines.append(f"| {name} | {seeds} | {'paired' if paired else 'unpaired'} | {cells} |")
                print(lines[-1], flush=True)
    lines += [
        "",
        "| a difference | seeds | | mean score | any measure | failed | Welch | Brown & Forsythe |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ALTERNATIVES:
        for seeds in arguments.seeds:
            for paired in (False, *([True] if seeds >= 8 else [])):
                found = " | ".join(map(cell, power(name, seeds, paired, arguments.trials)))
                lines.append(f"| {name} | {seeds} | {'paired' if paired else 'unpaired'} | {found} |")
                print(lines[-1], flush=True)
    lines += ["", "| contributions alone | " + " | ".join(f"{seeds} seeds" for seeds in arguments.seeds) + " |"]
    lines.append("|---" * (1 + len(arguments.seeds)) + "|")
    for name in POPULATIONS:
        rates = " | ".join(cell(contributions_alone(name, seeds, arguments.trials)) for seeds in arguments.seeds)
        lines.append(f"| {name} | {rates} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[6, 10, 20])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--exchanges", type=int, default=1999, help="random exchanges where not all are tried")
    parser.add_argument("--docs", type=Path, default=None, help="page whose tables are replaced")
    arguments = parser.parse_args()
    permutation.RESAMPLES = arguments.exchanges
    text = write_tables(arguments)
    if arguments.docs:
        replace_tables(arguments.docs, "verdicts.py", text)


if __name__ == "__main__":
    main()
